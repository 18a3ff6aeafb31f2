//! The trait of all writers.

use std::io;

use oh_protocol::Event;

/// Writes a conversation, one event after the other. Remembers no past events, except
/// the times of actions that have no result yet.
pub trait Printer {
    /// Writes an event. An event that the view does not show writes nothing.
    ///
    /// # Errors
    ///
    /// Returns the error of the output, such as [`BrokenPipe`](io::ErrorKind::BrokenPipe).
    fn print(&mut self, event: &Event) -> io::Result<()>;

    /// Writes what follows the last event, and flushes the output.
    ///
    /// # Errors
    ///
    /// Returns the error of the output.
    fn finish(&mut self) -> io::Result<()>;
}
