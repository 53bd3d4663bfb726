//! Which family of change each urgent alert rests on: a drop, a rise or a decline.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bellwether_core::corroborate::by_chance;
use bellwether_core::id::AccountId;
use bellwether_core::output::{AlertEvent, Family, Output, Severity};
use bellwether_core::policy::Policy;
use bellwether_core::step::Observer;

/// Alerts of this kind are about rises; all other corroborated ones about drops and declines.
const SPIKE: &str = "usage_spike";

/// What is known of an account's last judgement, and the alerts so far.
#[derive(Debug, Default)]
struct Seen {
    /// Volume, and the best statistic per family.
    last: BTreeMap<AccountId, (f64, [Option<f64>; 3])>,
    /// Account, time as in alerts.csv, kind, family.
    rows: Vec<[String; 4]>,
}

/// The families of the alerts of a replay.
#[derive(Debug, Default)]
pub(crate) struct Families(Arc<Mutex<Seen>>);

impl Families {
    /// Remembers what each judgement found.
    pub(crate) fn observer(&self) -> Observer {
        let seen = Arc::clone(&self.0);
        Observer::new(move |judged| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.last.insert(judged.account_id.clone(), (judged.volume, judged.statistics));
        })
    }

    /// Names the family of each urgent alert.
    pub(crate) fn watch(&self, policy: &Policy) -> impl FnMut(&Output) + 'static {
        let (seen, policy) = (Arc::clone(&self.0), policy.clone());
        move |output| {
            let Output::Alert(event) = output else { return };
            if event.severity < Severity::High {
                return;
            }
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let family = family(event, seen.last.get(&event.account_id), &policy);
            seen.rows.push([
                event.account_id.to_string(),
                event.at.plus(1).iso(),
                event.kind.clone(),
                family.map_or("", Family::as_str).to_owned(),
            ]);
        }
    }

    /// Writes them beside alerts.csv.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut writer = csv::Writer::from_path(path)?;
        writer.write_record(["account_id", "at", "kind", "family"])?;
        for row in &self.0.lock().unwrap_or_else(PoisonError::into_inner).rows {
            writer.write_record(row)?;
        }
        Ok(writer.flush()?)
    }
}

/// The family that chance explains least, among those of the alert's kind; none for alerts of a fleet and of accounts that were not judged.
fn family(
    event: &AlertEvent,
    last: Option<&(f64, [Option<f64>; 3])>,
    policy: &Policy,
) -> Option<Family> {
    if event.kind == SPIKE {
        return Some(Family::Rise);
    }
    let &(volume, statistics) = last.filter(|_| !event.is_fleet())?;
    let rate = |family: Family| {
        let share = policy.corroboration.shares[family as usize];
        let statistic = statistics[family as usize].filter(|_| share > 0.0)?;
        Some(by_chance(&policy.calibration, family, volume, statistic) / share)
    };
    let of_risk = Family::ALL.into_iter().filter(|family| *family != Family::Rise);
    of_risk
        .filter_map(|family| Some((rate(family)?, family)))
        .min_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, family)| family)
}
