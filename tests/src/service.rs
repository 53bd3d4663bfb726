//! Kafka and the schema registry as child processes that cannot outlive the test process: the starter scripts stop them when their
//! standard input ends, and the kernel ends it when the test process goes, however that happens.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A Kafka broker of its own; stopped on drop.
#[derive(Debug)]
pub struct KafkaCluster(Service);

impl KafkaCluster {
    /// Starts one broker on a free port, with no topics.
    ///
    /// # Panics
    /// If it cannot be started; the message says what to install.
    #[must_use]
    pub fn start() -> KafkaCluster {
        KafkaCluster(Service::start("kafka-local.sh"))
    }

    /// `host:port` of the broker.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.0.address
    }
}

/// The broker that the tests of one binary share; use topics of unique names.
///
/// # Panics
/// See [`KafkaCluster::start`].
#[must_use]
pub fn shared_kafka() -> &'static KafkaCluster {
    static SHARED: OnceLock<KafkaCluster> = OnceLock::new();
    SHARED.get_or_init(KafkaCluster::start)
}

/// A schema registry of its own; stopped on drop.
#[derive(Debug)]
pub struct Registry(Service);

impl Registry {
    /// Starts an empty registry on a free port.
    ///
    /// # Panics
    /// If it cannot be started; the message says what to install.
    #[must_use]
    pub fn start() -> Registry {
        Registry(Service::start("registry-local.sh"))
    }

    /// Base URL of Confluent's API.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.address
    }
}

/// A port `p` that is free together with `p + 1`: both services need two.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port_pair() -> u16 {
    let pair = (0..100).find_map(|_| {
        let first = TcpListener::bind(("127.0.0.1", 0)).ok()?;
        let port = first.local_addr().ok()?.port();
        TcpListener::bind(("127.0.0.1", port.checked_add(1)?)).ok()?;
        Some(port)
    });
    pair.expect("a machine has two free ports side by side")
}

#[derive(Debug)]
struct Service {
    script: Child,
    address: String,
}

impl Service {
    fn start(script: &str) -> Service {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("harness").join(script);
        let mut child = Command::new("bash")
            .arg(&path)
            .args(["run", "--port", &free_port_pair().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run bash {}: {error}", path.display()));
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a script's output is text");
        let Some(address) = line.trim_end().strip_prefix("ready ") else {
            let mut reason = String::new();
            let mut stderr = child.stderr.take().expect("stderr is piped");
            stderr.read_to_string(&mut reason).expect("a script's messages are text");
            child.wait().expect("a child can be waited for");
            panic!("\n\n{script} could not start, so this test cannot run:\n{reason}\n");
        };
        Service { address: address.to_owned(), script: child }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The script kills the service and removes its data. A panic here would hide the test's own.
        drop(self.script.stdin.take());
        if let Err(error) = self.script.wait() {
            eprintln!("a service was not stopped: {error}");
        }
    }
}
