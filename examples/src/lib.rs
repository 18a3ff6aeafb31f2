//! Code shared by the examples: the model to use, a progress bar for the server's start, and logs
//! on stderr.

mod model;

use std::{env, error::Error, fmt, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use openhands::{
    process,
    sandbox::{self, DockerServer},
};
use tracing_subscriber::EnvFilter;

pub use model::Model;

/// The result of an example. Its error may be of any kind.
pub type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// Initializes logging to stderr, with the filter in `RUST_LOG`. By default, warnings of this
/// program are shown; `RUST_LOG=openhands::server=info` shows the server's own log.
pub fn init_tracing() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,openhands::server=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

/// Returns the image of a server in a container: the one in `OPENHANDS_IMAGE`, such as the one that
/// `cargo xtask image` builds, or else the published one.
pub fn image() -> String {
    let set = env::var("OPENHANDS_IMAGE").ok();
    set.unwrap_or_else(DockerServer::default_image)
}

/// A step of a server's start.
pub trait Step: fmt::Display {
    /// Returns whether there are many such steps, so that only the newest one is of interest.
    fn is_detail(&self) -> bool;
}

impl Step for process::Progress {
    fn is_detail(&self) -> bool {
        matches!(self, Self::Installing(_))
    }
}

impl Step for sandbox::Progress {
    fn is_detail(&self) -> bool {
        matches!(self, Self::Pulling { .. })
    }
}

/// Shows the progress of a server's start: a line for each step, with a spinner in a terminal.
pub struct ProvisionBar(ProgressBar);

impl ProvisionBar {
    /// Creates an empty bar.
    pub fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} [{elapsed}] {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// Shows a step.
    pub fn show(&self, step: &impl Step) {
        if !step.is_detail() {
            // Without a terminal the bar is hidden, and would swallow lines.
            self.0.suspend(|| println!("· {step}"));
        }
        self.0.set_message(step.to_string());
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
