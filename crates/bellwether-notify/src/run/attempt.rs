//! One attempt, as a task of its own.

use crate::delivery::Outcome;

/// An attempt whose panic is a failure: a result that never came would hold its place at the sink for ever.
pub(super) async fn guarded(attempt: impl Future<Output = Outcome> + Send + 'static) -> Outcome {
    tokio::spawn(attempt).await.unwrap_or_else(|error| Outcome::Failed {
        detail: format!("the attempt broke off, which is a bug: {error}"),
        retry_after_ms: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_panics_is_a_failure_of_which_one_hears() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let outcome = runtime.block_on(guarded(async { panic!("a bug of a sink's client") }));
        let Outcome::Failed { detail, retry_after_ms: None } = outcome else {
            panic!("{outcome:?}");
        };
        assert!(detail.contains("bug"), "{detail}");
    }
}
