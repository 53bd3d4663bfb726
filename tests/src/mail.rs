//! A small real SMTP server that refuses, is slow and hangs as it is told.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a server does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manners {
    /// So many messages are answered with a temporary failure.
    pub temporary_failures: usize,
    /// Whether nothing is taken before a login, of which so many are refused for good (535).
    pub logins_refused: Option<usize>,
    /// How long it thinks about a message before it takes it.
    pub thinks: Duration,
}

#[derive(Debug)]
struct Shared {
    manners: Manners,
    mails: Mutex<Vec<String>>,
    messages: AtomicUsize,
    logins: AtomicUsize,
    open: AtomicUsize,
    open_max: AtomicUsize,
}

/// A server on a port of its own; ends with the test's process.
#[derive(Debug)]
pub struct MailServer {
    port: u16,
    shared: Arc<Shared>,
}

impl MailServer {
    /// Starts a server.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start(manners: Manners) -> MailServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            manners,
            mails: Mutex::new(Vec::new()),
            messages: AtomicUsize::new(0),
            logins: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            open_max: AtomicUsize::new(0),
        });
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&of_thread);
                std::thread::spawn(move || drop(converse(&stream, &shared)));
            }
        });
        MailServer { port, shared }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it took: envelope and message.
    #[must_use]
    pub fn mails(&self) -> Vec<String> {
        self.shared.mails.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many messages it was given, those that it did not take included.
    #[must_use]
    pub fn given(&self) -> usize {
        self.shared.messages.load(Ordering::Relaxed)
    }

    /// How many messages it had before it at once, at most: given, and not yet answered.
    #[must_use]
    pub fn at_once_max(&self) -> usize {
        self.shared.open_max.load(Ordering::Relaxed)
    }
}

fn converse(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut writer = stream;
    let mut reader = BufReader::new(stream);
    writer.write_all(b"220 test ESMTP\r\n")?;
    let mut login_wanted = shared.manners.logins_refused.is_some();
    let mut mail = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or_default().to_uppercase();
        match verb.as_str() {
            "EHLO" if login_wanted => writer.write_all(b"250-test\r\n250 AUTH PLAIN\r\n")?,
            "AUTH" => {
                let login = shared.logins.fetch_add(1, Ordering::Relaxed);
                login_wanted = login < shared.manners.logins_refused.unwrap_or(0);
                let answer = if login_wanted { "535 who are you" } else { "235 welcome" };
                write!(writer, "{answer}\r\n")?;
            }
            "MAIL" if login_wanted => writer.write_all(b"530 log in first\r\n")?,
            "MAIL" | "RCPT" => {
                mail.push_str(&line);
                writer.write_all(b"250 fine\r\n")?;
            }
            "DATA" => {
                writer.write_all(b"354 go on\r\n")?;
                if !take(&mut reader, &mut mail)? {
                    return Ok(());
                }
                judge(writer, std::mem::take(&mut mail), shared)?;
            }
            "QUIT" => {
                writer.write_all(b"221 bye\r\n")?;
                return Ok(());
            }
            _ => writer.write_all(b"250 test\r\n")?,
        }
    }
}

/// Reads a message. False where it breaks off.
fn take(reader: &mut BufReader<&TcpStream>, mail: &mut String) -> std::io::Result<bool> {
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        if line == ".\r\n" {
            return Ok(true);
        }
        mail.push_str(&line);
    }
}

/// Takes a message or not, as many servers do: what it has is delivered though nobody may be there any more to hear of it.
fn judge(mut writer: &TcpStream, mail: String, shared: &Shared) -> std::io::Result<()> {
    let open = shared.open.fetch_add(1, Ordering::Relaxed) + 1;
    shared.open_max.fetch_max(open, Ordering::Relaxed);
    std::thread::sleep(shared.manners.thinks);
    let number = shared.messages.fetch_add(1, Ordering::Relaxed);
    let failing = number < shared.manners.temporary_failures;
    if !failing {
        shared.mails.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
    }
    shared.open.fetch_sub(1, Ordering::Relaxed);
    writer.write_all(if failing { b"451 not now\r\n" } else { b"250 taken\r\n" })
}
