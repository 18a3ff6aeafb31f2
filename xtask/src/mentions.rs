//! Checks that tests and functions that the documentation names exist.

use std::{collections::HashSet, fs, path::Path};

use crate::lexer::{self, Token};

/// Fewest underscores of a checked name. Shorter names may belong to the server or to a shell.
const UNDERSCORES: usize = 4;

/// Checks the names in backticks in the given Markdown files. A name may be shortened with an
/// ellipsis at its end.
pub(crate) fn check<'a>(
    root: &Path,
    markdown: impl Iterator<Item = &'a Path>,
    rust: impl Iterator<Item = &'a Path>,
    breaches: &mut Vec<String>,
) {
    let mut known = HashSet::new();
    for path in rust {
        let source = fs::read_to_string(path).unwrap_or_default();
        for token in lexer::tokens(&source) {
            if let Token::Word { text, .. } = token
                && text.matches('_').count() >= UNDERSCORES
            {
                known.insert(text);
            }
        }
    }
    for path in markdown {
        let shown = path.strip_prefix(root).unwrap_or(path).display();
        let text = fs::read_to_string(path).unwrap_or_default();
        for (index, line) in text.lines().enumerate() {
            for name in missing(line, &known) {
                breaches.push(format!("{shown}:{}: `{name}` does not exist", index + 1));
            }
        }
    }
}

/// Returns the names of a line that are not known.
fn missing<'a>(line: &'a str, known: &HashSet<String>) -> Vec<&'a str> {
    let code = line.split('`').skip(1).step_by(2);
    code.filter(|name| name.matches('_').count() >= UNDERSCORES)
        .filter(|name| {
            let full = name.trim_end_matches('…');
            let mut letters = full.chars();
            letters.all(|letter| {
                letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_'
            })
        })
        .filter(|name| match name.strip_suffix('…') {
            Some(start) => !known.iter().any(|name| name.starts_with(start)),
            None => !known.contains(*name),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_found_in_full_and_shortened_form() {
        let known = HashSet::from(["a_test_of_the_lint".to_owned()]);
        let line =
            "`a_test_of_the_lint`, `a_test_of_the_…`, `a_test_of_the_other`, `b_test_of_the_…`";
        let expected = ["a_test_of_the_other", "b_test_of_the_…"];
        assert_eq!(missing(line, &known), expected);
    }
}
