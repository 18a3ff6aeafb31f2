//! Writes events as they are, one on each line.

use std::io::{self, Write};

use oh_protocol::Event;

use crate::Printer;

/// Writes the original JSON of each event on its own line, for programs.
///
/// The bytes of an event are unchanged, so nothing is masked and no event is left out: treat the
/// output like the log of the conversation. Line breaks between the members of an event, which the
/// server never sends, become spaces.
///
/// ```
/// use oh_protocol::Event;
/// use oh_view::{Jsonl, Printer};
///
/// let event = r#"{"id":"1","timestamp":"2026-01-02T03:04:05","source":"user","kind":"PauseEvent"}"#;
/// let mut log = Jsonl::new(Vec::new());
/// log.print(&Event::from_json(event)?)?;
/// assert_eq!(log.into_inner(), format!("{event}\n").into_bytes());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Jsonl<W> {
    out: W,
}

impl<W: Write> Jsonl<W> {
    /// Creates a writer. Use a [`BufWriter`](io::BufWriter) for many events.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Returns the output.
    pub fn into_inner(self) -> W {
        self.out
    }
}

impl<W: Write> Printer for Jsonl<W> {
    fn print(&mut self, event: &Event) -> io::Result<()> {
        let json = event.as_json();
        let breaks = ['\n', '\r'];
        match json.contains(breaks) {
            true => self.out.write_all(json.replace(breaks, " ").as_bytes())?,
            false => self.out.write_all(json.as_bytes())?,
        }
        self.out.write_all(b"\n")
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
