//! Where a policy comes from: a file, or one of those that are built in.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use bellwether_core::policy::{Compiled, DEFAULT_TOML, OPENSTACK_TOML};

use bellwether_core::step::Core;

use crate::config::Config;
use crate::usage::{Usage, text_of, wrong};

/// The text of a built-in policy.
pub(crate) fn builtin(name: &str) -> Option<&'static str> {
    match name {
        "default" => Some(DEFAULT_TOML),
        "openstack" => Some(OPENSTACK_TOML),
        _ => None,
    }
}

/// Reads and checks a policy: `builtin:NAME`, a file, or none for the default.
pub(crate) fn load(source: Option<&Path>) -> Result<Compiled> {
    let Some(path) = source else { return Ok(Compiled::default_policy()) };
    let name = path.display().to_string();
    let text = match name.strip_prefix("builtin:") {
        Some(builtin_name) => match builtin(builtin_name) {
            Some(text) => text.to_owned(),
            None => wrong!("{name}: there is no such policy; built in are default and openstack"),
        },
        None => text_of(path)?,
    };
    Ok(Compiled::parse(&name, &text).map_err(|error| Usage(error.to_string()))?)
}

/// The engine of a configuration: its policy, and its model where it names one.
pub(crate) fn core(config: &Config) -> Result<Core> {
    with_model(Core::new(Arc::new(load(config.policy.as_deref())?)), config)
}

/// An engine that reads promoted models, scored by the model that a configuration names.
pub(crate) fn with_model(core: Core, config: &Config) -> Result<Core> {
    let core = core.reading(crate::model::reader());
    let core = if config.state.format().has_contract() { core } else { core.for_older() };
    match &config.model {
        Some(path) => crate::model::scored_by(core, path),
        None => Ok(core),
    }
}

/// The demo's policy: the default one, with the signals of the commit history beside its own.
pub(crate) fn demo() -> Result<Compiled> {
    let history = Compiled::parse("openstack.toml", OPENSTACK_TOML)?;
    Ok(Compiled::default_policy().with_signals("demo policy", &history)?)
}
