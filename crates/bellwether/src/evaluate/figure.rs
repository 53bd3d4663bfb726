//! Timelines of accounts as SVG. The palette is Okabe and Ito's, which colour-blind people can tell apart; nothing is told by colour
//! alone. All text goes through `maud`, which escapes it.

use bellwether_core::output::{ExpectedDay, Severity, SignalDay};
use bellwether_core::stats::count_range;
use bellwether_core::time::{DAY_MS, Day};
use maud::{Markup, html};

use super::timeline::{Flag, Shown, Timeline};

pub(crate) const BLUE: &str = "#0072b2";
const PALE_BLUE: &str = "#d3e5f1";
pub(crate) const VERMILLION: &str = "#d55e00";
const GREEN: &str = "#009e73";
const ORANGE: &str = "#b97400";
pub(crate) const INK: &str = "#222";
pub(crate) const GREY: &str = "#767676";
/// Around words, so that no line crosses them.
pub(crate) const PAPER: &str = "#fffffc";
pub(crate) const FONT: &str =
    "'Gill Sans', 'Gill Sans MT', 'Liberation Sans', 'Helvetica Neue', Arial, sans-serif";

pub(crate) const WIDTH: f64 = 960.0;
const LEFT: f64 = 168.0;
const RIGHT: f64 = 14.0;
const PANEL: f64 = 74.0;
const STRIP: f64 = 16.0;
const GAP: f64 = 20.0;
const FLAG_ROW: f64 = 15.0;
const SCORE: f64 = 84.0;
/// Within so many standard deviations lie 95 in 100 weeks.
const WITHIN_Z: f64 = 1.96;

/// Days on the horizontal axis.
#[derive(Clone, Copy)]
struct Days {
    from: Day,
    until: Day,
}

impl Days {
    /// The middle of a day.
    fn x(self, day: Day) -> f64 {
        self.at(f64::from(day.since(self.from)) + 0.5)
    }

    fn at(self, days: f64) -> f64 {
        let all = f64::from(self.until.since(self.from).max(1)) + 1.0;
        LEFT + (WIDTH - LEFT - RIGHT) * days / all
    }

    fn holds(self, day: Day) -> bool {
        (self.from..=self.until).contains(&day)
    }
}

/// A number of the picture: a tenth of a pixel is enough.
pub(crate) fn px(value: f64) -> String {
    format!("{value:.1}")
}

fn day_of(flag: &Flag) -> Day {
    Day((flag.at.0.div_euclid(DAY_MS)).try_into().unwrap_or(i32::MAX))
}

/// The timeline of an account, as a file of its own.
pub(crate) fn timeline(timeline: &Timeline) -> Markup {
    let (Some((first, _)), Some((last, _))) = (timeline.days.first(), timeline.days.last()) else {
        return html! {
            svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 30" font-family=(FONT) font-size="13" {
                text x="0" y="20" { (timeline.subject.account) ": no day of it was closed" }
            }
        };
    };
    let days = Days { from: *first, until: *last };
    let flags: Vec<&Flag> =
        timeline.alerts.iter().filter(|flag| days.holds(day_of(flag))).collect();
    let labels = labels(&flags, timeline, days);
    let rows = labels.iter().map(|label| label.row + 1).max().unwrap_or(0);
    let fleet: Vec<f64> =
        flags.iter().filter(|flag| flag.is_fleet).map(|flag| days.x(day_of(flag))).collect();
    let fleet_y = 6.0 + rows as f64 * FLAG_ROW;
    let top = fleet_y + if fleet.is_empty() { 8.0 } else { 8.0 + FLAG_ROW };
    let mut y = top;
    let mut panels = Vec::new();
    for (index, signal) in timeline.signals.iter().enumerate() {
        let drawn = if signal.is_presence {
            strip(timeline, index, days, y)
        } else {
            panel(timeline, index, days, &flags, y)
        };
        panels.push(drawn);
        y += if signal.is_presence { STRIP } else { PANEL } + GAP;
    }
    panels.push(score(timeline, days, y));
    let bottom = y + SCORE;
    let height = bottom + 24.0;
    let name = format!("{}: {}", timeline.subject.account, timeline.subject.caption);
    html! {
        svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label=(name) viewBox={ "0 0 " (WIDTH) " " (px(height)) }
            font-family=(FONT) font-size="11.5" fill=(INK) {
            (months(days, top, bottom))
            (fleet_alerts(&fleet, fleet_y))
            @for label in &labels { (label.draw(bottom)) }
            @for panel in &panels { (panel) }
        }
    }
}

/// A line through all panels with words at its top.
struct Label {
    x: f64,
    row: usize,
    words: String,
    colour: &'static str,
    severity: Option<Severity>,
}

fn labels(flags: &[&Flag], timeline: &Timeline, days: Days) -> Vec<Label> {
    let mut labels: Vec<Label> = flags
        .iter()
        .filter(|flag| !flag.is_fleet)
        .map(|flag| Label {
            x: days.x(day_of(flag)),
            row: 0,
            words: format!("{} {}", flag.severity.as_str(), flag.kind.replace('_', " ")),
            colour: colour(flag.severity),
            severity: Some(flag.severity),
        })
        .collect();
    if let Some((day, words)) = timeline.subject.outcome.filter(|(day, _)| days.holds(*day)) {
        let (x, words) = (days.x(day), format!("{words}, {}", day.iso()));
        labels.push(Label { x, row: 0, words, colour: "#000", severity: None });
    }
    labels.sort_by(|left, right| left.x.total_cmp(&right.x));
    let mut ends: Vec<f64> = Vec::new();
    for label in &mut labels {
        let (begin, end) = label.reach();
        let free = ends.iter().position(|&taken| taken < begin);
        label.row = free.unwrap_or(ends.len());
        match ends.get_mut(label.row) {
            Some(taken) => *taken = end,
            None => ends.push(end),
        }
    }
    labels
}

/// Alerts about the whole cohort, which are not the account's own.
fn fleet_alerts(at: &[f64], y: f64) -> Markup {
    html! {
        @if !at.is_empty() {
            text x=(LEFT - 6.0) y=(px(y + 9.0)) text-anchor="end" fill=(GREY) { "alerts of the fleet" }
        }
        @for x in at {
            path d={ "M" (px(*x)) "," (px(y + 1.0)) "l4,4l-4,4l-4,-4z" } fill="#fff" stroke=(VERMILLION) {}
        }
    }
}

fn colour(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => VERMILLION,
        Severity::Medium => ORANGE,
        Severity::Low | Severity::Info => GREY,
    }
}

impl Label {
    /// Words stand right of their line, and left of it where there is no room.
    fn is_left(&self) -> bool {
        self.x + self.width() > WIDTH
    }

    fn width(&self) -> f64 {
        20.0 + 6.2 * self.words.chars().count() as f64
    }

    fn reach(&self) -> (f64, f64) {
        if self.is_left() {
            (self.x - self.width(), self.x + 6.0)
        } else {
            (self.x - 2.0, self.x + self.width())
        }
    }

    fn draw(&self, bottom: f64) -> Markup {
        let y = 6.0 + self.row as f64 * FLAG_ROW;
        let side = if self.is_left() { -1.0 } else { 1.0 };
        let urgent = self.severity >= Some(Severity::High);
        let flag =
            format!("M{},{} l{},4.5 l{},4.5 z", px(self.x), px(y), px(9.0 * side), px(-9.0 * side));
        let dash = if self.severity.is_some() { "2 3" } else { "none" };
        html! {
            line x1=(px(self.x)) x2=(px(self.x)) y1=(px(y)) y2=(px(bottom)) stroke=(self.colour) stroke-dasharray=(dash)
                stroke-width=(if urgent || self.severity.is_none() { "1.2" } else { "0.7" }) {}
            @if self.severity.is_some() {
                path d=(flag) stroke=(self.colour) fill=(if urgent { self.colour } else { "#fff" }) {}
            }
            text x=(px(self.x + if self.severity.is_some() { 13.0 } else { 4.0 } * side)) y=(px(y + 8.5)) fill=(self.colour)
                text-anchor=(if side < 0.0 { "end" } else { "start" }) stroke=(PAPER) stroke-width="3" paint-order="stroke"
                font-weight=(if urgent { "600" } else { "400" }) { (self.words) }
        }
    }
}

/// Lines at the beginnings of months, and their names at the bottom.
fn months(days: Days, top: f64, bottom: f64) -> Markup {
    const NAMES: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut marks: Vec<(f64, String)> = Vec::new();
    let mut day = days.from;
    while days.holds(day) {
        let iso = day.iso();
        let mut parts = iso.split('-');
        let (year, month, date) = (parts.next(), parts.next(), parts.next());
        if date == Some("01") {
            let month = month.and_then(|month| month.parse::<usize>().ok()).unwrap_or(1);
            let name = NAMES.get(month - 1).copied().unwrap_or_default();
            let with_year = month == 1 || marks.is_empty();
            let year = year.filter(|_| with_year).map(|year| format!(" {year}"));
            marks.push((
                days.at(f64::from(day.since(days.from))),
                format!("{name}{}", year.unwrap_or_default()),
            ));
        }
        day = day.plus(1);
    }
    html! {
        @for (x, name) in &marks {
            line x1=(px(*x)) x2=(px(*x)) y1=(px(top)) y2=(px(bottom + 4.0)) stroke="#e6e6e0" {}
            text x=(px(x + 3.0)) y=(px(bottom + 16.0)) fill="#555" { (name) }
        }
    }
}

/// The name and the unit of a panel.
fn title(label: &str, unit: &str, y: f64) -> Markup {
    // A long label is written smaller, and cut rather than written over the picture.
    let label: String = label.chars().take(28).collect();
    let size = if label.chars().count() > 22 { "11" } else { "13" };
    html! {
        text x="0" y=(px(y + 12.0)) font-size=(size) { (label) }
        text x="0" y=(px(y + 27.0)) fill=(GREY) { (unit) }
    }
}

/// A round number, without the digits that it has in binary only.
fn figure(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The least round number that is not below a value.
fn round_up(value: f64) -> f64 {
    let scale = 10f64.powf(value.max(1e-9).log10().floor());
    let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.iter().map(|step| step * scale).find(|round| *round >= value).unwrap_or(value)
}

/// A week of a signal: what its days brought on average, and the mean and the range that were to be expected of that.
struct Week {
    value: Option<f64>,
    expected: Option<[f64; 3]>,
}

/// The week that ends with each day.
fn weeks(signal: &Shown, days: &[(Day, SignalDay)]) -> Vec<Week> {
    let weeks = (0..days.len()).map(|end| {
        let week = (end + 1).checked_sub(7).and_then(|begin| days.get(begin..=end));
        // While an account rests, its days are not closed: what lies on both sides is no week.
        let Some(week) = week.filter(|week| week[6].0.since(week[0].0) == 6) else {
            return Week { value: None, expected: None };
        };
        let values: Vec<f64> =
            week.iter().map(|(_, seen)| seen.value).filter(|value| value.is_finite()).collect();
        let value = (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        let expected: Option<Vec<ExpectedDay>> =
            week.iter().map(|(_, seen)| seen.expected).collect();
        let expected = expected.map(|of| {
            let mean = of.iter().map(|day| day.mean).sum::<f64>();
            let variance = of.iter().map(|day| day.variance).sum::<f64>();
            let (low, high) = if signal.is_count {
                count_range(mean, variance, WITHIN_Z)
            } else {
                (mean - WITHIN_Z * variance.sqrt(), mean + WITHIN_Z * variance.sqrt())
            };
            [low / 7.0, mean / 7.0, high / 7.0]
        });
        Week { value, expected }
    });
    weeks.collect()
}

/// The top of a panel: above all weeks, and above all but the oddest days.
fn top_of(weeks: &[Week], days: &[(Day, SignalDay)]) -> f64 {
    let of_weeks = weeks.iter().flat_map(|week| [week.value, week.expected.map(|band| band[2])]);
    let mut values: Vec<f64> =
        days.iter().map(|(_, seen)| seen.value).filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let usual = values.get(values.len() * 97 / 100).copied().unwrap_or(0.0);
    round_up(of_weeks.flatten().fold(usual.max(0.5), f64::max))
}

/// One signal: its days, and its weeks beside what was expected of them.
fn panel(timeline: &Timeline, index: usize, days: Days, flags: &[&Flag], top: f64) -> Markup {
    let signal = &timeline.signals[index];
    let shown: Vec<(Day, SignalDay)> = timeline
        .days
        .iter()
        .filter_map(|(day, signals)| Some((*day, *signals.get(index)?)))
        .collect();
    let weeks = weeks(signal, &shown);
    let top_value = top_of(&weeks, &shown);
    let y = |value: f64| top + PANEL * (1.0 - value.clamp(0.0, top_value) / top_value);
    let (mut values, mut means) = (Line::default(), Line::default());
    for ((day, _), week) in shown.iter().zip(&weeks) {
        values.to(days.x(*day), week.value.map(y));
        means.to(days.x(*day), week.expected.map(|band| y(band[1])));
    }
    let is_empty = shown.iter().all(|(_, seen)| !seen.value.is_finite() || seen.value == 0.0);
    let spans = flags.iter().filter(|flag| !flag.is_fleet).flat_map(|flag| {
        let own = flag.evidence.iter().filter(|(signal, _)| *signal == index);
        own.map(|(_, onset)| {
            (days.x(*onset).max(LEFT), days.x(day_of(flag)), colour(flag.severity))
        })
    });
    html! {
        (title(&signal.label, &signal.unit, top))
        path d=(band(&shown, &weeks, days, y)) fill=(PALE_BLUE) {}
        line x1=(LEFT) x2=(WIDTH - RIGHT) y1=(px(top + PANEL)) y2=(px(top + PANEL)) stroke="#bbb" stroke-width="0.8" {}
        text x=(LEFT - 6.0) y=(px(top + 8.0)) text-anchor="end" fill=(GREY) { (figure(top_value)) }
        text x=(LEFT - 6.0) y=(px(top + PANEL + 1.0)) text-anchor="end" fill=(GREY) { "0" }
        @if is_empty {
            text x=((LEFT + WIDTH - RIGHT) / 2.0) y=(px(top + PANEL / 2.0)) text-anchor="middle" fill=(GREY) { "nothing on these days" }
        }
        path d=(means.0) fill="none" stroke=(BLUE) stroke-width="1.3" stroke-dasharray="5 2.5" {}
        @for (day, seen) in shown.iter().filter(|(_, seen)| seen.value.is_finite()) {
            (dot(days.x(*day), y(seen.value), seen, signal))
        }
        path d=(values.0) fill="none" stroke=(INK) stroke-width="1.5" stroke-linejoin="round" {}
        @for (begin, end, colour) in spans {
            rect x=(px(begin)) y=(px(top + PANEL + 1.5)) width=(px((end - begin).max(2.0))) height="4" fill=(colour) {}
        }
    }
}

/// A path that may have gaps.
#[derive(Default)]
pub(crate) struct Line(pub(crate) String, bool);

impl Line {
    pub(crate) fn to(&mut self, x: f64, y: Option<f64>) {
        if let Some(y) = y {
            let step = if self.1 { 'L' } else { 'M' };
            self.0 += &format!("{step}{x:.1},{y:.1}");
        }
        self.1 = y.is_some();
    }
}

/// The range that was expected of the weeks.
fn band(shown: &[(Day, SignalDay)], weeks: &[Week], days: Days, y: impl Fn(f64) -> f64) -> String {
    let mut path = String::new();
    for ((day, _), week) in shown.iter().zip(weeks) {
        let Some([low, _, high]) = week.expected else { continue };
        let begin = f64::from(day.since(days.from));
        // A little wider than a day, so that no line of light shows between two.
        let (left, right) = (days.at(begin), days.at(begin + 1.0) + 0.15);
        let (upper, lower) = (y(high), y(low).max(y(high) + 1.0));
        path += &format!("M{left:.1},{upper:.1}H{right:.1}V{lower:.1}H{left:.1}z");
    }
    path
}

fn dot(x: f64, y: f64, seen: &SignalDay, signal: &Shown) -> Markup {
    let (x, y) = (px(x), px(y));
    match seen.expected {
        Some(expected) if seen.value < expected.low => deviation(&x, &y, signal.falls, 5.0),
        Some(expected) if seen.value > expected.high => deviation(&x, &y, !signal.falls, -5.0),
        _ => html! { circle cx=(x) cy=(y) r="1.15" fill="#8a8a8a" {} },
    }
}

/// A triangle that points where the day went, filled where that is risk.
fn deviation(x: &str, y: &str, is_risk: bool, points: f64) -> Markup {
    let colour = if is_risk { VERMILLION } else { GREEN };
    html! {
        path d={ "M" (x) "," (y) "m-2.6," (-points / 2.0) "h5.2l-2.6," (points) "z" } stroke=(colour)
            fill=(if is_risk { colour } else { "#fff" }) {}
    }
}

/// A signal that is there on a day or not.
fn strip(timeline: &Timeline, index: usize, days: Days, top: f64) -> Markup {
    let there: Vec<Day> = timeline
        .days
        .iter()
        .filter(|(_, signals)| signals.get(index).is_some_and(|seen| seen.value > 0.0))
        .map(|(day, _)| *day)
        .collect();
    html! {
        text x="0" y=(px(top + 12.0)) font-size="13" { (timeline.signals[index].label) }
        line x1=(LEFT) x2=(WIDTH - RIGHT) y1=(px(top + STRIP)) y2=(px(top + STRIP)) stroke="#bbb" stroke-width="0.8" {}
        @for day in there {
            line x1=(px(days.x(day))) x2=(px(days.x(day))) y1=(px(top + 3.0)) y2=(px(top + STRIP)) stroke=(INK) stroke-width="1.4" {}
        }
    }
}

/// The score with its bands.
fn score(timeline: &Timeline, days: Days, top: f64) -> Markup {
    let y = |score: f64| top + SCORE * (1.0 - score.clamp(0.0, 100.0) / 100.0);
    let (healthy, at_risk) = timeline.bands;
    let bands = [
        (100.0, healthy, "#e4f2ec", "Healthy"),
        (healthy, at_risk, "#f4f3ec", "Neutral"),
        (at_risk, 0.0, "#fae6d8", "At-Risk"),
    ];
    let begin = f64::from(days.from.0) * DAY_MS as f64;
    let mut path = String::new();
    let mut last: Option<f64> = None;
    for (at, score) in &timeline.scores {
        let day = (at.0 as f64 - begin) / DAY_MS as f64;
        if day < 0.0 {
            last = Some(*score);
            continue;
        }
        let x = days.at(day).min(WIDTH - RIGHT);
        match (path.is_empty(), last) {
            (true, Some(before)) => {
                path += &format!("M{LEFT},{:.1}H{x:.1}V{:.1}", y(before), y(*score));
            }
            (true, None) => path += &format!("M{x:.1},{:.1}", y(*score)),
            (false, _) => path += &format!("H{x:.1}V{:.1}", y(*score)),
        }
        if x >= WIDTH - RIGHT {
            break;
        }
    }
    if let (true, Some(before)) = (path.is_empty(), last) {
        path += &format!("M{LEFT},{:.1}", y(before));
    }
    if !path.is_empty() {
        path += &format!("H{}", WIDTH - RIGHT);
    }
    html! {
        (title("health score", "0 to 100", top))
        @for (upper, lower, fill, name) in bands {
            rect x=(LEFT) y=(px(y(upper))) width=(px(WIDTH - LEFT - RIGHT)) height=(px(y(lower) - y(upper))) fill=(fill) {}
            text x=(LEFT - 6.0) y=(px((y(upper) + y(lower)) / 2.0 + 4.0)) text-anchor="end" fill=(GREY) { (name) }
        }
        path d=(path) fill="none" stroke=(INK) stroke-width="1.5" {}
    }
}

/// What the marks of a timeline mean.
pub(crate) fn legend() -> Markup {
    let item = |x: f64, words: &str| html! { text x=(x) y="15" { (words) } };
    html! {
        svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="Legend" viewBox="0 0 960 42" font-family=(FONT) font-size="11.5" fill=(INK) {
            circle cx="6" cy="11" r="1.5" fill="#8a8a8a" {} (item(14.0, "a day"))
            path d="M70,11h24" stroke=(INK) stroke-width="1.5" {} (item(100.0, "mean of seven days"))
            path d="M232,11h24" stroke=(BLUE) stroke-width="1.3" stroke-dasharray="5 2.5" {} (item(262.0, "expected of seven days"))
            rect x="440" y="4" width="24" height="13" fill=(PALE_BLUE) {} (item(470.0, "range of 95 in 100 such weeks"))
            (deviation("656", "11", true, 5.0)) (item(664.0, "odd day, toward risk"))
            (deviation("806", "11", false, -5.0)) (item(814.0, "away from risk"))
            g transform="translate(0 22)" {
                path d="M2,5 l9,4.5 l-9,4.5 z" fill=(VERMILLION) {} (item(17.0, "high or critical alert"))
                path d="M160,5 l9,4.5 l-9,4.5 z" fill="#fff" stroke=(GREY) {} (item(175.0, "lower severity (orange: medium)"))
                rect x="376" y="9" width="24" height="4" fill=(VERMILLION) {} (item(406.0, "named by an alert, since when"))
                path d="M588,5l4,4l-4,4l-4,-4z" fill="#fff" stroke=(VERMILLION) {} (item(598.0, "alert of the fleet"))
                path d="M716,4v14" stroke="#000" stroke-width="1.2" {} (item(724.0, "what really happened"))
            }
        }
    }
}
