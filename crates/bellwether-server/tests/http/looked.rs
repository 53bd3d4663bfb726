//! How far back was looked for what is answered, and why not further.

use bellwether_core::output::HealthRecord;
use bellwether_engine::read_model::Details;

use super::*;

#[test]
fn an_alert_that_is_unknown_comes_with_how_far_back_was_looked() {
    let server = Server::start(Some(Arc::new(Collector::default())));
    let unknown = |path: &str| {
        let answer = server.get(path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        let problem = answer.json();
        assert_eq!(
            (&problem["type"], &problem["title"], &problem["status"]),
            (&"unknown-alert".into(), &"Unknown alert".into(), &404.into()),
            "{path}"
        );
        let detail = problem["detail"].as_str().expect("a detail").to_owned();
        (back(&problem), detail)
    };
    // What the process was told of since it began; the log up to where it is looked through; and all of the log.
    let (began, detail) = unknown("/v1/alerts/ffffffff");
    assert_eq!(began, (Some(BEGAN_AT.iso()), "unread".into()));
    assert!(detail.contains(&BEGAN_AT.iso()), "{detail}");
    let (back_to, detail) = unknown("/v1/alerts/long-before?history=true");
    assert_eq!(back_to, (Some(LOOKED_BACK_TO.iso()), "unread".into()));
    assert!(detail.contains("goes back to 2026-03-01T00:00:00.002Z"), "{detail}");
    assert!(detail.contains("--embedded"), "there may be more: {detail}");
    let (back_to, detail) = unknown("/v1/alerts/one-gone?history=true");
    assert_eq!(back_to, (Some(LOOKED_BACK_TO.iso()), "gone".into()));
    assert!(
        detail.contains("all that the log keeps") && !detail.contains("--embedded"),
        "{detail}"
    );
    let (never, detail) = unknown("/v1/alerts/ffffffff?history=true");
    assert_eq!(never, (None, Value::Null));
    assert!(detail.contains("there never was an alert"), "{detail}");
    let said = server.post("/v1/alerts/ffffffff/outcomes", r#"{"kind":"resolved"}"#);
    assert_eq!((said.status, &said.json()["type"]), (404, &"unknown-alert".into()));
    // Nothing at a path is another problem.
    assert_eq!(server.get("/v1/nothing").json()["type"], "about:blank");

    // One of which the process knows no beginning.
    server.publish(&[alert("x", 2, Transition::Escalated, Severity::High)]);
    let known = server.get("/v1/alerts/alert-x").json();
    assert_eq!((strings(&known, "events", "id"), &known["whole"]), (vec!["x-2"], &false.into()));
    let all = server.get("/v1/alerts/alert-x?history=true").json();
    assert_eq!((strings(&all, "events", "id"), &all["whole"]), (vec!["x-2", "x-0"], &true.into()));
}

#[test]
fn how_far_back_a_process_knows_alerts_goes_by_when_they_were_published() {
    let server = Server::start(None);
    let model = &server.state.read_model;
    let back_of = |path: &str| back(&server.get(path).json());
    let unread = |at: Millis| (Some(at.iso()), Value::from("unread"));
    // Of a time long after: what counts is when the process was told, in what was found and in what was not.
    server.publish(&[alert("x", 2, Transition::Escalated, Severity::High)]);
    for path in ["/v1/alerts/alert-x", "/v1/alerts/alert-x?history=true", "/v1/alerts/ffffffff"] {
        assert_eq!(back_of(path), unread(BEGAN_AT), "{path}");
    }
    // More than are kept: those that were published at once with the last one dropped may be missing, those after it are not.
    let events: Vec<Output> =
        (0..20_000).map(|number| alert("y", number, Transition::Updated, Severity::Low)).collect();
    for (at, half) in (10..).zip(events.chunks(10_000)) {
        model.publish(0, BEGAN_AT.plus(at), half);
    }
    assert_eq!(back_of("/v1/alerts/ffffffff"), unread(BEGAN_AT.plus(11)));
    let long = server.get("/v1/alerts/alert-y").json();
    assert_eq!((back(&long), &long["whole"]), (unread(BEGAN_AT.plus(11)), &false.into()));
    assert_eq!(strings(&long, "events", "id").len(), 500);
    assert_eq!((&long["events"][0]["id"], &long["omitted"]), (&"y-19999".into(), &9_500.into()));
    // Of what others published of a partition before it came here nothing is known.
    let nothing: Arc<dyn Details> = Arc::new(Nothing);
    model.open_partition(1, BEGAN_AT.plus(50), nothing);
    assert_eq!(back_of("/v1/alerts/ffffffff"), unread(BEGAN_AT.plus(50)));
    model.drop_partition(1);
    assert_eq!(back_of("/v1/alerts/ffffffff"), unread(BEGAN_AT.plus(11)));
}

#[test]
fn a_list_of_events_that_is_too_long_keeps_its_beginning_and_counts_what_it_leaves_out() {
    let server = Server::start(None);
    let opened = [alert("x", 0, Transition::Opened, Severity::Low)];
    let updates = (1..=600).map(|number| alert("x", number, Transition::Updated, Severity::Low));
    server.publish(&opened.into_iter().chain(updates).collect::<Vec<_>>());
    let answer = server.get("/v1/alerts/alert-x").json();
    let ids = strings(&answer, "events", "id");
    assert_eq!((ids.len(), &answer["omitted"], &answer["whole"]), (500, &101.into(), &true.into()));
    assert_eq!((ids[0], ids[498], ids[499]), ("x-600", "x-102", "x-0"));
}

/// The place of the records of a partition without accounts.
struct Nothing;

impl Details for Nothing {
    fn record(&self, _id: &AccountId) -> Option<HealthRecord> {
        None
    }
}

#[test]
fn an_account_is_shown_as_it_stood_at_a_time() {
    let server = Server::start(Some(Arc::new(Collector::default())));
    let then = server.get("/v1/accounts/a%20b%2Fc?at=2026-03-01");
    let answer = then.json();
    assert_eq!((then.status, answer["account"]["account_id"].as_str()), (200, Some("a b/c")));
    assert_eq!(answer["account"]["score_centipoints"], 4_200);
    assert_eq!((strings(&answer, "alerts", "id"), &answer["whole"]), (vec!["x-1"], &true.into()));
    assert_eq!(back(&answer), (None, Value::Null));
    let partly = server.get("/v1/accounts/a?at=2022-03-01").json();
    let looked_back_to = || Some("2026-03-01T00:00:00.002Z".to_owned());
    assert_eq!(
        (&partly["whole"], back(&partly)),
        (&false.into(), (looked_back_to(), "unread".into()))
    );
    for (path, older) in [("2021", "unread"), ("2018", "gone")] {
        let problem = server.get(&format!("/v1/accounts/a?at={path}-03-01")).json();
        assert_eq!(back(&problem), (looked_back_to(), older.into()), "{path}");
    }
    let zoned = server.get("/v1/accounts/a?at=2026-03-01T00:00:00%2B01:00");
    assert_eq!(zoned.status, 200, "{}", zoned.body);
    for (path, status, words) in [
        ("/v1/accounts/a?at=2020-03-01", 404, "nothing had been published"),
        ("/v1/accounts/a?at=2021-03-01", 410, "lie further back than is looked through"),
        ("/v1/accounts/a?at=2018-03-01", 410, "no longer kept"),
        ("/v1/accounts/a?at=yesterday", 400, "ISO-8601"),
        ("/v1/accounts/a?at=", 400, "ISO-8601"),
        ("/v1/accounts/a?when=2020-03-01", 400, "when"),
        ("/v1/accounts/%00?at=2020-03-01", 400, "control characters"),
        ("/v1/accounts/unreadable?at=2026-03-01", 503, "the registry is away"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        let problem = answer.json();
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(words), "{path}: {detail}");
    }
    let closed = Server::start(None).get("/v1/accounts/a?at=2026-03-01");
    assert_eq!(closed.status, 404);
    assert!(closed.body.contains("explain ACCOUNT --at TIME"), "{}", closed.body);
}
