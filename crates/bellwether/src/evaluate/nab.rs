//! The Numenta Anomaly Benchmark: every series is an account with one watched signal, its values are events of the engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bellwether_core::event::Event;
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::policy::Compiled;
use bellwether_core::step::{Core, Observer};
use bellwether_core::time::Millis;
use serde::Deserialize;
use serde_json::{Value, json};

use super::kit::text;
use super::{Work, sets, timeline};
use crate::replay::{Replay, Writers};

/// A row of a series.
#[derive(Debug, Deserialize)]
struct Row {
    timestamp: String,
    value: f64,
}

impl Work<'_> {
    pub(crate) fn nab(&self) -> Result<Value> {
        let policy = sets::nab_policy(self.base)?;
        self.say("nab: series of values, each judged within the day");
        let mut found = self.nab_scores(&policy, &self.dir(&["nab"])?)?;
        let labels = "data/nab/labels/combined_windows.json".to_owned();
        let mut files: Vec<String> = vec!["nab_score.py".to_owned(), labels];
        files.extend(self.kit.nab_series()?.iter().map(|name| format!("data/nab/data/{name}.gz")));
        found["title"] = sets::NAB_TITLE.into();
        found["tuned"] = sets::NAB_TUNED.into();
        found["policy"] = policy.name.clone().into();
        found["policy_version"] = policy.version().into();
        found["alert_score"] = policy.watch.alert_score.into();
        found["files_sha256"] = self.kit.combined_hash("data/nab and nab_score.py", &files)?;
        Ok(found)
    }

    /// Detections of a policy, scored.
    pub(crate) fn nab_scores(&self, policy: &Compiled, out: &Path) -> Result<Value> {
        let (mut rows, mut alerts) = (0, 0);
        for name in self.kit.nab_series()? {
            let series: Vec<Row> = timeline::rows(&self.kit.nab_file(&name))?;
            let scores = judge(policy, &name, &series)?;
            rows += series.len();
            alerts += scores.iter().filter(|&&score| score >= policy.watch.alert_score).count();
            write(&out.join(&name), &series, &scores)?;
        }
        let mut found = self.kit.judge(&json!({
            "do": "nab", "detections": text(out), "threshold": policy.watch.alert_score,
        }))?;
        found["rows"] = rows.into();
        found["alerts"] = alerts.into();
        Ok(found)
    }
}

/// Scores of the peaks of a series, 0 for all that lies within the quiet period of a higher one: what the engine would alert at a threshold.
fn judge(policy: &Compiled, name: &str, series: &[Row]) -> Result<Vec<f64>> {
    let seen = Arc::new(Mutex::new(0.0));
    let latest = Arc::clone(&seen);
    let observer = Observer::new(|_| {}).and_samples(move |sample| {
        let score = if sample.verdict.peak { sample.verdict.score } else { 0.0 };
        *latest.lock().unwrap_or_else(PoisonError::into_inner) = score;
    });
    let core = Core::new(Arc::new(policy.clone())).observed(observer);
    let mut replay = Replay::new(core, Writers::create(None, None)?);
    let account = AccountId::new(name)?;
    let mut scores = Vec::with_capacity(series.len());
    for (index, row) in series.iter().enumerate() {
        // A value that the engine rejects, or that is older than the newest, is not judged.
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = 0.0;
        replay.event(Event {
            id: EventId::new(&index.to_string())?,
            account: account.clone(),
            occurred_at: instant(&row.timestamp)?,
            kind: "value".to_owned(),
            member: None,
            role: None,
            feature: None,
            value: Some(row.value),
            segment: None,
        })?;
        scores.push(*seen.lock().unwrap_or_else(PoisonError::into_inner));
    }
    Ok(scores)
}

fn instant(timestamp: &str) -> Result<Millis> {
    let utc = format!("{}Z", timestamp.replace(' ', "T"));
    Millis::parse(&utc).with_context(|| format!("`{timestamp}` is no time"))
}

fn write(path: &Path, series: &[Row], scores: &[f64]) -> Result<()> {
    let folder = path.parent().map(PathBuf::from).unwrap_or_default();
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut writer = csv::Writer::from_path(path)?;
    writer.write_record(["timestamp", "anomaly_score"])?;
    for (row, score) in series.iter().zip(scores) {
        writer.write_record([&row.timestamp, &score.to_string()])?;
    }
    Ok(writer.flush()?)
}
