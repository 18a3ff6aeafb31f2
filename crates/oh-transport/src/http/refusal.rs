//! Converts error responses to errors, with the server's explanation and without secrets.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, header, response};
use oh_protocol::redact::{Redactor, is_secret_name};
use serde_json::Value;

use crate::{Error, ValidationEntry};

/// Converts a response to an error. `body` is `None` if it did not arrive or was too long.
pub(crate) fn refusal(head: &response::Parts, body: Option<&[u8]>, redactor: &Redactor) -> Error {
    let error = if head.status.is_redirection() {
        Error::from_status(head.status).with_context(format!(
            "the server returned {}, and redirects are not followed: use the final URL",
            head.status
        ))
    } else {
        Error::from_status(head.status)
    };
    let error = error.with_retry_after(retry_after(&head.headers));
    let content = || {
        content(
            head.headers.get(header::CONTENT_TYPE),
            body.map(<[u8]>::len),
        )
    };
    let json = body.and_then(|body| serde_json::from_slice::<Value>(body).ok());
    // An agent server names the resource that it does not have. A 404 of another server contains no
    // such explanation.
    let foreign = head.status == StatusCode::NOT_FOUND
        && body.is_some()
        && json
            .as_ref()
            .is_none_or(|json| json.get("detail").is_none());
    let error = if foreign {
        error.of_another_server()
    } else {
        error
    };
    let Some(mut json) = json.filter(|json| json.is_object() || json.is_array()) else {
        return error.with_detail(content());
    };
    let mut entries = Vec::new();
    if head.status == StatusCode::UNPROCESSABLE_ENTITY
        && let Some(Value::Array(items)) = json.get_mut("detail")
    {
        entries = items
            .iter_mut()
            .filter_map(|entry| validation(entry, redactor))
            .collect();
    }
    redactor.json(&mut json);
    let detail = match &json["detail"] {
        _ if !entries.is_empty() => Some(join(&entries)),
        Value::String(text) => Some(match json["exception"].as_str() {
            Some(exception) => format!("{text}: {exception}"),
            None => text.clone(),
        }),
        Value::Null => content(),
        other => Some(other.to_string()),
    };
    let error_id = json["error_id"].as_str().map(str::to_owned);
    error
        .with_detail(detail)
        .with_error_id(error_id)
        .with_entries(entries)
        .with_body(json)
}

/// Returns the type and length of a body. Errors include only these for a body that is not JSON.
pub(crate) fn content(kind: Option<&HeaderValue>, length: Option<usize>) -> Option<String> {
    let length = match length {
        Some(0) => return None,
        Some(length) => format!("{length} bytes"),
        None => "an incomplete or very long body".to_owned(),
    };
    let kind = kind.and_then(|kind| kind.to_str().ok()?.split(';').next());
    Some(format!(
        "{length} of {}",
        kind.unwrap_or("unknown content type")
    ))
}

fn validation(entry: &mut Value, redactor: &Redactor) -> Option<ValidationEntry> {
    let location = entry["loc"].as_array()?.iter().map(|part| match part {
        Value::String(name) => redactor.text(name),
        other => other.to_string(),
    });
    let location: Vec<String> = location.collect();
    let kind = entry["type"].as_str().unwrap_or_default();
    if location.iter().any(|part| is_secret_name(part)) && !keeps_value_out(kind) {
        entry["msg"] = "invalid value (hidden)".into();
    }
    Some(ValidationEntry {
        location,
        kind: redactor.text(entry["type"].as_str().unwrap_or_default()),
        message: redactor.text(entry["msg"].as_str().unwrap_or_default()),
    })
}

/// Returns whether the server's message for this type of error never contains the value.
fn keeps_value_out(kind: &str) -> bool {
    matches!(
        kind,
        "missing" | "extra_forbidden" | "string_too_short" | "string_too_long"
    ) || kind.ends_with("_type")
        || kind.ends_with("_parsing")
}

fn join(entries: &[ValidationEntry]) -> String {
    let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
    entries.join("; ")
}

/// Parses `Retry-After`, either seconds (digits only) or a date. A date in the past means no delay.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::ErrorKind;

    /// Generates JSON similar to error responses, with unexpected values in every place.
    fn surprising() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
            Just(Value::from("ftp://a:canary-key@h/ canary-key")),
        ];
        leaf.prop_recursive(5, 60, 6, |inner| {
            let name = prop_oneof![
                Just("detail".to_owned()),
                Just("loc".to_owned()),
                Just("msg".to_owned()),
                Just("type".to_owned()),
                Just("exception".to_owned()),
                Just("error_id".to_owned()),
                ".{0,6}",
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((name, inner), 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_rejection_is_an_error_without_the_key(
            status in 300u16..600, body in surprising(), retry in ".{0,30}",
        ) {
            let retry = retry.replace(|c: char| !(' '..='~').contains(&c), "");
            let error = refused(status, &[("retry-after", &retry)], body.to_string().as_bytes());
            prop_assert_eq!(error.status().unwrap().as_u16(), status);
            let shown = format!("{error} {error:?} {:?} {:?}", error.body(), error.validation());
            prop_assert!(!shown.contains("canary-key"), "{}", shown);
        }

        #[test]
        fn any_bytes_are_an_error_that_does_not_show_them(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let error = refused(500, &[], &bytes);
            prop_assert_eq!(error.kind(), ErrorKind::Server);
        }
    }

    fn refused(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Error {
        let mut answer = http::Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        let (head, ()) = answer.body(()).unwrap().into_parts();
        let redactor = Redactor::new().with(&"canary-key".into());
        refusal(&head, Some(body), &redactor)
    }

    fn refused_json(status: u16, body: &Value) -> Error {
        refused(
            status,
            &[("content-type", "application/json")],
            body.to_string().as_bytes(),
        )
    }

    #[test]
    fn each_status_has_its_kind() {
        for (status, kind) in [
            (400, ErrorKind::Validation),
            (401, ErrorKind::Unauthorized),
            (403, ErrorKind::Forbidden),
            (404, ErrorKind::NotFound),
            (409, ErrorKind::Conflict),
            (422, ErrorKind::Validation),
            (429, ErrorKind::RateLimited),
            (500, ErrorKind::Server),
            (503, ErrorKind::Server),
            (302, ErrorKind::Status),
        ] {
            let error = refused_json(status, &json!({"detail": "why"}));
            assert_eq!(
                (error.kind(), error.detail()),
                (kind, Some("why")),
                "{status}"
            );
            assert_eq!(error.status().unwrap().as_u16(), status);
        }
    }

    #[test]
    fn the_entries_of_a_422_are_typed_and_show_no_input() {
        let error = refused_json(
            422,
            &json!({"detail": [
                {"type": "missing", "loc": ["body", "items", 0, "name"], "msg": "Field required",
                 "input": {"a": "canary"}},
                {"type": "value_error", "loc": ["body", "llm", "api_key"], "msg": "bad key canary",
                 "input": "canary", "ctx": {"error": "canary"}},
                {"odd": true},
            ]}),
        );
        let [missing, secret] = error.validation() else {
            panic!("{:?}", error.validation());
        };
        assert_eq!(missing.location, ["body", "items", "0", "name"]);
        assert_eq!(
            (&*missing.kind, &*missing.message),
            ("missing", "Field required")
        );
        assert_eq!(secret.kind, "value_error");
        assert!(
            error
                .to_string()
                .contains("body.items.0.name: Field required"),
            "{error}"
        );
        assert!(!format!("{error} {error:?} {:?}", error.body()).contains("canary"));
    }

    #[test]
    fn a_422_explains_fields_that_are_not_secret() {
        let parsing = "Input should be a valid integer, unable to parse string as an integer";
        for (field, kind, message, shown) in [
            ("max_input_tokens", "int_parsing", parsing, parsing),
            (
                "input_cost_per_token",
                "value_error",
                "must not be negative",
                "must not be negative",
            ),
            ("keywords", "value_error", "too many", "too many"),
            ("api_key", "missing", "Field required", "Field required"),
            (
                "api_key",
                "string_type",
                "Input should be a valid string",
                "Input should be a valid string",
            ),
            (
                "api_key",
                "value_error",
                "no such key: canary",
                "invalid value (hidden)",
            ),
            (
                "pwd",
                "value_error",
                "canary is too simple",
                "invalid value (hidden)",
            ),
        ] {
            let entry =
                json!({"type": kind, "loc": ["body", field], "msg": message, "input": "canary"});
            let error = refused_json(422, &json!({"detail": [entry]}));
            assert_eq!(error.validation()[0].message, shown, "{field}");
            assert!(
                error
                    .to_string()
                    .contains(&format!("body.{field}: {shown}")),
                "{error}"
            );
            assert!(
                !format!("{error:?} {:?}", error.body()).contains("canary"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn secrets_in_text_and_in_names_are_hidden() {
        let error = refused_json(
            500,
            &json!({
                "detail": "GET https://user:canary@vault/key?token=canary#canary failed",
                "exception": "Authorization: Bearer canary",
                "auth": "Basic canary",
                "pwd": "canary",
                "canary-key": {"x": 1},
            }),
        );
        let shown = format!("{error} {error:?} {}", error.body().unwrap());
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("vault/key"), "{shown}");
    }

    #[test]
    fn a_500_has_an_id_and_an_exception() {
        let error = refused_json(
            500,
            &json!({
                "detail": "Internal Server Error", "exception": "ValueError: no", "error_id": "abc",
            }),
        );
        assert_eq!(error.error_id(), Some("abc"));
        assert_eq!(
            error.detail(),
            Some("Internal Server Error: ValueError: no")
        );
    }

    #[test]
    fn a_json_body_is_redacted_at_any_depth() {
        let mut deep = json!({"Access-Token": "canary"});
        for _ in 0..50 {
            deep = json!({"a": [deep]});
        }
        let error = refused_json(
            400,
            &json!({
                "detail": {"deep": deep, "Environment": {"HOME": "canary"}, "author": "kept"},
                "echo": "you sent canary-key, and http://user:canary@host/x",
            }),
        );
        let shown = format!("{error} {error:?} {}", error.body().unwrap());
        assert!(!shown.contains("canary"), "{shown}");
        assert_eq!(error.body().unwrap()["detail"]["author"], "kept");
        assert!(
            error.body().unwrap()["detail"]["Environment"]
                .get("HOME")
                .is_some()
        );
    }

    #[test]
    fn a_body_that_is_not_json_is_reported_by_type_and_length() {
        let html = b"<html>canary</html>";
        let error = refused(502, &[("content-type", "text/html; charset=utf-8")], html);
        assert_eq!(error.detail(), Some("19 bytes of text/html"));
        assert!(!format!("{error:?}").contains("canary"));
        assert_eq!(
            refused(502, &[], b"\xff\xfe").detail(),
            Some("2 bytes of unknown content type")
        );
        assert_eq!(
            refused(502, &[], b"\"canary\"").detail(),
            Some("8 bytes of unknown content type")
        );
        assert_eq!(refused(502, &[], b"").detail(), None);
    }

    #[test]
    fn a_404_counts_as_the_servers_only_with_its_explanation() {
        let own = refused_json(404, &json!({"detail": "Conversation not found"}));
        assert_eq!(own.kind(), ErrorKind::NotFound);
        for body in [
            "",
            "<html></html>",
            "Not Found",
            "[]",
            "{\"error\":\"no route\"}",
        ] {
            let error = refused(404, &[], body.as_bytes());
            assert_eq!(error.kind(), ErrorKind::NotAnAgentServer, "{body}");
            assert_eq!(error.status(), Some(StatusCode::NOT_FOUND));
            assert!(error.to_string().contains("404"), "{error}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let asked = |value: &str| refused(429, &[("retry-after", value)], b"").retry_after();
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            asked("18446744073709551615"),
            Some(Duration::from_secs(u64::MAX))
        );
        assert_eq!(
            asked("99999999999999999999"),
            Some(Duration::from_secs(u64::MAX))
        );
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let hour = Duration::from_secs(3600);
        let future = asked(&httpdate::fmt_http_date(SystemTime::now() + hour)).unwrap();
        assert!(future <= hour && future > hour / 2, "{future:?}");
        for odd in [
            "",
            "Tue, 06 Nov 1994 08:49:37 GMT",
            "-1",
            "1.5",
            "soon",
            "+7",
            "7 s",
            "0x7",
        ] {
            assert_eq!(asked(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_redirect_is_reported_as_not_followed() {
        let error = refused(307, &[("location", "http://elsewhere/?token=canary")], b"");
        assert!(
            error.to_string().contains("redirects are not followed"),
            "{error}"
        );
        assert!(!format!("{error} {error:?}").contains("canary"));
    }

    #[test]
    fn a_failure_is_unclear_unless_the_server_explained_it_or_got_nothing() {
        let status = |status: u16| Error::from_status(StatusCode::from_u16(status).unwrap());
        let own = |code| status(code).with_body(json!({"detail": "why"}));
        let foreign = |code| status(code).with_body(json!({"message": "why"}));
        for error in [
            Error::new(ErrorKind::Interrupted, ""),
            Error::new(ErrorKind::Timeout, ""),
            Error::new(ErrorKind::Connect, "").sent(),
            status(500),
            status(503),
            foreign(503),
            own(502),
            own(504),
            status(520),
            own(524),
        ] {
            assert!(error.is_unclear(), "{error:?}");
        }
        for error in [
            Error::new(ErrorKind::Connect, ""),
            Error::new(ErrorKind::Decode, ""),
            Error::new(ErrorKind::InvalidInput, ""),
            own(500),
            own(503),
            status(404),
            status(409),
            status(429),
        ] {
            assert!(!error.is_unclear(), "{error:?}");
        }
    }
}
