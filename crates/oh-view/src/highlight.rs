//! Finds the patterns of a view in a text.

use std::cmp::Reverse;

/// Splits a text into pieces, each with whether it is a match of a pattern.
pub(crate) fn pieces<'a>(text: &'a str, patterns: &[String]) -> Vec<(bool, &'a str)> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let found = patterns.iter().filter_map(|pattern| {
            let at = rest.find(pattern.as_str())?;
            // Of two matches at the same place, the longer one wins.
            Some((at, Reverse(pattern.len())))
        });
        let Some((at, Reverse(length))) = found.min() else {
            break;
        };
        if at > 0 {
            pieces.push((false, &rest[..at]));
        }
        pieces.push((true, &rest[at..at + length]));
        rest = &rest[at + length..];
    }
    if !rest.is_empty() {
        pieces.push((false, rest));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_the_first_matches_wins() {
        let patterns = ["TODO".to_owned(), "TODO:".to_owned(), "b".to_owned()];
        let expected = [(false, "a "), (true, "TODO:"), (false, " "), (true, "b")];
        assert_eq!(pieces("a TODO: b", &patterns), expected);
        assert_eq!(pieces("", &patterns), []);
        assert_eq!(pieces("plain", &[]), [(false, "plain")]);
    }
}
