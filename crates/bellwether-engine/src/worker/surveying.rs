//! The survey: accounts are looked at one after the other, a few a second, and what they read is compared with what the scorecard in force was
//! learned from. A round through a partition is published at its end, and the next one begins. It reads what is committed and changes nothing,
//! so it begins anew after a restart, and no output depends on it.

use std::sync::PoisonError;

use bellwether_core::drift::Survey;
use bellwether_core::id::AccountId;
use bellwether_store::error::StoreError;

use super::{Task, Worker, WorkerError, of};

/// Accounts that a worker looks at in a second: some milliseconds of it. A million take four hours.
const ACCOUNTS_A_TURN: usize = 64;

/// How far a partition is surveyed.
#[derive(Default)]
pub(super) struct Surveying {
    after: Option<AccountId>,
    survey: Survey,
}

impl Task {
    /// Looks at the next accounts; at the end of a round what it found.
    fn survey_some(&mut self) -> Result<Option<Survey>, StoreError> {
        let core = self.shown.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Surveying { after, survey } = &mut self.surveying;
        if survey.model != core.model_version() {
            // What was counted so far was counted into other bins.
            (*after, *survey) = (None, Survey::of(&core));
        }
        let next = self.store.accounts_after(after.as_ref())?.take(ACCOUNTS_A_TURN);
        let ids: Vec<AccountId> = next.collect::<Result<_, _>>()?;
        for id in &ids {
            if let Some(account) = self.store.get(id)? {
                survey.see(&core, &account);
            }
        }
        if ids.len() < ACCOUNTS_A_TURN {
            *after = None;
            return Ok(Some(std::mem::replace(survey, Survey::of(&core))));
        }
        *after = ids.into_iter().next_back();
        Ok(None)
    }
}

impl Worker {
    /// A turn of the survey, for the next of the worker's partitions.
    pub(super) fn survey(&mut self) -> Result<(), WorkerError> {
        let next = self.tasks.range(self.surveyed + 1..).next().map(|(partition, _)| *partition);
        let Some(partition) = next.or_else(|| self.tasks.keys().next().copied()) else {
            return Ok(());
        };
        self.surveyed = partition;
        let Some(task) = self.tasks.get_mut(&partition) else { return Ok(()) };
        if let Some(survey) = task.survey_some().map_err(of(partition))? {
            self.shared.read_model.publish_survey(partition, survey);
        }
        Ok(())
    }
}
