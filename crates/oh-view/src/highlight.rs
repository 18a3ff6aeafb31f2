//! Finds the patterns of a view in a text.

use std::cmp::Reverse;

/// Splits spans so that each one is a match of a pattern, or contains none. A match can cover
/// several spans. Returns each piece with whether it belongs to a match.
pub(crate) fn marked<'a, S: Copy>(
    spans: &[(S, &'a str)],
    patterns: &[String],
) -> Vec<(bool, S, &'a str)> {
    if patterns.is_empty() {
        return spans
            .iter()
            .map(|(style, text)| (false, *style, *text))
            .collect();
    }
    let whole: String = spans.iter().map(|(_, text)| *text).collect();
    let mut marked = Vec::new();
    let mut rest = spans.iter().copied();
    let mut span = rest.next();
    for (is_match, piece) in pieces(&whole, patterns) {
        let mut left = piece.len();
        while let Some((style, text)) = span.filter(|_| left > 0) {
            let (now, later) = text.split_at(left.min(text.len()));
            left -= now.len();
            if !now.is_empty() {
                marked.push((is_match, style, now));
            }
            span = match later {
                "" => rest.next(),
                later => Some((style, later)),
            };
        }
    }
    marked
}

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

    #[test]
    fn a_match_can_cover_several_spans() {
        let patterns = ["n m".to_owned()];
        let spans = [('k', "fn"), ('p', " "), ('n', "main"), ('p', "")];
        let expected = [
            (false, 'k', "f"),
            (true, 'k', "n"),
            (true, 'p', " "),
            (true, 'n', "m"),
            (false, 'n', "ain"),
        ];
        assert_eq!(marked(&spans, &patterns), expected);
        assert_eq!(marked(&spans[..1], &[]), [(false, 'k', "fn")]);
    }
}
