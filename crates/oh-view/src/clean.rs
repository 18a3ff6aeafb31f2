//! Removes secrets and control characters from blocks before a writer prints them.

use oh_protocol::{
    printable,
    redact::{HIDDEN, Redactor, is_secret_name},
};

use crate::{Block, Part};

/// The width of a tab stop, in columns.
const TAB: usize = 4;

/// Cleans every text of a block, in place.
pub(crate) fn block(block: &mut Block, redactor: &Redactor) {
    for text in [
        &mut block.time,
        &mut block.kind,
        &mut block.title,
        &mut block.note,
    ] {
        *text = one_line(text, redactor);
    }
    for part in &mut block.parts {
        clean_part(part, redactor);
    }
}

fn clean_part(part: &mut Part, redactor: &Redactor) {
    match part {
        Part::Markdown(body) | Part::Thought(body) | Part::Text(body) | Part::Error(body) => {
            *body = text(body, redactor);
        }
        Part::Code {
            language,
            text: code,
        } => {
            *language = one_line(language, redactor);
            *code = text(code, redactor);
        }
        Part::Diff { path, old, new } => {
            *path = one_line(path, redactor);
            *old = text(old, redactor);
            *new = text(new, redactor);
        }
        Part::Terminal {
            command, output, ..
        } => {
            *command = text(command, redactor);
            *output = text(output, redactor);
        }
        Part::Checklist(tasks) => {
            for task in tasks {
                task.title = one_line(&task.title, redactor);
                task.notes = text(&task.notes, redactor);
            }
        }
        Part::Fields(fields) => {
            for (name, value) in fields {
                *value = match is_secret_name(name) {
                    true if !value.is_empty() => HIDDEN.to_owned(),
                    _ => text(value, redactor),
                };
                *name = one_line(name, redactor);
            }
        }
    }
}

/// Returns a text without secrets and control characters. Keeps line feeds; tabs become spaces.
///
/// Colour sequences are removed before redaction: a sequence inside a name must not prevent its
/// detection.
pub(crate) fn text(text: &str, redactor: &Redactor) -> String {
    let shown = redactor.text(&printable(text));
    match shown.contains('\t') {
        true => without_tabs(&shown),
        false => shown,
    }
}

/// Returns a text like [`text()`], on one line.
fn one_line(line: &str, redactor: &Redactor) -> String {
    let shown = text(line, redactor);
    match shown.contains('\n') {
        true => shown.split_whitespace().collect::<Vec<_>>().join(" "),
        false => shown,
    }
}

fn without_tabs(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 16);
    let mut column = 0;
    for letter in text.chars() {
        match letter {
            '\t' => {
                let spaces = TAB - column % TAB;
                shown.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            '\n' => {
                shown.push('\n');
                column = 0;
            }
            _ => {
                shown.push(letter);
                column += 1;
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Task, Tone};

    #[test]
    fn every_text_of_a_block_is_masked_and_printable() {
        let redactor = Redactor::new().with(&"canary-value".into());
        let bad = "\x1b]0;t\x07canary-value\u{202e}";
        let mut dirty = Block::new(Tone::Quiet, bad).note(bad).parts([
            Part::Markdown(bad.into()),
            Part::Thought(bad.into()),
            Part::text(bad),
            Part::code(bad, bad),
            Part::diff(bad, bad, "new"),
            Part::Terminal {
                command: bad.into(),
                output: bad.into(),
                exit: crate::Exit::Unknown,
            },
            Part::Checklist(vec![Task::new(crate::Progress::Todo, bad).notes(bad)]),
            Part::Fields(vec![(bad.into(), bad.into())]),
            Part::Error(bad.into()),
        ]);
        dirty.kind = bad.into();
        dirty.time = bad.into();
        block(&mut dirty, &redactor);
        // `Debug` escapes control characters, so none may be left to escape.
        let shown = format!("{dirty:?}");
        assert!(
            !shown.contains("canary") && !shown.contains("\\u{"),
            "{shown}"
        );
        assert!(
            shown.contains("<redacted>") && shown.contains("<U+202E>"),
            "{shown}"
        );
        assert_eq!(dirty.parts.len(), 9);
    }

    #[test]
    fn the_value_of_a_secret_field_is_hidden() {
        let mut secret =
            Block::new(Tone::Quiet, "t").part(Part::Fields(vec![("api_key".into(), "abc".into())]));
        block(&mut secret, &Redactor::new());
        let hidden = Part::Fields(vec![("api_key".into(), "<redacted>".into())]);
        assert_eq!(secret.parts, [hidden]);
    }

    #[test]
    fn tabs_become_spaces_up_to_the_next_stop() {
        assert_eq!(text("a\tb\n\tc", &Redactor::new()), "a   b\n    c");
    }
}
