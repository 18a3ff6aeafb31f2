//! The beginning of a run: its settings, its directory and its record.

use std::{
    fs,
    path::{Path, PathBuf},
};

use openhands::{ConfirmationPolicy, ConversationId, SecurityRisk};

use super::{agent::Parts, options::Options, rules::Rule};
use crate::{
    config::{self, Config, Confirm},
    exit::{Exit, Failure},
    records::{self, Place, Record},
    server::MOUNTED,
};

/// The beginning of a run.
pub(super) struct Beginning {
    pub(super) place: Place,
    pub(super) record: Record,
    /// The message to send.
    pub(super) message: Option<String>,
    pub(super) terms: Terms,
}

/// The settings of a run.
pub(super) struct Terms {
    /// The agent of a new run. `None` for a run that is continued.
    pub(super) parts: Option<Parts>,
    pub(super) confirm: Confirm,
    pub(super) rules: Vec<Rule>,
    pub(super) max_cost: Option<f64>,
    pub(super) max_iterations: Option<u32>,
    pub(super) timeout: Option<u64>,
}

impl Terms {
    fn of(config: &Config, new: bool) -> Result<Self, Failure> {
        let rules = config.value(&config::APPROVE)?.unwrap_or_default();
        let parts = match new {
            true => Some(Parts::load(config)?),
            false => None,
        };
        Ok(Self {
            parts,
            confirm: config.value(&config::CONFIRM)?.unwrap_or(Confirm::Never),
            rules: rules
                .iter()
                .map(|rule| Rule::parse(rule))
                .collect::<Result<_, _>>()?,
            max_cost: config.value(&config::MAX_COST)?,
            max_iterations: config.value(&config::MAX_ITERATIONS)?,
            timeout: config.value(&config::TIMEOUT)?,
        })
    }

    /// Returns which actions wait for approval.
    pub(super) fn policy(&self) -> ConfirmationPolicy {
        match self.confirm {
            Confirm::Never => ConfirmationPolicy::never(),
            Confirm::Risky => ConfirmationPolicy::approve_up_to(SecurityRisk::Low),
            Confirm::Always => ConfirmationPolicy::always(),
        }
    }
}

/// Finds or creates the directory and the record of the run.
pub(super) fn begin(options: &Options, message: Option<String>) -> Result<Beginning, Failure> {
    match &options.resume {
        Some(id) => resumed(options, id, message),
        None => new(options, message),
    }
}

fn resumed(options: &Options, id: &str, message: Option<String>) -> Result<Beginning, Failure> {
    let (path, record) = records::find(id)?;
    let directory = match record.server {
        Some(_) => None,
        None => Some(Path::new(&record.directory)),
    };
    let terms = Terms::of(&Config::load(options.settings(), directory)?, false)?;
    let place = Place::open(path)?;
    Ok(Beginning {
        place,
        record,
        message,
        terms,
    })
}

fn new(options: &Options, message: Option<String>) -> Result<Beginning, Failure> {
    let pool = options.pool()?;
    // The directory of a given server need not exist here.
    let elsewhere = options.server.is_some() || pool.is_some();
    let directory = match &options.dir {
        None if pool.is_some() => PathBuf::from(MOUNTED),
        Some(dir) if elsewhere => dir.clone(),
        dir => {
            let dir = dir.clone().unwrap_or_else(|| PathBuf::from("."));
            fs::canonicalize(&dir).map_err(|error| {
                let message = format!("cannot use the directory {}: {error}", dir.display());
                Exit::Configuration.because(message)
            })?
        }
    };
    let here = (!elsewhere).then_some(directory.as_path());
    let config = Config::load(options.settings(), here)?;
    let container = options.container()?;
    let server = match options.is_private() || pool.is_some() {
        true => None,
        false => config.value(&config::SERVER)?,
    };
    if server.is_some() && options.dir.is_none() {
        let message = "with a server, name a directory of that server: --dir DIR";
        return Err(Exit::Usage.because(message));
    }
    let terms = Terms::of(&config, true)?;
    let id = ConversationId::random();
    let path = match &options.output_dir {
        Some(path) => path.clone(),
        None => records::place_of(id)?,
    };
    if path.join("run.json").exists() {
        let message = format!(
            "{} contains another run: use an empty directory",
            path.display()
        );
        return Err(Exit::Configuration.because(message));
    }
    let mut record = Record::new(id, message.as_deref().unwrap_or_default());
    record.directory = directory.to_string_lossy().into_owned();
    record.server = server;
    record.container = container;
    record.pool = pool.map(str::to_owned);
    let place = Place::open(path)?;
    Ok(Beginning {
        place,
        record,
        message,
        terms,
    })
}
