//! Prometheus, with the committed configuration.

use std::cell::Cell;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bellwether_tests::{Bellwether, bellwether, wait_until};
use serde_json::{Value, json};

use crate::dashboard::{dashboard, queries};
use crate::{array, assert_success, read, root, run, text, yaml};

#[test]
fn promtool_accepts_the_configuration() {
    assert_success(&run(Command::new("promtool")
        .args(["check", "config"])
        .arg(root().join("deploy/prometheus/prometheus.yml"))));
}

#[test]
fn alert_rules_fire_when_they_should_and_only_then() {
    let rules = root().join("deploy/prometheus/rules.yml");
    let dir = tempfile::tempdir().expect("a temporary directory");
    for cases in ["rules_test.yml", "rules_drift_test.yml"] {
        let file = dir.path().join(cases);
        let cases = read(&format!("tests/fixtures/{cases}"));
        fs::write(&file, cases.replace("RULES", &rules.display().to_string())).expect("a new file");
        assert_success(&run(Command::new("promtool").args(["test", "rules"]).arg(&file)));
    }
}

#[test]
fn every_alert_rule_says_what_to_do_and_asks_for_metrics_that_there_are() {
    let rules = yaml("deploy/prometheus/rules.yml");
    let known: Vec<&str> = bellwether_engine::metrics::TABLE.iter().map(|of| of.name).collect();
    for rule in array(&rules["groups"][0]["rules"]) {
        let name = text(&rule["alert"]);
        assert!(text(&rule["annotations"]["runbook"]).len() > 60, "{name}");
        assert!(text(&rule["annotations"]["summary"]).ends_with('.'), "{name}");
        let words = text(&rule["expr"]).split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for metric in words.filter(|word| word.starts_with("bellwether_")) {
            assert!(known.contains(&metric), "{name}: {metric}");
        }
    }
}

/// A Prometheus of this test's own, killed with it.
struct Prometheus {
    process: Child,
    url: String,
    _data: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill().expect("it is our child, and was not waited for");
        self.process.wait().expect("it was killed");
    }
}

impl Prometheus {
    /// Starts with the committed configuration, scraping `port` as the worker, once a second.
    fn start(port: u16) -> Prometheus {
        let own_port = free_port();
        let data = tempfile::tempdir().expect("a temporary directory");
        let config = read("deploy/prometheus/prometheus.yml")
            .replace("worker:8391", &format!("127.0.0.1:{port}"))
            .replace("localhost:9090", &format!("127.0.0.1:{own_port}"))
            .replace("rules.yml", &root().join("deploy/prometheus/rules.yml").display().to_string())
            .replace("15s", "1s");
        let file = data.path().join("prometheus.yml");
        fs::write(&file, config).expect("a new file");
        let address = format!("127.0.0.1:{own_port}");
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", data.path().join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--log.level=error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus: {error}; run: make setup"));
        Prometheus { process, url: format!("http://{address}"), _data: data }
    }

    /// The result of an instant query; `None` while Prometheus does not answer yet.
    fn query(&self, query: &str) -> Option<Value> {
        let response = ureq::get(format!("{}/api/v1/query", self.url)).query("query", query).call();
        let body: Value =
            response.ok()?.into_body().read_json().expect("Prometheus answers in JSON");
        assert_eq!(body["status"], "success", "{query}: {body}");
        Some(body["data"]["result"].clone())
    }

    fn wait_for_one(&self, query: &str) {
        wait_until(query, Duration::from_secs(60), || {
            self.query(query).filter(|result| array(result).len() == 1)
        });
    }
}

/// A sink to which nothing goes.
const DELIVERY: &str = r#"
[[sink]]
name = "alertmanager"
type = "alertmanager"
url = "https://alertmanager.example/api/v2/alerts"
[[route]]
name = "urgent"
severity = ["critical"]
sinks = ["alertmanager"]
mode = "immediate"
"#;

/// The binary, on its embedded log.
pub(crate) struct Worker {
    process: Bellwether,
    url: String,
    port: u16,
    events: Cell<u64>,
    _data: tempfile::TempDir,
}

impl Worker {
    pub(crate) fn start() -> Worker {
        let port = free_port();
        let data = tempfile::tempdir().expect("a temporary directory");
        // With a notifier, whose metrics are on the dashboard, too.
        let delivery = data.path().join("delivery.toml");
        fs::write(&delivery, DELIVERY).expect("a new file");
        let mut command = bellwether(["run", "--embedded", "--delivery"]);
        command
            .arg(&delivery)
            .current_dir(data.path())
            .env("BELLWETHER_DATA_DIR", data.path())
            .env("BELLWETHER_HTTP__LISTEN", format!("127.0.0.1:{port}"));
        let url = format!("http://127.0.0.1:{port}");
        let mut process = Bellwether::spawn(command);
        process.wait_until("ready worker", Duration::from_secs(60), |_| {
            ureq::get(format!("{url}/readyz")).call().ok()
        });
        Worker { process, url, port, events: Cell::new(0), _data: data }
    }

    /// Where it serves a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Stops it, which has to go well.
    pub(crate) fn stop(&mut self) {
        assert!(self.process.terminate(Duration::from_secs(30)).success());
    }

    /// Sends a login of this moment.
    fn send_event(&self) {
        self.events.set(self.events.get() + 1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
        let event = json!({
            "event_id": format!("login-{}", self.events.get()),
            "account_id": "acme",
            "member_id": "ann",
            "type": "login",
            "occurred_at": u64::try_from(now.as_millis()).expect("this millennium"),
        });
        ureq::post(format!("{}/v1/events", self.url))
            .send_json(event)
            .expect("the worker takes it");
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound").port()
}

#[test]
fn prometheus_scrapes_a_worker_and_answers_the_queries_of_the_dashboard() {
    let mut worker = Worker::start();
    let prometheus = Prometheus::start(worker.port);
    prometheus.wait_for_one("up{job=\"bellwether\"} == 1");
    prometheus.wait_for_one("up{job=\"prometheus\"} == 1");
    // The series of a topic begins with its first event, and a rate needs two scrapes of it.
    wait_until("a rate of events", Duration::from_secs(60), || {
        worker.send_event();
        let rate = prometheus.query("sum(rate(bellwether_events_in_total[1m])) > 0")?;
        (!array(&rate).is_empty()).then_some(())
    });
    for (title, query) in queries(&dashboard()) {
        let ask = || prometheus.query(&query).unwrap_or_else(|| panic!("{title}: {query} failed"));
        // No alert has opened, and its kinds come from the policy: there is no series yet.
        if query.contains("alert_transitions") {
            ask();
            continue;
        }
        // Gauges follow once a second, and the next scrape has them: two scrapes of a counter may come before.
        wait_until(&format!("a series of {title}: {query}"), Duration::from_secs(60), || {
            (!array(&ask()).is_empty()).then_some(())
        });
    }
    worker.stop();
}
