//! A terminal with a live area below the printed lines.

mod area;
mod work;
mod writing;

use std::{
    fmt,
    io::{self, Stdout, Write},
    time::Instant,
};

#[cfg(feature = "conversation")]
use oh_conversation::Token;
use oh_protocol::Event;

use crate::{Printer, Style, Terminal, window};
use area::Area;
use work::Work;

/// The default of [`Live::rows`].
const ROWS: usize = 5;
/// A terminal with fewer columns or rows has no live area.
const MIN_WINDOW: (u16, u16) = (8, 4);

/// Prints events as [`Terminal`] does, and shows below them what is under way.
///
/// The live area has a few rows: the last lines of the message that the model is writing, each
/// running action with its time, and the totals. Only the live area is ever erased and drawn
/// again. Printed lines never change, and are the same as without a live area, so scrolling and
/// copying work. There is no alternate screen, and the cursor stays visible.
///
/// Nothing is drawn unless the output is a terminal with at least 8 columns and 4 rows. Texts in
/// the area are cleaned as all others: secrets are hidden, and no control character of a text
/// reaches the terminal. The last word of a streamed text is shown when it is complete, because it
/// may be the beginning of a secret.
///
/// The area is drawn by [`print`](Printer::print) and by [`refresh`](Self::refresh). It is removed
/// by [`finish`](Printer::finish) and on drop. [`hide`](Self::hide) the area before something else
/// writes to the same terminal, for example to stderr.
///
/// ```no_run
/// use oh_view::{Printer, Terminal, View};
///
/// # fn show(events: &[oh_protocol::Event]) -> std::io::Result<()> {
/// let mut live = Terminal::stdout(View::new()).live();
/// for event in events {
///     live.print(event)?;
/// }
/// live.hide()?;
/// eprintln!("a note");
/// live.show()?;
/// live.finish()
/// # }
/// ```
pub struct Live<W: Write> {
    terminal: Terminal<W>,
    size: Box<dyn Fn() -> Option<(u16, u16)> + Send + Sync>,
    max_rows: usize,
    work: Work,
    area: Area,
    hidden: bool,
}

impl Terminal<Stdout> {
    /// Adds a live area that shows what is under way. If stdout is not a terminal, or `TERM` is
    /// `dumb`, nothing is added.
    ///
    /// The size of the terminal is read before each output, so that lines fit after a change of
    /// the size, unless [`width`](Self::width) was called.
    #[must_use]
    pub fn live(self) -> Live<Stdout> {
        let size = match window::stdout_has_controls() {
            true => window::stdout_size,
            false => || None,
        };
        Live::new(self, size)
    }
}

impl<W: Write> Live<W> {
    /// Creates a live area for an output that is not stdout. `size` returns the columns and rows of
    /// the terminal, and is called before each output. If `size` returns `None`, nothing is drawn.
    pub fn new(
        terminal: Terminal<W>,
        size: impl Fn() -> Option<(u16, u16)> + Send + Sync + 'static,
    ) -> Self {
        Self {
            terminal,
            size: Box::new(size),
            max_rows: ROWS,
            work: Work::new(Instant::now()),
            area: Area::default(),
            hidden: false,
        }
    }

    /// Sets the maximum number of rows of the area. Default: 5. The area never covers more than
    /// half of the terminal. Zero turns the area off.
    #[must_use]
    pub fn rows(mut self, rows: usize) -> Self {
        self.max_rows = rows;
        self
    }

    /// Prints events with a single update of the terminal. For many past events, this is faster
    /// than [`print`](Printer::print).
    ///
    /// # Errors
    ///
    /// Returns the error of the output.
    pub fn print_all<'a>(&mut self, events: impl IntoIterator<Item = &'a Event>) -> io::Result<()> {
        let (size, now) = (self.fit(), Instant::now());
        let mut text = String::new();
        for event in events {
            self.terminal.event(event, &mut text);
            self.work.event(event, self.terminal.view(), now);
        }
        self.update(&text, size, now)
    }

    /// Takes a token of the model into account. The next [`refresh`](Self::refresh) shows the text.
    ///
    /// The text is removed when its event is printed.
    #[cfg(feature = "conversation")]
    pub fn token(&mut self, token: &Token) {
        let view = self.terminal.view();
        match token {
            Token::Text {
                item_id, content, ..
            } => self.work.piece(item_id, false, content, view),
            Token::Reasoning {
                item_id, content, ..
            } => self.work.piece(item_id, true, content, view),
            Token::Lagged { item_id } => self.work.lagged(item_id),
            Token::Started { item_id, .. }
            | Token::Aborted { item_id, .. }
            | Token::Finished { item_id } => self.work.forget(item_id),
            _ => {}
        }
    }

    /// Draws the area again if it has changed: time has passed, tokens have arrived, or the size of
    /// the terminal is different. Call this several times a second, also if no events arrive.
    ///
    /// # Errors
    ///
    /// Returns the error of the output.
    pub fn refresh(&mut self) -> io::Result<()> {
        let size = self.fit();
        self.update("", size, Instant::now())
    }

    /// Removes the area until [`show`](Self::show) is called. Events are printed in the meantime.
    ///
    /// # Errors
    ///
    /// Returns the error of the output.
    pub fn hide(&mut self) -> io::Result<()> {
        self.hidden = true;
        self.refresh()
    }

    /// Draws the area again after [`hide`](Self::hide).
    ///
    /// # Errors
    ///
    /// Returns the error of the output.
    pub fn show(&mut self) -> io::Result<()> {
        self.hidden = false;
        self.refresh()
    }

    /// Reads the size of the terminal, and adapts the width of lines to it.
    fn fit(&mut self) -> Option<(u16, u16)> {
        let size = (self.size)()?;
        self.terminal.fit(size.0.into());
        Some(size)
    }

    fn update(&mut self, text: &str, size: Option<(u16, u16)>, now: Instant) -> io::Result<()> {
        let rows = match size {
            Some(size) if !self.hidden => self.drawn(size, now),
            _ => Vec::new(),
        };
        let update = self.area.update(text, rows, size.unwrap_or_default());
        match update.is_empty() {
            true => Ok(()),
            false => self.terminal.write(&update),
        }
    }

    /// Returns the rows of the area.
    fn drawn(&self, (columns, lines): (u16, u16), now: Instant) -> Vec<String> {
        if columns < MIN_WINDOW.0 || lines < MIN_WINDOW.1 {
            return Vec::new();
        }
        let count = self.max_rows.min(usize::from(lines) / 2);
        let totals = self.terminal.totals();
        let totals_rows = if totals.is_zero() || count < 2 { 0 } else { 1 };
        // A row that ends in the last column may wrap.
        let columns = usize::from(columns) - 1;
        let count = count - totals_rows;
        let mut rows = self.work.rows(columns, count, now);
        if totals_rows > 0 && !rows.is_empty() {
            let row = vec![(Style::Quiet, totals.to_string())];
            rows.push(work::cut(row, columns));
        }
        let painted = rows.into_iter().map(|row| {
            let mut out = String::new();
            for (style, text) in row {
                self.terminal.paint(style, &text, &mut out);
            }
            out
        });
        painted.collect()
    }
}

/// Prints each event at once, above the area.
impl<W: Write> Printer for Live<W> {
    fn print(&mut self, event: &Event) -> io::Result<()> {
        self.print_all([event])
    }

    fn finish(&mut self) -> io::Result<()> {
        let size = self.fit();
        let mut text = String::new();
        self.terminal.totals_line(&mut text);
        self.work.clear();
        self.update(&text, size, Instant::now())
    }
}

/// Removes the area.
impl<W: Write> Drop for Live<W> {
    fn drop(&mut self) {
        let removal = self.area.remove();
        if !removal.is_empty() {
            // Nobody is left to whom an error could be returned.
            let _ = self.terminal.write(&removal);
        }
    }
}

impl<W: Write> fmt::Debug for Live<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("view", self.terminal.view())
            .field("max_rows", &self.max_rows)
            .field("hidden", &self.hidden)
            .finish_non_exhaustive()
    }
}
