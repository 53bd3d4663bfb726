//! One step of the engine: an input and the state of its partition become the next state and the outputs.
//!
//! Order within a step: admission, the partition's clock, timers that are due (see [`crate::due`]), the
//! account's own day closes, then the input itself. So an event is judged against days that were closed without it.
//!
//! Two clocks: an account's days are closed by its own events; the partition's clock (all events and ticks) closes the
//! days of accounts that are silent. So history can be filled in account by account, in any order of accounts.

use std::sync::Arc;

use bellwether_detect::Guarded;

use crate::account::{Account, ActivityKey, Backfill, Row, SignalKey, SignalState, segment};
use crate::alert::Restraint;
use crate::calendar::Entry;
use crate::close::{
    context, is_unjudged, judge_day, refresh_points, roll_day, rolling_value, take_evidence,
};
use crate::cohort::Cohorts;
use crate::corroborate::Alarm;
use crate::detect::{Detector, Deviation, RobustDetector};
use crate::event::{Event, Input, Outcome, OutcomeKind, Profile, VALUE_ABS_MAX};
use crate::fleet::Message;
use crate::history::{DayTotals, History, Older, mask};
use crate::id::{AccountId, EventId, ID_BYTES_MAX};
use crate::intraday;
use crate::output::{Evidence, HealthRecord, Judged, Maturity, Output, Resolution, Sample};
use crate::points::Points;
use crate::policy::{Aggregate, Compiled, Direction, Signal, UnknownAccounts};
use crate::promotion::ModelReader;
use crate::reject::{Reason, Reject};
use crate::score::{ExpertScorecard, Scorer, is_presence};
use crate::state::{Clock, State};
use crate::time::{DAY_MS, Day, HOUR_MS, Millis};
use crate::{alert, close, feedback, fleet, forecast, forget, life, publish, shadow, standing};

/// The pure engine: a policy, a deviation stage and a scorecard.
#[derive(Debug, Clone)]
pub struct Core {
    pub(crate) policy: Arc<Compiled>,
    pub(crate) detector: Arc<dyn Detector>,
    pub(crate) scorer: Arc<dyn Scorer>,
    pub(crate) observer: Option<Observer>,
    /// How many partitions there are: where there are others, they tell each other of their cohorts.
    partitions: i32,
    /// The models, with their fallbacks counted.
    pub(crate) models: Arc<Guarded>,
    /// The policy as it was read, with its own weights and scale, and the scorecard before any promotion.
    configured: (Arc<Compiled>, Arc<dyn Scorer>),
    /// The promotion in force.
    promoted: Option<EventId>,
    /// Why the model of that promotion cannot be read.
    unread: Option<Arc<str>>,
    reader: Option<Reader>,
    /// What accounts are aligned with: the policy, and the model where it is not the policy's own.
    setting: Arc<str>,
    /// See [`Core::for_older`].
    for_older: bool,
}

/// Reads promoted models.
#[derive(Clone)]
struct Reader(Arc<ModelReader>);

impl std::fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// Sees what the scan of every closed day found, and changes nothing: for calibration and figures.
#[derive(Clone)]
pub struct Observer {
    judged: Arc<dyn Fn(&Judged) + Send + Sync>,
    sampled: Arc<dyn Fn(&Sample) + Send + Sync>,
    in_detail: Option<Arc<Wants>>,
}

/// Whether an account is seen in detail.
type Wants = dyn Fn(&AccountId) -> bool + Send + Sync;

impl Observer {
    /// An observer that calls this for every account that is established.
    pub fn new(see: impl Fn(&Judged) + Send + Sync + 'static) -> Observer {
        Observer { judged: Arc::new(see), sampled: Arc::new(|_| {}), in_detail: None }
    }

    /// The same, which also sees what the values of watched signals amount to.
    #[must_use]
    pub fn and_samples(self, see: impl Fn(&Sample) + Send + Sync + 'static) -> Observer {
        Observer { sampled: Arc::new(see), ..self }
    }

    /// The same, which also sees what was expected of each signal of these accounts, from their first day on. It costs a second look at
    /// their history.
    #[must_use]
    pub fn in_detail(self, wants: impl Fn(&AccountId) -> bool + Send + Sync + 'static) -> Observer {
        Observer { in_detail: Some(Arc::new(wants)), ..self }
    }

    pub(crate) fn see(&self, judged: &Judged) {
        (self.judged)(judged);
    }

    pub(crate) fn wants_detail(&self, account: &AccountId) -> bool {
        self.in_detail.as_ref().is_some_and(|wants| wants(account))
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Observer").finish_non_exhaustive()
    }
}

/// What became of an input that was not rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Signals that an event fed.
    pub signals: u32,
    /// Days of accounts that were closed on the way.
    pub days_closed: u32,
    /// Distinct members or features that were counted but not kept, because `admission.distinct_max` was reached.
    pub distinct_dropped: u32,
}

/// Between a policy's version and that of a model.
const SETTING_PARTS: char = '+';

/// What a step says: used, or rejected for a reason.
pub type Verdict = Result<Applied, Reject>;

impl Core {
    /// An engine with the first deviation stage and the policy's expert weights.
    #[must_use]
    pub fn new(policy: Arc<Compiled>) -> Core {
        Core::with_models(policy, Arc::new(RobustDetector), Arc::new(ExpertScorecard))
    }

    /// The same engine with another scorecard, on its scale.
    #[must_use]
    pub fn scored_by(self, scorer: Arc<dyn Scorer>) -> Core {
        let configured = (Arc::clone(&self.policy), Arc::clone(&scorer));
        Core { configured, ..self.scoring_by(scorer) }
    }

    fn scoring_by(self, scorer: Arc<dyn Scorer>) -> Core {
        let own = match scorer.weights() {
            Some(other) => Some(self.policy.weighed_as(other)),
            None => scorer.scale().map(|scale| self.policy.scaled(&scale)),
        };
        let (policy, setting) = match own {
            Some(own) => {
                let setting = format!("{}{SETTING_PARTS}{}", own.version(), scorer.version());
                (Arc::new(own), setting.into())
            }
            None => (Arc::clone(&self.policy), self.policy.version().into()),
        };
        Core { policy, scorer, setting, ..self }
    }

    /// The same engine, which can read models that are promoted. Without a reader every promotion of a model is refused.
    #[must_use]
    pub fn reading(self, reader: Arc<ModelReader>) -> Core {
        Core { reader: Some(Reader(reader)), ..self }
    }

    pub(crate) fn read_model(&self, model: &str) -> Result<Arc<dyn Scorer>, String> {
        let Some(Reader(reader)) = &self.reader else {
            return Err("models cannot be promoted here".to_owned());
        };
        reader(model, &self.configured.0)
    }

    /// The promotion in force.
    #[must_use]
    pub fn promoted(&self) -> Option<&EventId> {
        self.promoted.as_ref()
    }

    /// The engine as configured.
    pub(crate) fn demote(self) -> Core {
        let (policy, scorer) = self.configured.clone();
        Core { policy, promoted: None, unread: None, ..self }.scoring_by(scorer)
    }

    /// The engine of a promotion. One that was taken is readable, unless the policy has changed since (other signals, for one): then the
    /// configured scorecard goes on.
    pub(crate) fn promote(self, id: &EventId, model: Option<&str>) -> Core {
        let core = match model.map(|model| self.read_model(model)) {
            Some(Ok(scorer)) => {
                let policy = Arc::clone(&self.configured.0);
                Core { policy, unread: None, ..self }.scoring_by(scorer)
            }
            Some(Err(error)) => Core { unread: Some(error.into()), ..self.demote() },
            None => self.demote(),
        };
        Core { promoted: Some(id.clone()), ..core }
    }

    /// Why the promoted model cannot be read, where it cannot: the configured scorecard scores in its place.
    #[must_use]
    pub fn unread_reason(&self) -> Option<&str> {
        self.unread.as_deref()
    }

    /// Whether this is an engine of a promotion over another one.
    pub(crate) fn is_of(&self, other: &Core) -> bool {
        Arc::ptr_eq(&self.configured.0, &other.configured.0) && self.partitions == other.partitions
    }

    pub(crate) fn is_among_others(&self) -> bool {
        self.partitions > 1
    }

    /// An engine with other models.
    #[must_use]
    pub fn with_models(
        policy: Arc<Compiled>,
        detector: Arc<dyn Detector>,
        scorer: Arc<dyn Scorer>,
    ) -> Core {
        let setting = policy.version().into();
        Core {
            configured: (Arc::clone(&policy), Arc::clone(&scorer)),
            policy,
            detector,
            scorer,
            observer: None,
            partitions: 1,
            models: Arc::default(),
            promoted: None,
            unread: None,
            reader: None,
            setting,
            for_older: false,
        }
    }

    /// The same engine where a version from before there were lines of the contract ([`Trait::is_of_contract`]) has to be able to read what
    /// is kept of accounts: it gives none.
    ///
    /// [`Trait::is_of_contract`]: crate::standing::Trait::is_of_contract
    #[must_use]
    pub fn for_older(self) -> Core {
        Core { for_older: true, ..self }
    }

    pub(crate) fn is_for_older(&self) -> bool {
        self.for_older
    }

    /// The same engine with another scorecard, by the policy as it is configured: for what a scorecard makes of readings, whichever weights are
    /// in force.
    pub(crate) fn measured_by(self, scorer: Arc<dyn Scorer>) -> Core {
        Core { policy: Arc::clone(&self.configured.0), scorer, ..self }
    }

    /// The same engine, observed.
    #[must_use]
    pub fn observed(self, observer: Observer) -> Core {
        Core { observer: Some(observer), ..self }
    }

    /// The same engine for one of so many partitions: where there are others, what it says of its cohorts goes out by [`Cohorts::outbox`], and comes in by
    /// [`Input::Cohort`].
    #[must_use]
    pub fn among(self, partitions: i32) -> Core {
        Core { partitions, ..self }
    }

    /// The models of time series, for their counters.
    #[must_use]
    pub fn models(&self) -> &Arc<Guarded> {
        &self.models
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> &Compiled {
        &self.policy
    }

    /// Version of the scorecard in force.
    #[must_use]
    pub fn model_version(&self) -> &str {
        self.scorer.version()
    }

    /// The end of the data that the scorecard in force was learned from; none: it is an expert's.
    #[must_use]
    pub fn learned_until(&self) -> Option<Millis> {
        self.scorer.learned_until()
    }

    /// An account as a read model shows it: its health record and its open alerts. Empty before anything was published.
    #[must_use]
    pub fn view(&self, account: Account) -> Vec<Output> {
        if self.policy.rolling.enabled {
            let record = self.rolled_record(&account);
            return record.map(|record| Output::Health(Box::new(record))).into_iter().collect();
        }
        let Some((account, record)) = self.described(account) else { return Vec::new() };
        let alerts = alert::standing(&account, &self.policy, self.scorer.version());
        std::iter::once(Output::Health(Box::new(record)))
            .chain(alerts.into_iter().map(|event| Output::Alert(Box::new(event))))
            .collect()
    }

    /// The health record of an account as it stands; none before anything was published.
    #[must_use]
    pub fn record(&self, account: Account) -> Option<HealthRecord> {
        if self.policy.rolling.enabled {
            return self.rolled_record(&account);
        }
        self.described(account).map(|(_, record)| record)
    }

    fn described(&self, mut account: Account) -> Option<(Account, HealthRecord)> {
        account.hot.published_score?;
        self.realign(&mut account);
        let at = account
            .hot
            .last_event_at
            .unwrap_or_default()
            .max(account.zone().day_start(account.hot.today));
        let record = publish::health_record(&account, &self.policy, self.scorer.version(), at);
        Some((account, record))
    }

    /// Applies one input. `received_at` is the time at which the log took it (the broker's or the appender's stamp).
    /// The outer error is the store's; a rejected input is the inner error: it changes no account, though its time may have moved
    /// the partition's clock.
    pub fn apply<S: State>(
        &self,
        state: &mut S,
        input: Input,
        received_at: Millis,
        out: &mut Vec<Output>,
    ) -> Result<Verdict, S::Error> {
        let acting = self.in_force(state.cohorts().promotions_mut());
        acting.apply_input(state, input, received_at, out)
    }

    fn apply_input<S: State>(
        &self,
        state: &mut S,
        input: Input,
        received_at: Millis,
        out: &mut Vec<Output>,
    ) -> Result<Verdict, S::Error> {
        match input {
            Input::Event(event) => self.event(state, event, received_at, out),
            Input::Profile(profile) => match self.timely(profile.as_of, "as_of", received_at) {
                Ok(()) => self.profile(state, profile, out).map(|()| Ok(Applied::default())),
                Err(reject) => Ok(Err(reject)),
            },
            Input::Outcome(outcome) => {
                match self.timely(outcome.occurred_at, "occurred_at", received_at) {
                    Ok(()) => self.outcome(state, &outcome, out),
                    Err(reject) => Ok(Err(reject)),
                }
            }
            Input::Forget(account) => {
                self.forget(state, &account, received_at, out)?;
                Ok(Ok(Applied::default()))
            }
            Input::Cohort { source, message } => {
                let cohorts = state.cohorts();
                match *message {
                    Message::Part(record) => self.add_up(cohorts, out, |adder, cohorts| {
                        adder.add(cohorts, source, record);
                    }),
                    Message::Total(total) => fleet::learn(cohorts, &self.policy, &total),
                    Message::Calendar(id, entry) => cohorts.calendar_mut().set(&id, entry),
                    Message::Fact(record) => self.learn_fact(cohorts, record),
                    Message::Promotion(id, promotion) => {
                        self.learn_promotion(cohorts, &id, promotion);
                    }
                    Message::Challenger(id, challenger) => {
                        shadow::learn(cohorts, &id, challenger);
                    }
                }
                Ok(Ok(Applied::default()))
            }
            Input::Promotion { id, promotion } => {
                Ok(self.promotion(state.cohorts(), id, promotion).map(|()| Applied::default()))
            }
            Input::Challenger { id, challenger } => {
                Ok(self.challenge(state.cohorts(), id, challenger).map(|()| Applied::default()))
            }
            Input::Calendar { id, entry } => {
                Ok(self.calendar(state.cohorts(), id, entry).map(|()| Applied::default()))
            }
            Input::Tick if self.policy.rolling.enabled => {
                let clock = self.move_clock(state, received_at);
                state.set_clock(Clock { ticked: true, ..clock });
                Ok(Ok(Applied::default()))
            }
            Input::Tick => {
                let (timers_max, clock) = (self.policy.close.per_tick, state.clock());
                // An event may have been ahead of the clock on the wall; what is due by it is still to be worked off.
                let ahead = clock.newest.filter(|_| self.close_behind_ms(clock) > 0);
                let to = ahead.map_or(received_at, |newest| newest.max(received_at));
                let days_closed = self.advance(state, to, timers_max, out)?;
                let clock = state.clock();
                if !clock.ticked {
                    state.set_clock(Clock { ticked: true, ..clock });
                }
                Ok(Ok(Applied { days_closed, ..Applied::default() }))
            }
        }
    }

    fn event<S: State>(
        &self,
        state: &mut S,
        event: Event,
        received_at: Millis,
        out: &mut Vec<Output>,
    ) -> Result<Verdict, S::Error> {
        if let Some(reject) = self.refuse(state, &event, received_at)? {
            return Ok(Err(reject));
        }
        if self.policy.rolling.enabled {
            return self.roll(state, &event, out);
        }
        let timers_max = self.policy.close.per_event;
        let days_closed = self.advance(state, event.occurred_at, timers_max, out)?;
        let acting = self.in_force(state.cohorts().promotions_mut());
        acting.take_event(state, event, days_closed, out)
    }

    /// An event whose time has come.
    fn take_event<S: State>(
        &self,
        state: &mut S,
        event: Event,
        mut days_closed: u32,
        out: &mut Vec<Output>,
    ) -> Result<Verdict, S::Error> {
        let clock = state.clock().newest.unwrap_or(event.occurred_at);
        let horizon = clock.plus(-self.policy.lateness_ms() - self.policy.grace_ms());
        let horizon = state.clock().horizon.map_or(horizon, |before| before.max(horizon));
        let known = state.take(&event.account)?;
        let mut refused = known.as_ref().and_then(|account| {
            self.too_late(account, &event).or_else(|| forgotten(account, &event, horizon))
        });
        if refused.is_none() && forget::may_be_of_before(known.as_deref(), event.occurred_at) {
            let (account, at) = (&event.account, event.occurred_at);
            refused = forget::before_deletion(state, account, at, horizon)?;
        }
        if let Some(reject) = refused {
            put_back(state, known)?;
            return Ok(Err(reject));
        }
        if !state.remember(seen_hash(&event), clock.max(event.occurred_at), horizon)? {
            put_back(state, known)?;
            let detail =
                format!("event {} of account {} was already counted", event.id, event.account);
            return Ok(Err(Reject::new(Reason::Duplicate, detail)));
        }
        let matched: Vec<usize> = self.policy.fed_by(&event).collect();
        if matched.is_empty() {
            put_back(state, known)?;
            return Ok(Ok(Applied { days_closed, ..Applied::default() }));
        }
        let mut account = known.unwrap_or_else(|| Box::new(Account::new(event.account.clone())));
        self.realign(&mut account);
        days_closed += self.close_own_days(&mut account, state.cohorts(), event.occurred_at, out);
        if event.occurred_at < horizon
            && account.hot.backfill.is_none_or(|backfill| backfill.since < horizon)
        {
            account.hot.backfill =
                Some(Backfill { floor: account.hot.last_event_at, since: clock });
        }
        let distinct_dropped = self.count(&mut account, &event, &matched);
        if event.occurred_at < clock.plus(-self.policy.lateness_ms()) {
            account.hot.held_until = Some(clock);
        }
        let cohort = state.cohorts().named(account.segment());
        let hour = event.occurred_at.0.div_euclid(HOUR_MS);
        if hour + fleet::CORRECTED_HOURS > clock.0.div_euclid(HOUR_MS) {
            cohort.count(hour, fleet::amounts(&self.policy, &matched, event.value));
        }
        let held = cohort.hold().is_some_and(|until| event.occurred_at < until);
        let sensitivity = cohort.sensitivity(&self.policy.feedback, event.occurred_at);
        let today = account.zone().day(event.occurred_at);
        let rise = forecast::exceeded(&mut account, &self.policy, &matched, today)
            .then(|| forecast::judge_open(self, &mut account, state.cohorts(), event.occurred_at))
            .flatten();
        let restraint = Restraint { held, sensitivity };
        self.respond(&mut account, &event, &matched, (restraint, rise), out);
        self.report(&mut account, state.cohorts());
        state.put(account)?;
        Ok(Ok(Applied { signals: matched.len() as u32, days_closed, distinct_dropped }))
    }

    /// Every partition keeps the whole calendar: accounts are found by their ids only where they are, and regions everywhere.
    fn calendar(
        &self,
        cohorts: &mut Cohorts,
        id: EventId,
        entry: Option<Entry>,
    ) -> Result<(), Reject> {
        if let Some(entry) = &entry {
            let room = cohorts.calendar().has_room(&id, entry);
            room.map_err(|full| Reject::new(Reason::OutOfRange, full.to_string()))?;
        }
        if self.partitions > 1 {
            cohorts.send(Message::Calendar(id, entry));
        } else {
            cohorts.calendar_mut().set(&id, entry);
        }
        Ok(())
    }

    /// What can be said against an event before its time counts.
    pub(crate) fn refuse<S: State>(
        &self,
        state: &mut S,
        event: &Event,
        received_at: Millis,
    ) -> Result<Option<Reject>, S::Error> {
        if let Err(reject) = self.admissible(event, received_at) {
            return Ok(Some(reject));
        }
        let all_known = self.policy.admission.unknown_accounts != UnknownAccounts::Reject;
        if all_known || self.has_profile(state, &event.account)? {
            return Ok(None);
        }
        let horizon = state.clock().horizon.unwrap_or(Millis::MIN);
        let deleted = forget::before_deletion(state, &event.account, event.occurred_at, horizon)?;
        Ok(Some(deleted.unwrap_or_else(|| {
            let detail = format!(
                "account {} has no profile: send one, or set admission.unknown_accounts",
                event.account
            );
            Reject::new(Reason::UnknownAccount, detail)
        })))
    }

    /// Lets the watch of a signal that an event feeds see its value.
    fn watch(
        &self,
        account: &mut Account,
        event: &Event,
        index: usize,
    ) -> Option<intraday::Verdict> {
        let signal = &self.policy.signals[index];
        let value = event.value.filter(|_| signal.watched)?;
        if account.is_masked(account.zone().day(event.occurred_at)) {
            return None;
        }
        let key = self.policy.keys()[index];
        let watched = account.watched.entry(key).or_default();
        if event.occurred_at < watched.newest {
            return None;
        }
        watched.newest = event.occurred_at;
        account.changed.watched.insert(key);
        let verdict = watched.watch.see(event.occurred_at, value, &self.policy.watch.settings());
        if let Some(observer) = &self.observer {
            (observer.sampled)(&Sample {
                account_id: event.account.clone(),
                signal: signal.name.clone(),
                at: event.occurred_at,
                value,
                verdict,
            });
        }
        Some(verdict)
    }

    /// What can be said against an event without looking at its account.
    fn admissible(&self, event: &Event, received_at: Millis) -> Result<(), Reject> {
        if let Some(value) = event.value {
            if !value.is_finite() {
                return Err(Reject::new(Reason::NonFinite, "value is not a finite number"));
            }
            if value.abs() > VALUE_ABS_MAX {
                let detail = format!(
                    "value is {value:e}, allowed is a magnitude of at most {VALUE_ABS_MAX:e}"
                );
                return Err(Reject::new(Reason::OutOfRange, detail));
            }
        }
        self.timely(event.occurred_at, "occurred_at", received_at)?;
        let oldest = received_at.plus(-self.policy.history_ms());
        if event.occurred_at < oldest {
            let detail = format!(
                "occurred_at is {}, history is taken back to {oldest} (admission.history_days)",
                event.occurred_at
            );
            return Err(Reject::new(Reason::TooLate, detail));
        }
        Ok(())
    }

    /// What can be said against the time of an input.
    fn timely(&self, at: Millis, field: &str, received_at: Millis) -> Result<(), Reject> {
        if at < Millis::MIN || at > Millis::MAX {
            let detail = format!("{field} is {at}, allowed is 1970 to 9998");
            return Err(Reject::new(Reason::OutOfRange, detail));
        }
        if at > received_at.plus(self.policy.future_ms()) {
            let detail = format!(
                "{field} is {at}, received at {received_at}: check the producer's clock (admission.future_minutes)"
            );
            return Err(Reject::new(Reason::Future, detail));
        }
        Ok(())
    }

    /// Lateness is the account's own: other accounts being further on does not make its history too old, so that
    /// history can be filled in account by account.
    fn too_late(&self, account: &Account, event: &Event) -> Option<Reject> {
        if !account.hot.scheduled {
            return None;
        }
        let today_starts_at = account.zone().day_start(account.hot.today);
        let newest =
            account.hot.last_event_at.map_or(today_starts_at, |at| at.max(today_starts_at));
        let oldest = newest.plus(-self.policy.lateness_ms() - self.policy.grace_ms());
        (event.occurred_at < oldest).then(|| {
            let detail = format!(
                "occurred_at is {}, the oldest that account {} takes now is {oldest} (admission.grace_hours)",
                event.occurred_at, event.account
            );
            Reject::new(Reason::TooLate, detail)
        })
    }

    /// Closes and judges the days that the account's own events have left behind.
    fn close_own_days(
        &self,
        account: &mut Account,
        cohorts: &mut Cohorts,
        now: Millis,
        out: &mut Vec<Output>,
    ) -> u32 {
        let mut closed = 0;
        let lateness_ms = self.policy.lateness_ms();
        while account.hot.scheduled && account.hot.today_ends_at.plus(lateness_ms) <= now {
            closed += self.pass_time(account, cohorts, out);
        }
        closed
    }

    /// What is due next for an account: its day's close, or its judgement. Returns the days closed. Known once event time has passed
    /// the instant by the lateness: the records carry that.
    pub(crate) fn pass_time(
        &self,
        account: &mut Account,
        cohorts: &mut Cohorts,
        out: &mut Vec<Output>,
    ) -> u32 {
        if is_unjudged(account) {
            let at = account.hot.today_ends_at.plus(self.policy.lateness_ms());
            judge_day(self, account, cohorts, at, out);
            return 0;
        }
        roll_day(self, account, cohorts);
        1
    }

    fn has_profile<S: State>(&self, state: &mut S, id: &AccountId) -> Result<bool, S::Error> {
        let Some(account) = state.take(id)? else { return Ok(false) };
        let known = account.profile.is_some();
        state.put(account)?;
        Ok(known)
    }

    /// Says what is new of the partition's cohorts.
    pub(crate) fn tell(&self, cohorts: &mut Cohorts, at: Millis, out: &mut Vec<Output>) {
        let told = fleet::tell(cohorts, self.partitions, at);
        self.add_up(cohorts, out, |adder, cohorts| {
            for record in told {
                if self.partitions > 1 {
                    cohorts.send(Message::Part(record));
                } else {
                    adder.add(cohorts, 0, record);
                }
            }
            adder.pass(cohorts, at);
        });
    }

    /// Adds up cohorts, and says what came of it.
    fn add_up(
        &self,
        cohorts: &mut Cohorts,
        out: &mut Vec<Output>,
        add: impl FnOnce(&mut fleet::Adder<'_>, &mut Cohorts),
    ) {
        let (policy, model_version) = (&*self.policy, self.scorer.version());
        let mut adder = fleet::Adder { policy, model_version, totals: Vec::new(), out };
        add(&mut adder, cohorts);
        let totals = adder.totals;
        for total in totals {
            if self.partitions > 1 {
                cohorts.send(Message::Total(total));
            } else {
                fleet::learn(cohorts, &self.policy, &total);
            }
        }
    }

    /// The open fleet alerts that a partition has added up, as a read model shows them.
    #[must_use]
    pub fn view_fleet(&self, cohorts: &Cohorts) -> Vec<Output> {
        let open = cohorts.iter().filter_map(|(name, cohort)| {
            let open = cohort.fleet()?.open.as_ref()?;
            Some(fleet::event(&self.policy, self.scorer.version(), name, open))
        });
        open.map(|event| Output::Alert(Box::new(event))).collect()
    }

    /// Gives the account one state per signal of the policy, in its order. Points of signals that are gone move to the
    /// base line of the next record. Where only the model is another, its lines take the place of those before.
    pub(crate) fn realign(&self, account: &mut Account) {
        if *account.hot.policy_version == *self.setting {
            return;
        }
        let before = std::mem::replace(&mut account.hot.policy_version, (*self.setting).to_owned());
        account.changed.note(Row::Hot);
        if before.split(SETTING_PARTS).next() == Some(self.policy.version()) {
            close::rescore(self, account);
            return;
        }
        let keys: Vec<_> = account.hot.signals.iter().map(|state| state.key).collect();
        account.hot.streams.realign(|signal| {
            let key = keys.get(signal)?;
            self.policy.keys().iter().position(|moved| moved == key)
        });
        let mut old = std::mem::take(&mut account.hot.signals);
        account.hot.signals = self
            .policy
            .state_keys()
            .iter()
            .map(|&key| match old.iter().position(|state| state.key == key) {
                Some(at) => old.swap_remove(at),
                None => SignalState { key, ..SignalState::default() },
            })
            .collect();
        let orphaned: Points = old.iter().map(|state| state.published).sum();
        account.hot.published_base += orphaned;
    }

    /// Counts an event into its day. Returns the distinct values that found no room.
    fn count(&self, account: &mut Account, event: &Event, matched: &[usize]) -> u32 {
        let zone = account.zone();
        let day = zone.day(event.occurred_at);
        let first = account.hot.first_event_at;
        account.hot.first_event_at =
            Some(first.map_or(event.occurred_at, |at| at.min(event.occurred_at)));
        account.hot.last_event_at = account.hot.last_event_at.max(Some(event.occurred_at));
        if !account.hot.scheduled {
            begin(account, day, event.occurred_at);
        }
        if event.segment.is_some() && account.hot.segment != event.segment {
            account.hot.segment.clone_from(&event.segment);
        }
        account.hot.streams.count(matched);
        let mut dropped = 0;
        for &index in matched {
            if self.policy.signals[index].is_activity() {
                account.hot.activity.mark(day);
            }
            dropped += u32::from(!self.count_signal(account, event, index, day));
        }
        account.changed.note(Row::Hot);
        dropped
    }

    /// Counts an event into one signal. Returns `false` where a distinct value found no room.
    fn count_signal(&self, account: &mut Account, event: &Event, index: usize, day: Day) -> bool {
        let signal = &self.policy.signals[index];
        let distinct = signal.distinct_value(event).flatten();
        let marked = if distinct.is_some() || is_presence(signal) {
            self.mark(account, event, index, distinct.unwrap_or(""), day)
        } else {
            Mark::New
        };
        let state = &mut account.hot.signals[index];
        state.first_day = Some(state.first_day.map_or(day, |first| first.min(day)));
        let value = event.value.unwrap_or(0.0);
        if marked == Mark::New && !is_presence(signal) {
            let at = state.open.binary_search_by_key(&day, |(open, _)| *open);
            let at = at.unwrap_or_else(|at| {
                state.open.insert(at, (day, DayTotals::default()));
                at
            });
            let totals = &mut state.open[at].1;
            if signal.aggregate == Aggregate::Last {
                totals.follow(event.occurred_at, value);
            } else {
                totals.add(value);
            }
        }
        let kept = self.policy.values_kept(index);
        if kept > 0 {
            state.recent.push((event.occurred_at, value));
            state
                .recent
                .sort_by(|left, right| left.0.cmp(&right.0).then(left.1.total_cmp(&right.1)));
            let surplus = state.recent.len().saturating_sub(kept);
            state.recent.drain(..surplus);
        }
        marked != Mark::NoRoom
    }

    /// Marks a member, a feature or a presence as active.
    fn mark(
        &self,
        account: &mut Account,
        event: &Event,
        index: usize,
        value: &str,
        day: Day,
    ) -> Mark {
        let key = ActivityKey { signal: self.policy.keys()[index], value: value.to_owned() };
        // Most events are of somebody who is known: they look for the row once.
        let row = match account.activity.get_mut(&key) {
            Some(row) => row,
            None => {
                if !self.has_room(account, key.signal) {
                    return Mark::NoRoom;
                }
                account.activity.entry(key.clone()).or_default()
            }
        };
        let new_in_window = row.bits == 0 || row.seen_from(day) & mask(7) == 0;
        let mut changed = row.mark(day);
        if event.role.is_some() && event.member.is_some() && row.role != event.role {
            row.role.clone_from(&event.role);
            changed = true;
        }
        if changed {
            account.changed.activity.insert(key);
        }
        if new_in_window { Mark::New } else { Mark::Known }
    }

    /// Whether an account has room for another distinct value of a signal.
    fn has_room(&self, account: &Account, signal: SignalKey) -> bool {
        let from = ActivityKey { signal, value: String::new() };
        let rows = account.activity.range(from..).take_while(|(row, _)| row.signal == signal);
        rows.count() < self.policy.admission.distinct_max as usize
    }

    /// Lets the score and the alerts answer to an event at once.
    fn respond(
        &self,
        account: &mut Account,
        event: &Event,
        matched: &[usize],
        (restraint, rise): (Restraint, Option<Alarm>),
        out: &mut Vec<Output>,
    ) {
        let zone = account.zone();
        // Records of an account carry rising times, whatever the order of its events.
        let now =
            account.hot.last_event_at.map_or(event.occurred_at, |at| at.max(event.occurred_at));
        let today = zone.day(event.occurred_at).max(account.hot.today);
        let closed = account.hot.today.plus(-1);
        let masked = account.is_masked(zone.day(event.occurred_at));
        let mut evidence_changed = false;
        for &index in matched {
            let verdict = self.watch(account, event, index);
            let signal = &self.policy.signals[index];
            let state = &mut account.hot.signals[index];
            if is_presence(signal) {
                if zone.day(event.occurred_at) > closed {
                    evidence_changed |= state.evidence.take().is_some();
                    // Somebody is there: no absence, where presence is usual.
                    let cohort = segment(account.profile.as_ref(), &account.hot.segment);
                    let usual = state.baseline.map(|_| cohort.unwrap_or_default());
                    state.points = usual
                        .map_or(Points::ZERO, |cohort| self.scorer.absence(cohort, signal, 0.0));
                }
                continue;
            }
            let news = verdict.filter(|verdict| verdict.alert).zip(event.value);
            let found = news
                .map(|(verdict, value)| {
                    crate::close::evidence_of_value(signal, value, &verdict, today)
                })
                .or_else(|| run_of_three(signal, state, &zone, &self.policy))
                .or_else(|| self.surge(signal, state, closed, today));
            if let Some(found) = found.filter(|_| !masked) {
                let news = state.evidence.as_ref().is_none_or(|had| had.z.abs() < found.z.abs());
                if news {
                    state.evidence = Some(found);
                    evidence_changed = true;
                }
            }
            let cohort = segment(account.profile.as_ref(), &account.hot.segment);
            refresh_points(self, cohort.unwrap_or_default(), signal, state, closed);
        }
        context(self, account, today);
        publish::rescore(account, &self.policy);
        let mut alerts = Vec::new();
        let is_news = evidence_changed || life::is_due(account, &self.policy, now);
        if is_news && crate::close::maturity(account) == Maturity::Established {
            let model = self.scorer.version();
            alert::review(account, &self.policy, model, (now, restraint), None, &mut alerts);
        }
        if let Some(rise) = rise {
            take_evidence(account, &self.policy, &rise);
            alert::spike(account, &self.policy, self.scorer.version(), now, &rise, &mut alerts);
        }
        publish::publish(
            account,
            &self.policy,
            self.scorer.version(),
            now,
            !alerts.is_empty(),
            out,
        );
        out.append(&mut alerts);
    }

    /// A rising signal is judged at once, not only at the day's end.
    fn surge(
        &self,
        signal: &Signal,
        state: &SignalState,
        closed: Day,
        today: Day,
    ) -> Option<Evidence> {
        if signal.direction != Direction::Up {
            return None;
        }
        let baseline = state.baseline?;
        let value = rolling_value(signal, state, closed)?;
        let z = self.detector.judge_week(signal, value, &baseline);
        let change = (value - baseline.level) / baseline.level.abs().max(1e-9) * 100.0;
        if z < self.policy.deviation.z_support || change < self.policy.deviation.change_min_pct {
            return None;
        }
        let onset = state.evidence.as_ref().map_or(today, |evidence| evidence.onset);
        let onset_days_ago = u16::try_from(today.since(onset)).unwrap_or(0);
        let deviation = Deviation { z, observed: value, window_weeks: 1, onset_days_ago };
        Some(crate::close::evidence(signal, &deviation, baseline.level, today))
    }

    fn profile<S: State>(
        &self,
        state: &mut S,
        mut profile: Profile,
        out: &mut Vec<Output>,
    ) -> Result<(), S::Error> {
        if state.cohorts().is_for_older() {
            profile.fiscal_year_end = None;
        }
        let mut account = match state.take(&profile.account)? {
            Some(account) => account,
            None => Box::new(Account::new(profile.account.clone())),
        };
        let is_news = account
            .profile
            .as_ref()
            .is_none_or(|known| known.as_of <= profile.as_of && *known != profile);
        if is_news {
            let unjudged = is_unjudged(&account);
            account.profile = Some(profile);
            account.changed.note(Row::Profile);
            if account.hot.scheduled && !unjudged {
                // The zone may have changed: the open day ends when it ends there.
                account.hot.today_ends_at = account.zone().day_start(account.hot.today.plus(1));
                account.changed.note(Row::Hot);
            }
            if account.hot.published_score.is_some() {
                // Whoever reads the health record sees the name and the segment that it has now.
                self.realign(&mut account);
                let at = latest(&account, self.policy.lateness_ms());
                publish::publish(&mut account, &self.policy, self.scorer.version(), at, true, out);
            }
        }
        state.put(account)
    }

    /// Moves an alert in its life, as somebody said.
    fn command(
        &self,
        account: &mut Account,
        outcome: &Outcome,
        out: &mut Vec<Output>,
    ) -> Result<(), Reject> {
        let (policy, model, mut alerts) = (&self.policy, self.scorer.version(), Vec::new());
        life::command(account, policy, model, outcome, &mut alerts)?;
        let ended = outcome.kind == OutcomeKind::Resolved;
        if ended && account.hot.published_score.is_some() {
            let at = outcome.occurred_at.max(latest(account, policy.lateness_ms()));
            publish::publish(account, policy, model, at, true, out);
        }
        out.append(&mut alerts);
        Ok(())
    }

    fn outcome<S: State>(
        &self,
        state: &mut S,
        outcome: &Outcome,
        out: &mut Vec<Output>,
    ) -> Result<Verdict, S::Error> {
        // An outcome may come before the account's first event: topics are not ordered among each other.
        let ends = matches!(outcome.kind, OutcomeKind::Churned);
        let tells = ends || matches!(outcome.kind, OutcomeKind::Renewed | OutcomeKind::Saved);
        let is_feedback = outcome.kind.is_feedback();
        if !tells && !outcome.kind.is_of_alert() {
            return Ok(Ok(Applied::default()));
        }
        let known = state.take(&outcome.account)?;
        if forget::may_be_of_before(known.as_deref(), outcome.occurred_at) {
            let horizon = state.clock().horizon.unwrap_or(Millis::MIN);
            let (account, at) = (&outcome.account, outcome.occurred_at);
            if let Some(reject) = forget::before_deletion(state, account, at, horizon)? {
                put_back(state, known)?;
                return Ok(Err(reject));
            }
        }
        let mut account = known.unwrap_or_else(|| Box::new(Account::new(outcome.account.clone())));
        if is_feedback {
            let told = feedback::told(&mut account, outcome);
            self.report(&mut account, state.cohorts());
            state.put(account)?;
            return Ok(told.map(|()| Applied::default()));
        }
        if outcome.kind.is_command() {
            if !account.hot.alerts.is_empty() {
                self.realign(&mut account);
            }
            let told = self.command(&mut account, outcome, out);
            state.put(account)?;
            return Ok(told.map(|()| Applied::default()));
        }
        self.realign(&mut account);
        if let Some(reject) = account.hot.outcome.and_then(|last| outdated(outcome, last)) {
            state.put(account)?;
            return Ok(Err(reject));
        }
        account.hot.outcome = Some((outcome.kind, outcome.occurred_at));
        account.changed.note(Row::Hot);
        if ends {
            feedback::lost(&mut account, &self.policy.feedback, outcome.occurred_at);
        }
        // Whoever goes on using the product has not left, or has come back.
        let stayed =
            account.hot.last_event_at.is_some_and(|at| at > outcome.occurred_at.plus(DAY_MS));
        if ends && !stayed {
            let (model, at) = (self.scorer.version(), outcome.occurred_at);
            let mut alerts = Vec::new();
            alert::resolve_all(
                &mut account,
                &self.policy,
                model,
                at,
                Resolution::Outcome,
                &mut alerts,
            );
            if account.hot.published_score.is_some() {
                publish::publish(&mut account, &self.policy, model, at, true, out);
            }
            out.append(&mut alerts);
            account.hot.scheduled = false;
        }
        self.report(&mut account, state.cohorts());
        state.put(account)?;
        Ok(Ok(Applied::default()))
    }
}

/// The time of the latest record that an account can have published.
pub(crate) fn latest(account: &Account, lateness_ms: i64) -> Millis {
    let last = account.hot.last_event_at.unwrap_or_default();
    if account.history.newest.is_none() {
        return last;
    }
    last.max(account.zone().day_start(account.hot.today).plus(lateness_ms))
}

/// Whether an outcome is the last one again, or was overtaken by it.
fn outdated(outcome: &Outcome, (kind, at): (OutcomeKind, Millis)) -> Option<Reject> {
    if (outcome.kind, outcome.occurred_at) == (kind, at) {
        let detail = format!("this outcome of account {} is known", outcome.account);
        return Some(Reject::new(Reason::Duplicate, detail));
    }
    (outcome.occurred_at < at).then(|| {
        let detail = format!(
            "occurred_at is {}, but a later outcome of account {} is known, of {at}",
            outcome.occurred_at, outcome.account
        );
        Reject::new(Reason::TooLate, detail)
    })
}

/// Whether an event may have been counted before with nothing left to tell: its id is forgotten once the partition's clock
/// has moved on by the horizon. Then only what is newer than all that was counted is certain to be new.
fn forgotten(account: &Account, event: &Event, horizon: Millis) -> Option<Reject> {
    if event.occurred_at >= horizon {
        return None;
    }
    let floor = match account.hot.backfill {
        Some(backfill) if backfill.since >= horizon => backfill.floor,
        Some(_) | None => account.hot.last_event_at,
    };
    floor.filter(|floor| event.occurred_at <= *floor).map(|floor| {
        let detail = format!(
            "occurred_at is {}: ids are known back to {horizon}, and account {} has later events, up to {floor}, so this may \
             have been counted already (admission.grace_hours)",
            event.occurred_at, event.account
        );
        Reject::new(Reason::TooLate, detail)
    })
}

pub(crate) fn put_back<S: State>(
    state: &mut S,
    account: Option<Box<Account>>,
) -> Result<(), S::Error> {
    account.map_or(Ok(()), |account| state.put(account))
}

/// What marking a distinct value found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// It is new in its seven days, which is what a distinct count adds up.
    New,
    /// It was there within the last seven days.
    Known,
    /// There are too many; it is not kept.
    NoRoom,
}

/// The hash under which an event's id is remembered.
#[must_use]
pub fn seen_hash(event: &Event) -> u64 {
    // On the stack: an id is hashed with every event.
    let mut text = [0; 2 * ID_BYTES_MAX + 1];
    let mut length = 0;
    for part in [event.account.as_str(), "\u{1f}", event.id.as_str()] {
        text[length..length + part.len()].copy_from_slice(part.as_bytes());
        length += part.len();
    }
    xxhash_rust::xxh3::xxh3_64(&text[..length])
}

/// Starts an account's days: a new account, one that comes back after a dormancy, or after it had churned. What was
/// known of an account that comes back is too old to be its normal.
fn begin(account: &mut Account, day: Day, at: Millis) {
    let returning = account.history.newest.is_some();
    if returning {
        // Zeros take the place of what was older, since a store writes what is there.
        let older = account.history.older.iter().map(|(key, _)| (*key, Older::default())).collect();
        account.history = History { older, ..History::default() }.into();
        account.hot.first_event_at = Some(at);
        account.hot.activity = crate::history::Activity::default();
        account.hot.maturity = None;
        for state in &mut account.hot.signals {
            *state = SignalState {
                key: state.key,
                published: state.published,
                ..SignalState::default()
            };
        }
        account.changed.activity.extend(account.activity.keys().cloned());
        account.activity.clear();
        account.changed.watched.extend(account.watched.keys());
        account.watched.clear();
        account.own = None;
        account.changed.note(Row::Own);
        standing::clear(account);
        account.changed.note_if(Row::Forecast, account.forecast != forecast::Forecast::default());
        account.forecast = forecast::Forecast::default();
        account.changed.note_if(Row::Changes, !account.changes.is_empty());
        account.changes.clear();
        account.changed.note(Row::History);
    }
    account.hot.today = day;
    account.hot.today_ends_at = account.zone().day_start(day.plus(1));
    account.hot.scheduled = true;
    account.hot.held_until = None;
}

/// Three interactions in a row that worsen: flagged before a fourth, whatever the week's mean says.
fn run_of_three(
    signal: &Signal,
    state: &SignalState,
    zone: &crate::time::Zone,
    policy: &Compiled,
) -> Option<Evidence> {
    let streak = signal.streak.as_ref()?;
    let [.., (first_at, first), (_, second), (_, third)] = state.recent.as_slice() else {
        return None;
    };
    let sign = match signal.direction {
        Direction::Down => 1.0,
        Direction::Up => -1.0,
    };
    let (a, b, c) = (first * sign, second * sign, third * sign);
    let threshold = streak.threshold * sign;
    let worsening = a >= b && b >= c && a - c >= streak.fall && c <= threshold;
    let low = a <= threshold && b <= threshold && c <= threshold;
    // Three bad ones are nothing new where that is normal.
    let normal = state.baseline.map(|baseline| baseline.level * sign);
    let news = normal.is_none_or(|normal| normal - c >= streak.fall / 2.0);
    if !news || !worsening && !low {
        return None;
    }
    let onset = zone.day(*first_at);
    Some(Evidence {
        signal: signal.name.clone(),
        category: signal.category,
        group: signal.group.clone(),
        observed: *third,
        baseline: state.baseline.map_or(*first, |baseline| baseline.level),
        unit: signal.unit.clone(),
        change_pct: None,
        z: -sign * policy.deviation.z_alone,
        risk: true,
        onset,
        window_days: 0,
        text: format!(
            "{} went {first:+.2}, {second:+.2}, {third:+.2} in three interactions in a row since {onset}",
            signal.label
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hashed_as_they_are_written_up_to_the_longest() {
        for length in [1, 7, ID_BYTES_MAX] {
            let (account, id) = ("a".repeat(length), "e".repeat(length));
            let event = Event {
                id: EventId::new(&id).expect("letters"),
                account: AccountId::new(&account).expect("letters"),
                occurred_at: Millis(0),
                kind: String::new(),
                member: None,
                role: None,
                feature: None,
                value: None,
                segment: None,
            };
            // What is kept of ids are these hashes: another one would take known events for new ones.
            let written = format!("{account}\u{1f}{id}");
            assert_eq!(seen_hash(&event), xxhash_rust::xxh3::xxh3_64(written.as_bytes()));
        }
    }
}
