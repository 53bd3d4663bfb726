//! Sinks that are called by HTTP POST.
//!
//! # Invariants
//! - An attempt ends within its time-out, whatever the other side does; at most so many bytes of its answer are read.
//! - An answer of success is no success where it says that it failed.
//! - Redirects are refused, proxies of the environment are not used, addresses are checked ([`crate::address`]).
//! - No error names the URL: it may be a secret.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};

use crate::address::{self, Forbidden};
use crate::delivery::{Outcome, Parking};
use crate::policy::{Effort, Sink, SinkType};

/// Idle connections that are kept.
const IDLE_MAX: usize = 4;
/// Bytes of an answer that are shown where a sink refuses something.
const SHOWN_BYTES: usize = 200;

/// A sink that is called by HTTP.
#[derive(Debug, Clone)]
pub struct HttpSink {
    client: Client,
    kind: SinkType,
    url: Url,
    response_bytes_max: usize,
    timeout: Duration,
}

struct Guard {
    allow_private: bool,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = address::resolve(name.as_str(), 0, allow_private).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl HttpSink {
    /// A client of a sink. Nothing is sent yet.
    ///
    /// # Errors
    /// The URL cannot be used; the message does not show it.
    pub fn open(sink: &Sink, url: &str, effort: &Effort) -> Result<HttpSink, String> {
        let name = &sink.name;
        let url: Url = url
            .trim()
            .parse()
            .map_err(|error| format!("sink `{name}`: its URL cannot be read: {error}"))?;
        match url.scheme() {
            "https" => {}
            "http" if sink.allow_http => {}
            "http" => {
                return Err(format!(
                    "sink `{name}`: its URL is http; where that is meant, it says allow_http = true"
                ));
            }
            _ => return Err(format!("sink `{name}`: its URL is neither https nor http")),
        }
        // The client does not look up what is an address already.
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if let Ok(address) = host.parse::<IpAddr>() {
            address::check("its URL", address, sink.allow_private)
                .map_err(|error| format!("sink `{name}`: {error}"))?;
        }
        let timeout = Duration::from_millis(sink.timeout_ms.unwrap_or(effort.timeout_ms));
        let client = Client::builder()
            .dns_resolver(Arc::new(Guard { allow_private: sink.allow_private }))
            .redirect(Policy::none())
            .no_proxy()
            .timeout(timeout)
            .pool_max_idle_per_host(IDLE_MAX)
            .user_agent(concat!("bellwether/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| format!("sink `{name}`: no HTTP client: {error}"))?;
        let (kind, response_bytes_max) = (sink.kind, effort.response_bytes_max);
        Ok(HttpSink { client, kind, url, response_bytes_max, timeout })
    }

    /// One attempt.
    pub async fn send(&self, headers: &[(String, String)], body: &[u8], now_ms: i64) -> Outcome {
        let mut request =
            self.client.post(self.url.clone()).header("Content-Type", "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = match request.body(body.to_vec()).send().await {
            Ok(response) => response,
            Err(error) => return failed(error, self.timeout),
        };
        let status = response.status();
        let retry_after = response.headers().get("retry-after");
        let retry_after_ms =
            retry_after.and_then(|value| retry_after_ms(value.to_str().ok()?, now_ms));
        let is_page = response.headers().get("content-type").is_some_and(|value| {
            value.to_str().is_ok_and(|value| value.trim_start().starts_with("text/html"))
        });
        let said = self.read(response).await;
        if status.is_success()
            && let Some(denied) = denial(self.kind, is_page, &said)
        {
            let detail = format!("answered {}, and {denied}", status.as_u16());
            return Outcome::Failed { detail, retry_after_ms };
        }
        of_status(status, retry_after_ms, &shown(&said))
    }

    /// The beginning of an answer. What comes after its limit is not waited for; an answer that breaks off has been given all the same.
    async fn read(&self, mut response: reqwest::Response) -> Vec<u8> {
        let mut read: Vec<u8> = Vec::new();
        while read.len() < self.response_bytes_max {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let room = self.response_bytes_max - read.len();
                    read.extend_from_slice(&chunk[..chunk.len().min(room)]);
                }
                Ok(None) | Err(_) => break,
            }
        }
        read
    }
}

/// The beginning of what a sink said, for people.
fn shown(said: &[u8]) -> String {
    let beginning = said.get(..SHOWN_BYTES).unwrap_or(said);
    crate::render::clean(&String::from_utf8_lossy(beginning))
}

/// What an answer of success says against itself: that it failed, in the words of the vendor, or a page for people in the place of an API
/// (a proxy that wants a login). The receiver of a webhook has said all by its status, and so has whatever a template is for.
fn denial(kind: SinkType, is_page: bool, said: &[u8]) -> Option<String> {
    let answer = || serde_json::from_slice::<serde_json::Value>(said).unwrap_or_default();
    let denies = match kind {
        SinkType::Slack => answer()["ok"] == false,
        SinkType::Teams => {
            // As connectors, which came before workflows, reported the errors of Teams itself.
            let text = String::from_utf8_lossy(said);
            text.contains("message delivery failed") || text.contains("returned HTTP error")
        }
        SinkType::Pagerduty => {
            answer()["status"].as_str().is_some_and(|status| status != "success")
        }
        SinkType::Alertmanager => answer()["status"] == "error",
        SinkType::Webhook | SinkType::Template | SinkType::Email => return None,
    };
    if denies {
        Some(format!("said that it failed: {}", shown(said)))
    } else if is_page {
        Some("sent a page of HTML, which no such sink does".to_owned())
    } else {
        None
    }
}

fn failed(error: reqwest::Error, timeout: Duration) -> Outcome {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(forbidden) = current.downcast_ref::<Forbidden>() {
            return Outcome::Refused {
                reason: Parking::ForbiddenAddress,
                detail: forbidden.to_string(),
            };
        }
        cause = current.source();
    }
    let detail = if error.is_timeout() {
        format!("no answer within {} ms", timeout.as_millis())
    } else {
        chain(&error.without_url())
    };
    Outcome::Failed { detail, retry_after_ms: None }
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        text.push_str(&format!(": {current}"));
        cause = current.source();
    }
    text
}

fn of_status(status: StatusCode, retry_after_ms: Option<u64>, said: &str) -> Outcome {
    let detail = format!("answered {}: {said}", status.as_u16());
    match status.as_u16() {
        200..=299 => Outcome::Delivered,
        300..=399 => Outcome::Refused {
            reason: Parking::Redirect,
            detail: format!("answered {}, and redirects are not followed", status.as_u16()),
        },
        // A token that is renewed, an address that comes back: a person may mend these while it is tried again.
        401 | 403 | 404 | 407 | 408 | 409 | 410 | 421 | 423 | 425 | 500.. => {
            Outcome::Failed { detail, retry_after_ms }
        }
        429 => Outcome::Throttled { detail, retry_after_ms },
        _ => Outcome::Refused { reason: Parking::Rejected, detail },
    }
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn retry_after_ms(value: &str, now_ms: i64) -> Option<u64> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(seconds.saturating_mul(1000));
    }
    let at = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp().as_millisecond();
    u64::try_from(at.saturating_sub(now_ms)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_too_many_requests_is_said_by_a_sink_that_works() {
        let works = |status: u16| {
            let status = StatusCode::from_u16(status).expect("a status");
            of_status(status, Some(1_000), "").works()
        };
        assert_eq!([200, 401, 429, 500, 503].map(works), [true, false, true, false, false]);
        let asked = of_status(StatusCode::SERVICE_UNAVAILABLE, Some(1_000), "").retry_after_ms();
        assert_eq!(asked, Some(1_000), "what it asks for is heeded all the same");
    }

    #[test]
    fn what_a_vendor_says_when_all_is_well_is_no_denial() {
        for (kind, said) in [
            (SinkType::Slack, "ok"),
            (SinkType::Slack, r#"{"ok":true}"#),
            (SinkType::Slack, ""),
            (SinkType::Teams, ""),
            (SinkType::Teams, "1"),
            (SinkType::Pagerduty, r#"{"status":"success","message":"Event processed"}"#),
            (SinkType::Pagerduty, "{}"),
            (SinkType::Alertmanager, ""),
            (SinkType::Webhook, r#"{"ok":false,"status":"error"}"#),
            (SinkType::Template, r#"{"ok":false,"status":"error"}"#),
        ] {
            assert_eq!(denial(kind, false, said.as_bytes()), None, "{kind:?} {said}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after_ms("120", 0), Some(120_000));
        assert_eq!(retry_after_ms("Thu, 01 Jan 1970 00:00:30 GMT", 10_000), Some(20_000));
        assert_eq!(retry_after_ms("Thu, 01 Jan 1970 00:00:30 GMT", 40_000), None);
        assert_eq!(retry_after_ms("soon", 0), None);
    }
}
