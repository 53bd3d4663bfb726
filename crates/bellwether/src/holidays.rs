//! Public holidays by region: a table made of the Python library `holidays` (see holidays/generate.py), compiled in.
//!
//! No Rust library will do: `holidays` has one release (0.1.0) with a table of then; `py-holidays-rs` calls itself beta, has 140 countries from a list
//! kept by hand, and does not say of which version of the Python library its days are; `opening-hours` has neither names nor parts of
//! countries. So the table comes from that library itself, which is released every two weeks, with its version: nothing is asked of a
//! network, and a build gives the same days everywhere.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use anyhow::{Context, Result};
use bellwether_core::time::{Day, Millis, Zone};

use crate::usage::wrong;

const TABLE: &str = include_str!("../holidays/table.txt");
/// Parts of a country that an error names at most.
const NAMED_MAX: usize = 60;

/// The years that are known.
pub(crate) const YEARS: RangeInclusive<i32> = 2021..=2032;
/// Where they are from.
pub(crate) const SOURCE: &str = "the Python library holidays 0.109";

/// A region of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Region<'a> {
    code: &'a str,
    name: &'a str,
    /// Its lines.
    days: &'a str,
}

/// The regions of a table, in its order.
fn regions(table: &str) -> impl Iterator<Item = Region<'_>> {
    let starts = table.match_indices('\n').map(|(at, _)| at + 1);
    let starts = starts.filter(|&at| table[at..].starts_with(|c: char| c.is_ascii_uppercase()));
    let mut starts = starts.peekable();
    std::iter::from_fn(move || {
        let begin = starts.next()?;
        let of = &table[begin..starts.peek().copied().unwrap_or(table.len())];
        let (head, days) = of.split_once('\n')?;
        let (code, name) = head.split_once('\t')?;
        Some(Region { code, name, days })
    })
}

/// The holidays of a region in a year, with their names.
///
/// # Errors
/// Wrong usage: a region or a year that is not known, with what is.
pub(crate) fn of(region: &str, year: i32) -> Result<BTreeMap<Day, String>> {
    if !YEARS.contains(&year) {
        wrong!(
            "holidays of {year} are not known: the years {} to {} are, from {SOURCE}; a newer version of bellwether may know more, and any day can be told by `calendar add`",
            YEARS.start(),
            YEARS.end()
        );
    }
    let find = |code: &str| regions(TABLE).find(|known| known.code == code);
    let Some(own) = find(region) else {
        let instead = instead_of(region);
        wrong!("region `{region}` is not known: {instead}");
    };
    let country = region.split_once('-').and_then(|(country, _)| find(country));
    let mut days = BTreeMap::<Day, Vec<&str>>::new();
    for line in country.iter().chain([&own]).flat_map(|region| region.days.lines()) {
        let (sign, rest) = line.split_at_checked(1).context("the table of holidays is damaged")?;
        let (name, dates) = rest.split_once('\t').context("the table of holidays is damaged")?;
        for date in dates.split(' ') {
            let Some(day) = day_in(date, year) else { continue };
            let names = days.entry(day).or_default();
            names.retain(|known| *known != name);
            if sign == "+" {
                names.push(name);
            }
        }
    }
    days.retain(|_, names| !names.is_empty());
    Ok(days.into_iter().map(|(day, names)| (day, names.join("; "))).collect())
}

/// The holidays of a country in a year that parts of it do not keep, by part.
///
/// # Errors
/// As [`of`].
pub(crate) fn lacking(country: &str, year: i32) -> Result<BTreeMap<String, BTreeMap<Day, String>>> {
    let (whole, of_country) = (of(country, year)?, format!("{country}-"));
    let mut lacking = BTreeMap::new();
    for part in regions(TABLE).filter(|known| known.code.starts_with(&of_country)) {
        let own = of(part.code, year)?;
        let mut days = whole.clone();
        days.retain(|day, _| !own.contains_key(day));
        if !days.is_empty() {
            lacking.insert(part.code.to_owned(), days);
        }
    }
    Ok(lacking)
}

/// The parts of a country.
pub(crate) fn parts(country: &str) -> Vec<&'static str> {
    let of_country = format!("{country}-");
    let parts = regions(TABLE).filter(|known| known.code.starts_with(&of_country));
    parts.map(|part| part.code).collect()
}

/// The day of a date of the table (`MM-DD` of every year, or `YYYY-MM-DD`), where it is in the year.
fn day_in(date: &str, year: i32) -> Option<Day> {
    let date = match date.len() {
        5 => format!("{year}-{date}"),
        _ => date.strip_prefix(&format!("{year}-")).map(|_| date.to_owned())?,
    };
    Some(Zone::UTC.day(Millis::parse(&date)?))
}

/// What somebody may have meant by a region that is not known.
fn instead_of(region: &str) -> String {
    let wanted = region.to_uppercase();
    let country = wanted.split('-').next().unwrap_or_default();
    let of_country = format!("{country}-");
    let parts: Vec<Region<'_>> =
        regions(TABLE).filter(|known| known.code.starts_with(&of_country)).collect();
    if wanted.len() > 3 && wanted.starts_with(&of_country) && !parts.is_empty() {
        let codes: Vec<&str> = parts.iter().take(NAMED_MAX).map(|part| part.code).collect();
        let nearest = nearest(&wanted, parts.into_iter());
        return format!("did you mean {nearest}? Known of {country} are {}", codes.join(", "));
    }
    format!(
        "did you mean {}? Regions are codes of ISO 3166-1 (DE) or, of parts of a country, ISO 3166-2 (DE-BY)",
        nearest(&wanted, regions(TABLE))
    )
}

/// The nearest region by its code or its name.
fn nearest<'a>(wanted: &str, regions: impl Iterator<Item = Region<'a>>) -> String {
    let far = |region: &Region<'_>| {
        let by_name = strsim::normalized_damerau_levenshtein(wanted, &region.name.to_uppercase());
        let by_code = strsim::normalized_damerau_levenshtein(wanted, region.code);
        by_name.max(by_code)
    };
    // Of equals the first: countries come before their parts.
    let nearest = regions
        .map(|region| (far(&region), region))
        .reduce(|best, next| if next.0 > best.0 { next } else { best });
    nearest.map_or_else(String::new, |(_, region)| format!("{} ({})", region.code, region.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(region: &str, year: i32) -> BTreeMap<String, String> {
        let days = of(region, year).expect("a known region");
        days.into_iter().map(|(day, name)| (day.iso(), name)).collect()
    }

    fn said(region: &str, year: i32) -> String {
        of(region, year).expect_err("it is not known").to_string()
    }

    #[test]
    fn holidays_are_those_of_the_country_and_of_its_part() {
        let germany = names("DE", 2027);
        assert_eq!(germany.len(), 9, "{germany:?}");
        assert_eq!(germany["2027-10-03"], "German Unity Day");
        assert_eq!(germany["2027-03-29"], "Easter Monday");
        let bavaria = names("DE-BY", 2027);
        assert_eq!(bavaria["2027-01-06"], "Epiphany");
        assert!(germany.keys().all(|day| bavaria.contains_key(day)), "{bavaria:?}");
        let california = names("US-CA", 2027);
        assert_eq!(california["2027-11-25"], "Thanksgiving Day");
        assert!(california.contains_key("2027-03-31"), "Cesar Chavez Day: {california:?}");
    }

    /// A part may lack a day of its country.
    #[test]
    fn a_part_without_a_day_of_its_country_has_it_not() {
        let lacks = regions(TABLE).find_map(|region| {
            let line = region.days.lines().find(|line| line.starts_with('-'))?;
            let (_, dates) = line.split_once('\t')?;
            let date = dates.split(' ').next_back().filter(|date| date.len() == 10)?;
            Some((region.code, date, line[1..].split('\t').next()?))
        });
        let (region, date, name) = lacks.expect("the table has such a part");
        let year = date[..4].parse().expect("a year");
        let country = region.split('-').next().expect("a country");
        assert!(names(country, year)[date].contains(name));
        assert!(names(region, year).get(date).is_none_or(|names| names != name), "{region}");
    }

    #[test]
    fn what_parts_of_a_country_do_not_keep_is_known_by_part() {
        let lacking = lacking("US", 2027).expect("a country");
        let days = |part: &str| {
            let days = lacking.get(part).into_iter().flatten();
            days.map(|(day, name)| (day.iso(), name.as_str())).collect::<Vec<_>>()
        };
        assert!(days("US-CA").contains(&("2027-10-11".to_owned(), "Columbus Day")), "{lacking:?}");
        // Kept under another name it is kept all the same.
        assert!(days("US-CA").iter().all(|(_, name)| !name.contains("Martin Luther King")));
        assert_eq!(days("US-NY"), []);
        for (part, days) in &lacking {
            let own = of(part, 2027).expect("a part");
            assert!(days.keys().all(|day| !own.contains_key(day)), "{part}");
        }
        assert_eq!(super::lacking("DE", 2027).expect("a country"), BTreeMap::new());
        assert_eq!(super::lacking("US-CA", 2027).expect("a part"), BTreeMap::new());
        assert!(parts("AU").contains(&"AU-NSW") && parts("AU-NSW").is_empty());
    }

    #[test]
    fn the_table_can_be_read_from_end_to_end() {
        let head = TABLE.lines().next().expect("a first line");
        let version = SOURCE.rsplit(' ').next().expect("a version");
        assert!(head.contains(version), "{head}");
        assert!(head.contains(&format!("{} to {}", YEARS.start(), YEARS.end())), "{head}");
        let known: Vec<Region<'_>> = regions(TABLE).collect();
        assert_eq!(known.iter().filter(|region| !region.code.contains('-')).count(), 250);
        for region in &known {
            let days: usize =
                YEARS.map(|year| of(region.code, year).expect("a region").len()).sum();
            // Some islands have none at all.
            let none = ["BV", "HM", "IO"].contains(&region.code);
            assert!(days < 600 && (days > 0) != none, "{}: {days}", region.code);
        }
        let lines: usize = known.iter().map(|region| region.days.lines().count() + 1).sum();
        assert_eq!(lines + 1, TABLE.lines().count());
    }

    #[test]
    fn what_is_not_known_is_said_with_what_is_near() {
        assert!(
            said("de-by", 2027).contains("did you mean DE-BY (Bayern)"),
            "{}",
            said("de-by", 2027)
        );
        assert!(said("Germany", 2027).contains("DE (Germany)"), "{}", said("Germany", 2027));
        let part = said("US-XX", 2027);
        assert!(part.contains("Known of US are US-AK, US-AL"), "{part}");
        assert!(said("UK", 2027).contains("ISO 3166-1"), "{}", said("UK", 2027));
        assert!(said("", 2027).contains("did you mean"));
        let year = said("DE", 2040);
        assert!(year.contains("2021 to 2032") && year.contains(SOURCE), "{year}");
    }
}
