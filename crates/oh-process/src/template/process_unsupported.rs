//! Replaces the template's process on systems where a forked server could not be distinguished from
//! another. Always fails to start.

use crate::{
    Environment, Error, ErrorKind, Result, start::settings::Settings, supervise::keeper::Keeper,
    template::fit::Fixed,
};

/// Placeholder; never created.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) fixed: Fixed,
}

/// Placeholder; never created.
#[derive(Debug)]
pub(crate) struct End;

/// Why there is no template.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: Error,
    pub(crate) is_final: bool,
}

impl Process {
    pub(crate) async fn start(_: &Environment, _: &Settings) -> Result<(Self, End), Failed> {
        let message = "templates are supported only on Linux; start servers without a template";
        Err(Failed {
            error: Error::new(ErrorKind::Unsupported, message),
            is_final: true,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        0
    }

    pub(crate) async fn fork(&self, _: std::time::Duration) -> Result<Keeper, String> {
        Err("templates are supported only on Linux".to_owned())
    }
}

impl End {
    pub(crate) async fn wait(&mut self) {}
}
