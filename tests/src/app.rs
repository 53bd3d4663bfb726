//! An application on the shared broker, with topics, group and state of its own.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bellwether_core::event::{Event, Profile};
use bellwether_core::id::AccountId;
use serde_json::{Value, json};

use crate::{
    Bellwether, Consumed, Outgoing, bellwether, consume_all, produce, shared_kafka, stories, text,
    unique,
};

/// No step takes longer on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(600);

/// Where an application's Kafka is.
#[derive(Debug, Clone)]
pub struct Site {
    /// `host:port` for the tests' own clients.
    pub direct: String,
    /// `host:port` for the application: it may lead through a proxy.
    pub through: String,
    /// Replicas of each topic.
    pub replicas: u16,
}

impl Site {
    /// The broker that the tests of one binary share.
    #[must_use]
    pub fn shared() -> Site {
        let direct = shared_kafka().bootstrap().to_owned();
        Site { through: direct.clone(), direct, replicas: 1 }
    }
}

/// One application: its topics, its configuration, its directory.
#[derive(Debug)]
pub struct App {
    name: String,
    bootstrap: String,
    partitions: i32,
    dir: tempfile::TempDir,
}

impl App {
    /// An application whose topics exist. `config`: sections of its configuration file.
    ///
    /// # Panics
    /// If the topics cannot be created.
    #[must_use]
    pub fn prepare(name: &str, partitions: i32, config: &str) -> App {
        App::prepare_with(name, partitions, "", config)
    }

    /// The same with further lines of the section `[kafka]`.
    ///
    /// # Panics
    /// If the topics cannot be created.
    #[must_use]
    pub fn prepare_with(name: &str, partitions: i32, kafka: &str, config: &str) -> App {
        App::prepare_on(&Site::shared(), name, partitions, kafka, config)
    }

    /// The same anywhere.
    ///
    /// # Panics
    /// If the topics cannot be created.
    #[must_use]
    pub fn prepare_on(site: &Site, name: &str, partitions: i32, kafka: &str, config: &str) -> App {
        let app = App::configured(site, name, partitions, kafka, config);
        let partitions = partitions.to_string();
        let applied = bellwether([
            "topics",
            "apply",
            "--replication",
            &site.replicas.to_string(),
            "--bootstrap-servers",
            &site.direct,
            "--partitions",
            &partitions,
            "--config",
            &app.config(),
        ])
        .output()
        .expect("the binary runs");
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        app
    }

    /// An application without topics.
    #[must_use]
    pub fn unprepared(name: &str, partitions: i32, config: &str) -> App {
        App::configured(&Site::shared(), name, partitions, "", config)
    }

    fn configured(site: &Site, name: &str, partitions: i32, kafka: &str, config: &str) -> App {
        let name = unique(name);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let topics = [
            "profiles",
            "outcomes",
            "calendar",
            "models",
            "score_changed",
            "score_current",
            "alerts",
            "shadow",
            "examples",
            "dead_letters",
            "state_changelog",
            "seen_changelog",
            "ticks",
            "cohort_stats",
            "parked",
            "notify_state",
        ];
        let mut text = format!(
            "application_id = \"{name}\"\ndata_dir = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[kafka]\nbootstrap_servers = \"{}\"\n{kafka}[topics]\nevents = [\"{name}.events\"]\n",
            dir.path().join("data").display(),
            site.through
        );
        for topic in topics {
            text.push_str(&format!("{topic} = \"{name}.{topic}\"\n"));
        }
        text.push_str(config);
        std::fs::write(dir.path().join("bellwether.toml"), text)
            .expect("a new directory can be written to");
        App { name, bootstrap: site.direct.clone(), partitions, dir }
    }

    fn config(&self) -> String {
        self.dir.path().join("bellwether.toml").display().to_string()
    }

    /// How many partitions its topics have.
    #[must_use]
    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// `host:port` of the broker, for clients that are not the application's.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The application's name: its consumer group, and the first part of its transactional ids.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of a topic, e.g. of `alerts`.
    #[must_use]
    pub fn topic(&self, kind: &str) -> String {
        format!("{}.{kind}", self.name)
    }

    /// The transactional id of the application's own process.
    ///
    /// # Panics
    /// If it has not started yet.
    #[must_use]
    pub fn transactional_id(&self) -> String {
        let file = self.dir.path().join("data").join("instance");
        let instance = std::fs::read_to_string(file).expect("it writes its name when it starts");
        format!("{}-{}-0", self.name, instance.trim())
    }

    /// `bellwether run` for this application.
    pub fn command(&self) -> Command {
        bellwether(["run", "--config", &self.config()])
    }

    /// A process of the application.
    #[must_use]
    pub fn start(&self) -> Bellwether {
        Bellwether::spawn(self.command())
    }

    /// A second process of the application, with a directory of its own.
    pub fn start_as(&self, instance: &str) -> Bellwether {
        let mut command = self.command();
        command.arg("--data-dir").arg(self.dir.path().join(instance));
        Bellwether::spawn(command)
    }

    /// Events as a plain producer writes them, each account in a partition of its own choice; then the end marks.
    pub fn produce(&self, events: &[Event]) {
        self.produce_some(events);
        self.finish_input();
    }

    /// The same without the end marks.
    pub fn produce_some(&self, events: &[Event]) {
        let records: Vec<Outgoing> = events
            .iter()
            .map(|event| self.record(&event.account, stories::event_json(event)))
            .collect();
        produce(self.bootstrap(), &self.topic("events"), &records);
    }

    /// Profiles, as a plain producer writes them.
    pub fn produce_profiles(&self, profiles: &[Profile]) {
        let records: Vec<Outgoing> = profiles
            .iter()
            .map(|profile| self.record(&profile.account, stories::profile_json(profile)))
            .collect();
        produce(self.bootstrap(), &self.topic("profiles"), &records);
    }

    /// A record of an account, in the partition of its choice.
    pub fn record(&self, account: &AccountId, payload: Vec<u8>) -> Outgoing {
        let sum: i32 = account.as_str().bytes().map(i32::from).sum();
        Outgoing {
            partition: Some(sum % self.partitions),
            key: Some(account.as_str().as_bytes().to_vec()),
            payload: Some(payload),
            ..Outgoing::default()
        }
    }

    /// Marks the end of the input: an event of an account of its own in each partition, when all days of the stories have been judged.
    pub fn finish_input(&self) {
        let at = stories::JUDGED;
        let marks: Vec<Outgoing> = (0..self.partitions)
            .map(|partition| {
                let mark = json!({"event_id": "end", "account_id": format!("end-{partition}"), "type": "login", "occurred_at": at});
                Outgoing { partition: Some(partition), payload: Some(mark.to_string().into_bytes()), ..Outgoing::default() }
            })
            .collect();
        produce(self.bootstrap(), &self.topic("events"), &marks);
    }

    /// Every committed record of a topic, by partition, in order.
    #[must_use]
    pub fn content(&self, kind: &str) -> Vec<Content> {
        consume_all(self.bootstrap(), &self.topic(kind))
            .iter()
            .map(|record| {
                (record.partition, text(record.key.as_deref()), text(record.payload.as_deref()))
            })
            .collect()
    }

    /// A command of the application that answers in JSON.
    #[must_use]
    pub fn command_of(&self, arguments: &[&str]) -> Command {
        let all = arguments.iter().copied().chain(["--json", "--config"]);
        let mut command = bellwether(all);
        command.arg(self.config());
        command
    }

    /// Runs a command of the application to success and reads its answer as JSON.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Value {
        let output = self.command_of(arguments).output().expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// What the state of the application's own process says of an account, once it has ended.
    ///
    /// # Panics
    /// If the account is not there.
    #[must_use]
    pub fn explain(&self, account: &str) -> Value {
        self.run(&["explain", account])
    }

    /// Where a process of the application keeps the state of a partition.
    #[must_use]
    pub fn state_dir(&self, partition: i32) -> PathBuf {
        self.dir.path().join("data").join("state").join(format!("partition-{partition}"))
    }

    /// The data directory of the application's own process (`data`), or of one started under another name.
    #[must_use]
    pub fn data_dir(&self, instance: &str) -> PathBuf {
        self.dir.path().join(instance)
    }

    /// One more event in each partition, of accounts of their own.
    pub fn produce_more(&self, name: &str) {
        let at = stories::JUDGED + 3_600_000;
        let records: Vec<Outgoing> = (0..self.partitions)
            .map(|partition| {
                let event = json!({"event_id": name, "account_id": format!("{name}-{partition}"), "type": "login", "occurred_at": at});
                Outgoing { partition: Some(partition), payload: Some(event.to_string().into_bytes()), ..Outgoing::default() }
            })
            .collect();
        produce(self.bootstrap(), &self.topic("events"), &records);
    }

    /// Whether those events have been scored.
    #[must_use]
    pub fn has_more(&self, name: &str) -> bool {
        let current = self.content("score_current");
        (0..self.partitions).all(|partition| {
            let key = Some(format!("{name}-{partition}"));
            current.iter().any(|(_, found, _)| *found == key)
        })
    }

    /// The records of a topic but for those of these events.
    #[must_use]
    pub fn without_more(&self, kind: &str, name: &str) -> Vec<Content> {
        let mut content = self.content(kind);
        content.retain(|(_, key, _)| !key.as_ref().is_some_and(|key| key.starts_with(name)));
        content
    }

    /// Waits until the end marks have come out.
    pub fn wait_until_done(&self, running: &mut Bellwether) {
        let topic = self.topic("score_current");
        running.wait_until("the end of the input", LIMIT, |_| {
            let records = consume_all(self.bootstrap(), &topic);
            let marked = |partition: i32| {
                let key = format!("end-{partition}");
                records.iter().any(|record| record.key.as_deref() == Some(key.as_bytes()))
            };
            (0..self.partitions).all(marked).then_some(())
        });
    }
}

/// Partition, key, value.
pub type Content = (i32, Option<String>, Option<String>);

/// A header's text; empty where there is none.
pub fn header(record: &Consumed, name: &str) -> String {
    let found = record.headers.iter().find(|(header, _)| header == name);
    found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}

/// The committed records of an output topic, as JSON.
pub fn outputs(app: &App, kind: &str) -> Vec<Value> {
    consume_all(app.bootstrap(), &app.topic(kind))
        .iter()
        .map(|record| {
            serde_json::from_slice(record.payload.as_deref().expect("no tombstones")).expect("JSON")
        })
        .collect()
}
