//! Makes it possible to wait for child processes if this process was started with SIGCHLD ignored,
//! as some supervisors and shells do. The kernel then discards the exit status of children.

/// Makes it possible to wait for children started from now on. Changes nothing unless SIGCHLD is
/// ignored. If it was, this process must also wait for its other children.
pub(crate) fn can_be_waited_for() {
    #[cfg(target_os = "linux")]
    if is_ignored() {
        use tokio::signal::unix::{SignalKind, signal};
        // A handler replaces the ignored signal, and is never removed.
        if let Err(error) = signal(SignalKind::child()) {
            tracing::warn!(
                %error,
                "SIGCHLD is ignored in this process: exit statuses of child processes may be lost"
            );
        }
    }
}

#[cfg(target_os = "linux")]
fn is_ignored() -> bool {
    let bit = 1_u64 << (rustix::process::Signal::CHILD.as_raw() - 1);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let ignored = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & bit != 0)
}
