//! Checks that the messages which the guides explain still exist in the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::lexer::{self, Token};

/// The heading of a column with messages of the published crates.
const COLUMN: &str = "| Message contains |";

/// Checks the tables of all guides. `docs/errors.md` is generated from the sources.
pub(super) fn check(
    root: &Path,
    markdown: &[PathBuf],
    sources: &[PathBuf],
    breaches: &mut Vec<String>,
) {
    let guides: Vec<(String, Vec<String>)> = markdown
        .iter()
        .filter(|path| path.starts_with(root.join("docs")) && !path.ends_with("errors.md"))
        .filter_map(|path| {
            let name = path.strip_prefix(root).ok()?.display().to_string();
            Some((name, quoted(&fs::read_to_string(path).ok()?)))
        })
        .collect();
    let literals: Vec<String> = sources
        .iter()
        .filter(|path| path.starts_with(root.join("crates")))
        .filter(|path| path.components().any(|part| part.as_os_str() == "src"))
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|source| literals(&source))
        .collect();
    for (guide, messages) in guides {
        for message in messages {
            if !literals.iter().any(|literal| contains(literal, &message)) {
                breaches.push(format!("{guide}: no source has the message \"{message}\""));
            }
        }
    }
}

/// Returns the code in the first cell of each row below the heading.
fn quoted(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut within = false;
    for line in text.lines() {
        within = line.starts_with(COLUMN) || within && line.starts_with('|');
        let first = line.split('|').nth(1).filter(|_| within);
        let code = first.unwrap_or_default().split('`').skip(1).step_by(2);
        found.extend(code.map(str::to_owned));
    }
    found
}

/// Returns the string literals outside of tests.
fn literals(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]\nmod tests").next();
    let tokens = lexer::tokens(code.unwrap_or(source));
    let texts = tokens.into_iter().filter_map(|token| match token {
        Token::Text { text, .. } => Some(text),
        _ => None,
    });
    texts.collect()
}

/// Returns whether a literal contains the parts of a message, which an ellipsis separates, in their
/// order.
fn contains(literal: &str, message: &str) -> bool {
    let mut rest = literal;
    message.split('…').map(str::trim).all(|part| {
        let found = rest.find(part);
        rest = found.map_or(rest, |at| &rest[at + part.len()..]);
        found.is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_the_code_in_the_first_column_of_their_tables() {
        let text = "| Message contains | Cause |\n|-|-|\n| `a b`, `c` | `d` |\n| plain | x |\n\n\
                    | Other | x |\n| `e` | x |\n";
        assert_eq!(quoted(text), ["a b", "c"]);
    }

    #[test]
    fn a_message_is_found_with_values_in_between_and_in_order() {
        let source = "fail(\"port {port} on {ip} \\\n  is taken\")\n\
                      #[cfg(test)]\nmod tests { \"gone\" }";
        let literals = literals(source);
        assert_eq!(literals.len(), 1);
        for (message, found) in [
            ("port … on … is taken", true),
            ("on … port", false),
            ("port is taken", false),
            ("gone", false),
        ] {
            assert_eq!(contains(&literals[0], message), found, "{message}");
        }
    }
}
