//! Text in HTML.

use crate::{
    highlight,
    syntax::{Syntax, Word},
};

/// Appends a line of code as HTML, with the roles of its words as classes.
pub(super) fn code(out: &mut String, line: &str, syntax: &mut Syntax, highlights: &[String]) {
    for (is_match, word, piece) in highlight::marked(&syntax.pieces(line), highlights) {
        let class = word.map(|word| match word {
            Word::Keyword => "keyword",
            Word::Name => "name",
            Word::Text => "string",
            Word::Number => "number",
            Word::Comment => "comment",
        });
        if is_match {
            out.push_str("<mark>");
        }
        if let Some(class) = class {
            out.push_str(&format!("<span class=\"{class}\">"));
        }
        plain(out, piece);
        if class.is_some() {
            out.push_str("</span>");
        }
        if is_match {
            out.push_str("</mark>");
        }
    }
}

/// Appends a text as HTML, with the matches of patterns in `<mark>`.
pub(super) fn text(out: &mut String, text: &str, highlights: &[String]) {
    for (is_match, piece) in highlight::pieces(text, highlights) {
        if is_match {
            out.push_str("<mark>");
        }
        plain(out, piece);
        if is_match {
            out.push_str("</mark>");
        }
    }
}

/// Appends a text as HTML. The result is also safe inside a quoted attribute.
pub(super) fn plain(out: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
}
