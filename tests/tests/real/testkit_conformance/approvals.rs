//! Approvals: which actions a policy asks about, and which requests count as an answer. Played on
//! both servers.

use openhands::testkit::{Gate, Script, Step};
use serde_json::{Value, json};

use super::side::{Side, story};

fn terminal(arguments: Value) -> Step {
    Step::call("terminal", arguments)
}

fn thought() -> Value {
    json!({"thought": "hm"})
}

/// Returns the model's script for [`by_risk`].
pub(crate) fn risky_calls() -> Script {
    let risk = |risk: &str| json!({"command": "true", "security_risk": risk});
    Script::new()
        .call("terminal", json!({"command": "true"}))
        .finish("Without an analyzer.")
        .step(terminal(risk("LOW")))
        .step(terminal(json!({"command": "true"})))
        .step(terminal(risk("MEDIUM")))
        .step(terminal(risk("LOW")).and_call("terminal", risk("HIGH")))
        .step(terminal(risk("EXTREME")))
        .step(Step::call("think", thought()).and_call("think", thought()))
        .step(
            Step::call("think", json!({"thought": "hm", "security_risk": "HIGH"}))
                .and_call("terminal", risk("LOW")),
        )
        .finish("With one.")
        .step(Step::call("think", thought()).and_call("think", thought()))
        .finish("Always.")
}

/// Checks what `ConfirmRisky` and `AlwaysConfirm` ask about, with and without a security analyzer.
pub(crate) async fn by_risk(side: &mut Side) {
    // Without an analyzer every risk is unknown, and by default the policy asks about unknown
    // risks.
    let policy = json!({"kind": "ConfirmRisky"});
    let id = side.create(json!({"confirmation_policy": policy})).await;
    side.say(&id, "do it", true).await;
    side.until(&id, "waiting_for_confirmation").await;
    side.check("POST", &format!("/api/conversations/{id}/run"), Value::Null)
        .await;
    side.until(&id, "finished").await;
    reported(side, &id).await;

    let policy = json!({"kind": "ConfirmRisky", "threshold": "MEDIUM", "confirm_unknown": false});
    let analyzer = json!({"kind": "LLMSecurityAnalyzer"});
    let id = side
        .create(json!({"confirmation_policy": policy, "security_analyzer": analyzer}))
        .await;
    let answer = format!("/api/conversations/{id}/events/respond_to_confirmation");
    side.say(&id, "do it", true).await;
    side.until(&id, "waiting_for_confirmation").await;
    side.check("POST", &answer, json!({"accept": true})).await;
    side.logged(&id, "ActionEvent", 5).await;
    side.until(&id, "waiting_for_confirmation").await;
    side.check("POST", &answer, json!({"accept": false, "reason": "no"}))
        .await;
    side.check("POST", &format!("/api/conversations/{id}/run"), Value::Null)
        .await;
    side.until(&id, "finished").await;
    reported(side, &id).await;

    // A single thought needs no approval, but two together do.
    let policy = json!({"kind": "AlwaysConfirm"});
    let id = side.create(json!({"confirmation_policy": policy})).await;
    side.say(&id, "do it", true).await;
    side.until(&id, "waiting_for_confirmation").await;
    side.say(&id, "and now", true).await;
    side.until(&id, "finished").await;
    reported(side, &id).await;

    let path = format!("/api/conversations/{id}/confirmation_policy");
    for policy in [
        json!({"kind": "ConfirmRisky", "threshold": "LOW"}),
        json!({"kind": "ConfirmRisky", "confirm_unknown": false}),
        json!({"kind": "ConfirmRisky", "threshold": "UNKNOWN"}),
        json!({"kind": "ConfirmRisky", "threshold": "EXTREME"}),
    ] {
        let (status, _) = side.ask("POST", &path, json!({"policy": policy})).await;
        let (_, info) = side
            .ask("GET", &format!("/api/conversations/{id}"), Value::Null)
            .await;
        side.note(format!("{policy} {status} {}", info["confirmation_policy"]));
    }
    let body = json!({
        "workspace": {"working_dir": side.work},
        "agent": {"kind": "Agent", "llm": side.llm, "tools": []},
        "confirmation_policy": {"kind": "ConfirmRisky", "threshold": "UNKNOWN"},
    });
    let (status, _) = side.ask("POST", "/api/conversations", body).await;
    side.note(format!("created {status}"));
}

/// Returns the model's script for [`races`]. Its requests wait at the gate while other things
/// happen.
pub(crate) fn raced_calls(asked: &Gate) -> Script {
    let call = || terminal(json!({"command": "true"}));
    Script::new()
        .step(terminal(json!({"command": "sleep 4"})))
        .step(call())
        .finish("Approved by a message.")
        .step(call())
        .finish("Approved too late.")
        .step(call().hold(asked))
        .finish("Superseded.")
        .step(call().hold(asked))
        .finish("Approved by a run after a pause.")
}

/// Checks two clients that answer, messages in between, and other requests that count as approvals.
pub(crate) async fn races(side: &mut Side) {
    let policy = json!({"confirmation_policy": {"kind": "AlwaysConfirm"}});
    let (yes, no) = (
        json!({"accept": true}),
        json!({"accept": false, "reason": "no"}),
    );

    // Both clients answer while the tool is running: the second is late in each way.
    let id = side.create(policy.clone()).await;
    let path = format!("/api/conversations/{id}");
    let answer = format!("{path}/events/respond_to_confirmation");
    side.say(&id, "do it", true).await;
    side.until(&id, "waiting_for_confirmation").await;
    side.check("POST", &answer, yes.clone()).await;
    side.logged_key(&id, "execution_status", 3).await;
    side.check("POST", &answer, yes.clone()).await;
    side.check("POST", &format!("{path}/run"), Value::Null)
        .await;
    // This answer waits for the end of the tool, and then rejects an action that was already
    // executed.
    side.check("POST", &answer, no.clone()).await;
    side.until(&id, "waiting_for_confirmation").await;
    // A message without a run approves nothing; a message with a run does.
    side.say(&id, "wait", false).await;
    let (_, info) = side.ask("GET", &path, Value::Null).await;
    side.note(info["execution_status"].to_string());
    side.say(&id, "go on", true).await;
    side.until(&id, "finished").await;
    reported(side, &id).await;

    // One client rejects. The other approves the action that is gone, which starts a run.
    let id = side.create(policy.clone()).await;
    let path = format!("/api/conversations/{id}");
    let answer = format!("{path}/events/respond_to_confirmation");
    side.say(&id, "do it", true).await;
    side.until(&id, "waiting_for_confirmation").await;
    side.check("POST", &answer, no.clone()).await;
    side.check("POST", &answer, yes.clone()).await;
    side.until(&id, "finished").await;
    side.check("POST", &answer, no).await;
    side.check("POST", &answer, yes).await;
    side.settled(&id).await;
    reported(side, &id).await;

    // A message that arrives during a model request takes precedence over the requested action.
    let id = side.create(policy.clone()).await;
    side.say(&id, "do it", true).await;
    side.asked.arrived(1).await;
    side.say(&id, "rather not", true).await;
    side.asked.let_one_pass();
    side.until(&id, "finished").await;
    reported(side, &id).await;

    // A run that is paused during a model request still waits for approval. Another run approves.
    let id = side.create(policy).await;
    let path = format!("/api/conversations/{id}");
    side.say(&id, "do it", true).await;
    side.asked.arrived(2).await;
    side.check("POST", &format!("{path}/pause"), Value::Null)
        .await;
    side.check("POST", &format!("{path}/run"), Value::Null)
        .await;
    side.asked.let_one_pass();
    side.until(&id, "waiting_for_confirmation").await;
    side.settled(&id).await;
    side.check("POST", &format!("{path}/run"), Value::Null)
        .await;
    side.until(&id, "finished").await;
    reported(side, &id).await;
}

/// Records the log, including each verdict of an analyzer.
async fn reported(side: &mut Side, id: &str) {
    side.settled(id).await;
    let log = side.log(id).await;
    side.note(story(&log).join("\n"));
    let place = |id: &str| log.iter().position(|event| event["id"] == id).unwrap();
    for event in &log {
        match event["kind"].as_str().unwrap() {
            "ActionEvent" => {
                let arguments = event["tool_call"]["arguments"].as_str().unwrap();
                let arguments: Value = serde_json::from_str(arguments).unwrap();
                let (tool, risk) = (&event["tool_name"], &event["security_risk"]);
                side.note(format!("{tool} {risk} {arguments}"));
            }
            "SecurityAnalysisEvent" => {
                let risks = event["risks"].as_object().unwrap();
                let mut risks: Vec<_> = risks.iter().map(|(id, r)| (place(id), r)).collect();
                risks.sort_by_key(|(place, _)| *place);
                let risks: Vec<_> = risks.into_iter().map(|(_, risk)| risk).collect();
                side.note(format!(
                    "{} {} {risks:?} {}",
                    event["analyzer"], event["policy"], event["details"]
                ));
            }
            "UserRejectObservation" => side.note(format!(
                "{} {}",
                event["rejection_reason"], event["rejection_source"]
            )),
            _ => {}
        }
    }
}
