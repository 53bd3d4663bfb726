//! `bellwether calendar`: on which days usage is not what it normally is, told and taken back.
//!
//! Entries are records like any other input: they have their place in the log, so a replay knows of each what was known then. Holidays
//! are no exception: a command tells them, and a newer table changes nothing that nobody told.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use bellwether_core::calendar::{Entry, HOLIDAY, Scope, Span, WORKING_DAY};
use bellwether_core::id::EventId;
use bellwether_core::publish::content_id;
use bellwether_core::time::{Day, Millis, Zone};
use bellwether_engine::clock::now_ms;
use bellwether_engine::log::Record;
use bellwether_wire::decode::{DecodeError, Decoder};
use serde_json::{Value, json};

use crate::cli::{CalendarAddArgs, CalendarCommand, CalendarHolidaysArgs, CalendarLsArgs};
use crate::config::Config;
use crate::explain::percent_encode;
use crate::holidays;
use crate::place::Place;
use crate::show;
use crate::usage::wrong;

const PATH: &str = "/v1/calendar";

type Entries = BTreeMap<EventId, Entry>;

/// Runs the command.
pub(crate) fn run(command: &CalendarCommand, config: &Config, json: bool) -> Result<ExitCode> {
    match command {
        CalendarCommand::Ls(args) => ls(args, config, json),
        CalendarCommand::Add(args) => add(args, config, json),
        CalendarCommand::Rm { ids, place } => {
            let place = Place::open(place, config)?;
            let known = known(&place, config)?;
            let missing = ids.iter().find(|id| !known.keys().any(|key| key.as_str() == **id));
            if let Some(id) = missing {
                eprintln!("error: there is no entry {}", show::plain(id));
                return Ok(ExitCode::from(crate::EXIT_WANTING));
            }
            for id in ids {
                remove(&place, id, config)?;
            }
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            said(json, &[], &ids, &format!("Removed: {}.", counted(ids.len())))
        }
        CalendarCommand::Holidays(args) => tell_holidays(args, config, json),
    }
}

/// The entries that are in force, from records in the order in which they came.
pub(crate) fn in_force(records: Vec<Record>, decoder: &mut Decoder) -> Result<Entries> {
    let mut entries = Entries::new();
    for record in records {
        match decoder.calendar(record.key.as_deref(), record.payload.as_deref()) {
            Ok((id, Some(entry))) => drop(entries.insert(id, entry)),
            Ok((id, None)) => drop(entries.remove(&id)),
            // A dead letter of the worker, too.
            Err(DecodeError::Reject(_)) => {}
            Err(error @ DecodeError::RegistryUnavailable(_)) => return Err(error.into()),
        }
    }
    Ok(entries)
}

/// An entry as a record (`schemas/calendar-entry.avsc`).
pub(crate) fn record(id: &EventId, entry: &Entry) -> Value {
    let (scope, key) = match &entry.scope {
        Scope::Account(account) => ("account", Some(account.as_str())),
        Scope::Region(region) => ("region", Some(region.as_str())),
        Scope::All => ("all", None),
    };
    json!({
        "entry_id": id.as_str(),
        "scope": scope,
        "key": key,
        "from": entry.span.from.iso(),
        "to": entry.span.to.iso(),
        "kind": entry.span.kind,
        "note": entry.span.note,
    })
}

fn known(place: &Place, config: &Config) -> Result<Entries> {
    let mut decoder =
        Decoder::new(crate::app::registry(config).as_ref(), config.engine.record_bytes_max)?;
    if let Some(answer) = place.get(PATH)? {
        let mut entries = Entries::new();
        for record in answer["entries"].as_array().into_iter().flatten() {
            if let (id, Some(entry)) = decoder.calendar(None, Some(&serde_json::to_vec(record)?))? {
                entries.insert(id, entry);
            }
        }
        return Ok(entries);
    }
    in_force(place.records(&config.topics.calendar)?, &mut decoder)
}

fn ls(args: &CalendarLsArgs, config: &Config, json: bool) -> Result<ExitCode> {
    let mut entries = known(&Place::open(&args.place, config)?, config)?;
    entries.retain(|_, entry| {
        let whom = match &entry.scope {
            Scope::Account(account) => args.account.as_deref() == Some(account.as_str()),
            Scope::Region(region) => args.region.as_deref() == Some(region),
            Scope::All => false,
        };
        (whom || args.account.is_none() && args.region.is_none())
            && args.kind.as_ref().is_none_or(|kind| entry.span.kind == *kind)
    });
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by_key(|(id, entry)| (entry.span.from, *id));
    if json {
        let records: Vec<Value> = sorted.iter().map(|(id, entry)| record(id, entry)).collect();
        println!("{}", serde_json::to_string_pretty(&json!({ "entries": records }))?);
        return Ok(ExitCode::SUCCESS);
    }
    if sorted.is_empty() {
        println!("There are no entries.");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = show::table(&["from", "to", "whom", "kind", "note", "id"]);
    for (id, entry) in sorted {
        let whom = match &entry.scope {
            Scope::Account(account) => format!("account {account}"),
            Scope::Region(region) => region.clone(),
            Scope::All => "all".to_owned(),
        };
        let span = &entry.span;
        let note = span.note.as_deref().unwrap_or_default();
        let row = [&span.from.iso(), &span.to.iso(), &whom, &span.kind, note, id.as_str()];
        table.add_row(row.map(show::plain));
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

/// A kind as the topic has it.
fn spelled(kind: &str) -> String {
    kind.replace('-', "_")
}

/// The id of an entry that was given none: said again, it is the same, however its kind is spelled.
fn entry_id(scope: &str, key: Option<&String>, (from, to): (&str, &str), kind: &str) -> String {
    content_id(&[scope, key.map_or("", String::as_str), from, to, &spelled(kind)])
}

fn add(args: &CalendarAddArgs, config: &Config, json: bool) -> Result<ExitCode> {
    let to = args.to.as_ref().unwrap_or(&args.from);
    if args.all && spelled(&args.kind) == WORKING_DAY {
        wrong!(
            "a working day takes its days out of the holidays of wider entries, and nothing is wider than --all: name a --region or an --account"
        );
    }
    let (scope, key) = match (&args.account, &args.region) {
        (Some(account), _) => ("account", Some(account)),
        (None, Some(region)) => ("region", Some(region)),
        (None, None) => ("all", None),
    };
    let record = json!({
        "entry_id": args.id.clone().unwrap_or_else(|| entry_id(scope, key, (&args.from, to), &args.kind)),
        "scope": scope,
        "key": key,
        "from": args.from,
        "to": to,
        "kind": spelled(&args.kind),
        "note": args.note,
    });
    let decoded = Decoder::new(None, config.engine.record_bytes_max)?
        .calendar(None, Some(&serde_json::to_vec(&record)?));
    let (id, entry) = match decoded {
        Ok((id, Some(entry))) => (id, entry),
        Ok((_, None)) => wrong!("an entry needs its days"),
        Err(DecodeError::Reject(reject)) => wrong!("{}", reject.detail),
        Err(error @ DecodeError::RegistryUnavailable(_)) => return Err(error.into()),
    };
    let place = Place::open(&args.place, config)?;
    append(&place, &id, &entry, config)?;
    said(json, &[self::record(&id, &entry)], &[], &format!("Added: {} as {id}.", entry.span))
}

/// What is to be told and taken back so that the holidays of regions and years are those of the table.
#[derive(Debug, Default, PartialEq)]
struct Changes {
    told: Entries,
    gone: Vec<EventId>,
}

/// The ids of what is told of a region and a year begin like this: of its holidays, and of those days of a country that its parts do not
/// keep. Each goes on with its day.
fn prefixes(region: &str, year: i32) -> Vec<String> {
    let not_kept = holidays::parts(region).into_iter().map(|part| (WORKING_DAY, part));
    let all = std::iter::once((HOLIDAY, region)).chain(not_kept);
    all.map(|(kind, region)| format!("{kind}:{region}:{year}-")).collect()
}

/// A day of a region, as an entry.
fn day_of(region: &str, day: Day, kind: &str, note: String) -> Result<(EventId, Entry)> {
    let id = EventId::new(&format!("{kind}:{region}:{}", day.iso()))?;
    let span = Span { from: day, to: day, kind: kind.to_owned(), note: Some(note) };
    Ok((id, Entry { scope: Scope::Region(region.to_owned()), span }))
}

/// The holidays of a region in a year, as entries; of a country with the days on which they are none in its parts.
fn entries_of(region: &str, year: i32) -> Result<Entries> {
    let mut entries = Entries::new();
    for (day, name) in holidays::of(region, year)? {
        entries.extend([day_of(region, day, HOLIDAY, name)?]);
    }
    for (part, days) in holidays::lacking(region, year)? {
        for (day, name) in days {
            entries.extend([day_of(&part, day, WORKING_DAY, format!("not {name}"))?]);
        }
    }
    Ok(entries)
}

fn changes(wanted: &Entries, prefixes: &[String], known: &Entries) -> Changes {
    let told = wanted.iter().filter(|(id, entry)| known.get(*id) != Some(*entry));
    let of_table = |id: &&EventId| prefixes.iter().any(|prefix| id.as_str().starts_with(prefix));
    let gone = known.keys().filter(of_table).filter(|id| !wanted.contains_key(*id));
    Changes {
        told: told.map(|(id, entry)| (id.clone(), entry.clone())).collect(),
        gone: gone.cloned().collect(),
    }
}

fn tell_holidays(args: &CalendarHolidaysArgs, config: &Config, json: bool) -> Result<ExitCode> {
    let years = match args.years.as_slice() {
        [] => {
            let now = year(Zone::UTC.day(Millis(now_ms())))?;
            vec![now, now + 1]
        }
        years => years.to_vec(),
    };
    let (mut wanted, mut of_table) = (Entries::new(), Vec::new());
    for region in &args.regions {
        for &year in &years {
            wanted.extend(entries_of(region, year)?);
            of_table.extend(prefixes(region, year));
        }
    }
    if args.dry_run {
        return printed(&wanted, json);
    }
    let place = Place::open(&args.place, config)?;
    let changes = changes(&wanted, &of_table, &known(&place, config)?);
    for (id, entry) in &changes.told {
        append(&place, id, entry, config)?;
    }
    for id in &changes.gone {
        remove(&place, id.as_str(), config)?;
    }
    let told: Vec<Value> = changes.told.iter().map(|(id, entry)| record(id, entry)).collect();
    let gone: Vec<&str> = changes.gone.iter().map(EventId::as_str).collect();
    let as_before = wanted.len() - told.len();
    let words = format!(
        "{} told, {} removed, {as_before} as before, from {}.",
        told.len(),
        gone.len(),
        holidays::SOURCE
    );
    said(json, &told, &gone, &words)
}

fn year(day: Day) -> Result<i32> {
    Ok(day.iso().split('-').next().unwrap_or_default().parse()?)
}

/// Prints what would be told.
fn printed(wanted: &Entries, json: bool) -> Result<ExitCode> {
    if json {
        let records: Vec<Value> = wanted.iter().map(|(id, entry)| record(id, entry)).collect();
        println!("{}", serde_json::to_string_pretty(&json!({ "entries": records }))?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = show::table(&["day", "region", "kind", "holiday"]);
    for entry in wanted.values() {
        let Scope::Region(region) = &entry.scope else { continue };
        let name = entry.span.note.as_deref().unwrap_or_default();
        table.add_row([&entry.span.from.iso(), region.as_str(), &entry.span.kind, name]);
    }
    println!("{table}\n{} days, from {}.", wanted.len(), holidays::SOURCE);
    Ok(ExitCode::SUCCESS)
}

fn append(place: &Place, id: &EventId, entry: &Entry, config: &Config) -> Result<()> {
    place.append(PATH, &config.topics.calendar, id.as_str(), &record(id, entry))
}

fn remove(place: &Place, id: &str, config: &Config) -> Result<()> {
    place.remove(&format!("{PATH}/{}", percent_encode(id)), &config.topics.calendar, id)
}

fn counted(entries: usize) -> String {
    if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") }
}

/// Says what was done.
fn said(json: bool, told: &[Value], gone: &[&str], words: &str) -> Result<ExitCode> {
    if json {
        println!("{}", serde_json::to_string_pretty(&json!({ "told": told, "removed": gone }))?);
    } else {
        println!("{}", show::plain(words));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_said_again_is_the_same_however_its_kind_is_spelled() {
        let of = |kind: &str| entry_id("all", None, ("2027-01-01", "2027-01-02"), kind);
        assert_eq!(of("known-outage"), of("known_outage"));
        assert_ne!(of("known-outage"), of("holiday"));
    }

    #[test]
    fn holidays_that_are_known_are_not_told_again_and_those_that_are_none_go() {
        let wanted = entries_of("DE", 2027).expect("holidays");
        let prefixes = prefixes("DE", 2027);
        let first = changes(&wanted, &prefixes, &Entries::new());
        assert_eq!((first.told.len(), first.gone.len()), (wanted.len(), 0));
        assert_eq!(changes(&wanted, &prefixes, &wanted), Changes::default());

        let mut known = wanted.clone();
        let other = |id: &str, day: i32| {
            let span = Span { from: Day(day), to: Day(day), kind: HOLIDAY.into(), note: None };
            (EventId::new(id).expect("an id"), Entry { scope: Scope::Region("DE".into()), span })
        };
        // A day that the table no longer has, one of another year, one of a part of the country, and one that a person told.
        let (gone, entry) = other("holiday:DE:2027-07-14", 21_013);
        known.insert(gone.clone(), entry);
        for id in ["holiday:DE:2026-07-14", "holiday:DE-BY:2027-07-14", "ours"] {
            known.extend([other(id, 21_013)]);
        }
        let renamed = known.values_mut().find(|entry| entry.span.note.is_some()).expect("one");
        renamed.span.note = Some("another name".into());
        let found = changes(&wanted, &prefixes, &known);
        assert_eq!(found.gone, [gone]);
        assert_eq!(found.told.len(), 1, "{:?}", found.told);
    }

    #[test]
    fn a_country_is_told_with_the_days_that_its_parts_do_not_keep() {
        let wanted = entries_of("US", 2027).expect("holidays");
        let find = |id: &str| wanted.get(&EventId::new(id).expect("an id"));
        let columbus = find("holiday:US:2027-10-11").expect("of the country");
        assert_eq!(columbus.span.kind, HOLIDAY);
        let not_here = find("working_day:US-CA:2027-10-11").expect("not of California");
        assert_eq!(not_here.scope, Scope::Region("US-CA".to_owned()));
        assert_eq!(
            (not_here.span.kind.as_str(), not_here.span.from),
            (WORKING_DAY, columbus.span.from)
        );
        assert_eq!(not_here.span.note.as_deref(), Some("not Columbus Day"));
        assert!(find("working_day:US-NY:2027-10-11").is_none(), "New York keeps it");
        // What the table no longer lacks goes, whatever part it is of; what a part was told itself does not.
        let mut known = wanted.clone();
        let (gone, entry) =
            day_of("US-NY", columbus.span.from, WORKING_DAY, String::new()).expect("an entry");
        known.insert(gone.clone(), entry);
        known.extend(entries_of("US-NY", 2027).expect("holidays"));
        let found = changes(&wanted, &prefixes("US", 2027), &known);
        assert_eq!((found.told.len(), found.gone), (0, vec![gone]));
    }
}
