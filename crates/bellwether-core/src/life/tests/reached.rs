//! That the random histories of the tests walk every arrow of the diagram: what they never reached they could not have found broken.

use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

/// Every arrow of the diagram, by its words.
fn arrows() -> BTreeSet<(&'static str, &'static str)> {
    let states = [None].into_iter().chain(AlertState::ALL.map(Some));
    let pairs = states.flat_map(|from| Transition::ALL.map(|transition| (from, transition)));
    let walked = pairs.filter(|(from, transition)| next(*from, *transition).is_some());
    walked.map(|(from, transition)| words(from, transition)).collect()
}

fn words(from: Option<AlertState>, transition: Transition) -> (&'static str, &'static str) {
    (from.map_or("none", AlertState::as_str), transition.as_str())
}

#[test]
fn every_arrow_is_walked_and_every_end_is_reached() {
    let policy = policy(|policy| policy.alerts.expire_days = 14);
    let mut runner = TestRunner::deterministic();
    let (mut walked, mut ends) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..400 {
        let steps = steps().new_tree(&mut runner).expect("a history").current();
        let world = run(&policy, &steps);
        let mut states = BTreeMap::new();
        for event in world.events() {
            let from = states.insert(&event.alert_id, event.state);
            walked.insert(words(from, event.transition));
            ends.extend(event.resolution.map(Resolution::as_str));
        }
    }
    assert_eq!(walked, arrows());
    // An account that is deleted has no events any more, and takes its alerts along (tests/stories.rs).
    let expected =
        ["dormant", "expired", "folded", "manual", "outcome", "passed", "rebaselined", "recovered"];
    assert_eq!(ends, expected.into());
}
