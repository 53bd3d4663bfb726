//! Brokers that crash, in a cluster of three: partitions and coordinators move, or nobody can write at all. What comes out equals
//! an undisturbed run, record by record, and nobody has to help the worker on its feet.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use bellwether_tests::runs::{Outputs, fed_on, undisturbed_on, wait_for_share};
use bellwether_tests::{
    App, Bellwether, KafkaCluster, LIMIT, Site, coordinating_partition, leader, wait_until,
};

/// Brokers are numbered from 1.
const BROKERS: std::ops::RangeInclusive<i32> = 1..=3;

/// What a test needs; one at a time has it, because it crashes what others stand on.
struct Three {
    cluster: KafkaCluster,
    site: Site,
    reference: Outputs,
    down: Vec<i32>,
}

static THREE: LazyLock<Mutex<Three>> = LazyLock::new(|| {
    let cluster = KafkaCluster::start_three();
    let direct = cluster.bootstrap().to_owned();
    let site = Site { through: direct.clone(), direct, replicas: 3 };
    let reference = Outputs::of(&undisturbed_on(&site, "brokers-whole"));
    Mutex::new(Three { cluster, site, reference, down: Vec::new() })
});

impl Three {
    fn get() -> MutexGuard<'static, Three> {
        // A test that failed may have left brokers down.
        let mut three = THREE.lock().unwrap_or_else(PoisonError::into_inner);
        three.revive();
        three
    }

    fn kill(&mut self, broker: i32) {
        self.cluster.kill_broker(broker);
        self.down.push(broker);
    }

    fn revive(&mut self) {
        for broker in std::mem::take(&mut self.down) {
            self.cluster.start_broker(broker);
        }
    }

    /// Kills the leader of a partition, waits until another leads, and until the worker has done with that what came meanwhile.
    fn move_leader(
        &mut self,
        app: &App,
        running: &mut Bellwether,
        (topic, partition): (&str, i32),
        name: &str,
    ) {
        let old = leader(app.bootstrap(), topic, partition);
        self.kill(old);
        wait_until("another leader", LIMIT, || {
            let new = leader(app.bootstrap(), topic, partition);
            (BROKERS.contains(&new) && new != old).then_some(())
        });
        app.produce_more(name);
        running.wait_until("what came meanwhile", LIMIT, |_| app.has_more(name).then_some(()));
        self.revive();
    }

    /// Lets the worker come to the end, and compares.
    fn assert_whole(&self, app: &App, mut running: Bellwether, extra: &[&str]) {
        app.wait_until_done(&mut running);
        running.wait_until_ready();
        assert_eq!(running.terminate(LIMIT).code(), Some(0), "{}", running.stderr());
        self.reference.assert_same_as(app, extra);
    }
}

#[test]
fn a_broker_that_crashes_changes_nothing() {
    let mut three = Three::get();
    let app = fed_on(&three.site, "leader");
    let mut running = app.start();
    wait_for_share(&app, &mut running, three.reference.score_changes(), 2);
    three.move_leader(&app, &mut running, (&app.topic("events"), 0), "moved");
    three.assert_whole(&app, running, &["moved"]);
}

/// The brokers that keep the worker's transactions and its group's positions, one after the other.
#[test]
fn coordinators_that_crash_change_nothing() {
    let mut three = Three::get();
    let app = fed_on(&three.site, "coordinator");
    let mut running = app.start();
    wait_for_share(&app, &mut running, three.reference.score_changes(), 1);
    let transactions = coordinating_partition(&app.transactional_id());
    three.move_leader(&app, &mut running, ("__transaction_state", transactions), "first");
    let group = coordinating_partition(app.name());
    three.move_leader(&app, &mut running, ("__consumer_offsets", group), "second");
    three.assert_whole(&app, running, &["first", "second"]);
}

/// With one broker of three nothing can be committed, although that broker still answers: the worker says that it is not ready,
/// and goes on when the others are back.
#[test]
fn without_enough_replicas_readiness_is_red_until_they_are_back() {
    let mut three = Three::get();
    let app = fed_on(&three.site, "replicas");
    let mut running = app.start();
    wait_for_share(&app, &mut running, three.reference.score_changes(), 3);
    running.wait_until_ready();
    // The one that is left is the one that the worker sends its heartbeats to.
    let left = leader(app.bootstrap(), "__consumer_offsets", coordinating_partition(app.name()));
    for broker in BROKERS.filter(|broker| *broker != left) {
        three.kill(broker);
    }
    running.wait_until_not_ready();
    three.revive();
    running.wait_until_ready();
    three.assert_whole(&app, running, &[]);
}
