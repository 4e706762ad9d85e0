//! `tls_server_config`: certificate, versions, and who may connect.

use std::sync::Arc;

use rustls::{
    CipherSuite, InconsistentKeys, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, SupportedKxGroup, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use super::{place::Place, raw, sources::Sources};
use crate::config::ConfigError;

/// The versions there are, the older first.
const VERSIONS: [(&str, &SupportedProtocolVersion); 2] = [("TLS12", &TLS12), ("TLS13", &TLS13)];

/// What `cipher_suites` may name: those of TLS 1.2, as in the format.
const CIPHER_SUITES: [(&str, CipherSuite); 6] = [
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

const CURVES: [(&str, &dyn SupportedKxGroup); 3] = [
    ("X25519", ring::kx_group::X25519),
    ("CurveP256", ring::kx_group::SECP256R1),
    ("CurveP384", ring::kx_group::SECP384R1),
];

/// What is asked of clients.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientAuth {
    None,
    IfGiven,
    Required,
}

const CLIENT_AUTH: [(&str, ClientAuth); 3] = [
    ("NoClientCert", ClientAuth::None),
    ("VerifyClientCertIfGiven", ClientAuth::IfGiven),
    ("RequireAndVerifyClientCert", ClientAuth::Required),
];

pub(super) fn server_config(
    tls: &raw::Tls,
    place: Place<'_>,
    sources: &mut Sources,
) -> Result<Arc<ServerConfig>, ConfigError> {
    let in_file = "put it into a PEM file and name that with";
    place.unsupported("tls_server_config.cert", tls.cert.as_ref(), &format!("{in_file} cert_file"))?;
    place.unsupported("tls_server_config.key", tls.key.as_ref(), &format!("{in_file} key_file"))?;
    place.unsupported(
        "tls_server_config.client_ca",
        tls.client_ca.as_ref(),
        &format!("{in_file} client_ca_file"),
    )?;
    place.unsupported(
        "tls_server_config.client_allowed_sans",
        tls.client_allowed_sans.as_ref(),
        "use a client_ca_file that signs only the clients you allow",
    )?;
    let provider = Arc::new(provider(tls, place)?);
    let verifier = client_verifier(tls, &provider, place, sources)?;
    let (chain, key) = certificate(tls, place, sources)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(tls, place)?)
        .map_err(|error| place.invalid("tls_server_config.cipher_suites", "...", error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| {
            let key_file = tls.key_file.as_deref().unwrap_or_default();
            let remedy = match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    "is not the key of the certificate in cert_file; name the two that belong together".to_owned()
                }
                error => format!("does not work with the certificate in cert_file: {error}; name a valid certificate with its key (RSA, ECDSA or Ed25519)"),
            };
            place.invalid("tls_server_config.key_file", key_file, remedy)
        })?;
    config.ignore_client_order = tls.prefer_server_cipher_suites.unwrap_or(true);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The algorithms, as far as the file restricts them. Those of TLS 1.3 are all good and not to choose from.
fn provider(tls: &raw::Tls, place: Place<'_>) -> Result<CryptoProvider, ConfigError> {
    let mut provider = ring::default_provider();
    if let Some(names) = tls.cipher_suites.as_deref().filter(|names| !names.is_empty()) {
        let choose = |name: &String| place.choose("tls_server_config.cipher_suites", name, &CIPHER_SUITES);
        let chosen = names.iter().map(choose).collect::<Result<Vec<_>, _>>()?;
        let (mut suites, tls12): (Vec<_>, Vec<_>) =
            provider.cipher_suites.into_iter().partition(|suite| suite.tls13().is_some());
        suites.extend(
            chosen.iter().filter_map(|name| tls12.iter().copied().find(|suite| suite.suite() == *name)),
        );
        provider.cipher_suites = suites;
    }
    if let Some(names) = tls.curve_preferences.as_deref().filter(|names| !names.is_empty()) {
        let choose = |name: &String| place.choose("tls_server_config.curve_preferences", name, &CURVES);
        provider.kx_groups = names.iter().map(choose).collect::<Result<Vec<_>, _>>()?;
    }
    Ok(provider)
}

fn versions(tls: &raw::Tls, place: Place<'_>) -> Result<Vec<&'static SupportedProtocolVersion>, ConfigError> {
    let places = [("TLS12", 0), ("TLS13", 1)];
    let min = tls.min_version.as_deref().unwrap_or("TLS12");
    let max = tls.max_version.as_deref().unwrap_or("TLS13");
    let first = place.choose("tls_server_config.min_version", min, &places)?;
    let last = place.choose("tls_server_config.max_version", max, &places)?;
    let chosen: Vec<_> =
        VERSIONS[first..].iter().take((last + 1).saturating_sub(first)).map(|(_, v)| *v).collect();
    if chosen.is_empty() {
        return Err(place.invalid(
            "tls_server_config.min_version",
            min,
            format!("is above max_version {max}; no version is left"),
        ));
    }
    Ok(chosen)
}

fn certificate(
    tls: &raw::Tls,
    place: Place<'_>,
    sources: &mut Sources,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ConfigError> {
    let named = |key, name: &Option<String>, what: &str| match name {
        Some(name) if !name.is_empty() => Ok(name.clone()),
        _ => Err(place.invalid(
            key,
            "none",
            format!("TLS needs it; name {what}, or delete tls_server_config to serve plain HTTP"),
        )),
    };
    let cert_key = "tls_server_config.cert_file";
    let cert_file = named(cert_key, &tls.cert_file, "a PEM file with the certificate and its chain")?;
    let key_key = "tls_server_config.key_file";
    let key_file = named(key_key, &tls.key_file, "a PEM file with the private key of the certificate")?;
    let chain = certificates(cert_key, &cert_file, place, sources)?;
    let pem = place.read(key_key, &key_file, sources)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        place.invalid(
            key_key,
            &key_file,
            format!("holds no private key in PEM: {}; name one without a passphrase", reason(&error)),
        )
    })?;
    Ok((chain, key))
}

fn client_verifier(
    tls: &raw::Tls,
    provider: &Arc<CryptoProvider>,
    place: Place<'_>,
    sources: &mut Sources,
) -> Result<Arc<dyn ClientCertVerifier>, ConfigError> {
    let type_key = "tls_server_config.client_auth_type";
    let ca_key = "tls_server_config.client_ca_file";
    let name = tls.client_auth_type.as_deref().filter(|name| !name.is_empty()).unwrap_or("NoClientCert");
    if matches!(name, "RequestClientCert" | "RequireClientCert" | "RequireAnyClientCert") {
        return Err(place.invalid(
            type_key,
            name,
            "is not supported, since it verifies nothing; use RequireAndVerifyClientCert or VerifyClientCertIfGiven with a client_ca_file",
        ));
    }
    let auth = place.choose(type_key, name, &CLIENT_AUTH)?;
    let file = match tls.client_ca_file.as_deref().filter(|file| !file.is_empty()) {
        None if auth == ClientAuth::None => return Ok(WebPkiClientVerifier::no_client_auth()),
        None => {
            return Err(place.invalid(
                ca_key,
                "none",
                format!("{name} needs it; name a PEM file with the certificates that sign your clients'"),
            ));
        }
        Some(file) if auth == ClientAuth::None => {
            return Err(place.invalid(
                ca_key,
                file,
                "verifies nobody with client_auth_type NoClientCert; set that to RequireAndVerifyClientCert, or delete this",
            ));
        }
        Some(file) => file,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_key, file, place, sources)? {
        roots.add(certificate).map_err(|error| {
            place.invalid(ca_key, file, format!("holds a certificate that cannot sign: {error}; replace it"))
        })?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if auth == ClientAuth::IfGiven { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| place.invalid(ca_key, file, error.to_string()))
}

fn certificates(
    key: &str,
    file: &str,
    place: Place<'_>,
    sources: &mut Sources,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let pem = place.read(key, file, sources)?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(place.invalid(
            key,
            file,
            "holds no certificate in PEM (-----BEGIN CERTIFICATE-----); name one that does",
        )),
        Err(error) => {
            Err(place.invalid(key, file, format!("is not PEM: {}; name a file that is", reason(&error))))
        }
    }
}

/// Some of these errors quote the file, which may hold a key.
fn reason(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::NoItemsFound => "nothing found",
        pem::Error::MissingSectionEnd { .. } => "a section does not end",
        pem::Error::IllegalSectionStart { .. } => "a section does not begin as it should",
        pem::Error::Base64Decode(_) => "not base64",
        _ => "it cannot be read",
    }
}
