//! How endpoints are spoken to over HTTP.

use std::{sync::Arc, time::Duration};

use ureq::{
    Agent,
    config::ConfigBuilder,
    tls::{PemItem, RootCerts, TlsConfig, parse_pem},
    typestate::AgentScope,
};

use crate::config::Endpoint;

/// A connection may take so long, with TLS and all.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What all clients have in common: whom they trust, who they say they are, and that an answer is an answer, whatever its status.
#[must_use]
pub fn config(endpoint: &Endpoint) -> ConfigBuilder<AgentScope> {
    let roots = match &endpoint.ca {
        None => RootCerts::PlatformVerifier,
        Some(pem) => {
            let certificates = parse_pem(pem).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            });
            RootCerts::Specific(Arc::new(certificates.collect()))
        }
    };
    Agent::config_builder()
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .http_status_as_error(false)
        // A POST does not survive a redirect; the URL is to be corrected instead.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("tcpwarden/", env!("CARGO_PKG_VERSION")))
        .tls_config(TlsConfig::builder().root_certs(roots).build())
}
