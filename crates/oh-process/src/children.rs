//! Makes it possible to wait for child processes if this process was started with SIGCHLD ignored,
//! as some supervisors and shells do. The kernel then discards the exit status of children.

/// Stops ignoring SIGCHLD, so that this process can wait for the children that it starts from now
/// on. Changes nothing if SIGCHLD is not ignored. Otherwise, this process must from now on wait for
/// its other children too.
pub(crate) fn make_waitable() {
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
