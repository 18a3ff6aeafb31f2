//! Writes a conversation as a single HTML page.

mod chart;
mod escape;
mod parts;
mod prose;

use std::io::{self, Write};

use oh_protocol::{Event, redact::Redactor};

use crate::{Block, Printer, Tone, Totals, View, clean, elapsed::Elapsed};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// The SHA-256 hashes of style and script, which are all that the page may apply and execute.
const STYLE_HASH: &str = "3SMEo9mNAVmi/qnjCqec1KBTNJp6Z0bwRPSpu8gPB0Y=";
const SCRIPT_HASH: &str = "h2Pb5nUZcNXm14+8xx9M62BHeIsfuF64CGTZUERp7/w=";

/// Writes events as one HTML page, which needs no other file and no network.
///
/// The page has a timeline of collapsible events with coloured diffs and output, a search field, a
/// chart of cost and tokens, and a light and a dark look. `#search=text` at the end of its address
/// searches at once. Long content scrolls and is not shortened, with either
/// [`Detail`](crate::Detail).
///
/// All text of events is escaped. A `Content-Security-Policy` in the page also forbids requests
/// and any script or style but the page's. Links in messages are opened only by a click.
///
/// Events are written at once. [`finish`](Printer::finish) completes the page with
/// the chart and the search.
///
/// ```no_run
/// use std::{fs::File, io::BufWriter};
/// use oh_view::{Html, Printer, View};
///
/// # fn export(events: &[oh_protocol::Event]) -> std::io::Result<()> {
/// let file = BufWriter::new(File::create("conversation.html")?);
/// let mut page = Html::new(file, View::new()).title("Make the tests pass");
/// for event in events {
///     page.print(event)?;
/// }
/// page.finish()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Html<W> {
    out: W,
    view: View,
    title: String,
    elapsed: Elapsed,
    chart: chart::Chart,
    has_begun: bool,
    has_ended: bool,
}

impl<W: Write> Html<W> {
    /// Creates a writer. Use a [`BufWriter`](io::BufWriter) for many events.
    pub fn new(out: W, view: View) -> Self {
        Self {
            out,
            view,
            title: "Conversation".to_owned(),
            elapsed: Elapsed::default(),
            chart: chart::Chart::default(),
            has_begun: false,
            has_ended: false,
        }
    }

    /// Sets the title of the page. Default: `Conversation`.
    #[must_use]
    pub fn title(mut self, title: &str) -> Self {
        self.title = clean::text(title, &Redactor::new());
        self
    }

    /// Returns the output.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn begin(&mut self, out: &mut String) {
        if self.has_begun {
            return;
        }
        self.has_begun = true;
        let mut title = String::new();
        escape::plain(&mut title, &self.title);
        out.push_str(&format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
             style-src 'sha256-{STYLE_HASH}'; script-src 'sha256-{SCRIPT_HASH}'; \
             base-uri 'none'; form-action 'none'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
             <header><h1>{title}</h1><input type=\"search\" id=\"search\" placeholder=\"Search\" \
             aria-label=\"Search\"> <output id=\"found\"></output></header>\n<main>\n"
        ));
    }
}

/// [`finish`](Printer::finish) writes the totals and the chart, once.
impl<W: Write> Printer for Html<W> {
    fn print(&mut self, event: &Event) -> io::Result<()> {
        let mut out = String::new();
        self.begin(&mut out);
        if let Some(totals) = Totals::in_event(event) {
            self.chart.add(totals);
        }
        let mut blocks = self.view.blocks(event);
        self.elapsed.add(event, &mut blocks);
        for block in &blocks {
            write_block(&mut out, block, self.view.highlights());
        }
        self.out.write_all(out.as_bytes())
    }

    fn finish(&mut self) -> io::Result<()> {
        let mut out = String::new();
        self.begin(&mut out);
        if !self.has_ended {
            self.has_ended = true;
            out.push_str("</main>\n");
            let totals = self.chart.last();
            if !totals.is_zero() {
                out.push_str("<footer>");
                escape::plain(&mut out, &totals.to_string());
                self.chart.write(&mut out);
                out.push_str("</footer>\n");
            }
            out.push_str("<script>");
            out.push_str(SCRIPT);
            out.push_str("</script>\n</body>\n</html>\n");
        }
        self.out.write_all(out.as_bytes())?;
        self.out.flush()
    }
}

fn write_block(out: &mut String, block: &Block, highlights: &[String]) {
    let class = match block.tone {
        Tone::User => "user",
        Tone::Agent => "agent",
        Tone::Action => "action",
        Tone::Result => "result",
        Tone::Success => "success",
        Tone::Warning => "warning",
        Tone::Error => "error",
        Tone::Quiet => "quiet",
    };
    let open = if block.tone == Tone::Quiet {
        ""
    } else {
        " open"
    };
    out.push_str(&format!("<details class=\"event {class}\"{open}><summary>"));
    if !block.time.is_empty() {
        out.push_str("<time>");
        escape::plain(out, &block.time);
        out.push_str("</time>");
    }
    out.push_str("<b>");
    escape::text(out, &block.title, highlights);
    out.push_str("</b>");
    if !block.note.is_empty() {
        out.push_str(" <span>");
        escape::text(out, &block.note, highlights);
        out.push_str("</span>");
    }
    out.push_str("</summary>\n");
    for part in &block.parts {
        parts::write(out, part, highlights);
    }
    out.push_str("</details>\n");
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_policy_allows_the_style_and_the_script_of_the_page() {
        for (text, hash) in [(STYLE, STYLE_HASH), (SCRIPT, SCRIPT_HASH)] {
            assert_eq!(STANDARD.encode(Sha256::digest(text)), hash);
            // The end of the element must not be in the text.
            assert!(!text.contains("</"));
        }
    }
}
