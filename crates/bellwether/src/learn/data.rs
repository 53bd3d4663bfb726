//! How good the data were that a model was learned from, cohort by cohort.

use std::collections::BTreeMap;

use bellwether_core::drift::{SIGNAL_PREFIX, Survey};
use bellwether_core::quality::Silence;
use bellwether_core::step::Core;
use serde_json::{Map, Value, json};

use crate::replay::Replay;
use crate::show;

pub(super) const HEADER: [&str; 5] =
    ["cohort", "accounts", "records not used", "accounts without a reading", "silent at the end"];

/// Of history that was replayed: by cohort its accounts, records that were not used by reason, the share of accounts without a
/// reading by signal, and signals that were silent at its end for longer than ever before.
pub(super) fn quality(core: &Core, replay: &Replay) -> Value {
    let mut survey = Survey::of(core);
    for account in replay.accounts() {
        survey.see(core, account);
    }
    let mut cohorts: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut put = |cohort, part: &str, name: &str, value: Value| {
        let of = cohorts.entry(cohort).or_default();
        if name.is_empty() {
            of.insert(part.to_owned(), value);
        } else {
            of.entry(part).or_insert_with(|| json!({}))[name] = value;
        }
    };
    for (cohort, of) in survey.cohorts() {
        put(cohort, "accounts", "", of.accounts.into());
    }
    for (cohort, reason, records) in replay.rejected().into_iter().flat_map(|all| all.iter()) {
        put(cohort, "rejected", reason.as_str(), records.into());
    }
    for (cohort, reading, share) in survey.missing().filter(|(_, _, share)| *share > 0.0) {
        let signal = reading.strip_prefix(SIGNAL_PREFIX).unwrap_or(reading);
        put(cohort, "missing", signal, ((share * 1e4).round() / 1e4).into());
    }
    for (cohort, signal, silence) in survey.silences().filter(|(_, _, of)| of.is_unusual()) {
        let Silence { days, gap_days } = silence;
        put(cohort, "silent", signal, json!({"days": days, "gap_days": gap_days}));
    }
    json!({"events": replay.events(), "cohorts": cohorts})
}

/// Cells of the table, cohort by cohort; none of a model of before this was kept.
pub(super) fn rows(data: &Value) -> Vec<Vec<String>> {
    let each = data["cohorts"].as_object().into_iter().flatten();
    let list = |of: &Value, cell: &dyn Fn(&str, &Value) -> String| {
        let parts = of.as_object().into_iter().flatten();
        let parts: Vec<String> = parts.map(|(name, value)| cell(name, value)).collect();
        if parts.is_empty() { "–".to_owned() } else { parts.join(", ") }
    };
    each.map(|(name, of)| {
        vec![
            if name.is_empty() { "(no cohort)".to_owned() } else { name.clone() },
            of["accounts"].as_u64().unwrap_or(0).to_string(),
            list(&of["rejected"], &|reason, records| format!("{records} {reason}")),
            list(&of["missing"], &|signal, share| {
                format!("{signal} {:.0} %", share.as_f64().unwrap_or(0.0) * 100.0)
            }),
            list(&of["silent"], &|signal, of| {
                format!("{signal} {} days, {} at most before", of["days"], of["gap_days"])
            }),
        ]
    })
    .collect()
}

/// How much there was, in a sentence.
pub(super) fn said(data: &Value) -> String {
    match data["examples"].as_u64() {
        None => format!("{} events were used.", data["events"]),
        Some(examples) => format!(
            "{examples} published examples were used; not used were {} of other horizons, {} of policies whose readings mean something else, and {} that cannot be read. {} outcomes cannot be read.",
            data["other_horizon"],
            data["other_readings"],
            data["unreadable"],
            data["unreadable_outcomes"].as_u64().unwrap_or(0)
        ),
    }
}

pub(super) fn print(data: &Value) {
    let rows = rows(data);
    if rows.is_empty() {
        return;
    }
    println!("\nThe data: {}", said(data));
    let mut table = show::table(&HEADER);
    for row in rows {
        table.add_row(row.iter().map(|cell| show::plain(cell)));
    }
    println!("{table}");
}
