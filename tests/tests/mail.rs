//! E-mail against real servers that refuse, are slow and hang.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use bellwether_core::time::Millis;
use bellwether_notify::channel::Channel;
use bellwether_notify::delivery::{Delivery, Outcome, Parking, Subject, key};
use bellwether_notify::event::sample;
use bellwether_notify::policy::Loaded;
use bellwether_tests::Bellwether;
use bellwether_tests::mail::{MailServer, Manners};
use tokio::runtime::Runtime;

mod told;

use told::{LIMIT, LIMITS, alert, embedded, prepared, publish, route, write};

/// A sink that is e-mail, with these settings.
fn mail(url: &str, settings: &str) -> String {
    format!(
        "[[sink]]\nname = \"s\"\ntype = \"email\"\nurl = \"{url}\"\nfrom = \"Bellwether <b@example.com>\"\n\
         to = [\"cs@example.com\"]\nallow_http = true\n{settings}\n{}",
        route(&["s"], "immediate")
    )
}

fn plain(server: &MailServer, settings: &str) -> String {
    mail(
        &format!("smtp://localhost:{}", server.port()),
        &format!("allow_private = true\n{settings}"),
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

/// One thread may block, no more: one that is lost is missed by the next lookup of a name.
fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).max_blocking_threads(1).enable_all().build().expect("a runtime")
}

fn attempt(runtime: &Runtime, policy: &str) -> Outcome {
    let loaded = Loaded::parse(policy, "test").expect("sound");
    let environment = |name: &str| (name == "PASSWORD").then(|| "secret".to_owned());
    let sink = loaded.policy().sink("s").expect("a sink");
    let channel = Channel::open(loaded.policy(), sink, &environment).expect("it opens");
    runtime.block_on(channel.attempt(loaded.texts(), &delivery(), Millis(0)))
}

fn failed(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed { detail, retry_after_ms: None } => detail,
        Outcome::Failed { .. }
        | Outcome::Throttled { .. }
        | Outcome::Delivered
        | Outcome::Refused { .. } => panic!("not a failure: {outcome:?}"),
    }
}

#[test]
fn mail_goes_out_by_smtp_and_a_temporary_failure_is_tried_again() {
    let runtime = runtime();
    let server = MailServer::start(Manners { temporary_failures: 1, ..Manners::default() });
    let public = mail(&format!("smtp://localhost:{}", server.port()), "");
    let outcome = attempt(&runtime, &public);
    assert!(
        matches!(outcome, Outcome::Refused { reason: Parking::ForbiddenAddress, .. }),
        "{outcome:?}"
    );
    let policy = plain(&server, "");
    assert!(failed(&attempt(&runtime, &policy)).contains("451"), "temporary");
    assert_eq!(attempt(&runtime, &policy), Outcome::Delivered);
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    // Soft line breaks of quoted-printable.
    let mail = mails[0].replace("=\r\n", "");
    for part in [
        "RCPT TO:<cs@example.com>",
        "Subject: INFO Churn risk: Bellwether test account",
        "text/plain",
        "text/html",
        "31.5 of 100",
    ] {
        assert!(mail.contains(part), "{part} in {mail}");
    }
    assert!(mails[0].contains(&format!("Message-ID: <{}@bellwether>", delivery().key)));
}

#[test]
fn a_server_that_hangs_before_the_message_is_given_up_and_no_thread_is_lost() {
    let runtime = runtime();
    // It takes connections and says nothing: neither a greeting nor its part of the handshake of TLS.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    for scheme in ["smtps", "smtp"] {
        let settings = "allow_private = true\ntimeout_ms = 200";
        let policy = mail(&format!("{scheme}://localhost:{port}"), settings);
        for _ in 0..3 {
            assert_eq!(failed(&attempt(&runtime, &policy)), "no answer within 200 ms", "{scheme}");
        }
    }
    let server = MailServer::start(Manners::default());
    assert_eq!(attempt(&runtime, &plain(&server, "")), Outcome::Delivered);
}

#[test]
fn a_server_that_does_not_speak_tls_is_told_nothing() {
    let runtime = runtime();
    let server = MailServer::start(Manners::default());
    let policy = plain(&server, "").replace("allow_http = true\n", "");
    assert!(failed(&attempt(&runtime, &policy)).contains("STARTTLS"));
    let policy = policy.replace("smtp://", "smtps://");
    failed(&attempt(&runtime, &policy));
    assert_eq!(server.given(), 0);
}

#[test]
fn a_login_that_is_refused_is_tried_again_since_a_person_may_mend_the_password() {
    let runtime = runtime();
    let server = MailServer::start(Manners { logins_refused: Some(2), ..Manners::default() });
    let policy = plain(&server, "username = \"b\"\nsecret_env = \"PASSWORD\"");
    for _ in 0..2 {
        assert!(failed(&attempt(&runtime, &policy)).contains("535"), "refused");
    }
    assert_eq!(attempt(&runtime, &policy), Outcome::Delivered);
    // A policy that names no user where one is wanted.
    assert!(failed(&attempt(&runtime, &plain(&server, ""))).contains("530"));
    assert_eq!(server.mails().len(), 1);
}

#[test]
fn a_server_that_thinks_longer_than_an_attempt_may_take_is_sent_each_mail_once_one_at_a_time() {
    const MAILS: usize = 4;
    let dir = prepared();
    publish(dir.path(), &(0..MAILS).map(alert).collect::<Vec<_>>());
    let thinks = Duration::from_millis(1_500);
    let server = MailServer::start(Manners { thinks, ..Manners::default() });
    // The time-out of LIMITS is 400 ms.
    let delivery = write(dir.path(), &format!("{LIMITS}{}", plain(&server, "")));
    let mut running = Bellwether::spawn(embedded(dir.path(), Some(&delivery)));
    running.wait_until("all are delivered", LIMIT, |running| {
        let delivered = "bellwether_deliveries_total{result=\"delivered\",sink=\"s\"}";
        running.get("/metrics").contains(&format!("{delivered} {MAILS}")).then_some(())
    });
    assert_eq!(running.terminate(LIMIT).code(), Some(0));
    assert_eq!((server.given(), server.at_once_max()), (MAILS, 1));
    let ids: BTreeSet<String> = server
        .mails()
        .iter()
        .filter_map(|mail| {
            mail.lines().find(|line| line.starts_with("Message-ID:")).map(str::to_owned)
        })
        .collect();
    assert_eq!(ids.len(), MAILS, "each is another one: {ids:?}");
}
