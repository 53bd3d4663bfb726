//! Decides what is told to whom, and when: routes, limits, digests, and what becomes of each delivery. The present and randomness are
//! arguments; nothing is sent here.
//!
//! # Invariants
//! - For each sink the first route that matches decides. An event is told to a sink once, whatever is repeated.
//! - No limit loses an alert: what is over a limit goes into the daily digest of the sink, and for a sink that takes no digests, and for
//!   critical alerts, no limit holds. Each is counted. What there is no room for, and what is too old, is parked: each delivery once for a
//!   reason, and of what no sink refused so many a day; the rest is counted.
//! - An event is known as told once it stands in a digest that goes out, or was delivered by itself.
//! - Deliveries of one alert reach a sink in the order of its events.
//! - How an alert goes on (acknowledged, resolved) is told to sinks that keep alerts open, where they were told that it opened, whatever
//!   routes say by then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_core::calendar::Calendar;
use bellwether_core::time::{DAY_MS, HOUR_MS};

use crate::delivery::{Delivery, Parking, Subject, key};
use crate::desk::{Desk, Format, Queued, RowError, Source, Told};
use crate::digest::Entry;
use crate::event::{Alert, Phase, Profile};
use crate::policy::{DeliveryPolicy, Mode, Route, SinkType};
use crate::render::Texts;
use crate::schedule::next_digest;

mod afterwards;
mod erase;
mod holidays;
mod limits;
mod park;
mod progress;
mod reason;
mod redrive;
mod route;

use self::park::entry_alone;
pub use self::reason::{Parked, Suppressed};
pub(crate) use self::redrive::is_whole_digest;
pub use self::redrive::{Aftermath, Since};
pub use self::route::routes_of;

/// Decides. Owns the desks of the partitions that a process has.
#[derive(Debug)]
pub struct Planner {
    texts: Arc<Texts>,
    version: String,
    desks: BTreeMap<i32, Desk>,
    parked: Vec<Parked>,
    suppressed: BTreeMap<Suppressed, u64>,
    /// Public holidays.
    calendar: Calendar,
    /// When old rows were last looked for.
    tidied_ms: i64,
    /// For how long the parking topic keeps records.
    parked_ms: i64,
    /// The format in which rows are written.
    format: Format,
}

/// For how long the parking topic keeps records where nothing else is said.
const PARKED_DAYS: i64 = 30;

impl Planner {
    /// A planner without partitions.
    #[must_use]
    pub fn new(texts: Arc<Texts>, version: &str) -> Planner {
        Planner {
            texts,
            version: version.to_owned(),
            desks: BTreeMap::new(),
            parked: Vec::new(),
            suppressed: BTreeMap::new(),
            calendar: Calendar::default(),
            tidied_ms: 0,
            parked_ms: PARKED_DAYS * DAY_MS,
            format: Format::NEWEST,
        }
    }

    /// The same where the parking topic keeps records for so long (else 30 days): what is parked there need not be parked again.
    #[must_use]
    pub fn parking_for(self, parked_ms: i64) -> Planner {
        Planner { parked_ms, ..self }
    }

    /// The same where rows are written in an older format, so that older notifiers can read them.
    #[must_use]
    pub fn writing(self, format: Format) -> Planner {
        Planner { format, ..self }
    }

    fn policy(&self) -> &DeliveryPolicy {
        self.texts.policy()
    }

    /// Begins with a partition, empty: its rows follow through [`Planner::restore`].
    pub fn assign(&mut self, partition: i32) {
        self.desks.insert(partition, Desk::default());
    }

    /// Lets go of a partition.
    pub fn revoke(&mut self, partition: i32) {
        self.desks.remove(&partition);
        self.parked.retain(|parked| parked.partition != partition);
    }

    /// Takes a row that was read back.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn restore(
        &mut self,
        partition: i32,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<(), RowError> {
        self.desks.get_mut(&partition).map_or(Ok(()), |desk| desk.restore(key, value))
    }

    /// Takes what is known of an account.
    pub fn profile(&mut self, partition: i32, account: &str, profile: Profile) {
        if let Some(desk) = self.desks.get_mut(&partition) {
            desk.set_profile(account, profile);
        }
    }

    /// An account has a score, or has none any more.
    pub fn scored(&mut self, partition: i32, account: &str, has_score: bool) {
        if let Some(desk) = self.desks.get_mut(&partition) {
            desk.note_account(account, Source::Score, has_score);
        }
    }

    /// Whether it is known how many accounts a partition has: it was written, or all were read.
    #[must_use]
    pub fn knows_accounts(&self, partition: i32) -> bool {
        self.desks.get(&partition).is_some_and(Desk::knows_accounts)
    }

    /// All accounts of a partition were read that have a profile, or that have a score.
    pub fn all_read(&mut self, partition: i32, from: Source) {
        if let Some(desk) = self.desks.get_mut(&partition) {
            desk.set_read(from);
        }
    }

    /// The desks, by partition.
    #[must_use]
    pub fn desks(&self) -> &BTreeMap<i32, Desk> {
        &self.desks
    }

    /// How often what was not told, since the last call.
    pub fn take_suppressed(&mut self) -> BTreeMap<Suppressed, u64> {
        std::mem::take(&mut self.suppressed)
    }

    /// What was parked since the last call.
    pub fn take_parked(&mut self) -> Vec<Parked> {
        std::mem::take(&mut self.parked)
    }

    /// Rows that changed since the last call: partition, key, value.
    pub fn take_changes(&mut self) -> Vec<(i32, String, Option<Vec<u8>>)> {
        let mut changes = Vec::new();
        for (partition, desk) in &mut self.desks {
            let rows = desk.take_changes().into_iter();
            changes.extend(rows.map(|(key, value)| (*partition, key, value)));
        }
        changes
    }

    fn suppress(&mut self, reason: Suppressed) {
        *self.suppressed.entry(reason).or_default() += 1;
    }

    /// Takes an event of an alert.
    pub fn alert(&mut self, partition: i32, alert: &Alert, now_ms: i64) {
        if !self.desks.contains_key(&partition) {
            return;
        }
        let alert = &*alert.fitted();
        if self.is_erased(alert) {
            self.suppress(Suppressed::Forgotten);
            return;
        }
        if alert.cohort().is_none() {
            let account = &alert.account_id;
            self.desk_mut(partition).note_account(account, Source::Alert, true);
        }
        let mut profile = self.desk(partition).profile(&alert.account_id);
        if let Some(cohort) = alert.cohort() {
            profile.segment = Some(cohort.to_owned());
        }
        let max_age_ms = i64::from(self.policy().delivery.max_age_hours) * HOUR_MS;
        let stale = now_ms.saturating_sub(alert.at.0) > max_age_ms;
        match alert.phase() {
            Phase::Raised if stale => self.park_stale(partition, alert, &profile, now_ms),
            Phase::Raised => self.raise(partition, alert, &profile, now_ms),
            Phase::Changed | Phase::Held => self.go_on(partition, alert, &profile, now_ms),
            Phase::Ended => self.end(partition, alert, &profile, now_ms),
        }
    }

    fn routes(&self, alert: &Alert, profile: &Profile) -> BTreeMap<String, Route> {
        let routes = routes_of(self.policy(), alert, profile).into_iter();
        routes.map(|(sink, route)| (sink, route.clone())).collect()
    }

    fn raise(&mut self, partition: i32, alert: &Alert, profile: &Profile, now_ms: i64) {
        let routes = self.routes(alert, profile);
        if routes.is_empty() {
            self.suppress(Suppressed::NoRoute);
            return;
        }
        let fresh = |desk: &Desk, sink: &String| !desk.knows(&key(&alert.id, sink));
        let routes: BTreeMap<String, Route> =
            routes.into_iter().filter(|(sink, _)| fresh(self.desk(partition), sink)).collect();
        if routes.is_empty() {
            self.suppress(Suppressed::Duplicate);
            return;
        }
        self.refresh(partition, alert, profile);
        let over = self.over_limits(partition, &routes, alert, profile, now_ms);
        let mut told = self.desk(partition).told(&alert.alert_id).cloned().unwrap_or_default();
        for (sink, route) in routes {
            match (route.mode, over.get(&sink)) {
                (Mode::Immediate, None) => {
                    let due = self.due(&route, alert, profile, now_ms);
                    self.tell(partition, &sink, (alert, profile), &mut told, (now_ms, due));
                }
                (Mode::Immediate, Some(because)) => {
                    let why = (Mode::Daily, because.as_str());
                    self.queue(partition, &sink, (alert, profile), why, now_ms);
                }
                (mode @ (Mode::Daily | Mode::Weekly | Mode::Checkin), _) => {
                    self.queue(partition, &sink, (alert, profile), (mode, mode.as_str()), now_ms);
                }
            }
        }
        if !told.sinks.is_empty() {
            told.severity.clone_from(&alert.severity);
            self.desk_mut(partition).set_told(&alert.alert_id, Some(told));
        }
    }

    /// Tells a sink what asks for attention, in place of what stands in its digests and what waits for the end of quiet hours.
    fn tell(
        &mut self,
        partition: i32,
        sink: &str,
        (alert, profile): (&Alert, &Profile),
        told: &mut Told,
        times: (i64, i64),
    ) {
        let queued = self.queued_of(partition, &alert.alert_id).into_iter();
        for (name, _) in queued.filter(|(_, queued)| queued.sink == sink) {
            self.desk_mut(partition).unqueue(&name, times.0);
        }
        let superseded = self.supersede(partition, sink, &alert.alert_id, times.0);
        if told.sinks.contains(sink) && superseded.is_empty() {
            told.reached.insert(sink.to_owned());
        }
        let closes = |delivery: &Delivery| match &delivery.subject {
            Subject::Alert { alert, .. } => alert.phase() == Phase::Ended,
            Subject::Digest(_) => false,
        };
        // What was acknowledged there rings again only as an incident of its own: the one of before is closed.
        if told.silenced.remove(sink) || superseded.iter().any(closes) {
            let closing = Alert {
                id: format!("{}/close", alert.id),
                transition: "resolved".to_owned(),
                ..alert.clone()
            };
            self.plan(partition, sink, (&closing, profile, BTreeSet::new()), times);
        }
        let earlier = told.note(sink, &alert.severity);
        self.plan(partition, sink, (alert, profile, earlier), times);
        told.sinks.insert(sink.to_owned());
    }

    /// What waits for the end of quiet hours is not told any more where something newer of the same alert is: that one may be too urgent to
    /// wait behind it. Returns what that was.
    fn supersede(
        &mut self,
        partition: i32,
        sink: &str,
        alert_id: &str,
        now_ms: i64,
    ) -> Vec<Delivery> {
        let mut held = self.held(partition, alert_id, now_ms);
        held.retain(|delivery| delivery.sink == sink);
        for delivery in &held {
            self.desk_mut(partition).retire(&delivery.key, now_ms);
        }
        if !held.is_empty() {
            self.suppress(Suppressed::Superseded);
        }
        held
    }

    /// Adds a delivery, or parks it where too much waits.
    fn plan(
        &mut self,
        partition: i32,
        sink: &str,
        (alert, profile, earlier): (&Alert, &Profile, BTreeSet<String>),
        (now_ms, due_ms): (i64, i64),
    ) {
        let is_newer = matches!(alert.phase(), Phase::Raised | Phase::Ended);
        if is_newer && !self.is_parked_already(partition, alert, sink) {
            self.desk_mut(partition).outdate(&alert.alert_id, Some(sink));
        }
        let what = (alert.alert_id.clone(), alert_subject(alert, profile, earlier));
        let mut delivery = self.delivery(key(&alert.id, sink), sink, what, now_ms);
        delivery.due_ms = due_ms;
        delivery.first_due_ms = due_ms;
        self.add(partition, delivery);
    }

    /// Whether an event that is read again was parked for a sink when it was read first: then it overtakes nothing once more, least of all
    /// itself.
    fn is_parked_already(&self, partition: i32, alert: &Alert, sink: &str) -> bool {
        self.desk(partition).is_untold_as(&alert.alert_id, sink, &key(&alert.id, sink))
    }

    /// A delivery that is due at once.
    fn delivery(
        &self,
        key: String,
        sink: &str,
        (lane, subject): (String, Subject),
        now_ms: i64,
    ) -> Delivery {
        Delivery {
            key,
            sink: sink.to_owned(),
            lane,
            subject,
            created_ms: now_ms,
            due_ms: now_ms,
            attempts: 0,
            excused: 0,
            first_due_ms: now_ms,
            sequence: 0,
            policy_version: self.version.clone(),
        }
    }

    fn add(&mut self, partition: i32, delivery: Delivery) {
        if self.desk(partition).waiting(&delivery.sink) >= self.policy().delivery.pending_max {
            let detail = format!("{} wait already", self.policy().delivery.pending_max);
            self.park(partition, delivery, Parking::Backlog, detail);
        } else {
            self.desk_mut(partition).add(delivery);
        }
    }

    fn queue(
        &mut self,
        partition: i32,
        sink: &str,
        (alert, profile): (&Alert, &Profile),
        (mode, because): (Mode, &str),
        now_ms: i64,
    ) {
        let name = format!("{sink}/{}/{}", mode.as_str(), alert.alert_id);
        let pending_max = self.policy().delivery.pending_max;
        let full = self.desk(partition).queued_len() >= pending_max;
        let queued = self.desk(partition).queued_as(&name).cloned();
        let entry =
            Entry { alert: alert.clone(), profile: profile.clone(), because: because.to_owned() };
        if full && queued.is_none() {
            let detail = format!("{pending_max} alerts stand in digests to come already");
            let delivery =
                self.delivery(key(&alert.id, sink), sink, entry_alone(mode, entry), now_ms);
            self.park(partition, delivery, Parking::DigestFull, detail);
            return;
        }
        let flush_ms = queued
            .as_ref()
            .map_or_else(|| next_digest(&self.policy().digest, mode, now_ms), |of| of.flush_ms);
        let mut keys = queued.map(|queued| queued.keys).unwrap_or_default();
        keys.insert(key(&alert.id, sink));
        self.desk_mut(partition)
            .queue(name, Queued { sink: sink.to_owned(), mode, flush_ms, entry, keys });
        self.desk_mut(partition).outdate(&alert.alert_id, Some(sink));
    }

    /// What stands in a digest to come is the latest of an alert.
    fn refresh(&mut self, partition: i32, alert: &Alert, profile: &Profile) {
        for (name, mut queued) in self.queued_of(partition, &alert.alert_id) {
            queued.entry.alert = alert.clone();
            queued.entry.profile = profile.clone();
            self.desk_mut(partition).queue(name, queued);
        }
    }

    fn queued_of(&self, partition: i32, alert_id: &str) -> Vec<(String, Queued)> {
        let of_alert = |queued: &Queued| queued.entry.alert.alert_id == alert_id;
        let queued = self.desk(partition).queued().filter(|(_, queued)| of_alert(queued));
        queued.map(|(name, queued)| (name.clone(), queued.clone())).collect()
    }

    fn keeps_state(&self, sink: &str) -> bool {
        self.policy().sink(sink).is_some_and(|sink| sink.kind.keeps_state())
    }

    /// Whether an incident there, once acknowledged, stays silent whatever it is told again.
    fn is_silenced_by_acknowledging(&self, sink: &str) -> bool {
        self.policy().sink(sink).is_some_and(|sink| sink.kind == SinkType::Pagerduty)
    }

    fn desk(&self, partition: i32) -> &Desk {
        &self.desks[&partition]
    }

    /// The desk of a partition at hand.
    fn desk_mut(&mut self, partition: i32) -> &mut Desk {
        self.desks.entry(partition).or_default()
    }
}

fn alert_subject(alert: &Alert, profile: &Profile, earlier: BTreeSet<String>) -> Subject {
    Subject::Alert { alert: Box::new(alert.clone()), profile: profile.clone(), earlier }
}

#[cfg(test)]
mod tests;
