//! Splits Rust files into comments, strings, words and marks.

/// A part of a Rust file. White space is left out.
pub(crate) enum Token {
    /// Comment lines that follow each other, without their markers.
    Comment {
        line: usize,
        marker: &'static str,
        lines: Vec<String>,
    },
    /// Contents of a string literal.
    Text { line: usize, text: String },
    /// An identifier, keyword or number.
    Word { line: usize, text: String },
    /// Any other character.
    Mark(char),
}

/// Splits a Rust file into tokens.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            let length = rest.find('\n').unwrap_or(rest.len());
            comment(&mut tokens, line, &rest[..length]);
            length
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some((length, text)) = string(rest) {
            tokens.push(Token::Text { line, text });
            length
        } else if first == '\'' {
            character(rest)
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
            let length = end.unwrap_or(rest.len());
            let text = rest[..length].to_owned();
            tokens.push(Token::Word { line, text });
            length
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Mark(first));
            }
            first.len_utf8()
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// Returns the kind of the error whose message follows `before`: the name after `ErrorKind::` in
/// the argument before it.
pub(crate) fn error_kind(before: &[Token]) -> Option<&str> {
    let mut rest = before;
    if let [
        start @ ..,
        Token::Word { text, .. },
        Token::Mark('!'),
        Token::Mark('('),
    ] = rest
        && text == "format"
    {
        rest = match start {
            [start @ .., Token::Mark('&')] => start,
            start => start,
        };
    }
    // A conversation's errors have the conversation's id between kind and message.
    if let [
        start @ ..,
        Token::Mark(','),
        Token::Word { .. },
        Token::Mark(','),
    ] = rest
    {
        rest = start;
    } else if let [start @ .., Token::Mark(',')] = rest {
        rest = start;
    }
    match rest {
        [
            ..,
            Token::Word { text, .. },
            Token::Mark(':'),
            Token::Mark(':'),
            Token::Word { text: kind, .. },
        ] if text == "ErrorKind" => Some(kind),
        _ => None,
    }
}

/// Adds a comment line to the comment above it, or begins a comment.
fn comment(tokens: &mut Vec<Token>, at: usize, text: &str) {
    let marker = match text {
        _ if text.starts_with("//!") => "//!",
        _ if text.starts_with("///") && !text.starts_with("////") => "///",
        _ => "//",
    };
    let text = text[marker.len()..].trim().to_owned();
    if let Some(Token::Comment {
        line,
        marker: above,
        lines,
    }) = tokens.last_mut()
        && *above == marker
        && *line + lines.len() == at
    {
        lines.push(text);
        return;
    }
    tokens.push(Token::Comment {
        line: at,
        marker,
        lines: vec![text],
    });
}

/// Returns the length and the contents of the string literal that `source` begins with.
fn string(source: &str) -> Option<(usize, String)> {
    let body = source.trim_start_matches(['b', 'c']);
    if source.len() - body.len() > 1 {
        return None;
    }
    let prefix = source.len() - body.len();
    if let Some(raw) = body.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let content = raw[hashes..].strip_prefix('"')?;
        let close = format!("\"{}", "#".repeat(hashes));
        let end = content.find(&close)?;
        let length = prefix + 1 + hashes + 1 + end + close.len();
        return Some((length, content[..end].to_owned()));
    }
    let content = body.strip_prefix('"')?;
    let mut text = String::new();
    let mut letters = content.char_indices();
    // Length of the part before the current iterator.
    let mut skipped = 0;
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((prefix + 1 + skipped + at + 1, text)),
            '\\' => match letters.next()?.1 {
                // A backslash at the end of a line removes the line break and the indentation.
                '\n' => {
                    let rest = letters.as_str();
                    let indentation = rest.len() - rest.trim_start().len();
                    letters = rest[indentation..].char_indices();
                    skipped = content.len() - rest.len() + indentation;
                }
                'n' | 't' | 'r' => text.push(' '),
                other => text.push(other),
            },
            '\n' => text.push(' '),
            other => text.push(other),
        }
    }
    None
}

/// Returns the length of the character literal or lifetime that `source` begins with.
fn character(source: &str) -> usize {
    let mut letters = source.char_indices().skip(1);
    match letters.next() {
        Some((_, '\\')) => {
            letters.next();
            letters
                .find(|(_, letter)| *letter == '\'')
                .map_or(source.len(), |(at, _)| at + 1)
        }
        Some(_) => match letters.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_found_in_every_form() {
        let source = "let a = \"one \\\n    two\"; \
                      let b = r#\"three \"four\"\"#; let c = '\"'; let d = b\"x\";";
        let texts: Vec<String> = tokens(source)
            .into_iter()
            .filter_map(|token| match token {
                Token::Text { text, .. } => Some(text),
                _ => None,
            })
            .collect();
        assert_eq!(texts, ["one two", "three \"four\"", "x"]);
    }

    #[test]
    fn lines_are_counted_across_comments_and_strings() {
        let source = "// a\n// b\n\nlet c = \"d\ne\";\n'f'; g";
        let last = tokens(source).pop();
        assert!(matches!(last, Some(Token::Word { line: 6, .. })));
    }
}
