//! Lists of conversations, forks, positions in the log and children. Played on both servers.

use serde_json::{Value, json};

use super::side::{Side, story};

const GHOST: &str = "00000000-0000-4000-8000-000000000000";

impl Side {
    /// Records the order of these conversations in a list, read page by page.
    async fn listed(&mut self, query: &str, ids: &[String]) {
        let mut order = Vec::new();
        let mut page_id = String::new();
        loop {
            let target = format!("/api/conversations/search?limit=3{query}{page_id}");
            let (status, page) = self.ask("GET", &target, Value::Null).await;
            assert_eq!(status, 200, "{page}");
            for item in page["items"].as_array().unwrap() {
                order.extend(ids.iter().position(|id| item["id"] == **id));
            }
            match page["next_page_id"].as_str() {
                Some(next) => page_id = format!("&page_id={next}"),
                None => break,
            }
        }
        self.note(format!("search {query} {order:?}"));
    }
}

pub(crate) async fn listing(side: &mut Side) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(side.create(Value::Null).await);
    }
    // The conversation updated last leads the list sorted by update time.
    let touch = json!({"title": "  Touched  "});
    side.check("PATCH", &format!("/api/conversations/{}", ids[1]), touch)
        .await;
    for query in [
        "",
        "&sort_order=CREATED_AT",
        "&sort_order=UPDATED_AT_DESC&status=idle",
        "&status=running",
        "&page_id=unknown",
    ] {
        side.listed(query, &ids).await;
    }
    for rest in [
        "search?status=x",
        "search?sort_order=x",
        "search?limit=0",
        "search?limit=101",
        "count?status=x",
        "count?status=stuck",
    ] {
        side.check("GET", &format!("/api/conversations/{rest}"), Value::Null)
            .await;
    }
    let target = format!(
        "/api/conversations?ids={}&ids={GHOST}&ids={}",
        ids[2], ids[0]
    );
    let (status, batch) = side.ask("GET", &target, Value::Null).await;
    let places = batch.as_array().unwrap().iter();
    let places: Vec<_> = places
        .map(|info| ids.iter().position(|id| info["id"] == **id))
        .collect();
    side.note(format!("batch {status} {places:?}"));
    let many = vec![format!("ids={GHOST}"); 100].join("&");
    for query in ["", "?ids=x", &format!("?{many}")] {
        let target = format!("/api/conversations{query}");
        let (status, answer) = side.ask("GET", &target, Value::Null).await;
        let problem = &answer["detail"][0];
        side.note(format!(
            "batch {status} {} {}",
            problem["type"], problem["loc"]
        ));
    }
    let path = format!("/api/conversations/{}", ids[0]);
    for body in [
        json!({"title": ""}),
        json!({"title": "   "}),
        json!({"title": "x".repeat(201)}),
        json!({"tags": {"Upper": "x"}}),
        json!({"tags": {"a-b": "x"}}),
        json!({"tags": {"a": "x".repeat(257)}}),
        json!({}),
        json!({"title": null}),
    ] {
        side.check("PATCH", &path, body).await;
    }
    side.check("GET", &format!("{path}/runtime"), Value::Null)
        .await;
    side.check(
        "GET",
        &format!("/api/conversations/{GHOST}/runtime"),
        Value::Null,
    )
    .await;
    let orphan = json!({
        "workspace": {"working_dir": side.work}, "agent": {"llm": side.llm},
        "parent_conversation_id": GHOST,
    });
    let (status, _) = side.ask("POST", "/api/conversations", orphan).await;
    side.note(format!("orphan {status}"));
    let named = json!({
        "workspace": {"working_dir": side.work}, "agent": {"llm": side.llm}, "tags": {"A": "x"},
    });
    side.check("POST", "/api/conversations", named).await;
}

pub(crate) async fn forks(side: &mut Side) {
    let policy = json!({"kind": "NeverConfirm"});
    let id = side
        .create(json!({"tags": {"a": "b"}, "confirmation_policy": policy}))
        .await;
    let path = format!("/api/conversations/{id}");
    side.say(&id, "go", true).await;
    side.until(&id, "finished").await;
    let set = json!({"policy": {"kind": "AlwaysConfirm"}});
    side.check("POST", &format!("{path}/confirmation_policy"), set)
        .await;
    let log = side.log(&id).await;
    let message = log
        .iter()
        .find(|event| event["source"] == "user" && event["kind"] == "MessageEvent");
    let message = message.unwrap()["id"].as_str().unwrap().to_owned();

    // The whole log, and the log up to the user's message.
    for body in [
        json!({}),
        json!({"title": "Half", "tags": {"c": "d"}, "from_event_id": message}),
    ] {
        let (status, info) = side.ask("POST", &format!("{path}/fork"), body).await;
        side.note(format!(
            "fork {status} {} {} {} {} {} from={} event={}",
            info["execution_status"],
            info["title"],
            info["tags"],
            info["confirmation_policy"]["kind"],
            info["stats"]["usage_to_metrics"],
            info["forked_from_conversation_id"] == *id,
            info["forked_from_event_id"] == *message
        ));
        let fork = info["id"].as_str().unwrap();
        let copied = side.log(fork).await;
        let same = copied
            .iter()
            .all(|event| log.iter().any(|other| other["id"] == event["id"]));
        side.note(story(&copied).join("\n"));
        side.note(format!("ids are the same: {same}"));
        let respond = format!("/api/conversations/{fork}/agent_final_response");
        side.check("GET", &respond, Value::Null).await;
    }
    for (source, body) in [
        (id.as_str(), json!({"id": id})),
        (&id, json!({"from_event_id": "nothing"})),
        (&id, json!({"id": "x"})),
        (&id, json!({"title": "x".repeat(201)})),
        (GHOST, json!({})),
    ] {
        side.check("POST", &format!("/api/conversations/{source}/fork"), body)
            .await;
    }

    // Navigates back to the message and continues from there.
    let (status, info) = side
        .ask(
            "POST",
            &format!("{path}/navigate"),
            json!({"event_id": message}),
        )
        .await;
    side.note(format!(
        "navigate {status} {}",
        info["leaf_event_id"] == *message
    ));
    side.check("GET", &format!("{path}/agent_final_response"), Value::Null)
        .await;
    side.say(&id, "otherwise", false).await;
    let log = side.log(&id).await;
    let parent = &log.last().unwrap()["parent_id"];
    let newest = log
        .iter()
        .rev()
        .find(|event| event["kind"] == "MessageEvent")
        .unwrap();
    side.note(format!(
        "a sibling: {} {}",
        newest["parent_id"] == *message,
        parent.is_string()
    ));
    let (status, info) = side
        .ask(
            "POST",
            &format!("{path}/navigate"),
            json!({"event_id": null}),
        )
        .await;
    side.note(format!("to the start {status} {}", info["leaf_event_id"]));
    side.say(&id, "anew", false).await;
    let log = side.log(&id).await;
    let newest = log
        .iter()
        .rev()
        .find(|event| event["kind"] == "MessageEvent")
        .unwrap();
    side.note(format!("a root: {}", newest["parent_id"]));
    side.check(
        "POST",
        &format!("{path}/navigate"),
        json!({"event_id": "nothing"}),
    )
    .await;
    side.check(
        "POST",
        &format!("/api/conversations/{GHOST}/navigate"),
        json!({}),
    )
    .await;

    // A child conversation.
    let body = json!({"task": "help", "title": "Helper", "isolation": "shared"});
    let (status, child) = side.ask("POST", &format!("{path}/children"), body).await;
    side.note(format!(
        "child {status} {} {} {} {}",
        child["parent_conversation_id"] == *id,
        child["title"],
        child["isolation"],
        child["workspace"] == *side.work
    ));
    let child = child["conversation_id"].as_str().unwrap().to_owned();
    side.until(&child, "finished").await;
    let (_, info) = side.ask("GET", &path, Value::Null).await;
    side.note(format!(
        "{}",
        info["sub_conversation_ids"] == json!([child])
    ));
    side.check("POST", &format!("{path}/children"), json!({}))
        .await;
    side.check(
        "POST",
        &format!("/api/conversations/{GHOST}/children"),
        json!({"task": "x"}),
    )
    .await;
}
