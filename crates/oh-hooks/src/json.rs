//! A JSON parser that matches Python's `json` module, as the server uses it for hook output.
//! Accepts `NaN` and lone surrogates, and can format values like Python's `str`.

/// The maximum nesting depth of values. Python's own limit differs by version and is at least
/// 1,497. No real output is nested that deeply.
const MAX_DEPTH: usize = 1_000;

/// A decoded JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    /// The number as Python formats it, and whether it is zero.
    Number(String, bool),
    Text(String),
    List(Vec<Value>),
    Dict(Vec<(String, Value)>),
}

/// Why a text could not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoValue {
    /// The text is not valid JSON.
    NotJson,
    /// The nesting is too deep for Python.
    TooDeep,
}

/// Decodes a text that contains exactly one value.
pub(crate) fn read(text: &str) -> Result<Value, NoValue> {
    let mut reader = Reader {
        text,
        at: 0,
        depth: 0,
    };
    let value = reader.value()?;
    reader.spaces();
    match reader.at == text.len() {
        true => Ok(value),
        false => Err(NoValue::NotJson),
    }
}

/// Returns the first JSON object in a text, ignoring the text around it.
pub(crate) fn first_object(text: &str) -> Option<Value> {
    text.match_indices('{').find_map(|(at, _)| {
        let mut reader = Reader { text, at, depth: 0 };
        reader.value().ok()
    })
}

impl Value {
    /// Returns the last value of a key, as in Python.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Dict(fields) => fields
                .iter()
                .rev()
                .find(|(name, _)| name == key)
                .map(|(_, v)| v),
            _ => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::None => false,
            Self::Bool(yes) => *yes,
            Self::Number(_, zero) => !zero,
            Self::Text(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Dict(fields) => !fields.is_empty(),
        }
    }

    /// Formats the value like Python's `str`.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            other => other.shown(),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::None => "None".to_owned(),
            Self::Bool(true) => "True".to_owned(),
            Self::Bool(false) => "False".to_owned(),
            Self::Number(text, _) => text.clone(),
            Self::Text(text) => quoted(text),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(Self::shown).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Dict(fields) => {
                let mut last: Vec<(&str, String)> = Vec::new();
                for (key, value) in fields {
                    match last.iter_mut().find(|(name, _)| name == key) {
                        Some((_, shown)) => *shown = value.shown(),
                        None => last.push((key, value.shown())),
                    }
                }
                let pair = |(key, value): (&str, String)| format!("{}: {value}", quoted(key));
                let pairs: Vec<_> = last.into_iter().map(pair).collect();
                format!("{{{}}}", pairs.join(", "))
            }
        }
    }
}

fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut shown = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => shown += "\\n",
            '\r' => shown += "\\r",
            '\t' => shown += "\\t",
            '\\' => shown += "\\\\",
            c if c == quote => shown.extend(['\\', c]),
            ' '..='~' => shown.push(c),
            c if !c.is_control() && !c.is_whitespace() => shown.push(c),
            c => {
                let code = u32::from(c);
                shown += &match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                };
            }
        }
    }
    shown.push(quote);
    shown
}

/// Formats a floating-point number as Python does.
fn float(number: f64) -> Value {
    let text = if number.is_nan() {
        "nan".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "inf" } else { "-inf" }.to_owned()
    } else {
        let short = format!("{number:e}");
        let exponent = short
            .split_once('e')
            .and_then(|(_, e)| e.parse::<i32>().ok());
        match exponent.unwrap_or(0) {
            e if (-4..16).contains(&e) => {
                let plain = number.to_string();
                if plain.contains('.') {
                    plain
                } else {
                    plain + ".0"
                }
            }
            e => {
                let digits = short.split('e').next().unwrap_or_default();
                let sign = if e < 0 { '-' } else { '+' };
                format!("{digits}e{sign}{:02}", e.abs())
            }
        }
    };
    Value::Number(text, number == 0.0)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn value(&mut self) -> Result<Value, NoValue> {
        self.spaces();
        match self.peek() {
            Some(b'{' | b'[') => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(NoValue::TooDeep);
                }
                let value = match self.eat("[") {
                    true => self.list(),
                    false => self.dict(),
                };
                self.depth -= 1;
                value
            }
            Some(b'"') => self.string().map(Value::Text),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Value, NoValue> {
        for (word, value) in [
            ("null", Value::None),
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("NaN", float(f64::NAN)),
            ("Infinity", float(f64::INFINITY)),
            ("-Infinity", float(f64::NEG_INFINITY)),
        ] {
            if self.eat(word) {
                return Ok(value);
            }
        }
        self.number()
    }

    fn list(&mut self) -> Result<Value, NoValue> {
        let mut items = Vec::new();
        self.spaces();
        if self.eat("]") {
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value()?);
            self.spaces();
            if self.eat("]") {
                return Ok(Value::List(items));
            }
            if !self.eat(",") {
                return Err(NoValue::NotJson);
            }
        }
    }

    fn dict(&mut self) -> Result<Value, NoValue> {
        let mut fields = Vec::new();
        self.at += 1;
        self.spaces();
        if self.eat("}") {
            return Ok(Value::Dict(fields));
        }
        loop {
            self.spaces();
            let key = self.string()?;
            self.spaces();
            if !self.eat(":") {
                return Err(NoValue::NotJson);
            }
            fields.push((key, self.value()?));
            self.spaces();
            if self.eat("}") {
                return Ok(Value::Dict(fields));
            }
            if !self.eat(",") {
                return Err(NoValue::NotJson);
            }
        }
    }

    fn string(&mut self) -> Result<String, NoValue> {
        if !self.eat("\"") {
            return Err(NoValue::NotJson);
        }
        let mut units: Vec<u16> = Vec::new();
        loop {
            let rest = self.text.get(self.at..).ok_or(NoValue::NotJson)?;
            let c = rest.chars().next().ok_or(NoValue::NotJson)?;
            self.at += c.len_utf8();
            match c {
                // A lone surrogate cannot be stored in a Rust string and becomes U+FFFD.
                '"' => return Ok(String::from_utf16_lossy(&units)),
                '\\' => units.push(self.escape()?),
                '\0'..='\u{1f}' => return Err(NoValue::NotJson),
                c => units.extend_from_slice(c.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn escape(&mut self) -> Result<u16, NoValue> {
        let sign = self.peek().ok_or(NoValue::NotJson)?;
        self.at += 1;
        Ok(match sign {
            b'"' | b'\\' | b'/' => u16::from(sign),
            b'b' => 8,
            b'f' => 12,
            b'n' => 10,
            b'r' => 13,
            b't' => 9,
            b'u' => {
                let digits = self
                    .text
                    .get(self.at..self.at + 4)
                    .ok_or(NoValue::NotJson)?;
                if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(NoValue::NotJson);
                }
                self.at += 4;
                u16::from_str_radix(digits, 16).map_err(|_| NoValue::NotJson)?
            }
            _ => return Err(NoValue::NotJson),
        })
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<Value, NoValue> {
        let start = self.at;
        self.eat("-");
        if !self.eat("0") && self.digits() == 0 {
            return Err(NoValue::NotJson);
        }
        let whole = self.at;
        if self.eat(".") && self.digits() == 0 {
            self.at = whole;
        }
        let before = self.at;
        if self.eat("e") || self.eat("E") {
            if !self.eat("-") {
                self.eat("+");
            }
            if self.digits() == 0 {
                self.at = before;
            }
        }
        let text = &self.text[start..self.at];
        if self.at > whole {
            return text.parse().map(float).map_err(|_| NoValue::NotJson);
        }
        let zero = matches!(text, "0" | "-0");
        Ok(Value::Number(
            if zero {
                "0".to_owned()
            } else {
                text.to_owned()
            },
            zero,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_formatted_as_in_python() {
        for (json, shown) in [
            (r#""plain 'text'""#, "plain 'text'"),
            (
                r#"["it's", "\"x\"", "both '\""]"#,
                r#"["it's", '"x"', 'both \'"']"#,
            ),
            (r#"{"a": [1, null, true], "a": 2}"#, "{'a': 2}"),
            ("1e3", "1000.0"),
            ("1e16", "1e+16"),
            ("-0.00001", "-1e-05"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("-0", "0"),
            ("NaN", "nan"),
            ("1e999", "inf"),
            (r#"["\u00e9\n\u0007\u00a0"]"#, r"['é\n\x07\xa0']"),
        ] {
            assert_eq!(read(json).unwrap().to_text(), shown, "{json}");
        }
    }

    #[test]
    fn text_without_json_gives_no_object() {
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "01",
            "1.",
            "-",
            "nul",
            "\"\n\"",
            "\u{feff}{}",
            "{} x",
            "'a'",
            r#""\x""#,
            r#""\u12g4""#,
        ] {
            assert_eq!(read(text), Err(NoValue::NotJson), "{text}");
        }
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(read(&deep(900)).is_ok());
        assert_eq!(read(&deep(100_000)), Err(NoValue::TooDeep));
    }

    #[test]
    fn an_object_is_found_in_prose() {
        let found = first_object("So {not this} but:\n```json\n{\"decision\": \"deny\"}\n``` {}");
        assert_eq!(
            found.unwrap().get("decision").unwrap().as_text(),
            Some("deny")
        );
        assert_eq!(first_object("none"), None);
    }
}
