//! A challenger beside the champion: it says what it would say in the champion's place, and changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bellwether_core::account::Account;
use bellwether_core::event::{Event, Input};
use bellwether_core::fleet::Message;
use bellwether_core::id::{AccountId, EventId, MemberId};
use bellwether_core::output::{Output, ShadowScore};
use bellwether_core::points::Points;
use bellwether_core::policy::{Compiled, Policy, Signal};
use bellwether_core::promotion::Promotion;
use bellwether_core::reject::Reason;
use bellwether_core::score::{Context, ExpertScorecard, Reading, Scale, Scorer, band};
use bellwether_core::standing::{Standing, Trait};
use bellwether_core::state::{MemoryState, State};
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, HOUR_MS, MINUTE_MS, Millis};
use bellwether_core::weights::OtherWeights;

/// A Monday.
const START_MS: i64 = 20_402 * DAY_MS;
const ACCOUNTS: i64 = 10;
const DAYS: i64 = 110;

/// The expert's lines so many times as long, on a scale of its own, and lines of how an account stands.
#[derive(Debug)]
struct Times(i32, String);

impl Scorer for Times {
    fn version(&self) -> &str {
        &self.1
    }

    fn scale(&self) -> Option<Scale> {
        Some(Scale { base: 60.0, healthy_min: 65.0, at_risk_below: 40.0 })
    }

    fn signal(&self, cohort: &str, signal: &Signal, reading: &Reading, policy: &Policy) -> Points {
        Points(self.0 * ExpertScorecard.signal(cohort, signal, reading, policy).0)
    }

    fn absence(&self, cohort: &str, signal: &Signal, z: f64) -> Points {
        Points(self.0 * (50 + ExpertScorecard.absence(cohort, signal, z).0))
    }

    fn context(&self, context: &Context, policy: &Policy) -> [Points; 3] {
        ExpertScorecard.context(context, policy).map(|points| Points(self.0 * points.0))
    }

    fn horizon_days(&self) -> Option<u32> {
        Some(28)
    }

    fn standing(&self, cohort: &str, standing: &Standing) -> Vec<(Trait, Points)> {
        let most = if cohort == "smb" { 400.0 } else { 300.0 };
        let known = [Trait::Activity, Trait::Trend, Trait::Members].into_iter();
        let known = known.map(|of| (of, standing.get(of))).filter(|(_, value)| value.is_finite());
        known.map(|(of, value)| (of, Points((most * value.clamp(-2.0, 2.0)) as i32))).collect()
    }
}

/// Every movement of a hundredth of a point is published.
fn policy() -> Compiled {
    let text = include_str!("../policies/default.toml")
        .replace("publish_min_points = 1.0", "publish_min_points = 0.01");
    Compiled::parse("every.toml", &text).expect("a good policy")
}

fn core_of(policy: Compiled) -> Core {
    let reader = |text: &str, _: &Compiled| -> Result<Arc<dyn Scorer>, String> {
        let times: i32 = text.parse().map_err(|error| format!("{text}: {error}"))?;
        Ok(Arc::new(Times(times, format!("times-{times}"))))
    };
    Core::new(Arc::new(policy)).reading(Arc::new(reader))
}

fn id(text: &str) -> EventId {
    EventId::new(text).expect("an identifier")
}

fn record(from_ms: i64, model: Option<&str>) -> Promotion {
    let model = model.map(str::to_owned);
    Promotion { from: Millis(from_ms), model, by: None, began: None }
}

fn challenger(name: &str, from_ms: i64, model: Option<&str>) -> Input {
    Input::Challenger { id: id(name), challenger: record(from_ms, model) }
}

fn event(account: i64, at: i64, kind: &str, member: Option<(&str, &str)>) -> Event {
    Event {
        id: id(&format!("{account}-{kind}-{at}")),
        account: AccountId::new(&format!("account-{account}")).expect("good"),
        occurred_at: Millis(at),
        kind: kind.to_owned(),
        member: member.map(|(name, _)| MemberId::new(name).expect("good")),
        role: member.map(|(_, role)| role.to_owned()),
        feature: (kind == "feature.used").then(|| format!("f{}", at % 5)),
        value: None,
        segment: Some(if account % 2 == 0 { "smb" } else { "enterprise" }.to_owned()),
    }
}

/// Logins of members and administrators, features, projects and tickets, around the clock and by chance; some accounts decline, and
/// some of their administrators leave.
fn events() -> Vec<Event> {
    let mut seed = 7_u64;
    let mut chance = |of: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % of
    };
    let mut events = Vec::new();
    for (day, account) in (0..DAYS).flat_map(|day| (0..ACCOUNTS).map(move |of| (day, of))) {
        let weekend = day % 7 > 4;
        let declines = account % 3 == 0 && day > 70;
        let most: u64 = if weekend || declines { 3 } else { 10 };
        for number in 0..chance(most) {
            let at = START_MS + day * DAY_MS + chance(24 * 60) as i64 * MINUTE_MS + number as i64;
            let admin = number == 0 && !(declines && day > 80);
            let member = if admin {
                ("ada", "admin")
            } else {
                (["bo", "cy", "di"][chance(3) as usize], "user")
            };
            events.push(event(account, at, "login", Some(member)));
            match chance(6) {
                0 => events.push(event(account, at + 1, "feature.used", Some(member))),
                1 => events.push(event(account, at + 2, "project.created", None)),
                2 if declines => events.push(event(account, at + 3, "ticket.opened", None)),
                _ => {}
            }
        }
    }
    events.sort_by_key(|event| event.occurred_at);
    events
}

#[derive(Default)]
struct Run {
    state: MemoryState,
    out: Vec<Output>,
}

impl Run {
    fn told(&mut self, core: &Core, input: Input) -> Result<(), Reason> {
        let Ok(verdict) = core.apply(&mut self.state, input, Millis(0), &mut self.out);
        verdict.map(drop).map_err(|reject| reject.reason)
    }

    fn live(mut self, core: &Core) -> Run {
        for event in events() {
            let at = event.occurred_at;
            let Ok(verdict) = core.apply(&mut self.state, Input::Event(event), at, &mut self.out);
            verdict.expect("admitted");
        }
        self
    }

    fn beside(&self) -> impl Iterator<Item = &ShadowScore> {
        self.out.iter().filter_map(Output::shadow)
    }

    fn examples(&self) -> Vec<&Output> {
        self.out.iter().filter(|output| matches!(output, Output::Example(_))).collect()
    }

    /// All but the shadow's.
    fn champion(&self) -> Vec<&Output> {
        self.out.iter().filter(|output| !matches!(output, Output::Shadow(_))).collect()
    }

    /// By account: what its score was after each change, with its model.
    fn scores(&self) -> BTreeMap<&AccountId, Vec<(Millis, Points, &str)>> {
        let mut scores: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for output in &self.out {
            if let Output::ScoreChanged(change) = output {
                let now = (change.at, change.score, change.model_version.as_str());
                scores.entry(&change.account_id).or_default().push(now);
            }
        }
        scores
    }
}

/// The score that an account had at a time.
fn at<'a>(
    scores: &BTreeMap<&AccountId, Vec<(Millis, Points, &'a str)>>,
    beside: &ShadowScore,
) -> (Points, &'a str) {
    let known = &scores[&beside.account_id];
    let last = known.iter().rfind(|(at, ..)| *at <= beside.at).expect("it was scored");
    (last.1, last.2)
}

#[test]
fn a_challenger_says_what_it_would_say_in_the_champions_place() {
    let core = core_of(policy());
    let mut shadowed = Run::default();
    shadowed.told(&core, challenger("s", START_MS, Some("2"))).expect("taken");
    let shadowed = shadowed.live(&core);
    let mut promoted = Run::default();
    let promotion = Some(record(START_MS, Some("2")));
    promoted.told(&core, Input::Promotion { id: id("p"), promotion }).expect("taken");
    let promoted = promoted.live(&core);

    let (champion, in_its_place) = (shadowed.scores(), promoted.scores());
    let (mut count, mut apart, mut rebanded) = (0, 0, 0);
    for beside in shadowed.beside() {
        let sides = &beside.sides;
        assert_eq!(at(&champion, beside), (sides.champion.score, "expert"), "{beside:?}");
        assert_eq!(at(&in_its_place, beside), (sides.challenger.score, "times-2"), "{beside:?}");
        for (score, sum) in [
            (sides.champion.score, beside.lines.iter().map(|line| line.champion).sum::<Points>()),
            (sides.challenger.score, beside.lines.iter().map(|line| line.challenger).sum()),
        ] {
            assert_eq!(score, sum, "{beside:?}");
        }
        count += 1;
        apart += i32::from(sides.champion.score != sides.challenger.score);
        rebanded += i32::from(sides.champion.band != sides.challenger.band);
    }
    assert!(count > 500 && apart > 400 && rebanded > 20, "{count}, {apart}, {rebanded}");
    let named: Vec<&str> =
        shadowed.beside().flat_map(|of| &of.lines).map(|of| of.name.as_str()).collect();
    for line in ["base", "logins", "recency", "activity", "members", "clip"] {
        assert!(named.contains(&line), "{line}");
    }
}

#[test]
fn the_champion_does_not_notice() {
    let core = core_of(policy());
    let mut shadowed = Run::default();
    shadowed.told(&core, challenger("s", START_MS + 30 * DAY_MS, Some("2"))).expect("taken");
    let shadowed = shadowed.live(&core);
    let alone = Run::default().live(&core);
    assert_eq!(shadowed.champion(), alone.champion());
    for (id, account) in shadowed.state.accounts() {
        let mut account = account.clone();
        assert!(account.shadow.take().is_some(), "{id}");
        // What was not measured is not equal to itself.
        let other = format!("{:?}", alone.state.accounts()[id]);
        assert!(format!("{account:?}") == other, "{id}");
    }
}

#[test]
fn one_that_the_policy_no_longer_lets_be_read_is_silent_says_why_and_is_tried_once() {
    let core = core_of(Compiled::default_policy());
    let mut run = Run::default();
    run.told(&core, challenger("s", START_MS, Some("2"))).expect("taken");
    // A process under another policy goes on with what this one left.
    let reads = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&reads);
    let other = Core::new(Arc::new(policy())).reading(Arc::new(move |text: &str, _: &Compiled| {
        counted.fetch_add(1, Ordering::Relaxed);
        Err(format!("{text} was learned with other signals"))
    }));
    let events = events();
    let (mut pairs, mut last) = ([0; 3], BTreeMap::new());
    for (index, event) in events.iter().enumerate() {
        let third = index * 3 / events.len();
        let acting = [&core, &other, &core][third];
        let (input, at) = (Input::Event(event.clone()), event.occurred_at);
        let Ok(verdict) = acting.apply(&mut run.state, input, at, &mut run.out);
        verdict.expect("admitted");
        for beside in run.out.drain(..).filter_map(|output| output.shadow().cloned()) {
            pairs[third] += 1;
            // Also over the time in which it could not be read.
            let before = last.insert(beside.account_id.clone(), beside.sequence);
            assert_eq!(beside.sequence, before.unwrap_or(0) + 1, "{}", beside.account_id);
        }
    }
    assert!(pairs[0] > 100 && pairs[2] > 100, "{pairs:?}");
    assert_eq!((pairs[1], reads.load(Ordering::Relaxed)), (0, 1));
    let challengers = run.state.known_cohorts().challengers();
    let why = "2 was learned with other signals".to_owned();
    assert_eq!(other.challenger_version(challengers), Some((id("s"), Err(why))));
    let version = core.challenger_version(challengers);
    assert_eq!(version, Some((id("s"), Ok("times-2".to_owned()))));
}

#[test]
fn one_follows_another_and_the_last_one_ends() {
    let core = core_of(Compiled::default_policy());
    let noon = |day: i64| START_MS + day * DAY_MS + 12 * HOUR_MS;
    let mut run = Run::default();
    run.told(&core, challenger("s", noon(30), Some("2"))).expect("taken");
    run.told(&core, challenger("t", noon(60), Some("3"))).expect("taken");
    run.told(&core, challenger("end", noon(90), None)).expect("taken");
    run.told(&core, challenger("not", noon(95), Some("4"))).expect("taken");
    run.told(&core, Input::Promotion { id: id("not"), promotion: None }).expect("withdrawn");
    let run = run.live(&core);
    let mut sequences: BTreeMap<(&AccountId, &str), u64> = BTreeMap::new();
    for beside in run.beside() {
        // A judgement bears the time at which it was due, which may lie before the clock that moved.
        let expected: &[&str] = match beside.at.0 {
            at if at < noon(29) => &[],
            at if at < noon(59) => &["times-2"],
            at if at < noon(60) => &["times-2", "times-3"],
            at if at < noon(90) => &["times-3"],
            _ => &[],
        };
        assert!(expected.contains(&beside.challenger_version.as_str()), "{beside:?}");
        let sequence = sequences.entry((&beside.account_id, &beside.shadow_id)).or_default();
        *sequence += 1;
        assert_eq!(beside.sequence, *sequence);
    }
    assert_eq!(sequences.len(), 2 * ACCOUNTS as usize, "both, of every account");
    let judged = DAYS * ACCOUNTS * 60 / DAYS;
    let count: u64 = sequences.values().sum();
    assert!(count < judged.cast_unsigned() * 9 / 10, "only what moved: {count} of {judged}");
    assert!(run.state.accounts().values().all(|account| account.shadow.is_none()), "it is over");
}

#[test]
fn wherever_the_work_is_cut_the_same_comes_out() {
    let from = START_MS + 67 * DAY_MS + 12 * HOUR_MS;
    let core = || core_of(Compiled::default_policy());
    let mut whole = Run::default();
    whole.told(&core(), challenger("s", from, Some("2"))).expect("taken");
    let whole = whole.live(&core());
    let mut cut = Run::default();
    cut.told(&core(), challenger("s", from, Some("2"))).expect("taken");
    let mut cuts = 0;
    for event in events() {
        // A process that was started anew.
        let (at, input, core) = (event.occurred_at, Input::Event(event), core());
        loop {
            let Ok(swept) = core.close_before(&mut cut.state, &input, at, 1, &mut cut.out);
            if swept.done {
                break;
            }
            cuts += i32::from(at.0 > from);
        }
        let Ok(verdict) = core.apply(&mut cut.state, input, at, &mut cut.out);
        verdict.expect("admitted");
    }
    assert!(cuts > 5, "it was cut where the challenger was at work: {cuts}");
    assert_eq!(cut.out, whole.out);
    assert!(whole.beside().count() > 50);
}

#[test]
fn what_does_not_fit_is_refused() {
    let core = core_of(Compiled::default_policy());
    let mut run = Run::default();
    let refused = |run: &mut Run, input| run.told(&core, input).expect_err("it does not fit");
    assert_eq!(refused(&mut run, challenger("a", 5, Some("no number"))), Reason::InvalidField);
    let large = "1".repeat(300_000);
    assert_eq!(refused(&mut run, challenger("a", 5, Some(&large))), Reason::TooLarge);
    run.told(&core, challenger("a", START_MS, Some("2"))).expect("taken");
    let promotion = Some(record(START_MS, Some("2")));
    let same = Input::Promotion { id: id("a"), promotion: promotion.clone() };
    assert_eq!(refused(&mut run, same), Reason::OutOfRange, "the id of a challenger");
    run.told(&core, Input::Promotion { id: id("b"), promotion }).expect("taken");
    assert_eq!(refused(&mut run, challenger("b", START_MS, None)), Reason::OutOfRange);
    let mut run = run.live(&core);
    let gone = Input::Promotion { id: id("a"), promotion: None };
    assert_eq!(refused(&mut run, gone), Reason::OutOfRange, "it has begun");
    assert_eq!(refused(&mut run, challenger("c", 5, None)), Reason::OutOfRange, "before it");
}

#[test]
fn partitions_tell_each_other() {
    let core = core_of(Compiled::default_policy()).among(2);
    let mut run = Run::default();
    run.told(&core, challenger("s", START_MS, Some("2"))).expect("taken");
    let [message] = run.state.cohorts().outbox() else { panic!("one message") };
    let message = Box::new(message.clone());
    assert!(matches!(*message, Message::Challenger(..)));
    assert_eq!(run.live(&core).beside().count(), 0, "not by itself");
    let mut run = Run::default();
    run.told(&core, Input::Cohort { source: 1, message }).expect("taken");
    assert!(run.live(&core).beside().count() > 50);
}

/// The same detection, with other points.
fn bolder() -> String {
    include_str!("../policies/default.toml")
        .replace("publish_min_points = 1.0", "publish_min_points = 0.01")
        .replace("base_points = 74.0", "base_points = 61.0")
        .replace("recency_points = 14.0", "recency_points = 25.0")
        .replace("healthy_min = 70.0", "healthy_min = 64.0")
        .replace("upside_share = 0.35", "upside_share = 0.6")
        .replace("weight = 14.0", "weight = 9.0")
        .replace("effect_full_pct = 150.0", "effect_full_pct = 90.0")
}

/// An engine under the policy of [`policy`] to which other policies' weights can be promoted.
fn weighing() -> Core {
    let reader = |text: &str, in_force: &Compiled| -> Result<Arc<dyn Scorer>, String> {
        let other = Compiled::parse("other", text).map_err(|error| error.to_string())?;
        let weights = OtherWeights::under(other, in_force).map_err(|error| error.to_string())?;
        Ok(Arc::new(weights))
    };
    Core::new(Arc::new(policy())).reading(Arc::new(reader))
}

/// Points and bands of the weights of another policy are those that an engine has which is configured so, tried or promoted.
#[test]
fn the_weights_of_another_policy_score_as_if_they_were_configured() {
    let other = Compiled::parse("bolder.toml", &bolder()).expect("a good policy");
    let version = OtherWeights::version_of(&other);
    assert_ne!(*other.signals, *policy().signals, "it weighs signals otherwise");
    let bold = other.clone();
    let configured_core = Core::new(Arc::new(other));
    let configured = Run::default().live(&configured_core);
    let core = weighing();
    let mut shadowed = Run::default();
    shadowed.told(&core, challenger("s", START_MS, Some(&bolder()))).expect("taken");
    let shadowed = shadowed.live(&core);
    let in_its_place = configured.scores();
    let (mut count, mut apart, mut rebanded) = (0, 0, 0);
    for beside in shadowed.beside() {
        assert_eq!(beside.challenger_version, version);
        assert_eq!(at(&in_its_place, beside).0, beside.sides.challenger.score, "{beside:?}");
        assert_eq!(beside.sides.challenger.band, band(beside.sides.challenger.score, &bold));
        let lines = beside.lines.iter().map(|line| line.challenger);
        assert_eq!(lines.sum::<Points>(), beside.sides.challenger.score, "{beside:?}");
        count += 1;
        apart += i32::from(beside.sides.champion.score != beside.sides.challenger.score);
        rebanded += i32::from(beside.sides.champion.band != beside.sides.challenger.band);
    }
    assert!(count > 500 && apart > 400 && rebanded > 20, "{count}, {apart}, {rebanded}");

    let mut promoted = Run::default();
    let from = START_MS + 60 * DAY_MS;
    let promotion = Some(record(from, Some(&bolder())));
    promoted.told(&core, Input::Promotion { id: id("p"), promotion }).expect("taken");
    let promoted = promoted.live(&core);
    for (id, account) in promoted.state.accounts() {
        let as_configured = Account::clone(configured.state.accounts()[id]);
        let as_configured = configured_core.record(as_configured).expect("scored");
        let acting = core.current(promoted.state.known_cohorts().promotions()).expect("promoted");
        let record = acting.record(Account::clone(account)).expect("scored");
        assert_eq!(record.score, as_configured.score, "{id}");
        assert_eq!(record.band, as_configured.band, "{id}");
        assert_eq!(record.contributions, as_configured.contributions, "{id}");
        assert_eq!(record.sub_scores, as_configured.sub_scores, "{id}");
        assert_eq!(record.model_version, version);
        assert_eq!(record.policy_version, policy().version(), "the one that finds");
    }
    // What is learned from are readings, and they are the policy's that is configured.
    let alone = Run::default().live(&core);
    assert!(alone.examples().len() > 50);
    assert_eq!(promoted.examples(), alone.examples());
}

/// Where they are configured, other weights leave readings alone: those of examples, and those of a model that is promoted over them.
#[test]
fn other_weights_that_are_configured_change_no_readings() {
    let other = Compiled::parse("bolder.toml", &bolder()).expect("a good policy");
    let weights = OtherWeights::of(other, &policy()).expect("only points");
    let alone = Run::default().live(&core_of(policy()));
    let weighed = Run::default().live(&core_of(policy()).scored_by(Arc::new(weights.clone())));
    assert_eq!(weighed.examples(), alone.examples());
    assert_ne!(weighed.scores(), alone.scores());
    let promoted = |core: Core| {
        let mut run = Run::default();
        let promotion = Some(record(START_MS, Some("2")));
        run.told(&core, Input::Promotion { id: id("p"), promotion }).expect("taken");
        run.live(&core)
    };
    let over_weights = promoted(core_of(policy()).scored_by(Arc::new(weights)));
    let over_expert = promoted(core_of(policy()));
    for (account, expected) in over_expert.scores() {
        let found = &over_weights.scores()[account];
        let differs = found.iter().zip(&expected).position(|(left, right)| left != right);
        assert_eq!(differs.map(|at| (found[at], expected[at])), None, "{account}");
        assert_eq!(found.len(), expected.len(), "{account}");
    }
}

#[test]
fn weights_of_other_signals_are_refused() {
    let core = weighing();
    // The first signal of this weight is no evidence any more.
    let other = bolder().replacen("weight = 10.0", "weight = 0.0", 1);
    let mut run = Run::default();
    let input = challenger("s", START_MS, Some(&other));
    let Ok(verdict) = core.apply(&mut run.state, input, Millis(0), &mut run.out);
    let reject = verdict.expect_err("it has other evidence");
    assert_eq!(reject.reason, Reason::InvalidField);
    assert!(reject.detail.contains("no evidence"), "{}", reject.detail);
}
