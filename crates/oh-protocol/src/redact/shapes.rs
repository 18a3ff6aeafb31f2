//! Hides what is secret by its shape: URLs, values beside the name of a secret, header values,
//! flags and credentials of an `Authorization` header. Knows no value.

use super::{HIDDEN, address, names};

/// A name is no longer than this.
const NAME: usize = 128;
/// So much is kept back at most while it is open what it is.
const OPEN: usize = 8 * 1024;

/// Hides secrets by their shape in a text that may arrive in pieces.
#[derive(Default)]
pub(super) struct Shapes {
    /// What is left out right now, and whether a mark stands for it already.
    within: Option<(Value, bool)>,
    before: Before,
}

/// What stands before the place that is looked at.
#[derive(Default, Clone, Copy)]
struct Before {
    last: Option<char>,
    backslashes: usize,
}

/// A value that is hidden, by where it ends.
#[derive(Clone, Copy, PartialEq)]
enum Value {
    /// Ends at white space or a quote.
    Word,
    /// Ends at the line's end or a quote.
    Line,
    /// Ends at white space: the rest of a URL that is hidden whole.
    Url,
    /// Ends at this quote after so many backslashes, or at the line's end.
    Quoted { quote: char, backslashes: usize },
}

enum Step {
    /// So many bytes are shown as they are.
    Show(usize),
    /// So many bytes are shown, then a value is hidden.
    Hide(usize, Value),
    /// So many bytes are replaced; with `true`, so is what follows up to the next white space.
    Replace(usize, String, bool),
    /// The text ends too early to decide.
    Open,
}

impl Shapes {
    /// Moves `text` to `shown` without secrets; returns how much of it is done. All of it is if
    /// it is `finished`.
    pub(super) fn hide(&mut self, text: &str, finished: bool, shown: &mut String) -> usize {
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            if let Some((value, marked)) = self.within {
                let done = self.skip(rest, value, marked, shown);
                at += done;
                continue;
            }
            let decided = finished || rest.len() > OPEN;
            match self.step(rest, decided) {
                Step::Open if !decided => break,
                Step::Open => self.show(rest, shown, &mut at),
                Step::Show(length) => self.show(&rest[..length], shown, &mut at),
                Step::Hide(length, value) => {
                    self.show(&rest[..length], shown, &mut at);
                    self.within = Some((value, false));
                }
                Step::Replace(length, by, whole) => {
                    shown.push_str(&by);
                    self.before.pass(&rest[..length]);
                    at += length;
                    if whole {
                        self.within = Some((Value::Url, true));
                    } else if !finished && length == rest.len() {
                        // Too long to wait for its end: no more of it is shown.
                        self.within = Some((Value::Word, true));
                    }
                }
            }
        }
        at
    }

    fn show(&mut self, text: &str, shown: &mut String, at: &mut usize) {
        shown.push_str(text);
        self.before.pass(text);
        *at += text.len();
    }

    /// Leaves out a value up to its end; the end itself is shown with what follows.
    fn skip(&mut self, text: &str, value: Value, marked: bool, shown: &mut String) -> usize {
        let mut backslashes = if marked { self.before.backslashes } else { 0 };
        let end = text.char_indices().find(|(_, letter)| {
            let ends = match value {
                Value::Word => letter.is_whitespace() || is_quote(*letter),
                Value::Url => letter.is_whitespace(),
                Value::Line => matches!(letter, '\n' | '\r') || is_quote(*letter),
                Value::Quoted {
                    quote,
                    backslashes: own,
                } => {
                    *letter == '\n'
                        || (*letter == quote
                            && (backslashes == own
                                || (own == 0 && backslashes.is_multiple_of(2))
                                || backslashes < own))
                }
            };
            if !ends {
                backslashes = if *letter == '\\' { backslashes + 1 } else { 0 };
            }
            ends
        });
        let before_end = backslashes;
        let length = end.map_or(text.len(), |(at, _)| at);
        if length > 0 && !marked {
            shown.push_str(HIDDEN);
        }
        if let (
            Some(_),
            Value::Quoted {
                backslashes: own, ..
            },
        ) = (end, value)
        {
            // They belong to the quote that follows.
            shown.extend(std::iter::repeat_n('\\', own.min(before_end)));
        }
        self.before.pass(&text[..length]);
        self.within = match end {
            Some(_) => None,
            None => Some((value, true)),
        };
        length
    }

    fn step(&self, text: &str, finished: bool) -> Step {
        let end = text.find(|letter: char| !is_part_of_name(letter));
        let length = end.unwrap_or(text.len());
        if length > NAME {
            // Only the end of so long a word can be a name.
            let end = length - NAME;
            let border = (end..length).find(|at| text.is_char_boundary(*at));
            return Step::Show(border.unwrap_or(length));
        }
        if end.is_none() && !finished {
            return Step::Open;
        }
        let (name, after) = text.split_at(length);
        if let Some(body) = after.strip_prefix("://") {
            return url(name, body, finished);
        }
        if !finished && "://".starts_with(after) {
            return Step::Open;
        }
        if name.is_empty() {
            return Step::Show(after.chars().next().map_or(0, char::len_utf8));
        }
        if ["bearer", "basic"]
            .iter()
            .any(|scheme| name.eq_ignore_ascii_case(scheme))
        {
            return credential(length, after, finished);
        }
        if !names::is_secret_name(name) {
            return Step::Show(length);
        }
        self.beside(name, after, finished)
    }

    /// What stands after the name of a secret.
    fn beside(&self, name: &str, after: &str, finished: bool) -> Step {
        let length = name.len();
        // Quoted as in JSON, with backslashes before the quote where JSON stands in a text.
        let mut quoted = self.before.last.filter(|last| is_quote(*last));
        let mut rest = after;
        if let Some(quote) = quoted {
            let own = rest.trim_start_matches('\\');
            if own.is_empty() && !finished {
                return Step::Open;
            }
            match own.strip_prefix(quote) {
                Some(own) => rest = own,
                // The quote stands before more than a name: `"token=abc"`.
                None => quoted = None,
            }
        }
        let sign = rest.trim_start_matches([' ', '\t']);
        let spaced = sign.len() < rest.len();
        let value = match sign.chars().next() {
            None if finished => return Step::Show(length),
            None => return Step::Open,
            Some('=' | ':') => &sign[1..],
            Some(first) if spaced && name.starts_with('-') && quoted.is_none() => {
                return match first {
                    '-' | '\n' | '\r' => Step::Show(length),
                    _ => flag(length + rest.len() - sign.len(), length, sign, finished),
                };
            }
            Some(_) => return Step::Show(length),
        };
        let colon = sign.starts_with(':');
        let start = value.trim_start_matches([' ', '\t']);
        let spaced = spaced || start.len() < value.len();
        let Some(first) = start.chars().next() else {
            return if finished {
                Step::Show(length)
            } else {
                Step::Open
            };
        };
        if matches!(first, '\n' | '\r' | '=' | '>' | '~' | ':') {
            return Step::Show(length);
        }
        let begin = length + after.len() - start.len();
        let bare = start.trim_start_matches('\\');
        if bare.is_empty() && !finished {
            return Step::Open;
        }
        if bare.starts_with(is_quote) {
            return hide(begin, start, Value::Word);
        }
        if quoted.is_some() {
            return match first {
                '{' | '[' => Step::Show(length),
                _ => unquoted(begin, length, start, finished),
            };
        }
        let parameter = matches!(self.before.last, Some('?' | '&'));
        let common = names::is_common_word(name);
        if colon {
            return match is_header(name) {
                true => hide(begin, start, Value::Line),
                false => looks_secret(begin, length, start, finished),
            };
        }
        // `key=len` and `token = next()` are a program's.
        if !parameter && ((common && spaced) || name == "key") {
            return looks_secret(begin, length, start, finished);
        }
        hide(begin, start, Value::Word)
    }
}

impl Before {
    fn pass(&mut self, text: &str) {
        let bare = text.trim_end_matches('\\');
        let backslashes = text.len() - bare.len();
        self.backslashes = match bare.is_empty() {
            true => self.backslashes + backslashes,
            false => backslashes,
        };
        self.last = text.chars().next_back().or(self.last);
    }
}

/// Hides what begins after `length` bytes; `start` is its text. A quote ends it as it began it.
fn hide(length: usize, start: &str, value: Value) -> Step {
    let bare = start.trim_start_matches('\\');
    let backslashes = start.len() - bare.len();
    match bare.chars().next().filter(|first| is_quote(*first)) {
        Some(quote) => Step::Hide(
            length + backslashes + quote.len_utf8(),
            Value::Quoted { quote, backslashes },
        ),
        None => Step::Hide(length, value),
    }
}

/// A value without quotes beside a quoted name, as JSON writes it: words that say that there is
/// none are shown.
fn unquoted(begin: usize, length: usize, start: &str, finished: bool) -> Step {
    let end = start.find(|letter: char| !letter.is_alphanumeric());
    match &start[..end.unwrap_or(start.len())] {
        _ if end.is_none() && !finished => Step::Open,
        "null" | "None" | "true" | "false" | "True" | "False" => Step::Show(length),
        _ => Step::Hide(begin, Value::Word),
    }
}

/// A value is hidden if it looks like a credential: long enough, with a digit.
fn looks_secret(begin: usize, length: usize, start: &str, finished: bool) -> Step {
    let end = start.find(|letter: char| letter.is_whitespace() || is_quote(letter));
    let word = &start[..end.unwrap_or(start.len())];
    if word.len() >= 8
        && word.bytes().any(|byte| byte.is_ascii_digit())
        && !word.contains(['(', '['])
    {
        return Step::Hide(begin, Value::Word);
    }
    match end.is_none() && !finished {
        true => Step::Open,
        false => Step::Show(length),
    }
}

/// A flag's value, unless a sentence goes on: `give --token or set it`.
fn flag(begin: usize, length: usize, start: &str, finished: bool) -> Step {
    const SENTENCE: &[&str] = &[
        "and", "argument", "are", "as", "at", "by", "flag", "for", "from", "has", "if", "in",
        "instead", "is", "must", "needs", "of", "on", "option", "or", "requires", "the", "then",
        "to", "was", "when", "with",
    ];
    let end = start.find(char::is_whitespace);
    if end.is_none() && !finished {
        return Step::Open;
    }
    if SENTENCE.contains(&&start[..end.unwrap_or(start.len())]) {
        return Step::Show(length);
    }
    hide(begin, start, Value::Word)
}

/// What stands after `Bearer` and `Basic`.
fn credential(length: usize, after: &str, finished: bool) -> Step {
    let start = after.trim_start_matches(' ');
    let spaces = after.len() - start.len();
    if spaces == 0 && !after.is_empty() {
        return Step::Show(length);
    }
    let end =
        start.find(|letter: char| !letter.is_ascii_alphanumeric() && !"-._~+/=".contains(letter));
    let word = &start[..end.unwrap_or(start.len())];
    if word.len() >= 16 || (word.len() >= 6 && word.bytes().any(|byte| byte.is_ascii_digit())) {
        return Step::Hide(length + spaces, Value::Word);
    }
    match end.is_none() && !finished {
        true => Step::Open,
        false => Step::Show(length),
    }
}

/// A URL by its scheme and by what stands after `://`.
fn url(scheme: &str, body: &str, finished: bool) -> Step {
    let mut end = 0;
    loop {
        let rest = &body[end..];
        // A mark within a URL is a part of it.
        if rest.starts_with(HIDDEN) {
            end += HIDDEN.len();
            continue;
        }
        if !finished && HIDDEN.starts_with(rest) {
            return Step::Open;
        }
        match rest.chars().next() {
            None if finished => break,
            None => return Step::Open,
            Some(letter)
                if letter.is_whitespace() || is_quote(letter) || "<>\\".contains(letter) =>
            {
                break;
            }
            Some(letter) => end += letter.len_utf8(),
        }
    }
    let shown = address::below_scheme(&body[..end]).into_owned();
    let broken = shown == HIDDEN && !body[..end].is_empty();
    Step::Replace(
        scheme.len() + 3 + end,
        format!("{scheme}://{shown}"),
        broken,
    )
}

fn is_part_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '-' || letter == '.'
}

fn is_quote(letter: char) -> bool {
    matches!(letter, '"' | '\'' | '`')
}

/// Whether a name before a colon is that of a header, whose value is the rest of the line.
fn is_header(name: &str) -> bool {
    name.contains('-')
        || ["authorization", "cookie"]
            .iter()
            .any(|header| name.eq_ignore_ascii_case(header))
}
