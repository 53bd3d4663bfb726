//! The deletion of an account. It is an input like any other, so it has its place in the order of the log, survives every crash and
//! replays identically.
//!
//! # Invariants
//! - Every row of the account goes. What is left is hashes in the memory of event ids, until the horizon of that memory: those of its
//!   events' ids, and marks that say when it was deleted.
//! - The topics are not ordered among each other, so events from before the deletion may come after it. By the marks they are known
//!   and dropped; so it does not matter which came first, and nothing of the old account comes back.
//! - What happened after the deletion begins a new account.

use crate::account::Account;
use crate::alert;
use crate::id::AccountId;
use crate::output::{Output, Resolution};
use crate::reject::{Reason, Reject};
use crate::state::{State, seen_hour};
use crate::step::{Core, latest};
use crate::time::{HOUR_MS, MINUTE_MS, Millis};

const MINUTES: i64 = HOUR_MS / MINUTE_MS;

impl Core {
    /// Deletes what is known of an account, ends its open alerts, and says so where its health record stands. `received_at` is the
    /// time of the deletion.
    pub(crate) fn forget<S: State>(
        &self,
        state: &mut S,
        id: &AccountId,
        received_at: Millis,
        out: &mut Vec<Output>,
    ) -> Result<(), S::Error> {
        let known = state.take(id)?;
        // The deletion may be read late, or a second time: an account that began after it is another one.
        let until = Millis(received_at.0.div_euclid(MINUTE_MS) * MINUTE_MS + MINUTE_MS);
        let began = known.as_deref().and_then(Account::began);
        if let Some(account) = known {
            if began.is_some_and(|began| began >= until) {
                state.put(account)?;
                return mark_deletion(state, id, received_at);
            }
            let mut account = account;
            self.realign(&mut account);
            let at = latest(&account, self.policy.lateness_ms()).max(received_at);
            // So that its name is not published once more.
            account.profile = None;
            let (model, why) = (self.scorer.version(), Resolution::Forgotten);
            alert::resolve_all(&mut account, &self.policy, model, at, why, out);
            state.remove(account)?;
        }
        mark_deletion(state, id, received_at)?;
        // Where nothing was known, too: a record of an earlier life may stand in the topic.
        out.push(Output::Forgotten(id.clone()));
        Ok(())
    }
}

/// Marks when an account was deleted: the hour under the account's hash, the minute under a hash of its own.
fn mark_deletion<S: State>(state: &mut S, id: &AccountId, at: Millis) -> Result<(), S::Error> {
    let hour = seen_hour(at);
    let minute = at.0.div_euclid(MINUTE_MS).rem_euclid(MINUTES);
    // A topic may carry its producers' stamps: the latest deletion is the one that counts.
    if state.marked(hash(id, None))?.is_none_or(|before| before <= hour) {
        state.mark(hash(id, None), at)?;
    }
    state.mark(hash(id, Some((hour, minute))), at)
}

/// Whether something that happened at `at` may be older than an account's deletion: of an account that began after one, only what is
/// older than all its events. So the marks are hardly ever looked for.
pub(crate) fn may_be_of_before(known: Option<&Account>, at: Millis) -> bool {
    known.and_then(Account::began).is_none_or(|first| at < first)
}

/// What can be said against an input that happened before its account was deleted, or in the minute of the deletion. Marks count back
/// to the horizon, as ids do.
pub(crate) fn before_deletion<S: State>(
    state: &mut S,
    id: &AccountId,
    at: Millis,
    horizon: Millis,
) -> Result<Option<Reject>, S::Error> {
    let Some(hour) = state.marked(hash(id, None))? else { return Ok(None) };
    if hour < seen_hour(horizon) || seen_hour(at) > hour {
        return Ok(None);
    }
    let mut until = hour * HOUR_MS;
    if seen_hour(at) == hour {
        for minute in (0..MINUTES).rev() {
            if state.marked(hash(id, Some((hour, minute))))?.is_some() {
                until += (minute + 1) * MINUTE_MS;
                break;
            }
        }
    }
    Ok((seen_hour(at) < hour || at.0 < until).then(|| {
        let detail = format!("it happened at {at}, before its account was deleted");
        Reject::new(Reason::Forgotten, detail)
    }))
}

/// The hash of a mark. Control characters are in no identifier, so it is the hash of no event's id.
fn hash(id: &AccountId, minute: Option<(i64, i64)>) -> u64 {
    let text = match minute {
        None => format!("{id}\u{1e}"),
        Some((hour, minute)) => format!("{id}\u{1e}{hour}\u{1e}{minute}"),
    };
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}
