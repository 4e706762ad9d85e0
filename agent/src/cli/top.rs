//! `tcpwarden top`: the peers, live.

use std::{
    env,
    io::{self, IsTerminal as _},
    path::Path,
    process::ExitCode,
};

use http::Uri;
use tcpwarden::{
    config::{CensusMode, Endpoint, Secret, has_user, read_authorities, read_url},
    top::{self, Fallback, TakeCensus},
};

use super::{Pem, Top, WrongUsage, census::Taker};

/// Where the daemon serves unless it is told otherwise.
const USUAL: &str = "http://127.0.0.1:9796";

/// Shows them until the user has seen enough.
pub(super) fn execute(wishes: Top) -> anyhow::Result<ExitCode> {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        let remedy = "top draws on a terminal, and this is none; tcpwarden census prints what it counts";
        return Err(WrongUsage(remedy.to_owned()).into());
    }
    let fallback: Option<Fallback> = wishes.url.is_none().then(|| Box::new(count_here) as Fallback);
    let url = wishes.url.unwrap_or_else(|| Uri::from_static(USUAL));
    let endpoint = Endpoint { url, authorization: wishes.authorization, ca: wishes.ca };
    top::run(&endpoint, fallback, !wishes.no_color && has_colours())?;
    Ok(ExitCode::SUCCESS)
}

/// Makes ready for the first census once that is wanted.
fn count_here() -> TakeCensus {
    let mut taker = None;
    Box::new(move || match &mut taker {
        Some(taker) => Taker::take(taker),
        none => none.insert(Taker::new(CensusMode::Auto)?).take(),
    })
}

/// Whether the user lets programs use colours (no-color.org), and the terminal has any.
fn has_colours() -> bool {
    let is_refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let terminal = env::var("TERM").unwrap_or_default();
    !is_refused && !terminal.is_empty() && terminal != "dumb" && !terminal.starts_with("vt")
}

/// The URL of a daemon.
pub(super) fn url(text: &str) -> Result<Uri, String> {
    let url = read_url(text).ok_or_else(|| format!("is no URL; write it as {USUAL}"))?;
    if has_user(&url) {
        return Err(
            "must not hold a user or password, which everyone on this host can see; put \"Basic …\" into a file for --authorization.file"
                .to_owned(),
        );
    }
    Ok(url)
}

/// The value of the Authorization header.
pub(super) fn authorization(path: &str) -> Result<Secret, String> {
    Secret::read(Path::new(path))
}

/// Who may vouch for the daemon.
pub(super) fn authorities(path: &str) -> Result<Pem, String> {
    read_authorities(Path::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_no_user() {
        assert_eq!(
            url("https://web-1:9796/").map(|url| url.to_string()),
            Ok("https://web-1:9796/".to_owned())
        );
        for wrong in ["web-1:9796", "ftp://web-1", "http://", "http://me:secret@web-1:9796"] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }
}
