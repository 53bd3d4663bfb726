//! A registry of a few fixed answers, for failures that a real one does not show on request.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bellwether_wire::registry::RegistryConfig;

/// What to answer: HTTP status and body.
type Answers = Arc<Mutex<HashMap<String, (u16, String)>>>;

pub(crate) struct FakeRegistry {
    address: SocketAddr,
    answers: Answers,
    calls: Arc<AtomicUsize>,
}

impl FakeRegistry {
    /// Knows no schema.
    pub(crate) fn start() -> FakeRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let answers = Answers::default();
        let calls = Arc::new(AtomicUsize::new(0));
        let (served, counted) = (Arc::clone(&answers), Arc::clone(&calls));
        // The thread ends with the test process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let served = Arc::clone(&served);
                thread::spawn(move || answer(stream, &served));
            }
        });
        FakeRegistry { address, answers, calls }
    }

    pub(crate) fn with_schema(self, id: u32, schema: &str) -> FakeRegistry {
        self.answer(id, 200, &serde_json::json!({ "schema": schema }).to_string());
        self
    }

    /// Takes a schema under a subject, and the subject's compatibility.
    pub(crate) fn with_subject(self, subject: &str, id: u32, schema: &str) -> FakeRegistry {
        self.answer_path(
            &format!("/subjects/{subject}/versions"),
            200,
            &format!(r#"{{"id":{id}}}"#),
        );
        self.answer_path(&format!("/config/{subject}"), 200, "{}");
        self.with_schema(id, schema)
    }

    /// What is said from now on when a schema id is asked for.
    pub(crate) fn answer(&self, id: u32, status: u16, body: &str) {
        self.answer_path(&format!("/schemas/ids/{id}"), status, body);
    }

    fn answer_path(&self, path: &str, status: u16, body: &str) {
        let mut answers = self.answers.lock().expect("no test panics with the lock held");
        answers.insert(path.to_owned(), (status, body.to_owned()));
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn config(&self) -> RegistryConfig {
        RegistryConfig {
            timeout: Duration::from_millis(500),
            ..RegistryConfig::new(format!("http://{}", self.address))
        }
    }
}

/// An address where nobody listens.
pub(crate) fn nobody() -> RegistryConfig {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    RegistryConfig::new(format!("http://{address}"))
}

fn answer(mut stream: TcpStream, answers: &Answers) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket can be cloned"));
    let mut request = String::new();
    if reader.read_line(&mut request).is_err() {
        return;
    }
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let path = request.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
    let known = answers.lock().expect("no test panics with the lock held").get(&path).cloned();
    let (status, body) = known.unwrap_or_else(|| {
        (404, r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned())
    });
    if status == 0 {
        // No answer at all: the client has to give up by itself.
        thread::sleep(Duration::from_secs(2));
        return;
    }
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // A client that gave up is no failure of the test.
    drop(stream.write_all(format!("{head}{body}").as_bytes()));
}
