//! The report: one HTML file that holds everything, and needs no script.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::{budget, curves, figure, tables};

/// The page for what was found; timelines are read from the files beside it.
pub(crate) fn page(found: &Value, out: &Path) -> Result<String> {
    let mut sets: Vec<Markup> = Vec::new();
    for (name, set) in tables::sets(found) {
        sets.push(section(name, set, out)?);
    }
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Bellwether: evaluation" }
                style { (PreEscaped(include_str!("report.css"))) }
            }
            body {
                h1 { "How well Bellwether sees" }
                p.lead {
                    "The engine, replayed over the development data of the evaluation kit with its default parameters, and judged by the kit's own "
                    "scripts. An alert is " em { "false" } " where its account was not lost within the horizon, or where nothing had changed."
                }
                nav { @for (name, set) in tables::sets(found) {
                    a href={ "#" (name) } { (set["title"].as_str().unwrap_or(name)) } " "
                } }
                @for set in &sets { (set) }
            }
        }
    };
    Ok(page.into_string())
}

/// Writes the figures that are drawn from the results: what alerts find against false ones, and the budget that was kept.
pub(crate) fn figures(found: &Value, out: &Path) -> Result<()> {
    for (name, set) in tables::sets(found) {
        for judged in with_curves(set) {
            let kind = judged["kind"].as_str().unwrap_or_default();
            save(&out.join(name).join(format!("curve-{kind}.svg")), curves::draw(judged))?;
        }
        if name == "calibration" {
            save(&out.join(name).join("calibration.svg"), budget::draw(set))?;
        }
    }
    Ok(())
}

/// What is judged of a set at several thresholds.
fn with_curves(set: &Value) -> impl Iterator<Item = &Value> {
    set["judged"].as_array().into_iter().flatten().filter(|judged| judged["curves"].is_object())
}

fn save(path: &Path, svg: Markup) -> Result<()> {
    // Results of a set may come from a run elsewhere.
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    fs::write(path, svg.into_string()).with_context(|| path.display().to_string())
}

fn section(name: &str, set: &Value, out: &Path) -> Result<Markup> {
    let mut drawings = Vec::new();
    for figure in set["figures"].as_array().into_iter().flatten() {
        let file = out.join(figure["file"].as_str().unwrap_or_default());
        // Drawn where the set was replayed.
        if file.exists() {
            let svg = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            drawings.push((figure, svg));
        }
    }
    let judged: Vec<&Value> = with_curves(set).collect();
    Ok(html! {
        section id=(name) {
            h2 { (set["title"].as_str().unwrap_or(name)) }
            @for (index, table) in tables::of(name, set).iter().enumerate() {
                @if !table.title.is_empty() { h3 { (table.title) } }
                @if let Some(&judged) = judged.get(index) { figure { (curves::draw(judged)) } }
                @if name == "calibration" { figure { (budget::draw(set)) } }
                (self::table(table))
            }
            p.small { (tables::provenance(set)) }
            @if !drawings.is_empty() {
                h3 { "Accounts, day by day" }
                p.small { "Chosen by a hash of their ids among those of their kind, not by their looks." }
                (figure::legend())
            }
            @for (figure, svg) in &drawings {
                figure {
                    figcaption {
                        b { (figure["account"].as_str().unwrap_or_default()) } " – "
                        (figure["caption"].as_str().unwrap_or_default())
                    }
                    // Written by `figure::timeline`, which escapes.
                    (PreEscaped(svg))
                }
            }
        }
    })
}

fn table(table: &tables::Table) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { @for cell in &table.header { th { (cell) } } } }
            tbody { @for row in &table.rows { tr { @for cell in row { td { (cell) } } } } }
        } }
        p.small { (table.note) }
    }
}
