//! A sink that is open: its client and its secrets.

use std::path::Path;

use bellwether_core::time::Millis;

use crate::delivery::{Delivery, Outcome, Parking};
use crate::http::HttpSink;
use crate::mail::MailSink;
use crate::payload::{Parcel, PayloadError, lasting, parcel};
use crate::policy::{DeliveryPolicy, PolicyError, Sink, SinkType};
use crate::render::Texts;

/// Bytes of a file that holds a secret, at most.
const SECRET_BYTES_MAX: u64 = 16 << 10;

/// A sink, ready to be called.
pub struct Channel {
    sink: Sink,
    secret: Option<String>,
    client: Client,
}

enum Client {
    Http(HttpSink),
    Mail(Box<MailSink>),
}

impl std::fmt::Debug for Channel {
    /// Without its secrets.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Channel").field("sink", &self.sink.name).finish_non_exhaustive()
    }
}

/// Looks up an environment variable.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Channel {
    /// Opens a sink: reads its URL and its secret.
    ///
    /// # Errors
    /// They are missing or cannot be used; the message does not show them.
    pub fn open(
        policy: &DeliveryPolicy,
        sink: &Sink,
        environment: Environment<'_>,
    ) -> Result<Channel, PolicyError> {
        let name = &sink.name;
        let read = |variable: Option<&str>, file: Option<&Path>| {
            read_secret(variable, file, environment)
                .map_err(|error| PolicyError(format!("sink `{name}`: {error}")))
        };
        let url = match &sink.url {
            Some(url) => Some(url.clone()),
            None => read(sink.url_env.as_deref(), sink.url_file.as_deref())?,
        };
        let url = url.ok_or_else(|| PolicyError(format!("sink `{name}` has no URL")))?;
        let secret = read(sink.secret_env.as_deref(), sink.secret_file.as_deref())?;
        let client = match sink.kind {
            SinkType::Email => MailSink::open(sink, &url, secret.as_deref(), &policy.delivery)
                .map(|mail| Client::Mail(Box::new(mail))),
            SinkType::Slack
            | SinkType::Teams
            | SinkType::Webhook
            | SinkType::Pagerduty
            | SinkType::Alertmanager
            | SinkType::Template => HttpSink::open(sink, &url, &policy.delivery).map(Client::Http),
        };
        let client = client.map_err(PolicyError)?;
        if sink.kind == SinkType::Webhook {
            crate::signature::sign(secret.as_deref().unwrap_or_default(), "", 0, b"")
                .map_err(|error| PolicyError(format!("sink `{name}`: {error}")))?;
        }
        Ok(Channel { sink: sink.clone(), secret, client })
    }

    /// The sink.
    #[must_use]
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// One attempt.
    pub async fn attempt(&self, texts: &Texts, delivery: &Delivery, now: Millis) -> Outcome {
        let secret = self.secret.as_deref();
        self.send(parcel(texts, &self.sink, secret, delivery, now), &delivery.key, now).await
    }

    /// One attempt with an alert that ends by itself after so long, where the sink can be told that.
    pub(crate) async fn attempt_lasting(
        &self,
        texts: &Texts,
        delivery: &Delivery,
        now: Millis,
        shown_ms: i64,
    ) -> Outcome {
        let secret = self.secret.as_deref();
        let parcel = lasting(texts, &self.sink, secret, delivery, now, shown_ms);
        self.send(parcel, &delivery.key, now).await
    }

    async fn send(&self, parcel: Result<Parcel, PayloadError>, key: &str, now: Millis) -> Outcome {
        let parcel = match parcel {
            Ok(parcel) => parcel,
            Err(error) => {
                return Outcome::Refused { reason: Parking::Unsendable, detail: error.to_string() };
            }
        };
        match (&self.client, &parcel) {
            (Client::Http(http), Parcel::Http { headers, body }) => {
                http.send(headers, body, now.0).await
            }
            (Client::Mail(mail), Parcel::Mail { subject, text, html }) => {
                mail.send(key, subject, text, html).await
            }
            (Client::Http(_), Parcel::Mail { .. }) | (Client::Mail(_), Parcel::Http { .. }) => {
                Outcome::Refused {
                    reason: Parking::Unsendable,
                    detail: "the sink's client does not fit its type: this is a bug".to_owned(),
                }
            }
        }
    }
}

/// Reads a secret from the environment or a file; white space around it is dropped. None where neither is named.
fn read_secret(
    variable: Option<&str>,
    file: Option<&Path>,
    environment: Environment<'_>,
) -> Result<Option<String>, String> {
    let text = if let Some(variable) = variable {
        environment(variable)
            .ok_or_else(|| format!("the environment variable {variable} is not set"))?
    } else if let Some(file) = file {
        let failed = |error: std::io::Error| format!("{}: {error}", file.display());
        let bytes = std::fs::metadata(file).map_err(failed)?.len();
        if bytes > SECRET_BYTES_MAX {
            return Err(format!(
                "{}: it has {bytes} bytes, a secret at most {SECRET_BYTES_MAX}",
                file.display()
            ));
        }
        std::fs::read_to_string(file).map_err(failed)?
    } else {
        return Ok(None);
    };
    let text = text.trim().to_owned();
    if text.is_empty() {
        return Err("its URL or secret is empty".to_owned());
    }
    Ok(Some(text))
}
