//! Sinks that are e-mail, by SMTP.
//!
//! # Invariants
//! - The server's name is looked up and checked here ([`crate::address`]), and the connection goes to that very address; its certificate is
//!   checked against the name.
//! - `Message-ID` is made of the idempotency key: mail systems drop a second message of the same id.
//! - Nothing blocks a thread (but the lookup of a name, which ends by itself): an attempt that is given up closes its connection and leaves
//!   nothing behind.
//! - Once a server has the whole message it may take it though nobody waits for its answer any more; so that is waited for as long as
//!   the standard says, lest a slow server is sent copies.

use std::net::SocketAddr;
use std::time::Duration;

use bellwether_core::id::hex_byte;
use lettre::message::header::{ContentType, MessageId};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::{Message, transport::smtp};
use reqwest::Url;

use crate::address::{self, Forbidden};
use crate::delivery::{Outcome, Parking};
use crate::policy::{Effort, Sink};

/// How long a server that has the whole message may take to say whether it takes it (RFC 5321, 4.5.3.2.6).
const ACCEPT_LIMIT: Duration = Duration::from_secs(600);

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
    /// For everything until the message is handed over.
    timeout: Duration,
    /// For the answer to it.
    accept_limit: Duration,
}

impl MailSink {
    /// A client of a server: `smtp://host[:587]` (STARTTLS) or `smtps://host[:465]`. User and password may stand in the URL, where that comes
    /// from a file or the environment. Nothing is sent yet.
    ///
    /// # Errors
    /// The URL or an address cannot be used; the message shows no password.
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
        let credentials = credentials(sink, &url, secret, security)?;
        Ok(MailSink {
            port: url.port().unwrap_or(port),
            host,
            security,
            credentials,
            from: mailbox(sink.from.as_deref().unwrap_or_default())?,
            to: sink.to.iter().map(|to| mailbox(to)).collect::<Result<_, _>>()?,
            allow_private: sink.allow_private,
            timeout: Duration::from_millis(sink.timeout_ms.unwrap_or(effort.timeout_ms)),
            accept_limit: ACCEPT_LIMIT,
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
        let begun = tokio::time::timeout(self.timeout, Box::pin(self.begin(&message))).await;
        let mut connection = match begun {
            Ok(Ok(connection)) => connection,
            Ok(Err(outcome)) => return outcome,
            Err(_) => return late("no answer", self.timeout),
        };
        let content = message.formatted();
        match tokio::time::timeout(self.accept_limit, connection.message(&content)).await {
            Ok(Ok(_)) => {
                self.part(connection);
                Outcome::Delivered
            }
            Ok(Err(error)) => judged(&error),
            Err(_) => late("whether the message was taken was not said", self.accept_limit),
        }
    }

    /// Connects, proves who is here, and says from whom and to whom the message is: all that comes before it. Until then a server that is
    /// given up has nothing to send.
    async fn begin(&self, message: &Message) -> Result<AsyncSmtpConnection, Outcome> {
        let found = address::resolve(&self.host, self.port, self.allow_private).await;
        let addresses = found.map_err(|error| unresolved(error.as_ref()))?;
        // What the server says before it has heard of the message is about the server or the password, which a person may mend
        // while it is tried again: refusals for good included.
        let mut connection = self.connect(&addresses).await.map_err(|error| failed(&error))?;
        if let Some(credentials) = &self.credentials {
            let proved = connection.auth(DEFAULT_MECHANISMS, credentials).await;
            proved.map_err(|error| failed(&error))?;
        }
        let envelope = message.envelope();
        let mut all = envelope.from().into_iter().chain(envelope.to());
        let ascii = all.all(|address| AsRef::<str>::as_ref(address).is_ascii());
        let mut parameters = Vec::new();
        if !ascii {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Err(Outcome::Refused {
                    reason: Parking::Unsendable,
                    detail: "an address is not ASCII, and the server has no SMTPUTF8".to_owned(),
                });
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        let from = Mail::new(envelope.from().cloned(), parameters);
        connection.command(from).await.map_err(|error| judged(&error))?;
        for to in envelope.to() {
            let to = Rcpt::new(to.clone(), Vec::new());
            connection.command(to).await.map_err(|error| judged(&error))?;
        }
        connection.command(Data).await.map_err(|error| judged(&error))?;
        Ok(connection)
    }

    async fn connect(&self, addresses: &[SocketAddr]) -> Result<AsyncSmtpConnection, smtp::Error> {
        let hello = ClientId::default();
        let tls = || TlsParameters::new(self.host.clone());
        let wrapped = match self.security {
            Security::Wrapped => Some(tls()?),
            Security::Plain | Security::StartTls => None,
        };
        // One address that does not answer leaves time for the others.
        let each = self.timeout / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(addresses, Some(each), &hello, wrapped, None)
                .await?;
        if self.security == Security::StartTls {
            connection.starttls(tls()?, &hello).await?;
        }
        Ok(connection)
    }

    /// Says good-bye. Nobody waits for the answer: the message is delivered.
    fn part(&self, mut connection: AsyncSmtpConnection) {
        let limit = self.timeout;
        tokio::spawn(async move { drop(tokio::time::timeout(limit, connection.quit()).await) });
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
}

/// Who logs in: as the URL has it, or `username` with the secret; none where neither is there.
fn credentials(
    sink: &Sink,
    url: &Url,
    secret: Option<&str>,
    security: Security,
) -> Result<Option<Credentials>, String> {
    let name = &sink.name;
    if url.username().is_empty() && url.password().is_none() {
        if sink.username.is_some() && security == Security::Plain {
            tracing::warn!(sink = name, "its password goes out without TLS, as allow_http says");
        }
        let named = sink.username.clone().zip(secret);
        return Ok(named.map(|(user, password)| Credentials::new(user, password.to_owned())));
    }
    if security == Security::Plain {
        return Err(format!(
            "sink `{name}`: its URL holds a user or password, and credentials need TLS: use smtps://, or leave out allow_http, so that smtp:// means STARTTLS"
        ));
    }
    if sink.username.is_some() || secret.is_some() {
        return Err(format!(
            "sink `{name}`: its URL holds a user or password, and so do username, secret_env or secret_file: give them in one place"
        ));
    }
    let password = url.password().unwrap_or_default();
    match (decoded(url.username()), decoded(password)) {
        (Some(user), Some(password)) if !(user.is_empty() || password.is_empty()) => {
            Ok(Some(Credentials::new(user, password)))
        }
        _ => Err(format!(
            "sink `{name}`: its URL holds no user with a password: smtps://user:password@host, percent-encoded"
        )),
    }
}

/// A part of a URL without its percent-encoding (RFC 3986, 2.1: two hexadecimal digits); none where that is no text.
fn decoded(part: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(part.len()), part.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let (digits, after) = after.split_first_chunk::<2>()?;
            bytes.push(hex_byte(*digits)?);
            rest = after;
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Outcome {
    Outcome::Failed { detail: shown(error), retry_after_ms: None }
}

fn late(what: &str, limit: Duration) -> Outcome {
    Outcome::Failed {
        detail: format!("{what} within {} ms", limit.as_millis()),
        retry_after_ms: None,
    }
}

/// What an answer to a part of the message comes to: for good is what has 5xx, but for a server that wants a (better) login (RFC 4954, 6).
fn judged(error: &smtp::Error) -> Outcome {
    let login = error.status().is_some_and(|code| matches!(u16::from(code), 530 | 534 | 535 | 538));
    if error.is_permanent() && !login {
        return Outcome::Refused { reason: Parking::Rejected, detail: shown(error) };
    }
    failed(error)
}

/// An error with what the server said, which is no more to be trusted than an event.
fn shown(error: &dyn std::error::Error) -> String {
    crate::render::clean(&error.to_string())
}

fn unresolved(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Outcome {
    match error.downcast_ref::<Forbidden>() {
        Some(forbidden) => {
            Outcome::Refused { reason: Parking::ForbiddenAddress, detail: forbidden.to_string() }
        }
        None => failed(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::policy::Loaded;

    /// A server that takes one connection and answers what comes before the message.
    fn silent_after_the_message() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            let lines = BufReader::new(stream.try_clone()?).lines();
            stream.write_all(b"220 test\r\n")?;
            let mut content = false;
            for line in lines {
                let data = line? == "DATA";
                if !content {
                    stream.write_all(if data { b"354 go on\r\n" } else { b"250 fine\r\n" })?;
                }
                content |= data;
            }
            Ok::<(), std::io::Error>(())
        });
        port
    }

    #[test]
    fn a_server_that_never_says_whether_it_took_a_mail_is_given_up_after_all() {
        let policy = "[[sink]]\nname = \"s\"\ntype = \"email\"\nurl = \"smtp://h\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\nallow_http = true\nallow_private = true\n\
            [[route]]\nname = \"r\"\nsinks = [\"s\"]\nmode = \"daily\"\n";
        let loaded = Loaded::parse(policy, "test").expect("sound");
        let sink = loaded.policy().sink("s").expect("a sink");
        let url = format!("smtp://127.0.0.1:{}", silent_after_the_message());
        let mut sink = MailSink::open(sink, &url, None, &loaded.policy().delivery).expect("open");
        assert_eq!(sink.accept_limit, Duration::from_secs(600), "as RFC 5321 says");
        sink.accept_limit = Duration::from_millis(300);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let outcome = runtime.expect("a runtime").block_on(sink.send("key", "s", "t", "h"));
        let detail = "whether the message was taken was not said within 300 ms".to_owned();
        assert_eq!(outcome, Outcome::Failed { detail, retry_after_ms: None });
    }
    const SINK: &str = "[[sink]]\nname = \"s\"\ntype = \"email\"\nurl_env = \"U\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\n";

    fn opened(settings: &str, url: &str, secret: Option<&str>) -> Result<MailSink, String> {
        let loaded = Loaded::parse(&format!("{SINK}{settings}"), "test").expect("sound");
        let sink = loaded.policy().sink("s").expect("a sink");
        MailSink::open(sink, url, secret, &loaded.policy().delivery)
    }

    #[test]
    fn percent_encoding_is_two_hexadecimal_digits() {
        for (part, text) in
            [("", ""), ("a%2Fb", "a/b"), ("%2f%25", "/%"), ("%C3%bc", "ü"), ("+", "+")]
        {
            assert_eq!(decoded(part).as_deref(), Some(text), "{part}");
        }
        for part in ["%", "%4", "a%", "%+f", "%-1", "% f", "%f ", "%0x", "%gg", "%é", "%%41", "%ff"]
        {
            assert_eq!(decoded(part), None, "{part}");
        }
    }

    #[test]
    fn user_and_password_of_a_url_are_used_with_tls_and_refused_without() {
        let expected = Credentials::new("a@b".to_owned(), "p:w%".to_owned());
        for scheme in ["smtp", "smtps"] {
            let url = format!("{scheme}://a%40b:p%3Aw%25@mail.example");
            let sink = opened("", &url, None).expect("TLS");
            assert_eq!(sink.credentials, Some(expected.clone()), "{scheme}");
            assert_eq!(sink.host, "mail.example");
        }
        assert_eq!(opened("", "smtps://mail.example", None).expect("no login").credentials, None);
        let named = "username = \"u\"\nsecret_env = \"S\"\n";
        let sink = opened(named, "smtps://mail.example", Some("w")).expect("TLS");
        assert_eq!(sink.credentials, Some(Credentials::new("u".to_owned(), "w".to_owned())));
        for (settings, url, secret, words) in [
            ("allow_http = true\n", "smtp://u:hush@h", None, "credentials need TLS"),
            (named, "smtps://u:hush@h", Some("w"), "in one place"),
            ("", "smtps://u@h", None, "no user with a password"),
            ("", "smtps://:hush@h", None, "no user with a password"),
            ("", "smtps://u%ff:hush@h", None, "percent-encoded"),
            ("", "smtps://u:hush%+f@h", None, "percent-encoded"),
            ("", "smtps://u:hush%-1@h", None, "percent-encoded"),
        ] {
            let error = opened(settings, url, secret).expect_err(url);
            assert!(error.contains(words) && !error.contains("hush"), "{url}: {error}");
        }
    }
}
