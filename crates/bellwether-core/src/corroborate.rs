//! Corroboration: whether independent evidence agrees.
//!
//! Signals of one correlation group move for one reason and count once, with their strongest member. So do groups whose
//! evidence rests on the same events of this account. The groups that are convinced on their own are combined by Stouffer's
//! method. One group alone is never more than medium. A run of single interactions warns, and convinces nobody.

use bellwether_detect::Domain;

use crate::account::Account;
use crate::chance::{self, Passed, Tails};
use crate::close::evidence_of_scan;
use crate::cohort::{Cohort, Cohorts};
use crate::expect::{Expected, is_count};
use crate::feedback::Sensitivity;
use crate::output::{Evidence, Family, Judged, Severity};
use crate::policy::{CalibrationPolicy, Compiled, Policy};
use crate::policy_check::{CORROBORATED_KIND, SPIKE_KIND};
use crate::scan::{Finding, Law, Scan, ScanRules, scan};
use crate::step::Core;
use crate::time::{Day, Millis};

/// What the scan of a closed day found.
#[derive(Debug, Clone, PartialEq)]
pub struct Corroborated {
    /// The rarest finding of risk, if it is rare enough for an alert.
    pub alarm: Option<Alarm>,
    /// The same of rises.
    pub rise: Option<Alarm>,
    /// Whether risk is still rare enough to keep an alert open.
    pub supported: bool,
    /// The best statistic per family; none where no set of groups passes the gate.
    pub statistics: [Option<f64>; 3],
    /// Counts expected on an average day.
    pub volume: f64,
    /// How rare the findings are by the policy's calibration.
    pub passed: Passed,
    /// How often alerts may come by chance, by what people said of them.
    pub sensitivity: Sensitivity,
    /// While alerts of the cohort's accounts are held back: whether there would be an urgent one if its cohort had done as usual.
    pub held: Option<bool>,
    day: Day,
}

/// A finding that is an alert.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// The family.
    pub family: Family,
    /// High or critical.
    pub severity: Severity,
    /// How often an account like this would show the like by chance, per year.
    pub by_chance_per_year: f64,
    /// What the groups of the set say, strongest first.
    pub evidence: Vec<Evidence>,
    /// When it began.
    pub onset: Day,
}

/// An open alert is kept up by evidence that is so many times as frequent as what opens one.
const SUPPORT_RATE: f64 = 20.0;

/// Days for which what the cohort did is undone, to count the alerts that are held back.
const UNDONE_DAYS: usize = 14;

impl Default for Corroborated {
    fn default() -> Corroborated {
        Corroborated {
            alarm: None,
            rise: None,
            supported: false,
            statistics: [None; 3],
            volume: 0.0,
            passed: Passed::default(),
            sensitivity: Sensitivity::default(),
            held: None,
            day: Day(0),
        }
    }
}

impl Corroborated {
    /// For calibration.
    #[must_use]
    pub fn judged(&self, account: &Account, at: Millis) -> Judged {
        Judged {
            account_id: account.id.clone(),
            cohort: account.segment().unwrap_or_default().to_owned(),
            day: self.day,
            at,
            volume: self.volume,
            statistics: self.statistics,
            signals: Vec::new(),
        }
    }
}

/// How often an account of this volume shows a statistic of this family by chance, per year, by the policy's calibration.
#[must_use]
pub fn by_chance(rules: &CalibrationPolicy, family: Family, volume: f64, statistic: f64) -> f64 {
    let rows = match family {
        Family::Drop => &rules.drop,
        Family::Rise => &rules.rise,
        Family::Decline => &rules.decline,
    };
    let row = volume_row(rules, volume);
    let [intercept, slope] = rows.get(row).or(rows.last()).copied().unwrap_or([0.0, 1.0]);
    (intercept - slope * statistic).exp()
}

/// The row of the calibration for accounts of a volume.
#[must_use]
pub fn volume_row(rules: &CalibrationPolicy, volume: f64) -> usize {
    rules.volumes.iter().take_while(|&&edge| edge <= volume).count()
}

/// What is asked of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Everything: it is closed.
    Closed,
    /// Whether there is a rise, but not what is held back: it is still open.
    Open,
}

impl Asked {
    fn families(self) -> &'static [Family] {
        match self {
            Asked::Closed => &Family::ALL,
            Asked::Open => &[Family::Rise],
        }
    }
}

/// Scans the account's days up to `day`, the newest of its history, for groups that changed together. `expected`: of that day.
#[must_use]
pub fn judge(
    core: &Core,
    account: &Account,
    cohorts: &mut Cohorts,
    expected: Expected,
    (day, at): (Day, Millis),
    asked: Asked,
) -> Corroborated {
    let families = asked.families();
    let policy = &*core.policy;
    let learns = policy.calibration.learn;
    let tails = if learns {
        cohorts.named(account.segment()).tails(policy, day).clone()
    } else {
        Tails::default()
    };
    let sensitivity = cohorts.named(account.segment()).sensitivity(&policy.feedback, at);
    let weighed = weigh(core, account, (&expected, &tails), &sensitivity, (day, families));
    let Weighed { mut found, scan, rarest } = weighed;
    let held = cohorts.is_held(account.segment(), at);
    let beyond = policy.fleet.beyond_hold * policy.corroboration.false_high_per_year;
    let facts = Facts { core, account, expected: &expected, scan: &scan };
    // Worded are only those that are raised: while all accounts of a cohort deviate, that would be most of the work, and for nothing.
    let [alarm, rise] = rarest.map(|rarest| {
        let (rate, place) = rarest.filter(|(rate, _)| !held || *rate <= beyond)?;
        Some(facts.alarm(scan.findings.get(place)?, (rate, day)))
    });
    (found.alarm, found.rise) = (alarm, rise);
    if held && asked == Asked::Closed {
        let cohort = cohorts.named(account.segment());
        let alone = against_usual(account, policy, cohort, expected, day);
        let alone = weigh(core, account, (&alone, &tails), &sensitivity, (day, families));
        found.held = Some(alone.rarest.iter().any(Option::is_some));
    }
    Corroborated { sensitivity, ..found }
}

/// What would be expected of the account if its cohort had done as usual on all days.
fn against_usual(
    account: &Account,
    policy: &Compiled,
    cohort: &mut Cohort,
    mut expected: Expected,
    day: Day,
) -> Expected {
    for (lane, &index) in expected.lanes.iter_mut().zip(&expected.signals) {
        let Some((key, _)) = account.history.rings.get(index) else { continue };
        if matches!(lane.law, Law::Normal) || !is_count(&policy.signals[index]) {
            continue;
        }
        for (back, mean) in (0..).zip(lane.expected.iter_mut()).take(UNDONE_DAYS) {
            let at = day.plus(-back);
            *mean *= cohort.usual(*key, at) / cohort.factor(*key, at);
        }
    }
    expected
}

/// What a scan found and how rare it is, without words.
struct Weighed {
    /// Without alarms.
    found: Corroborated,
    scan: Scan,
    /// The rarest finding of risk, and of rises, that is within the budget: how often it comes by chance, and its place in the scan.
    rarest: [Option<(f64, usize)>; 2],
}

fn weigh(
    core: &Core,
    account: &Account,
    (expected, tails): (&Expected, &Tails),
    sensitivity: &Sensitivity,
    (day, families): (Day, &'static [Family]),
) -> Weighed {
    let policy = &*core.policy;
    let rules = &policy.corroboration;
    let scan_rules = ScanRules {
        shared_variance: expected.shared_variance,
        groups_min: usize::from(rules.groups_high),
        gates: rules.beyond_one,
        families,
    };
    let scan = scan(&expected.lanes, &scan_rules, &|left, right| {
        are_dependent(account, policy, expected, (left, right))
    });
    let mut found = Corroborated { volume: expected.volume, day, ..Corroborated::default() };
    found.passed.volume = volume_row(&policy.calibration, expected.volume);
    let tails = tails.get(found.passed.volume);
    let mut rarest: [Option<(f64, usize)>; 2] = [None; 2];
    for (place, finding) in scan.findings.iter().enumerate() {
        let (family, index) = (finding.family, finding.family as usize);
        found.statistics[index] = Some(finding.statistic);
        let nominal = by_chance(&policy.calibration, family, expected.volume, finding.statistic);
        found.passed.levels[index] = chance::level(nominal);
        let own = account.own.filter(|_| policy.calibration.learn);
        let excess = own.map_or(1.0, |own| own.excess(family, &tails, day));
        let rate = tails[index].rate(nominal) * excess;
        if rules.shares[index] <= 0.0 {
            continue;
        }
        let rate = rate / rules.shares[index] * policy.calibration.overlap;
        if family != Family::Rise {
            found.supported |= rate <= rules.false_high_per_year * SUPPORT_RATE;
        }
        let kind = &mut rarest[usize::from(family == Family::Rise)];
        if kind.is_none_or(|(rare, _)| rate < rare) {
            *kind = Some((rate, place));
        }
    }
    for (rarest, kind) in rarest.iter_mut().zip([CORROBORATED_KIND, SPIKE_KIND]) {
        let budget = rules.false_high_per_year * sensitivity.of(kind);
        *rarest = rarest.filter(|(rate, _)| *rate <= budget);
    }
    Weighed { found, scan, rarest }
}

/// Whether two lanes rest on the same events of the account.
fn are_dependent(
    account: &Account,
    policy: &Policy,
    expected: &Expected,
    (left, right): (usize, usize),
) -> bool {
    let (left, right) = (expected.signals[left], expected.signals[right]);
    account.hot.streams.shared(left, right) >= policy.corroboration.shared_events
}

/// What an alarm is worded from.
struct Facts<'a> {
    core: &'a Core,
    account: &'a Account,
    expected: &'a Expected,
    scan: &'a Scan,
}

impl Facts<'_> {
    fn alarm(&self, finding: &Finding, (rate, day): (f64, Day)) -> Alarm {
        let Facts { core, account, expected, scan } = *self;
        let policy = &*core.policy;
        let onset = day.plus(1 - i32::from(finding.window_days));
        let mut evidence: Vec<Evidence> = Vec::new();
        let mut key_user = false;
        for &lane in &finding.lanes {
            let signal = &policy.signals[expected.signals[lane]];
            // Where nobody else is active, the absence of the key user is the absence of everybody.
            let group = expected.lanes[lane].group;
            let somebody = |other: usize| {
                expected.lanes[other].group != group
                    && are_dependent(account, policy, expected, (other, lane))
            };
            key_user |= signal.key_user && !(0..expected.lanes.len()).any(somebody);
            let (alone, _) = scan.alone[lane];
            let state = account.hot.signals.get(expected.signals[lane]);
            let weekly = state.and_then(|state| state.baseline).map(|baseline| baseline.level);
            evidence.push(evidence_of_scan(
                signal,
                &expected.lanes[lane],
                (expected.normals[lane], weekly),
                (finding, alone, self.dated(lane, finding)),
                onset,
            ));
        }
        crate::alert::strongest_first(&mut evidence);
        let many = finding.lanes.len() >= usize::from(policy.corroboration.groups_critical);
        let critical = finding.family != Family::Rise && (many || key_user);
        Alarm {
            family: finding.family,
            severity: if critical { Severity::Critical } else { Severity::High },
            by_chance_per_year: rate,
            evidence,
            onset,
        }
    }
}

impl Facts<'_> {
    /// Days since a signal changed its level for the last time, by its own days, where that is a change of the finding's kind.
    fn dated(&self, lane: usize, finding: &Finding) -> Option<u16> {
        if !self.core.policy.models.onset {
            return None;
        }
        let (_, ring) = self.account.history.rings.get(self.expected.signals[lane])?;
        let lane = &self.expected.lanes[lane];
        let domain = if lane.law == Law::Normal { Domain::Real } else { Domain::NonNegative };
        let onset = self.core.models.date_onset(domain, &ring.values()).ok()??;
        let falls = lane.falls == (finding.family != Family::Rise);
        ((onset.after < onset.before) == falls).then_some(onset.days_ago)
    }
}

/// What the risk evidence of an account says together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Assessment {
    /// Convinced independent groups with the magnitude of their strongest deviation, strongest first.
    pub groups: Vec<(String, f64)>,
    /// Whether as many independent groups as a high alert needs are still at least in support.
    pub supported: bool,
    /// How the change goes on in time, where a scan found it.
    pub family: Option<Family>,
}

/// What is to be known of signals, by name.
pub trait Witnesses {
    /// The share of events that two signals have in common, 0..=1.
    fn shared(&self, left: &str, right: &str) -> f64;
}

/// A correlation group with its evidence.
struct Group<'e> {
    name: &'e str,
    z: f64,
    items: Vec<&'e Evidence>,
}

/// Weighs the risk evidence.
#[must_use]
pub fn assess(evidence: &[&Evidence], policy: &Policy, witnesses: &impl Witnesses) -> Assessment {
    let rules = &policy.corroboration;
    let needed = usize::from(rules.groups_high);
    let groups = independent(evidence, rules.z_group, rules.shared_events, witnesses);
    let supporting =
        independent(evidence, policy.deviation.z_support, rules.shared_events, witnesses);
    Assessment {
        groups: groups.into_iter().map(|group| (group.name.to_owned(), group.z)).collect(),
        supported: supporting.len() >= needed,
        family: None,
    }
}

/// The groups with evidence of at least this strength, strongest first; one that rests on the events of a stronger one is part
/// of it.
fn independent<'e>(
    evidence: &[&'e Evidence],
    z_min: f64,
    shared_events: f64,
    witnesses: &impl Witnesses,
) -> Vec<Group<'e>> {
    let mut groups: Vec<Group<'e>> = Vec::new();
    let counts = |item: &&&'e Evidence| item.risk && !item.is_run() && item.z.abs() >= z_min;
    for item in evidence.iter().filter(counts) {
        match groups.iter_mut().find(|group| group.name == item.group) {
            Some(group) => {
                group.z = group.z.max(item.z.abs());
                group.items.push(item);
            }
            None => {
                let (name, z) = (item.group.as_str(), item.z.abs());
                groups.push(Group { name, z, items: vec![item] });
            }
        }
    }
    groups
        .sort_by(|left, right| right.z.total_cmp(&left.z).then_with(|| left.name.cmp(right.name)));
    let mut chosen: Vec<Group<'e>> = Vec::new();
    for group in groups {
        let same_events = |other: &Group<'e>| {
            let pairs = other
                .items
                .iter()
                .flat_map(|left| group.items.iter().map(move |right| (left, right)));
            pairs
                .into_iter()
                .all(|(left, right)| witnesses.shared(&left.signal, &right.signal) >= shared_events)
        };
        if !chosen.iter().any(same_events) {
            chosen.push(group);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Category;
    use crate::policy::Compiled;
    use crate::time::Day;
    use proptest::prelude::*;

    fn evidence(signal: &str, group: &str, z: f64) -> Evidence {
        Evidence {
            signal: signal.to_owned(),
            category: Category::Engagement,
            group: group.to_owned(),
            observed: 1.0,
            baseline: 2.0,
            unit: String::new(),
            change_pct: Some(-50.0),
            z,
            risk: true,
            onset: Day(0),
            window_days: 7,
            text: String::new(),
        }
    }

    /// Signals whose names begin alike rest on the same events.
    struct ByName;

    impl Witnesses for ByName {
        fn shared(&self, left: &str, right: &str) -> f64 {
            let alike = left.split('-').next() == right.split('-').next();
            if alike { 0.8 } else { 0.1 }
        }
    }

    /// Independent groups that are convinced.
    fn convinced(items: &[Evidence]) -> usize {
        let policy = Compiled::default_policy();
        assess(&items.iter().collect::<Vec<_>>(), &policy, &ByName).groups.len()
    }

    #[test]
    fn independent_groups_count() {
        let (a, b) = (evidence("a", "g1", -4.0), evidence("b", "g2", -4.0));
        assert_eq!(convinced(std::slice::from_ref(&a)), 1);
        assert_eq!(convinced(&[a.clone(), evidence("b", "g1", -9.0)]), 1, "one group counts once");
        assert_eq!(convinced(&[a.clone(), b]), 2);
        assert_eq!(
            convinced(&[a, evidence("b", "g2", -1.0)]),
            1,
            "a group must be convinced itself"
        );
    }

    #[test]
    fn groups_that_rest_on_the_same_events_count_once() {
        let (all, few) = (evidence("logins", "g1", -4.0), evidence("logins-features", "g2", -5.0));
        assert_eq!(convinced(&[all.clone(), few.clone()]), 1);
        let own = evidence("projects", "g2", -4.0);
        assert_eq!(convinced(&[all.clone(), few, own]), 2, "one is independent");
        let admin = evidence("logins-admin", "g3", -6.0);
        assert_eq!(convinced(&[all.clone(), admin.clone()]), 1, "the only user is the admin");
        assert_eq!(convinced(&[all, admin, evidence("tickets", "g4", 4.0)]), 2);
    }

    #[test]
    fn a_run_of_interactions_convinces_nobody() {
        let run = Evidence { window_days: 0, ..evidence("mood", "g2", -9.0) };
        assert_eq!(convinced(&[evidence("a", "g1", -9.0), run]), 1);
    }

    proptest! {
        #[test]
        fn one_group_is_one(zs in prop::collection::vec(-12.0f64..12.0, 0..40)) {
            let items: Vec<Evidence> = zs.iter().map(|&z| evidence("s", "only", z)).collect();
            prop_assert!(convinced(&items) <= 1);
        }
    }
}
