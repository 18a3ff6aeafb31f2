//! An emulated terminal.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard},
};

/// A terminal with a history of 10,000 lines. Clones show the same terminal.
#[derive(Clone)]
pub(crate) struct Screen(Arc<Mutex<Emulated>>);

struct Emulated {
    parser: vt100::Parser,
    raw: String,
    /// Unknown if the output is not a terminal.
    size: Option<(u16, u16)>,
}

impl Screen {
    pub(crate) fn new(columns: u16, rows: u16) -> Self {
        Self(Arc::new(Mutex::new(Emulated {
            parser: vt100::Parser::new(rows, columns, 10_000),
            raw: String::new(),
            size: Some((columns, rows)),
        })))
    }

    fn emulated(&self) -> MutexGuard<'_, Emulated> {
        self.0.lock().unwrap()
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let mut emulated = self.emulated();
        emulated.parser.screen_mut().set_size(rows, columns);
        emulated.size = Some((columns, rows));
    }

    /// Returns the size, as a program reads it.
    pub(crate) fn size(&self) -> impl Fn() -> Option<(u16, u16)> + Send + Sync + 'static {
        let screen = self.clone();
        move || screen.emulated().size
    }

    /// Makes the size unknown, as that of a pipe.
    pub(crate) fn unknown_size(self) -> Self {
        self.emulated().size = None;
        self
    }

    /// Returns all lines, also those that have left the screen, without empty ones at the end.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut emulated = self.emulated();
        let (rows, columns) = emulated.parser.screen().size();
        let screen = emulated.parser.screen_mut();
        screen.set_scrollback(usize::MAX);
        let mut lines = Vec::new();
        for above in (1..=screen.scrollback()).rev() {
            screen.set_scrollback(above);
            lines.extend(screen.rows(0, columns).next());
        }
        screen.set_scrollback(0);
        lines.extend(screen.rows(0, columns).take(rows.into()));
        lines
            .iter_mut()
            .for_each(|line| line.truncate(line.trim_end().len()));
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    /// Returns everything that was written.
    pub(crate) fn raw(&self) -> String {
        self.emulated().raw.clone()
    }

    /// Returns whether the terminal shows its cursor and its normal screen.
    pub(crate) fn is_normal(&self) -> bool {
        let emulated = self.emulated();
        let screen = emulated.parser.screen();
        !screen.hide_cursor() && !screen.alternate_screen()
    }
}

/// Moves the cursor to the first column after a line feed, as a terminal device does.
impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = std::str::from_utf8(bytes).unwrap();
        let mut emulated = self.emulated();
        emulated.raw.push_str(text);
        emulated
            .parser
            .process(text.replace('\n', "\r\n").as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
