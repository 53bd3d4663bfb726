//! What outlives a kill, whatever happens in whatever order.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

/// What a planner remembers, by what it does next.
fn observable(planner: &Planner) -> Vec<(i32, Delivery)> {
    let mut all: Vec<(i32, Delivery)> = Vec::new();
    for (partition, desk) in planner.desks() {
        all.extend(desk.pending().map(|delivery| (*partition, delivery.clone())));
    }
    all
}

const TRANSITIONS: [&str; 8] =
    ["opened", "escalated", "updated", "acknowledged", "snoozed", "woken", "resolved", "reopened"];

// Compiling the texts of a policy takes far longer than a step.
static LIMITED: LazyLock<Loaded> = LazyLock::new(|| {
    let limits = "[delivery]\nattempts_max = 3\n[budget]\nurgent_min_week = 2\n";
    policy(&format!("{limits}{}", urgent("rate = { per_owner = 3, hours = 5 }\n")))
});
static PATIENT: LazyLock<Loaded> =
    LazyLock::new(|| policy(&format!("[delivery]\nattempts_max = 100\n{}", urgent(""))));

proptest! {
    /// A planner that is read back from the rows that were committed goes on as the one that wrote them would: nothing is told twice, nothing
    /// is forgotten.
    #[test]
    fn a_restart_changes_nothing(steps in proptest::collection::vec((0_u32..6, 0_u8..8, 0_u8..5, 0_i64..40), 1..60)) {
        let policy = &*LIMITED;
        let mut whole = planner_of(policy);
        let mut rows: BTreeMap<(i32, String), Option<Vec<u8>>> = BTreeMap::new();
        let mut now = NOW;
        for (number, transition, action, hours) in steps {
            now += hours * HOUR_MS / 4;
            // A process that was killed and reads its rows back.
            let mut again = planner_of(policy);
            for ((partition, key), value) in &rows {
                again.restore(*partition, key, value.as_deref()).expect("readable");
            }
            again.tidied_ms = whole.tidied_ms;
            prop_assert_eq!(observable(&again), observable(&whole));
            let transition = TRANSITIONS[usize::from(transition)];
            let event = Alert { at: Millis(now), ..alert(number, transition, "high") };
            for planner in [&mut whole, &mut again] {
                let partition = i32::from(number % 2 == 1);
                let profile = Profile { owner: Some("ann".to_owned()), ..Profile::default() };
                planner.profile(partition, &event.account_id, profile);
                planner.alert(partition, &event, now);
                planner.tick(now, &|_| false);
                for (partition, delivery) in ready(planner, now) {
                    let outcome = match action {
                        0 => Outcome::Failed { detail: String::new(), retry_after_ms: None },
                        1 => Outcome::Refused { reason: Parking::Rejected, detail: String::new() },
                        2 => continue,
                        _ => Outcome::Delivered,
                    };
                    planner.settle(partition, &delivery.key, outcome, now, &mut |most| most);
                }
            }
            prop_assert_eq!(again.take_suppressed(), whole.take_suppressed());
            // Places in the order are given anew where nothing waits.
            let parked = |planner: &mut Planner| -> Vec<(String, Parking)> {
                planner.take_parked().into_iter().map(|p| (p.delivery.key, p.reason)).collect()
            };
            prop_assert_eq!(parked(&mut again), parked(&mut whole));
            for (partition, key, value) in whole.take_changes() {
                rows.insert((partition, key), value);
            }
        }
    }

    /// Each event and sink is told at most once, in order of its alert, whatever fails and is repeated.
    #[test]
    fn each_event_is_told_a_sink_at_most_once_and_in_order(steps in proptest::collection::vec((0_u32..4, 0_u8..4, any::<bool>()), 1..80)) {
        let mut planner = planner_of(&PATIENT);
        let (mut now, mut delivered) = (NOW, Vec::new());
        let words = ["opened", "escalated", "acknowledged", "resolved"];
        for (at, (number, word, works)) in steps.into_iter().enumerate() {
            now += 400_000;
            let event = Alert {
                id: format!("{at:04}"),
                at: Millis(now),
                ..alert(number, words[usize::from(word)], "high")
            };
            planner.alert(0, &event, now);
            planner.alert(0, &event, now);
            planner.tick(now, &|_| false);
            for (partition, delivery) in ready(&planner, now) {
                let Subject::Alert { alert, .. } = &delivery.subject else { continue };
                let failed = Outcome::Failed { detail: String::new(), retry_after_ms: None };
                let outcome = if works { Outcome::Delivered } else { failed };
                // What closes an incident before it rings anew is no event.
                if works && !alert.id.ends_with("/close") {
                    delivered.push((delivery.sink.clone(), alert.alert_id.clone(), alert.id.clone()));
                }
                planner.settle(partition, &delivery.key, outcome, now, &mut |most| most);
            }
        }
        let mut last: BTreeMap<(String, String), String> = BTreeMap::new();
        for (sink, alert, event) in delivered {
            let before = last.insert((sink, alert), event.clone());
            prop_assert!(before.is_none_or(|before| before < event));
        }
    }
}
