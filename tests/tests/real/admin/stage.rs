//! The server of the scenes, and what they share.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use openhands::{admin::Admin, protocol::config::Llm, testkit::ScriptedModel};

/// A value that no log line, error or `Debug` output may contain.
pub(super) const CANARY: &str = "canary-of-the-admin";

/// A server with what the scenes need.
pub(super) struct Stage {
    pub(super) admin: Admin,
    pub(super) model: ScriptedModel,
}

impl Stage {
    /// Returns the scripted model with its key.
    pub(super) fn llm(&self) -> Llm {
        Llm::new(ScriptedModel::MODEL)
            .base_url(self.model.base_url())
            .api_key(CANARY)
            .num_retries(0)
    }
}

/// Collects everything that this process logs.
#[derive(Clone, Default)]
pub(super) struct Logged(Arc<Mutex<Vec<u8>>>);

impl Logged {
    /// Returns everything that was logged.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Logged {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
