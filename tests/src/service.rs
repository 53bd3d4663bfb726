//! Kafka and the schema registry as child processes that cannot outlive the test process: the starter scripts stop them when their
//! standard input ends, and the kernel ends it when the test process goes, however that happens.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::proxy::Proxy;

/// Brokers in a [`KafkaCluster::start_three`].
const QUORUM: u16 = 3;

/// Kafka of its own; stopped on drop.
#[derive(Debug)]
pub struct KafkaCluster {
    service: Service,
    doors: Vec<String>,
}

impl KafkaCluster {
    /// Starts one broker on a free port, with no topics.
    ///
    /// # Panics
    /// If it cannot be started; the message says what to install.
    #[must_use]
    pub fn start() -> KafkaCluster {
        KafkaCluster::start_with(2, &[], Vec::new())
    }

    /// Starts three brokers: three replicas of everything, two of which have to be in sync.
    ///
    /// # Panics
    /// See [`KafkaCluster::start`].
    #[must_use]
    pub fn start_three() -> KafkaCluster {
        KafkaCluster::start_with(2 * QUORUM, &["--brokers", &QUORUM.to_string()], Vec::new())
    }

    /// Starts one broker that is also reached through each of these proxies, and connects them to it. Who comes through a proxy
    /// is sent back to that proxy, never past it.
    ///
    /// # Panics
    /// See [`KafkaCluster::start`].
    #[must_use]
    pub fn start_behind(proxies: &[&Proxy]) -> KafkaCluster {
        let count = u16::try_from(proxies.len()).expect("a few proxies");
        let doors: Vec<String> = proxies.iter().map(|proxy| proxy.address()).collect();
        let cluster =
            KafkaCluster::start_with(2 + count, &["--doors", &doors.join(",")], doors.clone());
        let (host, port) = cluster.bootstrap().rsplit_once(':').expect("host:port");
        let port: u16 = port.parse().expect("a port");
        for (proxy, number) in proxies.iter().zip(0..) {
            proxy.connect_to(&format!("{host}:{}", port + 2 + number));
        }
        cluster
    }

    fn start_with(ports: u16, arguments: &[&str], doors: Vec<String>) -> KafkaCluster {
        KafkaCluster { service: Service::start("kafka-local.sh", ports, arguments), doors }
    }

    /// `host:port` of the brokers.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.service.address
    }

    /// `host:port` of the proxies that it was started behind, in their order.
    #[must_use]
    pub fn doors(&self) -> &[String] {
        &self.doors
    }

    /// Kills broker `number` (from 1) at once, as a power cut would.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill_broker(&mut self, number: i32) {
        self.service.tell(&format!("kill {number}"));
    }

    /// Starts a broker again that was killed, and waits until it serves.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_broker(&mut self, number: i32) {
        self.service.tell(&format!("start {number}"));
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
        Registry(Service::start("registry-local.sh", 2, &[]))
    }

    /// Base URL of Confluent's API.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.address
    }
}

/// A port `p` that is free together with `p + 1`.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port_pair() -> u16 {
    free_ports(2)
}

/// The first of `count` free ports side by side. They lie below those that systems give to outgoing connections (from 32768 on
/// Linux): a broker that is down for a while finds its ports free when it comes back.
fn free_ports(count: u16) -> u16 {
    const PORTS: std::ops::Range<u16> = 18_000..32_000;
    // Tests of several processes begin at different places, and those of one process never at the same.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % 700).expect("below 700") * 20;
    let first = (0..1_000).find_map(|_| {
        let offset = process.wrapping_add(NEXT.fetch_add(count, Ordering::Relaxed));
        let port = PORTS.start + offset % (PORTS.end - PORTS.start - count);
        let all: Option<Vec<TcpListener>> =
            (port..port + count).map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).collect();
        all.map(|_| port)
    });
    first.unwrap_or_else(|| panic!("this machine has no {count} free ports side by side"))
}

#[derive(Debug)]
struct Service {
    script: Child,
    said: BufReader<ChildStdout>,
    address: String,
}

impl Service {
    fn start(script: &str, ports: u16, arguments: &[&str]) -> Service {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("harness").join(script);
        let mut child = Command::new("bash")
            .arg(&path)
            .args(["run", "--port", &free_ports(ports).to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run bash {}: {error}", path.display()));
        let said = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut service = Service { script: child, said, address: String::new() };
        let line = service.line();
        let Some(address) = line.strip_prefix("ready ") else {
            panic!(
                "\n\n{script} could not start, so this test cannot run:\n{}\n",
                service.last_words()
            );
        };
        address.clone_into(&mut service.address);
        service
    }

    /// Gives the script a command and waits until it is carried out.
    fn tell(&mut self, command: &str) {
        let stdin = self.script.stdin.as_mut().expect("stdin is piped");
        writeln!(stdin, "{command}").expect("the script reads its commands");
        let line = self.line();
        if line != format!("done {command}") {
            panic!("`{command}` was not carried out, but `{line}`: {}", self.last_words());
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("a script's output is text");
        line.trim_end().to_owned()
    }

    /// What a script that gave up says.
    fn last_words(&mut self) -> String {
        drop(self.script.stdin.take());
        let mut reason = String::new();
        let mut stderr = self.script.stderr.take().expect("stderr is piped, and read once");
        stderr.read_to_string(&mut reason).expect("a script's messages are text");
        reason
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
