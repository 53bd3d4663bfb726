//! The tables of an evaluation: once as rows of text, for the README (Markdown) and the report (HTML).

use serde_json::Value;
use std::collections::BTreeSet;

use super::sets::{SCENARIOS, USAGE_SETS};

/// Where the tables stand in a file.
pub(crate) const MARKERS: (&str, &str) = ("<!-- evaluation:begin -->", "<!-- evaluation:end -->");

/// A figure of the synthetic fleets: scenario, key of the kit, in words, goal in words.
const POWER_FIGURES: [(&str, &str, &str, &str); 11] = [
    ("drop2of3", "detected_28d", "two of three signals fall by 60 %: found in 28 days", "≥ 70 %"),
    ("drop2of3_large", "detected_14d", "the same, 600 events a day: in 14 days", "≥ 90 %"),
    ("drop2of3_small", "detected_28d", "the same, 1.5 events a day: in 28 days", "≥ 20 %"),
    ("decline", "detected_56d", "all signals lose 5 % a week: in 56 days", "≥ 50 %"),
    ("silence", "detected_7d", "all signals stop: in 7 days", "≥ 92 %"),
    ("spike", "detected_7d", "two signals at five times for 2 days: in 7 days", "≥ 70 %"),
    ("outage1", "fires_on_one_signal_outage", "one signal reads zero for 5 days: alerted", "≤ 2 %"),
    (
        "fleetdrop",
        "accounts_firing_on_fleet_drop",
        "all accounts fall by 60 % for 5 days: alerted one by one",
        "≤ 0.1 %",
    ),
    ("stationary", FALSE, "false high alerts per account-year, mixed sizes", "0.07–0.13"),
    ("stationary_small", FALSE, "the same, 1.5 events a day", "0.07–0.13"),
    ("stationary_large", FALSE, "the same, 600 events a day", "0.07–0.13"),
];
const FALSE: &str = "false_high_alerts_per_account_year";

/// A table with what is to be said above and below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) note: String,
}

/// The tables of a set, in the order in which they are read.
pub(crate) fn of(name: &str, found: &Value) -> Vec<Table> {
    if name == "power" {
        return vec![power(found)];
    }
    let judged = found["judged"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut tables: Vec<Table> = judged.iter().map(|judged| alerts(found, judged)).collect();
    tables.push(scores(found, judged));
    tables
}

/// The sets that were judged, in order.
pub(crate) fn sets(found: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    let names = USAGE_SETS.iter().map(|set| set.name).chain(["power"]);
    names.filter_map(|name| found.get(name).map(|set| (name, set)))
}

fn alerts(found: &Value, judged: &Value) -> Table {
    let empty = serde_json::Map::new();
    let curves = judged["curves"].as_object().unwrap_or(&empty);
    let rules: Vec<&String> = curves.keys().filter(|rule| !rule.starts_with(OURS)).collect();
    let mut header: Vec<String> =
        ["high alerts", "budget", "false a year", "lost, alerted before", "median lead"]
            .map(str::to_owned)
            .into();
    header.extend(rules.iter().map(|rule| format!("{rule}: false a year at that recall")));
    let mut rows = Vec::new();
    for (name, words) in [(OURS, "all"), (RISK_ONLY, "of risk")] {
        let mut ours: Vec<&Value> = points(judged, name).collect();
        ours.sort_by(|left, right| number(&left["at"]).total_cmp(&number(&right["at"])));
        for point in ours {
            let recall = number(&point["recall"][0]);
            let lead = point["lead_days"].as_f64();
            let mut row = vec![
                words.to_owned(),
                number(&point["at"]).to_string(),
                interval(&point["false"], rate),
                interval(&point["recall"], percent),
                lead.map_or("–".to_owned(), |days| format!("{days:.0} days")),
            ];
            row.extend(rules.iter().map(|rule| {
                at_recall(judged, rule, recall)
                    .map_or("–".to_owned(), |point| interval(&point["false"], rate))
            }));
            rows.push(row);
        }
    }
    let first = points(judged, OURS).next().unwrap_or(&Value::Null);
    Table {
        title: format!(
            "{}, {}: high alerts before an account is lost",
            found["title"].as_str().unwrap_or_default(),
            judged["kind"].as_str().unwrap_or_default()
        ),
        header,
        rows,
        note: format!(
            "{:.0} account-years from {} on, {} lost; an alert counts up to {} days before; in brackets 95 % of 200 resamplings of the accounts. \
             Alerts of risk are all but those of rises. The z rules need a threshold that finds as many.",
            number(&first["account_years"]),
            judged["from"].as_str().unwrap_or_default(),
            number(&first["churns"]),
            number(&judged["horizon_days"])
        ),
    }
}

const OURS: &str = "Bellwether";
/// The same without alerts of rises.
const RISK_ONLY: &str = "Bellwether, risk only";

/// The points of a rule's curve.
pub(crate) fn points<'v>(judged: &'v Value, rule: &str) -> impl Iterator<Item = &'v Value> {
    judged["curves"][rule].as_array().into_iter().flatten()
}

/// Of a rule's thresholds that find as large a share of the lost accounts, the one with the fewest false alerts.
fn at_recall<'v>(judged: &'v Value, rule: &str, recall: f64) -> Option<&'v Value> {
    points(judged, rule)
        .filter(|point| recall > 0.0 && number(&point["recall"][0]) >= recall)
        .min_by(|left, right| number(&left["false"][0]).total_cmp(&number(&right["false"][0])))
}

fn scores(found: &Value, judged: &[Value]) -> Table {
    let mut scorers: Vec<&str> = vec![OURS];
    for one in judged {
        for name in one["score"].as_object().into_iter().flat_map(|of| of.keys()) {
            if !scorers.contains(&name.as_str()) {
                scorers.push(name);
            }
        }
    }
    let mut header = vec!["the score ranks risk: AUC".to_owned()];
    header.extend(scorers.iter().map(|name| (*name).to_owned()));
    let rows = judged.iter().map(|one| {
        let mut row = vec![format!(
            "{}, {} days ahead",
            one["kind"].as_str().unwrap_or_default(),
            number(&one["horizon_days"])
        )];
        row.extend(scorers.iter().map(|name| interval(&one["score"][*name]["auc"], decimals)));
        row
    });
    let rows = rows.collect();
    let ahead = judged.first().map_or(&Value::Null, |one| &one["look_ahead"]);
    let checked = match (ahead["differ"].as_u64(), ahead["only_in_one"].as_u64()) {
        (Some(0), Some(0)) => "none differ".to_owned(),
        (Some(differ), Some(missing)) => {
            format!("{differ} DIFFER and {missing} ARE IN ONE RUN ONLY")
        }
        _ => "NOT CHECKED".to_owned(),
    };
    Table {
        title: String::new(),
        header,
        rows,
        note: format!(
            "Look-ahead check: {} scores up to {}, with and without what came later: {checked}.",
            number(&ahead["compared"]),
            found["cut"].as_str().unwrap_or_default()
        ),
    }
}

fn power(found: &Value) -> Table {
    let reference = &found["reference"]["scenarios"];
    let rules: BTreeSet<&String> =
        reference.as_object().into_iter().flat_map(|of| of.values()).flat_map(keys).collect();
    let mut header: Vec<String> = ["", OURS, "goal"].map(str::to_owned).into();
    header.extend(rules.iter().map(|rule| (*rule).clone()));
    let mut rows: Vec<Vec<String>> = POWER_FIGURES
        .iter()
        .map(|(scenario, key, words, goal)| {
            let show = if *key == FALSE { rate } else { percent };
            let seeds: Vec<f64> = over_seeds(found, scenario, key).collect();
            let mean = seeds.iter().sum::<f64>() / seeds.len() as f64;
            let mut row = vec![
                (*words).to_owned(),
                if seeds.is_empty() { "–".to_owned() } else { show(mean) },
                (*goal).to_owned(),
            ];
            row.extend(rules.iter().map(|rule| {
                reference[*scenario][rule.as_str()][*key].as_f64().map_or("–".to_owned(), show)
            }));
            row
        })
        .collect();
    let fleet = &found["scenarios"]["fleetdrop"];
    let raised: Vec<bool> = keys(fleet)
        .filter_map(|seed| fleet[seed.as_str()]["fleet_alarm_raised"].as_bool())
        .collect();
    let said = raised.iter().filter(|raised| **raised).count();
    let mut row = vec![
        "… and one alert for the fleet".to_owned(),
        format!("{said} of {}", raised.len()),
        "all".to_owned(),
    ];
    row.extend(rules.iter().map(|_| "–".to_owned()));
    rows.insert(8, row);
    let (alerts, years) = SCENARIOS.iter().fold((0.0, 0.0), |sum, scenario| {
        let of = |key| over_seeds(found, scenario, key).collect::<Vec<f64>>();
        let (rates, years) = (of(FALSE), of("account_years"));
        let alerts: f64 = rates.iter().zip(&years).map(|(rate, years)| rate * years).sum();
        (sum.0 + alerts, sum.1 + years.iter().sum::<f64>())
    });
    let seeds: Vec<String> =
        found["seeds"].as_array().into_iter().flatten().map(Value::to_string).collect();
    let seen = found["seeds_seen_in_development"].as_array().map_or(0, Vec::len);
    let warning = if seen > 0 { " SOME OF THESE WERE SEEN IN DEVELOPMENT." } else { "" };
    Table {
        title: "Synthetic fleets with a known truth".to_owned(),
        header,
        rows,
        note: format!(
            "Mean of seeds {}.{warning} 600 accounts a fleet, a fifth of which changes; before changes and without any, {} false high alerts per \
             account-year in all, at a budget of {}. The reference rules are the kit's, on the same fleets.",
            seeds.join(", "),
            rate(alerts / f64::max(years, 1e-9)),
            number(&found["budget"])
        ),
    }
}

fn keys(value: &Value) -> impl Iterator<Item = &String> {
    value.as_object().into_iter().flat_map(|of| of.keys())
}

fn over_seeds<'v>(
    found: &'v Value,
    scenario: &str,
    key: &'v str,
) -> impl Iterator<Item = f64> + use<'v> {
    let seeds = found["scenarios"][scenario].as_object();
    seeds.into_iter().flat_map(|of| of.values()).filter_map(move |judged| judged[key].as_f64())
}

/// A number, or NaN.
pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn rate(value: f64) -> String {
    format!("{value:.2}")
}

fn decimals(value: f64) -> String {
    format!("{value:.3}")
}

fn percent(share: f64) -> String {
    // Few accounts fire: a tenth tells them from none.
    let percent = share * 100.0;
    if percent == 0.0 || percent >= 9.95 {
        format!("{percent:.0} %")
    } else {
        format!("{percent:.1} %")
    }
}

/// `[value, low, high]` with its interval.
fn interval(of: &Value, show: impl Fn(f64) -> String) -> String {
    let Some(value) = of[0].as_f64() else { return "–".to_owned() };
    match (of[1].as_f64(), of[2].as_f64()) {
        (Some(low), Some(high)) => {
            let bare = |bound: f64| show(bound).trim_end_matches(" %").to_owned();
            format!("{} [{}, {}]", show(value), bare(low), bare(high))
        }
        _ => show(value),
    }
}

/// What a set's figures rest on, in one sentence.
pub(crate) fn provenance(found: &Value) -> String {
    let files: Vec<String> = keys(&found["files_sha256"])
        .map(|name| {
            let hash = found["files_sha256"][name.as_str()].as_str().unwrap_or_default();
            format!("{name} {}", hash.get(..12).unwrap_or(hash))
        })
        .collect();
    let machine = &found["machine"];
    format!(
        "What tuned what: {}. Policy {} {}, Bellwether {}; {} ({} cores), {}. SHA-256 begins: {}.",
        found["tuned"].as_str().unwrap_or_default(),
        found["policy"].as_str().unwrap_or_default(),
        found["policy_version"].as_str().unwrap_or_default(),
        found["bellwether"].as_str().unwrap_or_default(),
        machine["cpu"].as_str().unwrap_or_default(),
        number(&machine["cores"]),
        machine["python"].as_str().unwrap_or_default(),
        files.join(", ")
    )
}

/// All tables as Markdown.
pub(crate) fn markdown(found: &Value) -> String {
    let mut text = String::new();
    for (name, set) in sets(found) {
        for table in of(name, set) {
            if !table.title.is_empty() {
                text += &format!("**{}**\n\n", table.title);
            }
            let line = |cells: &[String]| {
                let cells: Vec<String> =
                    cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
                format!("| {} |\n", cells.join(" | "))
            };
            text += &line(&table.header);
            text += &line(&vec!["---".to_owned(); table.header.len()]);
            for row in &table.rows {
                text += &line(row);
            }
            text += &format!("\n{}\n\n", table.note);
        }
        text += &format!("{}\n\n", provenance(set));
    }
    text
}

/// A text with what stands between its markers replaced; none where they are not there.
pub(crate) fn replaced(text: &str, block: &str) -> Option<String> {
    let (before, rest) = text.split_once(&format!("{}\n", MARKERS.0))?;
    let (_, after) = rest.split_once(MARKERS.1)?;
    Some(format!("{before}{}\n{}\n{}{after}", MARKERS.0, block.trim_end(), MARKERS.1))
}
