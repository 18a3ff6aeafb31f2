//! The rows of a live area on a terminal.
//!
//! While an area is shown, the cursor stands at the beginning of its first row, and nothing is
//! below the area. Everything from the cursor on can therefore be erased, also if the terminal was
//! resized in between and has wrapped the rows differently. Going up over the rows to erase them
//! would reach the lines above.

use std::fmt::Write as _;

/// Starts an update that the terminal shows as a whole. Terminals without this ignore the sequence.
const BEGIN: &str = "\x1b[?2026h";
/// Ends the update.
const END: &str = "\x1b[?2026l";
/// Erases everything from the beginning of the cursor's row to the end of the screen.
const ERASE: &str = "\r\x1b[J";
/// Stops wrapping at the last column, for characters that the terminal shows wider than expected.
const NO_WRAP: &str = "\x1b[?7l";
/// Wraps at the last column again, which is the default of terminals.
const WRAP: &str = "\x1b[?7h";

/// The area. Empty rows mean that no area is shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Area {
    rows: Vec<String>,
    window: (u16, u16),
}

impl Area {
    /// Returns the output that prints a text above the area, and replaces the area with these rows
    /// in a terminal of this size.
    pub(super) fn update(&mut self, text: &str, rows: Vec<String>, window: (u16, u16)) -> String {
        let next = Self { rows, window };
        let is_shown = !self.rows.is_empty();
        if text.is_empty() && (next == *self || !is_shown && next.rows.is_empty()) {
            return String::new();
        }
        if !is_shown && next.rows.is_empty() {
            return text.to_owned();
        }
        let mut out = BEGIN.to_owned();
        if is_shown {
            out.push_str(ERASE);
        }
        out.push_str(text);
        if !next.rows.is_empty() {
            out.push_str(NO_WRAP);
            out.push_str(&next.rows.join("\r\n"));
            out.push_str(WRAP);
            out.push('\r');
            let up = next.rows.len() - 1;
            if up > 0 {
                let _infallible = write!(out, "\x1b[{up}A");
            }
        }
        out.push_str(END);
        *self = next;
        out
    }

    /// Returns the output that removes the area.
    pub(super) fn remove(&mut self) -> String {
        self.update("", Vec::new(), self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_if_nothing_changes() {
        let mut area = Area::default();
        assert_eq!(area.update("", vec![], (80, 24)), "");
        assert_eq!(area.update("text\n", vec![], (80, 24)), "text\n");
        assert_ne!(area.update("", vec!["a".to_owned()], (80, 24)), "");
        assert_eq!(area.update("", vec!["a".to_owned()], (80, 24)), "");
        assert_ne!(area.update("", vec!["a".to_owned()], (40, 24)), "");
        assert_eq!(area.remove(), "\x1b[?2026h\r\x1b[J\x1b[?2026l");
        assert_eq!(area.remove(), "");
    }
}
