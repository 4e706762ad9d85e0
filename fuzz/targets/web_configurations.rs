//! The web configuration, without the files that it names.

#![no_main]
#![expect(clippy::expect_used, reason = "a fuzz target fails by panicking")]

use std::{cell::LazyCell, fs, path::PathBuf};

use libfuzzer_sys::{Corpus, fuzz_target};
use tcpwarden::serve::Protection;
use tempfile::TempDir;

thread_local! {
    static FILE: LazyCell<(TempDir, PathBuf)> = LazyCell::new(|| {
        // In memory where that is to be had.
        let directory = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a directory");
        let file = directory.path().join("web.yml");
        (directory, file)
    });
}

fuzz_target!(|text: &[u8]| -> Corpus {
    // Devices and pipes are not to be read here; YAML can hide a slash behind an escape.
    if [&b"/"[..], b"\\"].iter().any(|place| text.windows(1).any(|byte| byte == *place))
        && mentions_file(text)
    {
        return Corpus::Reject;
    }
    FILE.with(|file| {
        fs::write(&file.1, text).expect("written");
        match Protection::load(Some(&file.1)) {
            Ok(protection) => {
                let shown = protection.to_string();
                assert!(shown.starts_with("plain HTTP"), "there is no certificate: {shown}");
            }
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("web.yml: "), "{error}");
                assert!(!error.chars().any(char::is_control), "{error:?}");
                assert!(error.len() <= 2 * text.len() + 1_000, "{error}");
            }
        }
    });
    Corpus::Keep
});

fn mentions_file(text: &[u8]) -> bool {
    text.windows(5).any(|window| window == b"_file")
}
