//! Ranges and cross-references of a policy: everything that its types cannot say.

mod sequences;

use std::collections::BTreeMap;

use crate::account::SignalKey;
use crate::condition::When;
use crate::output::{Family, Severity};
use crate::policy::{Aggregate, CalibrationPolicy, Policy, PolicyError, PriorityPolicy, Signal};
use crate::rolling::{HISTORY_WEEKS_MAX, short};

/// The most signals that a policy may have.
pub(crate) const SIGNALS_MAX: usize = 64;
/// The kind of a corroborated alert; no signal may use it alone.
pub(crate) const CORROBORATED_KIND: &str = "churn_risk";
/// The kind of an alert that several groups rose far above normal; no signal may use it alone.
pub(crate) const SPIKE_KIND: &str = "usage_spike";
/// The kind of an alert of a cohort as a whole; no signal may use it alone.
pub(crate) const FLEET_KIND: &str = "fleet";

/// The most conditions that a policy may have.
const CONDITIONS_MAX: usize = 32;
/// The longest window that a condition may look at, in days.
pub(crate) const CONDITION_DAYS_MAX: u16 = 100;
/// The most plans that a condition may put in order.
const PLANS_MAX: usize = 16;

struct Check<'f> {
    file: &'f str,
}

impl Check<'_> {
    fn fail(&self, key: impl Into<String>, message: impl Into<String>) -> Result<(), PolicyError> {
        Err(PolicyError { file: self.file.to_owned(), key: key.into(), message: message.into() })
    }

    fn within(
        &self,
        key: &str,
        value: impl Into<f64>,
        low: f64,
        high: f64,
    ) -> Result<(), PolicyError> {
        let value = value.into();
        if value >= low && value <= high {
            return Ok(());
        }
        self.fail(key, format!("is {value}, allowed is {low} to {high}"))
    }

    fn word(&self, key: &str, value: &str) -> Result<(), PolicyError> {
        let fits = !value.is_empty()
            && value.len() <= 64
            && value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if fits {
            return Ok(());
        }
        self.fail(key, format!("is `{value}`, allowed are 1 to 64 of a-z, 0-9 and _"))
    }
}

/// Checks a policy; the error names the first key that is wrong.
pub(crate) fn check(file: &str, policy: &Policy) -> Result<(), PolicyError> {
    let check = Check { file };
    check_sections(&check, policy)?;
    check_score(&check, policy)?;
    check_conditions(&check, policy)?;
    sequences::check(&check, policy)?;
    check_rolling(&check, policy)?;
    if policy.signals.is_empty() || policy.signals.len() > SIGNALS_MAX {
        return check.fail(
            "signal",
            format!("there are {}, allowed are 1 to {SIGNALS_MAX}", policy.signals.len()),
        );
    }
    let mut names: BTreeMap<SignalKey, &str> = BTreeMap::new();
    for (index, signal) in policy.signals.iter().enumerate() {
        check_signal(&check, &format!("signal[{index}] ({})", signal.name), signal)?;
        if let Some(other) = names.insert(SignalKey::of(&signal.name), &signal.name) {
            return check.fail(
                format!("signal[{index}].name"),
                format!("`{}` clashes with `{other}`: choose another name", signal.name),
            );
        }
    }
    Ok(())
}

fn check_sections(check: &Check<'_>, policy: &Policy) -> Result<(), PolicyError> {
    let (admission, baseline) = (&policy.admission, &policy.baseline);
    check.within("admission.lateness_minutes", admission.lateness_minutes, 0.0, 1440.0)?;
    check.within("admission.grace_hours", admission.grace_hours, 1.0, 168.0)?;
    check.within("admission.future_minutes", admission.future_minutes, 1.0, 1440.0)?;
    check.within("admission.history_days", admission.history_days, 1.0, 36_500.0)?;
    check.within("admission.distinct_max", admission.distinct_max, 1.0, 100_000.0)?;
    check.within("baseline.reference_weeks", baseline.reference_weeks, 4.0, 14.0)?;
    check.within("baseline.reference_weeks_min", baseline.reference_weeks_min, 2.0, 8.0)?;
    check.within("baseline.guard_weeks", baseline.guard_weeks, 1.0, 8.0)?;
    check.within("baseline.rebaseline_days", baseline.rebaseline_days, 42.0, 120.0)?;
    check.within("baseline.variation_prior", baseline.variation_prior, 0.01, 1.0)?;
    check.within("baseline.variation_prior_weeks", baseline.variation_prior_weeks, 0.0, 52.0)?;
    let weeks_kept = crate::policy::HISTORY_WEEKS_MAX;
    if baseline.reference_weeks + baseline.guard_weeks > weeks_kept {
        return check.fail(
            "baseline.reference_weeks",
            format!("with guard_weeks it makes more than the {weeks_kept} weeks that are kept"),
        );
    }
    let deviation = &policy.deviation;
    let rising = deviation.windows_weeks.windows(2).all(|pair| pair[0] < pair[1]);
    let bounded =
        deviation.windows_weeks.iter().all(|&weeks| weeks >= 1 && weeks <= baseline.guard_weeks);
    if deviation.windows_weeks.is_empty() || !rising || !bounded {
        return check.fail(
            "deviation.windows_weeks",
            format!(
                "is {:?}, allowed are rising weeks from 1 to baseline.guard_weeks ({})",
                deviation.windows_weeks, baseline.guard_weeks
            ),
        );
    }
    check.within("deviation.z_support", deviation.z_support, 1.0, 6.0)?;
    check.within("deviation.z_alone", deviation.z_alone, deviation.z_support, 8.0)?;
    check.within("deviation.z_strong", deviation.z_strong, deviation.z_alone, 12.0)?;
    check.within("deviation.change_min_pct", deviation.change_min_pct, 0.0, 90.0)?;
    check.within("deviation.absence_days_min", deviation.absence_days_min, 2.0, 60.0)?;
    check.within("deviation.absence_beyond_days", deviation.absence_beyond_days, 0.0, 60.0)?;
    check.within("deviation.turnover_per_year", deviation.turnover_per_year, 0.0, 5.0)?;
    let corroboration = &policy.corroboration;
    check.within("corroboration.z_group", corroboration.z_group, 1.0, 6.0)?;
    check.within(
        "corroboration.false_high_per_year",
        corroboration.false_high_per_year,
        0.001,
        10.0,
    )?;
    for family in Family::ALL {
        let (name, index) = (family.as_str(), family as usize);
        let key = format!("corroboration.shares ({name})");
        check.within(&key, corroboration.shares[index], 0.0, 1.0)?;
        let key = format!("corroboration.beyond_one ({name})");
        check.within(&key, corroboration.beyond_one[index], 0.0, 10.0)?;
    }
    let sum: f64 = corroboration.shares.iter().sum();
    if (sum - 1.0).abs() > 1e-6 {
        return check.fail("corroboration.shares", format!("sum to {sum}, they must to 1"));
    }
    check_calibration(check, &policy.calibration)?;
    check.within("close.settle_minutes", policy.close.settle_minutes, 0.0, 360.0)?;
    check.within("close.spread_minutes", policy.close.spread_minutes, 0.0, 720.0)?;
    let models = &policy.models;
    check.within("models.ets_volume_min", models.ets_volume_min, 1.0, 1e9)?;
    check.within("models.interval", models.interval, 0.5, 0.999)?;
    check.within("models.intraday_share", models.intraday_share, 0.01, 1.0)?;
    check.within("models.intraday_growth_pct", models.intraday_growth_pct, 1.0, 1000.0)?;
    check.within("close.lag_minutes", policy.close.lag_minutes, 0.0, 360.0)?;
    check.within("close.per_event", policy.close.per_event, 0.0, 1e3)?;
    check.within("close.per_tick", policy.close.per_tick, 1.0, 1e5)?;
    let watch = &policy.watch;
    check.within("watch.alert_score", watch.alert_score, 0.9, 0.999_999_9)?;
    check.within("watch.quiet_values", watch.quiet_values, 0.0, 1e5)?;
    check.within("watch.quiet_share", watch.quiet_share, 0.0, 0.5)?;
    check.within("watch.warm_up_values", watch.warm_up_values, 20.0, 1e5)?;
    let fleet = &policy.fleet;
    check.within("fleet.change_min_pct", fleet.change_min_pct, 10.0, 90.0)?;
    check.within("fleet.z_min", fleet.z_min, 3.0, 12.0)?;
    check.within("fleet.accounts_min", fleet.accounts_min, 2.0, 1e6)?;
    check.within("fleet.quiet_hours", fleet.quiet_hours, 1.0, 336.0)?;
    check.within("fleet.hold_hours", fleet.hold_hours, 0.0, 336.0)?;
    check.within("fleet.beyond_hold", fleet.beyond_hold, 0.0, 1.0)?;
    check.within("corroboration.shared_events", corroboration.shared_events, 0.05, 1.0)?;
    check.within("corroboration.groups_high", corroboration.groups_high, 2.0, 5.0)?;
    check.within(
        "corroboration.groups_critical",
        corroboration.groups_critical,
        f64::from(corroboration.groups_high),
        8.0,
    )
}

fn check_calibration(check: &Check<'_>, rules: &CalibrationPolicy) -> Result<(), PolicyError> {
    let rising = rules.volumes.windows(2).all(|pair| pair[0] < pair[1]);
    let positive = rules.volumes.iter().all(|volume| volume.is_finite() && *volume > 0.0);
    if rules.volumes.len() > 8 || !rising || !positive {
        let message = format!("is {:?}, allowed are up to 8 rising numbers above 0", rules.volumes);
        return check.fail("calibration.volumes", message);
    }
    for (name, rows) in [("drop", &rules.drop), ("rise", &rules.rise), ("decline", &rules.decline)]
    {
        let key = format!("calibration.{name}");
        let wanted = rules.volumes.len() + 1;
        if rows.len() != wanted {
            let message = format!("has {} rows, with these volumes it needs {wanted}", rows.len());
            return check.fail(key, message);
        }
        for [intercept, slope] in rows {
            check.within(&format!("{key} (a)"), *intercept, -50.0, 50.0)?;
            check.within(&format!("{key} (b)"), *slope, 0.05, 5.0)?;
        }
    }
    check.within("calibration.overlap", rules.overlap, 0.5, 1.0)?;
    check.within("calibration.prior_years", rules.prior_years, 1.0, 10_000.0)?;
    check.within("calibration.real_per_year", rules.real_per_year, 0.0, 2.0)
}

fn check_score(check: &Check<'_>, policy: &Policy) -> Result<(), PolicyError> {
    let (alerts, maturity, score) = (&policy.alerts, &policy.maturity, &policy.score);
    check.within(
        "calendar.fiscal_year_end_days",
        policy.calendar.fiscal_year_end_days,
        0.0,
        30.0,
    )?;
    check.within("alerts.resolve_quiet_days", alerts.resolve_quiet_days, 1.0, 60.0)?;
    check.within("alerts.refractory_days", alerts.refractory_days, 0.0, 180.0)?;
    check.within("alerts.flap_reopens", alerts.flap_reopens, 1.0, 20.0)?;
    check.within("alerts.flap_days", alerts.flap_days, 7.0, 365.0)?;
    let quiet_min = f64::from(alerts.resolve_quiet_days);
    check.within("alerts.flap_quiet_days", alerts.flap_quiet_days, quiet_min, 120.0)?;
    check.within("alerts.expire_days", alerts.expire_days, 14.0, 730.0)?;
    check.within("alerts.snooze_days_max", alerts.snooze_days_max, 1.0, 365.0)?;
    check_priority(check, &policy.priority)?;
    check.within("maturity.learning_days", maturity.learning_days, 7.0, 120.0)?;
    check.within(
        "maturity.onboarding_days",
        maturity.onboarding_days,
        f64::from(maturity.learning_days),
        365.0,
    )?;
    let feedback = &policy.feedback;
    check.within("feedback.horizon_days", feedback.horizon_days, 14.0, 365.0)?;
    let acted_max = f64::from(feedback.horizon_days - 1).min(90.0);
    check.within("feedback.acted_days", feedback.acted_days, 1.0, acted_max)?;
    check.within("feedback.precision_target", feedback.precision_target, 0.05, 0.95)?;
    check.within("feedback.prior_verdicts", feedback.prior_verdicts, 1.0, 1e3)?;
    check.within("feedback.half_life_days", feedback.half_life_days, 30.0, 3650.0)?;
    check.within("feedback.strictest", feedback.strictest, 0.01, 1.0)?;
    check.within("feedback.loosest", feedback.loosest, 1.0, 10.0)?;
    check.within("feedback.control_share", feedback.control_share, 0.0, 0.5)?;
    let learning = &policy.learning;
    check.within("learning.example_days", learning.example_days, 0.0, 91.0)?;
    check.within("learning.horizon_days", learning.horizon_days, 7.0, 366.0)?;
    check.within("score.base_points", score.base_points, 0.0, 100.0)?;
    check.within("score.recency_points", score.recency_points, 0.0, 50.0)?;
    check.within("score.recency_full_days", score.recency_full_days, 2.0, 128.0)?;
    check.within("score.frequency_points", score.frequency_points, 0.0, 50.0)?;
    check.within("score.tenure_points", score.tenure_points, 0.0, 50.0)?;
    check.within("score.tenure_full_days", score.tenure_full_days, 1.0, 3650.0)?;
    check.within("score.upside_share", score.upside_share, 0.0, 1.0)?;
    check.within("score.publish_min_points", score.publish_min_points, 0.01, 100.0)?;
    check.within("score.healthy_min", score.healthy_min, 1.0, 100.0)?;
    check.within("score.at_risk_below", score.at_risk_below, 0.0, score.healthy_min)
}

fn check_conditions(check: &Check<'_>, policy: &Policy) -> Result<(), PolicyError> {
    let conditions = &policy.conditions;
    if conditions.len() > CONDITIONS_MAX {
        let message =
            format!("there are {}, at most {CONDITIONS_MAX} are allowed", conditions.len());
        return check.fail("condition", message);
    }
    for (index, condition) in conditions.iter().enumerate() {
        let (at, kind) = (format!("condition[{index}]"), &condition.kind);
        check.word(&format!("{at}.kind"), kind)?;
        let taken = [CORROBORATED_KIND, SPIKE_KIND, FLEET_KIND].contains(&kind.as_str())
            || policy.signals.iter().any(|signal| signal.kind == *kind)
            || conditions[..index].iter().any(|other| other.kind == *kind);
        if taken {
            let message = format!("`{kind}` is a kind of other alerts: choose another");
            return check.fail(format!("{at}.kind"), message);
        }
        if condition.severity > Severity::Medium {
            let message =
                format!("is {}, allowed are info, low, medium", condition.severity.as_str());
            return check.fail(format!("{at}.severity"), message);
        }
        if condition.plans.iter().any(|plan| plan.trim().is_empty()) {
            return check.fail(format!("{at}.plans"), "names a plan without a name".to_owned());
        }
        check_when(check, &format!("{at}.when"), &condition.when, policy)?;
    }
    Ok(())
}

fn check_when(
    check: &Check<'_>,
    at: &str,
    when: &When,
    policy: &Policy,
) -> Result<(), PolicyError> {
    let days_max = f64::from(CONDITION_DAYS_MAX);
    let mut gauge = false;
    if let Some((name, days)) = when.reads() {
        check.within(&format!("{at}.days"), days, 1.0, days_max)?;
        let key = format!("{at}.signal");
        let signal = policy.signals.iter().find(|signal| signal.name == name);
        let Some(signal) = signal else {
            return check.fail(key, format!("`{name}` is no signal of this policy"));
        };
        if signal.aggregate == Aggregate::Presence {
            return check.fail(key, format!("`{name}` has no level: its aggregate is presence"));
        }
        gauge = matches!(signal.aggregate, Aggregate::Mean | Aggregate::Last);
    }
    match when {
        When::Limit { days, .. } if gauge && *days > 1 => {
            let message = format!("is {days}, but of a gauge the last value counts: leave it out");
            check.fail(format!("{at}.days"), message)
        }
        When::Limit { entitlement, .. } if entitlement.trim().is_empty() => {
            check.fail(format!("{at}.entitlement"), "is empty".to_owned())
        }
        When::Limit { percent, forecast_days, .. } => {
            check.within(&format!("{at}.percent"), *percent, 1.0, 1000.0)?;
            check.within(&format!("{at}.forecast_days"), *forecast_days, 0.0, 365.0)
        }
        // What is counted is at least zero on every day.
        When::AtLeast { amount, .. } if !gauge && *amount <= 0.0 => {
            let message = format!("is {amount}, which is always reached: it must be above 0");
            check.fail(format!("{at}.amount"), message)
        }
        When::AtLeast { amount, .. } => check.within(&format!("{at}.amount"), *amount, -1e12, 1e12),
        When::SlowStart { from_day, days, active_days_max } => {
            let last = f64::from(policy.maturity.onboarding_days) - 1.0;
            check.within(&format!("{at}.from_day"), *from_day, 1.0, last)?;
            check.within(&format!("{at}.days"), *days, 1.0, days_max.min(last))?;
            let below = f64::from(*days) - 1.0;
            check.within(&format!("{at}.active_days_max"), *active_days_max, 0.0, below)
        }
        When::HigherTier { plans, signals, signals_min, accounts_min } => {
            check_plans(check, at, plans)?;
            check_levels(check, at, signals, policy)?;
            check.within(&format!("{at}.signals_min"), *signals_min, 1.0, signals.len() as f64)?;
            check.within(&format!("{at}.accounts_min"), *accounts_min, 5.0, 1e6)
        }
        When::Rises { .. } | When::Band(_) => Ok(()),
    }
}

/// Plans, rising.
fn check_plans(check: &Check<'_>, at: &str, plans: &[String]) -> Result<(), PolicyError> {
    let key = format!("{at}.plans");
    if !(2..=PLANS_MAX).contains(&plans.len()) {
        let message = format!("names {}; allowed are 2 to {PLANS_MAX}, rising", plans.len());
        return check.fail(key, message);
    }
    let twice = plans.iter().enumerate().find(|(index, plan)| plans[..*index].contains(plan));
    match twice.map(|(_, plan)| plan).or(plans.iter().find(|plan| plan.trim().is_empty())) {
        Some(plan) => check.fail(key, format!("`{plan}` is named twice, or is no name")),
        None => Ok(()),
    }
}

/// Signals whose level of some weeks says how much an account uses.
fn check_levels(
    check: &Check<'_>,
    at: &str,
    signals: &[String],
    policy: &Policy,
) -> Result<(), PolicyError> {
    let key = format!("{at}.signals");
    for (index, name) in signals.iter().enumerate() {
        let Some(signal) = policy.signals.iter().find(|signal| signal.name == *name) else {
            return check.fail(key, format!("`{name}` is no signal of this policy"));
        };
        if matches!(signal.aggregate, Aggregate::Mean | Aggregate::Presence) {
            let message = format!("`{name}` says not how much: its aggregate is mean or presence");
            return check.fail(key, message);
        }
        if signals[..index].contains(name) {
            return check.fail(key, format!("`{name}` is named twice"));
        }
    }
    Ok(())
}

fn check_priority(check: &Check<'_>, rules: &PriorityPolicy) -> Result<(), PolicyError> {
    let rising = rules.severity.windows(2).all(|pair| pair[0] < pair[1]);
    if !rising || rules.severity[4] > 100 {
        let message = format!("is {:?}, allowed are rising points up to 100", rules.severity);
        return check.fail("priority.severity", message);
    }
    check.within("priority.renewal_points", rules.renewal_points, 0.0, 100.0)?;
    check.within("priority.renewal_days", rules.renewal_days, 1.0, 730.0)?;
    check.within("priority.value_points", rules.value_points, 0.0, 100.0)?;
    check.within("priority.value_full_usd", rules.value_full_usd, 1.0, 1e12)?;
    for (plan, points) in &rules.plans {
        check.within(&format!("priority.plans.{plan}"), *points, 0.0, 100.0)?;
    }
    Ok(())
}

fn check_rolling(check: &Check<'_>, policy: &Policy) -> Result<(), PolicyError> {
    let rolling = &policy.rolling;
    check.within("rolling.history_weeks", rolling.history_weeks, 3.0, HISTORY_WEEKS_MAX.into())?;
    check.within("rolling.late_days", rolling.late_days, 7.0, 128.0)?;
    check.within("rolling.spread_min", rolling.spread_min, 1e-6, 1e12)?;
    check.within("rolling.spread_share", rolling.spread_share, 0.0, 1.0)?;
    if !rolling.enabled {
        return Ok(());
    }
    let mut names: BTreeMap<u16, &str> = BTreeMap::new();
    for (index, signal) in policy.signals.iter().enumerate() {
        let at = format!("signal[{index}] ({})", signal.name);
        if !matches!(signal.aggregate, Aggregate::Sum | Aggregate::Count) {
            let message = "is for sums and counts with rolling.enabled";
            return check.fail(format!("{at}.aggregate"), message);
        }
        let key = short(SignalKey::of(&signal.name).0);
        if let Some(other) = names.insert(key, &signal.name) {
            let message = format!("`{}` clashes with `{other}`: choose another name", signal.name);
            return check.fail(format!("{at}.name"), message);
        }
    }
    Ok(())
}

fn check_signal(check: &Check<'_>, at: &str, signal: &Signal) -> Result<(), PolicyError> {
    check.word(&format!("{at}.name"), &signal.name)?;
    check.word(&format!("{at}.group"), &signal.group)?;
    check.word(&format!("{at}.kind"), &signal.kind)?;
    if ["base", "recency", "frequency", "tenure", "clip"].contains(&signal.name.as_str()) {
        return check.fail(format!("{at}.name"), "is the name of a scorecard line: choose another");
    }
    if [CORROBORATED_KIND, SPIKE_KIND, FLEET_KIND].contains(&signal.kind.as_str()) {
        return check.fail(
            format!("{at}.kind"),
            format!("`{}` is a kind of corroborated alerts: choose another", signal.kind),
        );
    }
    if signal.watched && !matches!(signal.aggregate, Aggregate::Mean | Aggregate::Last) {
        return check
            .fail(format!("{at}.watched"), "is for values: aggregate = \"mean\" or \"last\"");
    }
    if signal.counted && signal.aggregate != Aggregate::Sum {
        return check.fail(format!("{at}.counted"), "is for sums of counts: aggregate = \"sum\"");
    }
    check.within(&format!("{at}.weight"), signal.weight, 0.0, 50.0)?;
    check.within(&format!("{at}.effect_full_pct"), signal.effect_full_pct, 5.0, 1000.0)?;
    check.within(&format!("{at}.spread_min"), signal.spread_min, 0.0, 1e12)?;
    if signal.key_user && signal.aggregate != Aggregate::Presence {
        return check.fail(format!("{at}.key_user"), "is for aggregate = \"presence\" only");
    }
    if let Some(streak) = &signal.streak {
        if signal.aggregate != Aggregate::Mean {
            return check.fail(format!("{at}.streak"), "is for aggregate = \"mean\" only");
        }
        check.within(&format!("{at}.streak.threshold"), streak.threshold, -1e12, 1e12)?;
        check.within(&format!("{at}.streak.fall"), streak.fall, 0.0, 1e12)?;
    }
    Ok(())
}
