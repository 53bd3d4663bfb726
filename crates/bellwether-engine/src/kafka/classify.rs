//! From the client's errors to what the worker can do about them.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::log::{LogError, Remedy};

/// Another worker took over: the producer's epoch or the group's generation has moved on.
fn is_fenced(code: RDKafkaErrorCode) -> bool {
    [
        RDKafkaErrorCode::Fenced,
        RDKafkaErrorCode::ProducerFenced,
        RDKafkaErrorCode::InvalidProducerEpoch,
        RDKafkaErrorCode::FencedInstanceId,
        RDKafkaErrorCode::IllegalGeneration,
        RDKafkaErrorCode::UnknownMemberId,
    ]
    .contains(&code)
}

/// What a person has to do, for errors that no reopening cures.
fn advice(code: RDKafkaErrorCode) -> Option<&'static str> {
    let is = |codes: &[RDKafkaErrorCode]| codes.contains(&code);
    if is(&[
        RDKafkaErrorCode::UnknownTopic,
        RDKafkaErrorCode::UnknownTopicOrPartition,
        RDKafkaErrorCode::UnknownPartition,
    ]) {
        Some(
            "run `bellwether topics plan` to see what is missing and `bellwether topics apply` to create it",
        )
    } else if is(&[
        RDKafkaErrorCode::TopicAuthorizationFailed,
        RDKafkaErrorCode::GroupAuthorizationFailed,
        RDKafkaErrorCode::ClusterAuthorizationFailed,
        RDKafkaErrorCode::TransactionalIdAuthorizationFailed,
        RDKafkaErrorCode::Authentication,
        RDKafkaErrorCode::SaslAuthenticationFailed,
    ]) {
        Some("grant this client access, or correct the security settings under `extra`")
    } else if is(&[RDKafkaErrorCode::MessageSizeTooLarge]) {
        Some(
            "raise the topic's `max.message.bytes` (`bellwether topics apply` sets 16 MiB for dead letters), or lower \
             engine.dead_letter_bytes_max",
        )
    } else if is(&[RDKafkaErrorCode::AutoOffsetReset, RDKafkaErrorCode::OffsetOutOfRange]) {
        Some(
            "the position this application had reached is no longer in the topic: records were deleted before they were \
             read, or the topic was created anew; to go on without what is lost, start once with --skip-lost-input, or reset the \
             consumer group's offsets with `kafka-consumer-groups.sh --reset-offsets`",
        )
    } else {
        None
    }
}

/// The code inside an error of any kind of call.
fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    if let KafkaError::Transaction(inner) = error {
        Some(inner.code())
    } else {
        error.rdkafka_error_code()
    }
}

/// An error before anything was asked to commit: nothing was, and nothing will be.
pub(super) fn uncommitted(doing: &str, error: &KafkaError) -> LogError {
    match code(error) {
        Some(code) if is_fenced(code) => LogError::new(
            Remedy::Fenced,
            format!("{doing}: another worker owns these partitions now ({error})"),
        ),
        Some(code) => match advice(code) {
            Some(advice) => LogError::new(Remedy::Stop, format!("{doing}: {error}: {advice}")),
            None => LogError::new(Remedy::Reopen, format!("{doing}: {error}")),
        },
        None => LogError::new(Remedy::Reopen, format!("{doing}: {error}")),
    }
}

/// An error of adding input positions. Those of an older generation come from a member that a rebalance has just passed by: it may
/// still own its partitions, and is told in its next poll what it does not.
pub(super) fn offsets(doing: &str, error: &KafkaError) -> LogError {
    let abortable = matches!(error, KafkaError::Transaction(inner) if inner.txn_requires_abort());
    let passed_by = [
        RDKafkaErrorCode::IllegalGeneration,
        RDKafkaErrorCode::RebalanceInProgress,
        RDKafkaErrorCode::StaleMemberEpoch,
    ];
    if abortable && code(error).is_some_and(|code| passed_by.contains(&code)) {
        return LogError::new(
            Remedy::Rewind,
            format!("{doing}: the group is being rebalanced ({error})"),
        );
    }
    uncommitted(doing, error)
}

/// An error of the commit request itself. Only an abortable error says for certain that nothing was committed.
pub(super) fn commit(error: &KafkaError) -> LogError {
    let classified = uncommitted("cannot commit a transaction", error);
    let abortable = matches!(error, KafkaError::Transaction(inner) if inner.txn_requires_abort());
    if abortable || classified.remedy == Remedy::Fenced {
        classified
    } else {
        LogError::new(
            Remedy::Unknown,
            format!("it is not known whether a transaction was committed: {error}"),
        )
    }
}

/// An error of a client that could not be created: its settings are wrong.
pub(super) fn creation(error: &KafkaError) -> LogError {
    LogError::new(
        Remedy::Stop,
        format!("cannot create a kafka client: {error}: correct the kafka settings"),
    )
}

/// An error that a poll returned. None: the client goes on by itself, and delivery continues.
pub(super) fn polled(error: &KafkaError, reason: &str) -> Option<LogError> {
    let code = code(error);
    if code == Some(RDKafkaErrorCode::FencedInstanceId) {
        return Some(LogError::new(
            Remedy::Fenced,
            format!("another worker has this one's `group.instance.id`: {reason}"),
        ));
    }
    if let Some(advice) = code.and_then(advice) {
        return Some(LogError::new(
            Remedy::Stop,
            format!("cannot read: {reason} ({error}): {advice}"),
        ));
    }
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        .then(|| LogError::new(Remedy::Reopen, format!("cannot read: {reason} ({error})")))
}
