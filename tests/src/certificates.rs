//! Keys and certificates, made by openssl.

use std::process::Command;

use tempfile::TempDir;

/// A directory with `NAME.key` and `NAME.crt` of an authority (`ca`), of what it signed for a server (`server`, which is localhost and
/// 127.0.0.1) and for a client (`client`), and of one that belongs to neither (`other`).
#[must_use]
pub fn certificates() -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    let make = |name: &str, rest: &str| {
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        let args =
            format!("req -x509 {key} -days 2 -subj /CN={name} -keyout {name}.key -out {name}.crt{rest}");
        let made = Command::new("openssl").args(args.split(' ')).current_dir(directory.path()).output();
        let made = made.expect("openssl is there (`cargo xtask setup` fetches it)");
        assert!(made.status.success(), "{made:?}");
    };
    let signed = " -CA ca.crt -CAkey ca.key -addext basicConstraints=critical,CA:false";
    make("ca", "");
    make("server", &format!("{signed} -addext subjectAltName=DNS:localhost,IP:127.0.0.1"));
    make("client", signed);
    make("other", "");
    directory
}
