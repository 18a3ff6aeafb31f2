//! Decodes arbitrary bytes as a page or a list: no panic, and an invalid item does not affect the
//! others.

#![no_main]

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use libfuzzer_sys::fuzz_target;
use oh_protocol::{
    Answer, Call, ConversationId,
    calls::{bash, conversations, events, files, git, hooks, server, settings, skills, tools},
};
use serde_json::Value;

fn answer(body: &[u8]) -> Answer {
    let body = Bytes::copy_from_slice(body);
    Answer::new(StatusCode::OK, HeaderMap::new(), body)
}

/// Formats the decoded value or its error.
fn takes<C: Call>(call: C, body: &[u8])
where
    C::Output: std::fmt::Debug,
{
    match call.decode(answer(body)) {
        Ok(output) => {
            let _ = format!("{output:?}");
        }
        Err(error) => {
            let _ = format!("{error} {error:?}");
        }
    }
}

/// Asserts that every item keeps its position, either decoded or as a placeholder.
fn events_keep_their_places(body: &[u8]) {
    let search = events::Search::new(ConversationId::random());
    let Ok(page) = search.decode(answer(body)) else {
        return;
    };
    for unreadable in &page.unreadable {
        assert!(unreadable.index < page.items.len());
    }
    if let Ok(Value::Object(sent)) = serde_json::from_slice(body) {
        let items = sent.get("items").and_then(Value::as_array);
        assert_eq!(items.map(Vec::len), Some(page.items.len()));
    }
    for event in &page.items {
        let _ = (event.to_string(), event.payload(), event.id().len());
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, body)) = bytes.split_first() else {
        return;
    };
    let id = ConversationId::random();
    match which % 20 {
        0 => events_keep_their_places(body),
        1 => takes(events::BatchGet::new(id, ["a", "b"]), body),
        2 => takes(events::Get::new(id, "a"), body),
        3 => takes(conversations::Search::new(), body),
        4 => takes(conversations::BatchGet::new([id, id]), body),
        5 => takes(bash::SearchEvents::new(), body),
        6 => takes(bash::SearchOutput::new("a"), body),
        7 => takes(bash::BatchEvents::new(["a", "b"]), body),
        8 => takes(skills::ListInstalled::default(), body),
        9 => takes(skills::Catalog::default(), body),
        10 => takes(tools::ListTools::default(), body),
        11 => takes(tools::GetCatalog::default(), body),
        12 => takes(settings::GetSettings::new(settings::Expose::Masked), body),
        13 => takes(settings::ListSecrets::new(), body),
        14 => takes(git::Commits::new("a"), body),
        15 => takes(git::Changes::new("a"), body),
        16 => takes(git::SearchRepositories::new("github"), body),
        17 => takes(files::SearchSubdirs::new("/a"), body),
        18 => takes(hooks::Discover::new("/a"), body),
        _ => takes(server::GetServerInfo::default(), body),
    }
});
