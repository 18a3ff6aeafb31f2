//! Tests for secrets in names, text, JSON and URLs, and for text that is not secret.

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn secrets_in_text_are_hidden_by_their_shape() {
    for (written, shown) in [
        // URLs.
        (
            "clone https://u:canary@h/x, ok",
            "clone https://<redacted>@h/x, ok",
        ),
        (
            "GET https://vault/key?token=canary failed",
            "GET https://vault/key?<redacted> failed",
        ),
        ("see <https://h/a#canary>", "see <https://h/a#<redacted>>"),
        (
            "https://u:ca?na#r@y@h and more",
            "https://<redacted>@h and more",
        ),
        ("http://u:can'ary@h more", "http://<redacted> more"),
        (
            "postgres://u:canary@h:5432/db",
            "postgres://<redacted>@h:5432/db",
        ),
        ("://canary@ ü://canary@", "://<redacted>@ ü://<redacted>@"),
        (
            "GET /api/x?key=canary&b=1 failed",
            "GET /api/x?key=<redacted> failed",
        ),
        // Values next to a name.
        ("API_KEY=canary ls", "API_KEY=<redacted> ls"),
        (
            "export password='can ary' x",
            "export password='<redacted>' x",
        ),
        (
            "aws_secret_access_key = canary\nx",
            "aws_secret_access_key = <redacted>\nx",
        ),
        ("api_key: \"canary\"", "api_key: \"<redacted>\""),
        (
            "LLM(api_key='canary', model='m')",
            "LLM(api_key='<redacted>', model='m')",
        ),
        (
            r#"{"api_key": "can\"ary", "b": 1}"#,
            r#"{"api_key": "<redacted>", "b": 1}"#,
        ),
        (r#"{"token":12345,"b":1}"#, r#"{"token":<redacted>"b":1}"#),
        (
            r#"{'auth': 'canary', 'b': 'c'}"#,
            r#"{'auth': '<redacted>', 'b': 'c'}"#,
        ),
        (
            r#"{\"pwd\": \"canary\", \"b\": 1}"#,
            r#"{\"pwd\": \"<redacted>\", \"b\": 1}"#,
        ),
        (r#""token=canary""#, r#""token=<redacted>""#),
        ("secret = canary-1", "secret = <redacted>"),
        ("apiKey: canary-key-1", "apiKey: <redacted>"),
        // Headers, flags, credentials.
        (
            "Authorization: Bearer canary x\nnext",
            "Authorization: <redacted>\nnext",
        ),
        (
            "curl -H 'X-API-Key: canary' h",
            "curl -H 'X-API-Key: <redacted>' h",
        ),
        ("Cookie: a=canary; b=canary", "Cookie: <redacted>"),
        (
            "tool --token canary --fast",
            "tool --token <redacted> --fast",
        ),
        ("tool --api-key=canary", "tool --api-key=<redacted>"),
        ("sent Bearer canary-123-canary.", "sent Bearer <redacted>"),
    ] {
        assert_eq!(text(written), shown);
        assert!(!text(written).contains("canary"));
    }
}

#[test]
fn a_hint_and_a_program_are_shown_as_they_are() {
    for shown in [
        "max_input_tokens: must be an integer",
        "agent.llm.api_key: must not be empty",
        "password: field required",
        "prompt_tokens=12 completion_tokens=3",
        "sorted(items, key=len), token = next(tokens)",
        "the key: look at the keyboard, and at token: it is",
        "api_key == other, password != x, token => y",
        "give --token or set OPENHANDS_TOKEN",
        r#"{"api_key": null, "has_auth": true, "token_count": 7}"#,
        "http://127.0.0.1:8000/api/conversations/x/events",
        "http://localhost:{port}/x",
        "Basic authentication, bearer of news",
        "tokenizer=abc, keywords: a, b",
        "",
    ] {
        assert_eq!(text(shown), shown);
    }
}

#[test]
fn known_values_are_hidden_before_shapes_can_cut_them() {
    let redactor = Redactor::new().with(&"can ary?x".into());
    assert_eq!(
        redactor.text("password=can ary?x y"),
        "password=<redacted> y"
    );
    assert_eq!(
        redactor.text("https://u:can ary?x@h/p"),
        "https://<redacted>@h/p"
    );
    assert_eq!(redactor.text("echo can%20ary%3Fx"), "echo <redacted>");
    assert!(!format!("{redactor:?} {:?}", redactor.stream()).contains("ary"));
}

#[test]
fn values_in_json_are_hidden_by_name_at_any_depth() {
    let redactor = Redactor::new().with(&"canary-known".into());
    let mut value = json!({
        "auth": "Basic canary", "pwd": ["canary"], "password": null, "has_password": true,
        "token": {"canary": "canary"}, "max_input_tokens": "abc", "input_cost_per_token": 0.1,
        "llm": {"api_key": "canary", "keywords": ["a"], "extra_headers": {"X-Key": "canary"}},
        "list": [{"env": {"A": "canary", "on": true}}, "https://h?t=canary"],
        "canary-known": 1, "detail": [{"loc": ["a"], "input": {"b": "canary"}, "ctx": ["canary"]}],
    });
    redactor.json(&mut value);
    assert_eq!(
        value,
        json!({
            "auth": HIDDEN, "pwd": HIDDEN, "password": null, "has_password": true,
            "token": HIDDEN, "max_input_tokens": "abc", "input_cost_per_token": 0.1,
            "llm": {"api_key": HIDDEN, "keywords": ["a"], "extra_headers": {"X-Key": HIDDEN}},
            "list": [{"env": {"A": HIDDEN, "on": true}}, "https://h?<redacted>"],
            HIDDEN: 1, "detail": [{"loc": ["a"], "input": {"b": HIDDEN}, "ctx": [HIDDEN]}],
        })
    );
}

#[test]
fn a_header_is_hidden_by_its_name() {
    assert_eq!(header("X-Session-API-Key", "canary"), HIDDEN);
    assert_eq!(
        header("Location", "https://u:canary@h/"),
        "https://<redacted>@h/"
    );
    assert_eq!(header("Content-Type", "text/plain"), "text/plain");
}

#[test]
fn a_long_run_without_an_end_is_neither_kept_nor_leaked() {
    let mut stream = Redactor::new().stream();
    let mut shown = stream.push("https://h/p?");
    for _ in 0..3000 {
        shown.push_str(&stream.push("canary"));
    }
    assert!(
        shown.len() + 9000 > 12 && shown.len() < 100,
        "{}",
        shown.len()
    );
    shown.push_str(&stream.push(" end"));
    shown.push_str(&stream.finish());
    assert_eq!(shown, "https://h/p?<redacted> end");

    let long = "x".repeat(100_000);
    assert_eq!(
        text(&format!("{long}.api_key=canary")),
        format!("{long}.api_key=<redacted>")
    );
}

proptest! {
    #[test]
    fn redacted_pieces_equal_the_redacted_whole(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("https://"), Just("u:p@"), Just("host/p"), Just("?q=1"), Just("#f"),
                Just("api_key"), Just("token"), Just("key"), Just("="), Just(": "), Just(" = "),
                Just("\""), Just("'"), Just("\\\""), Just("\\"), Just(" "), Just("\n"),
                Just("Authorization"), Just("Bearer "), Just("--password "), Just("word"),
                Just("a1b2c3d4e5"), Just("ü"), Just("<redacted>"), Just("known-value"), Just("or"),
                Just("null"), Just("{"), Just("&"), Just("kno"),
            ],
            0..14,
        ),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
    ) {
        let redactor = Redactor::new().with(&"known-value".into());
        let written: String = parts.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| {
            let mut at = cut.index(written.len() + 1);
            while !written.is_char_boundary(at) {
                at -= 1;
            }
            at
        }).collect();
        cuts.sort_unstable();
        cuts.push(written.len());
        let (mut stream, mut from, mut shown) = (redactor.stream(), 0, String::new());
        for cut in cuts {
            shown.push_str(&stream.push(&written[from..cut]));
            from = cut;
        }
        shown.push_str(&stream.finish());
        prop_assert_eq!(&shown, &redactor.text(&written), "{}", written);
        prop_assert!(!shown.contains("known-value"));
    }

    #[test]
    fn any_text_can_be_redacted(written in any::<String>(), shape in "[a-z:/@?#=\"'\\\\ -]{0,60}") {
        let _ = text(&written);
        let _ = text(&shape);
        let _ = (url(&shape), origin(&shape), is_secret_name(&written));
    }

    #[test]
    fn a_password_of_any_letters_is_hidden_in_a_url(
        password in "[a-z@?#:]{0,8}canary[a-z@?#:]{0,8}"
    ) {
        let address = format!("https://user:{password}@host/path");
        prop_assert!(!url(&address).contains("canary"), "{}", url(&address));
        prop_assert!(!text(&address).contains("canary"), "{}", text(&address));
        prop_assert!(!origin(&address).contains("canary"), "{}", origin(&address));
    }
}
