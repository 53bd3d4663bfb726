//! Networks that fail: cut, slow, half-open, resetting. What comes out equals an undisturbed run, record by record; a worker that
//! cannot reach the log says so, ends when it is told to, and goes on by itself once it can.
//!
//! All faults are made by proxies between the worker and its broker, so they need no rights; the tests' own clients go past them.
//! One test cuts a real link of a network namespace, which needs root.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use bellwether_tests::proxy::{Link, Proxy};
use bellwether_tests::runs::{Outputs, fed_on, fed_with, undisturbed_on, wait_for_share};
use bellwether_tests::{App, Bellwether, KafkaCluster, LIMIT, Site};

#[path = "network/namespace.rs"]
mod namespace;

use self::namespace::Namespace;

/// One broker, and a proxy for each test.
struct Network {
    cluster: KafkaCluster,
    unused: Mutex<Vec<Proxy>>,
}

/// Tests that go through a proxy on this machine.
const PROXIES: usize = 5;

static NETWORK: LazyLock<Network> = LazyLock::new(|| {
    let mut proxies: Vec<Proxy> = (0..PROXIES).map(|_| Proxy::listen("127.0.0.1")).collect();
    let cluster = KafkaCluster::start_behind(&proxies.iter().collect::<Vec<_>>());
    proxies.reverse();
    Network { cluster, unused: Mutex::new(proxies) }
});

static REFERENCE: LazyLock<Outputs> = LazyLock::new(|| {
    let direct = NETWORK.cluster.bootstrap().to_owned();
    let site = Site { through: direct.clone(), direct, replicas: 1 };
    Outputs::of(&undisturbed_on(&site, "network-whole"))
});

/// An application that reaches its broker through a proxy of its own.
fn behind_a_proxy(name: &str) -> (App, Proxy) {
    let (site, proxy) = site();
    (fed_on(&site, name), proxy)
}

fn site() -> (Site, Proxy) {
    let mut unused = NETWORK.unused.lock().unwrap_or_else(PoisonError::into_inner);
    let proxy = unused.pop().expect("PROXIES is the number of tests");
    let direct = NETWORK.cluster.bootstrap().to_owned();
    (Site { through: proxy.address(), direct, replicas: 1 }, proxy)
}

/// Ends a worker that works, and compares what came out.
fn assert_whole(app: &App, mut running: Bellwether, extra: &[&str]) {
    running.wait_until_ready();
    assert_eq!(running.terminate(LIMIT).code(), Some(0), "{}", running.stderr());
    REFERENCE.assert_same_as(app, extra);
}

/// Cut in mid-stream and again when there is nothing to do; nothing that was under way is lost or doubled.
#[test]
fn a_cut_link_turns_readiness_red_and_loses_nothing() {
    let total = REFERENCE.score_changes();
    let (app, proxy) = behind_a_proxy("cut");
    let mut running = app.start();
    wait_for_share(&app, &mut running, total, 3);
    proxy.set(Link::Cut);
    running.wait_until_not_ready();
    proxy.set(Link::Up);
    app.wait_until_done(&mut running);
    running.wait_until_ready();

    proxy.set(Link::Cut);
    running.wait_until_not_ready();
    proxy.set(Link::Up);
    app.produce_more("after");
    running.wait_until("what comes after", LIMIT, |_| app.has_more("after").then_some(()));
    assert_whole(&app, running, &["after"]);
}

/// A worker that is told to stop while the link is cut does so, at work and at rest.
#[test]
fn a_worker_behind_a_cut_link_stops_when_it_is_told_to() {
    let total = REFERENCE.score_changes();
    let (app, proxy) = behind_a_proxy("stop");
    let mut running = app.start();
    wait_for_share(&app, &mut running, total, 3);
    proxy.set(Link::Cut);
    assert_eq!(running.terminate(LIMIT).code(), Some(0), "at work: {}", running.stderr());

    // One that cannot look at its topics does not start.
    let mut running = app.start();
    assert_eq!(running.wait(LIMIT).code(), Some(1), "at start: {}", running.stderr());
    assert!(running.stderr().contains("cannot list topics"), "{}", running.stderr());
    proxy.set(Link::Up);

    let mut running = app.start();
    app.wait_until_done(&mut running);
    running.wait_until_ready();
    proxy.set(Link::Cut);
    running.wait_until_not_ready();
    assert_eq!(running.terminate(LIMIT).code(), Some(0), "at rest: {}", running.stderr());
    proxy.set(Link::Up);
    REFERENCE.assert_same_as(&app, &[]);
}

/// Late and narrow is not away: the worker gets through, and stays in its group.
#[test]
fn a_slow_link_only_takes_longer() {
    let (site, proxy) = site();
    // Every commit takes about six round trips: it is batches that make up for them.
    let app = fed_with(&site, "slow", "");
    proxy.set(Link::Slow { delay: Duration::from_millis(30), bytes_per_second: 1_000_000 });
    let mut running = app.start();
    app.wait_until_done(&mut running);
    let said = running.stderr();
    assert!(!said.contains("connecting to the log again"), "it is slow, not away: {said}");
    assert_whole(&app, running, &[]);
}

/// Connections stay established and nothing ever answers on them again, at work and at rest.
#[test]
fn half_open_connections_are_given_up() {
    let total = REFERENCE.score_changes();
    let (app, proxy) = behind_a_proxy("half-open");
    let mut running = app.start();
    wait_for_share(&app, &mut running, total, 3);
    assert!(proxy.forget_connections() > 0);
    app.wait_until_done(&mut running);
    running.wait_until_ready();
    assert!(proxy.forget_connections() > 0);
    running.wait_until_not_ready();
    app.produce_more("after");
    running.wait_until("what comes after", LIMIT, |_| app.has_more("after").then_some(()));
    assert_whole(&app, running, &["after"]);
}

/// Connections are reset again and again; each time at another point of a transaction.
#[test]
fn resets_change_nothing() {
    let total = REFERENCE.score_changes();
    let (app, proxy) = behind_a_proxy("reset");
    let mut running = app.start();
    let mut resets = 0;
    for share in 1..=9 {
        wait_for_share(&app, &mut running, total, share);
        resets += proxy.reset_connections();
    }
    assert!(resets >= 9, "there were connections to reset: {resets}");
    app.wait_until_done(&mut running);
    assert_whole(&app, running, &[]);
}

/// A link that goes down under the worker, as the kernel sees it: packets are dropped, and connections cannot be made.
#[test]
fn a_link_that_is_down_for_real_is_survived() {
    let total = REFERENCE.score_changes();
    let namespace = Namespace::new();
    let proxy = Proxy::listen(namespace.outside());
    // A broker of its own: it has to be told this address.
    let cluster = KafkaCluster::start_behind(&[&proxy]);
    let direct = cluster.bootstrap().to_owned();
    let app = fed_on(&Site { through: proxy.address(), direct, replicas: 1 }, "namespace");
    let mut running = Bellwether::spawn(namespace.wrap(&app.command()));
    let url = running.url() + "/readyz";
    wait_for_share(&app, &mut running, total, 3);

    namespace.link("down");
    running.wait_until("red readiness", LIMIT, |_| (namespace.status(&url) == "503").then_some(()));
    namespace.link("up");
    app.wait_until_done(&mut running);
    running.wait_until("readiness", LIMIT, |_| (namespace.status(&url) == "200").then_some(()));

    namespace.link("down");
    assert_eq!(running.terminate(LIMIT).code(), Some(0), "{}", running.stderr());
    REFERENCE.assert_same_as(&app, &[]);
}
