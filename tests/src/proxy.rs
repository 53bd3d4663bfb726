//! A TCP proxy between a Kafka client and a broker that can be told to fail as networks do, and to tamper with the answers to a
//! transaction's end.
//!
//! What it cannot do: drop the packets of a handshake. While the link is cut, a new connection is accepted and nothing answers on
//! it; for the rest see the network namespace in `tests/network.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most that is passed on in one step where frames do not matter.
const CHUNK_BYTES: usize = 16 * 1024;
/// No frame between the tests' clients and brokers is larger.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Kafka's number of the request that ends a transaction.
const END_TXN: i16 = 26;
/// The error of a broker that still ends a transaction.
const CONCURRENT_TRANSACTIONS: i16 = 51;

/// How the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Everything passes.
    Up,
    /// Nothing passes, and no connection is closed: what is under way arrives once the link is up again.
    Cut,
    /// Everything passes, late and slowly.
    Slow {
        /// Added to every chunk or frame.
        delay: Duration,
        /// Each way, per connection.
        bytes_per_second: u32,
    },
}

/// What befalls the commit of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The broker never hears of it, nor of its repetitions.
    RequestLost,
    /// The broker carries it out, and its answer never arrives.
    AnswerLost,
    /// The answer arrives so much later, and with it all that follows on the connection.
    AnswerLate(Duration),
    /// The broker carries it out; the answer that arrives is this error.
    AnswerReplaced(i16),
    /// The broker never hears of it; this error is the answer.
    Refused(i16),
}

/// What the proxy does with an answer.
#[derive(Debug, Clone, Copy)]
enum Treatment {
    Lose,
    Delay(Duration),
    Replace { error: i16, version: i16 },
}

/// A listening proxy; it lives as long as the process.
#[derive(Debug, Clone)]
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether Kafka's frames are looked at.
    frames: bool,
}

#[derive(Debug)]
struct State {
    upstream: Option<String>,
    link: Link,
    next_id: u64,
    connections: BTreeMap<u64, Connection>,
    /// What befalls the next commits, one each; none: nothing.
    plan: VecDeque<Option<Fault>>,
    commits: usize,
    /// Requests that were lost, from their transactional id on.
    lost: Vec<Vec<u8>>,
    complaints: Vec<String>,
}

impl Default for State {
    fn default() -> State {
        State {
            upstream: None,
            link: Link::Up,
            next_id: 0,
            connections: BTreeMap::new(),
            plan: VecDeque::new(),
            commits: 0,
            lost: Vec::new(),
            complaints: Vec::new(),
        }
    }
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    broker: TcpStream,
    /// Stays open, and nothing passes any more.
    forgotten: bool,
    /// To be closed with a reset.
    reset: bool,
}

/// One direction of a connection.
struct Pump {
    shared: Arc<Shared>,
    id: u64,
    from: TcpStream,
    to: Arc<Mutex<TcpStream>>,
    /// For answers that the broker never gave.
    back: Arc<Mutex<TcpStream>>,
    /// By correlation id, for this connection.
    treatments: Arc<Mutex<BTreeMap<i32, Treatment>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// A proxy on a free port of `host` that leads nowhere yet.
    ///
    /// # Panics
    /// If it cannot listen there.
    #[must_use]
    pub fn listen(host: &str) -> Proxy {
        Proxy::start(host, false)
    }

    /// The same, one that understands Kafka's frames: needed for [`Proxy::plan`].
    ///
    /// # Panics
    /// If it cannot listen there.
    #[must_use]
    pub fn listen_to_kafka(host: &str) -> Proxy {
        Proxy::start(host, true)
    }

    fn start(host: &str, frames: bool) -> Proxy {
        let listener = TcpListener::bind((host, 0))
            .unwrap_or_else(|error| panic!("a proxy cannot listen on {host}: {error}"));
        let address = listener.local_addr().expect("it is bound").to_string();
        let shared = Arc::new(Shared { frames, ..Shared::default() });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                // A client that is gone already, or a broker that is down: both show at the other end.
                if let Err(error) = client.and_then(|client| accepting.connect(client)) {
                    eprintln!("the proxy refused a connection: {error}");
                }
            }
        });
        Proxy { address, shared }
    }

    /// `host:port` where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Where connections lead from now on.
    pub fn connect_to(&self, upstream: &str) {
        self.shared.state().upstream = Some(upstream.to_owned());
    }

    /// Changes the link, for connections that are and that come.
    pub fn set(&self, link: Link) {
        self.shared.state().link = link;
        self.shared.changed.notify_all();
    }

    /// Connections that are open now stay so, but nothing passes on them ever again; new ones are not concerned. So does a
    /// firewall that lost its table. Returns how many there were.
    pub fn forget_connections(&self) -> usize {
        let mut state = self.shared.state();
        for connection in state.connections.values_mut() {
            connection.forgotten = true;
        }
        state.connections.len()
    }

    /// Closes all connections with a reset. Returns how many there were.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn reset_connections(&self) -> usize {
        let mut state = self.shared.state();
        for connection in state.connections.values_mut() {
            connection.reset = true;
            for stream in [&connection.client, &connection.broker] {
                let socket = socket2::SockRef::from(stream);
                socket.set_linger(Some(Duration::ZERO)).expect("a socket can be told to linger");
                wake(stream);
            }
        }
        self.shared.changed.notify_all();
        state.connections.len()
    }

    /// What befalls the next commits of transactions, one each.
    ///
    /// # Panics
    /// If it does not understand Kafka's frames.
    pub fn plan(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        assert!(self.shared.frames, "this proxy does not look at frames");
        self.shared.state().plan.extend(faults);
    }

    /// How many commits are still to come until the plan is carried out.
    #[must_use]
    pub fn planned(&self) -> usize {
        self.shared.state().plan.len()
    }

    /// How many requests to commit a transaction it has seen.
    #[must_use]
    pub fn commits(&self) -> usize {
        self.shared.state().commits
    }

    /// What it did not understand; a test that relies on its plan asserts that there is nothing.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.shared.state().complaints.clone()
    }
}

/// Ends a read that is under way, without a word to the other end.
fn wake(stream: &TcpStream) {
    // It may have been closed by the other end a moment ago, which wakes it as well.
    drop(stream.shutdown(Shutdown::Read));
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    fn connect(self: &Arc<Shared>, client: TcpStream) -> io::Result<()> {
        let upstream = self.state().upstream.clone();
        let upstream = upstream.ok_or_else(|| io::Error::other("it leads nowhere yet"))?;
        let broker = TcpStream::connect(upstream)?;
        for stream in [&client, &broker] {
            stream.set_nodelay(true)?;
        }
        let id = {
            let (client, broker) = (client.try_clone()?, broker.try_clone()?);
            let mut state = self.state();
            state.next_id += 1;
            let id = state.next_id;
            let connection = Connection { client, broker, forgotten: false, reset: false };
            state.connections.insert(id, connection);
            id
        };
        let to_client = Arc::new(Mutex::new(client.try_clone()?));
        let to_broker = Arc::new(Mutex::new(broker.try_clone()?));
        let treatments = Arc::default();
        let pump = |from: TcpStream, to: &Arc<Mutex<TcpStream>>| Pump {
            shared: Arc::clone(self),
            id,
            from,
            to: Arc::clone(to),
            back: Arc::clone(&to_client),
            treatments: Arc::clone(&treatments),
        };
        let (requests, answers) = (pump(client, &to_broker), pump(broker, &to_client));
        std::thread::spawn(move || requests.run(Pump::request));
        std::thread::spawn(move || answers.run(Pump::answer));
        Ok(())
    }

    /// Waits until something may pass on a connection; how long that takes, or none where it never will.
    fn pass(&self, id: u64, bytes: usize) -> Option<Duration> {
        let mut state = self.state();
        loop {
            let connection = state.connections.get(&id)?;
            if connection.forgotten || connection.reset {
                return None;
            }
            match state.link {
                Link::Up => return Some(Duration::ZERO),
                Link::Slow { delay, bytes_per_second } => {
                    let size = u32::try_from(bytes).unwrap_or(u32::MAX);
                    return Some(delay + Duration::from_secs(1) * size / bytes_per_second);
                }
                Link::Cut => {}
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether a connection is one on which nothing passes any more.
    fn is_forgotten(&self, id: u64) -> bool {
        self.state().connections.get(&id).is_some_and(|connection| connection.forgotten)
    }

    fn next_fault(&self) -> Option<Fault> {
        let mut state = self.state();
        state.commits += 1;
        state.plan.pop_front().flatten()
    }
}

impl Pump {
    /// Passes on what comes until one end closes.
    fn run(mut self, handle: fn(&mut Pump, Vec<u8>) -> io::Result<()>) {
        let ended = loop {
            let piece = if self.shared.frames { self.frame() } else { self.chunk() };
            let piece = match piece {
                Ok(piece) if piece.is_empty() => break Ok(()),
                Ok(piece) => piece,
                Err(error) => break Err(error),
            };
            match self.shared.pass(self.id, piece.len()) {
                Some(wait) => {
                    std::thread::sleep(wait);
                    if let Err(error) = handle(&mut self, piece) {
                        break Err(error);
                    }
                }
                // Swallowed.
                None if self.shared.is_forgotten(self.id) => {}
                None => break Ok(()),
            }
        };
        if let Err(error) = ended
            && error.kind() == io::ErrorKind::InvalidData
        {
            self.shared.state().complaints.push(error.to_string());
        }
        self.close();
    }

    /// An end closed: the other hears of it as soon as the link lets it.
    fn close(&self) {
        self.shared.pass(self.id, 0);
        let Some(connection) = self.shared.state().connections.remove(&self.id) else { return };
        let how = if connection.reset { Shutdown::Read } else { Shutdown::Both };
        for stream in [&connection.client, &connection.broker] {
            // It may be closed already.
            drop(stream.shutdown(how));
        }
    }

    fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; CHUNK_BYTES];
        let read = self.from.read(&mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// A frame with its length in front.
    fn frame(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.from.read_exact(&mut length)?;
        let size = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if size > FRAME_BYTES_MAX {
            return Err(invalid(format!("a frame of {size} bytes")));
        }
        let mut bytes = length.to_vec();
        bytes.resize(4 + size, 0);
        self.from.read_exact(&mut bytes[4..])?;
        Ok(bytes)
    }

    fn request(&mut self, piece: Vec<u8>) -> io::Result<()> {
        if !self.shared.frames {
            return locked(&self.to).write_all(&piece);
        }
        let (api_key, version) = (i16_at(&piece, 4)?, i16_at(&piece, 6)?);
        // Up to version 2 the last byte says whether the transaction is to be committed.
        if api_key != END_TXN || (version <= 2 && piece.last() == Some(&0)) {
            return locked(&self.to).write_all(&piece);
        }
        if version > 2 {
            return Err(invalid(format!("EndTxn of version {version} is not understood")));
        }
        let id = i32_at(&piece, 8)?;
        // Who lost a request begins anew, with another epoch: the same words of a client are a repetition.
        let words = piece[12..].to_vec();
        if self.shared.state().lost.contains(&words) {
            return Ok(());
        }
        let treatment = match self.shared.next_fault() {
            None => None,
            Some(Fault::RequestLost) => {
                self.shared.state().lost.push(words);
                return Ok(());
            }
            Some(Fault::Refused(error)) => {
                return locked(&self.back).write_all(&end_txn_answer(id, error));
            }
            Some(Fault::AnswerLost) => Some(Treatment::Lose),
            Some(Fault::AnswerLate(delay)) => Some(Treatment::Delay(delay)),
            Some(Fault::AnswerReplaced(error)) => Some(Treatment::Replace { error, version }),
        };
        if let Some(treatment) = treatment {
            locked(&self.treatments).insert(id, treatment);
        }
        locked(&self.to).write_all(&piece)
    }

    fn answer(&mut self, piece: Vec<u8>) -> io::Result<()> {
        if !self.shared.frames {
            return locked(&self.to).write_all(&piece);
        }
        let id = i32_at(&piece, 4)?;
        let treatment = locked(&self.treatments).remove(&id);
        match treatment {
            None => locked(&self.to).write_all(&piece),
            Some(Treatment::Lose) => Ok(()),
            Some(Treatment::Delay(delay)) => {
                std::thread::sleep(delay);
                locked(&self.to).write_all(&piece)
            }
            Some(Treatment::Replace { error, version }) => {
                let answer = end_txn_answer(id, error);
                if piece == end_txn_answer(id, CONCURRENT_TRANSACTIONS) {
                    // A repetition that came while the broker still carries out the first: there is no success yet to replace.
                    let fault = Some(Fault::AnswerReplaced(error));
                    self.shared.state().plan.push_front(fault);
                    return locked(&self.to).write_all(&piece);
                }
                if answer.len() != piece.len() || i16_at(&piece, 12)? != 0 {
                    let what = format!("the broker's answer to EndTxn v{version}: {piece:?}");
                    return Err(invalid(what));
                }
                locked(&self.to).write_all(&answer)
            }
        }
    }
}

/// An answer to `EndTxn` up to version 2: length, correlation id, throttle time, error.
fn end_txn_answer(id: i32, error: i16) -> Vec<u8> {
    let parts: [&[u8]; 4] =
        [&10_i32.to_be_bytes(), &id.to_be_bytes(), &[0; 4], &error.to_be_bytes()];
    parts.concat()
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn i16_at(bytes: &[u8], at: usize) -> io::Result<i16> {
    let two = bytes.get(at..).and_then(<[u8]>::first_chunk);
    two.map(|two| i16::from_be_bytes(*two)).ok_or_else(|| invalid(format!("frame {bytes:?}")))
}

fn i32_at(bytes: &[u8], at: usize) -> io::Result<i32> {
    let four = bytes.get(at..).and_then(<[u8]>::first_chunk);
    four.map(|four| i32::from_be_bytes(*four)).ok_or_else(|| invalid(format!("frame {bytes:?}")))
}
