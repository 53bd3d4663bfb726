//! Kafka, with the configuration of the compose file.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bellwether_tests::wait_until;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};
use serde_json::Value;

use crate::compose::compose;
use crate::{assert_success, object, root, run, text};

/// The listeners' ports in the compose file.
const PORTS: [&str; 3] = ["19092", "9092", "9093"];

/// The properties that the image makes of its environment (`KAFKA_NODE_ID` is `node.id`), with its hosts, ports and
/// directory replaced by those of this test.
fn properties(environment: &Value, ports: &[u16; 3], data: &Path) -> String {
    let mut properties = String::new();
    for (name, value) in object(environment) {
        let Some(name) = name.strip_prefix("KAFKA_") else { continue };
        let name = name.to_lowercase().replace('_', ".");
        let mut value =
            text(value).replace("kafka:", "127.0.0.1:").replace("://:", "://127.0.0.1:");
        for (theirs, ours) in PORTS.iter().zip(ports) {
            value = value.replace(&format!("127.0.0.1:{theirs}"), &format!("127.0.0.1:{ours}"));
        }
        if name == "log.dirs" {
            value = data.join("log").display().to_string();
        }
        writeln!(properties, "{name}={value}").expect("a string takes any text");
    }
    properties
}

/// Killed with the test.
struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        self.0.kill().expect("it is our child, and was not waited for");
        self.0.wait().expect("it was killed");
    }
}

#[test]
fn kafka_starts_with_the_configuration_of_the_compose_file_and_takes_transactions() {
    let service = &compose()["services"]["kafka"];
    let starter = root().join("tests/harness/kafka-local.sh");
    assert_success(&run(Command::new(starter).arg("fetch")));
    let cache = std::env::var_os("BELLWETHER_CACHE").map_or_else(
        || Path::new(&std::env::var_os("HOME").expect("HOME is set")).join(".cache/bellwether"),
        Into::into,
    );
    let version = text(&service["image"]).trim_start_matches("apache/kafka:");
    let jars = cache.join(format!("kafka-{version}"));
    assert!(
        jars.is_dir(),
        "the tests run another version of Kafka than the compose file: {version}"
    );

    let data = tempfile::tempdir().expect("a temporary directory");
    let listeners =
        [0; 3].map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a free port"));
    let ports = listeners.map(|listener| listener.local_addr().expect("bound").port());
    let file = data.path().join("server.properties");
    let environment = &service["environment"];
    fs::write(&file, properties(environment, &ports, data.path())).expect("a new file");

    let java = |class: &str| {
        let mut command = Command::new("java");
        command.args([
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-cp",
            &format!("{}/*", jars.display()),
            class,
        ]);
        command
    };
    let cluster = text(&environment["CLUSTER_ID"]);
    assert_success(&run(java("kafka.tools.StorageTool")
        .args(["format", "-t", cluster, "-c"])
        .arg(&file)));
    let log = fs::File::create(data.path().join("stdout")).expect("a new file");
    let _broker = Broker(
        java("kafka.Kafka")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .expect("java ran a moment ago"),
    );

    // The listener for clients on the host, which has to send them back to itself.
    let host = format!("127.0.0.1:{}", ports[0]);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &host)
        .set("transactional.id", "deploy-test")
        .create()
        .expect("the settings are right");
    let brokers = wait_until("the broker", Duration::from_secs(60), || {
        producer.client().fetch_metadata(None, Duration::from_secs(1)).ok()
    });
    let advertised: Vec<String> = brokers
        .brokers()
        .iter()
        .map(|broker| format!("{}:{}", broker.host(), broker.port()))
        .collect();
    assert_eq!(advertised, [host]);
    // Needs the topic of the transaction coordinator, which one broker can hold only with a factor of 1.
    producer.init_transactions(Duration::from_secs(60)).expect("a transactional producer");
}
