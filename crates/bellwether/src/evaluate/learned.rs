//! The learned scorecard, judged on what came after the time at which it was learned.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bellwether_core::account::Account;
use bellwether_core::policy::Compiled;
use bellwether_core::step::Core;
use bellwether_core::time::{DAY_MS, Millis};
use bellwether_learn::feature::row;
use bellwether_learn::train::Training;
use serde_json::{Value, json};

use super::kit::text;
use super::sets::{LEARNED, LEARNED_TUNED, LearnedSet};
use super::{Work, tables};
use crate::learn::{Material, Stays, learn};
use crate::model::ModelFile;
use crate::replay::{Replay, Snapshots, Writers};

/// 1970-01-05, a Monday, on which the referee's snapshots lie.
const MONDAY: Millis = Millis(4 * DAY_MS);

impl Work<'_> {
    /// Learns from what was known at the first judged snapshot, and judges what is scored from then on.
    pub(super) fn learned(&self) -> Result<Value> {
        let judged = LEARNED.iter().map(|set| {
            self.say(&format!("learned: {}", set.name));
            self.learned_set(set)
        });
        let judged: Vec<Value> = judged.collect::<Result<_>>()?;
        let mut files = vec!["referee.py".to_owned(), "anchors.py".to_owned()];
        for set in LEARNED {
            for path in [self.kit.data(set.stem, "events"), self.kit.data(set.stem, "outcomes")] {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let file = format!("data/{name}");
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        Ok(json!({
            "title": tables::LEARNED_TITLE, "tuned": LEARNED_TUNED, "policy": "of openstack, oulad and churnsim:",
            "policy_version": "their signals, all else as in the default one",
            "judged": judged, "files_sha256": self.kit.hashes(&files)?,
        }))
    }

    fn learned_set(&self, set: &LearnedSet) -> Result<Value> {
        let policy = Arc::new(set.policy(self.base)?);
        let events = self.kit.data(set.stem, "events");
        let from = Millis::parse(set.from).context("the date is a constant")?;
        let dir = self.dir(&["learned", set.name])?;
        let training =
            Training { horizon_days: set.horizon_days, step_days: set.step_days, cut: None };
        let stays = Stays::read(&self.kit.data(set.stem, "outcomes"), Some(set.kind))?;
        let material = Material { stays, training, until: Some(from) };
        let model = learn(&policy, material, |replay: &mut Replay| {
            replay.file(&events, Some(from), self.quiet)?;
            replay.finish(Some(from))
        })?;
        let file = dir.join("model.json");
        std::fs::write(&file, serde_json::to_string_pretty(&model)? + "\n")
            .with_context(|| file.display().to_string())?;
        let scores = dir.join("scores.csv");
        self.score_learned(set, (&policy, &model), &events, (from, &scores))?;
        let mut judged = self.kit.judge(&json!({
            "do": "learned", "name": set.name, "scores": text(&scores), "out": text(&self.dir(&["learned", "anchors"])?),
        }))?;
        let report = &model.report;
        judged["model"] = json!({
            "version": model.version, "examples": report["examples"], "outcomes": report["outcomes"],
            "has_skill": report["holdout"]["all"]["has_skill"], "holdout_auc": report["holdout"]["all"]["auc"],
            "challenger_auc": report["holdout"]["challenger"]["auc"],
        });
        Ok(judged)
    }

    /// What the engine says of every account at every snapshot from a time on: its score, and the calibrated risk of its readings.
    fn score_learned(
        &self,
        set: &LearnedSet,
        (policy, model): (&Arc<Compiled>, &ModelFile),
        events: &Path,
        (from, path): (Millis, &PathBuf),
    ) -> Result<()> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        let mut file = BufWriter::new(file);
        writeln!(file, "account_id,at,score,risk")?;
        let lines: Arc<Mutex<(BufWriter<File>, std::io::Result<()>)>> =
            Arc::new(Mutex::new((file, Ok(()))));
        let (sink, card, of) = (Arc::clone(&lines), model.card.clone(), Arc::clone(policy));
        let horizon_days = set.horizon_days;
        let see = move |at: Millis, accounts: &mut dyn Iterator<Item = &Account>| {
            let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
            let (file, failed) = &mut *sink;
            for account in
                accounts.filter(|account| at >= from && account.hot.published_score.is_some())
            {
                let cohort = account.segment().unwrap_or_default();
                let readings = row(account, &of, horizon_days);
                let risk = readings.map(|readings| card.score(cohort, &readings).risk);
                let risk = risk.map(|risk| format!("{risk:.6}")).unwrap_or_default();
                let written =
                    writeln!(file, "{},{},{},{risk}", account.id, at.iso(), account.hot.score);
                if failed.is_ok() {
                    *failed = written;
                }
            }
        };
        let every_ms = i64::from(set.step_days) * DAY_MS;
        let snapshots = Snapshots { first: MONDAY, every_ms, see: Box::new(see) };
        let scorer = model.scorer(policy).map_err(anyhow::Error::msg)?;
        let core = Core::new(Arc::clone(policy)).scored_by(scorer);
        let mut replay = Replay::new(core, Writers::create(None, None)?).looked_at(snapshots);
        replay.file(events, None, self.quiet)?;
        replay.finish(None)?;
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut lines.1, Ok(()))?;
        Ok(lines.0.flush()?)
    }
}
