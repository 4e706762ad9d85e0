//! The page at `/`.

/// Says what this is and where the rest is.
pub(super) fn page(telemetry_path: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>tcpwarden</title></head><body>\n\
         <h1>tcpwarden</h1>\n<p>TCP sockets per peer, version {version}.</p>\n<ul>\n\
         <li><a href=\"{telemetry_path}\">Metrics</a></li>\n\
         <li><a href=\"/healthz\">Health</a>, <a href=\"/readyz\">readiness</a></li>\n</ul>\n</body></html>\n"
    )
}
