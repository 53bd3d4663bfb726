//! The Grafana dashboard.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use bellwether_engine::metrics::{Kind, Metric, TABLE};
use serde_json::{Value, json};

use crate::{array, assert_success, read, run, text, yaml};

pub(crate) fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/dashboards/bellwether.json"))
        .expect("the dashboard is JSON")
}

/// Each query of the dashboard with the title of its panel; Grafana's interval is put in, as Grafana does.
pub(crate) fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for panel in array(&dashboard["panels"]) {
        for target in panel.get("targets").map(array).unwrap_or_default() {
            let query = text(&target["expr"]).replace("$__rate_interval", "1m");
            assert!(!query.contains('$'), "{query}: an unknown variable");
            queries.push((text(&panel["title"]).to_owned(), query));
        }
    }
    queries
}

#[test]
fn the_dashboard_is_one_that_grafana_can_show() {
    let dashboard = dashboard();
    for key in ["uid", "title", "description"] {
        assert!(!text(&dashboard[key]).is_empty(), "{key}");
    }
    assert!(dashboard.get("id").is_none_or(Value::is_null), "Grafana gives the id");
    let provisioned =
        &yaml("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"][0];
    let datasource = json!({ "type": provisioned["type"], "uid": provisioned["uid"] });

    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    let mut taken = BTreeSet::new();
    for panel in array(&dashboard["panels"]) {
        let title = text(&panel["title"]);
        assert!(!title.is_empty() && titles.insert(title), "{title}: empty or twice");
        assert!(ids.insert(panel["id"].as_u64().expect("a panel has an id")), "{title}: id twice");
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a position"));
        assert!(w > 0 && h > 0 && x + w <= 24, "{title}: outside the grid");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{title} lies over another panel at {cell:?}");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(!text(&panel["description"]).is_empty(), "{title}: says nothing about itself");
        assert_eq!(panel["datasource"], datasource, "{title}");
        let targets = array(&panel["targets"]);
        assert!(!targets.is_empty(), "{title}: shows nothing");
        let references: BTreeSet<&str> =
            targets.iter().map(|target| text(&target["refId"])).collect();
        assert_eq!(references.len(), targets.len(), "{title}: refId twice");
        for target in targets {
            assert_eq!(target["datasource"], datasource, "{title}");
        }
    }
}

#[test]
fn every_query_of_the_dashboard_parses_as_promql() {
    let rules: Vec<Value> = queries(&dashboard())
        .iter()
        .enumerate()
        .map(|(number, (_, query))| json!({ "record": format!("query:{number}"), "expr": query }))
        .collect();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("queries.json");
    let groups = json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    fs::write(&file, groups.to_string()).expect("a new file");
    assert_success(&run(Command::new("promtool").args(["check", "rules"]).arg(&file)));
}

/// The words of a query outside of its quoted strings.
fn words(query: &str) -> Vec<&str> {
    query
        .split('"')
        .step_by(2)
        .flat_map(|code| code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')))
        .filter(|word| !word.is_empty())
        .collect()
}

/// The row of [`TABLE`] that a series belongs to: a histogram has three.
fn metric_of(series: &str) -> Option<&'static Metric> {
    TABLE.iter().find(|metric| match metric.kind {
        Kind::Counter | Kind::Gauge => metric.name == series,
        Kind::Histogram => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|suffix| series.strip_suffix(suffix) == Some(metric.name)),
    })
}

fn is_series(word: &str) -> bool {
    word.starts_with("bellwether_") || word.starts_with("process_")
}

#[test]
fn every_metric_and_label_that_the_dashboard_uses_is_exposed() {
    const LANGUAGE: [&str; 10] =
        ["sum", "rate", "increase", "max", "min", "count", "by", "histogram_quantile", "1m", "1h"];
    for (title, query) in queries(&dashboard()) {
        let words = words(&query);
        let mut labels = vec!["le", "job", "instance"];
        for series in words.iter().filter(|word| is_series(word)) {
            let metric =
                metric_of(series).unwrap_or_else(|| panic!("{title}: {series} is not exposed"));
            labels.extend(metric.labels);
        }
        for word in words.iter().filter(|word| !is_series(word) && !LANGUAGE.contains(word)) {
            let number = word.chars().all(|c| c.is_ascii_digit()) || *word == "5m";
            assert!(number || labels.contains(word), "{title}: no metric here has a label {word}");
        }
    }
}
