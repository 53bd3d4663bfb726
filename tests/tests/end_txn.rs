//! The end of a transaction, lost, late or answered wrongly: the one moment when a worker cannot know whether what it did counts.
//! A proxy between the worker and its broker tampers with it; consumers that read committed records, and go past the proxy, judge.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use bellwether_tests::proxy::{Fault, Proxy};
use bellwether_tests::runs::{OUTPUTS, Outputs, fed_on, undisturbed_on};
use bellwether_tests::{App, KafkaCluster, LIMIT, Site, consume_all, consume_uncommitted};

#[path = "end_txn/remedies.rs"]
mod remedies;

/// One broker, and a proxy for each test.
struct Setting {
    cluster: KafkaCluster,
    unused: Mutex<Vec<Proxy>>,
}

/// Tests that go through a proxy.
const PROXIES: usize = 5;

/// Kafka's numbers of errors (the protocol's guide, "Error Codes").
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const CONCURRENT_TRANSACTIONS: i16 = 51;
const UNKNOWN_PRODUCER_ID: i16 = 59;
const PRODUCER_FENCED: i16 = 90;

static SETTING: LazyLock<Setting> = LazyLock::new(|| {
    let proxies: Vec<Proxy> = (0..PROXIES).map(|_| Proxy::listen_to_kafka("127.0.0.1")).collect();
    let cluster = KafkaCluster::start_behind(&proxies.iter().collect::<Vec<_>>());
    Setting { cluster, unused: Mutex::new(proxies) }
});

static REFERENCE: LazyLock<Outputs> = LazyLock::new(|| {
    let direct = SETTING.cluster.bootstrap().to_owned();
    let site = Site { through: direct.clone(), direct, replicas: 1 };
    Outputs::of(&undisturbed_on(&site, "whole"))
});

/// Runs the stories with these faults of commits, each between two that pass, and compares what came out. How often the worker
/// had to connect again.
fn run_with(name: &str, faults: &[Fault]) -> (App, usize) {
    let reference = &*REFERENCE;
    let proxy = {
        let mut unused = SETTING.unused.lock().unwrap_or_else(PoisonError::into_inner);
        unused.pop().expect("PROXIES is the number of tests")
    };
    let direct = SETTING.cluster.bootstrap().to_owned();
    let app = fed_on(&Site { through: proxy.address(), direct, replicas: 1 }, name);
    proxy.plan(faults.iter().flat_map(|fault| [None, Some(*fault)]));
    let mut running = app.start();
    app.wait_until_done(&mut running);
    running.wait_until_ready();
    assert_eq!(proxy.planned(), 0, "there were enough commits for all faults");
    assert_eq!(running.terminate(LIMIT).code(), Some(0), "{}", running.stderr());
    assert_eq!(proxy.complaints(), Vec::<String>::new());
    reference.assert_same_as(&app, &[]);
    let again = running.stderr().matches("connecting to the log again").count();
    (app, again)
}

/// Records of aborted transactions: written, and not to be seen.
fn aborted(app: &App) -> usize {
    let count = |kind: &&str| {
        let topic = app.topic(kind);
        let all = consume_uncommitted(app.bootstrap(), &topic).len();
        all - consume_all(app.bootstrap(), &topic).len()
    };
    // Not every transaction has outputs; all of them change state.
    OUTPUTS.iter().chain(&["state_changelog"]).map(count).sum()
}

/// The worker connected again for each of these faults, and all that it wrote counted, although nobody said so. A busy machine may
/// have cut it off once more, in the middle of a transaction.
fn assert_all_counted(app: &App, again: usize, faults: usize) {
    assert!(again >= faults, "{again} of {faults}");
    let aborted = aborted(app);
    assert!(aborted == 0 || again > faults, "{aborted} records did not count");
}

#[test]
fn a_request_that_is_lost_commits_nothing() {
    let (app, again) = run_with("request-lost", &[Fault::RequestLost, Fault::RequestLost]);
    assert!(again >= 2, "{again}");
    assert!(
        aborted(&app) > 0,
        "what was written for nothing is there, for those who want to see it"
    );
}

#[test]
fn an_answer_that_is_lost_doubles_nothing() {
    let (app, again) = run_with("answer-lost", &[Fault::AnswerLost, Fault::AnswerLost]);
    assert_all_counted(&app, again, 2);
}

/// Later than the client waits; it comes when the transaction is no longer anyone's.
#[test]
fn an_answer_that_is_late_doubles_nothing() {
    let late = Fault::AnswerLate(Duration::from_secs(8));
    let (app, again) = run_with("answer-late", &[late]);
    assert_all_counted(&app, again, 1);
}

/// Carried out, but reported as failed.
#[test]
fn an_error_in_place_of_a_success_doubles_nothing() {
    let passing = [
        COORDINATOR_LOAD_IN_PROGRESS,
        COORDINATOR_NOT_AVAILABLE,
        NOT_COORDINATOR,
        CONCURRENT_TRANSACTIONS,
    ];
    let lasting = [INVALID_PRODUCER_EPOCH, PRODUCER_FENCED, UNKNOWN_PRODUCER_ID, INVALID_TXN_STATE];
    let faults: Vec<Fault> =
        passing.into_iter().chain(lasting).map(Fault::AnswerReplaced).collect();
    let (app, again) = run_with("answer-replaced", &faults);
    assert_all_counted(&app, again, lasting.len());
}

/// Not carried out, and reported so.
#[test]
fn a_refusal_loses_nothing() {
    let passing = [
        COORDINATOR_LOAD_IN_PROGRESS,
        COORDINATOR_NOT_AVAILABLE,
        NOT_COORDINATOR,
        CONCURRENT_TRANSACTIONS,
    ];
    let lasting = [INVALID_PRODUCER_EPOCH, PRODUCER_FENCED, UNKNOWN_PRODUCER_ID];
    let faults: Vec<Fault> = passing.into_iter().chain(lasting).map(Fault::Refused).collect();
    let (app, again) = run_with("refused", &faults);
    assert!(again >= lasting.len(), "{again}");
    assert!(
        aborted(&app) > 0,
        "what was written for nothing is there, for those who want to see it"
    );
}
