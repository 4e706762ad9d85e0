//! A round: many names asked for at the same time, over one socket per attempt.
//!
//! A name is done, and free to be asked for again, as soon as both of its families are known; what takes longer keeps nobody else
//! in the round.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    sync::mpsc::UnboundedSender,
    task::JoinSet,
    time::{sleep_until, timeout},
};

use super::{
    Listing, Lookup,
    conf::Conf,
    wire::{self, Asked, Family, Reply},
};

/// Whatever the configuration of the host says, nobody is waited for longer.
const LONGEST: Duration = Duration::from_secs(10);

/// Once one family has addresses, the other is waited for no longer than this: some servers never answer what they do not understand.
const GRACE: Duration = Duration::from_millis(500);

/// A question without an answer is sent again after these times, as a datagram is easily lost.
const RESENT: [Duration; 3] = [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(3)];

/// How often it is seen to what is due while an answer is missing.
const TICK: Duration = Duration::from_millis(100);

/// The largest answer over UDP that is asked for.
const DATAGRAM: usize = 4_096;

/// A question, by the name's place in the round.
type Question = (usize, Family);

/// One name.
struct Task {
    name: Arc<str>,
    candidates: Vec<Asked>,
    /// Which of them is being asked for.
    at: usize,
    /// What is known of each family.
    known: [Option<Listing>; 2],
    /// Since when one family has addresses.
    listed: Option<Instant>,
    /// Why the last server that was asked did not help.
    trouble: [Option<String>; 2],
    done: bool,
}

struct Round<'a> {
    conf: &'a Conf,
    asked: Instant,
    tasks: Vec<Task>,
    /// What the server of this attempt has not answered yet.
    waiting: HashMap<u16, Question>,
    /// Answers that come over TCP.
    large: JoinSet<(u16, io::Result<Vec<u8>>)>,
    done: &'a UnboundedSender<Lookup>,
}

/// Asks for all of `names`; what becomes of each is sent to `done`, once.
pub(super) async fn run(conf: Arc<Conf>, names: Vec<Arc<str>>, done: UnboundedSender<Lookup>) {
    let conf = &*conf;
    let task = |name: Arc<str>| Task {
        candidates: conf.candidates(&name),
        name,
        at: 0,
        known: [None, (!conf.asks_v6).then_some(Listing::Nothing { exists: true })],
        listed: None,
        trouble: [None, None],
        done: false,
    };
    let mut round = Round {
        conf,
        asked: Instant::now(),
        tasks: names.into_iter().map(task).collect(),
        waiting: HashMap::new(),
        large: JoinSet::new(),
        done: &done,
    };
    round.begin();
    for _ in 0..conf.attempts {
        for &server in &conf.servers {
            if Instant::now() < round.asked + LONGEST && round.tasks.iter().any(|task| !task.done) {
                round.attempt(server).await;
            }
        }
    }
    round.give_up();
}

impl Round<'_> {
    /// Names of the hosts file are known already.
    fn begin(&mut self) {
        for place in 0..self.tasks.len() {
            if let Some(known) = self.conf.of_hosts(&self.tasks[place].name) {
                self.tasks[place].known = known.map(Some);
                self.finish(place);
            }
        }
    }

    /// Asks one server for what is not known yet.
    async fn attempt(&mut self, server: SocketAddr) {
        let until = (Instant::now() + self.conf.timeout).min(self.asked + LONGEST);
        self.waiting.clear();
        self.large.abort_all();
        let mut unsent = Vec::new();
        for place in 0..self.tasks.len() {
            unsent.extend(self.questions(place));
        }
        if let Err(error) = self.exchange(server, unsent, until).await {
            let questions: Vec<Question> = self.waiting.drain().map(|(_, question)| question).collect();
            for question in questions {
                self.trouble(question, &format!("cannot be asked: {error}"), server);
            }
        }
    }

    async fn exchange(&mut self, server: SocketAddr, unsent: Vec<u16>, until: Instant) -> io::Result<()> {
        let socket = connect(server).await?;
        self.send(&socket, unsent).await?;
        let begun = Instant::now();
        let mut resent = RESENT.map(|after| begun + after).into_iter().peekable();
        let mut buffer = [0; DATAGRAM];
        while !self.waiting.is_empty() {
            let tick = until.min(Instant::now() + TICK);
            let unsent = tokio::select! {
                biased;
                length = socket.recv(&mut buffer) => {
                    let mut unsent = self.take(server, &buffer[..length?]);
                    // Answers come together, as the questions went.
                    while let Ok(length) = socket.try_recv(&mut buffer) {
                        unsent.extend(self.take(server, &buffer[..length]));
                    }
                    unsent
                }
                Some(Ok((id, answer))) = self.large.join_next() => self.take_large(server, id, answer),
                () = sleep_until(tick.into()) => {
                    let now = Instant::now();
                    if now >= until {
                        return Ok(());
                    }
                    self.lose_patience(now);
                    let due = resent.next_if(|at| *at <= now);
                    if due.is_some() { self.waiting.keys().copied().collect() } else { Vec::new() }
                }
            };
            self.send(&socket, unsent).await?;
        }
        Ok(())
    }

    async fn send(&self, socket: &UdpSocket, questions: Vec<u16>) -> io::Result<()> {
        for id in questions {
            if let Some(question) = self.question(id) {
                socket.send(&question).await?;
            }
        }
        Ok(())
    }

    /// The message of a question that waits for its answer.
    fn question(&self, id: u16) -> Option<Vec<u8>> {
        let &(place, family) = self.waiting.get(&id)?;
        let task = &self.tasks[place];
        wire::question(id, task.candidates.get(task.at)?, family, self.conf.edns).ok()
    }

    /// Numbers the questions of a name whose answers are missing.
    fn questions(&mut self, place: usize) -> Vec<u16> {
        let Task { known, done, .. } = &self.tasks[place];
        let missing: Vec<Family> =
            Family::BOTH.into_iter().filter(|family| !done && known[*family as usize].is_none()).collect();
        let number = |family| {
            // Which number comes next is nobody else's business.
            let mut id = fastrand::u16(..);
            while self.waiting.contains_key(&id) {
                id = fastrand::u16(..);
            }
            self.waiting.insert(id, (place, family));
            id
        };
        missing.into_iter().map(number).collect()
    }

    /// Takes a datagram; returns the questions that follow from it.
    fn take(&mut self, server: SocketAddr, message: &[u8]) -> Vec<u16> {
        let Some(id) = wire::id(message) else { return Vec::new() };
        let Some(&question) = self.waiting.get(&id) else { return Vec::new() };
        match self.read(question, message) {
            Reply::NotOurs => Vec::new(),
            Reply::Answer(listing) => {
                self.waiting.remove(&id);
                self.learn(question, listing)
            }
            Reply::Useless(why) => {
                self.waiting.remove(&id);
                self.trouble(question, &why, server);
                Vec::new()
            }
            Reply::Truncated => {
                if let Some(message) = self.question(id) {
                    self.large.spawn(async move { (id, ask_over_tcp(server, message).await) });
                }
                Vec::new()
            }
        }
    }

    fn take_large(&mut self, server: SocketAddr, id: u16, answer: io::Result<Vec<u8>>) -> Vec<u16> {
        let Some(question) = self.waiting.remove(&id) else { return Vec::new() };
        let why = match answer.map(|message| self.read(question, &message)) {
            Ok(Reply::Answer(listing)) => return self.learn(question, listing),
            Ok(Reply::Useless(why)) => why,
            Ok(Reply::NotOurs | Reply::Truncated) => "answers something else over TCP".to_owned(),
            Err(error) => format!("cannot be asked over TCP, which its answer needs: {error}"),
        };
        self.trouble(question, &why, server);
        Vec::new()
    }

    fn read(&self, (place, family): Question, message: &[u8]) -> Reply {
        let task = &self.tasks[place];
        match task.candidates.get(task.at) {
            Some(name) => wire::reply(message, name, family),
            None => Reply::NotOurs,
        }
    }

    /// Books an answer; returns the questions for the next candidate if this one has no address.
    fn learn(&mut self, (place, family): Question, listing: Listing) -> Vec<u16> {
        let now = Instant::now();
        let asks_v6 = self.conf.asks_v6;
        let task = &mut self.tasks[place];
        if matches!(listing, Listing::Listed(..)) {
            task.listed.get_or_insert(now);
        }
        task.known[family as usize] = Some(listing);
        if task.known.iter().any(Option::is_none) {
            return Vec::new();
        }
        let is_nothing = |listing: &Option<Listing>| matches!(listing, Some(Listing::Nothing { .. }));
        if task.known.iter().all(is_nothing) && task.at + 1 < task.candidates.len() {
            task.at += 1;
            task.known = [None, (!asks_v6).then_some(Listing::Nothing { exists: true })];
            return self.questions(place);
        }
        self.finish(place);
        Vec::new()
    }

    /// The server of this attempt does not help with a question; the next may.
    fn trouble(&mut self, (place, family): Question, why: &str, server: SocketAddr) {
        self.tasks[place].trouble[family as usize] = Some(format!("{} {why}", server.ip()));
    }

    /// Ends the names that have addresses of one family for long, while nobody says a word of the other.
    fn lose_patience(&mut self, now: Instant) {
        for place in 0..self.tasks.len() {
            let task = &self.tasks[place];
            if !task.done && task.listed.is_some_and(|at| now.saturating_duration_since(at) >= GRACE) {
                self.finish(place);
            }
        }
        let tasks = &self.tasks;
        self.waiting.retain(|_, (place, _)| !tasks[*place].done);
    }

    fn give_up(&mut self) {
        for place in 0..self.tasks.len() {
            if !self.tasks[place].done {
                self.finish(place);
            }
        }
    }

    /// Tells what is known of a name.
    fn finish(&mut self, place: usize) {
        let task = &mut self.tasks[place];
        task.done = true;
        let [v4, v6] = [0, 1].map(|family| {
            let trouble = task.trouble[family].take().map_or(Listing::TimedOut, Listing::Failed);
            task.known[family].take().unwrap_or(trouble)
        });
        let name = Arc::clone(&task.name);
        // Nobody is left to hear it when the agent ends.
        let _ = self.done.send(Lookup { name, asked: self.asked, answered: Instant::now(), v4, v6 });
    }
}

/// A socket for one server: the kernel takes nothing from others, chooses a port nobody can guess, and says when nobody is there.
async fn connect(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    Ok(socket)
}

/// Asks again where there is room for the whole answer (RFC 1035 4.2.2).
async fn ask_over_tcp(server: SocketAddr, question: Vec<u8>) -> io::Result<Vec<u8>> {
    let ask = async {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(question.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &question].concat()).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    timeout(LONGEST, ask).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests;
