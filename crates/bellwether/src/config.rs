//! Configuration: defaults < file < environment < flags. Every key is documented here and shown by `bellwether config`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bellwether_core::time::DAY_MS;
use bellwether_engine::kafka::{GroupProtocol, is_secret};
use bellwether_engine::topics::{Kept, TopicNames};
use bellwether_engine::worker::Ticks;
use bellwether_notify::desk::Format as RowFormat;
use bellwether_store::Format;
use figment::Figment;
use figment::error::Kind;
use figment::providers::{Env, Format as _, Serialized, Toml};
use serde::{Deserialize, Serialize};

/// The file that is read where none is named, if it is there.
const DEFAULT_FILE: &str = "bellwether.toml";
/// Environment variables of the tests and scripts, which are no configuration.
const NOT_CONFIG: [&str; 6] =
    ["cache", "config", "fault_control", "fault_dir", "kill_at", "write_fixtures"];

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Names the consumer group, the transactional ids and the state; two applications with one name share the work.
    pub(crate) application_id: String,
    /// Where state lies: state stores, and the embedded log.
    pub(crate) data_dir: PathBuf,
    /// The policy file; none: the built-in default policy.
    pub(crate) policy: Option<PathBuf>,
    /// The model file of a learned scorecard (`bellwether learn fit`), or a policy that differs in weights, points and bands only; none: the policy's expert weights.
    pub(crate) model: Option<PathBuf>,
    /// The HTTP server.
    pub(crate) http: Http,
    /// The notifier, as a process of its own.
    pub(crate) notify: Notify,
    /// The Kafka cluster.
    pub(crate) kafka: Kafka,
    /// The schema registry.
    pub(crate) registry: Registry,
    /// Names of the topics.
    pub(crate) topics: TopicNames,
    /// The engine.
    pub(crate) engine: Engine,
    /// The state.
    pub(crate) state: State,
    /// Logs.
    pub(crate) log: Log,
}

/// The HTTP server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    /// Address and port; port 0 takes a free one and prints it.
    pub(crate) listen: String,
}

/// The notifier.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Notify {
    /// As a process of its own (`bellwether notify`): address and port of its metrics and health, beside those of a worker on the same
    /// machine; port 0 takes a free one and prints it.
    pub(crate) listen: String,
    /// Days for which what could not be told is kept (`topics.parked`), and for which it is remembered whether it is overtaken (1..=365). The
    /// topic's `retention.ms`, set when `topics apply` creates it; later that is its owner's choice. Change both together.
    pub(crate) parked_days: u16,
    /// MiB of each partition of that topic: its `retention.bytes`, likewise (1..=1048576). The embedded log goes by days only.
    pub(crate) parked_mib: u32,
    /// The format in which it writes its memory (`topics.notify_state`); every format is read. None: the newest (2). Set it to that of the
    /// older version (1) for a rolling upgrade, on every notifier that is upgraded, and remove it when all of them are: an older version
    /// refuses what it does not know. Below 2 it is forgotten with every rebalance and restart how much was parked that day because it was
    /// too old (`delivery.parked_max_day`).
    pub(crate) format: Option<u8>,
}

impl Notify {
    /// The format, which was checked.
    pub(crate) fn format(&self) -> RowFormat {
        self.format.and_then(RowFormat::numbered).unwrap_or_default()
    }

    /// What is kept of what could not be told.
    pub(crate) fn kept(&self) -> Kept {
        Kept {
            parked_ms: i64::from(self.parked_days) * DAY_MS,
            parked_bytes: i64::from(self.parked_mib) << 20,
            ..Kept::default()
        }
    }
}

/// The Kafka cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kafka {
    /// `host:port,host:port`.
    pub(crate) bootstrap_servers: Option<String>,
    /// Names this process within the application; it must be the same after a restart and unique among processes. None: a name
    /// that is made at the first start and kept in the data directory.
    pub(crate) instance_id: Option<String>,
    /// Whether a process that stops keeps its partitions for the session time-out, for its successor of the same name to take over at
    /// once. False: they go to the other processes when it stops.
    pub(crate) static_membership: bool,
    /// Who decides which process owns which partitions: `classic` (the processes themselves; every broker has it) or `consumer` (the
    /// broker, KIP-848, Apache Kafka 4.0 and later; the session time-out is then the broker's `group.consumer.session.timeout.ms`).
    pub(crate) group_protocol: GroupProtocol,
    /// Which partitions of other processes this one keeps a warm copy of, to take over without reading their whole state back: `off`
    /// or `all`. A copy takes disk space and reads its changelogs.
    pub(crate) standby: Standby,
    /// Seconds without a sign of life after which a process's partitions go to others (6..=300).
    pub(crate) session_timeout_seconds: u32,
    /// Seconds after which the brokers abort the transaction of a process that is gone (6..=300).
    pub(crate) transaction_timeout_seconds: u32,
    /// Whether a worker goes on where input was deleted before it was read. Better given once, as `run --skip-lost-input`.
    pub(crate) skip_lost_input: bool,
    /// Worker threads of this process (1..=64); more than partitions are idle.
    pub(crate) workers: u16,
    /// Further settings of librdkafka, e.g. `"security.protocol" = "SASL_SSL"`. Secrets are masked when shown.
    pub(crate) properties: BTreeMap<String, String>,
}

/// Which partitions of other processes a process keeps a copy of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standby {
    /// None.
    Off,
    /// Every one.
    All,
}

/// The schema registry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registry {
    /// Base URL of its Confluent-compatible API. None: input is JSON, and so is output.
    pub(crate) url: Option<String>,
    /// User name for basic authentication.
    pub(crate) username: Option<String>,
    /// Password for basic authentication.
    pub(crate) password: Option<String>,
}

/// Format of the output records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutputFormat {
    /// Avro where there is a registry, JSON where there is none.
    Auto,
    /// JSON.
    Json,
    /// Avro in the Confluent wire format; needs the registry.
    Avro,
}

/// The engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Engine {
    /// Format of the output records.
    pub(crate) output_format: OutputFormat,
    /// Records in one transaction at most (1..=100000).
    pub(crate) batch_records_max: usize,
    /// Milliseconds of processing after which a batch is committed, whatever is left of it (1..=10000).
    pub(crate) batch_milliseconds_max: u64,
    /// Bytes of an input record at most; larger ones are dead letters (1024..=67108864).
    pub(crate) record_bytes_max: usize,
    /// Bytes of a rejected record that its dead letter keeps whole; of a larger one it keeps the first 64 KiB (65536..=15728640).
    pub(crate) dead_letter_bytes_max: usize,
    /// Whether the passing of time is recorded in quiet partitions: `live` or `off`.
    pub(crate) ticks: Ticks,
    /// Seconds that a partition must be quiet before that (1..=86400).
    pub(crate) tick_seconds: u64,
    /// Memory that this process is to stay within, in MiB (64..=1048576): caches, write buffers, queues of the Kafka clients, batches and
    /// the recent past for the API are bounded by parts of it, and batches shrink while the process is larger. Apart from it, every
    /// account of the owned partitions takes some 400 bytes.
    pub(crate) memory_mib: usize,
    /// Partitions of the embedded log, fixed when its directory is created (1..=64).
    pub(crate) embedded_partitions: u16,
}

/// The state.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// The format in which state and its changelogs are written; every format is read. None: the newest (4). Set it to that of the
    /// older version (1 to 3) for a rolling upgrade, on every worker that is upgraded, and remove it when all of them are: an older version
    /// refuses what it does not know. Below 4 no live ranking of a learned scorecard is measured; below 3 the condition `higher_tier` says
    /// nothing, `fiscal_year_end` of profiles is passed over, and the rolling detector writes all days of an account with every event.
    pub(crate) format: Option<u8>,
}

impl State {
    /// The format, which was checked.
    pub(crate) fn format(&self) -> Format {
        self.format.and_then(Format::numbered).unwrap_or_default()
    }
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    /// Form of the lines.
    pub(crate) format: LogFormat,
    /// Which lines, e.g. `info` or `warn,bellwether_engine=debug`.
    pub(crate) filter: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            application_id: "bellwether".to_owned(),
            data_dir: PathBuf::from(".bellwether"),
            policy: None,
            model: None,
            http: Http { listen: "127.0.0.1:8391".to_owned() },
            notify: Notify {
                listen: "127.0.0.1:8392".to_owned(),
                parked_days: 30,
                parked_mib: 512,
                format: None,
            },
            kafka: Kafka {
                bootstrap_servers: None,
                instance_id: None,
                static_membership: true,
                skip_lost_input: false,
                group_protocol: GroupProtocol::Classic,
                standby: Standby::Off,
                session_timeout_seconds: 20,
                transaction_timeout_seconds: 30,
                workers: 1,
                properties: BTreeMap::new(),
            },
            registry: Registry { url: None, username: None, password: None },
            topics: TopicNames::default(),
            engine: Engine {
                output_format: OutputFormat::Auto,
                batch_records_max: 50_000,
                batch_milliseconds_max: 500,
                record_bytes_max: 1 << 20,
                dead_letter_bytes_max: 15 << 20,
                ticks: Ticks::Live,
                tick_seconds: 60,
                memory_mib: 1_024,
                embedded_partitions: 4,
            },
            state: State { format: None },
            log: Log { format: LogFormat::Text, filter: "info".to_owned() },
        }
    }
}

/// What flags set, over everything else.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    /// `key.path` and value.
    pub(crate) values: Vec<(&'static str, String)>,
}

impl Config {
    /// Reads the configuration. `file`: the one named by a flag, which must be there.
    pub(crate) fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Config> {
        let mut figment = Figment::from(Serialized::defaults(Config::default()));
        match file {
            Some(path) if !path.is_file() => bail!("{}: there is no such file", path.display()),
            Some(path) => figment = figment.merge(Toml::file_exact(path)),
            None if Path::new(DEFAULT_FILE).is_file() => {
                figment = figment.merge(Toml::file_exact(DEFAULT_FILE))
            }
            None => {}
        }
        figment = figment.merge(Env::prefixed("BELLWETHER_").ignore(&NOT_CONFIG).split("__"));
        for (key, value) in &overrides.values {
            figment = figment.merge(Serialized::default(key, value));
        }
        let config: Config =
            figment.extract().map_err(explain).context("the configuration is not valid")?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        within("kafka.workers", u64::from(self.kafka.workers), 1, 64)?;
        let kafka = &self.kafka;
        within("kafka.session_timeout_seconds", kafka.session_timeout_seconds.into(), 6, 300)?;
        let transaction = kafka.transaction_timeout_seconds.into();
        within("kafka.transaction_timeout_seconds", transaction, 6, 300)?;
        within("engine.batch_records_max", self.engine.batch_records_max as u64, 1, 100_000)?;
        within("engine.batch_milliseconds_max", self.engine.batch_milliseconds_max, 1, 10_000)?;
        within("engine.record_bytes_max", self.engine.record_bytes_max as u64, 1_024, 64 << 20)?;
        let letter = self.engine.dead_letter_bytes_max as u64;
        within("engine.dead_letter_bytes_max", letter, 64 << 10, 15 << 20)?;
        within("engine.tick_seconds", self.engine.tick_seconds, 1, 86_400)?;
        within("engine.memory_mib", self.engine.memory_mib as u64, 64, 1 << 20)?;
        within("engine.embedded_partitions", u64::from(self.engine.embedded_partitions), 1, 64)?;
        within("notify.parked_days", self.notify.parked_days.into(), 1, 365)?;
        within("notify.parked_mib", self.notify.parked_mib.into(), 1, 1 << 20)?;
        if let Some(format) = self.notify.format {
            within("notify.format", format.into(), 1, RowFormat::NEWEST.number().into())?;
        }
        if let Some(format) = self.state.format {
            within("state.format", format.into(), 1, Format::NEWEST.number().into())?;
        }
        if self.engine.output_format == OutputFormat::Avro && self.registry.url.is_none() {
            bail!("engine.output_format is avro, which needs registry.url");
        }
        Ok(())
    }

    /// The configuration for people, secrets masked.
    pub(crate) fn masked(&self) -> Config {
        let mut shown = self.clone();
        if shown.registry.password.is_some() {
            shown.registry.password = Some("********".to_owned());
        }
        if let Some(url) = &mut shown.registry.url {
            *url = without_user(url);
        }
        for (key, value) in &mut shown.kafka.properties {
            if is_secret(key) {
                *value = "********".to_owned();
            }
        }
        shown
    }
}

/// An address without the user and password that may stand in it.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://********@{host}{path}"),
        None => url.to_owned(),
    }
}

fn within(key: &str, value: u64, low: u64, high: u64) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    bail!("{key} is {value}, allowed is {low} to {high}")
}

/// Names source, key, value and what is allowed.
fn explain(error: figment::Error) -> anyhow::Error {
    let messages: Vec<String> = error
        .into_iter()
        .map(|error| {
            let source = error.metadata.as_ref().map_or_else(
                || "configuration".to_owned(),
                |source| {
                    source.source.as_ref().map_or_else(
                        || source.name.to_string(),
                        |at| format!("{} ({at})", source.name),
                    )
                },
            );
            let key =
                if error.path.is_empty() { "(top level)".to_owned() } else { error.path.join(".") };
            let problem = if let Kind::UnknownField(field, allowed) = &error.kind {
                // As figment writes it, the list stands in two pairs of backquotes.
                format!("unknown field `{field}`, allowed are {}", allowed.join(", "))
            } else {
                error.kind.to_string()
            };
            format!("{source}: {key}: {problem}")
        })
        .collect();
    anyhow::anyhow!(messages.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<Config> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("test.toml");
        std::fs::write(&file, text).expect("the directory is writable");
        Config::load(Some(&file), &Overrides::default())
    }

    #[test]
    fn errors_name_file_key_and_what_is_allowed() {
        let error =
            format!("{:#}", load_text("[engine]\nbatch_recods_max = 5\n").expect_err("a typo"));
        assert!(error.contains("test.toml") && error.contains("batch_recods_max"), "{error}");
        assert!(error.contains("batch_records_max"), "what is allowed: {error}");
        let error = format!(
            "{:#}",
            load_text("[engine]\nticks = \"sometimes\"\n").expect_err("no such choice")
        );
        assert!(error.contains("engine.ticks") && error.contains("live"), "{error}");
        let error = format!("{:#}", load_text("[kafka]\nworkers = 0\n").expect_err("out of range"));
        assert!(error.contains("kafka.workers is 0, allowed is 1 to 64"), "{error}");
    }

    #[test]
    fn secrets_are_masked() {
        let config = load_text(
            "[registry]\nurl = \"http://r\"\npassword = \"hush\"\n[kafka.properties]\n\"sasl.password\" = \"hush\"\n\"client.id\" = \"seen\"\n",
        )
        .expect("valid");
        let shown = toml::to_string(&config.masked()).expect("serialisable");
        assert!(!shown.contains("hush") && shown.contains("seen"), "{shown}");
    }
}
