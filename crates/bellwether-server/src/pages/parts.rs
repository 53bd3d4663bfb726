//! Small pieces of pages, and how numbers, times and names are written.

use std::fmt::Write as _;

use bellwether_core::figure::figure;
use bellwether_core::id::AccountId;
use bellwether_core::output::{
    AlertEvent, AlertState, Band, Evidence, HealthRecord, Severity, Transition,
};
use bellwether_core::points::Points;
use bellwether_core::time::Millis;
use maud::{Markup, html};

/// A band as a pill.
pub(super) fn band(band: Band) -> Markup {
    html! { span class={ "pill " (band.as_str()) } { (band.title()) } }
}

/// A severity as a badge.
pub(super) fn severity(severity: Severity) -> Markup {
    html! { span class={ "badge " (severity.as_str()) } { (words(severity.as_str())) } }
}

/// The name to show for an account: its own, or its identifier.
pub(super) fn name(record: &HealthRecord) -> &str {
    record.name.as_deref().unwrap_or(record.account_id.as_str())
}

/// The page of an account.
pub(super) fn account_path(id: &AccountId) -> String {
    let mut path = "/accounts/".to_owned();
    for byte in id.as_str().bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                path.push(char::from(byte));
            }
            // Writing to a string cannot fail.
            _ => drop(write!(path, "%{byte:02X}")),
        }
    }
    path
}

/// A name of the machine as words: `seats_used` is `Seats used`.
pub(super) fn words(name: &str) -> String {
    let spaced = name.replace(['_', '.'], " ");
    let mut letters = spaced.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A measured number: grouped, with no more digits than a person reads.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let magnitude = value.abs();
    // Hundredths from 1 to 10; below that as sentences have it.
    let text = if magnitude >= 100.0 {
        format!("{magnitude:.0}")
    } else if magnitude >= 10.0 {
        format!("{magnitude:.1}")
    } else if magnitude >= 1.0 {
        format!("{magnitude:.2}")
    } else {
        figure(magnitude)
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign =
        if value < 0.0 && text.bytes().any(|b| matches!(b, b'1'..=b'9')) { "−" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{grouped}{point}{fraction}")
}

/// Points with their sign, e.g. `+3.50`.
pub(super) fn signed(points: Points) -> String {
    let sign = match points.0 {
        ..0 => "−",
        0 => "",
        1.. => "+",
    };
    format!("{sign}{}", points.abs())
}

/// An instant as people read it, in UTC, e.g. `2026-03-01 09:30`.
pub(super) fn time(at: Millis) -> Markup {
    let iso = at.iso();
    let (date, clock) = iso.split_once('T').unwrap_or((&iso, ""));
    let clock = clock.get(..5).unwrap_or(clock);
    html! { time datetime=(iso) title={ (iso) " (UTC)" } { (date) " " (clock) } }
}

/// The day of an instant, in UTC.
pub(super) fn date(at: Millis) -> Markup {
    let iso = at.iso();
    html! { time datetime=(iso) title={ (iso) " (UTC)" } { (iso.get(..10).unwrap_or(&iso)) } }
}

/// An alert event with what speaks for it: at most `reasons_max` sentences, strongest first. Each fact stands there once: of the title what is
/// not among these.
pub(super) fn alert(event: &AlertEvent, with_account: bool, reasons_max: usize) -> Markup {
    let hidden = event.evidence.len().saturating_sub(reasons_max);
    let beside = event.headline().beside();
    let resolved = event.resolution.map(|resolution| words(resolution.as_str()));
    html! {
        article class={ "alert " (event.severity.as_str()) } {
            header {
                (severity(event.severity))
                h3 { (words(&event.kind)) }
            }
            p.meta {
                @if event.is_fleet() {
                    span { (event.account_name.as_deref().unwrap_or(event.account_id.as_str())) }
                } @else if with_account {
                    a href=(account_path(&event.account_id)) {
                        (event.account_name.as_deref().unwrap_or(event.account_id.as_str()))
                    }
                }
                span {
                    (words(event.transition.as_str()))
                    @if let Some(resolved) = resolved { " (" (resolved.to_lowercase()) ")" }
                    " " (time(event.at))
                }
                @if let Some(by) = &event.by { span { "by " (by) } }
                @if let Some(until) = event.until { span { "quiet until " (time(until)) } }
                @if event.state == AlertState::Acknowledged && event.transition != Transition::Acknowledged {
                    span { "acknowledged" }
                }
                @if event.priority > 0 { span title=(priority(event)) { "priority " (event.priority) } }
                @if event.groups.len() > 1 {
                    span { (event.groups.len()) " independent groups agree" }
                }
            }
            @if !beside.is_empty() { p.beside { (beside) } }
            @if let Some(note) = &event.note { p.quiet { "“" (note) "”" } }
            @if !event.evidence.is_empty() {
                ul.reasons {
                    @for evidence in event.evidence.iter().take(reasons_max) {
                        li class=[tone(evidence)] { (evidence.text) }
                    }
                    @if hidden > 0 { li.more { "and " (hidden) " more" } }
                }
            }
        }
    }
}

/// What a priority is made of, e.g. `severity high 55, renews in 12 days, on 2026-03-01 14`.
fn priority(event: &AlertEvent) -> String {
    let parts = event.priority_parts.iter().map(|part| format!("{} {:+}", part.text, part.points));
    parts.collect::<Vec<_>>().join("; ")
}

/// A count with its noun, e.g. `1 open alert`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Good news is marked as such; everything else counts against the account.
pub(super) fn tone(evidence: &Evidence) -> Option<&'static str> {
    (!evidence.risk).then_some("good")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (value, text) in [
            (0.0, "0"),
            (-0.001, "−0.001"),
            (0.0042, "0.0042"),
            (-0.000_000_1, "0"),
            (0.25, "0.25"),
            (8.0, "8"),
            (45.26, "45.3"),
            (450.4, "450"),
            (-1234.0, "−1,234"),
            (1_234_567.0, "1,234,567"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!((signed(Points(-350)), signed(Points(5))), ("−3.50".into(), "+0.05".into()));
    }

    #[test]
    fn any_identifier_fits_into_a_path() {
        let id = AccountId::new("a b/c?d#e%f\"<ü>").expect("a valid id");
        assert_eq!(account_path(&id), "/accounts/a%20b%2Fc%3Fd%23e%25f%22%3C%C3%BC%3E");
    }
}
