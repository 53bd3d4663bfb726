//! Pages for people: rendered here, without scripts, readable on a telephone.

pub(crate) mod account;
pub(crate) mod accounts;
pub(crate) mod alerts;
mod charts;
pub(crate) mod overview;
mod parts;
pub(crate) mod results;
mod waterfall;

use std::time::Instant;

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use crate::AppState;
use crate::problem::Problem;

/// Where the stylesheet is. It is a file of our own and not inline, so that the content security policy can forbid inline styles.
pub(crate) const STYLE_PATH: &str = "/style.css";

/// The stylesheet.
pub(crate) async fn style() -> Response {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "max-age=300")];
    (headers, include_str!("style.css")).into_response()
}

/// Which entry of the navigation a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Overview,
    Accounts,
    Alerts,
    Results,
}

/// A whole page around its content.
fn layout(state: &AppState, place: Option<Place>, title: &str, content: &Markup) -> Response {
    let missing = state.readiness.report(Instant::now()).missing;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(&format!("{title} · {}", state.name)))
            body {
                header.top {
                    div.wrap {
                        a.brand href="/" { (logo()) span { (state.name) } }
                        nav aria-label="Main" {
                            @for (at, href, label) in [
                                (Place::Overview, "/", "Overview"),
                                (Place::Accounts, "/accounts", "Accounts"),
                                (Place::Alerts, "/alerts", "Alerts"),
                                (Place::Results, "/results", "Results"),
                            ] {
                                a href=(href) aria-current=[(place == Some(at)).then_some("page")] {
                                    (label)
                                }
                            }
                        }
                    }
                }
                main.wrap {
                    @if !missing.is_empty() {
                        p.notice role="status" {
                            strong { "Not everything is up to date. " }
                            (missing.join("; ")) "."
                        }
                    }
                    (content)
                }
                footer.wrap {
                    span { (state.name) " " (state.version) }
                    span {
                        a href="/v1/accounts" { "JSON API" }
                        a href="/metrics" { "Metrics" }
                        a href="/readyz" { "Readiness" }
                    }
                }
            }
        }
    };
    Html(page.into_string()).into_response()
}

/// A page that says what went wrong, in place of one that could not be shown.
pub(crate) fn problem_page(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body {
                main.wrap.lost {
                    (logo())
                    h1 { (title) }
                    p { (detail) }
                    p { a.button href="/" { "Go to the overview" } }
                }
            }
        }
    };
    (status, Html(page.into_string())).into_response()
}

impl Problem {
    /// The problem as a page.
    pub(crate) fn into_page(self) -> Response {
        problem_page(self.status, &self.detail)
    }
}

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) }
            link rel="icon" href="data:,";
            link rel="stylesheet" href=(STYLE_PATH);
        }
    }
}

/// A bell, drawn with two strokes.
fn logo() -> Markup {
    html! {
        svg.logo viewBox="0 0 24 24" width="26" height="26" aria-hidden="true" {
            rect width="24" height="24" rx="6" {}
            path d="M6.5 16h11c-1.2-1.2-1.7-2.4-1.7-5.2a3.8 3.8 0 0 0-7.6 0c0 2.8-.5 4-1.7 5.2z" {}
            path d="M10.7 18.3a1.4 1.4 0 0 0 2.6 0" {}
        }
    }
}
