//! What `tcpwarden report` makes of a play.

use serde_json::Value;

use crate::{agent::Agent, story::Story};

/// The causes that a report says the evidence supports, the most telling first.
#[must_use]
pub fn supported(report: &Value) -> Vec<String> {
    let hypotheses = report["hypotheses"].as_array().expect("hypotheses");
    let supported = hypotheses.iter().filter(|hypothesis| hypothesis["verdict"] == "supported");
    supported.map(|hypothesis| hypothesis["name"].as_str().expect("a name").to_owned()).collect()
}

/// Complains unless the report comes to name exactly these causes, and speaks against every other with figures.
pub fn names(story: &mut Story, agent: &Agent<'_>, causes: &[&str]) {
    let causes: Vec<String> = causes.iter().map(|&cause| cause.to_owned()).collect();
    story.same("the causes that the report names", &causes, || supported(&agent.report(&[])));
    let report = agent.report(&[]);
    let rejected = report["hypotheses"].as_array().expect("hypotheses").iter();
    let rejected = rejected.filter(|hypothesis| hypothesis["verdict"] == "rejected");
    let empty: Vec<&Value> =
        rejected.filter(|hypothesis| hypothesis["opposing"] == Value::Array(Vec::new())).collect();
    story.holds(empty.is_empty(), format_args!("rejected without a figure: {empty:?}"));
}
