//! Prometheus, with the committed configuration.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use bellwether_core::reject::Reason;
use bellwether_engine::log::Lag;
use bellwether_engine::metrics::Metrics;
use bellwether_tests::wait_until;
use serde_json::Value;

use crate::dashboard::{dashboard, queries};
use crate::{array, assert_success, read, request_line, root, run};

#[test]
fn promtool_accepts_the_configuration() {
    assert_success(&run(Command::new("promtool")
        .args(["check", "config"])
        .arg(root().join("deploy/prometheus/prometheus.yml"))));
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
        let own_port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let data = tempfile::tempdir().expect("a temporary directory");
        let config = read("deploy/prometheus/prometheus.yml")
            .replace("worker:8391", &format!("127.0.0.1:{port}"))
            .replace("localhost:9090", &format!("127.0.0.1:{own_port}"))
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

/// The metrics of a worker that has seen a little of everything.
fn worker_metrics() -> Metrics {
    let metrics = Metrics::new().expect("the table of metrics is sound");
    metrics.build_info("0.0.0", "test");
    metrics.events_in("usage.events.v1", 7);
    metrics.rejected(Reason::ALL[0], 1);
    metrics.committed(Duration::from_millis(5), 7);
    metrics.lag(&[Lag { topic: "usage.events.v1".into(), partition: 0, records: 3 }]);
    metrics.watermark_lag(0, 1_500);
    metrics.state_bytes(0, 4_096);
    metrics.restore(0, 2, 5);
    metrics
}

/// Serves `/metrics` on a free port for as long as the test process lives, and returns the port.
fn serve(metrics: Metrics) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a scrape connects");
            assert!(request_line(&stream).starts_with("GET /metrics "));
            metrics.events_in("usage.events.v1", 10);
            let body = metrics.render().expect("the metrics are printable");
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .expect("the scraper reads");
        }
    });
    port
}

#[test]
fn prometheus_runs_with_the_configuration_and_answers_the_queries_of_the_dashboard() {
    let prometheus = Prometheus::start(serve(worker_metrics()));
    prometheus.wait_for_one("up{job=\"bellwether\"} == 1");
    prometheus.wait_for_one("up{job=\"prometheus\"} == 1");
    // Two scrapes make a rate.
    prometheus.wait_for_one("rate(bellwether_events_in_total[1m]) > 0");
    for (title, query) in queries(&dashboard()) {
        let result = prometheus.query(&query).unwrap_or_else(|| panic!("{title}: {query} failed"));
        // Nothing was published here, so what is made of outputs alone has no series or no value yet.
        if !query.contains("alert_transitions") {
            assert!(!array(&result).is_empty(), "{title}: {query} finds no series");
        }
    }
}
