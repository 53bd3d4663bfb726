//! A server on a free port, a client of plain sockets, and records to publish.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bellwether_core::id::AccountId;
use bellwether_core::output::{
    AlertEvent, AlertState, Band, Category, Contribution, Evidence, HealthRecord, Maturity, Output,
    ScoreChanged, Severity, SubScore, Transition,
};
use bellwether_core::points::Points;
use bellwether_core::time::{Day, Millis};
use bellwether_engine::metrics::Metrics;
use bellwether_engine::read_model::Details;
use bellwether_server::{AppState, Ingest};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A text that a careless page would obey.
pub(crate) const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&lt;";

/// When the process began, before the events that it publishes.
pub(crate) const BEGAN_AT: Millis = Millis(1_772_000_000_000);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) state: AppState,
    records: Arc<Records>,
    runtime: tokio::runtime::Runtime,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// The published records, in the place of a store.
#[derive(Default)]
struct Records(Mutex<HashMap<AccountId, HealthRecord>>);

impl Details for Records {
    fn record(&self, id: &AccountId) -> Option<HealthRecord> {
        self.0.lock().expect("no test panics while it holds the lock").get(id).cloned()
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Server {
    pub(crate) fn start(ingest: Option<Arc<dyn Ingest>>) -> Server {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
        let state = AppState {
            read_model: Arc::default(),
            metrics: Metrics::new().expect("the table is well-formed"),
            readiness: Arc::default(),
            ingest,
            snooze_days_max: 90,
            name: "Bellwether".to_owned(),
            version: "0.1.0".to_owned(),
            began_at: BEGAN_AT,
        };
        let records: Arc<Records> = Arc::default();
        state.read_model.open_partition(0, BEGAN_AT, Arc::clone(&records) as Arc<dyn Details>);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = runtime.block_on(listener).expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = bellwether_server::serve(listener, state.clone(), async {
            // A dropped sender stops the server too.
            drop(stopped.await);
        });
        let served = runtime.spawn(serving);
        Server { address, state, records, runtime, stop, served }
    }

    pub(crate) fn publish(&self, outputs: &[Output]) {
        let mut records = self.records.0.lock().expect("no test panics while it holds the lock");
        for output in outputs {
            if let Output::Health(record) = output {
                records.insert(record.account_id.clone(), (**record).clone());
            }
        }
        drop(records);
        self.state.read_model.publish(0, BEGAN_AT.plus(1), outputs);
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], body)
    }

    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a valid time-out");
        let headers: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
             content-length: {}\r\n{headers}\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("the head is taken");
        // A server that refuses a large body by its length need not read it.
        drop(stream.write_all(body.as_bytes()));
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        assert!(read.is_ok() || !bytes.is_empty(), "no answer: {read:?}");
        let text = String::from_utf8(bytes).expect("answers are text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Answer { status: status.expect("a status"), head: head.to_owned(), body: body.to_owned() }
    }

    pub(crate) fn stop(self) {
        self.stop.send(()).expect("it still runs");
        let served = self.runtime.block_on(self.served).expect("it does not panic");
        served.expect("it ends well");
    }
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }

    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut values = lines.filter(|(of, _)| of.eq_ignore_ascii_case(name));
        values.next().map_or("", |(_, value)| value)
    }
}

fn account(id: &str) -> AccountId {
    AccountId::new(id).expect("a valid id")
}

fn line(name: &str, category: Option<Category>, points: i32) -> Contribution {
    Contribution {
        name: name.to_owned(),
        category,
        points: Points(points),
        observed: category.map(|_| 280.0),
        baseline: category.map(|_| 450.0),
        unit: category.map_or(String::new(), |_| "logins/week".to_owned()),
    }
}

fn evidence() -> Evidence {
    Evidence {
        signal: "logins".to_owned(),
        category: Category::Engagement,
        group: "usage".to_owned(),
        observed: 280.0,
        baseline: 450.0,
        unit: "logins/week".to_owned(),
        change_pct: Some(-37.8),
        z: -6.2,
        risk: true,
        onset: Day(20_486),
        window_days: 14,
        text: format!("logins fell 38 % {HOSTILE}"),
    }
}

/// A record whose lines are a base, one signal, a silent line, and a clipping that reaches the score.
pub(crate) fn health(id: &str, name: Option<&str>, score: i32, band: Band) -> Output {
    Output::Health(Box::new(HealthRecord {
        account_id: account(id),
        name: name.map(str::to_owned),
        segment: Some("smb".to_owned()),
        sequence: 3,
        at: Millis(1_772_323_200_000),
        score: Points(score),
        band,
        maturity: Maturity::Established,
        contributions: vec![
            line("base", None, 7_000),
            line("logins", Some(Category::Engagement), -5_000),
            line("projects", Some(Category::Adoption), 0),
            line("clip", None, score - 2_000),
        ],
        sub_scores: vec![SubScore {
            category: Category::Engagement,
            score: Points(2_000),
            points: Points(-5_000),
        }],
        evidence: vec![evidence()],
        masked: Vec::new(),
        rebaselined: Vec::new(),
        open_alerts: Vec::new(),
        last_event_at: Some(Millis(1_772_323_200_000)),
        policy_version: "p1".to_owned(),
        model_version: "m1".to_owned(),
    }))
}

pub(crate) fn change(id: &str, sequence: u64, score: i32) -> Output {
    Output::ScoreChanged(Box::new(ScoreChanged {
        id: format!("{id}-{sequence}"),
        account_id: account(id),
        sequence,
        at: Millis(1_772_000_000_000 + i64::try_from(sequence).expect("small") * 86_400_000),
        score: Points(score),
        previous_score: None,
        band: Band::AtRisk,
        previous_band: None,
        movements: Vec::new(),
        sub_scores: Vec::new(),
        maturity: Maturity::Established,
        policy_version: "p1".to_owned(),
        model_version: "m1".to_owned(),
    }))
}

pub(crate) fn alert(id: &str, event: u32, transition: Transition, severity: Severity) -> Output {
    Output::Alert(Box::new(AlertEvent {
        id: format!("{id}-{event}"),
        alert_id: format!("alert-{id}"),
        account_id: account(id),
        account_name: None,
        kind: "churn_risk".to_owned(),
        transition,
        severity,
        at: Millis(1_772_323_200_000 + i64::from(event)),
        opened_at: Millis(1_772_323_200_000),
        state: match transition {
            Transition::Resolved => AlertState::Resolved,
            Transition::Acknowledged => AlertState::Acknowledged,
            Transition::Snoozed => AlertState::Snoozed,
            Transition::Opened
            | Transition::Escalated
            | Transition::Updated
            | Transition::Woken
            | Transition::Reopened => AlertState::Open,
        },
        until: None,
        reopened: 0,
        by: None,
        note: None,
        resolution: None,
        title: format!("Churn risk {HOSTILE}"),
        evidence: vec![evidence()],
        groups: vec!["usage".to_owned(), "support".to_owned()],
        family: None,
        priority: 55,
        priority_parts: Vec::new(),
        score: Points(3_150),
        band: Band::AtRisk,
        policy_version: "p1".to_owned(),
        model_version: "m1".to_owned(),
    }))
}
