//! Where alerts are sent in tests: a real HTTP server that fails, hangs, redirects and lies as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its path.
    pub path: String,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value; empty where there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(of, _)| of == name).map_or("", |(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

/// What a server does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Answers.
    Status(u16, Vec<(String, String)>, Vec<u8>),
    /// Says nothing until the client gives up or the server ends.
    Hang,
    /// Begins an answer of this status and sends its body without end.
    Endless(u16),
    /// Begins an answer of this status and never ends it.
    Stall(u16),
    /// Closes the connection.
    Close,
}

impl Reply {
    /// An answer without a body.
    #[must_use]
    pub fn status(status: u16) -> Reply {
        Reply::Status(status, Vec::new(), Vec::new())
    }
}

struct Shared {
    stop: AtomicBool,
    connections: AtomicUsize,
    requests: Mutex<Vec<(Request, u16)>>,
}

/// A server on a port of its own; ends on drop.
pub struct Receiver {
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Receiver").field("address", &self.address).finish_non_exhaustive()
    }
}

type Behaviour = Arc<dyn Fn(usize, &Request) -> Reply + Send + Sync>;

impl Receiver {
    /// Starts a server that treats its requests so; the first argument counts them from zero.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start(behaviour: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            requests: Mutex::new(Vec::new()),
        });
        let (of_thread, behaviour): (_, Behaviour) = (Arc::clone(&shared), Arc::new(behaviour));
        let count = Arc::new(AtomicUsize::new(0));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.stop.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                of_thread.connections.fetch_add(1, Ordering::Relaxed);
                let (shared, behaviour) = (Arc::clone(&of_thread), Arc::clone(&behaviour));
                let count = Arc::clone(&count);
                std::thread::spawn(move || drop(converse(stream, &shared, &behaviour, &count)));
            }
        });
        Receiver { address, shared }
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Every request so far, and the status that it was answered with (0: not at all).
    #[must_use]
    pub fn requests(&self) -> Vec<(Request, u16)> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections there were.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // The thread that accepts wakes up and sees it.
        drop(TcpStream::connect(self.address));
    }
}

/// The requests of one connection.
fn converse(
    stream: TcpStream,
    shared: &Shared,
    behaviour: &Behaviour,
    count: &AtomicUsize,
) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader)? {
        let reply = behaviour(count.fetch_add(1, Ordering::Relaxed), &request);
        let status = match &reply {
            Reply::Status(status, ..) | Reply::Endless(status) | Reply::Stall(status) => *status,
            Reply::Hang | Reply::Close => 0,
        };
        shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push((request, status));
        match reply {
            Reply::Status(status, headers, body) => {
                let headers: String =
                    headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                write!(
                    writer,
                    "HTTP/1.1 {status} Said\r\n{headers}content-length: {}\r\n\r\n",
                    body.len()
                )?;
                writer.write_all(&body)?;
            }
            Reply::Hang => wait_for_end(&mut reader, shared),
            Reply::Endless(status) => {
                write!(writer, "HTTP/1.1 {status} Said\r\ncontent-length: 99999999999\r\n\r\n")?;
                while !shared.stop.load(Ordering::Relaxed) {
                    writer.write_all(&[b'x'; 4096])?;
                }
            }
            Reply::Stall(status) => {
                write!(writer, "HTTP/1.1 {status} Said\r\ncontent-length: 10\r\n\r\nabc")?;
                writer.flush()?;
                wait_for_end(&mut reader, shared);
            }
            Reply::Close => return Ok(()),
        }
    }
    Ok(())
}

/// Until the client closes the connection, or the server ends.
fn wait_for_end(reader: &mut BufReader<TcpStream>, shared: &Shared) {
    let pause = Some(Duration::from_millis(50));
    if reader.get_ref().set_read_timeout(pause).is_err() {
        return;
    }
    let mut byte = [0];
    while !shared.stop.load(Ordering::Relaxed) {
        match reader.get_mut().read(&mut byte) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { path, headers, body }))
}
