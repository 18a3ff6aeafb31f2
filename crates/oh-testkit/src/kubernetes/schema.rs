//! The fields that the published schema of a claim has, and their types.

use serde_json::Value;

use crate::kubernetes::refusal::Refusal;

/// The type of a field in the schema.
#[derive(Debug, Clone, Copy)]
enum Type {
    Text,
    Time,
    Integer,
    Flag,
    /// A text of this list.
    OneOf(&'static [&'static str]),
    /// A map from text to text.
    Map,
    Object(&'static [Field]),
    List(&'static [Field]),
}

/// A field: its name, whether it is required, and its type.
type Field = (&'static str, bool, Type);

/// `spec` of a `SandboxClaim` (`extensions.agents.x-k8s.io/v1beta1`).
const CLAIM: &[Field] = &[
    (
        "warmPoolRef",
        true,
        Type::Object(&[("name", true, Type::Text)]),
    ),
    (
        "lifecycle",
        false,
        Type::Object(&[
            ("shutdownTime", false, Type::Time),
            ("ttlSecondsAfterFinished", false, Type::Integer),
            (
                "shutdownPolicy",
                false,
                Type::OneOf(&["Delete", "DeleteForeground", "Retain"]),
            ),
        ]),
    ),
    (
        "additionalPodMetadata",
        false,
        Type::Object(&[
            ("labels", false, Type::Map),
            ("annotations", false, Type::Map),
        ]),
    ),
    (
        "safeToEvict",
        false,
        Type::OneOf(&["on-completion", "true", "false"]),
    ),
    (
        "env",
        false,
        Type::List(&[
            ("name", true, Type::Text),
            ("value", true, Type::Text),
            ("containerName", false, Type::Text),
        ]),
    ),
];

/// The fields of `spec` of a `Sandbox` (`agents.x-k8s.io/v1beta1`) that a client may change.
const SANDBOX: &[Field] = &[
    (
        "operatingMode",
        false,
        Type::OneOf(&["Running", "Suspended"]),
    ),
    ("shutdownTime", false, Type::Time),
    ("shutdownPolicy", false, Type::OneOf(&["Delete", "Retain"])),
    ("service", false, Type::Flag),
];

/// Checks a sandbox as [`check_claim`] checks a claim.
pub(crate) fn check_sandbox(sandbox: &Value) -> Result<(), Refusal> {
    fields("spec", &sandbox["spec"], SANDBOX)
}

/// Checks a claim. Unknown fields are rejected, as with strict field validation.
pub(crate) fn check_claim(claim: &Value) -> Result<(), Refusal> {
    fields("spec", &claim["spec"], CLAIM)
}

fn invalid(path: &str, why: &str) -> Refusal {
    let message = format!("the object is invalid: {path}: {why}");
    Refusal::new(422, "Invalid", message)
}

fn fields(path: &str, value: &Value, known: &[Field]) -> Result<(), Refusal> {
    let Value::Object(found) = value else {
        return Err(invalid(path, "must be of type object"));
    };
    for name in found.keys() {
        if !known.iter().any(|(other, ..)| other == name) {
            return Err(invalid(&format!("{path}.{name}"), "unknown field"));
        }
    }
    for (name, required, kind) in known {
        let path = format!("{path}.{name}");
        match found.get(*name) {
            Some(value) => check(&path, value, *kind)?,
            None if *required => return Err(invalid(&path, "Required value")),
            None => {}
        }
    }
    Ok(())
}

fn check(path: &str, value: &Value, kind: Type) -> Result<(), Refusal> {
    let is_valid = match kind {
        Type::Text => value.is_string(),
        Type::Flag => value.is_boolean(),
        Type::Integer => value.as_u64().is_some(),
        Type::Time => {
            let time = value.as_str().map(str::parse::<jiff::Timestamp>);
            matches!(time, Some(Ok(_)))
        }
        Type::OneOf(all) => value.as_str().is_some_and(|text| all.contains(&text)),
        Type::Map => {
            let fields = value.as_object();
            fields.is_some_and(|fields| fields.values().all(Value::is_string))
        }
        Type::Object(known) => return fields(path, value, known),
        Type::List(known) => {
            let items = value.as_array().map(Vec::as_slice);
            let items = items.ok_or_else(|| invalid(path, "must be of type array"))?;
            return items.iter().try_for_each(|item| fields(path, item, known));
        }
    };
    match is_valid {
        true => Ok(()),
        false => Err(invalid(path, "Invalid value")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_with_unknown_missing_and_wrong_fields_are_rejected() {
        let pool = json!({"name": "agents"});
        check_claim(&json!({"spec": {"warmPoolRef": pool}})).unwrap();
        for (spec, part) in [
            (json!({}), "warmPoolRef: Required"),
            (json!({"warmPoolRef": {}}), "warmPoolRef.name: Required"),
            (
                json!({"warmPoolRef": pool, "pool": 1}),
                "spec.pool: unknown",
            ),
            (
                json!({"warmPoolRef": pool, "lifecycle": {"shutdownTime": "soon"}}),
                "shutdownTime: Invalid",
            ),
            (
                json!({"warmPoolRef": pool, "lifecycle": {"shutdownPolicy": "Keep"}}),
                "shutdownPolicy: Invalid",
            ),
        ] {
            let refusal = check_claim(&json!({"spec": spec})).unwrap_err();
            assert!(refusal.message.contains(part), "{}", refusal.message);
        }
        check_sandbox(&json!({"spec": {"operatingMode": "Suspended"}})).unwrap();
        let refusal = check_sandbox(&json!({"spec": {"operatingMode": "Paused"}})).unwrap_err();
        assert!(refusal.message.contains("operatingMode"), "{refusal:?}");
    }
}
