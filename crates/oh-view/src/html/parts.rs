//! The parts of a block as HTML.

use super::{escape, prose};
use crate::{
    Exit, Part, Progress,
    diff::{self, Line},
    syntax::Syntax,
};

/// Appends a part.
pub(super) fn write(out: &mut String, part: &Part, highlights: &[String]) {
    let element = |out: &mut String, open: &str, text: &str, close: &str| {
        out.push_str(open);
        escape::text(out, text, highlights);
        out.push_str(close);
        out.push('\n');
    };
    match part {
        Part::Markdown(text) => prose::render(out, text),
        Part::Thought(text) => element(out, "<p class=\"thought\">", text, "</p>"),
        Part::Text(text) => element(out, "<p class=\"plain\">", text.trim_end(), "</p>"),
        Part::Error(text) => {
            element(out, "<pre class=\"message\">", text.trim_end(), "</pre>");
        }
        Part::Code { language, text } if language == "diff" => {
            out.push_str("<pre>");
            for line in text.lines() {
                let class = match line.as_bytes().first() {
                    Some(b'+') => "added",
                    Some(b'-') => "removed",
                    Some(b'@' | b'*') => "hunk",
                    _ => "context",
                };
                diff_line(out, class, line, highlights);
            }
            out.push_str("</pre>\n");
        }
        Part::Code { language, text } => {
            let mut syntax = Syntax::of_language(language);
            out.push_str("<pre><code>");
            for (at, line) in text.trim_end_matches('\n').split('\n').enumerate() {
                if at > 0 {
                    out.push('\n');
                }
                escape::code(out, line, &mut syntax, highlights);
            }
            out.push_str("</code></pre>\n");
        }
        Part::Diff { path, old, new } => {
            if !path.is_empty() {
                element(out, "<div><code>", path, "</code></div>");
            }
            let lines = diff::lines(old, new);
            if lines.is_empty() {
                return;
            }
            out.push_str("<pre>");
            let mut syntax = Syntax::of_file(path);
            for line in lines {
                let (class, sign, text) = match &line {
                    Line::Hunk(text) => {
                        // The lines between two hunks are unknown to the parser.
                        syntax = Syntax::of_file(path);
                        diff_line(out, "hunk", text, highlights);
                        continue;
                    }
                    Line::Removed(_) => {
                        diff_line(out, "removed", &line.signed(), highlights);
                        continue;
                    }
                    Line::Context(text) => ("context", ' ', text),
                    Line::Added(text) => ("added", '+', text),
                };
                out.push_str(&format!("<i class=\"{class}\">{sign}"));
                escape::code(out, text, &mut syntax, highlights);
                out.push_str("</i>");
            }
            out.push_str("</pre>\n");
        }
        Part::Terminal {
            command,
            output,
            exit,
        } => {
            if !command.is_empty() {
                element(out, "<pre><b>$ ", command, "</b></pre>");
            }
            if !output.is_empty() {
                element(out, "<pre>", output, "</pre>");
            }
            match exit {
                Exit::Unknown => {}
                Exit::Code(0) => {
                    element(out, "<div class=\"exit ok\">", &exit.to_string(), "</div>");
                }
                _ => element(out, "<div class=\"exit bad\">", &exit.to_string(), "</div>"),
            }
        }
        Part::Checklist(tasks) => {
            out.push_str("<ul class=\"tasks\">\n");
            for task in tasks {
                let mark = match task.progress {
                    Progress::Todo => "☐",
                    Progress::Doing => "◐",
                    Progress::Done => "☑",
                };
                out.push_str("<li>");
                out.push_str(mark);
                out.push(' ');
                escape::text(out, &task.title, highlights);
                if !task.notes.is_empty() {
                    element(out, "<small>", &task.notes, "</small>");
                }
                out.push_str("</li>\n");
            }
            out.push_str("</ul>\n");
        }
        Part::Fields(fields) => {
            out.push_str("<dl>\n");
            for (name, value) in fields {
                element(out, "<dt>", name, "</dt>");
                element(out, "<dd>", value.trim_end(), "</dd>");
            }
            out.push_str("</dl>\n");
        }
    }
}

fn diff_line(out: &mut String, class: &str, line: &str, highlights: &[String]) {
    out.push_str("<i class=\"");
    out.push_str(class);
    out.push_str("\">");
    escape::text(out, line, highlights);
    out.push_str("</i>");
}
