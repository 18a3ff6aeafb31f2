//! `oh sandbox`, with an engine that the test plays.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
};

use serde_json::{Value, json};

/// Runs `oh sandbox` on an engine; returns its exit code, its output and its errors.
fn sandbox(engine: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_oh"))
        .arg("sandbox")
        .args(arguments)
        .env("DOCKER_HOST", engine)
        .env_remove("DOCKER_CONTEXT")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Starts an engine with these containers; returns its address, and the containers that it is asked
/// to remove.
fn engine(containers: Value) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let (send, removed) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (containers, send) = (containers.clone(), send.clone());
            std::thread::spawn(move || serve(stream, &containers, &send));
        }
    });
    (address, removed)
}

/// Serves the requests of a connection, until it is closed.
fn serve(stream: TcpStream, containers: &Value, removed: &Sender<String>) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        while reader.read_line(&mut head).ok()? > 2 {
            let last = head.lines().last()?.to_lowercase();
            if let Some(value) = last.strip_prefix("content-length: ") {
                length = value.parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let mut words = head.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let path = target.split('?').next()?;
        let answer = match method {
            "DELETE" => {
                removed.send(path.rsplit('/').next()?.to_owned()).ok()?;
                json!({})
            }
            _ if path.ends_with("/version") => json!({"Version": "27.0.0", "ApiVersion": "1.46",
                "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64"}),
            _ if path.ends_with("/containers/json") => containers.clone(),
            _ => json!({}),
        };
        let answer = answer.to_string();
        let length = answer.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        writer.write_all((head + &answer).as_bytes()).ok()?;
    }
}

/// Returns the label of an owner in an earlier session of this machine.
fn owner_of_an_earlier_session() -> String {
    let read = |path| fs::read_to_string(path).map(|text| text.trim().to_owned());
    let machine = read("/etc/machine-id").or_else(|_| read("/proc/sys/kernel/hostname"));
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap();
    format!("{}/{} earlier 1 1", machine.unwrap(), namespace.display())
}

fn container(id: &str, owner: &str, kept: bool) -> Value {
    let mut labels = json!({"rs.openhands.owner": owner});
    if kept {
        labels["rs.openhands.kept"] = json!("");
    }
    json!({"Id": id, "Names": [format!("/name-of-{id}\u{1b}[2J")], "Image": "image",
        "Status": "Up 2 hours", "Labels": labels})
}

#[test]
fn prune_removes_only_containers_whose_owner_has_ended() {
    let earlier = owner_of_an_earlier_session();
    let (address, removed) = engine(json!([
        container("stale", &earlier, false),
        container("kept", &earlier, true),
        container("far", "elsewhere earlier 1 1", false),
    ]));
    let (code, output, errors) = sandbox(&address, &["ls", "--json"]);
    assert_eq!(code, Some(0), "{errors}");
    let row = |line| serde_json::from_str::<Value>(line).unwrap();
    let rows: Vec<_> = output.lines().map(row).collect();
    let states: Vec<_> = rows
        .iter()
        .map(|row| (&row["id"], &row["owner"], &row["stale"]))
        .collect();
    let expected = [
        (&json!("stale"), &json!("ended"), &json!(true)),
        (&json!("kept"), &json!("ended"), &json!(false)),
        (&json!("far"), &json!("unknown"), &json!(false)),
    ];
    assert_eq!(states, expected);
    let (code, output, errors) = sandbox(&address, &["ls"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        output.contains("Up 2 hours") && output.contains("owner unknown"),
        "{output}"
    );
    assert!(!output.contains('\u{1b}'), "{output:?}");

    let (code, output, errors) = sandbox(&address, &["prune"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        output.starts_with("name-of-stale") && output.lines().count() == 1,
        "{output}"
    );
    assert_eq!(removed.try_iter().collect::<Vec<_>>(), ["stale"]);
}

#[test]
fn an_engine_that_does_not_answer_is_a_matter_of_configuration() {
    for verb in ["ls", "prune"] {
        let (code, output, errors) = sandbox("unix:///no/such/socket", &[verb]);
        assert_eq!((code, &*output), (Some(3), ""), "{errors}");
        assert!(errors.contains("/no/such/socket"), "{errors}");
    }
}

#[test]
fn a_run_in_a_container_needs_an_engine() {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_oh"))
        .args(["run", "Go.", "--sandbox", "docker", "--model", "m", "--dir"])
        .arg(home.path())
        .env("OH_STATE_DIR", home.path().join("state"))
        .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(errors.contains("/nowhere/docker.sock"), "{errors}");
    let runs = fs::read_dir(home.path().join("state/runs")).unwrap();
    assert_eq!(runs.count(), 0, "nothing is left of the run");
}
