//! Headers that are configured by environment variables.

use std::ffi::OsString;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// A function that looks up an environment variable.
pub(crate) type Variables<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// Returns the `OPENHANDS_OBSERVABILITY_*` variables as the headers that the server adds to its
/// traces. Values that are not valid in a header are skipped, because observability must not break
/// requests.
pub(crate) fn observability_headers(variables: &Variables<'_>) -> HeaderMap {
    let read = |name: &str| {
        let value = variables(name)?.into_string().ok()?.trim().to_owned();
        (!value.is_empty()).then_some(value)
    };
    let values = [
        (
            "metadata",
            read("OPENHANDS_OBSERVABILITY_METADATA").and_then(|text| metadata(&text)),
        ),
        (
            "tags",
            read("OPENHANDS_OBSERVABILITY_TAGS").and_then(|text| tags(&text)),
        ),
        ("span-name", read("OPENHANDS_OBSERVABILITY_SPAN_NAME")),
        (
            "parent-span-context",
            read("OPENHANDS_OBSERVABILITY_PARENT_SPAN_CONTEXT")
                .or_else(|| read("LMNR_SPAN_CONTEXT")),
        ),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in values {
        let name = HeaderName::try_from(format!("x-openhands-observability-{name}"));
        let value = value.and_then(|value| HeaderValue::try_from(value).ok());
        if let (Ok(name), Some(mut value)) = (name, value) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    headers
}

/// Returns the metadata that traces support: strings, numbers, booleans and homogeneous lists.
fn metadata(text: &str) -> Option<String> {
    let Value::Object(object) = serde_json::from_str(text).ok()? else {
        return None;
    };
    // The same rule applies to a conversation's metadata: a list must not mix integers and floats.
    let fits = |value: &Value| match value {
        Value::Null | Value::Object(_) => false,
        Value::Array(items) => {
            items.iter().all(Value::is_string)
                || items.iter().all(Value::is_boolean)
                || items.iter().all(|item| item.is_i64() || item.is_u64())
                || items.iter().all(Value::is_f64)
        }
        _ => true,
    };
    let kept: Map<_, _> = object
        .into_iter()
        .filter(|(key, value)| !key.is_empty() && fits(value))
        .collect();
    (!kept.is_empty()).then(|| ascii(&Value::Object(kept).to_string()))
}

fn tags(text: &str) -> Option<String> {
    let tags: Vec<&str> = text
        .split(',')
        .map(str::trim)
        .filter(|tag| !tag.is_empty())
        .collect();
    (!tags.is_empty()).then(|| tags.join(","))
}

/// Escapes all non-ASCII characters in JSON, because headers are at best decoded as Latin-1.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(variables: &[(&str, &str)]) -> Vec<(String, String)> {
        let read = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(found.1.into())
        };
        observability_headers(&read)
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect()
    }

    #[test]
    fn every_variable_becomes_its_header() {
        let set = headers(&[
            (
                "OPENHANDS_OBSERVABILITY_METADATA",
                r#"{"run":"é","n":1,"deep":{"a":1},"l":["a",1],"mixed":[1,1.5],"ok":[1,2]}"#,
            ),
            ("OPENHANDS_OBSERVABILITY_TAGS", " a , ,b"),
            ("OPENHANDS_OBSERVABILITY_SPAN_NAME", "nightly"),
            ("LMNR_SPAN_CONTEXT", "ctx"),
        ]);
        let set: Vec<_> = set
            .iter()
            .map(|(name, value)| (&name[26..], &value[..]))
            .collect();
        assert_eq!(
            set,
            [
                ("metadata", r#"{"n":1,"ok":[1,2],"run":"\u00e9"}"#),
                ("tags", "a,b"),
                ("span-name", "nightly"),
                ("parent-span-context", "ctx"),
            ]
        );
    }

    #[test]
    fn invalid_header_values_are_omitted() {
        for (name, value) in [
            ("OPENHANDS_OBSERVABILITY_METADATA", "not json"),
            ("OPENHANDS_OBSERVABILITY_METADATA", "[1]"),
            ("OPENHANDS_OBSERVABILITY_METADATA", r#"{"deep":{}}"#),
            ("OPENHANDS_OBSERVABILITY_TAGS", " , "),
            ("OPENHANDS_OBSERVABILITY_SPAN_NAME", "two\nlines"),
            ("OPENHANDS_OBSERVABILITY_SPAN_NAME", "  "),
        ] {
            assert_eq!(headers(&[(name, value)]), []);
        }
    }
}
