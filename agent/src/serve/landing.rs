//! The page at `/`.

use std::fmt::Write as _;

use crate::alert::{Alert, advice};

/// Says what is wrong, and where the rest is.
pub(super) fn page(telemetry_path: &str, alerts: &[Alert]) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut list = String::new();
    for Alert { name, severity, text, .. } in alerts {
        let severity = severity.name();
        let (text, advice) = (escape(text), advice(*name));
        let _ = writeln!(
            list,
            "<li><a href=\"/runbooks/{name}\"><b>{name}</b></a> ({severity}): {text}. <i>{advice}</i></li>"
        );
    }
    if list.is_empty() {
        list.push_str("<li>none</li>\n");
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>tcpwarden</title></head><body>\n\
         <h1>tcpwarden</h1>\n<p>TCP sockets per peer, version {version}.</p>\n<h2>Alerts</h2>\n<ul>\n{list}</ul>\n<h2>More</h2>\n<ul>\n\
         <li><a href=\"{telemetry_path}\">Metrics</a></li>\n\
         <li><a href=\"/api/v1/alerts\">Alerts</a>, <a href=\"/api/v1/events\">refused reuses</a>, <a href=\"/api/v1/names\">watched names</a> and their <a href=\"/api/v1/failovers\">failovers</a> as JSON</li>\n\
         <li><a href=\"/healthz\">Health</a>, <a href=\"/readyz\">readiness</a></li>\n</ul>\n</body></html>\n"
    )
}

/// Names of groups come from the configuration and may hold anything.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
