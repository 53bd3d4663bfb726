//! Alerts that are too large to be remembered whole. The engine writes none, but a record of the topic may hold anything, and what cannot be
//! written into the notifier's own topics would stop it.

use std::borrow::Cow;

use super::{Alert, Profile};

/// Bytes of an alert, as JSON, that are kept.
const ALERT_BYTES_MAX: usize = 192 << 10;
/// Bytes of what an alert is known by: its ids, its account, its kind, its transition and its severity.
pub const ID_BYTES_MAX: usize = 1 << 10;
/// Lines of evidence, groups, and parts of a priority that are kept of an alert that is too large.
const LINES_MAX: usize = 32;
/// Characters of a text that are kept of an alert that is too large: at the first try, at the second, … The last is small enough for any.
const CHARS_MAX: [usize; 4] = [4096, 1024, 256, 64];
/// Characters of what is known of an account.
const PROFILE_CHARS_MAX: usize = 256;

fn cut(text: &mut String, chars_max: usize) {
    if let Some((at, _)) = text.char_indices().nth(chars_max) {
        text.truncate(at);
        text.push('…');
    }
}

fn cut_some(text: &mut Option<String>, chars_max: usize) {
    if let Some(text) = text {
        cut(text, chars_max);
    }
}

impl Alert {
    /// What is wrong with what it is known by, if that is too long to be remembered.
    #[must_use]
    pub fn oversized_id(&self) -> Option<String> {
        let ids = [
            ("id", &self.id),
            ("alert_id", &self.alert_id),
            ("account_id", &self.account_id),
            ("kind", &self.kind),
            ("transition", &self.transition),
            ("severity", &self.severity),
        ];
        let (name, id) = ids.into_iter().find(|(_, id)| id.len() > ID_BYTES_MAX)?;
        Some(format!("its {name} has {} bytes, at most {ID_BYTES_MAX} are allowed", id.len()))
    }

    /// The alert, with its texts cut where it is too large.
    #[must_use]
    pub fn fitted(&self) -> Cow<'_, Alert> {
        let fits = |alert: &Alert| {
            serde_json::to_vec(alert).is_ok_and(|bytes| bytes.len() <= ALERT_BYTES_MAX)
        };
        if fits(self) {
            return Cow::Borrowed(self);
        }
        let mut alert = self.clone();
        alert.evidence.truncate(LINES_MAX);
        alert.groups.truncate(LINES_MAX);
        alert.priority_parts.truncate(LINES_MAX);
        for chars_max in CHARS_MAX {
            alert.cut_texts(chars_max);
            if fits(&alert) {
                break;
            }
        }
        Cow::Owned(alert)
    }

    fn cut_texts(&mut self, chars_max: usize) {
        for text in [
            &mut self.title,
            &mut self.state,
            &mut self.band,
            &mut self.policy_version,
            &mut self.model_version,
        ] {
            cut(text, chars_max);
        }
        for text in [&mut self.account_name, &mut self.by, &mut self.note, &mut self.resolution] {
            cut_some(text, chars_max);
        }
        for line in &mut self.evidence {
            for text in [
                &mut line.signal,
                &mut line.category,
                &mut line.group,
                &mut line.unit,
                &mut line.text,
            ] {
                cut(text, chars_max);
            }
        }
        self.groups.iter_mut().for_each(|group| cut(group, chars_max));
        for part in &mut self.priority_parts {
            cut(&mut part.name, chars_max);
            cut(&mut part.text, chars_max);
        }
    }
}

impl Profile {
    /// The profile with its texts cut where they are too long.
    #[must_use]
    pub(super) fn fitted(mut self) -> Profile {
        for text in [
            &mut self.segment,
            &mut self.owner,
            &mut self.region,
            &mut self.plan,
            &mut self.renews_on,
        ] {
            cut_some(text, PROFILE_CHARS_MAX);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use bellwether_core::time::Millis;
    use proptest::prelude::*;

    use super::*;
    use crate::event::sample;

    proptest! {
        /// Whatever an alert holds, what is remembered of it is small, and still known by the same ids.
        #[test]
        fn any_alert_fits(lines in 0_usize..3_000, chars in 0_usize..3_000, text in "[\u{0}-\u{1f}a-zé\u{1f600}\"]{1,4}") {
            let (mut alert, _) = sample(Millis(0));
            let long = text.repeat(chars);
            let line = alert.evidence[0].clone();
            alert.evidence = vec![line; lines.min(300)];
            for line in &mut alert.evidence {
                for of in [&mut line.signal, &mut line.category, &mut line.group, &mut line.unit, &mut line.text] {
                    of.clone_from(&long);
                }
            }
            alert.groups = vec![long.clone(); lines.min(100)];
            alert.note = Some(long.repeat(20));
            alert.id = "\u{1}".repeat(ID_BYTES_MAX);
            let fitted = alert.fitted();
            prop_assert!(serde_json::to_vec(&*fitted).expect("JSON").len() <= ALERT_BYTES_MAX);
            prop_assert_eq!((&fitted.id, &fitted.alert_id), (&alert.id, &alert.alert_id));
            prop_assert_eq!(fitted.oversized_id(), None);
        }
    }

    #[test]
    fn an_alert_of_an_engine_is_kept_as_it_is_and_a_long_id_is_named() {
        let (mut alert, _) = sample(Millis(0));
        assert!(matches!(alert.fitted(), Cow::Borrowed(_)));
        alert.alert_id = "a".repeat(ID_BYTES_MAX + 1);
        let wrong = alert.oversized_id().expect("too long");
        assert!(wrong.contains("alert_id") && wrong.contains("1025"), "{wrong}");
    }
}
