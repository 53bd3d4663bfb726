//! `bellwether outcome` and `bellwether kpis`: what became of alerts and accounts.

use std::process::ExitCode;

use anyhow::Result;
use bellwether_core::event::Outcome;
use bellwether_core::publish::content_id;
use bellwether_core::time::Millis;
use bellwether_engine::clock::now_ms;
use bellwether_wire::decode::{DecodeError, Decoder};
use serde_json::{Value, json};

use crate::cli::OutcomeArgs;
use crate::config::Config;
use crate::place::Place;
use crate::show;
use crate::usage::wrong;

/// `outcome`.
pub(crate) fn run(args: &OutcomeArgs, config: &Config, json: bool) -> Result<ExitCode> {
    let at = match args.at.as_deref() {
        Some(text) => crate::learn::time(text)?,
        None => Millis(now_ms()),
    };
    let record = json!({
        "account_id": args.account,
        "kind": args.kind.replace('-', "_"),
        "occurred_at": at.iso(),
        "alert_id": args.alert,
        "by": args.said.by,
        "note": args.said.note,
    });
    let (record, outcome) = checked(record, config)?;
    if outcome.kind.is_command() {
        wrong!("`{}` is a command to an alert: see `bellwether alerts --help`", args.kind);
    }
    if outcome.kind.is_feedback() != outcome.alert_id.is_some() {
        wrong!(
            "`{}` {} --alert",
            args.kind,
            if outcome.kind.is_feedback() { "needs" } else { "takes no" }
        );
    }
    append(&Place::open(&args.said.place, config)?, &record, &outcome, config)?;
    accepted(&record, &outcome, json)
}

/// A record with its id, as it will be read. What is wrong with it is said here, and not by a dead letter.
pub(crate) fn checked(mut record: Value, config: &Config) -> Result<(Value, Outcome)> {
    let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
    let at = Millis::parse(&text("occurred_at")).unwrap_or_default();
    // Said again, it is the same.
    let parts = [text("account_id"), text("kind"), text("alert_id"), at.0.to_string()];
    let id = content_id(&parts.each_ref().map(String::as_str));
    record["outcome_id"] = json!(id);
    let decoded = Decoder::new(None, config.engine.record_bytes_max)?
        .outcome(None, Some(&serde_json::to_vec(&record)?));
    match decoded {
        Ok(outcome) => Ok((record, outcome)),
        Err(DecodeError::Reject(reject)) => wrong!("{}", reject.detail),
        Err(DecodeError::RegistryUnavailable(detail)) => wrong!("{detail}"),
    }
}

/// Sends a record where outcomes go.
pub(crate) fn append(
    place: &Place,
    record: &Value,
    outcome: &Outcome,
    config: &Config,
) -> Result<()> {
    place.append("/v1/outcomes", &config.topics.outcomes, outcome.account.as_str(), record)
}

/// Says that a record was accepted.
pub(crate) fn accepted(record: &Value, outcome: &Outcome, json: bool) -> Result<ExitCode> {
    if json {
        println!("{}", serde_json::to_string_pretty(record)?);
        return Ok(ExitCode::SUCCESS);
    }
    let account = format!("account {}", show::plain(outcome.account.as_str()));
    let of = outcome.alert_id.as_ref().map_or_else(
        || account.clone(),
        |alert| format!("alert {} of {account}", show::plain(alert)),
    );
    let kind = record["kind"].as_str().unwrap_or_default().replace('_', " ");
    let until = outcome.until.map_or_else(String::new, |until| format!(" until {}", until.iso()));
    println!("Accepted: {of}: {kind}{until} at {}.", outcome.occurred_at.iso());
    Ok(ExitCode::SUCCESS)
}

/// `kpis`.
pub(crate) fn kpis(url: &str, json: bool) -> Result<ExitCode> {
    let place = Place::Server(url.trim_end_matches('/').to_owned());
    let answer = place.get("/v1/kpis")?.unwrap_or_default();
    if json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(ExitCode::SUCCESS);
    }
    let cohorts = answer["cohorts"].as_array().map(Vec::as_slice).unwrap_or_default();
    if cohorts.is_empty() {
        println!("Nothing is known yet of what became of alerts and accounts.");
        return Ok(ExitCode::SUCCESS);
    }
    let mut lost = show::table(&["cohort", "accounts lost", "warned before", "median lead"]);
    let has_control =
        answer["all"]["kinds"].as_array().into_iter().flatten().any(|of| of["withheld"] != 0);
    let mut headings =
        vec!["cohort", "kind", "urgent", "wrong", "acted", "acted: stayed", "not: stayed"];
    headings.extend(if has_control {
        vec!["alerted: stayed", "control: stayed"]
    } else {
        Vec::new()
    });
    headings.push("× chance");
    let mut kinds = show::table(&headings);
    let named =
        cohorts.iter().map(|of| (show::plain(of["cohort"].as_str().unwrap_or_default()), of));
    for (name, of) in std::iter::once(("(all)".to_owned(), &answer["all"])).chain(named) {
        let gone = &of["lost"];
        let counts = ["warned", "unwarned", "control"].map(|key| gone[key].as_u64().unwrap_or(0));
        lost.add_row([
            name.clone(),
            counts.iter().sum::<u64>().to_string(),
            share(&gone["warned_share"]),
            figure(&gone["median_lead_days"], 0, " days"),
        ]);
        for kind in of["kinds"].as_array().into_iter().flatten() {
            let stayed = |group: &str| share(&kind["retention"][group]);
            let mut row = vec![
                name.clone(),
                show::plain(&kind["kind"].as_str().unwrap_or_default().replace('_', " ")),
                kind["urgent"].to_string(),
                share(&kind["false_positive_rate"]),
                kind["actioned"].to_string(),
                stayed("acted"),
                stayed("not_acted"),
            ];
            row.extend(
                has_control.then(|| [stayed("alerted"), stayed("control")]).into_iter().flatten(),
            );
            row.push(figure(&kind["sensitivity"], 2, ""));
            kinds.add_row(row);
        }
    }
    println!("{lost}\n{kinds}");
    println!(
        "Stayed: no loss was told, and active in the last four weeks of the horizon. × chance: by how much more or less often alerts may come by\n         chance, by what people said of them. Intervals: --json."
    );
    Ok(ExitCode::SUCCESS)
}

fn figure(value: &Value, digits: usize, unit: &str) -> String {
    value.as_f64().map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}{unit}"))
}

/// A share, e.g. `40 % of 5`; its interval is in the JSON and on the page.
fn share(value: &Value) -> String {
    value["value"].as_f64().map_or_else(
        || "–".to_owned(),
        |share| format!("{:.0} % of {}", share * 100.0, value["of"]),
    )
}
