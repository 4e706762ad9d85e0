"""Holds rendered manifests against the schemas of the Kubernetes API and of the Prometheus operator. An unknown field is an error.

    validate.py KUBERNETES_VERSION FILE...
"""

import sys

import cloudcoil.models.prometheus_operator.v1 as operator
import kubernetes_validate
import yaml

OPERATOR = {"PodMonitor": operator.PodMonitor, "PrometheusRule": operator.PrometheusRule}


def validate(resource, version):
    if resource["apiVersion"] == "monitoring.coreos.com/v1":
        model = OPERATOR[resource["kind"]].model_validate(resource)
        # The models take no notice of fields they do not know: what they did not understand does not come out again.
        understood = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
        if understood != resource:
            raise ValueError(f"only this of {resource} is understood: {understood}")
    else:
        kubernetes_validate.validate(resource, version, strict=True)


version, *files = sys.argv[1:]
for file in files:
    with open(file) as text:
        resources = [resource for resource in yaml.safe_load_all(text) if resource]
    for resource in resources:
        try:
            validate(resource, version)
        except Exception as error:
            # A schema prints itself behind its first line.
            sys.exit(f"{file}: {resource['kind']} {resource['metadata']['name']}: {str(error).splitlines()[0]}")
    print(f"{file}: {len(resources)} resources are valid in Kubernetes {version}")
