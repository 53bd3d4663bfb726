//! The server over a real connection: probes, API, ingest and pages.

mod looked;
mod pages;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bellwether_core::id::{AccountId, EventId};
use bellwether_core::output::{AlertEvent, Band, Output, Severity, Transition};
use bellwether_core::reject::{Reason, Reject};
use bellwether_core::time::Millis;
use bellwether_server::{
    BODY_BYTES_MAX, Feed, Ingest, IngestError, IngestReceipt, LoggedAlert, LookedBack, Rejected,
    Stood,
};
use serde_json::Value;
use support::{BEGAN_AT, HOSTILE, Server, alert, change, health};

/// How far back the log is looked through, where not all of it is: after the first event of an alert, and before the second.
const LOOKED_BACK_TO: Millis = Millis(1_772_323_200_002);

/// Accepts events that name an account, and keeps them.
#[derive(Default)]
struct Collector {
    taken: std::sync::Mutex<Vec<String>>,
}

impl Ingest for Collector {
    fn forget(&self, account: &AccountId) -> Result<(), IngestError> {
        self.taken.lock().expect("no test panics with it").push(format!("delete {account}"));
        Ok(())
    }

    fn unmask(&self, entry: &EventId) -> Result<(), IngestError> {
        self.taken.lock().expect("no test panics with it").push(format!("unmask {entry}"));
        Ok(())
    }

    fn entries(&self) -> Result<Vec<Value>, IngestError> {
        Ok(vec![serde_json::json!({"entry_id": "1"})])
    }

    fn alert_events(
        &self,
        account: Option<&AccountId>,
        id: &str,
    ) -> Result<LoggedAlert, IngestError> {
        if id.starts_with("unreadable") {
            let (detail, retry_after) = ("the registry is away".to_owned(), Duration::from_secs(3));
            return Err(IngestError::Unreadable { detail, retry_after });
        }
        let logged = [
            alert("long-ago", 1, Transition::Opened, Severity::Low),
            alert("long-ago", 2, Transition::Resolved, Severity::Low),
            alert("gone", 1, Transition::Opened, Severity::Low),
            alert("gone", 2, Transition::Resolved, Severity::Low),
            alert("x", 0, Transition::Opened, Severity::Low),
        ];
        let events = logged.into_iter().filter_map(|output| output.alert().cloned());
        let meant = |event: &AlertEvent| {
            event.alert_id.starts_with(id) && account.is_none_or(|of| event.account_id == *of)
        };
        let mut events: Vec<AlertEvent> = events.filter(meant).collect();
        // As if the log were looked through, or kept, from here on.
        let looked_back = match id {
            id if id.starts_with("alert-long-a") => LookedBack::Newest(LOOKED_BACK_TO),
            id if id.contains("gone") => LookedBack::Kept(LOOKED_BACK_TO),
            id if id.contains("before") => LookedBack::Newest(LOOKED_BACK_TO),
            _ => LookedBack::Whole,
        };
        events.retain(|event| looked_back.to().is_none_or(|back_to| event.at >= back_to));
        Ok(LoggedAlert { events, looked_back })
    }

    fn account_at(&self, account: &AccountId, at: Millis) -> Result<Stood, IngestError> {
        if account.as_str() == "unreadable" {
            let (detail, retry_after) = ("the registry is away".to_owned(), Duration::from_secs(3));
            return Err(IngestError::Unreadable { detail, retry_after });
        }
        let Output::Health(record) = health(account.as_str(), None, 4_200, Band::Neutral) else {
            unreachable!("a health record")
        };
        let Output::Alert(event) = alert("x", 1, Transition::Opened, Severity::Low) else {
            unreachable!("an alert")
        };
        Ok(match at.iso().get(..4) {
            Some("2020") => Stood::Nothing,
            Some("2018") => Stood::Partly { looked_back: LookedBack::Kept(LOOKED_BACK_TO) },
            Some("2021") => Stood::Partly { looked_back: LookedBack::Newest(LOOKED_BACK_TO) },
            Some("2022") => {
                let looked_back = LookedBack::Newest(LOOKED_BACK_TO);
                Stood::Known { record, alerts: vec![*event], looked_back }
            }
            _ => Stood::Known { record, alerts: vec![*event], looked_back: LookedBack::Whole },
        })
    }

    fn promotions(&self) -> Result<Vec<Value>, IngestError> {
        Ok(vec![serde_json::json!({"promotion_id": "1"})])
    }

    fn shadow(&self) -> Result<Vec<Value>, IngestError> {
        Ok(vec![serde_json::json!({"shadow_id": "1"})])
    }

    fn ingest(&self, _feed: Feed, bodies: Vec<Vec<u8>>) -> Result<IngestReceipt, IngestError> {
        let mut receipt = IngestReceipt::default();
        for (index, body) in bodies.into_iter().enumerate() {
            let text = String::from_utf8_lossy(&body).into_owned();
            match text.as_str() {
                text if text.contains("busy") => {
                    return Err(IngestError::Busy { retry_after: Duration::from_secs(7) });
                }
                text if text.contains("account_id") => {
                    receipt.accepted += 1;
                    self.taken.lock().expect("no test panics with it").push(text.to_owned());
                }
                _ => {
                    let reject = Reject::new(Reason::InvalidField, "account_id is missing");
                    receipt.rejected.push(Rejected { index, reject });
                }
            }
        }
        Ok(receipt)
    }
}

/// How far back an answer says that was looked, and why not further.
fn back(answer: &Value) -> (Option<String>, Value) {
    (answer["looked_back_to"].as_str().map(str::to_owned), answer["older_records"].clone())
}

fn strings<'a>(value: &'a Value, list: &str, field: &str) -> Vec<&'a str> {
    let items = value[list].as_array().expect("a list");
    items.iter().map(|item| item[field].as_str().expect("a text")).collect()
}

#[test]
fn readiness_flips_with_restore_and_heartbeat() {
    let server = Server::start(None);
    assert_eq!(server.get("/healthz").status, 200);
    let answer = server.get("/readyz");
    assert_eq!(answer.status, 503);
    assert!(answer.json()["missing"].to_string().contains("no worker has started"));
    server.state.readiness.beat(0, Instant::now());
    server.state.readiness.assigned(0, &[0]);
    server.state.readiness.restoring(0, 12);
    let answer = server.get("/readyz");
    assert_eq!(
        (answer.status, answer.json()["partitions_restoring"][0]["records_remaining"].as_u64()),
        (503, Some(12))
    );
    server.state.readiness.ready(0);
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn metrics_show_the_read_model() {
    let server = Server::start(None);
    server.publish(&[
        health("a", None, 2_000, Band::AtRisk),
        alert("a", 1, Transition::Opened, Severity::High),
    ]);
    let answer = server.get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(answer.body.contains("bellwether_accounts{band=\"at_risk\"} 1\n"));
    assert!(answer.body.contains("bellwether_open_alerts{severity=\"high\"} 1\n"));
}

#[test]
fn accounts_are_listed_by_score_and_paged_to_the_end() {
    let server = Server::start(None);
    let outputs: Vec<Output> = (0..25)
        .map(|number| {
            let band = if number < 10 { Band::AtRisk } else { Band::Healthy };
            health(&format!("acct/{number:02}"), None, 1_000 + 100 * number, band)
        })
        .collect();
    server.publish(&outputs);
    let mut seen = Vec::new();
    let mut path = "/v1/accounts?limit=10".to_owned();
    let mut pages = 0;
    loop {
        let page = server.get(&path).json();
        seen.extend(strings(&page, "accounts", "account_id").iter().map(|id| (*id).to_owned()));
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/accounts?limit=10&cursor={cursor}"),
            None => break,
        }
    }
    let expected: Vec<String> = (0..25).map(|number| format!("acct/{number:02}")).collect();
    assert_eq!((seen, pages), (expected, 3));
    let risky = server.get("/v1/accounts?band=at_risk&limit=10").json();
    assert_eq!(risky["accounts"].as_array().map(Vec::len), Some(10));
    assert_eq!(risky["next_cursor"], Value::Null);
    let found = server.get("/v1/accounts?q=ACCT%2F07").json();
    assert_eq!(strings(&found, "accounts", "account_id"), ["acct/07"]);
}

#[test]
fn an_account_comes_with_lines_that_add_up() {
    let server = Server::start(None);
    server.publish(&[
        health("acme", Some("Acme"), 3_150, Band::AtRisk),
        change("acme", 1, 8_000),
        change("acme", 2, 3_150),
        alert("acme", 1, Transition::Opened, Severity::Critical),
        alert("other", 1, Transition::Opened, Severity::Low),
    ]);
    let answer = server.get("/v1/accounts/acme").json();
    let account = &answer["account"];
    let lines = account["contributions"].as_array().expect("lines");
    let sum: i64 = lines.iter().map(|line| line["centipoints"].as_i64().expect("points")).sum();
    assert_eq!((Some(sum), account["score_centipoints"].as_i64()), (Some(3_150), Some(3_150)));
    assert_eq!(account["score"].as_f64(), Some(31.5));
    assert_eq!(account["evidence"][0]["onset"].as_str(), Some("2026-02-02"));
    assert_eq!(answer["score_changes"][0]["sequence"].as_i64(), Some(2));
    assert_eq!(strings(&answer, "alerts", "account_id"), ["acme"]);
}

#[test]
fn alerts_are_filtered() {
    let server = Server::start(None);
    server.publish(&[
        alert("a", 1, Transition::Opened, Severity::High),
        alert("b", 1, Transition::Opened, Severity::Low),
        alert("b", 2, Transition::Resolved, Severity::Low),
    ]);
    let all = server.get("/v1/alerts").json();
    assert_eq!(strings(&all, "alerts", "id"), ["b-2", "b-1", "a-1"]);
    let open = server.get("/v1/alerts?open=true").json();
    assert_eq!(strings(&open, "alerts", "id"), ["a-1"]);
    let ended = server.get("/v1/alerts?open=false").json();
    assert_eq!(strings(&ended, "alerts", "id"), ["b-2"]);
    let low = server.get("/v1/alerts?severity=low&limit=1").json();
    assert_eq!(strings(&low, "alerts", "id"), ["b-2"]);
}

#[test]
fn alerts_are_found_by_state_kind_account_and_id() {
    let server = Server::start(None);
    server.publish(&[
        alert("a", 1, Transition::Opened, Severity::High),
        alert("a", 2, Transition::Acknowledged, Severity::High),
        alert("b", 1, Transition::Opened, Severity::Low),
        alert("c", 1, Transition::Opened, Severity::Low),
        alert("c", 2, Transition::Resolved, Severity::Low),
    ]);
    for (query, ids) in [
        ("state=acknowledged", vec!["a-2"]),
        ("state=open", vec!["b-1"]),
        ("state=resolved", vec!["c-2"]),
        ("state=snoozed", vec![]),
        ("open=true&kind=churn_risk", vec!["a-2", "b-1"]),
        ("open=true&kind=silence", vec![]),
        ("account=c", vec!["c-2", "c-1"]),
    ] {
        let found = server.get(&format!("/v1/alerts?{query}")).json();
        assert_eq!(strings(&found, "alerts", "id"), ids, "{query}");
    }
    let one = server.get("/v1/alerts/alert-a").json();
    assert_eq!(one["alert"]["state"], "acknowledged");
    assert_eq!(strings(&one, "events", "id"), ["a-2", "a-1"]);
    assert_eq!(server.get("/v1/alerts/alert-").status, 404, "too short to be meant");
    assert_eq!(server.get("/v1/alerts/alert-x").status, 404);
    assert_eq!(server.get("/v1/alerts?state=closed").status, 400);
}

#[test]
fn an_alert_that_came_back_is_open_and_one_that_ended_twice_is_one() {
    let server = Server::start(None);
    server.publish(&[
        alert("back", 1, Transition::Opened, Severity::High),
        alert("back", 2, Transition::Resolved, Severity::High),
        alert("back", 3, Transition::Reopened, Severity::High),
        alert("twice", 1, Transition::Opened, Severity::Low),
        alert("twice", 2, Transition::Resolved, Severity::Low),
        alert("twice", 3, Transition::Reopened, Severity::Medium),
        alert("twice", 4, Transition::Resolved, Severity::Medium),
    ]);
    for (query, ids) in [
        ("state=resolved", vec!["twice-4"]),
        ("open=false", vec!["twice-4"]),
        ("open=false&severity=low", vec![]),
        ("state=resolved&account=back", vec![]),
        ("state=open", vec!["back-3"]),
    ] {
        let found = server.get(&format!("/v1/alerts?{query}")).json();
        assert_eq!(strings(&found, "alerts", "id"), ids, "{query}");
    }
    let page = server.get("/alerts?open=false").body;
    assert_eq!(page.matches("<article").count(), 1, "{page}");
}

#[test]
fn open_alerts_are_listed_by_priority() {
    let server = Server::start(None);
    let prioritised = |id: &str, event, severity, priority| {
        let mut output = alert(id, event, Transition::Opened, severity);
        if let Output::Alert(event) = &mut output {
            event.priority = priority;
        }
        output
    };
    server.publish(&[
        prioritised("renews", 1, Severity::Medium, 85),
        prioritised("loud", 2, Severity::Critical, 60),
        prioritised("later", 3, Severity::Low, 60),
    ]);
    let open = server.get("/v1/alerts?open=true").json();
    assert_eq!(strings(&open, "alerts", "account_id"), ["renews", "later", "loud"]);
    let page = server.get("/alerts?open=true").body;
    let places = ["renews", "later", "loud"].map(|id| page.find(&format!("/accounts/{id}")));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{page}");
}

#[test]
fn commands_go_to_an_alert_by_its_id() {
    let collector = Arc::new(Collector::default());
    let server = Server::start(Some(Arc::clone(&collector) as Arc<dyn Ingest>));
    server.publish(&[
        health("a b/c", None, 5_000, Band::Neutral),
        alert("a b/c", 1, Transition::Opened, Severity::High),
        alert("x", 1, Transition::Opened, Severity::Low),
        alert("x", 2, Transition::Resolved, Severity::Low),
    ]);
    let path = "/v1/alerts/alert-a%20b%2Fc/outcomes";
    let said = r#"{"kind":"acknowledged","by":"kim","account_id":"other","alert_id":"other"}"#;
    let answer = server.post(path, said);
    assert_eq!((answer.status, answer.json()["account_id"].as_str()), (202, Some("a b/c")));
    for (path, body, status) in [
        (path, r#"{"kind":"churned"}"#, 400),
        (path, r#"{"kind":"vanished"}"#, 400),
        (path, "[]", 400),
        ("/v1/alerts/alert-nobody/outcomes", said, 404),
        ("/v1/alerts/alert-x/outcomes", said, 409),
    ] {
        assert_eq!(server.post(path, body).status, status, "{path} {body}");
    }
    let verdict = r#"{"kind":"false_positive"}"#;
    assert_eq!(server.post("/v1/alerts/alert-x/outcomes", verdict).status, 202);

    // What the log has, and the process does not know.
    let known = server.get("/v1/alerts/alert-x").json();
    assert_eq!(
        (strings(&known, "events", "id"), &known["whole"]),
        (vec!["x-2", "x-1"], &true.into())
    );
    let all = server.get("/v1/alerts/alert-x?history=true").json();
    assert_eq!(
        (strings(&all, "events", "id"), &all["whole"]),
        (vec!["x-2", "x-1", "x-0"], &true.into())
    );
    let ended = server.get("/v1/alerts/alert-long?history=true").json();
    assert_eq!(strings(&ended, "events", "id"), ["long-ago-2", "long-ago-1"]);
    assert_eq!(ended["whole"], true);
    // Where its beginning lies further back than was looked, that is said; where the log cannot be read, that is no answer.
    let some = server.get("/v1/alerts/alert-long-ago?history=true").json();
    assert_eq!(
        (strings(&some, "events", "id"), &some["whole"]),
        (vec!["long-ago-2"], &false.into())
    );
    assert_eq!(back(&some), (Some(LOOKED_BACK_TO.iso()), "unread".into()));
    // Or is no longer kept. Of what is known from its beginning on, it matters to nobody.
    let gone = server.get("/v1/alerts/alert-gone?history=true").json();
    assert_eq!(
        (strings(&gone, "events", "id"), &gone["whole"], back(&gone)),
        (vec!["gone-2"], &false.into(), (Some(LOOKED_BACK_TO.iso()), "gone".into()))
    );
    assert_eq!(back(&all), (None, Value::Null));
    // Without the log: since when the process is told, and not when something happened.
    assert_eq!(back(&known), (Some(BEGAN_AT.iso()), "unread".into()));
    let away = server.get("/v1/alerts/unreadable?history=true");
    assert_eq!((away.status, away.header("retry-after")), (503, "3"));
    assert!(away.json()["detail"].as_str().is_some_and(|it| it.contains("the registry is away")));
    for path in [
        "/v1/alerts/alert-y-and-more?history=true",
        "/v1/alerts/alert-long",
        "/v1/alerts/al?history=true",
    ] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    assert_eq!(server.get("/v1/alerts/alert-x?history=soon").status, 400);

    let page = server.get("/accounts/a%20b%2Fc").body;
    assert!(page.contains("value=\"snoozed\"") && page.contains("value=\"resolved\""), "{page}");
    let form =
        [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "same-origin")];
    let button = "/accounts/a%20b%2Fc/alerts/alert-a%20b%2Fc/feedback";
    assert_eq!(server.send("POST", button, &form, "kind=snoozed").status, 303);
    let taken = collector.taken.lock().expect("no test panics with it");
    let taken: Vec<Value> =
        taken.iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    let expected = serde_json::json!({"kind": "acknowledged", "by": "kim", "account_id": "a b/c", "alert_id": "alert-a b/c"});
    assert_eq!((taken.len(), &taken[0]), (3, &expected), "whose it is, the alert says");
    assert_eq!(taken[2]["kind"], "snoozed");
    assert!(taken[2]["until"].is_string(), "{taken:?}");
    let closed = Server::start(None);
    closed.publish(&[alert("x", 1, Transition::Opened, Severity::Low)]);
    assert_eq!(closed.post("/v1/alerts/alert-x/outcomes", verdict).status, 404);
}

#[test]
fn mistakes_are_answered_with_a_problem_that_says_what_is_allowed() {
    let server = Server::start(None);
    for (path, status, words) in [
        ("/v1/accounts/nobody", 404, "no account"),
        ("/v1/accounts/%00", 400, "control characters"),
        ("/v1/accounts/%FF", 400, "UTF-8"),
        ("/v1/accounts?band=green", 400, "at_risk, neutral or healthy"),
        ("/v1/accounts?limit=0", 400, "from 1 to 500"),
        ("/v1/accounts?cursor=x", 400, "next_cursor"),
        ("/v1/accounts?colour=red", 400, "colour"),
        ("/v1/alerts?severity=loud", 400, "critical"),
        ("/v1/alerts?open=maybe", 400, "true or false"),
        ("/v1/nothing", 404, "nothing at this path"),
        ("/v1/events", 405, "POST"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        let problem = answer.json();
        assert_eq!(problem["status"].as_u64(), Some(u64::from(status)), "{path}");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(words), "{path}: {detail}");
    }
}

#[test]
fn events_are_taken_one_by_one_or_together() {
    let collector = Arc::new(Collector::default());
    let server = Server::start(Some(Arc::clone(&collector) as Arc<dyn Ingest>));
    let answer = server.post("/v1/events", "{\"account_id\":\"a\",\"value\":1.50}");
    assert_eq!((answer.status, answer.json()["accepted"].as_u64()), (202, Some(1)));
    let answer =
        server.post("/v1/events", "[{\"account_id\":\"b\"}, {\"id\":1}, {\"account_id\":\"c\"}]");
    let json = answer.json();
    assert_eq!((answer.status, json["accepted"].as_u64()), (202, Some(2)));
    assert_eq!(json["rejected"][0]["index"].as_u64(), Some(1));
    assert_eq!(json["rejected"][0]["reason"].as_str(), Some("invalid_field"));
    let answer = server.post("/v1/events", "{\"account_id\":\"d\"}\n{\"account_id\":\"e\"}\n");
    assert_eq!(answer.json()["accepted"].as_u64(), Some(2));
    let taken = collector.taken.lock().expect("no test panics with it");
    assert_eq!(taken.len(), 5);
    assert_eq!(taken[0], "{\"account_id\":\"a\",\"value\":1.50}", "bytes stay as they came");
}

#[test]
fn events_that_cannot_be_taken_say_why() {
    let server = Server::start(Some(Arc::new(Collector::default())));
    let answer = server.post("/v1/events", "{\"id\":1}");
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["rejected"][0]["detail"].as_str(), Some("account_id is missing"));
    assert_eq!(server.post("/v1/events", "").status, 400);
    let answer = server.post("/v1/events", "{\"busy\":1}");
    assert_eq!((answer.status, answer.header("retry-after")), (429, "7"));
    let answer = server.post("/v1/events", &"x".repeat(BODY_BYTES_MAX + 1));
    assert_eq!(answer.status, 413);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let foreign = [("sec-fetch-site", "cross-site"), ("origin", "http://evil.example")];
    for header in foreign {
        let answer = server.send("POST", "/v1/events", &[header], "{\"account_id\":\"a\"}");
        assert_eq!(answer.status, 403, "{header:?}");
    }
    let closed = Server::start(None);
    assert_eq!(closed.post("/v1/events", "{\"account_id\":\"a\"}").status, 404);
}

#[test]
fn an_account_is_deleted_on_request_and_not_by_foreign_pages() {
    let collector = Arc::new(Collector::default());
    let server = Server::start(Some(Arc::clone(&collector) as Arc<dyn Ingest>));
    let answer = server.send("DELETE", "/v1/accounts/a%20b%2Fc", &[], "");
    assert_eq!((answer.status, answer.json()["account_id"].as_str()), (202, Some("a b/c")));
    let foreign = [("sec-fetch-site", "cross-site")];
    assert_eq!(server.send("DELETE", "/v1/accounts/a", &foreign, "").status, 403);
    assert_eq!(server.send("DELETE", "/v1/accounts/a%0Ab", &[], "").status, 400);
    assert_eq!(*collector.taken.lock().expect("no test panics with it"), ["delete a b/c"]);
    let answer = server.send("DELETE", "/v1/calendar/xmas%202026", &[], "");
    assert_eq!((answer.status, answer.json()["entry_id"].as_str()), (202, Some("xmas 2026")));
    assert_eq!(collector.taken.lock().expect("no test panics with it")[1], "unmask xmas 2026");
    assert_eq!(strings(&server.get("/v1/calendar").json(), "entries", "entry_id"), ["1"]);
    let closed = Server::start(None);
    assert_eq!(closed.send("DELETE", "/v1/accounts/a", &[], "").status, 404);
}

#[test]
fn a_stop_finishes_and_closes_the_port() {
    let server = Server::start(None);
    assert_eq!(server.get("/style.css").status, 200);
    let address = server.address;
    server.stop();
    assert!(std::net::TcpStream::connect(address).is_err());
}
