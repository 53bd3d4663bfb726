//! Small drawings as inline SVG. Sizes stand in attributes, so the pages need no inline styles.

use bellwether_core::output::{Band, HealthRecord, ScoreChanged};
use bellwether_core::points::Points;
use maud::{Markup, html};

/// The smallest range of scores that a sparkline spans, in points: a flat line should look flat.
const SPARK_SPAN_MIN: f64 = 20.0;

/// The course of a score over its recent changes, oldest first, placed by time.
pub(super) fn sparkline<'a>(
    record: &HealthRecord,
    changes: impl Iterator<Item = &'a ScoreChanged>,
    width: f64,
    height: f64,
) -> Markup {
    let mut course: Vec<(f64, f64)> =
        changes.map(|change| (change.at.0 as f64, change.score.as_f64())).collect();
    course.push((record.at.0 as f64, record.score.as_f64()));
    let times = course.iter().map(|(at, _)| *at);
    let scores = course.iter().map(|(_, score)| *score);
    let (begin, end) = (times.clone().fold(f64::MAX, f64::min), times.fold(f64::MIN, f64::max));
    let (low, high) = (scores.clone().fold(f64::MAX, f64::min), scores.fold(f64::MIN, f64::max));
    let padding = ((SPARK_SPAN_MIN - (high - low)) / 2.0).max(0.0);
    let (low, high) = (low - padding, high + padding);
    // A margin of 3 keeps the stroke and the dot inside.
    let x = |at: f64| {
        let share = if end > begin { (at - begin) / (end - begin) } else { 1.0 };
        3.0 + share * (width - 6.0)
    };
    let y = |score: f64| 3.0 + (high - score) / (high - low) * (height - 6.0);
    let points: Vec<String> =
        course.iter().map(|(at, score)| format!("{:.1},{:.1}", x(*at), y(*score))).collect();
    let newest = record.score.as_f64();
    html! {
        svg class={ "spark " (record.band.as_str()) } width=(width) height=(height)
            viewBox={ "0 0 " (width) " " (height) } role="img"
            aria-label={ "score over the last " (course.len()) " records, now " (record.score) } {
            @if course.len() > 1 { polyline points=(points.join(" ")) {} }
            circle cx=(format!("{:.1}", x(end))) cy=(format!("{:.1}", y(newest))) r="2.6" {}
        }
    }
}

/// The score as a ring that fills with it.
pub(super) fn ring(score: Points, band: Band) -> Markup {
    let circumference = 2.0 * std::f64::consts::PI * 52.0;
    let filled = circumference * share(score);
    html! {
        svg class={ "ring " (band.as_str()) } viewBox="0 0 120 120" width="148" height="148"
            role="img" aria-label={ "score " (score) " of 100" } {
            circle.track cx="60" cy="60" r="52" {}
            circle.value cx="60" cy="60" r="52" transform="rotate(-90 60 60)"
                stroke-dasharray=(format!("{filled:.1} {circumference:.1}")) {}
            text.big x="60" y="64" { (format!("{:.0}", score.as_f64())) }
            text.small x="60" y="84" { "of 100" }
        }
    }
}

/// A score as a bar.
pub(super) fn bar(score: Points) -> Markup {
    let level = match score.0 {
        ..4_000 => "at_risk",
        4_000..7_000 => "neutral",
        7_000.. => "healthy",
    };
    html! {
        svg class={ "bar " (level) } width="100%" height="8" aria-hidden="true" {
            rect.track width="100%" height="8" rx="4" {}
            rect.value width=(format!("{:.1}%", share(score) * 100.0)) height="8" rx="4" {}
        }
    }
}

/// How the accounts divide into bands, as one bar.
pub(super) fn bands(counts: [(Band, usize); 3]) -> Markup {
    let total = counts.iter().map(|(_, count)| count).sum::<usize>().max(1) as f64;
    let mut before = 0;
    let parts = counts.map(|(band, count)| {
        let begin = before as f64 / total * 100.0;
        before += count;
        (band, begin, count as f64 / total * 100.0)
    });
    html! {
        svg.bands width="100%" height="10" aria-hidden="true" {
            @for (band, begin, width) in parts {
                rect class=(band.as_str()) x=(format!("{begin:.2}%")) height="10"
                    width=(format!("{width:.2}%")) {}
            }
        }
    }
}

fn share(score: Points) -> f64 {
    (score.as_f64() / 100.0).clamp(0.0, 1.0)
}
