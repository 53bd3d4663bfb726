//! `bellwether explain ACCOUNT`: the score line by line, from a running server or from the data directory.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bellwether_core::id::AccountId;
use bellwether_core::output::Output;
use bellwether_core::time::Millis;
use bellwether_server::LookedBack;
use bellwether_store::task::Store;
use bellwether_wire::decode::Decoder;
use bellwether_wire::encode::{Encoder, OutputKind};

use crate::cli::ExplainArgs;
use crate::config::Config;
use crate::{app, learn, policies, show, state, then};

/// Runs the command. An account that nobody knows is exit code 3.
pub(crate) fn run(args: &ExplainArgs, config: &Config, json: bool) -> Result<ExitCode> {
    let id = account(&args.account)?;
    if let Some(url) = &args.url {
        let at = args.at.as_deref().map(learn::time).transpose()?;
        return from_server(url, &id, at, json);
    }
    if let Some(at) = &args.at {
        return then::run(args, at, config, json);
    }
    let core = policies::core(config)?;
    let state_dir = config.data_dir.join("state");
    let options = app::store_options(config);
    let partitions = state::directories(&state_dir).with_context(|| {
        format!(
            "no state in {}; name the data directory with --data-dir, or a server with --url",
            state_dir.display()
        )
    })?;
    for (partition, dir) in partitions {
        let store = Store::open(&dir, &config.application_id, partition, &options).context(
            "the state is in use; ask the running server with --url http://127.0.0.1:8391",
        )?;
        if let Some(account) = store.get(&id)? {
            let promoted = core.current(store.known_cohorts().promotions());
            return print(&promoted.as_ref().unwrap_or(&core).view(account), json);
        }
    }
    eprintln!("error: nothing is known of account {id}");
    Ok(ExitCode::from(crate::EXIT_WANTING))
}

/// An account id of the command line.
pub(crate) fn account(text: &str) -> Result<AccountId> {
    AccountId::new(text).with_context(|| format!("`{text}` is no account id"))
}

pub(crate) fn print(outputs: &[Output], json: bool) -> Result<ExitCode> {
    if json {
        return print_json(outputs);
    }
    for output in outputs {
        match output {
            Output::Health(record) => print!("{}", show::explanation(record)),
            Output::Alert(event) => print!("{}", show::alert(event)),
            Output::ScoreChanged(_)
            | Output::Shadow(_)
            | Output::Example(_)
            | Output::Forgotten(_) => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Records as the topics and the API have them, in the shape of the API's answer.
fn print_json(outputs: &[Output]) -> Result<ExitCode> {
    let encoder = Encoder::json();
    let (mut account, mut alerts) = (serde_json::Value::Null, Vec::new());
    for output in outputs {
        let payload = encoder.encode(output).payload.unwrap_or_default();
        let record = serde_json::from_slice(&payload)?;
        match output {
            Output::Health(_) => account = record,
            Output::Alert(_) => alerts.push(record),
            Output::ScoreChanged(_)
            | Output::Shadow(_)
            | Output::Example(_)
            | Output::Forgotten(_) => {}
        }
    }
    let answer = serde_json::json!({"account": account, "alerts": alerts});
    println!("{}", serde_json::to_string_pretty(&answer)?);
    Ok(ExitCode::SUCCESS)
}

/// A client that leaves statuses to its caller.
pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(std::time::Duration::from_secs(10)))
        .build()
        .into()
}

/// Where a server has an account.
pub(crate) fn account_url(url: &str, id: &AccountId) -> String {
    format!("{}/v1/accounts/{}", url.trim_end_matches('/'), percent_encode(id.as_str()))
}

/// What a server says of an account now, or of how it stood at a time.
fn from_server(url: &str, id: &AccountId, at: Option<Millis>, json: bool) -> Result<ExitCode> {
    let mut path = account_url(url, id);
    if let Some(at) = at {
        path += &format!("?at={}", percent_encode(&at.iso()));
    }
    let mut response =
        agent().get(&path).call().with_context(|| format!("{url} does not answer"))?;
    let body = response.body_mut().read_to_string()?;
    match response.status().as_u16() {
        200 => {}
        404 | 410 if at.is_some() => {
            let problem: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            eprintln!("error: {}", show::plain(problem["detail"].as_str().unwrap_or(&body)));
            return Ok(ExitCode::from(crate::EXIT_WANTING));
        }
        404 => {
            eprintln!("error: nothing is known of account {id}");
            return Ok(ExitCode::from(crate::EXIT_WANTING));
        }
        status => bail!("{url} answered {status}: {body}"),
    }
    let answer: serde_json::Value =
        serde_json::from_str(&body).with_context(|| format!("{url} answered something else"))?;
    // One that knows nothing of times answers with the score of now.
    if at.is_some() && !answer["whole"].is_boolean() {
        bail!("{url} is of an older version, which does not say how an account stood at a time");
    }
    if json {
        println!("{body}");
        return Ok(ExitCode::SUCCESS);
    }
    let record = serde_json::to_vec(&answer["account"])?;
    let mut decoder = Decoder::new(None, body.len().max(1))?;
    let mut outputs = vec![decoder.output(OutputKind::ScoreCurrent, Some(&record))?];
    // The latest event of each alert comes first; those that ended are history.
    let mut seen = BTreeSet::new();
    for alert in answer["alerts"].as_array().into_iter().flatten() {
        if seen.insert(alert["alert_id"].to_string()) && alert["transition"] != "resolved" {
            outputs.push(decoder.output(OutputKind::Alert, Some(&serde_json::to_vec(alert)?))?);
        }
    }
    let printed = print(&outputs, json)?;
    if answer["whole"] == false {
        let why = match LookedBack::of(&answer) {
            Some(LookedBack::Kept(since)) => {
                format!("what was published before {} UTC is no longer kept", show::minute(since))
            }
            Some(LookedBack::Newest(since)) => format!(
                "the server looks through the newest records only, back to {} UTC",
                show::minute(since)
            ),
            Some(LookedBack::Whole) | None => {
                "the server looks through the newest records only".to_owned()
            }
        };
        println!("  (other alerts may have been open: {why})");
    }
    Ok(printed)
}

/// Text as a part of a URL.
pub(crate) fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}
