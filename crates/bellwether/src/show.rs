//! What the commands print: progress bars, tables that fit the terminal, and an account's explanation.

use std::time::Duration;

use bellwether_core::output::{AlertEvent, Band, HealthRecord, Severity, Transition};
use bellwether_core::time::{DAY_MS, Millis};
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar; hidden where it would disturb a program that reads the output.
pub(crate) fn progress(total: u64, what: &str, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {percent:>3} % ({eta} left)")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    bar.set_style(style);
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// An empty table that fits the terminal.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(110);
    }
    table.set_header(header.iter().map(Cell::new));
    table
}

pub(crate) fn band_cell(band: Band) -> Cell {
    let colour = match band {
        Band::AtRisk => Color::Red,
        Band::Neutral => Color::Yellow,
        Band::Healthy => Color::Green,
    };
    Cell::new(band.title()).fg(colour)
}

fn severity_cell(severity: Severity) -> Cell {
    let colour = match severity {
        Severity::Critical | Severity::High => Color::Red,
        Severity::Medium => Color::Yellow,
        Severity::Low | Severity::Info => Color::Grey,
    };
    Cell::new(severity.as_str()).fg(colour)
}

fn number(value: impl ToString) -> Cell {
    Cell::new(value).set_alignment(CellAlignment::Right)
}

/// Makes text from events safe for a terminal: no control sequences.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn title(record: &HealthRecord) -> String {
    plain(record.name.as_deref().unwrap_or(record.account_id.as_str()))
}

/// Accounts, one a row.
pub(crate) fn accounts(records: &[std::sync::Arc<HealthRecord>]) -> Table {
    let mut table = table(&["score", "band", "account", "what moves it most"]);
    for record in records {
        let mut lines: Vec<_> = record
            .contributions
            .iter()
            .filter(|line| line.name != "base" && line.points.0 < 0)
            .collect();
        lines.sort_by_key(|line| line.points);
        let worst: Vec<String> = lines
            .iter()
            .take(3)
            .map(|line| format!("{} {}", line.name.replace('_', " "), line.points))
            .collect();
        table.add_row(vec![
            number(record.score),
            band_cell(record.band),
            Cell::new(title(record)),
            Cell::new(worst.join(", ")),
        ]);
    }
    table
}

/// An alert with its evidence.
pub(crate) fn alert(event: &AlertEvent) -> String {
    let name = plain(event.account_name.as_deref().unwrap_or(event.account_id.as_str()));
    let mut text = format!(
        "{} {} {} {} ({}), score {}\n",
        event.at.iso().get(..10).unwrap_or(""),
        event.severity.as_str().to_uppercase(),
        event.kind,
        name,
        transition(event),
        event.score
    );
    for item in &event.evidence {
        text.push_str(&format!("    - {}\n", plain(&item.text)));
    }
    text
}

fn transition(event: &AlertEvent) -> String {
    let days = (event.at.0 - event.opened_at.0) / DAY_MS;
    let by = event.by.as_deref().map_or_else(String::new, |by| format!(" by {}", plain(by)));
    match (event.transition, event.resolution) {
        (Transition::Opened, _) => "opened".to_owned(),
        (Transition::Resolved, Some(resolution)) => {
            format!("resolved{by}: {}", resolution.as_str())
        }
        (other, _) => format!("{}{by}, open for {days} days", other.as_str()),
    }
}

/// Alerts by their latest event, one a row. The beginning of an id is enough to name it.
pub(crate) fn alerts(events: &[AlertEvent]) -> Table {
    let mut table =
        table(&["alert", "state", "severity", "prio", "kind", "account", "since", "what changed"]);
    for event in events {
        let name = event.account_name.as_deref().unwrap_or(event.account_id.as_str());
        let what = event.title.split_once(": ").map_or(event.title.as_str(), |(_, what)| what);
        table.add_row(vec![
            Cell::new(plain(&event.alert_id).chars().take(8).collect::<String>()),
            Cell::new(event.state.as_str()),
            severity_cell(event.severity),
            number(event.priority),
            Cell::new(plain(&event.kind.replace('_', " "))),
            Cell::new(plain(name)),
            Cell::new(event.opened_at.iso().get(..10).unwrap_or("")),
            Cell::new(plain(what)),
        ]);
    }
    table
}

/// An alert from its recent events, latest first: what speaks for it, how pressing it is, and what happened to it.
pub(crate) fn alert_life(events: &[AlertEvent]) -> String {
    let Some(latest) = events.first() else { return String::new() };
    let mut text = alert(latest);
    let state = latest.state.as_str();
    let until = latest.until.map_or_else(String::new, |until| format!(" until {}", minute(until)));
    text.push_str(&format!("  state: {state}{until}; alert {}\n", plain(&latest.alert_id)));
    let parts: Vec<String> = latest
        .priority_parts
        .iter()
        .map(|part| format!("{} {:+}", plain(&part.text), part.points))
        .collect();
    text.push_str(&format!("  priority: {} ({})\n", latest.priority, parts.join("; ")));
    for event in events.iter().rev() {
        let note =
            event.note.as_deref().map_or_else(String::new, |note| format!(": {}", plain(note)));
        text.push_str(&format!("  {} UTC  {}{note}\n", minute(event.at), transition(event)));
    }
    text
}

/// An instant to the minute, e.g. `2026-03-01 09:30`.
pub(crate) fn minute(at: Millis) -> String {
    at.iso().get(..16).unwrap_or_default().replace('T', " ")
}

/// The alerts that a person would see first, one a row.
pub(crate) fn alert_table(events: &[std::sync::Arc<AlertEvent>]) -> Table {
    let mut table = table(&["day", "severity", "prio", "kind", "account", "what changed"]);
    for event in events {
        let name = event.account_name.as_deref().unwrap_or(event.account_id.as_str());
        let what = event.title.split_once(": ").map_or(event.title.as_str(), |(_, what)| what);
        table.add_row(vec![
            Cell::new(event.at.iso().get(..10).unwrap_or("")),
            severity_cell(event.severity),
            number(event.priority),
            Cell::new(event.kind.replace('_', " ")),
            Cell::new(plain(name)),
            Cell::new(plain(what)),
        ]);
    }
    table
}

/// The explanation of a score: every line, and their sum.
pub(crate) fn explanation(record: &HealthRecord) -> String {
    let mut lines = table(&["points", "line", "category", "observed", "normal", "unit"]);
    let figure =
        |value: Option<f64>| number(value.map_or(String::new(), bellwether_core::figure::figure));
    let mut sum = bellwether_core::points::Points::ZERO;
    for line in &record.contributions {
        sum += line.points;
        lines.add_row(vec![
            number(line.points),
            Cell::new(line.name.replace('_', " ")),
            Cell::new(line.category.map_or("", |category| category.as_str())),
            figure(line.observed),
            figure(line.baseline),
            Cell::new(&line.unit),
        ]);
    }
    lines.add_row(vec![number(sum), Cell::new("= score"), Cell::new(record.band.title())]);
    let subs: Vec<String> = record
        .sub_scores
        .iter()
        .map(|sub| format!("{} {}", sub.category.as_str(), sub.score))
        .collect();
    let mut text = format!(
        "{} ({}): score {}, {}, {}, as of {}\n{lines}\nsub-scores: {}\n",
        title(record),
        plain(record.account_id.as_str()),
        record.score,
        record.band.title(),
        record.maturity.as_str(),
        record.at,
        subs.join(", ")
    );
    for item in &record.evidence {
        let side = if item.risk { "risk" } else { "good" };
        text.push_str(&format!(
            "  {side}: {} ({} group, {:+.1} sigma)\n",
            plain(&item.text),
            item.group,
            item.z
        ));
    }
    for new in &record.rebaselined {
        text.push_str(&format!("  new normal: {}\n", plain(&new.to_string())));
    }
    for span in &record.masked {
        text.push_str(&format!("  not measured: {}\n", plain(&span.to_string())));
    }
    text
}
