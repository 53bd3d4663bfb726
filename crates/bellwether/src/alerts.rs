//! `bellwether alerts`: see alerts, and move them in their lives.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use bellwether_core::event::OutcomeKind;
use bellwether_core::id::AccountId;
use bellwether_core::life::snoozed_until;
use bellwether_core::output::{AlertEvent, Output};
use bellwether_core::time::{DAY_MS, Millis};
use bellwether_engine::clock::now_ms;
use bellwether_engine::log::{Record, Topic};
use bellwether_server::LookedBack;
use bellwether_wire::decode::{DecodeError, Decoder};
use bellwether_wire::encode::{Encoder, OutputKind};
use serde_json::{Value, json};

use crate::cli::{AlertSaidArgs, AlertsCommand, AlertsLsArgs, AlertsShowArgs};
use crate::config::Config;
use crate::explain::percent_encode;
use crate::place::Place;
use crate::source::Source;
use crate::usage::wrong;
use crate::{outcome, policies, preview, show};

/// Digits of an alert's id, and how many of them are enough to show it.
const ID_DIGITS: usize = 32;
const ID_PREFIX_MIN: usize = 8;

/// Runs the command. `policy`: what stands behind `--policy`.
pub(crate) fn run(
    command: &AlertsCommand,
    policy: Option<&Path>,
    config: &Config,
    json: bool,
) -> Result<ExitCode> {
    match command {
        AlertsCommand::Ls(args) => ls(args, json),
        AlertsCommand::Show(args) => show(args, config, json),
        AlertsCommand::Preview(args) => preview::run(args, policy, config, json),
        AlertsCommand::Ack(said) => say(said, "acknowledged", None, config, json),
        AlertsCommand::Resolve(said) => say(said, "resolved", None, config, json),
        AlertsCommand::Label { said, label } => {
            let label = label.replace('-', "_");
            if !["confirmed", "false_positive", "actioned"].contains(&label.as_str()) {
                wrong!("LABEL is confirmed, false_positive or actioned, not `{label}`");
            }
            say(said, &label, None, config, json)
        }
        AlertsCommand::Snooze { said, until, days } => {
            let until = match (until.as_deref(), days) {
                (Some(text), _) => crate::learn::time(text)?,
                (None, days) => Millis(now_ms()).plus(i64::from(days.unwrap_or_default()) * DAY_MS),
            };
            if until <= Millis(now_ms()) {
                wrong!("--until is {}, which is over", until.iso());
            }
            say(said, "snoozed", Some(until), config, json)
        }
    }
}

fn server(url: &str) -> Place {
    Place::Server(url.trim_end_matches('/').to_owned())
}

fn ls(args: &AlertsLsArgs, json: bool) -> Result<ExitCode> {
    let state = args.state.as_deref();
    let mut path = format!("/v1/alerts?limit={}", args.limit);
    let filters = [
        ("severity", args.severity.as_deref()),
        ("kind", args.kind.as_deref()),
        ("state", state),
        ("open", if state.is_none() { Some("true") } else { None }),
        ("account", args.account.as_deref()),
    ];
    for (name, value) in filters {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", percent_encode(value)));
        }
    }
    let answer = server(&args.url).get(&path)?.unwrap_or_default();
    if json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(ExitCode::SUCCESS);
    }
    let events = events(&answer["alerts"])?;
    if events.is_empty() {
        println!("No alert matches.");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", show::alerts(&events));
    Ok(ExitCode::SUCCESS)
}

fn show(args: &AlertsShowArgs, config: &Config, json: bool) -> Result<ExitCode> {
    if args.log.embedded || args.log.bootstrap_servers.is_some() {
        return show_logged(args, config, json);
    }
    let answer = match server(&args.url).ask(&format!("{}?history=true", path(&args.id)))? {
        Ok(answer) => answer,
        Err(problem) => return Ok(unknown(&args.id, &problem)),
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(ExitCode::SUCCESS);
    }
    let events = events(&answer["events"])?;
    print!("{}", show::alert_life(&events));
    if answer["whole"] != true {
        println!("  ({})", without_beginning(&events, LookedBack::of(&answer)));
    }
    Ok(ExitCode::SUCCESS)
}

/// Says of an alert why the events that are shown do not go back to its beginning; none: the server does not say how far it looked.
fn without_beginning(events: &[AlertEvent], looked_back: Option<LookedBack>) -> String {
    let opened = opened(events);
    match looked_back {
        Some(LookedBack::Newest(since)) => format!(
            "its beginning is not among these{opened}: the server looked back to {} UTC, and what was published before may still be kept; {TOPIC}",
            show::minute(since)
        ),
        Some(LookedBack::Kept(since)) => format!(
            "its beginning{opened} is no longer kept: all that is goes back to {} UTC",
            show::minute(since)
        ),
        Some(LookedBack::Whole) => {
            format!("its beginning{opened} was never published in this log")
        }
        None => {
            format!("its beginning is not among these{opened}; {TOPIC}")
        }
    }
}

/// When an alert opened, for a remark that its beginning is missing.
fn opened(events: &[AlertEvent]) -> String {
    let latest = events.first();
    latest.map_or_else(String::new, |event| {
        format!(" (it opened {} UTC)", show::minute(event.opened_at))
    })
}

/// Where all is that there is of alerts.
const TOPIC: &str = "all that is kept stands in the topic: --bootstrap-servers, or --embedded while no process has the log";

/// Shows all that the log has of an alert.
fn show_logged(args: &AlertsShowArgs, config: &Config, json: bool) -> Result<ExitCode> {
    let id = &args.id;
    if id.len() < ID_PREFIX_MIN {
        wrong!("`{id}` is too short: name {ID_PREFIX_MIN} characters of the id at least");
    }
    let source = Source::open(&args.log, config, "bellwether-alerts")?;
    let registry = crate::app::registry(config);
    let mut decoder = Decoder::new(registry.as_ref(), config.engine.record_bytes_max)?;
    let (mut events, mut failed) = (Vec::new(), None);
    let mut looked_back = LookedBack::Whole;
    let topic: Topic = config.topics.alerts.as_str().into();
    for partition in 0..source.partitions(&topic)? {
        let mut oldest = None;
        let end = source.read(&topic, partition, &mut |record| {
            oldest.get_or_insert((record.offset, Millis(record.timestamp_ms)));
            match event_of(&record, None, id, &mut decoder) {
                Ok(event) => events.extend(event),
                Err(error) => {
                    failed = failed.take().or(Some((record.partition, record.offset, error)));
                }
            }
        })?;
        let now = Millis(now_ms());
        looked_back = looked_back.and(LookedBack::by_reading(0, oldest, end, now));
    }
    if let Some((partition, offset, error)) = failed {
        bail!("partition {partition}, offset {offset} names the alert and cannot be read: {error}");
    }
    // An account's records are in one partition, in their order.
    events.reverse();
    let Some(latest) = events.first() else {
        let back_to = looked_back.to().map_or_else(String::new, |time| {
            format!(
                ", which goes back to {} UTC: what was before is no longer kept",
                show::minute(time)
            )
        });
        let topic = &config.topics.alerts;
        eprintln!("error: there is no alert {} in {topic}{back_to}", show::plain(id));
        return Ok(ExitCode::from(crate::EXIT_WANTING));
    };
    if events.iter().any(|event| event.alert_id != latest.alert_id) {
        wrong!("several alerts begin with `{id}`: name more of the id");
    }
    let whole = AlertEvent::are_whole(&events);
    if json {
        let mut records: Vec<Value> = Vec::new();
        for event in events {
            let encoded = Encoder::json().encode(&Output::Alert(Box::new(event)));
            records.push(serde_json::from_slice(encoded.payload.as_deref().unwrap_or_default())?);
        }
        let mut answer = looked_back.members();
        answer.insert("alert".to_owned(), json!(records.first()));
        answer.insert("events".to_owned(), json!(records));
        answer.insert("omitted".to_owned(), json!(0));
        answer.insert("whole".to_owned(), json!(whole));
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(ExitCode::SUCCESS);
    }
    print!("{}", show::alert_life(&events));
    if !whole {
        println!("  ({})", without_beginning(&events, Some(looked_back)));
    }
    Ok(ExitCode::SUCCESS)
}

/// The event of a record of the alerts topic, where it is of an alert whose id begins like this (and of the account, where one is named).
///
/// # Errors
/// It holds the id and cannot be decoded, or the registry is away.
pub(crate) fn event_of(
    record: &Record,
    account: Option<&AccountId>,
    id: &str,
    decoder: &mut Decoder,
) -> Result<Option<AlertEvent>, DecodeError> {
    if account.is_some_and(|account| record.key.as_deref() != Some(account.as_str().as_bytes())) {
        return Ok(None);
    }
    // Ids are hexadecimal digits and stand so in JSON and in Avro: what does not hold one is of another alert, whether it can be read or not.
    let payload = record.payload.as_deref().unwrap_or_default();
    if !payload.windows(id.len().max(1)).any(|part| part == id.as_bytes()) {
        return Ok(None);
    }
    Ok(match decoder.output(OutputKind::Alert, record.payload.as_deref())? {
        Output::Alert(event) => Some(*event).filter(|event| event.alert_id.starts_with(id)),
        Output::ScoreChanged(_) | Output::Health(_) | Output::Shadow(_) | Output::Forgotten(_) => {
            None
        }
    })
}

/// Says something of an alert, through a server or into the topic.
fn say(
    said: &AlertSaidArgs,
    kind: &str,
    until: Option<Millis>,
    config: &Config,
    json: bool,
) -> Result<ExitCode> {
    if said.account.is_none() && said.said.place.url.is_none() {
        wrong!(
            "name the alert's account with --account, or with --url a running server, which knows it"
        );
    }
    let place = Place::open(&said.said.place, config)?;
    let (known, problem) = match place.ask(&path(&said.id))? {
        Ok(known) => (known, Value::Null),
        Err(problem) => (Value::Null, problem),
    };
    let (account, id) = match (known["alert"]["account_id"].as_str(), &said.account) {
        (Some(account), named) => {
            if let Some(named) = named.as_ref().filter(|named| *named != account) {
                wrong!("alert {} is of account {account}, and not of {named}", said.id);
            }
            (account.to_owned(), known["alert"]["alert_id"].as_str().unwrap_or(&said.id).to_owned())
        }
        (None, Some(account)) if is_whole(&said.id) => (account.clone(), said.id.clone()),
        (None, _) if said.said.place.url.is_some() => return Ok(unknown(&said.id, &problem)),
        (None, _) => wrong!(
            "`{}` is not the whole id of an alert, {ID_DIGITS} hexadecimal digits (`alerts show` prints it); its beginning is enough for a server only, named with --url",
            said.id
        ),
    };
    let record = json!({
        "account_id": account,
        "kind": kind,
        "occurred_at": Millis(now_ms()).iso(),
        "alert_id": id,
        "until": until.map(Millis::iso),
        "by": said.said.by,
        "note": said.said.note,
    });
    let (record, outcome) = outcome::checked(record, config)?;
    if said.said.place.url.is_none() && outcome.kind == OutcomeKind::Snoozed {
        // A server knows its policy; here it is that of the configuration.
        let rules = policies::load(config.policy.as_deref())?;
        if let Err(reject) = snoozed_until(&outcome, &rules.alerts) {
            wrong!("{}; if the workers have another policy, name it with --policy", reject.detail);
        }
    }
    if known.is_null() {
        outcome::append(&place, &record, &outcome, config)?;
    } else {
        // By this path the server says at once that the alert has ended.
        let path = format!("{}/outcomes", path(&id));
        place.append(&path, &config.topics.outcomes, &account, &record)?;
    }
    outcome::accepted(&record, &outcome, json)
}

/// Whether this is an id and not the beginning of one: in the topic nobody completes it.
fn is_whole(id: &str) -> bool {
    id.len() == ID_DIGITS && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn path(id: &str) -> String {
    format!("/v1/alerts/{}", percent_encode(id))
}

/// Says that a server has no alert, and how far back it looked.
fn unknown(id: &str, problem: &Value) -> ExitCode {
    let id = show::plain(id);
    let why = match LookedBack::of(problem).filter(|_| problem["type"] == "unknown-alert") {
        Some(LookedBack::Newest(since)) => format!(
            "the server knows no alert {id}: it looked back to {} UTC, and one that ended before then may still be found; {TOPIC}",
            show::minute(since)
        ),
        Some(LookedBack::Kept(since)) => format!(
            "the server knows no alert {id}: it looked through all that its log keeps, which goes back to {} UTC",
            show::minute(since)
        ),
        Some(LookedBack::Whole) => format!(
            "there never was an alert {id}: the server looked through all that its log ever had"
        ),
        None => format!("the server knows no alert {id}"),
    };
    eprintln!("error: {why}");
    ExitCode::from(crate::EXIT_WANTING)
}

/// Alert events as a server answers them.
fn events(list: &Value) -> Result<Vec<AlertEvent>> {
    let mut events = Vec::new();
    for record in list.as_array().into_iter().flatten() {
        let bytes = serde_json::to_vec(record)?;
        let mut decoder = Decoder::new(None, bytes.len().max(1))?;
        if let Output::Alert(event) = decoder.output(OutputKind::Alert, Some(&bytes))? {
            events.push(*event);
        }
    }
    Ok(events)
}
