//! Sinks that are e-mail, by SMTP.
//!
//! # Invariants
//! - The server's name is looked up and checked here ([`crate::address`]), and the connection goes to that very address; its certificate is
//!   checked against the name.
//! - `Message-ID` is made of the idempotency key: mail systems drop a second message of the same id.

use std::time::Duration;

use lettre::message::header::{ContentType, MessageId};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Message, SmtpTransport, Transport};
use reqwest::Url;

use crate::address::{self, Forbidden};
use crate::delivery::{Outcome, Parking};
use crate::policy::{Effort, Sink};

/// How the connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    /// Not at all.
    Plain,
    /// STARTTLS, or nothing is sent.
    StartTls,
    /// TLS from the first byte.
    Wrapped,
}

/// A sink that is e-mail.
#[derive(Debug, Clone)]
pub struct MailSink {
    host: String,
    port: u16,
    security: Security,
    credentials: Option<Credentials>,
    from: Mailbox,
    to: Vec<Mailbox>,
    allow_private: bool,
    timeout: Duration,
}

impl MailSink {
    /// A client of a server: `smtp://host[:587]` (STARTTLS) or `smtps://host[:465]`. Nothing is sent yet.
    ///
    /// # Errors
    /// The URL or an address cannot be used.
    pub fn open(
        sink: &Sink,
        url: &str,
        secret: Option<&str>,
        effort: &Effort,
    ) -> Result<MailSink, String> {
        let name = &sink.name;
        let url: Url = url
            .trim()
            .parse()
            .map_err(|error| format!("sink `{name}`: its URL cannot be read: {error}"))?;
        let (security, port) = match url.scheme() {
            "smtps" => (Security::Wrapped, 465),
            "smtp" if sink.allow_http => (Security::Plain, 25),
            "smtp" => (Security::StartTls, 587),
            _ => return Err(format!("sink `{name}`: its URL is neither smtp nor smtps")),
        };
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(format!("sink `{name}`: its URL names no host"));
        }
        let mailbox = |text: &str| {
            text.parse::<Mailbox>()
                .map_err(|error| format!("sink `{name}`: `{text}` is no e-mail address: {error}"))
        };
        let credentials = sink.username.clone().zip(secret);
        Ok(MailSink {
            port: url.port().unwrap_or(port),
            host,
            security,
            credentials: credentials
                .map(|(user, password)| Credentials::new(user, password.to_owned())),
            from: mailbox(sink.from.as_deref().unwrap_or_default())?,
            to: sink.to.iter().map(|to| mailbox(to)).collect::<Result<_, _>>()?,
            allow_private: sink.allow_private,
            timeout: Duration::from_millis(sink.timeout_ms.unwrap_or(effort.timeout_ms)),
        })
    }

    /// One attempt.
    pub async fn send(&self, key: &str, subject: &str, text: &str, html: &str) -> Outcome {
        let message = match self.message(key, subject, text, html) {
            Ok(message) => message,
            Err(error) => {
                return Outcome::Refused { reason: Parking::Unsendable, detail: error.to_string() };
            }
        };
        let attempt = async {
            let found = address::resolve(&self.host, self.port, self.allow_private).await;
            let address = match found {
                Ok(found) => found[0],
                Err(error) => return unresolved(error.as_ref()),
            };
            let transport = match self.transport(&address.ip().to_string()) {
                Ok(transport) => transport,
                Err(error) => return failed(&error),
            };
            let sent = tokio::task::spawn_blocking(move || transport.send(&message)).await;
            match sent {
                Ok(Ok(_)) => Outcome::Delivered,
                Ok(Err(error)) if error.is_permanent() => {
                    Outcome::Refused { reason: Parking::Rejected, detail: error.to_string() }
                }
                Ok(Err(error)) => failed(&error),
                Err(error) => failed(&error),
            }
        };
        match tokio::time::timeout(self.timeout, attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Failed {
                detail: format!("no answer within {} ms", self.timeout.as_millis()),
                retry_after_ms: None,
            },
        }
    }

    fn message(
        &self,
        key: &str,
        subject: &str,
        text: &str,
        html: &str,
    ) -> Result<Message, lettre::error::Error> {
        let mut builder = Message::builder().from(self.from.clone()).subject(subject);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        let html = format!("<!doctype html><html><body>{html}</body></html>");
        let part = |kind, body: String| SinglePart::builder().header(kind).body(body);
        builder.header(MessageId::from(format!("<{key}@bellwether>"))).multipart(
            MultiPart::alternative()
                .singlepart(part(ContentType::TEXT_PLAIN, text.to_owned()))
                .singlepart(part(ContentType::TEXT_HTML, html)),
        )
    }

    fn transport(&self, address: &str) -> Result<SmtpTransport, lettre::transport::smtp::Error> {
        let parameters = || TlsParameters::new(self.host.clone());
        let tls = match self.security {
            Security::Plain => Tls::None,
            Security::StartTls => Tls::Required(parameters()?),
            Security::Wrapped => Tls::Wrapper(parameters()?),
        };
        let mut builder = SmtpTransport::builder_dangerous(address)
            .port(self.port)
            .tls(tls)
            .timeout(Some(self.timeout));
        if let Some(credentials) = &self.credentials {
            builder = builder.credentials(credentials.clone());
        }
        Ok(builder.build())
    }
}

fn failed(error: &dyn std::error::Error) -> Outcome {
    Outcome::Failed { detail: error.to_string(), retry_after_ms: None }
}

fn unresolved(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Outcome {
    match error.downcast_ref::<Forbidden>() {
        Some(forbidden) => {
            Outcome::Refused { reason: Parking::ForbiddenAddress, detail: forbidden.to_string() }
        }
        None => failed(error),
    }
}
