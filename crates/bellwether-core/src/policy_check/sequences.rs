//! What a policy's sequences may ask for.

use super::Check;
use crate::account::SignalKey;
use crate::policy::{Aggregate, Policy, PolicyError, Signal};
use crate::sequence::{Course, Step};
use crate::standing::Trait;

/// The most sequences that a policy may have.
const SEQUENCES_MAX: usize = 16;

/// Checks the sequences of a policy; the error names the first key that is wrong.
pub(super) fn check(check: &Check<'_>, policy: &Policy) -> Result<(), PolicyError> {
    let sequences = &policy.sequences;
    if sequences.len() > SEQUENCES_MAX {
        let message = format!("there are {}, at most {SEQUENCES_MAX} are allowed", sequences.len());
        return check.fail("sequence", message);
    }
    if policy.rolling.enabled && !sequences.is_empty() {
        return check.fail("sequence", "is for closed days: there are none with rolling.enabled");
    }
    for (index, sequence) in sequences.iter().enumerate() {
        let (at, name) = (format!("sequence[{index}] ({})", sequence.name), &sequence.name);
        check.word(&format!("{at}.name"), name)?;
        let is_taken = is_line(name)
            || policy.signals.iter().any(|signal| signal.name == *name)
            || sequences[..index].iter().any(|other| other.key() == sequence.key())
            || policy.signals.iter().any(|signal| SignalKey::of(&signal.name) == sequence.key());
        if is_taken {
            let message = format!("`{name}` clashes with another line: choose another name");
            return check.fail(format!("{at}.name"), message);
        }
        check.within(&format!("{at}.weight"), sequence.weight, 0.01, 50.0)?;
        check.within(&format!("{at}.fades_days"), sequence.fades_days, 1.0, 60.0)?;
        check_course(check, &format!("{at}.when"), &sequence.when, policy)?;
    }
    Ok(())
}

fn check_course(
    check: &Check<'_>,
    at: &str,
    when: &Course,
    policy: &Policy,
) -> Result<(), PolicyError> {
    match when {
        Course::Worsening { signal, times, by, within_days } => {
            let of = named(check, at, signal, policy)?;
            if of.aggregate != Aggregate::Mean {
                let message = format!("`{signal}` has no interactions: its aggregate is not mean");
                return check.fail(format!("{at}.signal"), message);
            }
            check.within(&format!("{at}.times"), *times, 3.0, 8.0)?;
            check.within(&format!("{at}.by"), *by, 1e-9, 1e12)?;
            check.within(&format!("{at}.within_days"), *within_days, 1.0, 100.0)
        }
        Course::Follows { first, then, within_days } => {
            for (name, step) in [("first", first), ("then", then)] {
                check_step(check, &format!("{at}.{name}"), step, policy)?;
            }
            if std::mem::discriminant(first) == std::mem::discriminant(then)
                && first.signal() == then.signal()
            {
                let message = "is the same as `first`: one event would be both";
                return check.fail(format!("{at}.then"), message);
            }
            check.within(&format!("{at}.within_days"), *within_days, 1.0, 60.0)
        }
    }
}

fn check_step(
    check: &Check<'_>,
    at: &str,
    step: &Step,
    policy: &Policy,
) -> Result<(), PolicyError> {
    let signal = named(check, at, step.signal(), policy)?;
    let percent_max = match step {
        Step::Comes { .. } if signal.aggregate == Aggregate::Last => {
            let message = format!("`{}` is a gauge, which is always there", signal.name);
            return check.fail(format!("{at}.signal"), message);
        }
        Step::Comes { amount, .. } => {
            return check.within(&format!("{at}.amount"), *amount, 1e-9, 1e12);
        }
        Step::Falls { .. } => 100.0,
        Step::Rises { .. } => 1000.0,
    };
    if signal.aggregate != Aggregate::Last {
        let message = format!("`{}` is no gauge: its aggregate is not last", signal.name);
        return check.fail(format!("{at}.signal"), message);
    }
    let (Step::Falls { percent, .. } | Step::Rises { percent, .. }) = step else { return Ok(()) };
    check.within(&format!("{at}.percent"), *percent, 1.0, percent_max)
}

/// A signal of the policy, by its name.
fn named<'p>(
    check: &Check<'_>,
    at: &str,
    name: &str,
    policy: &'p Policy,
) -> Result<&'p Signal, PolicyError> {
    policy.signals.iter().find(|signal| signal.name == name).ok_or_else(|| PolicyError {
        file: check.file.to_owned(),
        key: format!("{at}.signal"),
        message: format!("`{name}` is no signal of this policy"),
    })
}

/// Whether a line of the scorecard that is no signal has this name.
fn is_line(name: &str) -> bool {
    let fixed = ["base", "recency", "frequency", "tenure", "clip"];
    fixed.contains(&name) || Trait::ALL.iter().any(|of| of.as_str() == name)
}
