//! The alerts that are raised: those of one kind together, since they mean the same and want the same done.

use std::{cmp::Reverse, collections::BTreeMap};

use maud::{Markup, html};

use super::link_to;
use crate::{
    alert::{Alert, Subject, advice, summary},
    config::AlertName,
    serve::View,
    visible::visible,
};

/// As many of one kind are told in full.
const TOLD: usize = 20;

/// All alerts of a view, or those about one subject; the worst kind first.
pub(super) fn alerts(view: &View, only: Option<&Subject>) -> Markup {
    let mut by_name: BTreeMap<AlertName, Vec<&Alert>> = BTreeMap::new();
    for alert in view.alerts.raised.iter().filter(|alert| only.is_none_or(|only| alert.subject == *only)) {
        by_name.entry(alert.name).or_default().push(alert);
    }
    let mut kinds: Vec<_> = by_name.into_iter().collect();
    for (_, raised) in &mut kinds {
        raised.sort_by_key(|alert| (Reverse(alert.severity), alert.since));
    }
    kinds.sort_by_key(|(_, raised)| raised.first().map(|worst| (Reverse(worst.severity), worst.since)));
    html! {
        @if kinds.is_empty() { p.calm { "No alert is raised." } }
        @for (name, raised) in kinds { (kind(name, &raised, only.is_none())) }
    }
}

fn kind(name: AlertName, raised: &[&Alert], with_links: bool) -> Markup {
    let severity = raised.first().map(|worst| worst.severity.name());
    html! {
        section.alert.(severity.unwrap_or_default()) {
            h3 { (summary(name)) @if let Some(severity) = severity { span.badge { (severity) } } }
            @for alert in raised.iter().take(TOLD) {
                p {
                    (visible(&alert.text)) "."
                    @if !alert.announced { " (silenced)" }
                    @if with_links && let Subject::Account(id) = &alert.subject { " " a href=(link_to(id)) { "More" } }
                }
            }
            @if raised.len() > TOLD { p { "And " (raised.len() - TOLD) " more; " a href="/api/v1/alerts" { "/api/v1/alerts" } " has them all." } }
            p.quiet { (advice(name)) " Runbook: " a href=(format!("/runbooks/{name}")) { (name) } }
        }
    }
}
