//! Prints conversations to a terminal.

mod lines;

use std::{
    env,
    io::{self, Write},
};

use oh_protocol::Event;

use crate::{
    Detail, Printer, Style, Theme, Totals, View,
    elapsed::Elapsed,
    highlight, window,
    wrap::{self, Span},
};

/// The width if the terminal's is unknown, in columns.
const WIDTH: usize = 80;
/// The minimum width. A wide character and an indentation must fit.
const MIN_WIDTH: usize = 4;
/// The indentation of the content of a block, if the output is not narrow.
const INDENT: usize = 2;
/// An output of fewer columns has no indentation.
const NARROW: usize = 20;

/// Prints events as lines of text, to a terminal or any other output.
///
/// The output is append-only: printed lines are never changed, so scrolling and copying work. No
/// line is wider than the [`width`](Self::width). Without [`color`](Self::color), the output
/// contains no control characters except line feeds. [`Live`](crate::Live) adds an area below the
/// printed lines that shows what is under way.
///
/// ```
/// use oh_protocol::Event;
/// use oh_view::{Printer, Terminal, View};
///
/// let event = r#"{"id":"1","timestamp":"2026-01-02T03:04:05","source":"user","llm_message":
///     {"role":"user","content":[{"type":"text","text":"Hello"}]},"kind":"MessageEvent"}"#;
/// let mut terminal = Terminal::new(Vec::new(), View::new());
/// terminal.print(&Event::from_json(event)?)?;
/// terminal.finish()?;
/// assert_eq!(terminal.into_inner(), b"03:04:05 user\n  Hello\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Terminal<W> {
    out: W,
    view: View,
    theme: Theme,
    width: usize,
    /// Whether the caller has chosen the width.
    has_fixed_width: bool,
    color: bool,
    elapsed: Elapsed,
    totals: Totals,
    printed_totals: Totals,
}

impl Terminal<io::Stdout> {
    /// Creates a printer to stdout: in the terminal's width, and with colours if stdout is a
    /// terminal, the variable `NO_COLOR` is unset or empty, and `TERM` is not `dumb`.
    ///
    /// If stdout is not a terminal, lines have 80 columns and no colours.
    pub fn stdout(view: View) -> Self {
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = window::stdout_has_controls() && !no_color;
        let mut terminal = Self::new(io::stdout(), view).color(color);
        if let Some((columns, _)) = window::stdout_size() {
            terminal.fit(columns.into());
        }
        terminal
    }
}

impl<W: Write> Terminal<W> {
    /// Creates a printer without colours, for lines of at most 80 columns.
    pub fn new(out: W, view: View) -> Self {
        Self {
            out,
            view,
            theme: Theme::new(),
            width: WIDTH,
            has_fixed_width: false,
            color: false,
            elapsed: Elapsed::default(),
            totals: Totals::default(),
            printed_totals: Totals::default(),
        }
    }

    /// Sets the maximum width of a line, in columns. Default: 80. Widths below 4 count as 4.
    #[must_use]
    pub fn width(mut self, columns: usize) -> Self {
        self.width = columns.max(MIN_WIDTH);
        self.has_fixed_width = true;
        self
    }

    /// Sets whether the output has colours. Default: `false`, except for
    /// [`stdout`](Terminal::stdout).
    #[must_use]
    pub fn color(mut self, color: bool) -> Self {
        self.color = color;
        self
    }

    /// Sets the colours. Default: [`Theme::new`].
    #[must_use]
    pub fn theme(mut self, theme: Theme) -> Self {
        self.theme = theme;
        self
    }

    /// Returns the output.
    pub fn into_inner(self) -> W {
        self.out
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Adapts the width to a terminal, unless the caller has chosen a width.
    pub(crate) fn fit(&mut self, columns: usize) {
        if !self.has_fixed_width {
            self.width = columns.max(MIN_WIDTH);
        }
    }

    /// Appends a text in the look of a style.
    pub(crate) fn paint(&self, style: Style, text: &str, out: &mut String) {
        match self.color {
            true => self.theme.look(style).write(out, text),
            false => out.push_str(text),
        }
    }

    /// Appends the lines of an event.
    pub(crate) fn event(&mut self, event: &Event, out: &mut String) {
        let detail = self.view.shown_detail();
        let mut blocks = self.view.blocks(event);
        self.elapsed.add(event, &mut blocks);
        for block in blocks {
            for line in lines::of(&block, detail) {
                let indent = if line.is_title { 0 } else { INDENT };
                self.rows(&line.spans, indent, line.at, out);
            }
        }
        if let Some(totals) = Totals::in_event(event) {
            self.totals = totals;
            if detail == Detail::Full {
                self.totals_line(out);
            }
        }
    }

    /// Writes a text, and flushes the output.
    pub(crate) fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Appends the rows of a line.
    fn rows(&self, spans: &[Span<Style>], indent: usize, at: wrap::Break, out: &mut String) {
        let spans = highlighted(spans, self.view.highlights());
        let indent = if self.width < NARROW { 0 } else { indent };
        for row in wrap::rows(&spans, self.width - indent, at) {
            let is_blank = row.iter().all(|(_, text)| text.trim().is_empty());
            if !is_blank {
                out.extend(std::iter::repeat_n(' ', indent));
                for (style, text) in row {
                    self.paint(style, &text, out);
                }
            }
            out.push('\n');
        }
    }

    /// Appends the totals, unless the same totals were printed before.
    pub(crate) fn totals_line(&mut self, out: &mut String) {
        if self.totals != self.printed_totals && !self.totals.is_zero() {
            let line = [(Style::Quiet, self.totals.to_string())];
            self.rows(&line, INDENT, wrap::Break::Words, out);
            self.printed_totals = self.totals;
        }
    }
}

/// Prints each event at once, and flushes the output.
///
/// With [`Detail::Full`], the totals follow each response of the model: once, also if the response
/// has several actions. With [`Detail::Compact`], they are printed only by
/// [`finish`](Printer::finish).
impl<W: Write> Printer for Terminal<W> {
    fn print(&mut self, event: &Event) -> io::Result<()> {
        let mut out = String::new();
        self.event(event, &mut out);
        match out.is_empty() {
            true => Ok(()),
            false => self.write(&out),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        let mut out = String::new();
        self.totals_line(&mut out);
        self.write(&out)
    }
}

/// Splits spans so that the matches of the patterns have a separate style.
fn highlighted(spans: &[Span<Style>], patterns: &[String]) -> Vec<Span<Style>> {
    let spans: Vec<(Style, &str)> = spans
        .iter()
        .map(|(style, text)| (*style, &**text))
        .collect();
    let split = highlight::marked(&spans, patterns).into_iter();
    let split = split.map(|(is_match, style, text)| {
        let style = if is_match { Style::Highlight } else { style };
        (style, text.to_owned())
    });
    split.collect()
}
