//! The Grafana dashboard of deploy/, so that a test can put each of its queries to a real Prometheus.

use serde_json::Value;

const DASHBOARD: &str = include_str!("../../deploy/grafana/tcpwarden.json");

/// A query of a panel, as Grafana would send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The title of the panel.
    pub panel: String,
    /// PromQL, without variables.
    pub expr: String,
}

/// Every query of the dashboard, of all servers, virtual addresses and peers, with rates over `rate_interval` (Prometheus' spelling: `20s`).
#[must_use]
pub fn queries(rate_interval: &str) -> Vec<Query> {
    queries_with(&[("instance", ".*"), ("vip", ".+"), ("peer", ".+"), ("__rate_interval", rate_interval)])
}

/// Every query of the dashboard with these variables, by their names without the dollar sign; panics when a query has others.
#[must_use]
pub fn queries_with(variables: &[(&str, &str)]) -> Vec<Query> {
    let dashboard = dashboard();
    let panels = panels(&dashboard).filter(|panel| panel["type"] != "row");
    panels
        .flat_map(|panel| {
            let title = text(&panel["title"]);
            list(&panel["targets"]).iter().map(move |target| Query {
                panel: title.to_owned(),
                expr: substituted(text(&target["expr"]), variables),
            })
        })
        .collect()
}

/// A query with its variables replaced, whether written `$name` or `${name}`.
fn substituted(expr: &str, variables: &[(&str, &str)]) -> String {
    let mut result = String::new();
    let mut rest = expr;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        let braced = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let (name, remainder) = braced.unwrap_or_else(|| {
            let end = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
            after.split_at(end)
        });
        let value = variables.iter().find(|(variable, _)| *variable == name);
        result.push_str(value.unwrap_or_else(|| panic!("{expr}: what is ${name}?")).1);
        rest = remainder;
    }
    result + rest
}

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).expect("the dashboard is JSON")
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(&dashboard["panels"]).iter()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::*;

    /// Columns of Grafana's grid.
    const COLUMNS: u64 = 24;

    /// The panels that show something.
    fn charts(dashboard: &Value) -> impl Iterator<Item = &Value> {
        panels(dashboard).filter(|panel| panel["type"] != "row")
    }

    #[test]
    fn ids_are_unique() {
        let dashboard = dashboard();
        assert_eq!(dashboard["uid"], "tcpwarden");
        let mut ids = HashSet::new();
        for panel in panels(&dashboard) {
            let id = panel["id"].as_u64().expect("a number");
            assert!(ids.insert(id), "{}: id {id} is taken", panel["title"]);
            // A row that is closed holds its panels itself, where the other checks would not see them.
            assert!(
                panel["type"] != "row" || list(&panel["panels"]).is_empty(),
                "{} is closed",
                panel["title"]
            );
        }
        assert!(ids.len() > 1);
        for panel in charts(&dashboard) {
            let mut targets = HashSet::new();
            for target in list(&panel["targets"]) {
                assert!(targets.insert(text(&target["refId"])), "{}: refId is taken", panel["title"]);
            }
        }
    }

    #[test]
    fn panels_do_not_overlap() {
        let dashboard = dashboard();
        let mut taken = HashSet::new();
        for panel in panels(&dashboard) {
            let [x, y, w, h] =
                ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a number"));
            assert!(w > 0 && h > 0 && x + w <= COLUMNS, "{} does not fit", panel["title"]);
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{} overlaps another panel at {cell:?}", panel["title"]);
            }
        }
    }

    #[test]
    fn the_data_source_is_for_the_user_to_choose() {
        fn sources<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
            match value {
                Value::Array(values) => values.iter().for_each(|value| sources(value, found)),
                Value::Object(map) => {
                    found.extend(map.get("datasource"));
                    map.values().for_each(|value| sources(value, found));
                }
                _ => {}
            }
        }
        let dashboard = dashboard();
        let mut found = Vec::new();
        sources(&dashboard, &mut found);
        for source in found {
            assert_eq!(*source, serde_json::json!({"type": "prometheus", "uid": "${datasource}"}));
        }
        for panel in charts(&dashboard) {
            assert!(panel["datasource"].is_object(), "{}", panel["title"]);
            assert!(list(&panel["targets"]).iter().all(|target| target["datasource"].is_object()));
        }
        let variables = list(&dashboard["templating"]["list"]);
        let names: BTreeSet<&str> = variables.iter().map(|variable| text(&variable["name"])).collect();
        assert_eq!(names, BTreeSet::from(["datasource", "instance", "peer", "vip"]));
    }

    #[test]
    fn every_panel_asks_something_explains_itself_and_has_a_unit() {
        for panel in charts(&dashboard()) {
            let title = text(&panel["title"]);
            assert!(text(&panel["description"]).len() > 20, "{title} does not say what it shows");
            assert!(!text(&panel["fieldConfig"]["defaults"]["unit"]).is_empty(), "{title} has no unit");
            assert!(!list(&panel["targets"]).is_empty(), "{title} asks nothing");
            for target in list(&panel["targets"]) {
                assert!(
                    text(&target["expr"]).contains("$instance"),
                    "{title} shows servers that were not chosen"
                );
            }
        }
    }

    /// Grafana repeats a row, with the panels up to the next one, for each value of a variable: these panels must ask for that value.
    #[test]
    fn each_virtual_address_has_a_row_about_it_alone() {
        let dashboard = dashboard();
        let mut repeated = Vec::new();
        let mut is_repeated = false;
        for panel in panels(&dashboard) {
            if panel["type"] == "row" {
                is_repeated = panel["repeat"] == "vip";
                continue;
            }
            for target in list(&panel["targets"]) {
                let (title, expr) = (text(&panel["title"]), text(&target["expr"]));
                let selectors = expr.matches('{').count();
                let about_it = expr.matches("vip=~\"$vip\"").count();
                assert_eq!(about_it, if is_repeated { selectors } else { 0 }, "{title}: {expr}");
                repeated.extend(is_repeated.then_some(title));
            }
        }
        assert!(repeated.contains(&"Ports taken, and by whom"), "{repeated:?}");
    }

    #[test]
    fn queries_come_without_variables() {
        let queries = queries("20s");
        assert!(queries.len() >= charts(&dashboard()).count());
        assert!(queries.iter().all(|query| !query.expr.contains('$')));
        let refused = queries.iter().find(|query| query.panel == "Refused reuses").expect("it is there");
        assert_eq!(
            refused.expr,
            "rate(tcpwarden_peer_time_wait_syns_total{instance=~\".*\", peer=~\".+\", direction=\"inbound\", \
             outcome=\"refused\"}[20s])"
        );
    }

    #[test]
    fn a_variable_is_replaced_in_both_spellings() {
        assert_eq!(
            substituted("a{b=~\"$b\"}[${c}] $b_2", &[("b", "x"), ("c", "1m"), ("b_2", "y")]),
            "a{b=~\"x\"}[1m] y"
        );
    }

    #[test]
    #[should_panic(expected = "what is $nobody?")]
    fn a_variable_that_is_not_given_is_an_error() {
        let _ = substituted("a{b=~\"$nobody\"}", &[("b", "x")]);
    }
}
