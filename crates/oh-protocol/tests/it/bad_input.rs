//! Tests that invalid or unusual input results in an error value or a kept event, never in a panic.

use oh_protocol::{
    ErrorKind, Event, ExecutionStatus, SessionFrame,
    event::{Action, Payload, StateChange},
};

fn refused(raw: impl Into<bytes::Bytes>) {
    let error = Event::from_json(raw.into()).expect_err("must be refused");
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn input_that_is_not_an_event_is_an_error() {
    for raw in [
        "",
        "nonsense",
        "[]",
        "3",
        "null",
        "{",
        "{}",
        r#"{"kind":"X"}"#,
        r#"{"id":"e"}"#,
    ] {
        refused(raw);
    }
    refused(&b"{\"kind\":\"\xff\",\"id\":\"e\"}"[..]);
}

#[test]
fn an_error_names_the_fault() {
    for (raw, says) in [
        ("", "could not decode an event: the input is empty"),
        (
            "{",
            "could not decode an event: unexpected end of input at byte 1",
        ),
        (
            "[]",
            "could not decode an event: expected an object at byte 0",
        ),
        (
            "{}",
            "could not decode an event: missing field `kind` at byte 0",
        ),
    ] {
        assert_eq!(Event::from_json(raw).unwrap_err().to_string(), says);
    }
    let error = SessionFrame::from_json("").unwrap_err().to_string();
    assert_eq!(
        error,
        "could not decode a session frame: the input is empty"
    );
}

#[test]
fn any_event_is_kept() {
    let deep = format!(
        r#"{{"kind":"New","id":"e","x":{}{}}}"#,
        "[".repeat(600),
        "]".repeat(600)
    );
    for (raw, id, kind) in [
        (&*deep, "e", "New"),
        (r#"{"kind":"New","x":1}"#, "", "New"),
        (r#"{"id":"e","x":1}"#, "e", ""),
        ("", "", ""),
        ("7", "", ""),
        (r#"{"kind":"New","id":"e""#, "e", "New"),
    ] {
        let event = Event::from_json_lossy(raw.to_owned());
        assert_eq!((event.as_json(), event.kind()), (raw, kind));
        assert!(
            event.malformed().is_some() && event.to_string().contains("at byte"),
            "{event}"
        );
        let same = Event::from_json_lossy(raw.to_owned());
        assert_eq!(event.id(), same.id());
        match id {
            "" => assert!(event.id().starts_with("unreadable-"), "{}", event.id()),
            id => assert_eq!(event.id(), id),
        }
        assert!(matches!(event.decode(), Payload::Malformed(_)));
    }
    let other = Event::from_json_lossy(r#"{"kind":"New","x":2}"#);
    assert_ne!(
        other.id(),
        Event::from_json_lossy(r#"{"kind":"New","x":1}"#).id()
    );
    let broken = Event::from_json_lossy(&b"{\"kind\":\"\xff\",\"id\":\"e\"}"[..]);
    assert_eq!((broken.kind(), broken.id()), ("\u{fffd}", "e"));
    let fine = Event::from_json_lossy(r#"{"kind":"PauseEvent","id":"e"}"#);
    assert!(matches!(fine.payload(), Payload::Pause(_)));
}

#[test]
fn the_position_of_the_header_does_not_matter() {
    // First in the server's layout, then with the kind first, which needs the slow path.
    for (members, kind) in [
        (r#""kind":"Message\u0045vent""#, "MessageEvent"),
        (r#""k\u0069nd":"MessageEvent""#, "MessageEvent"),
        (r#""kind":"A","kind":"B""#, "B"),
        (r#""kind":"\ud800""#, "\u{fffd}"),
        (r#""id":"second","parent_id":"p","kind":"A""#, "A"),
    ] {
        let header = r#""id":"first","timestamp":"t","source":"agent""#;
        for raw in [
            format!("{{{header},{members}}}"),
            format!(r#"{{{header},{members},"x":1}}"#),
            format!(r#"{{ {header},"x":1,{members}}}"#),
        ] {
            let event = Event::from_json(raw.clone()).unwrap();
            assert_eq!((event.kind(), event.id()), (kind, "first"), "{raw}");
            assert_eq!(event.source().as_str(), "agent");
            assert_eq!(event.as_json(), raw);
        }
    }
}

#[test]
fn half_of_a_surrogate_pair_costs_one_character() {
    let body = r#","tool_name":"t\ud800","tool_call_id":"c","error":"a\udc00\n\ud83d\ude00""#;
    let event = Event::from_json(laid_out(body, "AgentErrorEvent")).unwrap();
    let Payload::AgentError(error) = event.payload() else {
        panic!("{:?}", event.payload());
    };
    assert_eq!(
        (&*error.tool_name, &*error.error),
        ("t\u{fffd}", "a\u{fffd}\n\u{1f600}")
    );
    let raw = r#"{"kind":"New\udfff","id":"\ud800","timestamp":"t\ud800","x":"\ud800"}"#;
    let event = Event::from_json(raw).unwrap();
    assert_eq!((event.kind(), event.id()), ("New\u{fffd}", "\u{fffd}"));
    assert!(event.malformed().is_none());
}

#[test]
fn a_broken_event_in_a_frame_keeps_its_place_in_the_log() {
    for event in [r#"{"kind":"New"}"#, "null", "7", r#"{"id":"e","kind":7}"#] {
        let raw = format!(r#"{{"type":"durable","seq":3,"event":{event}}}"#);
        let SessionFrame::Durable {
            seq: 3,
            event: read,
        } = SessionFrame::from_json(raw).unwrap()
        else {
            panic!("not durable");
        };
        assert_eq!(read.as_json(), event);
        assert!(read.malformed().is_some());
    }
}

#[test]
fn a_depth_bomb_does_not_overflow_the_stack() {
    let deep = "[".repeat(200_000);
    let raw = format!(r#"{{"kind":"ActionEvent","id":"e","action":{deep}"#);
    refused(raw.clone());
    let frame = format!(r#"{{"type":"durable","seq":0,"event":{raw}"#);
    assert!(SessionFrame::from_json(frame).is_err());
}

#[test]
fn a_huge_string_is_kept_without_a_second_copy_of_it() {
    let raw = bytes::Bytes::from(format!(
        r#"{{"kind":"New","id":"e","text":"{}"}}"#,
        "a".repeat(50 * 1024 * 1024)
    ));
    let event = Event::from_json(raw.clone()).unwrap();
    assert_eq!(event.raw().as_ptr(), raw.as_ptr());
    assert_eq!(event.raw().len(), raw.len());
}

#[test]
fn nulls_in_the_header_lose_no_event() {
    let raw = r#"{"kind":"PauseEvent","id":"e","timestamp":null,"source":null,"parent_id":null}"#;
    let event = Event::from_json(raw).unwrap();
    assert_eq!((event.timestamp(), event.source().as_str()), ("", ""));
    assert_eq!(&event.raw()[..], raw.as_bytes());
}

#[test]
fn a_body_that_does_not_fit_is_malformed_and_keeps_its_bytes() {
    let raw = r#"{"kind":"MessageEvent","id":"e","llm_message":7}"#;
    let event = Event::from_json(raw).unwrap();
    assert!(
        matches!(event.payload(), Payload::Malformed { .. }),
        "{:?}",
        event.payload()
    );
    assert_eq!(&event.raw()[..], raw.as_bytes());
}

/// Returns an event with this body in the server's layout.
fn laid_out(body: &str, kind: &str) -> String {
    format!(
        r#"{{"id":"e","timestamp":"2026-01-02T03:04:05","source":"agent"{body},"kind":"{kind}"}}"#
    )
}

#[test]
fn a_fault_within_a_header_is_reported_with_its_place() {
    let update = "ConversationStateUpdateEvent";
    // The caret marks the position of the error.
    for (body, kind, what) in [
        (
            r#","key":"k","value":{"a":[1,^]}"#,
            update,
            "expected a value",
        ),
        (
            r#","key":"k","value":0^1"#,
            update,
            "expected a comma or the end",
        ),
        (r#","key":"k","value":1.^"#, update, "expected a digit"),
        (r#","key":"k","value":[^}"#, update, "expected a value"),
        (
            r#","key":"k","value":"\^u12x4""#,
            update,
            "invalid escape sequence",
        ),
        (
            r#","summary":"\^ud80""#,
            "CondensationSummaryEvent",
            "invalid escape sequence",
        ),
        (
            ",\"summary\":\"^\t\"",
            "CondensationSummaryEvent",
            "control character in a string",
        ),
        (r#","tool_name":^7"#, "AgentErrorEvent", "expected a string"),
        (r#","new":^tru"#, "BrandNewEvent", "expected a value"),
        // A closing brace is missing, so the last kind belongs to a nested value.
        (
            r#","action":{"a":1,"kind":"X"},"b":{"c":1"#,
            "TerminalAction",
            "unexpected end of input",
        ),
        (
            r#","action":{"command":"ls""#,
            "PauseEvent",
            "unexpected end of input",
        ),
    ] {
        let raw = laid_out(&body.replace('^', ""), kind);
        let at = laid_out(body, kind).find('^').unwrap_or(raw.len());
        let event = Event::from_json(raw.clone()).unwrap();
        let malformed = event.malformed().unwrap_or_else(|| panic!("{raw} reads"));
        assert_eq!(&*malformed.reason, format!("{what} at byte {at}"), "{raw}");
        assert_eq!((event.as_json(), malformed.json.as_str()), (&*raw, &*raw));
    }
}

#[test]
fn numbers_up_to_the_limits_of_their_types_are_decoded() {
    for (number, reads) in [
        ("18446744073709551615", true),
        ("18446744073709551616", false),
        ("100000000000000000000000", false),
        ("0", true),
        ("-0", false),
        ("00", false),
        ("1e3", false),
    ] {
        let body = format!(r#","prompt_token_ids":[{number}],"response_token_ids":[]"#);
        let event = Event::from_json(laid_out(&body, "TokenEvent")).unwrap();
        assert_eq!(event.malformed().is_none(), reads, "{number}");
    }
}

#[test]
fn escaped_names_and_texts_are_decoded() {
    let raw = laid_out(
        r#","tool_n\u0061me":"a\/\"b\\","tool_call_id":"\ud83d\ude00","error":"\n\n""#,
        "AgentErrorEvent",
    );
    let event = Event::from_json(raw).unwrap();
    let Payload::AgentError(error) = event.payload() else {
        panic!("{event:?}");
    };
    assert_eq!(error.tool_name, "a/\"b\\");
    assert_eq!(error.tool_call_id, "\u{1f600}");
    assert_eq!(error.error, "\n\n");

    let raw = r#"{"k\u0069nd":"PauseEvent","\u0069d":"e"}"#;
    assert_eq!(Event::from_json(raw).unwrap().kind(), "PauseEvent");

    let raw = laid_out(
        r#","analyzer":"a","policy":"p","risks":{"b\n":"LOW","a\u0061":"HIGH","b":"n\tw"}"#,
        "SecurityAnalysisEvent",
    );
    let event = Event::from_json(raw).unwrap();
    let Payload::SecurityAnalysis(analysis) = event.payload() else {
        panic!("{event:?}");
    };
    assert_eq!(analysis.risks["b\n"].as_str(), "LOW");
    assert_eq!(analysis.risks["aa"].as_str(), "HIGH");
    assert_eq!(analysis.risks["b"].as_str(), "n\tw");
}

#[test]
fn escaped_texts_are_decoded_after_a_wrong_guess_of_the_kind() {
    // The next kind in the text belongs to a nested value, so the body is decoded twice.
    let body = r#","thought":[{"type":"text","text":"one\n"}],"tool_name":"t\t","tool_call_id":"c",
        "action":{"message":"two\n","data":{"kind":"FinishAction"},"command":"\"three\"",
        "kind":"TerminalAction"},"summary":"fo\u0075r","llm_response_id":"\u00e9\u20ac""#;
    let event = Event::from_json(laid_out(body, "ActionEvent")).unwrap();
    let Payload::Action(call) = event.payload() else {
        panic!("{:?}", event.payload());
    };
    assert_eq!(call.thought[0].text.as_deref(), Some("one\n"));
    assert_eq!(call.tool_name, "t\t");
    let Some(Action::Terminal(action)) = &call.action else {
        panic!("{call:?}");
    };
    assert_eq!(action.command, "\"three\"");
    assert_eq!(call.summary.as_deref(), Some("four"));
    assert_eq!(call.llm_response_id.as_deref(), Some("\u{e9}\u{20ac}"));
    // A text can outlive its event.
    let (command, summary) = (action.command.clone(), call.summary.clone());
    drop(event);
    assert_eq!((&*command, summary.as_deref()), ("\"three\"", Some("four")));
}

#[test]
fn a_state_change_is_decoded_in_any_order_of_members() {
    for body in [
        r#","key":"execution_status","value":"paused""#,
        r#","value":"paused","key":"execution_status""#,
        r#","new":1,"k\u0065y":"execution_st\u0061tus","x":[],"value":"pau\u0073ed""#,
        r#","key":"stats","value":"paused","key":"execution_status""#,
        r#","key":"stats","value":7,"key":"execution_status","value":"paused""#,
    ] {
        let event = Event::from_json(laid_out(body, "ConversationStateUpdateEvent")).unwrap();
        let Payload::ConversationStateUpdate(update) = event.payload() else {
            panic!("{:?}", event.payload());
        };
        assert_eq!(update.key, "execution_status");
        assert_eq!(update.value.as_text().as_deref(), Some("paused"));
        assert_eq!(
            update.change,
            StateChange::ExecutionStatus(ExecutionStatus::Paused),
            "{body}"
        );
        assert!(event.malformed().is_none());
    }
    for (body, flaw) in [
        (r#","value":"paused""#, true),
        (r#","key":7,"value":"paused""#, true),
        (r#","value":[7],"key":"stats""#, true),
        (r#","key":"stats""#, false),
        (r#","key":"brand_new","value":[7]"#, false),
    ] {
        let event = Event::from_json(laid_out(body, "ConversationStateUpdateEvent")).unwrap();
        assert_eq!(event.malformed().is_some(), flaw, "{body}");
    }
}

#[test]
fn a_nested_kind_is_not_the_kind_of_the_body() {
    for (action, kind) in [
        (
            r#"{"data":{"kind":"FinishAction","message":"x"},"kind":"MCPToolAction"}"#,
            "MCPToolAction",
        ),
        (r#"{"data":{"kind":"FinishAction"},"message":"x\n"}"#, ""),
        (
            r#"{"message":"x\n","data":{"kind":"FinishAction"},"kind":"New"}"#,
            "New",
        ),
        (
            r#"{"kind":"FinishAction","message":"x","kind":"ThinkAction","thought":"\n"}"#,
            "ThinkAction",
        ),
        (r#"{"message":"x"}"#, ""),
        (
            r#"{ "kind" : "FinishAction", "message" : "x" }"#,
            "FinishAction",
        ),
    ] {
        let body = format!(r#","tool_name":"t","tool_call_id":"c","action":{action}"#);
        let event = Event::from_json(laid_out(&body, "ActionEvent")).unwrap();
        let Payload::Action(call) = event.payload() else {
            panic!("{:?}", event.payload());
        };
        assert_eq!(
            call.action.as_ref().map(|action| action.kind()),
            Some(kind),
            "{action}"
        );
        assert!(event.malformed().is_none(), "{action}");
    }
}

#[test]
fn a_new_frame_type_may_use_a_known_name_for_another_shape() {
    let raw = r#"{"type":"hologram","seq":"three","event":[1],"attempt":{"x":1}}"#;
    let SessionFrame::Unknown {
        frame_type,
        raw: kept,
    } = SessionFrame::from_json(raw).unwrap()
    else {
        panic!("not unknown");
    };
    assert_eq!(&*frame_type, "hologram");
    assert_eq!(&kept[..], raw.as_bytes());
}

#[test]
fn an_optional_field_that_cannot_be_decoded_costs_only_itself() {
    let body = r#","thought":[{"type":"text","text":7}],"tool_name":"terminal","tool_call_id":"c","action":
        {"command":"rm -rf /","is_input":"yes","kind":"TerminalAction"},"critic_result":{"score":null},
        "security_risk":3,"summary":"s""#;
    let event = Event::from_json(laid_out(body, "ActionEvent")).unwrap();
    let Payload::Action(call) = event.payload() else {
        panic!("{:?}", event.payload());
    };
    let Some(Action::Terminal(action)) = &call.action else {
        panic!("{call:?}");
    };
    assert_eq!(action.command, "rm -rf /");
    assert_eq!(
        (call.summary.as_deref(), call.critic_result.is_none()),
        (Some("s"), true)
    );
    let names = ["`text`", "`is_input`", "`critic_result`", "`security_risk`"];
    assert_eq!(event.flaws().len(), names.len(), "{:?}", event.flaws());
    for (flaw, name) in event.flaws().iter().zip(names) {
        assert!(flaw.reason.contains(name), "{flaw}");
        assert_eq!(flaw.kind, "ActionEvent");
    }
    assert_eq!(event.flaws()[2].json.as_str(), r#"{"score":null}"#);
    assert_eq!(event.malformed(), event.flaws().first());
    // A value that is not valid JSON cannot be skipped.
    let event = Event::from_json(laid_out(
        r#","tool_name":"t","tool_call_id":"c","summary":[1,]"#,
        "ActionEvent",
    ));
    assert!(matches!(event.unwrap().payload(), Payload::Malformed(_)));
}

#[test]
fn a_wrong_guess_of_a_kind_lists_no_flaw() {
    // The next kind in the text belongs to a nested value that has fields with the same names.
    let body = r#","tool_name":"t","tool_call_id":"c","action":{"message":["x"],
        "data":{"kind":"FinishAction"},"kind":"MCPToolAction"}"#;
    let event = Event::from_json(laid_out(body, "ActionEvent")).unwrap();
    assert!(
        event
            .flaws()
            .iter()
            .all(|flaw| !flaw.reason.contains("`message`")),
        "{:?}",
        event.flaws()
    );
}

#[test]
fn negative_counts_cost_no_event() {
    let stats = r#","key":"stats","value":{"usage_to_metrics":{"a":{"accumulated_cost":0.5,
        "accumulated_token_usage":{"prompt_tokens":-1,"completion_tokens":2}}}}"#;
    let event = Event::from_json(laid_out(stats, "ConversationStateUpdateEvent")).unwrap();
    let Payload::ConversationStateUpdate(update) = event.payload() else {
        panic!("{:?}", event.payload());
    };
    let StateChange::Stats(stats) = &update.change else {
        panic!("{update:?}");
    };
    let sum = stats.combined();
    assert_eq!((sum.prompt_tokens(), sum.completion_tokens()), (0, 2));
    assert_eq!(event.flaws().len(), 1);
    let tokens = r#","prompt_token_ids":[1,-2],"response_token_ids":[3]"#;
    let event = Event::from_json(laid_out(tokens, "TokenEvent")).unwrap();
    let Payload::Token(tokens) = event.payload() else {
        panic!("{:?}", event.payload());
    };
    assert_eq!(
        (&*tokens.prompt_token_ids, &*tokens.response_token_ids),
        (&[][..], &[3][..])
    );
    assert!(event.malformed().is_some());
}
