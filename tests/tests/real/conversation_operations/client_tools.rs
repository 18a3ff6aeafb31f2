//! Tools that the agent calls and this program runs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use openhands::{
    Client, Conversation, LocalServer, RunStatus, WorkspaceExt,
    conversation::{ClientTool, ClientToolCall, ErrorKind},
    testkit::{Gate, Proxy, Script, Step},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{LONG, agent, finishes, llm, messages, model, workspace};

fn schema() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
}

/// Returns a tool that records each call, waits for a while, and answers.
fn weather(calls: &Arc<Mutex<Vec<String>>>, takes: Duration) -> ClientTool {
    let calls = calls.clone();
    ClientTool::new(
        "weather",
        "Returns the weather of a city.",
        move |call: ClientToolCall| {
            let calls = calls.clone();
            async move {
                calls.lock().unwrap().push(call.id().to_owned());
                let arguments: BTreeMap<String, String> = call.arguments()?;
                sleep(takes).await;
                Ok(format!("Rain in {}.", arguments["city"]))
            }
        },
    )
    .parameters(schema())
}

fn ask(city: &str) -> Step {
    Step::call("weather", json!({"city": city, "summary": "asks"}))
}

pub(super) async fn results_reach_the_agent_and_the_run_waits_for_them(server: &LocalServer) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let reported = Arc::new(Mutex::new(0));
    let count = reported.clone();
    let script = Script::new()
        .step(
            ask("Bonn")
                .and_call("weather", json!({"city": "Kiel"}))
                .and_call("wave", json!({})),
        )
        // The server has already answered the calls with a placeholder.
        .step(Step::text("I have asked.").expect("dispatched to client"))
        // One more run handles the results. The second result is in the same request or the next
        // one.
        .forever(|s| s.text("Rain, then."));
    let model = model(script).await;
    let conversation = Conversation::builder(&workspace(server), agent(&model))
        .client_tool(weather(&calls, Duration::from_secs(2)))
        .client_tool(ClientTool::new("wave", "Waves.", move |_| {
            *count.lock().unwrap() += 1;
            async { Ok(()) }
        }))
        .start()
        .await
        .unwrap();
    conversation.send("What is the weather?").await.unwrap();
    finishes(&conversation).await;
    assert_eq!(calls.lock().unwrap().len(), 2);
    assert_eq!(*reported.lock().unwrap(), 1);
    let said = messages(&conversation.events());
    let results: Vec<_> = said
        .iter()
        .filter(|text| text.contains("Result of the client"))
        .collect();
    assert_eq!(
        results.len(),
        2,
        "the one that says nothing sends nothing: {said:#?}"
    );
    assert!(results.iter().any(|text| text.ends_with("\nRain in Bonn.")));
    assert!(results.iter().any(|text| text.ends_with("\nRain in Kiel.")));
    assert_eq!(
        conversation.agent().final_response().await.unwrap(),
        "Rain, then."
    );
    let asked = model.requests();
    let last = asked.last().unwrap();
    assert!(last.contains("Rain in Bonn.") && last.contains("Rain in Kiel."));

    conversation.delete().await.unwrap();
}

/// Servers before 1.45 end the run then, without another request to the model.
pub(super) async fn a_result_that_arrives_while_the_model_is_asked(server: &LocalServer) {
    let (asked, answered) = (Gate::new(), Arc::new(Notify::new()));
    let script = Script::new()
        .step(Step::call("ask_me", json!({})))
        .step(Step::text("I have asked.").hold(&asked))
        .forever(|s| s.text("Known."));
    let model = model(script).await;
    let answer = answered.clone();
    let tool = ClientTool::new("ask_me", "Asks the user.", move |_| {
        let answer = answer.clone();
        async move {
            answer.notified().await;
            Ok("An answer.")
        }
    });
    let conversation = Conversation::builder(&workspace(server), agent(&model))
        .client_tool(tool)
        .start()
        .await
        .unwrap();
    conversation.send("Ask me.").await.unwrap();
    let running = tokio::spawn(conversation.run().into_future());
    timeout(LONG, asked.arrived(1)).await.unwrap();
    answered.notify_one();
    let logged = async {
        while !messages(&conversation.events())
            .iter()
            .any(|text| text.ends_with("\nAn answer."))
        {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, logged).await.unwrap();
    asked.open();
    let outcome = timeout(LONG, running).await.unwrap().unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    assert!(model.requests().last().unwrap().contains("An answer."));
    conversation.delete().await.unwrap();
}

pub(super) async fn a_call_is_executed_once_by_any_number_of_handles(server: &LocalServer) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    // A result may be read by the current run or start another, so the number of answers varies.
    let asks = |city: &str| Script::new().step(ask(city)).forever(|s| s.text("Known."));
    let (model, other) = (model(asks("Bonn")).await, model(asks("Kiel")).await);
    let conversation = Conversation::builder(&workspace(server), agent(&model))
        .client_tool(weather(&calls, Duration::ZERO))
        .start()
        .await
        .unwrap();
    let id = conversation.id();
    let attach =
        || Conversation::attach(server.client(), id).client_tool(weather(&calls, Duration::ZERO));
    let second = attach().await.unwrap();
    conversation.send("Bonn?").await.unwrap();
    finishes(&conversation).await;
    assert_eq!(calls.lock().unwrap().len(), 1, "two handles, one call");
    conversation.close().await.unwrap();
    second.close().await.unwrap();

    // A call while no handle with tools is attached is run by the next handle that attaches.
    let bare = Conversation::attach(server.client(), id).await.unwrap();
    bare.settings().switch_llm(llm(&other)).await.unwrap();
    bare.send("Kiel?").await.unwrap();
    finishes(&bare).await;
    bare.close().await.unwrap();
    let third = attach().await.unwrap();
    let known = async {
        while !messages(&third.events())
            .iter()
            .any(|text| text.ends_with("\nRain in Kiel."))
        {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, known).await.unwrap();
    finishes(&third).await;
    let calls = calls.lock().unwrap().clone();
    assert_eq!(calls.len(), 2);
    let logged: Vec<_> = third
        .events()
        .of_kind("ActionEvent")
        .filter(|event| event.as_json().contains("ClientAction_weather"))
        .map(|event| event.id().to_owned())
        .collect();
    assert_eq!(calls, logged, "each of the log once, in its order");
    third.delete().await.unwrap();
}

pub(super) async fn what_was_cut_off_is_taken_up_when_asked(server: &LocalServer) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let script = Script::new()
        .step(ask("Ulm"))
        .text("Asked.")
        .forever(|s| s.text("Known."));
    let model = model(script).await;
    let conversation = Conversation::builder(&workspace(server), agent(&model))
        .client_tool(weather(&calls, Duration::from_secs(3600)))
        .start()
        .await
        .unwrap();
    let id = conversation.id();
    conversation.send("Ulm?").await.unwrap();
    let ended = conversation
        .run()
        .timeout(Duration::from_secs(20))
        .await
        .unwrap();
    let working = RunStatus::StillRunning;
    assert_eq!(ended.status(), working, "the tool is still at work");
    conversation.close().await.unwrap();
    let attach =
        || Conversation::attach(server.client(), id).client_tool(weather(&calls, Duration::ZERO));
    let unasked = attach().await.unwrap();
    finishes(&unasked).await;
    assert_eq!(calls.lock().unwrap().len(), 1);
    unasked.close().await.unwrap();
    let asked = attach().resume_client_tools().await.unwrap();
    let known = async {
        while !messages(&asked.events())
            .iter()
            .any(|text| text.ends_with("\nRain in Ulm."))
        {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, known).await.unwrap();
    finishes(&asked).await;
    assert_eq!(calls.lock().unwrap().len(), 2);
    asked.delete().await.unwrap();
}

pub(super) async fn each_call_is_carried_out_once_over_a_link_that_breaks(server: &LocalServer) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let mut script = Script::new();
    for city in ["Bonn", "Kiel", "Ulm", "Jena", "Trier"] {
        script = script
            .step(ask(city))
            .call("terminal", json!({"command": "sleep 1"}));
    }
    let model = model(script.forever(|s| s.text("Known."))).await;
    let proxy = Proxy::start(server.address()).await.unwrap();
    let flaky = Client::builder(proxy.url())
        .session_api_key(server.session_api_key().clone())
        .build()
        .unwrap();
    let directory = server.workspace_dir().display().to_string();
    let conversation = Conversation::builder(&flaky.workspace(directory), agent(&model))
        .client_tool(weather(&calls, Duration::from_millis(300)))
        .start()
        .await
        .unwrap();
    conversation.send("How is it everywhere?").await.unwrap();
    let cutter = async {
        loop {
            sleep(Duration::from_millis(400)).await;
            proxy.cut();
        }
    };
    tokio::select! {
        () = finishes(&conversation) => {}
        () = cutter => {}
    }
    let logged: Vec<_> = conversation
        .events()
        .of_kind("ActionEvent")
        .filter(|event| event.as_json().contains("ClientAction_weather"))
        .map(|event| event.id().to_owned())
        .collect();
    assert_eq!(logged.len(), 5);
    assert_eq!(*calls.lock().unwrap(), logged);
    for action in &logged {
        let said = messages(&conversation.events());
        let results = said.iter().filter(|text| text.contains(action.as_str()));
        assert_eq!(results.count(), 1, "{said:#?}");
    }
    assert!(proxy.accepted() > 5, "the proxy should have cut");
    conversation.delete().await.unwrap();
}

pub(super) async fn a_name_has_one_schema_on_a_server(server: &LocalServer) {
    let model = model(Script::new()).await;
    let other = ClientTool::new("weather", "Another.", |_| async { Ok(()) });
    let error = Conversation::builder(&workspace(server), agent(&model))
        .client_tool(other)
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation, "{error:?}");
    let detail = error
        .transport_error()
        .unwrap()
        .detail()
        .unwrap()
        .to_owned();
    assert!(detail.contains("weather"), "{detail}");
    // The name of a server tool that the agent does not have.
    let taken = ClientTool::new("glob", "Another.", |_| async { Ok(()) });
    let error = Conversation::builder(&workspace(server), agent(&model))
        .client_tool(taken)
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation, "{error:?}");
}

/// The arguments of a deployment.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
struct Deploy {
    /// The branch to deploy.
    branch: String,
    #[serde(default)]
    instances: u8,
    kind: Option<Kind>,
    #[serde(default)]
    steps: Vec<Stage>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Test,
    Live,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
struct Stage {
    name: String,
    weight: Option<f32>,
}

pub(super) async fn typed_arguments_arrive_and_invalid_ones_are_corrected(server: &LocalServer) {
    let script = Script::new()
        .step(Step::call(
            "deploy",
            json!({"branch": "main", "kind": "lve"}),
        ))
        .step(
            Step::call(
                "deploy",
                json!({"branch": "main", "kind": "live", "steps": [{"name": "a", "weight": 0.5},
                    {"name": "b"}], "summary": "deploys"}),
            )
            .check(|request| {
                let tools = request.body()["tools"].to_string();
                let described = tools.contains("The branch to deploy.");
                described.then_some(()).ok_or(tools)
            }),
        )
        .forever(|s| s.text("Done."));
    let model = model(script).await;
    let calls = Arc::new(Mutex::new(Vec::new()));
    let handled = calls.clone();
    let tool = ClientTool::typed::<Deploy>("deploy", "Deploys.", move |deploy, call| {
        let given = (call.json(), deploy.clone());
        handled.lock().unwrap().push(given);
        async move { Ok(format!("{} is on its way", deploy.branch)) }
    });
    let conversation = Conversation::builder(&workspace(server), agent(&model))
        .client_tool(tool)
        .start()
        .await
        .unwrap();
    conversation.send("Deploy.").await.unwrap();
    finishes(&conversation).await;
    let calls = calls.lock().unwrap().clone();
    let [(json, deploy)] = &calls[..] else {
        panic!("{calls:#?}");
    };
    assert_eq!(json["kind"], "live", "the argument, not the server's field");
    let step = |name: &str, weight| Stage {
        name: name.to_owned(),
        weight,
    };
    let expected = Deploy {
        branch: "main".to_owned(),
        instances: 0,
        kind: Some(Kind::Live),
        steps: vec![step("a", Some(0.5)), step("b", None)],
    };
    assert_eq!(*deploy, expected);
    let said = messages(&conversation.events());
    for words in [
        "\nIt failed: invalid arguments: kind: unknown variant `lve`, expected `test` or `live`",
        "\nmain is on its way",
    ] {
        let with_words = |text: &&String| text.contains(words);
        assert_eq!(
            said.iter().filter(with_words).count(),
            1,
            "{words}: {said:#?}"
        );
    }
    assert_eq!(conversation.events().of_kind("AgentErrorEvent").count(), 0);
    conversation.delete().await.unwrap();
}
