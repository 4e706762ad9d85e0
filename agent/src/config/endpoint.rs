//! Where to connect to, and how to prove who asks.

use std::{fmt, path::Path, str::FromStr as _};

use http::Uri;

use super::file::read_file;

/// A secret may be so long, in bytes.
const SECRET_LIMIT: u64 = 16 * 1024;

/// The authorities of an endpoint may be so many, in bytes; all that a system trusts are a quarter of it.
const PEM_LIMIT: u64 = 1024 * 1024;

/// Something that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// For the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The first line of a file.
    ///
    /// # Errors
    /// When it cannot be read, or has nothing there.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = read_file(path, SECRET_LIMIT).map_err(|error| error.to_string())?;
        let text = String::from_utf8(text).map_err(|error| error.to_string())?;
        match text.lines().next().map(str::trim) {
            None | Some("") => Err("has an empty first line".to_owned()),
            Some(line) => Ok(Self(line.to_owned())),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// As given, without a slash at its end; http or https.
    pub url: Uri,
    /// Value of the Authorization header.
    pub authorization: Option<Secret>,
    /// The only authorities that may vouch for it, in PEM; `None` is those the system trusts.
    pub ca: Option<Vec<u8>>,
}

/// A URL of an endpoint, if that is one.
#[must_use]
pub fn read_url(text: &str) -> Option<Uri> {
    Uri::from_str(text.trim_end_matches('/')).ok().filter(|url| {
        matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty())
    })
}

/// Whether a URL holds a user, and perhaps a password, which would be shown with it.
#[must_use]
pub fn has_user(url: &Uri) -> bool {
    url.authority().is_some_and(|authority| authority.as_str().contains('@'))
}

/// Certificates in PEM.
///
/// # Errors
/// When the file cannot be read or holds none.
pub fn read_authorities(path: &Path) -> Result<Vec<u8>, String> {
    let pem = read_file(path, PEM_LIMIT).map_err(|error| error.to_string())?;
    let holds_one = String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----");
    holds_one.then_some(pem).ok_or_else(|| "holds no certificate in PEM".to_owned())
}
