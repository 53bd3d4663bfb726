//! Values: what Helm says of them, and that they are those of the binary.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use bellwether_engine::kafka::is_secret;
use bellwether_tests::bellwether;
use serde_json::{Value, json};

use super::{ALL, CHART, fixture, helm, stderr, template};
use crate::{array, assert_success, object, read, yaml};

/// What the chart sets, takes from Secrets, or has no use for (the embedded log), and so is none of its values.
const NOT_VALUES: [&str; 7] = [
    "data_dir",
    "http.listen",
    "notify.listen",
    "kafka.instance_id",
    "registry.username",
    "registry.password",
    "engine.embedded_partitions",
];

fn values() -> Value {
    yaml(&format!("{CHART}/values.yaml"))
}

fn schema() -> Value {
    serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).expect("JSON")
}

#[test]
fn helm_lint_has_nothing_to_say() {
    assert_success(&helm(["lint", "--strict", CHART]));
    for values in ALL {
        assert_success(&helm(["lint", "--strict", CHART, "--values", &fixture(values)]));
    }
}

#[test]
fn the_chart_has_the_version_of_the_binary() {
    let chart = yaml(&format!("{CHART}/Chart.yaml"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn what_is_missing_misspelt_or_secret_is_refused_with_the_remedy() {
    let set = |values: &str, setting: &str, words: &[&str]| {
        let output = template("prod", CHART, values, &["--set-json", setting]);
        assert!(!output.status.success(), "{setting} is let pass");
        for word in words {
            assert!(stderr(&output).contains(word), "{setting}: {word}: {}", stderr(&output));
        }
    };
    set("minimal", r#"image.repository="""#, &["image.repository", "deploy/Dockerfile"]);
    set("minimal", r#"config.kafka.bootstrap_servers="""#, &["config.kafka.bootstrap_servers"]);
    set("minimal", "workers.replica=3", &["replica"]);
    set("minimal", "config.engine.memory_mb=2048", &["memory_mb"]);
    set("minimal", "config.kafka.session_timeout_seconds=5", &["session_timeout_seconds"]);
    // Where a password would be read by whoever reads ConfigMaps.
    set("minimal", r#"config.kafka.properties={"sasl.password":"hush"}"#, &["sasl.password"]);
    set("minimal", r#"config.registry.password="hush""#, &["password"]);
    set("minimal", r#"config.registry.url="https://ann:hush@registry.example""#, &["url"]);
    // It follows from the budget.
    set("minimal", r#"workers.resources.limits={"memory":"1Gi"}"#, &["limits"]);
    set("minimal", "notify.enabled=true", &["notify.delivery", "--set-file"]);
    set("full", r#"policy="x",config.policy="builtin:openstack""#, &["config.policy"]);
}

#[test]
fn no_property_that_is_secret_gets_into_a_config_map() {
    let schema = schema();
    let names = &schema["properties"]["config"]["properties"]["kafka"]["properties"]["properties"]
        ["propertyNames"];
    let names = jsonschema::validator_for(names).expect("a schema");
    for name in [
        "sasl.password",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
        "sasl.jaas.config",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.assertion.private.key.pem",
    ] {
        assert!(is_secret(name), "{name}: the binary would show it");
        assert!(!names.is_valid(&json!(name)), "{name}");
    }
    for name in ["security.protocol", "sasl.mechanism", "ssl.ca.location", "ssl.key.location"] {
        assert!(names.is_valid(&json!(name)), "{name}");
    }
}

/// The leaves of a configuration, by their paths. Tables that any key may stand in are leaves.
fn leaves(path: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
    if let Some(fields) = value.as_object().filter(|_| path != "kafka.properties") {
        for (name, value) in fields {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            leaves(&path, value, found);
        }
        return;
    }
    // An empty text is how the chart says that something is not set.
    let value = if value == "" { Value::Null } else { value.clone() };
    found.insert(path.to_owned(), value);
}

/// What `bellwether config` shows, given a file.
fn configured(toml: &str) -> Result<BTreeMap<String, Value>, String> {
    let place = tempfile::tempdir().expect("a temporary directory");
    fs::write(place.path().join("bellwether.toml"), toml).expect("a new file");
    let mut command = bellwether(["config", "--json"]);
    let output = command.current_dir(place.path()).env_clear().output().expect("it can be run");
    if !output.status.success() {
        return Err(stderr(&output));
    }
    let mut found = BTreeMap::new();
    leaves("", &serde_json::from_slice(&output.stdout).expect("JSON"), &mut found);
    Ok(found)
}

#[test]
fn the_settings_are_those_of_the_binary_with_its_defaults() {
    let mut of_binary = configured("").expect("the defaults are valid");
    for name in NOT_VALUES {
        assert!(of_binary.remove(name).is_some(), "{name} is no setting");
    }
    let mut of_chart = BTreeMap::new();
    leaves("", &values()["config"], &mut of_chart);

    // What is said beside them in values.yaml.
    of_binary.insert("kafka.session_timeout_seconds".to_owned(), json!(60));
    of_binary.insert("log.format".to_owned(), json!("json"));
    assert_eq!(of_chart, of_binary);

    // Each can be given: the schema knows the same ones.
    let mut of_schema = BTreeSet::new();
    let config = &schema()["properties"]["config"]["properties"];
    for (name, setting) in object(config) {
        match setting.get("properties") {
            Some(table) => of_schema.extend(object(table).map(|(key, _)| format!("{name}.{key}"))),
            None => _ = of_schema.insert(name.clone()),
        }
    }
    assert_eq!(of_schema, of_binary.keys().cloned().collect());
}

#[test]
fn the_limits_of_the_schema_are_those_of_the_binary() {
    let config = schema()["properties"]["config"]["properties"].clone();
    let mut tried = 0;
    for (table, settings) in object(&config) {
        let Some(settings) = settings.get("properties") else { continue };
        for (name, setting) in object(settings) {
            let with = |value: &Value| configured(&format!("[{table}]\n{name} = {value}\n"));
            if let (Some(low), Some(high)) =
                (setting["minimum"].as_i64(), setting["maximum"].as_i64())
            {
                for good in [low, high] {
                    with(&json!(good)).unwrap_or_else(|error| panic!("{table}.{name}: {error}"));
                }
                for bad in [low - 1, high + 1] {
                    assert!(with(&json!(bad)).is_err(), "{table}.{name} = {bad} is let pass");
                }
                tried += 1;
            }
            if let Some(choices) = setting.get("enum") {
                for choice in array(choices) {
                    // One of them needs another setting.
                    if choice != "avro" {
                        with(choice).unwrap_or_else(|error| panic!("{table}.{name}: {error}"));
                    }
                }
                assert!(with(&json!("sometimes")).is_err(), "{table}.{name}");
                tried += 1;
            }
        }
    }
    assert!(tried >= 15, "only {tried} settings have limits");
}

#[test]
fn every_value_is_documented() {
    let text_of = read(&format!("{CHART}/values.yaml"));
    let lines: Vec<&str> = text_of.lines().collect();
    let mut keys = 0;
    for (number, line) in lines.iter().enumerate() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let is_key = !key.trim().is_empty()
            && key.trim().chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        // Of a table its keys are documented.
        if !is_key || value.trim().is_empty() {
            continue;
        }
        keys += 1;
        let above = number.checked_sub(1).and_then(|above| lines.get(above)).expect("a line above");
        assert!(above.trim_start().starts_with("# "), "{key} is not documented");
    }
    assert!(keys > 80, "only {keys} keys were found");
}
