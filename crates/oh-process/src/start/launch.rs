//! The Python code that a server is started with.

/// Python code that runs the server's module in its own interpreter and
///
/// - records the directories that the browser's library creates in /tmp when it is imported, so
///   that the keeper can remove them;
/// - hides the session keys, which the server writes into its environment for its own use, from
///   every process that the server starts;
/// - stops the server's libraries from reading variables from `.env` files above their own
///   directory.
pub(crate) const LAUNCH: &str = include_str!("launch.py");
