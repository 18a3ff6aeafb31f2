//! Tests for scanned values and for the positions of errors.

use super::*;

fn scan(text: &str) -> Result<Vec<(String, String)>, Flaw> {
    let mut scanner = Scanner::new(text)?;
    read(&mut scanner, text).map_err(|Stop| scanner.flaw())
}

fn read(scanner: &mut Scanner<'_>, text: &str) -> Result<Vec<(String, String)>> {
    let mut members = Vec::new();
    let mut more = scanner.object()?;
    while more {
        let key = scanner.key()?.span.of(text).to_owned();
        members.push((key, scanner.value()?.of(text).to_owned()));
        more = scanner.more_members()?;
    }
    scanner.end()?;
    Ok(members)
}

#[test]
fn every_member_is_scanned_with_its_exact_text() {
    let text = r#" { "a" : [1, {"b": "]}\""}, []] ,"c":"\\" , "d":-1.5e+3,"e":{},"f":null } "#;
    let members = scan(text).unwrap();
    let values: Vec<_> = members
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(
        values,
        [
            ("a", r#"[1, {"b": "]}\""}, []]"#),
            ("c", r#""\\""#),
            ("d", "-1.5e+3"),
            ("e", "{}"),
            ("f", "null"),
        ]
    );
}

#[test]
fn input_other_than_one_object_is_a_flaw_at_a_byte() {
    for (text, at) in [
        ("", 0),
        ("[]", 0),
        ("{", 1),
        (r#"{"a"}"#, 4),
        (r#"{"a":}"#, 5),
        (r#"{"a":1 "b"}"#, 7),
        (r#"{"a":[1}"#, 7),
        (r#"{"a":{"b":1]}"#, 11),
        (r#"{"a":tru}"#, 5),
        (r#"{"a":"x"#, 7),
        (r#"{"a":"\x"}"#, 7),
        ("{\"a\":\"\n\"}", 6),
        ("{} {}", 3),
    ] {
        assert_eq!(scan(text).unwrap_err().at, at, "{text}");
    }
}

#[test]
fn the_nesting_depth_is_limited() {
    let nested = |n| format!(r#"{{"a":{}{}}}"#, "[".repeat(n), "]".repeat(n));
    assert!(scan(&nested(512)).is_ok());
    assert!(scan(&nested(513)).is_err());
}

#[test]
fn the_kind_is_found_at_any_position_but_not_inside_other_values() {
    for json in [
        r#"{"kind":"K"}"#,
        r#"{"kind":"K","a":"{\"kind\":\"X\"}"}"#,
        r#"{"a":{"kind":"X"},"kind":"K"}"#,
        r#"{"a":1, "kind" : "K" , "b":{"kind":"X"}}"#,
    ] {
        assert_eq!(kind(json).as_deref(), Some("K"), "{json}");
    }
    for json in [
        r#"{"a":",\"kind\":\"X"}"#,
        r#"{"a":{"kind":"X"}}"#,
        r#"{"kind":7}"#,
        "[]",
    ] {
        assert_eq!(kind(json), None, "{json}");
    }
}
