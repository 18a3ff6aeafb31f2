//! Redaction by shape: URLs, values next to secret names, header values, flags, and credentials of
//! an `Authorization` header.

use super::{address, mark::HIDDEN, names};

/// The maximum length of a name.
const NAME: usize = 128;
/// The maximum number of bytes of undecided text that are held back.
const OPEN: usize = 8 * 1024;

/// A redactor by shape, for a text that may arrive in chunks.
#[derive(Default)]
pub(super) struct Shapes {
    /// The value that is currently being hidden, and whether its mark has been written.
    within: Option<(Value, bool)>,
    before: Before,
}

/// The text before the current position.
#[derive(Default, Clone, Copy)]
struct Before {
    last: Option<char>,
    backslashes: usize,
}

/// The kind of a hidden value, which determines its end.
#[derive(Clone, Copy, PartialEq)]
enum Value {
    /// Ends at whitespace or a quote.
    Word,
    /// Ends at a line break or a quote.
    Line,
    /// Ends at whitespace. Used for the rest of a URL that is hidden completely.
    Url,
    /// Ends at this quote after the given number of backslashes, or at a line break.
    Quoted { quote: char, backslashes: usize },
}

enum Step {
    /// Shows the given number of bytes.
    Show(usize),
    /// Shows the given number of bytes, then hides a value.
    Hide(usize, Value),
    /// Replaces the given number of bytes. If `true`, the following text up to the next whitespace
    /// is hidden too.
    Replace(usize, String, bool),
    /// Undecided: the text ends too early.
    Open,
}

impl Shapes {
    /// Appends `text` without secrets to `shown` and returns the number of processed bytes. All of
    /// the text is processed if it is `finished`.
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
                        // The undecided text is too long, so the rest of the word is hidden.
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

    /// Skips a value up to its end. The end itself is shown with the following text.
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
            // These backslashes belong to the closing quote.
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
            // In such a long word, only the last part can be a name.
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

    /// Decides what to do with the text after a secret name.
    fn beside(&self, name: &str, after: &str, finished: bool) -> Step {
        let length = name.len();
        // The name is quoted as in JSON, with backslashes before the quote for JSON within a
        // string.
        let mut quoted = self.before.last.filter(|last| is_quote(*last));
        let mut rest = after;
        if let Some(quote) = quoted {
            let own = rest.trim_start_matches('\\');
            if own.is_empty() && !finished {
                return Step::Open;
            }
            match own.strip_prefix(quote) {
                Some(own) => rest = own,
                // The quote encloses more than the name: `"token=abc"`.
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
        // `key=len` and `token = next()` are program code.
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

/// Hides the value that starts after `length` bytes with the text `start`. A quoted value ends at a
/// matching quote.
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

/// Decides about an unquoted value next to a quoted name, as in JSON. Words such as `null` or
/// `true`, which are not secret, are shown.
fn unquoted(begin: usize, length: usize, start: &str, finished: bool) -> Step {
    let end = start.find(|letter: char| !letter.is_alphanumeric());
    match &start[..end.unwrap_or(start.len())] {
        _ if end.is_none() && !finished => Step::Open,
        "null" | "None" | "true" | "false" | "True" | "False" => Step::Show(length),
        _ => Step::Hide(begin, Value::Word),
    }
}

/// Hides a value if it looks like a credential: at least 8 bytes long, with a digit.
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

/// Hides the value of a flag, unless the text is a sentence: `give --token or set it`.
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

/// Hides the credential after `Bearer` or `Basic`.
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

/// Redacts a URL, given its scheme and the text after `://`.
fn url(scheme: &str, body: &str, finished: bool) -> Step {
    let mut end = 0;
    loop {
        let rest = &body[end..];
        // A mark within a URL belongs to the URL.
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

/// Returns whether a name before a colon is a header, whose value is the rest of the line.
fn is_header(name: &str) -> bool {
    name.contains('-')
        || ["authorization", "cookie"]
            .iter()
            .any(|header| name.eq_ignore_ascii_case(header))
}
