//! What holds for every request: a time limit, no posting from foreign pages, and headers that keep a browser strict.

use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::problem::Problem;

/// A request that takes longer is given up, the time to receive its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Nothing but our own stylesheet and forms to ourselves. No scripts at all.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// The monotonic clock, for the age of a worker's last beat.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Wraps every request.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    let changes = [Method::POST, Method::DELETE].contains(request.method());
    let mut response = if changes && from_elsewhere(request.headers()) {
        let detail = "a page of another site must not send events; send them from a program";
        Problem::new(StatusCode::FORBIDDEN, detail).into_response()
    } else {
        match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
            Ok(response) => response,
            Err(_) => {
                let detail = "the request took too long and was given up; try again";
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
                    .retry_after(REQUEST_TIMEOUT)
                    .into_response()
            }
        }
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Whether a browser sent this on behalf of a page of another site. Browsers say so in `Sec-Fetch-Site`, older ones by an `Origin`
/// that is not the host; other clients send neither.
fn from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    if let Some(site) = headers.get("sec-fetch-site").map(text) {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(ORIGIN).map(text) else { return false };
    let host = headers.get(HOST).map(text).unwrap_or_default();
    origin.split_once("://").is_none_or(|(_, authority)| authority != host)
}
