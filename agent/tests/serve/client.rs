//! Clients: bytes on a socket, and rustls on top of it.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::pki::Identity;

/// A connection on which nothing can hang.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.set_write_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream
}

/// Whether the other end has closed (or resets) a connection on which nothing else is to come.
pub fn is_closed(stream: &mut impl Read) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

pub fn request(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

/// The whole answer to a request that ends the connection.
pub fn ask(mut stream: impl Read + Write, path: &str, headers: &str) -> io::Result<String> {
    stream.write_all(request(path, &format!("Connection: close\r\n{headers}")).as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
}

pub fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    ask(connect(address), path, "")
}

/// The head of the next answer of a connection that goes on; its body is left behind only if it came at once.
pub fn next_head(stream: &mut impl Read) -> String {
    let mut bytes = vec![0; 64 * 1024];
    let count = stream.read(&mut bytes).expect("an answer");
    let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
    text.split("\r\n\r\n").next().unwrap_or_default().to_lowercase()
}

pub fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A client that trusts `authority` (in PEM).
pub fn tls(
    address: SocketAddr,
    authority: &str,
    identity: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> Tls {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM")).expect("an authority");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some(Identity { certificate, key }) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
            config.with_client_auth_cert(chain, key).expect("they belong together")
        }
    };
    let name = "localhost".try_into().expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    StreamOwned::new(connection, connect(address))
}

/// As most clients would.
pub fn https(address: SocketAddr, authority: &str, path: &str, headers: &str) -> io::Result<String> {
    ask(tls(address, authority, None, rustls::ALL_VERSIONS), path, headers)
}
