//! Data that a server reads from its disk and reports about itself: pages of a workspace, skills,
//! tools, whether it waits for activation. Played on both servers.

use serde_json::{Value, json};

use super::{
    raw,
    side::{Side, keys},
};

const GHOST: &str = "00000000-0000-4000-8000-000000000000";

/// Files of a project, by their relative path.
pub(crate) const PROJECT: [(&str, &str); 14] = [
    ("index.html", "<p>Hello.</p>"),
    ("notes.txt", "0123456789"),
    ("page.md", "# Page"),
    ("data.json", "{}"),
    ("unknown.what", "?"),
    ("a space/index.html", "<p>Space.</p>"),
    ("empty/nothing", ""),
    ("AGENTS.md", "Be brief.\n"),
    ("CLAUDE.md", "Be kind.\n"),
    (
        ".agents/skills/release/SKILL.md",
        "---\nname: release\ndescription: How to release\n---\nTag it.\n",
    ),
    (
        ".agents/skills/misnamed/SKILL.md",
        "---\nname: other\ndescription: Nobody finds it\n---\nLost.\n",
    ),
    (
        ".openhands/skills/flaky.md",
        "---\nname: flaky\ntriggers:\n- flaky\n- \"fails at times\"\n---\n\nRun it ten times.\n",
    ),
    (".openhands/skills/style.md", "Four spaces.\n"),
    (".openhands/microagents/style.md", "Tabs.\n"),
];

/// Checks the files of a workspace as served by HTTP.
pub(crate) async fn pages(side: &mut Side) {
    let id = side.create(Value::Null).await;
    let base = format!("/api/conversations/{id}/workspace");
    let head = format!("X-Session-API-Key: {}\r\n", side.key);
    for (path, more) in [
        ("", ""),
        ("/", ""),
        ("/notes.txt", ""),
        ("/notes.txt", "Range: bytes=2-4\r\n"),
        ("/page.md", ""),
        ("/data.json", ""),
        ("/unknown.what", ""),
        ("/a%20space/", ""),
        ("/empty", ""),
        ("/none", ""),
        ("/%2e%2e/%2e%2e/%2e%2e/etc/passwd", ""),
    ] {
        let head = format!("{head}{more}");
        let answer = raw::ask(&side.url, "GET", &format!("{base}{path}"), &head, b"").await;
        let shown = [
            "content-type",
            "content-range",
            "accept-ranges",
            "content-disposition",
        ];
        let shown: Vec<_> = shown.iter().map(|name| answer.header(name)).collect();
        side.note(format!(
            "page {path} {more} -> {} {shown:?} etag={} {}",
            answer.status,
            answer.header("etag").is_some(),
            answer.text()
        ));
    }
    for id in [GHOST, "nope"] {
        let target = format!("/api/conversations/{id}/workspace/index.html");
        side.check("GET", &target, Value::Null).await;
    }
    let refused = raw::ask(&side.url, "GET", &base, "", b"").await;
    side.note(format!(
        "without a key {} {}",
        refused.status,
        refused.text()
    ));
    cookies(side, &base, &head).await;
}

/// A browser loads pages with a cookie, and nothing else.
async fn cookies(side: &mut Side, base: &str, head: &str) {
    const SESSION: &str = "/api/auth/workspace-session";
    let (key, url) = (side.key.clone(), side.url.clone());
    let mut cookie = String::new();
    for (method, more) in [
        ("POST", ""),
        ("POST", "X-Forwarded-Proto: https\r\n"),
        ("POST", "X-Forwarded-Host: localhost:1\r\n"),
        ("DELETE", "X-Forwarded-Host: [::1]:1, other\r\n"),
    ] {
        let answer = raw::ask(&url, method, SESSION, &format!("{head}{more}"), b"").await;
        let set = answer.header("set-cookie").unwrap_or_default().to_owned();
        if cookie.is_empty() {
            cookie = set.split(';').next().unwrap_or_default().to_owned();
        }
        let set = set.replace(&key, "KEY");
        side.note(format!("{method} {more} {} {set}", answer.status));
    }
    let page = format!("{base}/notes.txt");
    let wrong = cookie.replace(&key, "wrong");
    let several = format!("a=b; {cookie}; c=d");
    for (method, target, cookie) in [
        ("GET", &*page, &cookie),
        ("GET", &page, &several),
        ("GET", &page, &wrong),
        ("GET", "/api/settings", &cookie),
        ("POST", SESSION, &cookie),
    ] {
        let head = format!("Cookie: {cookie}\r\n");
        let answer = raw::ask(&url, method, target, &head, b"").await;
        side.note(format!("by cookie {method} {}", answer.status));
    }
}

pub(crate) async fn skills(side: &mut Side) {
    let sources = json!({
        "load_public": false, "load_org": false, "load_user": true, "load_project": true,
    });
    for directory in [side.work.clone(), format!("{}/none", side.work)] {
        let mut request = sources.clone();
        request["project_dir"] = json!(directory);
        side.skills(request).await;
    }
    side.skills(sources).await;
}

impl Side {
    async fn skills(&mut self, request: Value) {
        let (status, loaded) = self.ask("POST", "/api/skills", request).await;
        self.note(format!("{status} {} {}", keys(&loaded), loaded["sources"]));
        let skills = loaded["skills"].as_array().unwrap();
        let mut lines: Vec<_> = skills.iter().map(Value::to_string).collect();
        // The order is unspecified.
        lines.sort();
        for line in lines {
            self.note(line);
        }
    }
}

/// Checks the information of a server about itself and its connections.
pub(crate) async fn itself(side: &mut Side) {
    for path in ["/", "/server_info"] {
        let (status, info) = side.ask("GET", path, Value::Null).await;
        side.note(format!("{status} {}", keys(&info)));
    }
    let (status, tools) = side.ask("GET", "/api/tools/", Value::Null).await;
    let has = |name: &str| tools.as_array().unwrap().iter().any(|tool| tool == name);
    let known = ["terminal", "file_editor", "task_tracker"].map(has);
    side.note(format!("{status} tools {known:?}"));
    let (status, catalog) = side.ask("GET", "/api/tools/catalog", Value::Null).await;
    let entries = catalog["tools"].as_array().unwrap();
    let terminal = entries.iter().find(|entry| entry["name"] == "terminal");
    let mut terminal = terminal.unwrap().clone();
    terminal["description"] = json!("…");
    side.note(format!("{status} {} {terminal}", keys(&catalog)));

    let search = "/api/git/repositories/search";
    for query in [
        "",
        "?provider=nowhere",
        "?provider=gitlab",
        "?provider=github",
        "?provider=github&limit=0",
        "?provider=github&limit=101",
    ] {
        side.check("GET", &format!("{search}{query}"), Value::Null)
            .await;
    }

    // The browser-based editor is disabled on both.
    let id = side.create(Value::Null).await;
    for base in ["/api".to_owned(), format!("/api/conversations/{id}")] {
        for what in ["url", "status"] {
            side.check("GET", &format!("{base}/vscode/{what}"), Value::Null)
                .await;
        }
    }

    // The server was not started dormant.
    side.check("GET", "/api/init", Value::Null).await;
    for body in [Value::Null, json!({}), json!({"nothing": 1})] {
        side.check("POST", "/api/init", body).await;
    }
}

/// Checks the histories of commands, of the server and of a conversation's own workspace. Neither
/// contains commands of the other.
pub(crate) async fn own_commands(side: &mut Side) {
    let id = side.create(Value::Null).await;
    let own = format!("/api/conversations/{id}/bash");
    side.check("DELETE", "/api/bash/bash_events", Value::Null)
        .await;
    for base in ["/api/bash", own.as_str()] {
        let (_, ran) = side
            .ask(
                "POST",
                &format!("{base}/execute_bash_command"),
                json!({"command": "true"}),
            )
            .await;
        let (_, begun) = side
            .ask(
                "POST",
                &format!("{base}/start_bash_command"),
                json!({"command": "sleep 300"}),
            )
            .await;
        side.note(format!("{} {}", keys(&ran), keys(&begun)));
        let command = begun["id"].as_str().unwrap();
        let stop = format!("{base}/bash_commands/{command}/stop");
        let (status, stopped) = side.ask("POST", &stop, Value::Null).await;
        side.note(format!("stop {status} {stopped}"));
        let target = format!("{base}/bash_events");
        let events = loop {
            let (_, page) = side
                .ask("GET", &format!("{target}/search"), Value::Null)
                .await;
            match page["items"].as_array().unwrap().len() {
                4 => break page["items"].as_array().unwrap().clone(),
                _ => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        };
        let mut shown: Vec<_> = events
            .iter()
            .map(|event| {
                format!(
                    "{} {} {}",
                    event["kind"], event["command"], event["exit_code"]
                )
            })
            .collect();
        shown.sort();
        side.note(shown.join(", "));
        let one = events[0]["id"].as_str().unwrap();
        let (status, found) = side
            .ask("GET", &format!("{target}/{one}"), Value::Null)
            .await;
        side.note(format!("one {status} {}", found["id"] == one));
        let ids = json!([events[2]["id"], "nobody", one]);
        let (status, batch) = side.ask("GET", &format!("{target}/"), ids).await;
        let batch: Vec<_> = batch
            .as_array()
            .unwrap()
            .iter()
            .map(|found| events.iter().position(|event| event["id"] == found["id"]))
            .collect();
        side.note(format!("many {status} {batch:?}"));
        for body in [Value::Null, json!({})] {
            let (status, refused) = side.ask("GET", &format!("{target}/"), body).await;
            let detail = &refused["detail"][0];
            side.note(format!(
                "none {status} {} {}",
                detail["type"], detail["loc"]
            ));
        }
        side.check("DELETE", &target, Value::Null).await;
        let (_, page) = side
            .ask("GET", &format!("{target}/search"), Value::Null)
            .await;
        side.note(page["items"].to_string());
    }
    let outside = json!({"command": "true", "cwd": "/etc"});
    for what in ["execute_bash_command", "start_bash_command"] {
        side.check("POST", &format!("{own}/{what}"), outside.clone())
            .await;
    }
}
