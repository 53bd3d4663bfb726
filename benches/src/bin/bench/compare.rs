//! Our score changes against the peer's, account by account, in order.

use std::collections::HashMap;

use serde_json::Value;

/// A score and the one before it, in hundredths; of an account's first record, the one before it is the base.
pub(crate) type Change = (i64, i64);

/// The changes of each account, in order.
pub(crate) type Changes = HashMap<String, Vec<Change>>;

fn hundredths(value: &Value) -> i64 {
    (value.as_f64().expect("a number") * 100.0).round() as i64
}

/// Adds one of the peer's records.
pub(crate) fn add_peer(changes: &mut Changes, payload: &[u8]) {
    let record: Value = serde_json::from_slice(payload).expect("JSON");
    let account = record["account_id"].as_str().expect("an account").to_owned();
    let change = (hundredths(&record["score"]), hundredths(&record["previous"]));
    changes.entry(account).or_default().push(change);
}

/// Adds one of ours.
pub(crate) fn add_ours(changes: &mut Changes, payload: &[u8]) {
    let record: Value = serde_json::from_slice(payload).expect("JSON");
    let account = record["account_id"].as_str().expect("an account").to_owned();
    let score = record["score_centipoints"].as_i64().expect("a number");
    let before = record["previous_score_centipoints"].as_i64().unwrap_or(10_000);
    let moved: i64 = record["movements"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|movement| movement["delta_centipoints"].as_i64().expect("a number"))
        .sum();
    let first = record["previous_score_centipoints"].is_null();
    assert_eq!(moved, if first { score } else { score - before }, "an explanation adds up");
    changes.entry(account).or_default().push((score, before));
}

/// Records of both, and how many of the peer's have no equal of ours at their place, or the other way round.
pub(crate) fn compare(peer: &Changes, ours: &Changes) -> (usize, usize, usize) {
    let count = |changes: &Changes| changes.values().map(Vec::len).sum();
    let mut differ = 0;
    let none = Vec::new();
    for (account, theirs) in peer {
        let own = ours.get(account).unwrap_or(&none);
        let equal = theirs.iter().zip(own).filter(|(left, right)| left == right).count();
        differ += theirs.len().max(own.len()) - equal;
    }
    let only_ours = ours.iter().filter(|(account, _)| !peer.contains_key(*account));
    differ += only_ours.map(|(_, own)| own.len()).sum::<usize>();
    (count(peer), count(ours), differ)
}
