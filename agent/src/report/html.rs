//! A report as a page of its own, with pictures in it and nothing to be fetched.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Report, Touched,
    judge::{Hypothesis, Verdict},
    words::{clock, percent, stamp},
};
use crate::{
    model::{
        grouped,
        past::{Past, Series, Who, second_of},
    },
    plot,
    visible::visible,
};

/// So many peers get pictures.
const PICTURED: usize = 6;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:auto;padding:1rem}\
table{border-collapse:collapse;display:block;overflow-x:auto}\
td,th{border-bottom:1px solid #8886;padding:.2rem .6rem;text-align:left;vertical-align:top}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
svg{max-width:100%;height:auto}\
.supported{border-left:.3rem solid #cd3746;padding-left:.8rem}\
.follows{border-left:.3rem solid #db701f;padding-left:.8rem}\
.rejected,.unknown{border-left:.3rem solid #888;padding-left:.8rem}\
.verdict{font-weight:600}";

/// Writes a report as HTML. The past is for the pictures.
#[must_use]
pub fn html(report: &Report, past: &Past) -> String {
    let title = format!("{}: {} to {}", visible(&report.host), stamp(report.from), clock(report.to));
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) " UTC" }
                @for sentence in &report.summary { p { (visible(sentence)) } }
                h2 { "Affected peers" }
                (touched(&report.touched))
                @for peer in report.touched.iter().take(PICTURED) { (pictures(peer, past)) }
                h2 { "What the evidence says" }
                @for hypothesis in &report.hypotheses { (weighed(hypothesis)) }
                h2 { "What to do next" }
                ul { @for advice in &report.advice { li { (visible(advice)) } } }
                h2 { "Timeline (UTC)" }
                table {
                    @for entry in &report.timeline {
                        tr { td.n { (stamp(second_of(entry.time))) } td { (visible(&entry.text)) } }
                    }
                }
                h2 { "Limits in force" }
                table {
                    tr { th { "Setting" } th.n { "Value" } th { "Matters here" } th { "Why" } }
                    @for setting in &report.settings {
                        tr {
                            td { (visible(&setting.name)) } td.n { (setting.value) }
                            td { @if setting.matters { "yes" } @else { "no" } } td { (visible(&setting.why)) }
                        }
                    }
                }
                h2 { "What could not be known" }
                @if report.unknown.is_empty() { p { "Nothing is missing in this span." } }
                ul { @for unknown in &report.unknown { li { (visible(unknown)) } } }
            }
        }
    };
    page.into_string()
}

fn touched(peers: &[Touched]) -> Markup {
    let none = || "–".to_owned();
    html! {
        @if peers.is_empty() { p { "Nobody, as far as the figures say." } } @else {
            table {
                tr {
                    th { "Peer" } th { "Port" } th.n { "Connections" } th.n { "Most per s" } th.n { "Most TIME_WAIT" } th { "Pool" }
                    th.n { "Most used" } th.n { "Fewest seconds left" } th.n { "Refused by TIME_WAIT" } th.n { "by open connections" } th.n { "SYNs repeated" } th.n { "Failed" } th.n { "Early" }
                }
                @for peer in peers {
                    tr {
                        td { (visible(&peer.who.peer)) }
                        td { (peer.who.port_name().to_string()) " (" (peer.who.direction) ")" }
                        td.n { (grouped(peer.connections)) }
                        td.n { (format!("{:.0}", peer.most_per_second)) }
                        td.n { (grouped(peer.most_time_wait.0)) }
                        td {
                            @if let Some(ports) = &peer.ports { (visible(ports)) " " }
                            @if let Some(size) = peer.pool_size.filter(|size| *size > 0) { "(" (grouped(size)) ")" }
                        }
                        td.n { (peer.highest_used_ratio.map_or_else(none, |(ratio, at)| format!("{} at {}", percent(ratio), clock(at)))) }
                        td.n { (peer.fewest_seconds_left.map_or_else(none, |(left, at)| format!("{left} at {}", clock(at)))) }
                        td.n { (grouped(peer.refused)) }
                        td.n { (grouped(peer.challenged)) }
                        td.n { (grouped(peer.syn_retries)) }
                        td.n { (grouped(peer.failed)) }
                        td.n { (grouped(peer.aborted_early)) }
                    }
                }
            }
        }
    }
}

fn weighed(hypothesis: &Hypothesis) -> Markup {
    let Hypothesis { statement, verdict, supporting, opposing, .. } = hypothesis;
    let class = match verdict {
        Verdict::Supported => "supported",
        Verdict::Follows => "follows",
        Verdict::Unknown => "unknown",
        Verdict::Rejected => "rejected",
    };
    html! {
        section class=(class) {
            h3 { (statement) }
            p.verdict { (verdict.name()) }
            ul {
                @for figures in supporting { li { "for it: " (visible(figures)) } }
                @for figures in opposing { li { "against it: " (visible(figures)) } }
            }
        }
    }
}

/// The figures of a peer over time.
fn pictures(peer: &Touched, past: &Past) -> Markup {
    let found = past.series.iter().find(|(series, _)| match series {
        Series::Account(id) => Who::from(id) == peer.who,
        Series::Host => false,
    });
    let Some((_, samples)) = found else { return html! {} };
    let heading =
        format!("{} towards port {} ({})", visible(&peer.who.peer), peer.who.port_name(), peer.who.direction);
    html! {
        h3 { (heading) }
        @for picture in plot::account(samples, past.span) { p { (PreEscaped(picture)) } }
    }
}
