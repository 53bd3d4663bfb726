//! The list of all accounts: by band, by words, page by page.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use bellwether_core::output::Band;
use maud::{Markup, html};

use super::overview::account_table;
use super::{Place, layout};
use crate::problem::Problem;
use crate::query::{self, AccountsPage, AccountsQuery};
use crate::{AppState, api};

/// `GET /accounts`.
pub(crate) async fn page(
    State(state): State<AppState>,
    query: Result<Query<AccountsQuery>, QueryRejection>,
) -> Response {
    match answer(&state, query).await {
        Ok(content) => layout(&state, Some(Place::Accounts), "Accounts", &content),
        Err(problem) => problem.into_page(),
    }
}

async fn answer(
    state: &AppState,
    query: Result<Query<AccountsQuery>, QueryRejection>,
) -> Result<Markup, Problem> {
    let query = api::parameters(query)?;
    let asked = query.clone();
    let page = api::read(state, move |model| query::accounts(model, &asked)).await?;
    Ok(content(&query, &page))
}

fn content(query: &AccountsQuery, page: &AccountsPage) -> Markup {
    let band = query.band.as_deref().unwrap_or_default();
    let words = query.q.as_deref().unwrap_or_default();
    html! {
        h1 { "Accounts" }
        section.card {
            form.filter method="get" action="/accounts" {
                label {
                    "Name or id"
                    input type="search" name="q" value=(words) placeholder="Search" maxlength="256";
                }
                label {
                    "Band"
                    select name="band" {
                        option value="" { "All" }
                        @for of in [Band::AtRisk, Band::Neutral, Band::Healthy] {
                            option value=(of.as_str()) selected[of.as_str() == band] { (of.title()) }
                        }
                    }
                }
                button type="submit" { "Show" }
            }
            @if page.accounts.is_empty() {
                p.quiet { "No account matches." }
            } @else {
                (account_table(&page.accounts))
            }
            @if let Some(cursor) = &page.next_cursor {
                form.more method="get" action="/accounts" {
                    input type="hidden" name="q" value=(words);
                    input type="hidden" name="band" value=(band);
                    input type="hidden" name="cursor" value=(cursor);
                    button type="submit" { "Next page" }
                }
            }
        }
    }
}
