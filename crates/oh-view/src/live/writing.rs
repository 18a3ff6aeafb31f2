//! The text that the model is writing, as it arrives.

use std::collections::VecDeque;

use oh_protocol::{
    printable,
    redact::{Redactor, StreamRedactor},
};

use crate::{
    Style,
    wrap::{self, Break, Span},
};

/// The length of the text that is kept, in bytes. Only the last rows are shown.
const KEPT: usize = 8 * 1024;
/// The maximum length of a colour sequence, in bytes. A longer text is not one.
const SEQUENCE: usize = 32;
/// The width of a tab.
const TAB: &str = "    ";

/// A text that arrives in pieces.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) item: Box<str>,
    pub(super) is_reasoning: bool,
    redactor: StreamRedactor,
    /// The beginning of a colour sequence. Sequences are removed before redaction, because one
    /// inside a name must not prevent its detection.
    half: String,
    /// The last part of the text, without secrets and control characters.
    shown: String,
    is_cut: bool,
}

impl Writing {
    pub(super) fn new(item: &str, is_reasoning: bool, redactor: &Redactor) -> Self {
        Self {
            item: item.into(),
            is_reasoning,
            redactor: redactor.stream(),
            half: String::new(),
            shown: String::new(),
            is_cut: false,
        }
    }

    pub(super) fn push(&mut self, piece: &str) {
        if self.is_cut {
            return;
        }
        self.half.push_str(piece);
        let complete = match self.half.rfind('\x1b') {
            Some(at) if is_half_sequence(&self.half[at..]) => at,
            _ => self.half.len(),
        };
        let rest = self.half.split_off(complete);
        let text = std::mem::replace(&mut self.half, rest);
        let text = self.redactor.push(&printable(&text));
        self.shown.push_str(&text.replace('\t', TAB));
        if self.shown.len() > 2 * KEPT {
            let from = self.shown.len() - KEPT;
            let from = (from..).find(|at| self.shown.is_char_boundary(*at));
            self.shown.drain(..from.unwrap_or(0));
        }
    }

    /// Shows that the rest of the text is missing.
    #[cfg_attr(not(feature = "conversation"), allow(dead_code, reason = "no tokens"))]
    pub(super) fn cut(&mut self) {
        self.is_cut = true;
    }

    /// Returns the last rows, at most `count`.
    pub(super) fn rows(&self, columns: usize, count: usize) -> Vec<Vec<Span<Style>>> {
        let style = match self.is_reasoning {
            true => Style::Quiet,
            false => Style::Plain,
        };
        let mut text = self.shown.trim_end().to_owned();
        if self.is_cut {
            text.push_str(" …");
        }
        let mut rows = VecDeque::new();
        for line in text.lines().rev() {
            let line = wrap::rows(&[(style, line.to_owned())], columns, Break::Words);
            for row in line.into_iter().rev() {
                if rows.len() == count {
                    return rows.into();
                }
                rows.push_front(row);
            }
        }
        rows.into()
    }
}

/// Returns whether a text that starts with an escape may become a colour sequence.
fn is_half_sequence(text: &str) -> bool {
    let mut rest = text.bytes().skip(1);
    text.len() < SEQUENCE
        && rest.next().is_none_or(|byte| byte == b'[')
        && rest.all(|byte| matches!(byte, b'0'..=b'?'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pieces: &[&str], columns: usize, count: usize) -> Vec<String> {
        let redactor = Redactor::new().with(&"hunter2 and more".into());
        let mut writing = Writing::new("", false, &redactor);
        pieces.iter().for_each(|piece| writing.push(piece));
        let rows = writing.rows(columns, count).into_iter();
        rows.map(|row| row.into_iter().map(|(_, text)| text).collect())
            .collect()
    }

    #[test]
    fn the_last_rows_are_shown() {
        assert_eq!(shown(&["one two three four \n"], 9, 2), ["three", "four"]);
        assert_eq!(shown(&["a\nb", "\n\nc\n"], 9, 2), ["", "c"]);
        assert_eq!(shown(&["a ", "b"], 9, 0), [""; 0]);
    }

    #[test]
    fn a_secret_is_hidden_however_it_is_split() {
        for text in [
            "a hunter2 and more b\n",
            "API_KEY=hunter2x b\n",
            "API_\x1b[31mKEY=hunter2x b\n",
        ] {
            for at in 0..text.len() {
                let (one, two) = text.split_at(at);
                for pieces in [&[one][..], &[one, two]] {
                    let shown = shown(pieces, 80, 9).concat();
                    assert!(!shown.contains("hunter2"), "{at}: {shown}");
                    assert!(!shown.contains('\x1b'), "{at}: {shown}");
                }
            }
        }
    }

    #[test]
    fn a_long_text_does_not_grow() {
        let mut writing = Writing::new("", false, &Redactor::new());
        for _ in 0..100_000 {
            writing.push("日本 ");
        }
        assert!(writing.shown.len() <= 2 * KEPT);
        assert_eq!(writing.rows(9, 1).len(), 1);
    }
}
