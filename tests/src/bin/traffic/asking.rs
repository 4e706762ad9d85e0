//! Customers with little patience, a server between them and another one, and a caller that goes by a name: each keeps account of
//! when what happened.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use socket2::Socket;

use super::{PATIENCE, listen_with};

/// How long a server waits for the one behind: far too long.
const LONG: Duration = Duration::from_mins(5);

/// One request.
struct Request {
    begun: SystemTime,
    took: Duration,
    outcome: String,
}

impl Request {
    /// Makes one: what it comes to, and how long that took.
    fn make(make: impl FnOnce() -> String) -> Self {
        let (begun, clock) = (SystemTime::now(), Instant::now());
        let outcome = make();
        Self { begun, took: clock.elapsed(), outcome }
    }

    fn tell(&self) {
        let since = self.begun.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        println!("{} {} {}", since.as_nanos(), self.took.as_nanos(), self.outcome);
    }
}

/// Until stdin ends.
fn meanwhile() -> Arc<AtomicBool> {
    let goes_on = Arc::new(AtomicBool::new(true));
    let ends = Arc::clone(&goes_on);
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        ends.store(false, Ordering::Relaxed);
    });
    goes_on
}

/// `count` customers, each of whom asks by HTTP, waits for the end of the answer as long as its patience lasts, and asks again after a
/// pause. When stdin has ended, a line for each request: when it was made, how long it took (nanoseconds), and the status or `none`.
pub(super) fn ask(to: SocketAddr, count: usize, pause: Duration, patience: Duration) {
    let goes_on = meanwhile();
    let customers: Vec<_> = (0..count)
        .map(|_| {
            let goes_on = Arc::clone(&goes_on);
            thread::spawn(move || {
                let mut requests = Vec::new();
                while goes_on.load(Ordering::Relaxed) {
                    requests
                        .push(Request::make(|| status(to, patience).unwrap_or_else(|| "none".to_owned())));
                    thread::sleep(pause);
                }
                requests
            })
        })
        .collect();
    println!("asking");
    let requests = customers.into_iter().filter_map(|customer| customer.join().ok()).flatten();
    requests.for_each(|request| request.tell());
}

/// The status of an answer that came to its end in time.
fn status(to: SocketAddr, patience: Duration) -> Option<String> {
    let deadline = Instant::now() + patience;
    let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: lab\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    loop {
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        stream.set_read_timeout(Some(left)).ok()?;
        let mut part = [0; 4_096];
        match stream.read(&mut part).ok()? {
            0 => break,
            length => answer.extend(&part[..length]),
        }
    }
    String::from_utf8(answer).ok()?.split_whitespace().nth(1).map(str::to_owned)
}

/// Calls a service by its name again and again: resolves it, connects to the first address, hears it out, closes, pauses. When stdin has
/// ended, a line for each attempt: when it began, how long it took to connect or to fail (nanoseconds), `connected` or `failed`, and the
/// address.
pub(super) fn call(service: &str, patience: Duration) -> anyhow::Result<()> {
    let goes_on = meanwhile();
    let mut attempts = Vec::new();
    println!("asking");
    while goes_on.load(Ordering::Relaxed) {
        if let Some(address) = service.to_socket_addrs().ok().and_then(|mut addresses| addresses.next()) {
            let mut connected = None;
            attempts.push(Request::make(|| {
                connected = TcpStream::connect_timeout(&address, patience).ok();
                format!("{} {}", if connected.is_some() { "connected" } else { "failed" }, address.ip())
            }));
            if let Some(mut stream) = connected {
                stream.set_read_timeout(Some(patience))?;
                let _ = stream.read(&mut [0; 16]);
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    attempts.iter().for_each(Request::tell);
    Ok(())
}

/// A server of `threads` threads, each of which takes a request, asks another server about it, which may take as long as it likes, and
/// answers. It ends when stdin does.
pub(super) fn front(
    address: SocketAddr,
    backlog: usize,
    threads: usize,
    behind: SocketAddr,
) -> anyhow::Result<()> {
    let listener = listen_with(address, i32::try_from(backlog)?)?;
    listener.set_read_timeout(None)?;
    let listener = Arc::new(listener);
    for _ in 0..threads {
        let listener = Arc::clone(&listener);
        thread::spawn(move || while forward(&listener, behind).is_ok() {});
    }
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// One request; what goes wrong with it is not the server's business.
fn forward(listener: &Socket, behind: SocketAddr) -> io::Result<()> {
    let (mut customer, _) = listener.accept()?;
    let mut forward = || {
        customer.set_read_timeout(Some(PATIENCE))?;
        let _ = customer.read(&mut [0; 1_024])?;
        let mut call = TcpStream::connect(behind)?;
        call.set_read_timeout(Some(LONG))?;
        call.write_all(b"ten bytes!")?;
        let heard = call.read(&mut [0; 16])?;
        drop(call);
        let page = "x".repeat(100);
        let status = if heard > 0 { "200 OK" } else { "502 Bad Gateway" };
        write!(customer, "HTTP/1.0 {status}\r\nContent-Type: text/plain\r\n\r\n{page}\n")
    };
    let _: io::Result<()> = forward();
    Ok(())
}
