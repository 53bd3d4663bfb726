//! Sinks against real servers that fail, hang, redirect and lie.

use std::collections::BTreeSet;

use bellwether_core::time::Millis;
use bellwether_notify::channel::Channel;
use bellwether_notify::delivery::{Delivery, Outcome, Parking, Subject, key};
use bellwether_notify::event::sample;
use bellwether_notify::policy::Loaded;
use bellwether_tests::receiver::{Receiver, Reply};

const ROUTE: &str = "[[route]]\nname = \"all\"\nsinks = [\"s\"]\nmode = \"immediate\"\n";
const SIGNING_KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A webhook of these settings.
fn webhook(url: &str, settings: &str) -> String {
    format!(
        "[[sink]]\nname = \"s\"\ntype = \"webhook\"\nurl = \"{url}\"\nsecret_env = \"KEY\"\nallow_http = true\n{settings}\n{ROUTE}"
    )
}

fn delivery() -> Delivery {
    let (alert, profile) = sample(Millis(1_000));
    Delivery {
        key: key(&alert.id, "s"),
        sink: "s".to_owned(),
        lane: alert.alert_id.clone(),
        subject: Subject::Alert { alert: Box::new(alert), profile, earlier: BTreeSet::new() },
        created_ms: 0,
        due_ms: 0,
        attempts: 0,
        excused: 0,
        first_due_ms: 0,
        sequence: 0,
        policy_version: "v".to_owned(),
    }
}

fn attempt(policy: &str) -> Outcome {
    let loaded = Loaded::parse(policy, "test").expect("sound");
    // A variable that is called like a URL holds it.
    let environment = |name: &str| {
        let is_key = name == "KEY";
        Some(if is_key { SIGNING_KEY } else { name })
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
    };
    let sink = loaded.policy().sink("s").expect("a sink");
    let channel = Channel::open(loaded.policy(), sink, &environment).expect("it opens");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let outcome = runtime.block_on(channel.attempt(loaded.texts(), &delivery(), Millis(0)));
    runtime.shutdown_background();
    outcome
}

fn failed(outcome: &Outcome) -> (&str, Option<u64>) {
    match outcome {
        Outcome::Failed { detail, retry_after_ms }
        | Outcome::Throttled { detail, retry_after_ms } => (detail, *retry_after_ms),
        Outcome::Delivered | Outcome::Refused { .. } => panic!("not a failure: {outcome:?}"),
    }
}

fn refused(outcome: &Outcome) -> Parking {
    match outcome {
        Outcome::Refused { reason, .. } => *reason,
        Outcome::Delivered | Outcome::Failed { .. } | Outcome::Throttled { .. } => {
            panic!("not refused: {outcome:?}")
        }
    }
}

#[test]
fn what_is_taken_is_delivered_with_its_key_and_signature() {
    let server = Receiver::start(|_, _| Reply::status(204));
    assert_eq!(attempt(&webhook(&server.url(), "allow_private = true")), Outcome::Delivered);
    let requests = server.requests();
    let (request, _) = &requests[0];
    assert_eq!(request.header("idempotency-key"), delivery().key);
    assert_eq!(request.header("content-type"), "application/json");
    let (id, seconds) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    let seconds: i64 = seconds.parse().expect("a number");
    let signature = bellwether_notify::signature::sign(SIGNING_KEY, id, seconds, &request.body);
    assert_eq!(Ok(request.header("webhook-signature").to_owned()), signature);
}

#[test]
fn failures_are_tried_again_and_mistakes_are_not() {
    for status in [408, 409, 429, 500, 502, 503, 504, 401, 404] {
        let server = Receiver::start(move |_, _| Reply::status(status));
        let outcome = attempt(&webhook(&server.url(), "allow_private = true"));
        assert!(failed(&outcome).0.contains(&status.to_string()), "{outcome:?}");
    }
    for status in [400, 413, 422] {
        let server =
            Receiver::start(move |_, _| Reply::Status(status, Vec::new(), b"bad field".to_vec()));
        let outcome = attempt(&webhook(&server.url(), "allow_private = true"));
        assert_eq!(refused(&outcome), Parking::Rejected);
        assert!(format!("{outcome:?}").contains("bad field"), "it says what the sink said");
    }
}

#[test]
fn a_sink_that_asks_for_time_is_heard() {
    let headers = vec![("retry-after".to_owned(), "7".to_owned())];
    let server = Receiver::start(move |_, _| Reply::Status(429, headers.clone(), Vec::new()));
    let outcome = attempt(&webhook(&server.url(), "allow_private = true"));
    assert_eq!(failed(&outcome).1, Some(7_000));
}

#[test]
fn a_sink_that_hangs_or_breaks_off_is_a_failure() {
    let server = Receiver::start(|_, _| Reply::Hang);
    let outcome = attempt(&webhook(&server.url(), "allow_private = true\ntimeout_ms = 300"));
    assert_eq!(failed(&outcome).0, "no answer within 300 ms");
    let server = Receiver::start(|_, _| Reply::Close);
    failed(&attempt(&webhook(&server.url(), "allow_private = true")));
    let port = {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        gone.local_addr().expect("an address").port()
    };
    let url = format!("http://127.0.0.1:{port}/secret-path");
    let outcome = attempt(&webhook(&url, "allow_private = true"));
    assert!(!failed(&outcome).0.contains("secret-path"), "a URL may be a secret: {outcome:?}");
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    for reply in [Reply::Endless(200), Reply::Stall(200)] {
        let server = Receiver::start(move |_, _| reply.clone());
        let settings = "allow_private = true\ntimeout_ms = 2000";
        assert_eq!(attempt(&webhook(&server.url(), settings)), Outcome::Delivered);
    }
}

/// Sinks of every type that is called by HTTP.
fn sinks(url: &str, settings: &str) -> Vec<(&'static str, String)> {
    let of = |kind: &'static str, own: String| {
        let sink = format!("[[sink]]\nname = \"s\"\ntype = \"{kind}\"\nallow_http = true\n");
        (kind, format!("{sink}{own}\n{settings}\n{ROUTE}"))
    };
    vec![
        of("slack", format!("url_env = \"{url}\"")),
        of("teams", format!("url_env = \"{url}\"")),
        of("webhook", format!("url = \"{url}\"\nsecret_env = \"KEY\"")),
        of("pagerduty", format!("url = \"{url}\"\nsecret_env = \"KEY\"")),
        of("alertmanager", format!("url = \"{url}\"")),
        of("template", format!("url = \"{url}\"\nbody = \"1\"")),
    ]
}

#[test]
fn redirects_are_never_followed() {
    let target = Receiver::start(|_, _| Reply::status(200));
    for status in [301, 302, 303, 307, 308] {
        let headers = vec![("location".to_owned(), format!("{}/internal", target.url()))];
        let server =
            Receiver::start(move |_, _| Reply::Status(status, headers.clone(), Vec::new()));
        for (kind, policy) in sinks(&server.url(), "allow_private = true") {
            assert_eq!(refused(&attempt(&policy)), Parking::Redirect, "{kind} {status}");
        }
    }
    assert_eq!(target.connections(), 0);
}

#[test]
fn every_type_of_sink_that_fails_or_hangs_is_tried_again() {
    let settings = "allow_private = true\ntimeout_ms = 300";
    for (reply, words) in [(Reply::status(503), "503"), (Reply::Hang, "300 ms")] {
        let server = Receiver::start(move |_, _| reply.clone());
        for (kind, policy) in sinks(&server.url(), settings) {
            let outcome = attempt(&policy);
            assert!(failed(&outcome).0.contains(words), "{kind}: {outcome:?}");
        }
    }
}

/// What vendors answer with 200 or 202 when they have not taken a message.
#[test]
fn a_success_that_says_that_it_failed_is_a_failure() {
    let answered = |kind: &str, status, content: &str, body: &str| {
        let headers = vec![("content-type".to_owned(), content.to_owned())];
        let body = body.as_bytes().to_vec();
        let server =
            Receiver::start(move |_, _| Reply::Status(status, headers.clone(), body.clone()));
        let sinks = sinks(&server.url(), "allow_private = true");
        let (_, policy) = sinks.iter().find(|(of, _)| *of == kind).expect("a type of sink");
        let outcome = attempt(policy);
        assert_eq!(server.requests().len(), 1);
        outcome
    };
    let json = "application/json";
    let teams = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId MS-CV=x.";
    for (kind, status, content, body, words) in [
        ("slack", 200, json, r#"{"ok":false,"error":"invalid_auth"}"#, "invalid_auth"),
        ("teams", 200, "text/plain", teams, "HTTP error 429"),
        ("pagerduty", 202, json, r#"{"status":"invalid event","message":"no"}"#, "invalid event"),
        ("alertmanager", 200, json, r#"{"status":"error","error":"bad"}"#, "bad"),
    ] {
        let outcome = answered(kind, status, content, body);
        let said = failed(&outcome).0;
        assert!(said.contains(words) && said.contains(&status.to_string()), "{kind}: {said}");
        // A proxy that wants a login, say.
        let page = answered(kind, 200, "text/html; charset=utf-8", "<html>Sign in</html>");
        assert!(failed(&page).0.contains("a page of HTML"), "{kind}: {page:?}");
    }
    for (kind, body) in [
        ("slack", "ok"),
        ("teams", ""),
        ("webhook", r#"{"ok":false}"#),
        ("pagerduty", r#"{"status":"success","message":"Event processed","dedup_key":"k"}"#),
        ("alertmanager", ""),
        ("template", r#"{"status":"error"}"#),
    ] {
        assert_eq!(answered(kind, 200, json, body), Outcome::Delivered, "{kind}");
    }
}

#[test]
fn a_private_address_is_refused_before_anything_is_sent_whatever_it_is_called() {
    let server = Receiver::start(|_, _| Reply::status(200));
    let port = server.port();
    // By name: looked up, checked, and refused.
    let outcome = attempt(&webhook(&format!("http://localhost:{port}/"), ""));
    assert_eq!(refused(&outcome), Parking::ForbiddenAddress, "{outcome:?}");
    // By number, however it is written: refused when it is opened.
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ] {
        let policy = webhook(&format!("http://{host}:{port}/"), "");
        let loaded = Loaded::parse(&policy, "test").expect("sound");
        let sink = loaded.policy().sink("s").expect("a sink");
        let environment = |_: &str| Some(SIGNING_KEY.to_owned());
        let error = Channel::open(loaded.policy(), sink, &environment).expect_err(host);
        assert!(error.to_string().contains("allow_private"), "{error}");
    }
    // What hands out credentials is never called, whatever the sink says.
    for host in ["169.254.169.254", "169.254.170.2", "168.63.129.16", "[fd00:ec2::254]"] {
        let policy = webhook(&format!("http://{host}/latest"), "allow_private = true");
        let loaded = Loaded::parse(&policy, "test").expect("sound");
        let sink = loaded.policy().sink("s").expect("a sink");
        let environment = |_: &str| Some(SIGNING_KEY.to_owned());
        let error = Channel::open(loaded.policy(), sink, &environment).expect_err(host);
        assert!(error.to_string().contains("no sink may have"), "{error}");
    }
    assert_eq!(server.connections(), 0);
}

#[test]
fn secrets_come_from_the_environment_or_files_and_are_never_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("url");
    let policy = format!(
        "[[sink]]\nname = \"s\"\ntype = \"slack\"\nallow_private = true\nallow_http = true\nurl_file = \"{}\"\n{ROUTE}",
        file.display()
    );
    let loaded = Loaded::parse(&policy, "test").expect("sound");
    let sink = loaded.policy().sink("s").expect("a sink");
    let open = || Channel::open(loaded.policy(), sink, &|_| None);
    assert!(open().expect_err("no file").to_string().contains("url"));
    std::fs::write(&file, "ftp://hooks.example/T0/SECRET\n").expect("writable");
    let error = open().expect_err("no HTTP").to_string();
    assert!(!error.contains("SECRET"), "{error}");
    let server = Receiver::start(|_, _| Reply::status(200));
    std::fs::write(&file, format!("{}/T0/SECRET\n", server.url())).expect("writable");
    assert!(!format!("{:?}", open().expect("it opens")).contains("SECRET"));
    assert_eq!(attempt(&policy), Outcome::Delivered);
    assert_eq!(server.requests()[0].0.path, "/T0/SECRET");
}

#[test]
fn the_secret_of_a_template_goes_in_the_header_that_its_sink_names() {
    for (named, header, other) in [
        ("", "authorization", "x-api-key"),
        ("secret_header = \"X-Api-Key\"\n", "x-api-key", "authorization"),
    ] {
        let server = Receiver::start(|_, _| Reply::status(201));
        let policy =
            webhook(&server.url(), &format!("allow_private = true\nbody = \"1\"\n{named}"))
                .replace("\"webhook\"", "\"template\"");
        assert_eq!(attempt(&policy), Outcome::Delivered);
        let (request, _) = server.requests().remove(0);
        assert_eq!((request.header(header), request.header(other)), (SIGNING_KEY, ""));
    }
}
