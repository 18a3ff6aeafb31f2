//! What the examples share and a reader of an example need not see: which model to use, a bar
//! while the server is provisioned, and logs on stderr.

mod model;

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use openhands::process::Progress;
use tracing_subscriber::EnvFilter;

pub use model::Model;

/// Logs of this program and of the server on stderr, as `RUST_LOG` says. By default
/// warnings of this program; `RUST_LOG=openhands::server=info` shows the server's own log.
pub fn init_tracing() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,openhands::server=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

/// Shows what a server's start is doing: a line for each step, a spinner in a terminal.
pub struct ProvisionBar(ProgressBar);

impl ProvisionBar {
    /// A bar that shows nothing yet.
    pub fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} [{elapsed}] {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// Shows a step.
    pub fn show(&self, step: &Progress) {
        if let Progress::Installing(line) = step {
            self.0.set_message(line.clone());
        } else {
            // Hidden bars swallow lines where there is no terminal.
            self.0.suspend(|| println!("· {step}"));
            self.0.set_message(step.to_string());
        }
    }
}

impl Default for ProvisionBar {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ProvisionBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
