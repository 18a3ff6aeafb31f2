//! Writes conversations as Markdown.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use oh_protocol::Event;

use crate::{
    Block, Exit, Part, Printer, Progress, Totals, View,
    diff::{self, Line},
    elapsed::Elapsed,
};

/// Writes events as Markdown, with a heading for each block.
///
/// Code, diffs and output are in fences that their content cannot close, and other text is escaped.
/// Messages are written as the agent and the user wrote them, because they are Markdown: they may
/// contain HTML, headings and links. Long content is not shortened, with either
/// [`Detail`](crate::Detail).
///
/// ```
/// use oh_protocol::Event;
/// use oh_view::{Markdown, Printer, View};
///
/// let event = r#"{"id":"1","timestamp":"2026-01-02T03:04:05","source":"user","llm_message":
///     {"role":"user","content":[{"type":"text","text":"Hello"}]},"kind":"MessageEvent"}"#;
/// let mut page = Markdown::new(Vec::new(), View::new());
/// page.print(&Event::from_json(event)?)?;
/// assert_eq!(page.into_inner(), b"### user\n\n`03:04:05`\n\nHello\n\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Markdown<W> {
    out: W,
    view: View,
    elapsed: Elapsed,
    totals: Totals,
}

impl<W: Write> Markdown<W> {
    /// Creates a writer. Use a [`BufWriter`](io::BufWriter) for many events.
    pub fn new(out: W, view: View) -> Self {
        Self {
            out,
            view,
            elapsed: Elapsed::default(),
            totals: Totals::default(),
        }
    }

    /// Returns the output.
    pub fn into_inner(self) -> W {
        self.out
    }
}

/// [`finish`](Printer::finish) writes the totals.
impl<W: Write> Printer for Markdown<W> {
    fn print(&mut self, event: &Event) -> io::Result<()> {
        if let Some(totals) = Totals::in_event(event) {
            self.totals = totals;
        }
        let mut out = String::new();
        let mut blocks = self.view.blocks(event);
        self.elapsed.add(event, &mut blocks);
        for block in blocks {
            write_block(&block, &mut out);
        }
        self.out.write_all(out.as_bytes())
    }

    fn finish(&mut self) -> io::Result<()> {
        if !self.totals.is_zero() {
            writeln!(self.out, "---\n\n{}", escaped(&self.totals.to_string()))?;
        }
        self.out.flush()
    }
}

fn write_block(block: &Block, out: &mut String) {
    line(out, &format!("### {}\n", escaped(&block.title)));
    let time = (!block.time.is_empty()).then(|| code_span(&block.time));
    let note = (!block.note.is_empty()).then(|| escaped(&block.note));
    let about: Vec<String> = time.into_iter().chain(note).collect();
    if !about.is_empty() {
        line(out, &format!("{}\n", about.join(" · ")));
    }
    for part in &block.parts {
        write_part(part, out);
        out.push('\n');
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn write_part(part: &Part, out: &mut String) {
    match part {
        Part::Markdown(text) => {
            line(out, text.trim_end());
            if let Some(fence) = open_fence(text) {
                line(out, fence);
            }
        }
        Part::Thought(text) => {
            for text in text.trim_end().lines() {
                line(out, &format!("> {}", escaped(text)));
            }
        }
        Part::Text(text) => fenced("", text, out),
        Part::Error(text) => {
            line(out, "**Error**\n");
            fenced("", text, out);
        }
        Part::Code { language, text } => fenced(language, text, out),
        Part::Diff { path, old, new } => {
            if !path.is_empty() {
                line(out, &format!("{}\n", code_span(path)));
            }
            let lines: Vec<String> = diff::lines(old, new).iter().map(Line::signed).collect();
            if !lines.is_empty() {
                fenced("diff", &lines.join("\n"), out);
            }
        }
        Part::Terminal {
            command,
            output,
            exit,
        } => {
            if !command.is_empty() {
                fenced("sh", command, out);
            }
            if !output.is_empty() {
                fenced("text", output, out);
            }
            if *exit != Exit::Unknown {
                line(out, &format!("\n{}", code_span(&exit.to_string())));
            }
        }
        Part::Checklist(tasks) => {
            for task in tasks {
                let (mark, doing) = match task.progress {
                    Progress::Todo => (' ', ""),
                    Progress::Doing => (' ', " *(in progress)*"),
                    Progress::Done => ('x', ""),
                };
                line(out, &format!("- [{mark}] {}{doing}", escaped(&task.title)));
                for note in task.notes.lines() {
                    line(out, &format!("  {}", escaped(note)));
                }
            }
        }
        Part::Fields(fields) => {
            for (name, value) in fields {
                match value.contains('\n') {
                    true => {
                        line(out, &format!("\n**{}**\n", escaped(name)));
                        fenced("", value, out);
                    }
                    false => line(
                        out,
                        &format!("- **{}**: {}", escaped(name), code_span(value)),
                    ),
                }
            }
        }
    }
}

/// Appends a fence that is longer than every run of backticks in the text.
fn fenced(language: &str, text: &str, out: &mut String) {
    let fence = "`".repeat(longest_run(text).max(2) + 1);
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || "+-#_".contains(letter);
    let language = if language.chars().all(is_word) {
        language
    } else {
        ""
    };
    let text = text.trim_end_matches('\n');
    let _infallible = writeln!(out, "{fence}{language}\n{text}\n{fence}");
}

/// Returns a text on one line as code.
fn code_span(text: &str) -> String {
    if text.is_empty() {
        return "``".to_owned();
    }
    let ticks = "`".repeat(longest_run(text) + 1);
    let needs_space = text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']);
    let space = if needs_space { " " } else { "" };
    format!("{ticks}{space}{text}{space}{ticks}")
}

fn longest_run(text: &str) -> usize {
    text.split(|letter| letter != '`')
        .map(str::len)
        .max()
        .unwrap_or(0)
}

/// Returns the fence that a text opens and does not close, so that it cannot contain what follows.
fn open_fence(text: &str) -> Option<&str> {
    let mut open: Option<&str> = None;
    for line in text.lines() {
        let line = line.trim_start_matches(' ');
        let Some(mark) = line.chars().next().filter(|mark| matches!(mark, '`' | '~')) else {
            continue;
        };
        let length = line.chars().take_while(|letter| *letter == mark).count();
        let (fence, rest) = line.split_at(length);
        open = match open {
            None if length >= 3 && !(mark == '`' && rest.contains('`')) => Some(fence),
            Some(opened) if fence.starts_with(opened) && rest.trim().is_empty() => None,
            open => open,
        };
    }
    open
}

/// Returns a text on one line, in which no character is markup.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '~' | '!' | '>' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_longer_than_those_in_its_text() {
        let mut out = String::new();
        fenced("sh", "a\n````\nb\n", &mut out);
        assert_eq!(out, "`````sh\na\n````\nb\n`````\n");
        out.clear();
        fenced("a b\n", "x", &mut out);
        assert_eq!(out, "```\nx\n```\n");
        assert_eq!(code_span("a`b"), "``a`b``");
        assert_eq!(code_span("`"), "`` ` ``");
    }

    #[test]
    fn an_open_fence_of_a_message_is_closed() {
        assert_eq!(open_fence("a\n````sh\n```\nb"), Some("````"));
        assert_eq!(open_fence("```\nb\n````\n"), None);
        assert_eq!(open_fence("~~~ x\n```\n"), Some("~~~"));
        assert_eq!(open_fence("``` a`b ```\n"), None);
    }

    #[test]
    fn markup_of_a_title_is_escaped() {
        assert_eq!(escaped("<b> *a* [x](y)"), "&lt;b\\> \\*a\\* \\[x\\](y)");
    }
}
