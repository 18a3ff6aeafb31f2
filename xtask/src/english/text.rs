//! Finds the passages of text in Rust files, Markdown files and scripts.

use std::collections::HashSet;

use crate::lexer::{self, Token};

/// A passage of text: a paragraph, a string or the name of a test.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Passage {
    /// Line of the file on which the passage begins, from 1.
    pub(super) line: usize,
    pub(super) kind: Kind,
    pub(super) text: String,
}

/// The kind of a passage, which decides the rules that apply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// First paragraph of a documentation comment, on a function or on another item.
    Doc { function: bool },
    /// Later paragraph or list item of a documentation comment.
    Details,
    /// A comment.
    Comment,
    /// A string literal, of an error or for another purpose.
    Text { error: bool },
    /// The name of a test.
    TestName,
    /// An identifier, at its first place in a file.
    Name,
    /// A paragraph, list item or heading of a Markdown file.
    Prose,
}

/// Returns the passages of a Markdown file, without code and HTML.
pub(super) fn markdown(source: &str) -> Vec<Passage> {
    let lines = source
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line));
    paragraphs(lines)
        .into_iter()
        .map(|(line, text)| Passage {
            line,
            kind: Kind::Prose,
            text,
        })
        .collect()
}

/// Returns the passages of a Python file or a shell script: comments and docstrings.
pub(super) fn script(source: &str) -> Vec<Passage> {
    let mut passages = Vec::new();
    let mut comment: Vec<(usize, &str)> = Vec::new();
    let mut docstring: Option<Vec<(usize, &str)>> = None;
    let mut after_def = false;
    for (index, line) in source.lines().enumerate() {
        let number = index + 1;
        let text = line.trim();
        if let Some(lines) = &mut docstring {
            let (part, ends) = match text.split_once("\"\"\"") {
                Some((part, _)) => (part, true),
                None => (text, false),
            };
            lines.push((number, part));
            if ends {
                let lines = docstring.take().unwrap_or_default();
                passages.extend(documented(lines, after_def));
            }
            continue;
        }
        if let Some(text) = text.strip_prefix('#').filter(|text| !text.starts_with('!')) {
            // A list or a table in a comment has more than one blank.
            let aligned = text.starts_with("  ");
            comment.push((number, if aligned { "" } else { text }));
            continue;
        }
        for (line, text) in paragraphs(comment.drain(..)) {
            let kind = Kind::Comment;
            passages.push(Passage { line, kind, text });
        }
        if let Some(text) = text.strip_prefix("\"\"\"") {
            match text.split_once("\"\"\"") {
                Some((text, _)) => passages.extend(documented(vec![(number, text)], after_def)),
                None => docstring = Some(vec![(number, text)]),
            }
        } else if !text.is_empty() {
            after_def = text.starts_with("def ") || text.starts_with("async def ");
        }
    }
    for (line, text) in paragraphs(comment.into_iter()) {
        let kind = Kind::Comment;
        passages.push(Passage { line, kind, text });
    }
    passages
}

/// Returns the paragraphs of a docstring.
fn documented(lines: Vec<(usize, &str)>, function: bool) -> Vec<Passage> {
    let paragraphs = paragraphs(lines.into_iter()).into_iter().enumerate();
    paragraphs
        .map(|(position, (line, text))| {
            let kind = match position {
                0 => Kind::Doc { function },
                _ => Kind::Details,
            };
            Passage { line, kind, text }
        })
        .collect()
}

/// Returns the passages of a Rust file: comments, strings of at least two words, names of tests.
pub(super) fn rust(source: &str) -> Vec<Passage> {
    let tokens = lexer::tokens(source);
    let mut passages = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match token {
            Token::Comment {
                line,
                marker,
                lines,
            } => {
                let numbered = lines
                    .iter()
                    .enumerate()
                    .map(|(offset, text)| (line + offset, text.as_str()));
                for (position, (line, text)) in paragraphs(numbered).into_iter().enumerate() {
                    let kind = match *marker {
                        "///" if position == 0 => Kind::Doc {
                            function: documents_function(&tokens[index + 1..]),
                        },
                        "//!" if position == 0 => Kind::Doc { function: false },
                        "///" | "//!" => Kind::Details,
                        _ => Kind::Comment,
                    };
                    passages.push(Passage { line, kind, text });
                }
            }
            Token::Text { line, text } if text.trim().contains(' ') => {
                passages.push(Passage {
                    line: *line,
                    kind: Kind::Text {
                        error: belongs_to_error(&tokens[..index]),
                    },
                    text: text.clone(),
                });
            }
            Token::Word { line, text } if text == "fn" => {
                if let Some(Token::Word { text: name, .. }) = tokens.get(index + 1)
                    && is_test(&tokens[..index])
                {
                    passages.push(Passage {
                        line: *line,
                        kind: Kind::TestName,
                        text: name.clone(),
                    });
                }
            }
            Token::Text { .. } | Token::Word { .. } | Token::Mark(_) => {}
        }
    }
    passages
}

/// Returns the identifiers of a Rust file, each once.
pub(super) fn names(source: &str) -> Vec<Passage> {
    let mut seen = HashSet::new();
    let words = lexer::tokens(source)
        .into_iter()
        .filter_map(|token| match token {
            Token::Word { line, text } => Some((line, text)),
            _ => None,
        });
    words
        .filter(|(_, text)| seen.insert(text.clone()))
        .map(|(line, text)| Passage {
            line,
            kind: Kind::Name,
            text,
        })
        .collect()
}

/// Joins lines into paragraphs. Skips tables, rules, HTML, and code blocks except for the comments
/// in them.
fn paragraphs<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let (mut open, mut code) = (false, false);
    for (number, line) in lines {
        let text = line.trim();
        if text.starts_with("```") {
            code = !code;
            open = false;
            continue;
        }
        if let Some((_, comment)) = text.split_once("// ").filter(|_| code) {
            found.push((number, comment.trim().to_owned()));
        }
        if code || text.is_empty() || text.starts_with(['|', '<']) || text.starts_with("---") {
            open = false;
            continue;
        }
        let heading = text.starts_with('#');
        let item = ["- ", "* ", "> "]
            .iter()
            .find_map(|mark| text.strip_prefix(mark));
        let numbered = text
            .split_once(". ")
            .filter(|(number, _)| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
            .map(|(_, rest)| rest);
        let begins = heading || item.is_some() || numbered.is_some();
        let text = item
            .or(numbered)
            .unwrap_or_else(|| text.trim_start_matches('#').trim_start());
        match found.last_mut() {
            Some((_, paragraph)) if open && !begins => {
                paragraph.push(' ');
                paragraph.push_str(text);
            }
            _ => found.push((number, text.to_owned())),
        }
        open = !heading;
    }
    found
}

/// Returns whether a documentation comment, which `after` follows, belongs to a function.
fn documents_function(after: &[Token]) -> bool {
    let mut depth = 0_usize;
    for token in after {
        match token {
            Token::Mark('[' | '(') => depth += 1,
            Token::Mark(']' | ')') => depth = depth.saturating_sub(1),
            Token::Word { text, .. } if depth == 0 => match text.as_str() {
                "pub" | "const" | "async" | "unsafe" | "extern" => {}
                word => return word == "fn",
            },
            Token::Mark('#') | Token::Comment { .. } => {}
            _ if depth > 0 => {}
            _ => return false,
        }
    }
    false
}

/// Returns whether the function that follows `before` has an attribute that ends with `test`.
fn is_test(before: &[Token]) -> bool {
    let words = before
        .iter()
        .rev()
        .take_while(|token| !matches!(token, Token::Mark('{' | '}' | ';')));
    let tokens: Vec<&Token> = words.collect();
    tokens.windows(2).any(|pair| {
        let named = matches!(pair[0], Token::Word { text, .. } if text == "test");
        // In reverse order: `[test` and `::test`, but neither `cfg(test)` nor `fn test`.
        named && matches!(pair[1], Token::Mark('[' | ':'))
    })
}

/// Returns whether a string that follows `before` is the message of an error: the next argument
/// after `ErrorKind::…`, or that of an `error` attribute.
fn belongs_to_error(before: &[Token]) -> bool {
    let attribute = matches!(
        before,
        [.., Token::Mark('['), Token::Word { text, .. }, Token::Mark('(')] if text == "error"
    );
    attribute || lexer::error_kind(before).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str) -> Vec<(usize, Kind, String)> {
        rust(source)
            .into_iter()
            .map(|passage| (passage.line, passage.kind, passage.text))
            .collect()
    }

    #[test]
    fn comments_are_joined_and_split_at_blank_lines() {
        let source =
            "/// Returns a\n/// name.\n///\n/// Long.\npub async fn name() {}\n// A note.\n";
        let expected = vec![
            (1, Kind::Doc { function: true }, "Returns a name.".into()),
            (4, Kind::Details, "Long.".into()),
            (6, Kind::Comment, "A note.".into()),
        ];
        assert_eq!(found(source), expected);
    }

    #[test]
    fn documentation_of_a_type_is_not_that_of_a_function() {
        let source = "/// A name.\n#[derive(Debug)]\npub struct Name;\n";
        let expected = vec![(1, Kind::Doc { function: false }, "A name.".into())];
        assert_eq!(found(source), expected);
    }

    #[test]
    fn code_blocks_and_tables_are_skipped_except_for_comments() {
        let text = "A list:\n\n- one\n  more\n- two\n\n```sh\nwhoever\n```\n| cell |\n\
                    ```\n// A note.\nlet a = 1; // One.\n```\n";
        let passages: Vec<String> = markdown(text)
            .into_iter()
            .map(|passage| passage.text)
            .collect();
        assert_eq!(passages, ["A list:", "one more", "two", "A note.", "One."]);
    }

    #[test]
    fn names_are_found_once() {
        let source = "fn a_b() { let c = a_b(); }\n// d\nlet e = \"f g\";";
        let found: Vec<_> = names(source)
            .into_iter()
            .map(|passage| passage.text)
            .collect();
        assert_eq!(found, ["fn", "a_b", "let", "c", "e"]);
    }

    #[test]
    fn docstrings_and_comments_of_scripts_are_found() {
        let source = "#!/bin/sh\n# A note\n# of two lines.\n#   x  skipped\ndef f():\n    \
                      \"\"\"Does\n    it.\"\"\"\n    return\n\"\"\"Text.\"\"\"\n";
        let passages = script(source).into_iter();
        let found: Vec<_> = passages
            .map(|passage| (passage.line, passage.kind, passage.text))
            .collect();
        let expected = vec![
            (2, Kind::Comment, "A note of two lines.".into()),
            (6, Kind::Doc { function: true }, "Does it.".into()),
            (9, Kind::Doc { function: false }, "Text.".into()),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn messages_follow_the_kind_of_an_error() {
        let error = "Error::new(ErrorKind::Invalid, format!(\"a b\"));";
        assert_eq!(found(error)[0].1, Kind::Text { error: true });
        let attribute = "#[error(\"a b\")]";
        assert_eq!(found(attribute)[0].1, Kind::Text { error: true });
        assert_eq!(found("print(\"a b\")")[0].1, Kind::Text { error: false });
    }

    #[test]
    fn tests_are_found_by_their_attribute() {
        let source = "#[tokio::test(start_paused = true)]\nasync fn a_b() {}\n#[test]\nfn c() {}\n\
                      #[cfg(test)]\nmod tests { fn d() {} }";
        let names: Vec<String> = found(source).into_iter().map(|(_, _, text)| text).collect();
        assert_eq!(names, ["a_b", "c"]);
    }
}
