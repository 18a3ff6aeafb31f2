//! The settings of a program that the server loses when it loads a conversation again.

use std::sync::{Arc, Mutex, MutexGuard};

use oh_protocol::config::{ConfirmationPolicy, SecurityAnalyzer};

use crate::lock::lock;

/// Settings of a program, which are set again whenever the server may have lost them.
#[derive(Default)]
pub(crate) struct Restored {
    /// Held while a setting is sent: the newest setting wins.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    set: Mutex<Set>,
}

#[derive(Clone, Default)]
pub(crate) struct Set {
    pub(crate) policy: Option<ConfirmationPolicy>,
    pub(crate) analyzer: Option<Option<SecurityAnalyzer>>,
    /// The connection for which both settings have been sent.
    pub(crate) connection: u64,
}

impl Restored {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Set> {
        lock(&self.set)
    }

    /// Returns the policy that this program has set, if any.
    pub(crate) fn policy(&self) -> Option<ConfirmationPolicy> {
        self.lock().policy.clone()
    }

    /// Returns the analyzer that this program has set or removed, if it has done so.
    pub(crate) fn analyzer(&self) -> Option<Option<SecurityAnalyzer>> {
        self.lock().analyzer.clone()
    }
}
