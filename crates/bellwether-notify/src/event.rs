//! What is told: an event of an alert, as `health.alerts.v1` carries it, and what is known of its account.
//!
//! Read with tolerance: fields that this version does not know are passed over, words that it does not know (transitions,
//! severities, kinds) are kept as they are. A newer engine never stops an older notifier.

use bellwether_core::absence::named;
use bellwether_core::headline::Headline;
use bellwether_core::output::Severity;
use bellwether_core::time::{Day, Millis};
use serde::{Deserialize, Serialize};

mod fit;

pub use fit::ID_BYTES_MAX;

/// An event of an alert. See `schemas/alert.avsc`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Deterministic id of this event.
    pub id: String,
    /// The alert, the same in all its events.
    pub alert_id: String,
    /// The account; `*` and the cohort's name for fleet alerts.
    pub account_id: String,
    /// Its name, where a profile gave one.
    #[serde(default)]
    pub account_name: Option<String>,
    /// What kind of trouble or chance.
    pub kind: String,
    /// What happened: `opened`, `escalated`, `updated`, `resolved`, `reopened`, `woken`, `acknowledged`, `snoozed`, …
    pub transition: String,
    /// `info`, `low`, `medium`, `high`, `critical`.
    pub severity: String,
    /// Event time of this event.
    #[serde(with = "instant")]
    pub at: Millis,
    /// Event time at which the alert opened.
    #[serde(with = "instant")]
    pub opened_at: Millis,
    /// Where it stands now: `open`, `acknowledged`, `snoozed` or `resolved`; empty in records of before there were states.
    #[serde(default)]
    pub state: String,
    /// Until when it is snoozed.
    #[serde(default, with = "instant_or_none")]
    pub snoozed_until: Option<Millis>,
    /// How often it came back.
    #[serde(default)]
    pub reopened: i32,
    /// Who did this, where a person did.
    #[serde(default)]
    pub by: Option<String>,
    /// What that person remarked.
    #[serde(default)]
    pub note: Option<String>,
    /// Why it ended.
    #[serde(default)]
    pub resolution: Option<String>,
    /// One line for people.
    pub title: String,
    /// What deviates, strongest first.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// The correlation groups that agree.
    #[serde(default)]
    pub groups: Vec<String>,
    /// How pressing it is among others, 0 to 100; 0 in records of before there were priorities.
    #[serde(default)]
    pub priority: i32,
    /// What that is made of.
    #[serde(default)]
    pub priority_parts: Vec<PriorityPart>,
    /// The health score, 0 (worst) to 100.
    #[serde(default)]
    pub score: f64,
    /// The same in hundredths, exact.
    #[serde(default)]
    pub score_centipoints: i32,
    /// `at_risk`, `neutral` or `healthy`.
    #[serde(default)]
    pub band: String,
    /// The scoring policy that was in force.
    #[serde(default)]
    pub policy_version: String,
    /// The scorecard that was in force.
    #[serde(default)]
    pub model_version: String,
}

/// One part of a priority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriorityPart {
    /// `severity`, `renewal`, `value`, `plan`, `cap`, …
    pub name: String,
    /// Points.
    pub points: i32,
    /// Why, for people.
    pub text: String,
}

/// One signal that left its own normal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The signal.
    pub signal: String,
    /// Its category.
    #[serde(default)]
    pub category: String,
    /// Its correlation group.
    #[serde(default)]
    pub group: String,
    /// What is observed since the onset, in `unit`.
    pub observed: f64,
    /// What is normal for this account.
    pub baseline: f64,
    /// The unit of both.
    #[serde(default)]
    pub unit: String,
    /// `observed` against `baseline` in percent.
    #[serde(default)]
    pub change_pct: Option<f64>,
    /// Standardised deviation.
    #[serde(default)]
    pub z: f64,
    /// Whether this direction is bad news.
    #[serde(default)]
    pub risk: bool,
    /// The first day of the deviation.
    #[serde(with = "day")]
    pub onset: Day,
    /// The window that shows it most clearly, in days.
    #[serde(default)]
    pub window_days: i32,
    /// One sentence for people.
    pub text: String,
}

impl Evidence {
    /// Its text without the names of those who went quiet, and these names, where it names any.
    #[must_use]
    pub fn named(&self) -> (&str, Option<&str>) {
        named(&self.text).map_or((self.text.as_str(), None), |(text, names)| (text, Some(names)))
    }
}

/// What a transition means for those who are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The alert asks for attention: opened, escalated, reopened, or woken from a snooze.
    Raised,
    /// Somebody has it in hand, or put it off: acknowledged, snoozed.
    Held,
    /// It is over: resolved, expired.
    Ended,
    /// Its evidence changed, or a word that this version does not know.
    Changed,
}

impl Alert {
    /// What the transition means.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.transition.as_str() {
            "opened" | "escalated" | "reopened" | "woken" => Phase::Raised,
            "acknowledged" | "snoozed" => Phase::Held,
            "resolved" | "expired" => Phase::Ended,
            _ => Phase::Changed,
        }
    }

    /// The severity; an unknown word counts as medium, so that it is neither lost nor wakes anybody.
    #[must_use]
    pub fn rank(&self) -> Severity {
        severity(&self.severity).unwrap_or(Severity::Medium)
    }

    /// What makes it pressing, beside its severity.
    pub fn pressing(&self) -> impl Iterator<Item = &str> {
        let beside = |part: &&PriorityPart| part.points > 0 && part.name != "severity";
        self.priority_parts.iter().filter(beside).map(|part| part.text.as_str())
    }

    /// The name for people: the account's name, or its id.
    #[must_use]
    pub fn display_name(&self) -> &str {
        self.account_name.as_deref().unwrap_or(&self.account_id)
    }

    /// Its title without its kind before it.
    #[must_use]
    pub fn summary(&self) -> &str {
        self.headline().summary()
    }

    /// What its title says that neither its evidence nor its transition does; empty where that is nothing.
    #[must_use]
    pub fn beside(&self) -> &str {
        self.headline().beside()
    }

    fn headline(&self) -> Headline<'_> {
        Headline {
            kind: &self.kind,
            title: &self.title,
            ended: self.resolution.as_deref().filter(|_| self.phase() == Phase::Ended),
            has_evidence: !self.evidence.is_empty(),
            is_fleet: self.cohort().is_some(),
        }
    }

    /// The cohort of a fleet alert.
    #[must_use]
    pub fn cohort(&self) -> Option<&str> {
        if self.kind == "fleet" { self.account_id.strip_prefix('*') } else { None }
    }
}

/// A severity by its word.
#[must_use]
pub fn severity(word: &str) -> Option<Severity> {
    Severity::ALL.into_iter().find(|severity| severity.as_str() == word)
}

/// What is known of an account beside its alert, from `account.profiles.v1`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Its segment.
    pub segment: Option<String>,
    /// Who looks after it.
    pub owner: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Its plan.
    pub plan: Option<String>,
    /// What it pays a year, in US dollars.
    pub annual_value_usd: Option<f64>,
    /// When its contract is renewed.
    pub renews_on: Option<String>,
}

impl From<&bellwether_core::event::Profile> for Profile {
    fn from(profile: &bellwether_core::event::Profile) -> Profile {
        Profile {
            segment: profile.segment.clone(),
            owner: profile.owner.clone(),
            region: profile.region.clone(),
            plan: profile.plan.clone(),
            annual_value_usd: profile.annual_value_usd,
            renews_on: profile.renews_on.map(Day::iso),
        }
        .fitted()
    }
}

/// An instant as it stands on the wire: ISO-8601 text in JSON, milliseconds in Avro.
mod instant {
    use bellwether_core::time::Millis;
    use serde::{Deserialize, Deserializer, Serializer, de};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Wire {
        Ms(i64),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(at: &Millis, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&at.iso())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Millis, D::Error> {
        if !from.is_human_readable() {
            return i64::deserialize(from).map(Millis);
        }
        match Wire::deserialize(from)? {
            Wire::Ms(ms) => Ok(Millis(ms)),
            Wire::Text(text) => Millis::parse(&text)
                .ok_or_else(|| de::Error::custom(format!("`{text}` is no instant"))),
        }
    }
}

/// The same where there may be none.
mod instant_or_none {
    use bellwether_core::time::Millis;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    struct Instant(#[serde(with = "super::instant")] Millis);

    pub(super) fn serialize<S: Serializer>(
        at: &Option<Millis>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::instant::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Millis>, D::Error> {
        Ok(Option::<Instant>::deserialize(from)?.map(|Instant(at)| at))
    }
}

/// A day as it stands on the wire: ISO-8601 text in JSON, days since 1970 in Avro.
mod day {
    use bellwether_core::time::{DAY_MS, Day, Millis};
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(day: &Day, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&day.iso())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Day, D::Error> {
        if !from.is_human_readable() {
            return i32::deserialize(from).map(Day);
        }
        let text = String::deserialize(from)?;
        Millis::parse(&format!("{text}T00:00:00Z"))
            .and_then(|start| i32::try_from(start.0.div_euclid(DAY_MS)).ok())
            .map(Day)
            .ok_or_else(|| de::Error::custom(format!("`{text}` is no date")))
    }
}

/// A made-up alert, for `notify test` and for checks of templates.
#[must_use]
pub fn sample(at: Millis) -> (Alert, Profile) {
    let day = |back: i32| Day(i32::try_from(at.0.div_euclid(86_400_000)).unwrap_or(0) - back);
    let evidence = |signal: &str, observed: f64, baseline: f64, unit: &str, text: &str| Evidence {
        signal: signal.to_owned(),
        category: "engagement".to_owned(),
        group: signal.to_owned(),
        observed,
        baseline,
        unit: unit.to_owned(),
        change_pct: Some((observed / baseline - 1.0) * 100.0),
        z: -4.0,
        risk: true,
        onset: day(14),
        window_days: 14,
        text: text.to_owned(),
    };
    let part = |name: &str, points: i32, text: &str| PriorityPart {
        name: name.to_owned(),
        points,
        text: text.to_owned(),
    };
    let alert = Alert {
        id: format!("test-{}", at.0),
        alert_id: "test".to_owned(),
        account_id: "bellwether-test".to_owned(),
        account_name: Some("Bellwether test account".to_owned()),
        kind: "churn_risk".to_owned(),
        transition: "opened".to_owned(),
        severity: "info".to_owned(),
        at,
        opened_at: at,
        state: "open".to_owned(),
        snoozed_until: None,
        reopened: 0,
        by: None,
        note: None,
        resolution: None,
        title: "This is a test: no account is in trouble".to_owned(),
        evidence: vec![
            evidence(
                "logins",
                280.0,
                450.0,
                "logins/week",
                "logins fell from 450 to 280 logins/week (-38 %)",
            ),
            evidence(
                "active_members",
                9.0,
                12.0,
                "members/week",
                "active members fell from 12 to 9 members/week (-25 %); 3 of 11 regular members went quiet, each for longer than ever: ann (admin, 16 days), bob (14 days), cem (14 days)",
            ),
        ],
        groups: vec!["logins".to_owned(), "active_members".to_owned()],
        priority: 20,
        priority_parts: vec![
            part("severity", 5, "severity info"),
            part("renewal", 15, "renews in 0 days, on the day of this test"),
        ],
        score: 31.5,
        score_centipoints: 3_150,
        band: "at_risk".to_owned(),
        policy_version: "test".to_owned(),
        model_version: "test".to_owned(),
    };
    let profile = Profile {
        segment: Some("smb".to_owned()),
        owner: Some("test-owner".to_owned()),
        region: Some("eu".to_owned()),
        ..Profile::default()
    };
    (alert, profile)
}
