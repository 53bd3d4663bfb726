//! The macro benchmark: the same job on Bellwether and on the peer (Kafka Streams, as an expert writes it), on the same broker, with the same
//! input, one after the other. `make bench PEER=DIR`; without a peer only Bellwether and the floor are measured. Results that go to their
//! committed place are shown in the README, too; `--render` only does that.
//!
//! CPU time and memory are those of the process as Linux counts them. Bellwether's include its start; the peer's begin with its first record,
//! after its virtual machine was warmed. Before each the machine comes to rest, the broker's housekeeping included. The floor (`floor.rs`) is
//! what Kafka's client takes without the engine.

mod compare;
mod floor;
mod kafka;
mod load;
mod process;
mod processes;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bellwether_benches::beside::bench_table;
use bellwether_benches::observe::{bytes_below, cpu_seconds, memory_mib};
use bellwether_benches::report::placed;
use compare::Changes;
use kafka::{PARTITIONS, Progress};
use load::Load;
use process::{Guarded, now_ms, wait};
use serde_json::{Value, json};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results/bench.json");
const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/policies/peer.toml");
/// The topic of our score changes.
const SCORES: &str = "health.score-changed.v1";
/// Worker threads of our process; the peer has as many.
const WORKERS: u32 = 2;
/// The port of the peer's broker, and of ours where there is no peer.
const PORT: u16 = 20_092;
/// First seconds of a paced run that are left out.
const SKIP: Duration = Duration::from_secs(5);

/// What is measured.
#[derive(Debug, Clone)]
struct Options {
    peer: Option<PathBuf>,
    bellwether: PathBuf,
    work: PathBuf,
    json: PathBuf,
    accounts: Vec<usize>,
    events: u64,
    repeats: usize,
    rates: Vec<f64>,
    seconds: u64,
    seed: u64,
    zipf: f64,
    /// Of our own broker.
    port: u16,
    /// Instead of all else: how many processes work on the input together.
    processes: Vec<usize>,
}

impl Options {
    fn read() -> Options {
        let program = std::env::current_exe().expect("a process knows its executable");
        let mut options = Options {
            peer: None,
            bellwether: program.with_file_name("bellwether"),
            work: std::env::temp_dir().join("bellwether-bench"),
            json: RESULTS.into(),
            accounts: vec![20_000, 200_000, 2_000_000],
            events: 2_000_000,
            repeats: 3,
            rates: vec![2_000.0, 5_000.0],
            seconds: 30,
            seed: 42,
            zipf: 0.9,
            port: PORT,
            processes: Vec::new(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().unwrap_or_default();
            let list = || value.split(',').filter(|part| !part.is_empty());
            let number = |text: &str| text.parse::<f64>().unwrap_or_else(|_| usage(&name));
            match name.as_str() {
                "--peer" if !value.is_empty() => options.peer = Some(value.clone().into()),
                "--peer" => {}
                "--bellwether" => options.bellwether = value.clone().into(),
                "--work" => options.work = value.clone().into(),
                "--json" => options.json = value.clone().into(),
                "--accounts" => {
                    options.accounts = list().map(|text| number(text) as usize).collect();
                }
                "--rates" => options.rates = list().map(number).collect(),
                "--events" => options.events = number(&value) as u64,
                "--repeats" => options.repeats = number(&value) as usize,
                "--seconds" => options.seconds = number(&value) as u64,
                "--seed" => options.seed = number(&value) as u64,
                "--zipf" => options.zipf = number(&value),
                "--port" => options.port = number(&value) as u16,
                "--processes" => {
                    options.processes = list().map(|text| number(text) as usize).collect();
                }
                _ => usage(&name),
            }
        }
        options
    }

    /// How many partitions every topic has.
    fn partitions(&self) -> i32 {
        if self.processes.is_empty() { PARTITIONS } else { processes::PARTITIONS }
    }
}

fn usage(name: &str) -> ! {
    eprintln!(
        "bench: {name} is not known, or its value is not; known are --peer DIR, --bellwether FILE, --work DIR, --json FILE, \
         --accounts N,N, --events N, --repeats N, --rates N,N, --seconds N, --seed N, --zipf S, --port N, --processes N,N"
    );
    std::process::exit(2);
}

/// A broker at work, the peer's where there is one.
struct Broker {
    bootstrap: String,
    /// Where its log lies.
    logs: PathBuf,
    stop: Box<dyn FnMut()>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        (self.stop)();
    }
}

fn shell(script: &str, what: &str) {
    let status = Command::new("bash").args(["-euc", script]).status().expect("bash is there");
    assert!(status.success(), "{what} failed: {status}");
}

/// Builds the peer in the scratch directory.
fn build_peer(options: &Options) -> Option<PathBuf> {
    let peer = options.work.join("peer");
    let from = options.peer.as_ref()?;
    if !peer.join("app/target").is_dir() {
        let (from, to) = (from.display(), peer.display());
        let script = format!(
            "rm -rf '{to}'; mkdir -p '{to}'; cp -r '{from}/.' '{to}/'; chmod -R u+w '{to}'; cd '{to}'; mvn -q -DskipTests package"
        );
        shell(&script, "building the peer (it needs Java 17 and Maven)");
    }
    Some(peer)
}

fn start_broker(options: &Options, peer: Option<&Path>) -> Broker {
    let bootstrap = format!("127.0.0.1:{}", if peer.is_some() { PORT } else { options.port });
    let work = options.work.join("kafka");
    let at = work.display().to_string();
    let (start, stop, logs) = match peer {
        Some(peer) => {
            let library =
                format!("HERE='{}' WORK='{at}'; . \"$HERE/scripts/lib.sh\"", peer.display());
            (format!("{library}; start_broker"), format!("{library}; stop_broker"), "broker/logs")
        }
        None => {
            let script = format!("'{ROOT}/tests/harness/kafka-local.sh'");
            let up = format!("{script} fetch; {script} up --port {} --dir '{at}'", options.port);
            (up, format!("{script} down --dir '{at}'"), "data-1")
        }
    };
    let stop = move || {
        // Nothing to be done about a failure at the end; and where there is none, there is none to stop.
        drop(Command::new("bash").args(["-uc", &stop]).status());
    };
    // A broker of an earlier run left its topics there, and may still be at work.
    stop();
    drop(std::fs::remove_dir_all(&work));
    std::fs::create_dir_all(&work).expect("a scratch directory");
    let free = std::net::TcpListener::bind(&bootstrap);
    assert!(free.is_ok(), "{bootstrap} is taken: {free:?}");
    drop(free);
    shell(&start, "starting Kafka");
    Broker { bootstrap, logs: work.join(logs), stop: Box::new(stop) }
}

/// Makes the input, once for as long as the broker runs.
fn make_input(
    options: &Options,
    broker: &Broker,
    accounts: usize,
    work: &Path,
    topic: &str,
) -> (String, usize) {
    let topic = topic.to_owned();
    let known = work.join(format!("broker/{topic}.json"));
    std::fs::create_dir_all(work.join("broker")).expect("a scratch directory");
    create_topics(&broker.bootstrap, &[&topic], options.partitions());
    let started = Instant::now();
    let distinct = load::load(&Load {
        bootstrap: broker.bootstrap.clone(),
        topic: topic.clone(),
        events: options.events,
        accounts,
        seed: options.seed,
        zipf: options.zipf,
        late_per_mille: 30,
        rate: None,
    });
    // The peer's own script loads nothing that is known to be there.
    let said = json!({
        "events": options.events, "distinct_accounts": distinct, "seconds": started.elapsed().as_secs_f64(),
    });
    std::fs::write(known, format!("{said}\n")).expect("a scratch directory");
    (topic, distinct)
}

fn create_topics(bootstrap: &str, topics: &[&str], partitions: i32) {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    let admin: AdminClient<_> = config.create().expect("an admin client");
    let new: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|topic| {
            NewTopic::new(topic, partitions, TopicReplication::Fixed(1)).set("retention.ms", "-1")
        })
        .collect();
    let made = futures_executor::block_on(admin.create_topics(&new, &AdminOptions::new()));
    made.expect("a broker that answers").into_iter().for_each(|made| {
        made.expect("a topic that is new");
    });
}

/// One measured run of the peer.
fn run_peer(
    options: &Options,
    peer: &Path,
    accounts: usize,
    rates: &[f64],
    restore: bool,
) -> Value {
    let mut command = Command::new(peer.join("run.sh"));
    let rates: Vec<String> = rates.iter().map(f64::to_string).collect();
    command
        .args(["--profile", "tuned", "--keep-broker", "yes", "--accounts", &accounts.to_string()])
        .args(["--events", &options.events.to_string(), "--rates", &rates.join(" ")])
        .args(["--seconds", &options.seconds.to_string()])
        .args(["--restore", if restore { "yes" } else { "no" }])
        .arg("--work")
        .arg(options.work.join("kafka"));
    let output = command.output().expect("the peer's script");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the peer failed:\n{errors}");
    serde_json::from_slice(&output.stdout).expect("one line of JSON")
}

/// Our process for a job.
struct Ours<'a> {
    options: &'a Options,
    broker: &'a Broker,
    application: String,
    dir: PathBuf,
}

impl Ours<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.options.bellwether);
        command.args(arguments).arg("--config").arg(self.dir.join("bellwether.toml"));
        command
    }

    fn configure(&self, input: &str) {
        std::fs::create_dir_all(&self.dir).expect("a scratch directory");
        let prefix = &self.application;
        let config = format!(
            r#"application_id = "{prefix}"
data_dir = "{dir}"
policy = "{POLICY}"
[http]
listen = "127.0.0.1:0"
[kafka]
bootstrap_servers = "{bootstrap}"
workers = {WORKERS}
[topics]
events = ["{input}"]
profiles = "{prefix}.profiles"
outcomes = "{prefix}.outcomes"
calendar = "{prefix}.calendar"
models = "{prefix}.models"
score_changed = "{prefix}.{SCORES}"
score_current = "{prefix}.current"
alerts = "{prefix}.alerts"
dead_letters = "{prefix}.dlq"
state_changelog = "{prefix}.state"
seen_changelog = "{prefix}.seen"
ticks = "{prefix}.ticks"
cohort_stats = "{prefix}.cohorts"
"#,
            dir = self.dir.join("data").display(),
            bootstrap = self.broker.bootstrap,
        );
        std::fs::write(self.dir.join("bellwether.toml"), config).expect("a scratch directory");
        let mut apply = self.command(&["topics", "apply"]);
        let partitions = self.options.partitions();
        apply.args(["--partitions", &partitions.to_string(), "--replication", "1"]);
        let made = apply.output().expect("the binary");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "bellwether topics apply failed:\n{said}");
    }

    fn start(&self) -> Guarded {
        Guarded::spawn(self.command(&["run"]), &self.dir.join("log"))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.application)
    }

    fn changelog_bytes(&self) -> u64 {
        let prefix = self.topic("state-");
        bytes_below(&self.broker.logs, &|path| {
            let dir = path.parent().and_then(Path::file_name).unwrap_or_default();
            path.extension().is_some_and(|ending| ending == "log")
                && dir.to_string_lossy().starts_with(&prefix)
        })
    }

    fn state_bytes(&self) -> u64 {
        bytes_below(&self.dir.join("data"), &|path| {
            // RocksDB's diary is no state.
            path.file_name().is_none_or(|name| !name.to_string_lossy().starts_with("LOG"))
        })
    }

    /// How long the partitions took to be restored, from the process's first to its last.
    fn restored(&self, process: &mut Guarded) {
        let all = usize::try_from(PARTITIONS).expect("positive");
        wait(process, "restored partitions", Duration::from_millis(10), || {
            (self.log().matches("partition restored").count() >= all).then_some(())
        });
    }
}

/// Our process, configured for an input, and everything of the run before it gone.
fn ours<'a>(
    options: &'a Options,
    broker: &'a Broker,
    input: &str,
    application: String,
) -> Ours<'a> {
    let dir = options.work.join(&application);
    drop(std::fs::remove_dir_all(&dir));
    let ours = Ours { options, broker, application, dir };
    ours.configure(input);
    ours
}

/// Reads all of the input; its CPU seconds until then, and how long it took since its partitions were restored.
fn catch_up(ours: &Ours<'_>, process: &mut Guarded, input: &str) -> (f64, f64) {
    let progress = Progress::of(&ours.broker.bootstrap, &ours.application, input);
    let total: i64 = kafka::ends(&ours.broker.bootstrap, input).iter().sum();
    ours.restored(process);
    let started = Instant::now();
    progress.wait_for(total, process);
    (cpu_seconds(process.id()), started.elapsed().as_secs_f64())
}

/// One measured run of ours: catch-up, and the restore after a loss of the disk.
fn run_ours(options: &Options, broker: &Broker, input: &str, number: &str) -> Value {
    let ours = ours(options, broker, input, format!("ours-{number}"));
    let mut process = ours.start();
    let (cpu, seconds) = catch_up(&ours, &mut process, input);
    let (pid, events) = (process.id(), options.events as f64);
    let (resident, peak) = (memory_mib(pid, "VmRSS"), memory_mib(pid, "VmHWM"));
    let changelog = ours.changelog_bytes();
    process.stop();
    let state = ours.state_bytes();
    json!({
        "events": options.events, "seconds": seconds, "events_per_s": events / seconds,
        "app_cpu_s_per_million": cpu / events * 1e6, "rss_mib": resident, "peak_rss_mib": peak,
        "changelog_bytes_per_event": changelog as f64 / events, "state_bytes": state, "restore": restore(&ours),
    })
}

/// The paced phases, on an input of their own; then a kill.
fn run_ours_paced(options: &Options, broker: &Broker, input: &str, number: &str) -> Value {
    let ours = ours(options, broker, input, format!("paced-{number}"));
    let mut process = ours.start();
    catch_up(&ours, &mut process, input);
    let mut paced = serde_json::Map::new();
    let before = ours.changelog_bytes();
    for &rate in &options.rates {
        paced.insert(rate.to_string(), run_paced(&ours, &process, input, rate));
    }
    let events = options.rates.iter().sum::<f64>() * options.seconds as f64;
    let changelog = (ours.changelog_bytes() - before) as f64 / events;
    paced.insert("changelog_bytes_per_event".to_owned(), changelog.into());
    paced.insert("rss_mib".to_owned(), memory_mib(process.id(), "VmRSS").into());
    process.kill();
    paced.insert("after_kill_s".to_owned(), after_kill(&ours, input).into());
    paced.into()
}

/// Events at a fixed rate.
fn paced_load(options: &Options, bootstrap: &str, input: &str, rate: f64) -> Load {
    Load {
        bootstrap: bootstrap.to_owned(),
        topic: input.to_owned(),
        events: (rate * options.seconds as f64) as u64,
        accounts: 20_000,
        seed: options.seed + rate as u64,
        zipf: options.zipf,
        // A record says the time of its account's newest event, so those of late events would look late.
        late_per_mille: 0,
        rate: Some(rate),
    }
}

/// Input at a fixed rate, and when its score changes can be read.
fn run_paced(ours: &Ours<'_>, process: &Guarded, input: &str, rate: f64) -> Value {
    let (bootstrap, topic) = (ours.broker.bootstrap.clone(), ours.topic(SCORES));
    let stop = AtomicBool::new(false);
    let ready = AtomicBool::new(false);
    let (pid, changelog) = (process.id(), ours.changelog_bytes());
    let cpu = cpu_seconds(pid);
    let events = (rate * ours.options.seconds as f64) as u64;
    let mut latencies = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut latencies: Vec<i64> = Vec::new();
            let begun = now_ms() + i64::try_from(SKIP.as_millis()).expect("seconds");
            let each = |payload: &[u8], came: i64| {
                let record: Value = serde_json::from_slice(payload).expect("JSON");
                let at = record["at"].as_str().expect("an instant");
                let at = bellwether_core::time::Millis::parse(at).expect("an instant").0;
                if at >= begun {
                    latencies.push(came - at);
                }
            };
            let stopped = || stop.load(Ordering::Relaxed);
            kafka::follow(
                &bootstrap,
                &topic,
                || ready.store(true, Ordering::Relaxed),
                each,
                stopped,
            );
            latencies
        });
        while !ready.load(Ordering::Relaxed) && !reader.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
        }
        load::load(&paced_load(ours.options, &bootstrap, input, rate));
        std::thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        reader.join().expect("a reader")
    });
    let cpu = cpu_seconds(pid) - cpu;
    latencies.sort_unstable();
    let at = |quantile: f64| {
        let place = (latencies.len() as f64 * quantile).ceil() as usize;
        latencies.get(place.saturating_sub(1)).copied()
    };
    json!({
        "changes": latencies.len(), "p50_ms": at(0.5), "p95_ms": at(0.95), "p99_ms": at(0.99), "p999_ms": at(0.999),
        "max_ms": latencies.last(), "app_cpu_s_per_million": cpu / events as f64 * 1e6,
        "changelog_bytes_per_event": (ours.changelog_bytes() - changelog) as f64 / events as f64,
    })
}

/// How long it takes to read all state back after a loss of the disk.
fn restore(ours: &Ours<'_>) -> Value {
    std::fs::remove_dir_all(ours.dir.join("data/state")).expect("state");
    let began = Instant::now();
    let mut process = ours.start();
    ours.restored(&mut process);
    let with_start = began.elapsed().as_secs_f64();
    let log = ours.log();
    let took = log.lines().filter_map(|line| {
        let (_, rest) = line.split_once("took=")?;
        let text = rest.split_whitespace().next()?;
        let units = [("ms", 1e-3), ("µs", 1e-6), ("s", 1.0)];
        let (number, scale) =
            units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)))?;
        number.parse::<f64>().ok().map(|number| number * scale)
    });
    let restore = took.fold(0.0, f64::max);
    process.stop();
    json!({ "restore_s": restore, "restore_with_start_s": with_start })
}

/// How long it takes from the start of a process until it commits, after the one before it was killed.
fn after_kill(ours: &Ours<'_>, input: &str) -> f64 {
    let progress = Progress::of(&ours.broker.bootstrap, &ours.application, input);
    load::load(&Load {
        bootstrap: ours.broker.bootstrap.clone(),
        topic: input.to_owned(),
        events: 1_000,
        accounts: 1_000,
        seed: 7,
        zipf: 0.9,
        late_per_mille: 0,
        rate: Some(1e6),
    });
    let before = progress.committed();
    let began = Instant::now();
    let mut process = ours.start();
    wait(&mut process, "work after a kill", Duration::from_millis(10), || {
        (progress.committed() > before).then_some(())
    });
    let after = began.elapsed().as_secs_f64();
    process.stop();
    after
}

/// The changes that were appended since `from`.
fn changes(broker: &Broker, topic: &str, from: &[i64], add: fn(&mut Changes, &[u8])) -> Changes {
    let mut found = Changes::new();
    let to = kafka::ends(&broker.bootstrap, topic);
    kafka::read(&broker.bootstrap, topic, from, &to, |payload, _| add(&mut found, payload));
    found
}

fn measure(options: &Options) -> Value {
    let peer = build_peer(options);
    let broker = start_broker(options, peer.as_deref());
    let work = options.work.join("kafka");
    let mut runs = Vec::new();
    for &accounts in &options.accounts {
        // As the peer's script names it.
        let name = format!("usage-events-{accounts}-{}", options.events);
        let (input, distinct) = make_input(options, &broker, accounts, &work, &name);
        for repeat in 0..options.repeats {
            let number = format!("{accounts}-{repeat}");
            let paced = accounts == options.accounts[0];
            let mut run = json!({ "accounts": accounts, "distinct_accounts": distinct });
            process::at_rest();
            run["floor"] = floor::catch_up(options, &broker, &input, &number);
            let mut theirs = None;
            if let Some(peer) = &peer {
                if repeat == 0 && accounts == options.accounts[0] {
                    create_topics(&broker.bootstrap, &["score-changes"], PARTITIONS);
                }
                let from = kafka::ends(&broker.bootstrap, "score-changes");
                process::at_rest();
                run["peer"] = run_peer(options, peer, accounts, &[], true);
                let per_event = run["peer"]["changelog_log_bytes"].as_f64().unwrap_or_default();
                run["peer"]["changelog_bytes_per_event"] =
                    (per_event / options.events as f64).into();
                theirs = Some(changes(&broker, "score-changes", &from, compare::add_peer));
                if paced && !options.rates.is_empty() {
                    let rates = &options.rates;
                    process::at_rest();
                    let mut peers = run_peer(options, peer, accounts, rates, false);
                    let mut paced = peers["latency"].take();
                    for rate in rates {
                        let of = &mut paced[rate.to_string()];
                        let cpu = of["measured"]["app_cpu_s"].as_f64().unwrap_or_default();
                        let events = rate * options.seconds as f64;
                        of["app_cpu_s_per_million"] = (cpu / events * 1e6).into();
                    }
                    // Its changelog begins with the catch-up, which the run before measured.
                    let bytes =
                        |run: &Value| run["changelog_log_bytes"].as_f64().unwrap_or_default();
                    let events = rates.iter().sum::<f64>() * options.seconds as f64;
                    let per_event = (bytes(&peers) - bytes(&run["peer"])) / events;
                    paced["changelog_bytes_per_event"] = per_event.into();
                    run["peer_paced"] = paced;
                }
            }
            process::at_rest();
            run["ours"] = run_ours(options, &broker, &input, &number);
            let state = run["ours"]["state_bytes"].as_f64().unwrap_or_default();
            run["ours"]["state_bytes_per_account"] = (state / distinct as f64).into();
            if let Some(theirs) = theirs {
                let topic = format!("ours-{number}.{SCORES}");
                let from = vec![0; usize::try_from(PARTITIONS).expect("positive")];
                let own = changes(&broker, &topic, &from, compare::add_ours);
                let (peers, ours, differ) = compare::compare(&theirs, &own);
                run["equal"] =
                    json!({ "peer_changes": peers, "our_changes": ours, "differ": differ });
            }
            if paced && !options.rates.is_empty() {
                let name = format!("paced-events-{number}");
                let (input, _) = make_input(options, &broker, accounts, &work, &name);
                process::at_rest();
                run["ours_paced"] = run_ours_paced(options, &broker, &input, &number);
                process::at_rest();
                run["floor_paced"] = floor::paced(options, &broker, &input, &number);
            }
            eprintln!("{run:#}");
            runs.push(run);
        }
    }
    json!({ "machine": machine(), "runs": runs })
}

fn machine() -> Value {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    json!({ "cpu": model, "cores": cores })
}

fn main() {
    if let Ok(said) = std::env::var(floor::ASKED) {
        return floor::be(&said);
    }
    if std::env::args().any(|argument| argument == "--render") {
        return render();
    }
    let options = Options::read();
    if !options.processes.is_empty() {
        return processes::measure(&options);
    }
    let results = measure(&options);
    std::fs::write(&options.json, format!("{results:#}\n")).expect("a place for results");
    println!("{}", bench_table(&results));
    if options.json == Path::new(RESULTS) {
        render();
    }
}

/// Shows the committed results in the README.
fn render() {
    let results = std::fs::read(RESULTS).expect("results");
    let results: Value = serde_json::from_slice(&results).expect("JSON");
    let readme = std::fs::read_to_string(README).expect("the README");
    let readme = placed(&readme, "bench", &bench_table(&results)).expect("a place in the README");
    std::fs::write(README, readme).expect("a place for the README");
}
