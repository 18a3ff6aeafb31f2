//! Wraps styled text to a width in terminal columns.

use unicode_width::UnicodeWidthChar;

/// A text in a single style.
pub(crate) type Span<S> = (S, String);

/// A character with its style and its width.
type Cell<S> = (S, char, usize);

/// How a line is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    /// At spaces, if possible.
    Words,
    /// At the width, so that copied code and output are unchanged except for line breaks.
    Anywhere,
}

/// Breaks a line into rows of at most `width` columns. A character that is wider than `width` is
/// replaced with `?`. Returns at least one row.
pub(crate) fn rows<S: Copy + PartialEq>(
    line: &[Span<S>],
    width: usize,
    at: Break,
) -> Vec<Vec<Span<S>>> {
    let mut rows = Vec::new();
    let mut row: Vec<Cell<S>> = Vec::new();
    let mut used = 0;
    // The width of the previous character, which a variation selector can change.
    let mut last = 0;
    for (style, text) in line {
        for letter in text.chars() {
            let (letter, columns) = match letter.width().unwrap_or(0) {
                // The selector for emoji makes the previous character two columns wide.
                _ if letter == '\u{fe0f}' && last < 2 && !row.is_empty() => (letter, 2 - last),
                columns if columns > width => ('?', 1),
                columns => (letter, columns),
            };
            if used + columns > width {
                // A selector cannot move to the next row without its character.
                let keep = if letter == '\u{fe0f}' { 1 } else { 0 };
                let rest = cut(&mut row, at, keep, letter);
                rows.push(spans(&row));
                row = rest;
                used = columns_of(&row);
            }
            row.push((*style, letter, columns));
            used += columns;
            if columns > 0 {
                last = columns;
            }
        }
    }
    if !row.is_empty() || rows.is_empty() {
        rows.push(spans(&row));
    }
    rows
}

/// Removes the end of a row that belongs to the next one.
fn cut<S: Copy>(row: &mut Vec<Cell<S>>, at: Break, keep: usize, next: char) -> Vec<Cell<S>> {
    let hard = row.len().saturating_sub(keep);
    if at == Break::Anywhere || keep > 0 {
        return row.split_off(hard);
    }
    if next == ' ' {
        return Vec::new();
    }
    match row.iter().rposition(|(_, letter, _)| *letter == ' ') {
        // Leading spaces are an indentation and no place for a break.
        Some(space) if row[..space].iter().any(|(_, letter, _)| *letter != ' ') => {
            let rest = row.split_off(space + 1);
            row.pop();
            rest
        }
        _ => Vec::new(),
    }
}

fn columns_of<S>(row: &[Cell<S>]) -> usize {
    row.iter().map(|(_, _, columns)| columns).sum()
}

fn spans<S: Copy + PartialEq>(row: &[Cell<S>]) -> Vec<Span<S>> {
    let mut spans: Vec<Span<S>> = Vec::new();
    for (style, letter, _) in row {
        match spans.last_mut() {
            Some((last, text)) if last == style => text.push(*letter),
            _ => spans.push((*style, letter.to_string())),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_width::UnicodeWidthStr;

    use super::*;

    fn wrapped(text: &str, width: usize, at: Break) -> Vec<String> {
        let rows = rows(&[((), text.to_owned())], width, at);
        rows.into_iter()
            .map(|row| row.into_iter().map(|(_, text)| text).collect())
            .collect()
    }

    #[test]
    fn words_are_kept_whole_if_they_fit() {
        assert_eq!(
            wrapped("one two three", 8, Break::Words),
            ["one two", "three"]
        );
        assert_eq!(
            wrapped("abcdefghij k", 4, Break::Words),
            ["abcd", "efgh", "ij k"]
        );
        assert_eq!(wrapped("    abcdef", 6, Break::Words), ["    ab", "cdef"]);
        assert_eq!(
            wrapped("one two three", 5, Break::Anywhere),
            ["one t", "wo th", "ree"]
        );
        assert_eq!(wrapped("", 5, Break::Words), [""]);
    }

    #[test]
    fn wide_characters_and_emoji_count_as_two_columns() {
        assert_eq!(wrapped("日本語", 4, Break::Anywhere), ["日本", "語"]);
        assert_eq!(
            wrapped("ab\u{2764}\u{fe0f}", 3, Break::Anywhere),
            ["ab", "\u{2764}\u{fe0f}"]
        );
        // A selector still counts after its word has moved to the next row.
        let heart = "\u{2764}\u{fe0f}";
        let moved = wrapped(&format!("abc {heart}defgh"), 6, Break::Words);
        assert_eq!(moved, ["abc", &format!("{heart}defg"), "h"]);
        assert_eq!(wrapped("日", 1, Break::Anywhere), ["?"]);
    }

    proptest! {
        #[test]
        fn no_row_is_wider_than_the_width(
            text in "(\\PC|[ a日\u{300}\u{200d}\u{fe0f}\u{2764}👩🚀🏽]){0,60}",
            width in 2_usize..20,
            words in any::<bool>(),
        ) {
            let at = if words { Break::Words } else { Break::Anywhere };
            for row in wrapped(&text, width, at) {
                prop_assert!(row.width() <= width, "{:?} {}", row, row.width());
            }
        }
    }
}
