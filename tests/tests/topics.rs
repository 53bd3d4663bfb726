//! `topics plan`, `apply` and the check at start, against a real broker.

use bellwether_engine::kafka::KafkaOptions;
use bellwether_engine::topics::{
    Kept, TopicAction, TopicAdmin, TopicNames, TopicsError, apply, check, plan,
};
use bellwether_tests::{create_topic, shared_kafka, topic_config, unique};

const KEPT: Kept = Kept { seen_ms: 172_800_000, parked_ms: 3 * 86_400_000, parked_bytes: 7 << 20 };

fn admin() -> TopicAdmin {
    let options = KafkaOptions {
        bootstrap_servers: shared_kafka().bootstrap().to_owned(),
        ..KafkaOptions::default()
    };
    TopicAdmin::new(&options).expect("the settings are right")
}

/// The default names, made unique.
fn names() -> TopicNames {
    let of = |name: &str| unique(name);
    let default = TopicNames::default();
    TopicNames {
        events: vec![of("usage.events.v1"), of("support.events.v1")],
        profiles: of(&default.profiles),
        outcomes: of(&default.outcomes),
        calendar: of(&default.calendar),
        models: of(&default.models),
        score_changed: of(&default.score_changed),
        score_current: of(&default.score_current),
        alerts: of(&default.alerts),
        shadow: of(&default.shadow),
        examples: of(&default.examples),
        dead_letters: of(&default.dead_letters),
        state_changelog: of(&default.state_changelog),
        seen_changelog: of(&default.seen_changelog),
        ticks: of(&default.ticks),
        cohort_stats: of(&default.cohort_stats),
        parked: of(&default.parked),
        notify_state: of(&default.notify_state),
    }
}

#[test]
fn a_fresh_cluster_is_set_up_once_and_then_found_right() {
    let (admin, names) = (admin(), names());
    let error = check(&admin, &names).expect_err("nothing exists");
    assert!(matches!(&error, TopicsError::Missing(missing) if missing.len() == 18), "{error:?}");
    assert!(error.to_string().ends_with("run `bellwether topics apply`"), "{error}");

    let actions = plan(&admin, &names, 3, &KEPT).expect("the broker answers");
    assert_eq!(apply(&admin, &actions, 1).expect("topics can be created").len(), 18);
    assert_eq!(check(&admin, &names), Ok(3));

    let actions = plan(&admin, &names, 3, &KEPT).expect("the broker answers");
    assert!(actions.iter().all(|action| matches!(action, TopicAction::Ok { .. })), "{actions:?}");
    assert_eq!(apply(&admin, &actions, 1), Ok(Vec::new()));

    // What could not be told is bounded by time and by size.
    let config = topic_config(shared_kafka().bootstrap(), &names.parked);
    for (key, value) in [
        ("retention.ms", "259200000"),
        ("retention.bytes", "7340032"),
        ("cleanup.policy", "delete"),
    ] {
        assert_eq!(config.get(key).map(String::as_str), Some(value), "{key}");
    }
}

#[test]
fn topics_follow_the_size_of_an_event_topic_that_exists() {
    let (admin, names) = (admin(), names());
    create_topic(shared_kafka().bootstrap(), &names.events[1], 5, &[]);
    let actions = plan(&admin, &names, 3, &KEPT).expect("the broker answers");
    apply(&admin, &actions, 1).expect("topics can be created");
    assert_eq!(check(&admin, &names), Ok(5));
}

#[test]
fn wrong_topics_are_named_with_what_to_do_and_left_alone() {
    let (admin, names) = (admin(), names());
    let bootstrap = shared_kafka().bootstrap();
    create_topic(bootstrap, &names.events[0], 2, &[("cleanup.policy", "compact")]);
    create_topic(bootstrap, &names.alerts, 4, &[]);
    create_topic(bootstrap, &names.state_changelog, 2, &[("cleanup.policy", "compact,delete")]);
    let actions = plan(&admin, &names, 2, &KEPT).expect("the broker answers");
    apply(&admin, &actions, 1).expect("the others can be created");
    let error = check(&admin, &names).expect_err("three are wrong").to_string();
    for said in [
        format!("{} has cleanup.policy=compact and must have delete", names.events[0]),
        format!("{} has 4 partitions and must have 2", names.alerts),
        format!(
            "{} has cleanup.policy=compact,delete and must have compact",
            names.state_changelog
        ),
        format!("--entity-name {} --add-config cleanup.policy=compact", names.state_changelog),
    ] {
        assert!(error.contains(&said), "{said} is missing in: {error}");
    }
}

#[test]
fn names_must_differ() {
    let mut names = names();
    names.alerts.clone_from(&names.ticks);
    let error = plan(&admin(), &names, 1, &KEPT).expect_err("one name twice");
    assert!(error.to_string().contains(&names.ticks), "{error}");
}
