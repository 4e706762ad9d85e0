//! Passive FTP, as vsftpd does it: for each transfer the server listens on a port that the kernel chooses, tells it on the control connection,
//! accepts one connection, and listens no more.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use socket2::{Domain, Socket, Type};

use crate::{PATIENCE, listen};

/// What a transfer carries.
const FILE: [u8; 1_000] = [b'.'; 1_000];

/// Serves one client.
pub fn serve(address: SocketAddr, transfers: usize) -> anyhow::Result<()> {
    let mut control = listen(address)?.accept().context("no client connects")?.0;
    for _ in 0..transfers {
        let listener = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        listener.bind(&SocketAddr::new(address.ip(), 0).into())?;
        listener.listen(1)?;
        listener.set_read_timeout(Some(PATIENCE))?;
        let port = listener.local_addr()?.as_socket().context("an IP address")?.port();
        writeln!(control, "{port}")?;
        let (mut data, _) = listener.accept().context("no data connection")?;
        drop(listener);
        data.write_all(&FILE)?;
    }
    Ok(())
}

/// Fetches one file after the other.
pub fn fetch(address: SocketAddr, transfers: usize, pause: Duration) -> anyhow::Result<()> {
    let control = TcpStream::connect(address)?;
    control.set_read_timeout(Some(PATIENCE))?;
    let mut control = BufReader::new(control);
    for _ in 0..transfers {
        let mut port = String::new();
        control.read_line(&mut port)?;
        let mut data = TcpStream::connect((address.ip(), port.trim().parse().context("a port")?))?;
        data.set_read_timeout(Some(PATIENCE))?;
        let mut file = Vec::new();
        data.read_to_end(&mut file)?;
        ensure!(file == FILE, "{} of {} bytes came", file.len(), FILE.len());
        thread::sleep(pause);
    }
    // The server closes first.
    control.read_to_end(&mut Vec::new())?;
    Ok(())
}
