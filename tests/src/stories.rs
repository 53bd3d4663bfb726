//! The story accounts as plain events and profiles, in the JSON that any producer would write.

use bellwether_core::event::{Event, Profile};
use bellwether_core::time::Day;
use serde_json::json;

#[path = "../../crates/bellwether/src/stories.rs"]
mod told;

/// The day after the stories' last: long past, so that the machine's clock does not interfere.
pub const END: Day = Day(20_500);

/// When the stories' last day has been judged in every partition, in milliseconds since 1970: the default policy lets a day settle for
/// an hour and spreads the verdicts over two more.
pub const JUDGED: i64 = END.0 as i64 * 86_400_000 + 6 * 3_600_000;

/// What is known of the accounts apart from their events.
#[must_use]
pub fn profiles() -> Vec<Profile> {
    told::all(END).into_iter().map(|story| story.profile).collect()
}

/// All events, in order of time.
#[must_use]
pub fn events() -> Vec<Event> {
    let mut events: Vec<Event> =
        told::all(END).into_iter().flat_map(|story| story.events).collect();
    events.sort_by(|left, right| {
        left.occurred_at.cmp(&right.occurred_at).then_with(|| left.id.cmp(&right.id))
    });
    events
}

/// An event in the form of `schemas/usage-event.avsc`.
#[must_use]
pub fn event_json(event: &Event) -> Vec<u8> {
    let value = json!({
        "event_id": event.id,
        "account_id": event.account,
        "type": event.kind,
        "occurred_at": event.occurred_at,
        "member_id": event.member,
        "member_role": event.role,
        "feature": event.feature,
        "segment": event.segment,
        "value": event.value,
    });
    value.to_string().into_bytes()
}

/// A profile in the form of `schemas/account-profile.avsc`.
#[must_use]
pub fn profile_json(profile: &Profile) -> Vec<u8> {
    let value = json!({
        "account_id": profile.account,
        "as_of": profile.as_of,
        "name": profile.name,
        "segment": profile.segment,
        "plan": profile.plan,
        "started_on": profile.started_on.map(Day::iso),
    });
    value.to_string().into_bytes()
}
