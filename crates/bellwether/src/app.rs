//! Wiring of the running process: workers on their threads, the server on the async runtime, signals.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bellwether_core::condition::When;
use bellwether_core::event::{Input, OutcomeKind};
use bellwether_core::id::{AccountId, EventId};
use bellwether_core::life::snoozed_until;
use bellwether_core::output::Output;
use bellwether_core::policy::Compiled;
use bellwether_core::promotion::ModelReader;
use bellwether_core::reject::{Reason, Reject};
use bellwether_core::step::Core;
use bellwether_core::time::Millis;
use bellwether_engine::clock::now_ms;
use bellwether_engine::embedded::{AppendError, Embedded, Role, partition_of};
use bellwether_engine::kafka::{KafkaLog, KafkaOptions, KafkaTopics, WorkerId};
use bellwether_engine::log::{Append, Log, LogError, Record, Remedy, Topic};
use bellwether_engine::memory::Memory;
use bellwether_engine::metrics::Metrics;
use bellwether_engine::read_model::{Limits, ReadModel, Readiness};
use bellwether_engine::standby::{self, Follow, OpenFollow, Owned, Standby};
use bellwether_engine::topics::{Cleanup, Kept, TopicNames, TopicSpec};
use bellwether_engine::worker::{OpenLog, Settings, Shared, Worker, WorkerError};
use bellwether_notify::policy::Loaded;
use bellwether_notify::run::{NotifyError, Process};
use bellwether_server::{
    AppState, Feed, Ingest, IngestError, IngestReceipt, LoggedAlert, LookedBack, Rejected, Stood,
};
use bellwether_store::Format;
use bellwether_store::log_store::Retention;
use bellwether_store::task::StoreOptions;
use bellwether_wire::decode::{DecodeError, Decoder, RECORD_BYTES_MAX};
use bellwether_wire::encode::{Encoder, OutputKind, OutputTopics};
use bellwether_wire::registry::{RegistryConfig, RegistryError};
use serde_json::Value;

use crate::cli::RunArgs;
use crate::config::{self, Config, OutputFormat};
use crate::data_dir::DataDir;
use crate::memory::Division;
use crate::usage::{Usage, wrong};
use crate::{notify, policies};

/// A running application: workers and what they share.
pub(crate) struct App {
    pub(crate) shared: Shared,
    pub(crate) core: Core,
    workers: Vec<JoinHandle<Result<(), WorkerError>>>,
    /// Who tells people of alerts.
    notifier: Option<JoinHandle<Result<(), NotifyError>>>,
    /// What else works beside the workers.
    helpers: Vec<JoinHandle<()>>,
    /// Producers' side of the embedded log.
    pub(crate) handle: Option<Embedded>,
    /// Given back when all else has ended.
    _data_dir: DataDir,
}

impl App {
    /// Starts workers on the embedded log of a data directory.
    pub(crate) fn embedded(config: &Config, data_dir: &Path, policy: Compiled) -> Result<App> {
        let taken = DataDir::take(data_dir)?;
        let parts = Division::of(config, false);
        let (store, memory) = parts.open(config);
        let core = policies::with_model(Core::new(Arc::new(policy)), config)?;
        let shared = shared(&core, memory, parts.limits())?;
        let partitions = i32::from(config.engine.embedded_partitions);
        let handle = open_log(config, data_dir, &store, partitions)?;
        let settings = settings(config, data_dir, store, 0);
        let inputs: Vec<Topic> =
            config.topics.inputs().iter().map(|name| name.as_str().into()).collect();
        let log = handle.clone();
        let open: OpenLog =
            Box::new(move || log.consume(&inputs).map(|log| Box::new(log) as Box<dyn Log>));
        let registry = registry(config);
        let encoder = encoder(config, registry.as_ref())?;
        let decoder = Decoder::new(registry.as_ref(), config.engine.record_bytes_max)?;
        let worker = Worker::new(settings, shared.clone(), core.clone(), decoder, encoder, open);
        let workers = vec![spawn(worker, &shared)?];
        let helpers = vec![keep_house(handle.clone(), &shared)?];
        let handle = Some(handle);
        Ok(App { shared, core, workers, notifier: None, helpers, handle, _data_dir: taken })
    }

    /// Starts workers on Kafka.
    pub(crate) fn kafka(config: &Config, policy: Compiled) -> Result<App> {
        let taken = DataDir::take(&config.data_dir)?;
        let instance = match &config.kafka.instance_id {
            Some(name) => name.clone(),
            None => taken.instance()?,
        };
        let parts = Division::of(config, true);
        let (store, memory) = parts.open(config);
        let core = policies::with_model(Core::new(Arc::new(policy)), config)?;
        let shared = shared(&core, memory, parts.limits())?;
        let registry = registry(config);
        crate::topics::check(config)?;
        let mut workers = Vec::new();
        for index in 0..u32::from(config.kafka.workers) {
            let mut options = kafka_options(config)?;
            parts.bound(config, &mut options);
            let worker = WorkerId {
                application: config.application_id.clone(),
                instance: instance.clone(),
                thread: index,
            };
            let inputs: Vec<Topic> =
                config.topics.inputs().iter().map(|name| name.as_str().into()).collect();
            let open: OpenLog = Box::new(move || {
                KafkaLog::open(&options, &worker, &inputs).map(|log| Box::new(log) as Box<dyn Log>)
            });
            let encoder = encoder(config, registry.as_ref())?;
            let decoder = Decoder::new(registry.as_ref(), config.engine.record_bytes_max)?;
            let settings = settings(config, &config.data_dir, store.clone(), index);
            let worker =
                Worker::new(settings, shared.clone(), core.clone(), decoder, encoder, open);
            workers.push(spawn(worker, &shared)?);
        }
        let mut helpers = Vec::new();
        if config.kafka.standby == config::Standby::All {
            let mut options = kafka_options(config)?;
            parts.bound(config, &mut options);
            helpers.push(stand_by(config, options, store, &shared)?);
        }
        Ok(App { shared, core, workers, notifier: None, helpers, handle: None, _data_dir: taken })
    }

    /// Tells people of alerts, as a delivery policy says, out of the embedded log.
    fn tell(&mut self, config: &Config, delivery: &Loaded) -> Result<()> {
        let log = self.handle.clone().context("`--delivery` goes with --embedded")?;
        let inputs: Vec<Topic> = vec![config.topics.alerts.as_str().into()];
        let open: OpenLog = Box::new(move || {
            log.consume_as(Role::Notifier, &inputs).map(|log| Box::new(log) as Box<dyn Log>)
        });
        let process = Process {
            metrics: self.shared.metrics.clone(),
            readiness: Arc::default(),
            stop: Arc::clone(&self.shared.stop),
            clock: now_ms,
        };
        self.notifier = Some(notify::spawn(config, delivery, open, process)?);
        Ok(())
    }

    /// Asks the workers to stop and waits for them. The first failure is the result.
    pub(crate) fn stop(self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut result = Ok(());
        for worker in self.workers {
            let ended = match worker.join() {
                Ok(ended) => ended.map_err(anyhow::Error::from),
                Err(_) => {
                    Err(anyhow::anyhow!("a worker panicked: this is a bug, its message is above"))
                }
            };
            result = result.and(ended);
        }
        if let Some(notifier) = self.notifier {
            result = result.and(notify::ended(notifier));
        }
        // A thread that still has the database open when the process ends would take it down.
        for helper in self.helpers {
            let name = helper.thread().name().unwrap_or("a thread").to_owned();
            if helper.join().is_err() {
                result = result.and(Err(anyhow::anyhow!("{name} panicked: this is a bug")));
            }
        }
        result
    }

    /// Input of the embedded log that is not processed yet, in records.
    pub(crate) fn backlog(&self, config: &Config) -> Result<i64> {
        let handle = self.handle.as_ref().context("only the embedded log can say")?;
        let mut waiting = 0;
        for topic in config.topics.inputs() {
            for partition in 0..handle.partitions(&topic)? {
                let done = handle.committed(&topic, partition)?.unwrap_or(0);
                waiting += handle.end_offset(&topic, partition)? - done;
            }
        }
        Ok(waiting)
    }

    /// What the server needs.
    pub(crate) fn state(&self, name: &str, config: &Config) -> Result<AppState> {
        let ingest = match &self.handle {
            Some(handle) => {
                Some(Arc::new(EmbeddedIngest::new(handle.clone(), config, self.core.policy())?)
                    as Arc<dyn Ingest>)
            }
            None => None,
        };
        Ok(AppState {
            read_model: Arc::clone(&self.shared.read_model),
            metrics: self.shared.metrics.clone(),
            readiness: Arc::clone(&self.shared.readiness),
            ingest,
            snooze_days_max: self.core.policy().alerts.snooze_days_max,
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            began_at: Millis(now_ms()),
        })
    }
}

/// Runs the command until a signal, or until a worker fails.
pub(crate) fn run(args: &RunArgs, mut config: Config) -> Result<()> {
    if let Some(servers) = &args.bootstrap_servers {
        config.kafka.bootstrap_servers = Some(servers.clone());
    }
    config.kafka.skip_lost_input |= args.skip_lost_input;
    if let Some(url) = &args.registry_url {
        config.registry.url = Some(url.clone());
    }
    if let Some(listen) = &args.listen {
        config.http.listen.clone_from(listen);
    }
    let policy = policies::load(config.policy.as_deref())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %policy, "starting");
    say_what_waits(&config, &policy);
    let delivery = args.delivery.as_deref().map(notify::load).transpose()?;
    let mut app = if args.embedded {
        App::embedded(&config, &config.data_dir, policy)?
    } else {
        App::kafka(&config, policy)?
    };
    if let Some(delivery) = &delivery {
        app.tell(&config, delivery)?;
    }
    stop_on_signals(&app.shared.stop)?;
    let served = serve(&app, "Bellwether", &config.http.listen, &config, |address| {
        tracing::info!("open http://{address}/");
    });
    app.stop().and(served)
}

/// Says what is quiet while state is written so that older versions can read it.
fn say_what_waits(config: &Config, policy: &Compiled) {
    let format = config.state.format();
    let (number, newest) = (format.number(), Format::NEWEST.number());
    if policy.rolling.enabled {
        if !format.has_recent() {
            tracing::warn!(
                "state.format is {number}: every event writes all days of its account, until it is {newest} or not set"
            );
        }
    } else if !format.has_plans() {
        let conditions = policy.conditions.iter();
        let rest_on_plans = conditions.filter(|of| matches!(of.when, When::HigherTier { .. }));
        let kinds: Vec<&str> = rest_on_plans.map(|condition| condition.kind.as_str()).collect();
        tracing::warn!(
            kinds = kinds.join(", "),
            "state.format is {number}: there are no alerts of these kinds, fiscal_year_end of profiles is passed over, and how a scorecard ranks is not measured, until it is {newest} or not set"
        );
    } else if !format.has_predicted() {
        tracing::warn!(
            "state.format is {number}: how a scorecard ranks is not measured, until it is {newest} or not set"
        );
    }
}

/// SIGTERM and SIGINT set the flag; a second one ends the process at once.
pub(crate) fn stop_on_signals(stop: &Arc<AtomicBool>) -> Result<()> {
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(stop))?;
        signal_hook::flag::register(signal, Arc::clone(stop))?;
    }
    Ok(())
}

/// Serves HTTP until the stop flag is set.
pub(crate) fn serve(
    app: &App,
    name: &str,
    listen: &str,
    config: &Config,
    announce: impl FnOnce(SocketAddr),
) -> Result<()> {
    serve_state(app.state(name, config)?, &app.shared.stop, listen, announce)
}

/// The same without an application.
pub(crate) fn serve_state(
    state: AppState,
    stop: &Arc<AtomicBool>,
    listen: &str,
    announce: impl FnOnce(SocketAddr),
) -> Result<()> {
    let stop = Arc::clone(stop);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind(listen).await.map_err(|error| {
            Usage(format!(
                "cannot listen on {listen}: {error}; choose another address with --listen"
            ))
        })?;
        announce(listener.local_addr()?);
        let stopped = async move {
            // A flag set by a signal handler cannot wake a task; looking at it costs nothing.
            let mut look = tokio::time::interval(Duration::from_millis(50));
            while !stop.load(Ordering::Relaxed) {
                look.tick().await;
            }
        };
        bellwether_server::serve(listener, state, stopped).await.context("the server failed")
    })
}

/// Input that may wait to be processed before producers are held back.
const BACKLOG_RECORDS_MAX: u64 = 50_000;
/// How long a producer is held back before it is told to come again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens the embedded log with all its topics.
fn open_log(
    config: &Config,
    data_dir: &Path,
    store: &StoreOptions,
    partitions: i32,
) -> Result<Embedded> {
    let dir = data_dir.join("log");
    let failed = || format!("the embedded log in {} cannot be opened", dir.display());
    std::fs::create_dir_all(&dir).with_context(failed)?;
    let log = Embedded::open(&dir, &store.shared, BACKLOG_RECORDS_MAX).with_context(failed)?;
    // How long ids are kept does not matter to the layout: the log keeps what is needed for two grace periods at most.
    let kept = Kept { seen_ms: EMBEDDED_SEEN_MS, ..config.notify.kept() };
    for topic in config.topics.specs(&kept) {
        log.create_topic(&topic.name, partitions, retention(&topic)).with_context(failed)?;
    }
    Ok(log)
}

/// How often the embedded log drops what its retention no longer covers.
const TRIM_EVERY: Duration = Duration::from_secs(600);

/// Trims the embedded log now and then, until the application stops.
fn keep_house(log: Embedded, shared: &Shared) -> Result<JoinHandle<()>> {
    let stop = Arc::clone(&shared.stop);
    let thread = std::thread::Builder::new().name("housekeeping".to_owned()).spawn(move || {
        let mut trimmed_at = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
            if trimmed_at.elapsed() >= TRIM_EVERY {
                trimmed_at = Instant::now();
                if let Err(error) = log.trim() {
                    tracing::warn!(%error, "old records of the embedded log were not dropped");
                }
            }
        }
    })?;
    Ok(thread)
}

/// Keeps warm copies of what other processes own, until the application stops.
fn stand_by(
    config: &Config,
    options: KafkaOptions,
    store: StoreOptions,
    shared: &Shared,
) -> Result<JoinHandle<()>> {
    let name = format!("{}-standby", config.application_id);
    let open: OpenFollow = Box::new(move || {
        KafkaTopics::new(&options, &name).map(|topics| Box::new(topics) as Box<dyn Follow>)
    });
    let settings = standby::Settings {
        application: config.application_id.clone(),
        topics: config.topics.clone(),
        state_dir: config.data_dir.join("state"),
        store,
        records_max: RESTORE_RECORDS_MAX,
    };
    let mut standby = Standby::new(settings, shared.clone(), open);
    Ok(std::thread::Builder::new().name("standby".to_owned()).spawn(move || standby.run())?)
}

/// Closes and judgements that are worked off before the time is looked at (some 5 ms), and the time after which such a step is committed:
/// events of other partitions wait no longer than that.
const CLOSE_TIMERS: u32 = 32;
const CLOSE_TIME: Duration = Duration::from_millis(20);
/// Changelog records that are applied before other partitions have their turn, at most: a reader that goes on elsewhere has to ask for the
/// ends and fetch anew.
const RESTORE_RECORDS_MAX: usize = 50_000;
/// How long a restore goes on before whatever else is due has its turn.
const RESTORE_TIME_MAX: Duration = Duration::from_millis(200);

/// Twice the longest grace period that a policy can have, so that a change of policy leaves the log as it is.
const EMBEDDED_SEEN_MS: i64 = 30 * 24 * 3_600_000;
/// How long the embedded log keeps input that has been processed.
const EMBEDDED_INPUT_MS: i64 = 7 * 24 * 3_600_000;

fn retention(topic: &TopicSpec) -> Retention {
    match (topic.cleanup, topic.retention_ms) {
        (Cleanup::Compact, _) => Retention::Compact,
        (Cleanup::Delete, Some(-1)) => Retention::Forever,
        (Cleanup::Delete, Some(ms)) => Retention::Milliseconds(ms),
        (Cleanup::Delete, None) => Retention::Milliseconds(EMBEDDED_INPUT_MS),
    }
}

fn shared(core: &Core, memory: Memory, limits: Limits) -> Result<Shared> {
    let metrics = Metrics::new()?;
    metrics.build_info(env!("CARGO_PKG_VERSION"), core.policy().version());
    metrics.detectors(core.models())?;
    Ok(Shared {
        metrics,
        read_model: Arc::new(ReadModel::new(limits)),
        readiness: Arc::new(Readiness::default()),
        memory: Arc::new(memory),
        owned: Owned::default(),
        stop: Arc::new(AtomicBool::new(false)),
    })
}

/// How a command opens stores that no worker has open.
pub(crate) fn store_options(config: &Config) -> StoreOptions {
    Division::of(config, false).open(config).0
}

fn settings(config: &Config, data_dir: &Path, store: StoreOptions, worker: u32) -> Settings {
    Settings {
        application: config.application_id.clone(),
        worker,
        topics: config.topics.clone(),
        state_dir: data_dir.join("state"),
        store,
        batch_records_max: config.engine.batch_records_max,
        batch_bytes_max: Division::of(config, true).batch_bytes(config),
        batch_time_max: Duration::from_millis(config.engine.batch_milliseconds_max),
        close_timers_max: CLOSE_TIMERS,
        close_time_max: CLOSE_TIME,
        dead_letter_bytes_max: config.engine.dead_letter_bytes_max,
        restore_records_max: RESTORE_RECORDS_MAX,
        restore_time_max: RESTORE_TIME_MAX,
        poll_timeout: Duration::from_millis(100),
        ticks: config.engine.ticks,
        tick_every: Duration::from_secs(config.engine.tick_seconds),
        registry_retry: Duration::from_secs(1),
    }
}

/// A worker that ends early takes the process down: half of the partitions unattended would look like health.
fn spawn(mut worker: Worker, shared: &Shared) -> Result<JoinHandle<Result<(), WorkerError>>> {
    let stop = Arc::clone(&shared.stop);
    let thread = std::thread::Builder::new().name("worker".to_owned()).spawn(move || {
        struct StopAll(Arc<AtomicBool>);
        impl Drop for StopAll {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop_all = StopAll(stop);
        let ended = worker.run();
        if let Err(error) = &ended {
            tracing::error!(%error, "worker stopped");
        }
        ended
    })?;
    Ok(thread)
}

pub(crate) fn registry(config: &Config) -> Option<RegistryConfig> {
    config.registry.url.as_ref().map(|url| {
        let mut registry = RegistryConfig::new(url.clone());
        registry.username.clone_from(&config.registry.username);
        registry.password.clone_from(&config.registry.password);
        registry
    })
}

/// How long a start waits for a registry that is away, and how often it asks.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(120);
const REGISTRY_RETRY: Duration = Duration::from_secs(1);

fn encoder(config: &Config, registry: Option<&RegistryConfig>) -> Result<Encoder> {
    let topics = OutputTopics {
        score_changed: &config.topics.score_changed,
        score_current: &config.topics.score_current,
        alerts: &config.topics.alerts,
        shadow: &config.topics.shadow,
    };
    match (config.engine.output_format, registry) {
        (OutputFormat::Json, _) | (OutputFormat::Auto, None) => Ok(Encoder::json()),
        (OutputFormat::Auto | OutputFormat::Avro, Some(registry)) => {
            let started = Instant::now();
            loop {
                match Encoder::avro(registry, &topics) {
                    Err(error @ RegistryError::Unavailable(_))
                        if started.elapsed() < REGISTRY_PATIENCE =>
                    {
                        tracing::warn!(%error, "waiting for the schema registry");
                        std::thread::sleep(REGISTRY_RETRY);
                    }
                    ended => return ended.context("the output schemas cannot be registered"),
                }
            }
        }
        (OutputFormat::Avro, None) => {
            bail!("engine.output_format is avro, which needs registry.url")
        }
    }
}

/// How the cluster is reached.
pub(crate) fn kafka_options(config: &Config) -> Result<KafkaOptions> {
    let Some(servers) = &config.kafka.bootstrap_servers else {
        wrong!(
            "no Kafka brokers are named: set kafka.bootstrap_servers or --bootstrap-servers, or run with --embedded"
        );
    };
    Ok(KafkaOptions {
        bootstrap_servers: servers.clone(),
        static_membership: config.kafka.static_membership,
        skip_lost_input: config.kafka.skip_lost_input,
        group_protocol: config.kafka.group_protocol,
        session_timeout_ms: config.kafka.session_timeout_seconds * 1000,
        transaction_timeout_ms: config.kafka.transaction_timeout_seconds * 1000,
        extra: config.kafka.properties.clone(),
        ..KafkaOptions::default()
    })
}

/// Records that are read at once.
const PAGE: usize = 100;
/// Records of a topic that are looked through for what happened to an alert or an account, the newest: in its account's partition, where
/// that is known, else over all.
const HISTORY_RECORDS_MAX: i64 = 100_000;
/// The cohort of a fleet alert stands behind it in place of an account.
const FLEET_PREFIX: char = '*';

fn unreadable(error: impl std::fmt::Display) -> IngestError {
    IngestError::Unreadable { detail: error.to_string(), retry_after: Duration::from_secs(1) }
}

/// Takes input over HTTP into the embedded log.
struct EmbeddedIngest {
    handle: Embedded,
    topics: TopicNames,
    policy: Compiled,
    read_model: Arc<ModelReader>,
    partitions: i32,
    decoder: Mutex<Decoder>,
    /// For outputs: input that comes in here needs none.
    registry: Option<RegistryConfig>,
}

impl EmbeddedIngest {
    fn new(handle: Embedded, config: &Config, policy: &Compiled) -> Result<EmbeddedIngest> {
        let events = config.topics.events.first();
        let events = events.context("topics.events is empty; name at least one")?;
        let decoder = Mutex::new(Decoder::new(None, config.engine.record_bytes_max)?);
        let partitions = handle.partitions(events)?;
        let (topics, policy) = (config.topics.clone(), policy.clone());
        let read_model = crate::model::reader();
        let registry = registry(config);
        Ok(EmbeddedIngest { handle, topics, policy, read_model, partitions, decoder, registry })
    }

    fn append(&self, appends: &[Append]) -> Result<(), IngestError> {
        let retry_after = Duration::from_secs(1);
        let appended = self.handle.append(appends, PATIENCE).map_err(|error| match error {
            AppendError::Full { .. } => IngestError::Busy { retry_after },
            AppendError::Log(error) => {
                IngestError::Unavailable { detail: error.to_string(), retry_after }
            }
        });
        appended.map(drop)
    }

    /// Reads a topic of the log.
    fn read(
        &self,
        topic: &str,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<(), IngestError> {
        let topic: Topic = topic.into();
        for partition in 0..self.partitions {
            self.read_partition(&topic, partition, 0, each)?;
        }
        Ok(())
    }

    /// Reads a partition from an offset on.
    fn read_partition(
        &self,
        topic: &Topic,
        partition: i32,
        from: i64,
        each: &mut dyn FnMut(Record) -> Result<(), LogError>,
    ) -> Result<(), IngestError> {
        let mut next = from;
        loop {
            let read = self.handle.read(topic, partition, next, PAGE, &mut *each);
            let read = read.map_err(unreadable)?;
            next = read.next;
            if next >= read.end {
                return Ok(());
            }
        }
    }

    /// Reads the newest records of a partition, and says how far back they go.
    fn read_newest<E: std::fmt::Display>(
        &self,
        topic: &Topic,
        partition: i32,
        records_max: i64,
        each: &mut dyn FnMut(&Record) -> Result<(), E>,
    ) -> Result<LookedBack, IngestError> {
        let end = self.handle.end_offset(topic, partition).map_err(unreadable)?;
        let from = (end - records_max).max(0);
        let mut first = None;
        self.read_partition(topic, partition, from, &mut |record| {
            first.get_or_insert((record.offset, Millis(record.timestamp_ms)));
            each(&record).map_err(|error| {
                let at = format!("partition {partition}, offset {}", record.offset);
                LogError::new(Remedy::Stop, format!("{at} of {topic}: {error}"))
            })
        })?;
        Ok(LookedBack::by_reading(from, first, end, Millis(now_ms())))
    }

    /// What a topic has of an account, among the newest records of its partition; and how far back those go ([`Self::read_newest`]).
    fn published(
        &self,
        (topic, kind): (&str, OutputKind),
        account: &AccountId,
        decoder: &mut Decoder,
    ) -> Result<(Vec<Output>, LookedBack), IngestError> {
        let topic: Topic = topic.into();
        let key = account.as_str().as_bytes();
        let partition = partition_of(key, self.partitions);
        let mut found = Vec::new();
        let looked_back =
            self.read_newest(&topic, partition, HISTORY_RECORDS_MAX, &mut |record| {
                if record.key.as_deref() == Some(key) {
                    found.push(decoder.output(kind, record.payload.as_deref())?);
                }
                Ok::<(), DecodeError>(())
            })?;
        Ok((found, looked_back))
    }

    /// Appends a record without a value.
    fn delete(&self, topic: &str, key: &str) -> Result<(), IngestError> {
        let key = key.as_bytes().to_vec();
        let tombstone = Append {
            topic: topic.into(),
            partition: partition_of(&key, self.partitions),
            key: Some(key),
            payload: None,
            headers: Vec::new(),
            timestamp_ms: Some(now_ms()),
        };
        self.append(&[tombstone])
    }

    /// Completes and checks one item. Types that feed no signal are told.
    fn prepare(
        &self,
        feed: Feed,
        body: Vec<u8>,
        unmatched: &mut BTreeSet<String>,
    ) -> Result<Append, Reject> {
        let now = now_ms();
        let payload = match feed {
            Feed::Events => complete(&body, "event_id", now)?,
            Feed::Outcomes => complete(&body, "outcome_id", now)?,
            Feed::Profiles | Feed::Calendar | Feed::Models => body,
        };
        let decoded = self.decode(feed, &payload, unmatched);
        let (topic, key, at) = decoded.map_err(|error| match error {
            DecodeError::Reject(reject) => reject,
            DecodeError::RegistryUnavailable(detail) => Reject::new(Reason::UnknownSchema, detail),
        })?;
        if at > Millis(now).plus(self.policy.future_ms()) {
            let detail = format!("its time is {at}, which lies ahead of the server's clock");
            return Err(Reject::new(Reason::Future, detail));
        }
        let key = key.into_bytes();
        Ok(Append {
            topic: topic.as_str().into(),
            partition: partition_of(&key, self.partitions),
            key: Some(key),
            payload: Some(payload),
            headers: Vec::new(),
            timestamp_ms: Some(now),
        })
    }

    /// Where an item goes, its key (whose it is) and when it happened.
    fn decode(
        &self,
        feed: Feed,
        payload: &[u8],
        unmatched: &mut BTreeSet<String>,
    ) -> Result<(&String, String, Millis), DecodeError> {
        let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
        match feed {
            Feed::Events => {
                let event = decoder.event(None, Some(payload))?;
                if !self.policy.signals.iter().any(|signal| signal.takes(&event)) {
                    unmatched.insert(event.kind.clone());
                }
                // There is at least one: it was looked up at the start.
                let topic = self.topics.events.first().unwrap_or(&self.topics.profiles);
                Ok((topic, event.account.into(), event.occurred_at))
            }
            Feed::Profiles => {
                let profile = decoder.profile(None, Some(payload))?;
                Ok((&self.topics.profiles, profile.account.into(), profile.as_of))
            }
            Feed::Outcomes => {
                let outcome = decoder.outcome(None, Some(payload))?;
                if outcome.kind == OutcomeKind::Snoozed {
                    snoozed_until(&outcome, &self.policy.alerts)?;
                }
                Ok((&self.topics.outcomes, outcome.account.into(), outcome.occurred_at))
            }
            Feed::Calendar => {
                let (id, _) = decoder.calendar(None, Some(payload))?;
                // Days may lie ahead: it is known from now on.
                Ok((&self.topics.calendar, id.into(), Millis(now_ms())))
            }
            Feed::Models => {
                let (Input::Promotion { id, promotion: Some(told) }
                | Input::Challenger { id, challenger: told }) =
                    decoder.promotion(None, Some(payload))?
                else {
                    return Err(Reject::new(Reason::Empty, "the record has no payload").into());
                };
                if let Some(model) = told.model {
                    let read = (self.read_model)(&model, &self.policy);
                    read.map_err(|error| Reject::new(Reason::InvalidField, error))?;
                }
                // It may begin later.
                Ok((&self.topics.models, id.into(), Millis(now_ms())))
            }
        }
    }
}

/// An event or outcome without a time happened now, and is one of its own. One with a time and without an id gets the id of its content, so
/// that a client that repeats a request does no harm.
fn complete(body: &[u8], id_field: &str, now: i64) -> Result<Vec<u8>, Reject> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let malformed =
        |error: serde_json::Error| Reject::new(Reason::Malformed, format!("not JSON: {error}"));
    let Value::Object(mut fields) = serde_json::from_slice(body).map_err(malformed)? else {
        return Err(Reject::new(Reason::Malformed, "an item is a JSON object"));
    };
    let timeless = !fields.contains_key("occurred_at");
    fields.entry("occurred_at").or_insert_with(|| Value::from(now));
    if !fields.contains_key(id_field) {
        let content = Value::Object(fields.clone()).to_string();
        // Two events of one millisecond are still two.
        let number = if timeless { NUMBER.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let id = bellwether_core::publish::content_id(&[&content, &number.to_string()]);
        fields.insert(id_field.to_owned(), Value::from(id));
    }
    serde_json::to_vec(&Value::Object(fields)).map_err(malformed)
}

impl Ingest for EmbeddedIngest {
    fn forget(&self, account: &AccountId) -> Result<(), IngestError> {
        self.delete(&self.topics.profiles, account.as_str())
    }

    fn unmask(&self, entry: &EventId) -> Result<(), IngestError> {
        self.delete(&self.topics.calendar, entry.as_str())
    }

    fn entries(&self) -> Result<Vec<Value>, IngestError> {
        let mut records = Vec::new();
        self.read(&self.topics.calendar, &mut |record| {
            records.push(record);
            Ok(())
        })?;
        let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = crate::calendar::in_force(records, &mut decoder).map_err(unreadable)?;
        Ok(entries.iter().map(|(id, entry)| crate::calendar::record(id, entry)).collect())
    }

    fn alert_events(
        &self,
        account: Option<&AccountId>,
        id: &str,
    ) -> Result<LoggedAlert, IngestError> {
        let decoder = Decoder::new(self.registry.as_ref(), RECORD_BYTES_MAX);
        let mut decoder = decoder.map_err(unreadable)?;
        let topic: Topic = self.topics.alerts.as_str().into();
        // A fleet alert is published by whoever adds its cohort up.
        let account_of_one = account.filter(|of| !of.as_str().starts_with(FLEET_PREFIX));
        let partitions = match account_of_one {
            Some(account) => {
                let own = partition_of(account.as_str().as_bytes(), self.partitions);
                own..own + 1
            }
            None => 0..self.partitions,
        };
        let each_max = HISTORY_RECORDS_MAX / i64::from(partitions.end - partitions.start);
        let mut found = LoggedAlert::default();
        for partition in partitions {
            let looked_back = self.read_newest(&topic, partition, each_max, &mut |record| {
                found.events.extend(crate::alerts::event_of(record, account, id, &mut decoder)?);
                Ok::<(), DecodeError>(())
            })?;
            found.looked_back = found.looked_back.and(looked_back);
        }
        Ok(found)
    }

    fn account_at(&self, account: &AccountId, at: Millis) -> Result<Stood, IngestError> {
        let decoder = Decoder::new(self.registry.as_ref(), RECORD_BYTES_MAX);
        let mut decoder = decoder.map_err(unreadable)?;
        let topic = (self.topics.score_changed.as_str(), OutputKind::ScoreChanged);
        let (changes, changes_back) = self.published(topic, account, &mut decoder)?;
        let topic = (self.topics.alerts.as_str(), OutputKind::Alert);
        let (events, looked_back) = self.published(topic, account, &mut decoder)?;
        let (record, alerts) = crate::then::stood(changes.into_iter().chain(events), at);
        Ok(match record {
            None if changes_back == LookedBack::Whole => Stood::Nothing,
            Some(record) if crate::then::is_explained(&record) => {
                Stood::Known { record: Box::new(record), alerts, looked_back }
            }
            None | Some(_) => Stood::Partly { looked_back: changes_back },
        })
    }

    fn promotions(&self) -> Result<Vec<Value>, IngestError> {
        let mut records = Vec::new();
        self.read(&self.topics.models, &mut |record| {
            records.push(record);
            Ok(())
        })?;
        Ok(crate::model::promotions(records))
    }

    fn shadow(&self) -> Result<Vec<Value>, IngestError> {
        let decoder = Decoder::new(None, RECORD_BYTES_MAX);
        let mut latest = crate::shadow::Latest::new(decoder.map_err(unreadable)?);
        self.read(&self.topics.shadow, &mut |record| {
            latest
                .take(record.payload.as_deref())
                .map_err(|error| LogError::new(Remedy::Stop, &error))
        })?;
        Ok(latest.records())
    }

    fn ingest(&self, feed: Feed, bodies: Vec<Vec<u8>>) -> Result<IngestReceipt, IngestError> {
        let mut receipt = IngestReceipt::default();
        let mut appends = Vec::new();
        for (index, body) in bodies.into_iter().enumerate() {
            match self.prepare(feed, body, &mut receipt.unmatched) {
                Ok(append) => appends.push(append),
                Err(reject) => receipt.rejected.push(Rejected { index, reject }),
            }
        }
        receipt.accepted = appends.len();
        if !appends.is_empty() {
            self.append(&appends)?;
        }
        Ok(receipt)
    }
}
