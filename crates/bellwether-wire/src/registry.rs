//! A client of a Confluent-compatible schema registry (Confluent, Apicurio, Karapace, Redpanda).
//!
//! # Invariants
//! - "There is no such schema" is said only when the registry itself says so in its own error format. A proxy's page, a
//!   time-out or a 5xx is *unavailable*: good data must not be rejected because of it.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::Client;
use schema_registry_converter::blocking::schema_registry::{
    SrSettings, get_schema_by_id, post_schema,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{
    RawError, RegisteredSchema, SchemaType, SuppliedSchema,
};

use crate::schema::Contract;

/// How a consumer of any age stays able to read what a producer of any age wrote.
const COMPATIBILITY: &str = "FULL_TRANSITIVE";
/// Error codes by which a registry says that it has no such schema: Confluent's 40403, Apicurio's 40401 and 404.
const NO_SUCH_SCHEMA: [u32; 4] = [404, 40401, 40402, 40403];

/// Where the registry is.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Base addresses, tried in order, e.g. `http://127.0.0.1:8081`.
    pub urls: Vec<String>,
    /// User of HTTP basic authentication (an API key).
    pub username: Option<String>,
    /// Password of the same.
    pub password: Option<String>,
    /// How long one call may take.
    pub timeout: Duration,
}

impl RegistryConfig {
    /// One address, no authentication, two seconds.
    #[must_use]
    pub fn new(url: impl Into<String>) -> RegistryConfig {
        RegistryConfig {
            urls: vec![url.into()],
            username: None,
            password: None,
            timeout: Duration::from_secs(2),
        }
    }
}

impl fmt::Debug for RegistryConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RegistryConfig")
            .field("urls", &self.urls)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// Why the registry could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The configuration cannot work.
    #[error("the schema registry's configuration cannot be used: {0}")]
    Config(String),
    /// It did not answer, or not as a registry does. Try again later.
    #[error(
        "the schema registry does not answer as it should: {0}; check its address and that it runs"
    )]
    Unavailable(String),
    /// It answered that it has no schema of this id.
    #[error("the schema registry has no schema of id {0}")]
    UnknownSchema(u32),
    /// It refused a schema.
    #[error(
        "the schema registry refused schema `{schema}` for subject `{subject}`: {detail}; compare it with the registered \
         versions (schemas/README.md says how to evolve), or have an administrator allow it"
    )]
    Refused {
        /// The subject.
        subject: String,
        /// The contract's name.
        schema: &'static str,
        /// What the registry said.
        detail: String,
    },
}

/// A registry, connected on demand.
pub(crate) struct Registry {
    config: RegistryConfig,
    settings: SrSettings,
    client: Client,
}

impl Registry {
    pub(crate) fn new(config: &RegistryConfig) -> Result<Registry, RegistryError> {
        let mut config = config.clone();
        for url in &mut config.urls {
            *url = url.trim_end_matches('/').to_owned();
        }
        let Some((first, others)) = config.urls.split_first() else {
            return Err(RegistryError::Config("no address is given".to_owned()));
        };
        let mut builder = SrSettings::new_builder(first.clone());
        for url in others {
            builder.add_url(url.clone());
        }
        if let Some(username) = &config.username {
            builder.set_basic_authorization(username, config.password.as_deref());
        }
        builder.set_timeout(config.timeout);
        let settings = builder.build().map_err(|error| RegistryError::Config(describe(&error)))?;
        let client = Client::builder()
            .timeout(config.timeout)
            .build()
            .map_err(|error| RegistryError::Config(error.to_string()))?;
        Ok(Registry { config, settings, client })
    }

    /// The schema of an id. Ids are Java's `int`: what lies beyond is in no registry, and Apicurio answers it with an error of its web
    /// server instead of its own, so it is not asked.
    pub(crate) fn schema(&self, id: u32) -> Result<RegisteredSchema, RegistryError> {
        if i32::try_from(id).is_err() {
            return Err(RegistryError::UnknownSchema(id));
        }
        get_schema_by_id(id, &self.settings).map_err(|error| match raw(&error) {
            Some(raw) if NO_SUCH_SCHEMA.contains(&raw.error_code) => {
                RegistryError::UnknownSchema(id)
            }
            Some(_) | None => RegistryError::Unavailable(describe(&error)),
        })
    }

    /// Registers a contract under a subject, or finds it there, and binds the subject to [`COMPATIBILITY`]. Returns its id.
    pub(crate) fn register(
        &self,
        subject: &str,
        contract: &Contract,
    ) -> Result<u32, RegistryError> {
        let refused = |detail: String| RegistryError::Refused {
            subject: subject.to_owned(),
            schema: contract.name(),
            detail,
        };
        let supplied = SuppliedSchema::new(None, SchemaType::Avro, contract.text().to_owned());
        let registered =
            post_schema(&self.settings, subject.to_owned(), supplied).map_err(|error| {
                match raw(&error) {
                    // The registry's own words, and not those of a failure of its storage (500..599, 50001..).
                    Some(raw) if matches!(raw.error_code, 400..=499 | 40_000..=49_999) => {
                        refused(raw.message.clone())
                    }
                    Some(_) | None => RegistryError::Unavailable(describe(&error)),
                }
            })?;
        self.set_compatibility(subject).map_err(|error| match error {
            Answer::Refused(detail) => {
                refused(format!("compatibility {COMPATIBILITY} was not accepted: {detail}"))
            }
            Answer::Missing(detail) => RegistryError::Unavailable(detail),
        })?;
        Ok(registered.id)
    }

    /// The one call that the converter library lacks: `PUT /config/{subject}`.
    fn set_compatibility(&self, subject: &str) -> Result<(), Answer> {
        let mut last = Answer::Missing("no address is given".to_owned());
        for url in &self.config.urls {
            let subject = subject.replace('/', "%2F");
            let mut request = self
                .client
                .put(format!("{url}/config/{subject}"))
                .header("content-type", "application/vnd.schemaregistry.v1+json")
                .body(format!(r#"{{"compatibility":"{COMPATIBILITY}"}}"#));
            if let Some(username) = &self.config.username {
                request = request.basic_auth(username, self.config.password.as_ref());
            }
            last = match request.send() {
                Ok(response) if response.status().is_success() => return Ok(()),
                Ok(response) if response.status().is_client_error() => {
                    Answer::Refused(status_line(response.status()))
                }
                Ok(response) => Answer::Missing(status_line(response.status())),
                Err(error) => Answer::Missing(chain(&error)),
            };
        }
        Err(last)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Registry").field(&self.config).finish()
    }
}

/// What came back instead of success.
enum Answer {
    Refused(String),
    Missing(String),
}

fn status_line(status: StatusCode) -> String {
    format!("HTTP status {status}")
}

/// The registry's own error record, if that is what it sent (the library puts code 0 where it could not parse one).
fn raw(error: &SRCError) -> Option<&RawError> {
    error
        .source()
        .and_then(|source| source.downcast_ref::<RawError>())
        .filter(|raw| raw.error_code != 0)
}

fn describe(error: &SRCError) -> String {
    match error.source() {
        Some(source) => format!("{} ({})", error.error, chain(source)),
        None => error.error.clone(),
    }
}

/// An error with its causes; reqwest's own text stops at "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
