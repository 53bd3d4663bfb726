//! Errors as problem details (RFC 9457).

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// An error for a client: a status and a sentence that says what to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
    /// Its type and its title, where the status does not say enough for a program.
    kind: Option<(&'static str, &'static str)>,
    retry_after_seconds: Option<u64>,
    extensions: Map<String, Value>,
}

impl Problem {
    /// A problem; `type` stays `about:blank`, so `title` is the phrase of the status (RFC 9457, 4.2.1), unless [`Problem::typed`].
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem {
            status,
            detail: detail.into(),
            kind: None,
            retry_after_seconds: None,
            extensions: Map::new(),
        }
    }

    /// A request that has to be changed before it is sent again.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// Gives it a type of its own.
    pub(crate) fn typed(mut self, kind: &'static str, title: &'static str) -> Problem {
        self.kind = Some((kind, title));
        self
    }

    /// Says when to try again; at least one second.
    pub(crate) fn retry_after(mut self, wait: std::time::Duration) -> Problem {
        self.retry_after_seconds = Some(wait.as_secs().max(1));
        self
    }

    /// Adds a member.
    pub(crate) fn with(self, name: &str, value: Value) -> Problem {
        self.with_all(Map::from_iter([(name.to_owned(), value)]))
    }

    /// Adds members.
    pub(crate) fn with_all(mut self, members: Map<String, Value>) -> Problem {
        self.extensions.extend(members);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = self.extensions;
        let phrase = self.status.canonical_reason().unwrap_or("Error");
        let (kind, title) = self.kind.unwrap_or(("about:blank", phrase));
        body.insert("type".to_owned(), json!(kind));
        body.insert("title".to_owned(), json!(title));
        body.insert("status".to_owned(), json!(self.status.as_u16()));
        body.insert("detail".to_owned(), json!(self.detail));
        let mut response = (self.status, Value::Object(body).to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
