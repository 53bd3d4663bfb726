//! Where commands put input: through a running server that takes it over HTTP, or into the log itself.

use anyhow::{Context, Result, bail};
use bellwether_engine::embedded::partition_of;
use bellwether_engine::log::{Append, Record, Topic};
use serde_json::Value;

use crate::cli::InputArgs;
use crate::config::Config;
use crate::explain;
use crate::source::Source;
use crate::usage::wrong;

/// Where input goes, and is read back from.
pub(crate) enum Place {
    /// The base URL of a server.
    Server(String),
    Log(Source),
}

impl Place {
    pub(crate) fn open(args: &InputArgs, config: &Config) -> Result<Place> {
        if let Some(url) = &args.url {
            return Ok(Place::Server(url.trim_end_matches('/').to_owned()));
        }
        let source = Source::open(&args.args, config, "bellwether-input")
            .context("for a running `run --embedded`, name its server with --url")?;
        Ok(Place::Log(source))
    }

    /// What the server answers at a path; none where this is no server.
    pub(crate) fn get(&self, path: &str) -> Result<Option<Value>> {
        let Place::Server(base) = self else { return Ok(None) };
        match self.find(path)? {
            Some(answer) => Ok(Some(answer)),
            None => bail!("{base}{path} is not found"),
        }
    }

    /// The same; none where the server says that there is nothing.
    pub(crate) fn find(&self, path: &str) -> Result<Option<Value>> {
        Ok(self.ask(path)?.ok())
    }

    /// What the server answers at a path, or its problem where it says that there is nothing; an empty one where this is no server.
    pub(crate) fn ask(&self, path: &str) -> Result<Result<Value, Value>> {
        let Place::Server(base) = self else { return Ok(Err(Value::Null)) };
        let url = format!("{base}{path}");
        let mut response =
            explain::agent().get(&url).call().with_context(|| format!("{url} does not answer"))?;
        let body = response.body_mut().read_to_string()?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(Err(serde_json::from_str(&body).unwrap_or_default())),
            400 => wrong!("{}", detail(&body)),
            status => bail!("{url} answered {status}: {body}"),
        }
        let answer = serde_json::from_str(&body);
        Ok(Ok(answer.with_context(|| format!("{url} answered something else"))?))
    }

    /// Every record of a topic; none where this is a server.
    pub(crate) fn records(&self, topic: &str) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        self.each(topic, &mut |record| records.push(record))?;
        Ok(records)
    }

    /// Reads a topic, partition by partition; nothing where this is a server.
    pub(crate) fn each(&self, topic: &str, each: &mut dyn FnMut(Record)) -> Result<()> {
        let Place::Log(source) = self else { return Ok(()) };
        let topic: Topic = topic.into();
        for partition in 0..source.partitions(&topic)? {
            source.read(&topic, partition, each)?;
        }
        Ok(())
    }

    /// Appends one object: at a path of the server, or in a topic under a key.
    pub(crate) fn append(&self, path: &str, topic: &str, key: &str, value: &Value) -> Result<()> {
        match self {
            Place::Server(base) => {
                let url = format!("{base}{path}");
                let mut response = explain::agent()
                    .post(&url)
                    .send(value.to_string())
                    .with_context(|| format!("{url} does not answer"))?;
                let status = response.status().as_u16();
                if status == 202 {
                    return Ok(());
                }
                let body = response.body_mut().read_to_string()?;
                if status == 400 {
                    wrong!("{}", detail(&body));
                }
                bail!("{url} answered {status}: {body}")
            }
            Place::Log(source) => put(source, topic, key, Some(serde_json::to_vec(value)?)),
        }
    }

    /// Removes what has a key: by a path of the server, or by a record without a value.
    pub(crate) fn remove(&self, path: &str, topic: &str, key: &str) -> Result<()> {
        match self {
            Place::Server(base) => {
                let url = format!("{base}{path}");
                let mut response = explain::agent()
                    .delete(&url)
                    .call()
                    .with_context(|| format!("{url} does not answer"))?;
                match response.status().as_u16() {
                    202 => Ok(()),
                    status => {
                        bail!("{url} answered {status}: {}", response.body_mut().read_to_string()?)
                    }
                }
            }
            Place::Log(source) => put(source, topic, key, None),
        }
    }
}

/// Appends a record to the partition of its key.
fn put(source: &Source, topic: &str, key: &str, payload: Option<Vec<u8>>) -> Result<()> {
    let topic: Topic = topic.into();
    source.append(&[Append {
        partition: partition_of(key.as_bytes(), source.partitions(&topic)?),
        topic,
        key: Some(key.as_bytes().to_vec()),
        payload,
        headers: Vec::new(),
        timestamp_ms: None,
    }])
}

/// What a problem of the server says; of an object that was not accepted, why.
fn detail(body: &str) -> String {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let why = problem["rejected"][0]["detail"].as_str();
    why.or(problem["detail"].as_str()).unwrap_or(body).to_owned()
}
