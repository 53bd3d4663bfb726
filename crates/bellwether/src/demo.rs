//! `bellwether demo`: real history and a few stories through the whole engine, on the embedded log.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bellwether_core::event::{Event, Profile};
use bellwether_core::id::AccountId;
use bellwether_core::output::{AlertEvent, Band, HealthRecord, Output, Severity, Transition};
use bellwether_core::time::{DAY_MS, Day, Millis, Zone};
use bellwether_engine::clock::now_ms;
use bellwether_engine::embedded::{AppendError, Embedded, partition_of};
use bellwether_engine::log::Append;
use bellwether_engine::worker::Ticks;
use bellwether_wire::encode::Encoder;
use bellwether_wire::files;

use crate::app::{self, App};
use crate::cli::DemoArgs;
use crate::config::Config;
use crate::usage::wrong;
use crate::{policies, show, stories};

/// The commit log of a large open-source project; see NOTICE beside the file.
const HISTORY: &[u8] = include_bytes!("../demo/openstack_dev_events.csv.gz");
/// Events handed to the log at once.
const CHUNK: usize = 2_000;
/// How long one append may wait for the worker before it looks whether it should stop.
const PATIENCE: Duration = Duration::from_millis(200);
/// The story that is shown in full.
const SHOWN: &str = "story-slipping";

/// Runs the command.
pub(crate) fn run(
    args: &DemoArgs,
    config: &Config,
    data_dir: Option<&Path>,
    json: bool,
) -> Result<()> {
    let started = Instant::now();
    let last_day = last_day(args)?;
    let dir = Scratch::new(data_dir)?;
    let policy = policies::demo()?;
    let say = |text: &str| {
        if !json {
            println!("{text}");
        }
    };
    say(
        "Bellwether demo: 3.5 years of commits of 837 companies and individuals (OpenStack, real history, its dates moved",
    );
    say(&format!(
        "so that it ends on {last_day}), and eight story accounts. Everything runs in this process, in {}.\n",
        dir.path.display()
    ));
    let mut config = config.clone();
    config.data_dir.clone_from(&dir.path);
    if args.as_of.is_some() {
        // A demo of another time stays there.
        config.engine.ticks = Ticks::Off;
    }
    let app = App::embedded(&config, &dir.path, policy)?;
    app::stop_on_signals(&app.shared.stop)?;
    let fed = feed(&app, &config, last_day, started, json);
    let stopped = app.shared.stop.load(Ordering::Relaxed);
    if fed.is_err() || stopped {
        // A worker's own failure explains more than the feeder's.
        app.stop()?;
        return fed.map(|_| ());
    }
    let events = fed?;
    if json {
        print_json(&app, events, started)?;
    } else {
        print(&app, events, started)?;
    }
    let served = if args.serve {
        app::serve(&app, "Bellwether demo", &args.listen, &config, |address| {
            announce(address, json)
        })
    } else {
        Ok(())
    };
    app.stop().and(served)
}

fn announce(address: std::net::SocketAddr, json: bool) {
    if json {
        // Standard output is the result and nothing else.
        eprintln!("serving http://{address}/");
        return;
    }
    println!("\nServing until Ctrl-C:");
    println!("  http://{address}/                         accounts, alerts, explanations");
    println!("  http://{address}/accounts/{SHOWN}  one account in full");
    println!(
        "  http://{address}/v1/accounts              the same as JSON;  /v1/alerts, /metrics, /readyz"
    );
    println!("\nMove a score yourself (ten tickets in a row; watch the account's page):");
    println!("  for n in $(seq 10); do curl -s http://{address}/v1/events -d \\");
    println!(
        "    '{{\"event_id\":\"mine-'$n'\",\"account_id\":\"story-twin\",\"type\":\"ticket.opened\"}}'; done"
    );
    drop(std::io::stdout().flush());
}

fn last_day(args: &DemoArgs) -> Result<Day> {
    let Some(text) = &args.as_of else { return Ok(Zone::UTC.day(Millis(now_ms())).plus(-1)) };
    // A bare number would be milliseconds.
    let at = text.contains('-').then(|| Millis::parse(text)).flatten();
    let Some(at) = at else {
        wrong!("--as-of is `{text}`, allowed is a date, e.g. 2026-03-01");
    };
    let day = Zone::UTC.day(at);
    if day >= Zone::UTC.day(Millis(now_ms())) {
        wrong!("--as-of is {day}, allowed is a day that is over");
    }
    Ok(day)
}

/// The data directory: the one that was named, or one of its own that is removed at the end.
struct Scratch {
    path: PathBuf,
    own: bool,
}

impl Scratch {
    fn new(named: Option<&Path>) -> Result<Scratch> {
        if let Some(path) = named {
            if path.join("log").exists() {
                wrong!("{} holds data already; name an empty directory, or none", path.display());
            }
            return Ok(Scratch { path: path.to_owned(), own: false });
        }
        let path = std::env::temp_dir().join(format!("bellwether-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Scratch { path, own: true })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.own {
            // Left-overs in the temporary directory do no harm.
            drop(std::fs::remove_dir_all(&self.path));
        }
    }
}

/// History and stories, in order of time, as they would have come.
fn events(last_day: Day, dir: &Path) -> Result<(Vec<Profile>, Vec<Event>)> {
    let file = dir.join("history.csv.gz");
    std::fs::write(&file, HISTORY).with_context(|| file.display().to_string())?;
    let mut events = Vec::new();
    for event in files::open(&file)? {
        events.push(event?);
    }
    let newest =
        events.iter().map(|event| event.occurred_at).max().context("the history is empty")?;
    let shift_ms = i64::from(last_day.since(Zone::UTC.day(newest))) * DAY_MS;
    for event in &mut events {
        event.occurred_at = event.occurred_at.plus(shift_ms);
    }
    let mut profiles = Vec::new();
    for story in stories::all(last_day.plus(1)) {
        profiles.push(story.profile);
        events.extend(story.events);
    }
    events.sort_by(|left, right| {
        left.occurred_at.cmp(&right.occurred_at).then_with(|| left.id.cmp(&right.id))
    });
    Ok((profiles, events))
}

/// Feeds everything into the log and waits until the worker is through.
fn feed(app: &App, config: &Config, last_day: Day, started: Instant, quiet: bool) -> Result<usize> {
    let handle = app.handle.as_ref().context("the demo runs on the embedded log")?;
    let topic = config.topics.events.first().context("topics.events is empty")?;
    let (profiles, events) = events(last_day, &config.data_dir)?;
    let append = |account: &AccountId, topic: &str, payload: Vec<u8>| {
        let key = account.as_str().as_bytes().to_vec();
        let partition = partition_of(&key, i32::from(config.engine.embedded_partitions));
        let key = Some(key);
        Append {
            topic: topic.into(),
            partition,
            key,
            payload: Some(payload),
            headers: Vec::new(),
            timestamp_ms: Some(now_ms()),
        }
    };
    let records: Vec<Append> = profiles
        .iter()
        .map(|profile| append(&profile.account, &config.topics.profiles, profile_json(profile)))
        .collect();
    handle.append(&records, PATIENCE)?;
    let bar = show::progress(events.len() as u64, "replaying", quiet);
    let mut first = FirstAlert { started, shown: quiet };
    for chunk in events.chunks(CHUNK) {
        let records: Vec<Append> =
            chunk.iter().map(|event| append(&event.account, topic, event_json(event))).collect();
        loop {
            if app.shared.stop.load(Ordering::Relaxed) {
                return Ok(0);
            }
            match handle.append(&records, PATIENCE) {
                Ok(_) => break,
                Err(AppendError::Full { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bar.inc(chunk.len() as u64);
        first.look(app, &bar);
    }
    bar.set_message("closing days");
    // Topics are not ordered among each other: the end is told when everything before it is done.
    work_off(app, config, || first.look(app, &bar))?;
    end_of_history(app, handle, config, last_day)?;
    work_off(app, config, || first.look(app, &bar))?;
    bar.finish_and_clear();
    Ok(events.len())
}

/// Waits until the worker is through with everything that was appended, or has stopped.
fn work_off(app: &App, config: &Config, mut meanwhile: impl FnMut()) -> Result<()> {
    while app.backlog(config)? > 0 && !app.shared.stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
        meanwhile();
    }
    Ok(())
}

/// An event in the form of `schemas/usage-event.avsc`.
fn event_json(event: &Event) -> Vec<u8> {
    serde_json::json!({
        "event_id": event.id,
        "account_id": event.account,
        "type": event.kind,
        "occurred_at": event.occurred_at,
        "member_id": event.member,
        "member_role": event.role,
        "feature": event.feature,
        "segment": event.segment,
        "value": event.value,
    })
    .to_string()
    .into_bytes()
}

/// A profile in the form of `schemas/account-profile.avsc`.
fn profile_json(profile: &Profile) -> Vec<u8> {
    serde_json::json!({
        "account_id": profile.account,
        "as_of": profile.as_of,
        "name": profile.name,
        "segment": profile.segment,
        "plan": profile.plan,
        "started_on": profile.started_on.map(Day::iso),
    })
    .to_string()
    .into_bytes()
}

/// Time passes to the end of the last day, in every partition.
fn end_of_history(app: &App, handle: &Embedded, config: &Config, last_day: Day) -> Result<()> {
    let end = Zone::UTC.day_start(last_day.plus(1)).plus(app.core.policy().lateness_ms() + 1);
    let ticks: Vec<Append> = (0..i32::from(config.engine.embedded_partitions))
        .map(|partition| Append {
            topic: config.topics.ticks.as_str().into(),
            partition,
            key: None,
            payload: Some(format!("{{\"at\":{}}}", end.0).into_bytes()),
            headers: Vec::new(),
            timestamp_ms: Some(end.0),
        })
        .collect();
    handle.append(&ticks, PATIENCE)?;
    Ok(())
}

/// Shows the first corroborated alert as soon as it is there.
struct FirstAlert {
    started: Instant,
    shown: bool,
}

impl FirstAlert {
    fn look(&mut self, app: &App, bar: &indicatif::ProgressBar) {
        if self.shown {
            return;
        }
        let alerts = app.shared.read_model.recent_alerts();
        let urgent = |event: &&Arc<AlertEvent>| {
            event.severity >= Severity::High && event.transition != Transition::Resolved
        };
        if let Some(event) = alerts.iter().filter(urgent).min_by_key(|event| event.at) {
            self.shown = true;
            bar.suspend(|| {
                println!("first high alert after {:.1} s:", self.started.elapsed().as_secs_f64());
                println!("{}", show::alert(event));
            });
        }
    }
}

fn print(app: &App, events: usize, started: Instant) -> Result<()> {
    let model = &app.shared.read_model;
    println!("{events} events in {:.1} s.\n", started.elapsed().as_secs_f64());
    let counts = model.band_counts();
    let total: usize = counts.iter().map(|(_, count)| count).sum();
    let mut bands = show::table(&["band", "accounts", "share"]);
    for (band, count) in [Band::AtRisk, Band::Neutral, Band::Healthy]
        .iter()
        .filter_map(|band| counts.iter().find(|(counted, _)| counted == band))
    {
        let share = format!("{:.0} %", *count as f64 * 100.0 / total.max(1) as f64);
        bands.add_row(vec![
            show::band_cell(*band),
            comfy_table::Cell::new(count),
            comfy_table::Cell::new(share),
        ]);
    }
    println!("{bands}\n");
    println!("Stories, lowest score first:");
    println!("{}\n", show::accounts(&story_records(app)));
    println!("Latest alerts of companies and stories, highest priority first:");
    println!("{}\n", show::alert_table(&latest(app)));
    let shown = AccountId::new(SHOWN)?;
    let view = model.account(&shown).context("the story account has no record")?;
    println!("One account in full:");
    print!("{}", show::explanation(&view.record));
    for event in &view.open_alerts {
        print!("\n{}", show::alert(event));
    }
    println!("\nTry next:");
    println!(
        "  bellwether demo --serve              pages, API, metrics, and your own events by POST"
    );
    println!(
        "  bellwether policy show > my.toml     every tunable, documented; then --policy my.toml"
    );
    println!(
        "  bellwether run --embedded            the same for your own events: one binary, one directory"
    );
    println!("  bellwether run --bootstrap-servers …  on Kafka");
    Ok(())
}

fn story_records(app: &App) -> Vec<Arc<HealthRecord>> {
    let mut records = Vec::new();
    for story in stories::all(Day(20_000)) {
        records
            .extend(app.shared.read_model.account(&story.profile.account).map(|view| view.record));
    }
    records.sort_by_key(|record| record.score);
    records
}

/// Open alerts of the last four weeks of history: by priority, then the newest, as the read model lists them.
fn latest(app: &App) -> Vec<Arc<AlertEvent>> {
    let mut alerts = app.shared.read_model.open_alerts();
    alerts.retain(|event| !event.account_id.as_str().starts_with("i_"));
    let newest = alerts.iter().map(|event| event.at).max().unwrap_or_default();
    alerts.retain(|event| event.at >= newest.plus(-28 * DAY_MS));
    alerts.truncate(15);
    alerts
}

fn print_json(app: &App, events: usize, started: Instant) -> Result<()> {
    let model = &app.shared.read_model;
    let bands: serde_json::Map<String, serde_json::Value> = model
        .band_counts()
        .iter()
        .map(|(band, count)| (band.as_str().to_owned(), serde_json::Value::from(*count)))
        .collect();
    let shown =
        model.account(&AccountId::new(SHOWN)?).context("the story account has no record")?;
    let summary = serde_json::json!({
        "events": events,
        "seconds": started.elapsed().as_secs_f64(),
        "policy_version": app.core.policy().version(),
        "bands": bands,
        "stories": story_records(app).iter().map(|record| health_json(record)).collect::<Result<Vec<_>, _>>()?,
        "latest_alerts": latest(app).iter().map(|event| alert_json(event)).collect::<Result<Vec<_>, _>>()?,
        "account": {
            "record": health_json(&shown.record)?,
            "open_alerts": shown.open_alerts.iter().map(|event| alert_json(event)).collect::<Result<Vec<_>, _>>()?,
        },
    });
    println!("{}", serde_json::to_string_pretty(&summary)?);
    Ok(())
}

/// A record as the topics and the API have it.
fn health_json(record: &HealthRecord) -> Result<serde_json::Value, serde_json::Error> {
    output_json(&Output::Health(Box::new(record.clone())))
}

fn alert_json(event: &AlertEvent) -> Result<serde_json::Value, serde_json::Error> {
    output_json(&Output::Alert(Box::new(event.clone())))
}

fn output_json(output: &Output) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::from_slice(Encoder::json().encode(output).payload.as_deref().unwrap_or_default())
}
