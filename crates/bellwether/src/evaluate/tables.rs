//! The tables of an evaluation: once as rows of text, for the README (Markdown) and the report (HTML).

mod fleets;

use serde_json::Value;

use super::sets::{NAB_TITLE, USAGE_SETS};

/// Where the tables stand in a file.
pub(crate) const MARKERS: (&str, &str) = ("<!-- evaluation:begin -->", "<!-- evaluation:end -->");

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
    match name {
        "nab" => return vec![nab(found)],
        "learned" => return vec![learned(found)],
        "power" => return vec![fleets::power(found)],
        "calibration" => return vec![fleets::calibration(found)],
        "ablation" => return vec![fleets::ablation(found)],
        _ => {}
    }
    let judged = found["judged"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut tables: Vec<Table> = judged.iter().map(|judged| alerts(found, judged)).collect();
    tables.push(scores(found, judged));
    tables
}

/// The sets that were judged, in order.
pub(crate) fn sets(found: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    let others = ["learned", "nab", "power", "calibration", "ablation"];
    let names = USAGE_SETS.iter().map(|set| set.name).chain(others);
    names.filter_map(|name| found.get(name).map(|set| (name, set)))
}

/// Above the table of learned scorecards.
pub(crate) const LEARNED_TITLE: &str =
    "Learned scorecards: who leaves, judged after the time at which they were learned";

fn learned(found: &Value) -> Table {
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    for judged in found["judged"].as_array().into_iter().flatten() {
        let name = judged["name"].as_str().unwrap_or_default();
        let scorers = judged["scorers"].as_object();
        // Ours first, then the others by name.
        let of_others = scorers.into_iter().flatten().filter(|(scorer, _)| *scorer != OURS);
        let ours = scorers.and_then(|of| of.get_key_value(OURS));
        for (scorer, of) in ours.into_iter().chain(of_others) {
            rows.push(vec![
                if scorer == OURS { name.to_owned() } else { String::new() },
                scorer.clone(),
                interval(&of["auc"], decimals),
                interval(&of["pr_auc"], decimals),
                interval(&of["precision"], decimals),
                interval(&of["false"], rate),
                interval(&of["lead_days"], |days| format!("{days:.0}")),
                interval(&of["ece"], decimals),
            ]);
        }
        let model = &judged["model"];
        let figure = |value: &Value| value.as_f64().map_or("–".to_owned(), decimals);
        notes.push(format!(
            "{name}: learned from {} examples with {} outcomes, which the model's own hold-out calls {} (AUC {}, boosted trees {}); judged on {} snapshots of {} accounts from {} on, \
             {} lost, base rate {}",
            model["examples"],
            model["outcomes"],
            if model["has_skill"] == true { "skill" } else { "NO SKILL" },
            figure(&model["holdout_auc"][0]),
            figure(&model["challenger_auc"]),
            judged["snapshots"],
            judged["accounts"],
            judged["from"].as_str().unwrap_or_default(),
            judged["churns"],
            figure(&judged["base_rate"]),
        ));
    }
    let header = [
        "outcome",
        "scorer",
        "AUC",
        "average precision",
        "precision at half recall",
        "false a year there",
        "median lead there, days",
        "calibration error",
    ];
    Table {
        title: LEARNED_TITLE.to_owned(),
        header: header.map(str::to_owned).into(),
        rows,
        note: format!(
            "Our scores are the engine's, with the risk of the same readings. The other scorers are the kit's, learned before the same date; in brackets 95 % of 200 resamplings of the \
             accounts. At half recall: alerts where the score passes the threshold that finds half of those lost, then 28 quiet days. ChurnSim is the negative control: nothing in it \
             tells who leaves. {}.",
            notes.join("; ")
        ),
    }
}

/// Scores of others on the same series, standard profile, from the kit's README, which reproduces what the benchmark published.
const NAB_OTHERS: [(&str, f64); 4] =
    [("ARTime", 69.08), ("numenta HTM", 68.58), ("CAD OSE", 63.78), ("Twitter ADVec", 38.91)];

fn nab(found: &Value) -> Table {
    let score =
        |value: &Value| value.as_f64().map_or("–".to_owned(), |score| format!("{score:.1}"));
    let best = |of: &Value| format!("best, {}", number(&of["standard"]["threshold"]));
    let row = |name: &str, of: &Value, threshold: &str| {
        let profiles = ["standard", "reward_low_FP_rate", "reward_low_FN_rate"];
        let mut row = vec![name.to_owned(), threshold.to_owned()];
        row.extend(profiles.iter().map(|profile| score(&of[*profile]["score"])));
        row
    };
    let own = number(&found["alert_score"]);
    let mut rows = vec![
        row(OURS, &found["best"][OURS], &best(&found["best"][OURS])),
        row(OURS, &found["own"], &format!("the policy's, {own}")),
        row("EWMA z with a quiet period (the kit's)", &found["best"]["reference"], "best"),
    ];
    rows.extend(NAB_OTHERS.iter().map(|(name, standard)| {
        let of = serde_json::json!({"standard": {"score": standard}});
        row(&format!("{name} (published)"), &of, "best")
    }));
    let header = ["", "threshold", "standard", "reward low FP", "reward low FN"];
    Table {
        title: NAB_TITLE.to_owned(),
        header: header.map(str::to_owned).into(),
        rows,
        note: format!(
            "{} series, {} labelled windows, {} values; the policy's threshold gives {} alerts. Goal: above 55 on the standard profile. The labels are \
             disputed: a check against regressions, not a target.",
            number(&found["series"]),
            number(&found["windows"]),
            number(&found["rows"]),
            number(&found["alerts"])
        ),
    }
}

/// The rule that stands beside ours with its own figures.
const BESIDE: &str = "single z";

fn alerts(found: &Value, judged: &Value) -> Table {
    let empty = serde_json::Map::new();
    let curves = judged["curves"].as_object().unwrap_or(&empty);
    let rules: Vec<&String> = curves.keys().filter(|rule| !rule.starts_with(OURS)).collect();
    let mut header: Vec<String> = [
        "high alerts",
        "budget",
        "false a year",
        "lost, alerted before",
        "at random",
        "median lead, days",
    ]
    .map(str::to_owned)
    .into();
    header.push(format!("{BESIDE}: false a year at that recall"));
    header.extend(rules.iter().map(|rule| format!("ours ÷ {rule}")));
    let mut rows = Vec::new();
    for (name, words) in [(OURS, "all"), (RISK_ONLY, "of risk")] {
        let mut ours: Vec<&Value> = points(judged, name).collect();
        ours.sort_by(|left, right| number(&left["at"]).total_cmp(&number(&right["at"])));
        for point in ours {
            let mut row = found_by(words, &number(&point["at"]).to_string(), point);
            row.push(interval(&point["against"][BESIDE]["false"], rate));
            let ratio = |rule: &&String| interval(&point["against"][rule.as_str()]["ratio"], rate);
            row.extend(rules.iter().map(ratio));
            rows.push(row);
        }
    }
    let own = number(&found["budget"]).to_string();
    for part in judged["families"][&own].as_array().into_iter().flatten() {
        let [kind, family] = ["kind", "family"].map(|key| part[key].as_str().unwrap_or_default());
        let words = format!("{}: {family}", kind.replace('_', " "));
        let mut row = found_by(words.trim_end_matches(": "), &own, part);
        row.resize(header.len(), "–".to_owned());
        rows.push(row);
    }
    Table {
        title: format!(
            "{}, {}: high alerts before an account is lost",
            found["title"].as_str().unwrap_or_default(),
            judged["kind"].as_str().unwrap_or_default()
        ),
        header,
        rows,
        note: format!(
            "{:.0} account-years from {} on, {} lost; an alert counts up to {} days before; in brackets 95 % of 200 resamplings of the accounts, the \
             same for both sides of a ratio (below 1: fewer false alerts than that rule has where it finds as many; – where it never does). At random: what as many alerts would find if they fell on any account and day. \
             Alerts of risk are all but those of rises. Last, each kind and family of change at the policy's budget.",
            number(&judged["account_years"]),
            judged["from"].as_str().unwrap_or_default(),
            number(&judged["churns"]),
            number(&judged["horizon_days"])
        ),
    }
}

/// What alerts find and cost: the first columns of a row.
fn found_by(words: &str, budget: &str, point: &Value) -> Vec<String> {
    vec![
        words.to_owned(),
        budget.to_owned(),
        interval(&point["false"], rate),
        interval(&point["recall"], percent),
        point["random_recall"].as_f64().map_or("–".to_owned(), percent),
        interval(&point["lead_days"], |days| format!("{days:.0}")),
    ]
}

const OURS: &str = "Bellwether";
/// The same without alerts of rises.
const RISK_ONLY: &str = "Bellwether, risk only";

/// The points of a rule's curve.
pub(crate) fn points<'v>(judged: &'v Value, rule: &str) -> impl Iterator<Item = &'v Value> {
    judged["curves"][rule].as_array().into_iter().flatten()
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

fn keys(value: &Value) -> impl Iterator<Item = &String> {
    value.as_object().into_iter().flat_map(|of| of.keys())
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
