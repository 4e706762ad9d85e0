{{- /* What selects the pods; must never change for a release. */ -}}
{{- define "tcpwarden.selector" -}}
app.kubernetes.io/name: tcpwarden
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tcpwarden.labels" -}}
{{ include "tcpwarden.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}
