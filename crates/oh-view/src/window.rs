//! The size of the terminal of stdout.

use std::{
    env,
    io::{self, IsTerminal as _},
};

/// Returns the columns and rows of the terminal of stdout. `None` if stdout is not a terminal, or
/// its size is unknown.
#[cfg(unix)]
pub(crate) fn stdout_size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Returns `None`: the size is unknown on this platform.
#[cfg(not(unix))]
pub(crate) fn stdout_size() -> Option<(u16, u16)> {
    None
}

/// Returns whether stdout is a terminal that executes control sequences.
pub(crate) fn stdout_has_controls() -> bool {
    let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !is_dumb
}
