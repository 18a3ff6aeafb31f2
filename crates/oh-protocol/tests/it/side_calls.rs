//! Calls besides those of conversations: readiness, catalogs, skills and stored settings.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use oh_protocol::{
    Answer, Call,
    calls::{
        profiles, server, settings,
        skills::{Catalog, Marketplace, SyncSkills},
        tools,
    },
};
use serde_json::{Value, json};

/// Returns the method and the target of a request without a body.
fn asks(call: &impl Call) -> String {
    let request = call.request().unwrap();
    assert!(request.body.is_none());
    assert_eq!(
        request.target.split('?').next(),
        Some(call.operation().route)
    );
    format!("{} {}", request.method, request.target)
}

fn answered<C: Call>(call: &C, body: &Value) -> oh_protocol::Result<C::Output> {
    let body = Bytes::from(body.to_string());
    call.decode(Answer::new(StatusCode::OK, HeaderMap::new(), body))
}

#[test]
fn each_call_has_its_method_and_target() {
    for (asked, expected) in [
        (asks(&server::Ready::default()), "GET /ready"),
        (
            asks(&tools::GetCatalog::default()),
            "GET /api/tools/catalog",
        ),
        (asks(&Catalog::default()), "GET /api/skills/catalog"),
        (asks(&Marketplace::default()), "GET /api/skills/marketplace"),
        (asks(&SyncSkills::default()), "POST /api/skills/sync"),
        (
            asks(&settings::ListSecrets::new().agent_profile("a&b c")),
            "GET /api/settings/secrets?agent_profile_id=a%26b+c",
        ),
        (
            asks(&settings::ListSecrets::new()),
            "GET /api/settings/secrets",
        ),
    ] {
        assert_eq!(asked, expected);
    }
}

#[test]
fn secrets_of_settings_are_requested_in_one_of_three_ways() {
    for (expose, header) in [
        (settings::Expose::Masked, None),
        (settings::Expose::Encrypted, Some("encrypted")),
        (settings::Expose::Plain, Some("plaintext")),
    ] {
        for request in [
            settings::GetSettings::new(expose).request().unwrap(),
            profiles::GetProfile::new("p", expose).request().unwrap(),
        ] {
            let sent = request.headers.get("x-expose-secrets");
            assert_eq!(sent.map(|value| value.to_str().unwrap()), header);
        }
    }
}

#[test]
fn responses_with_unknown_fields_are_accepted_and_invalid_ones_rejected() {
    let skills = json!({"skills": [{"name": "a", "new": 1}], "new": 1});
    let catalog = answered(&Catalog::default(), &skills).unwrap();
    assert_eq!(catalog[0].skill.name, "a");
    let market = answered(&Marketplace::default(), &skills).unwrap();
    assert_eq!((&*market[0].name, market[0].installed), ("a", false));
    answered(&server::Ready::default(), &json!({"status": "ready"})).unwrap();
    for wrong in [json!({}), json!({"skills": 1}), json!([])] {
        answered(&Catalog::default(), &wrong).unwrap_err();
        answered(&Marketplace::default(), &wrong).unwrap_err();
    }
    answered(&SyncSkills::default(), &json!([])).unwrap_err();
}
