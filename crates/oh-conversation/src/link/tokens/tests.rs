//! Slow readers, ends of streams, and which events are new to which stream.

use std::task::Waker;

use futures_util::FutureExt;

use super::*;

fn piece(item: &str, content: &str) -> SessionFrame {
    frame(&format!(
        r#"{{"type":"delta","item_id":"{item}","attempt":1,"order":0,"kind":"text","content":"{content}"}}"#
    ))
}

fn frame(json: &str) -> SessionFrame {
    SessionFrame::from_json(json.to_owned()).unwrap()
}

fn started(item: &str, attempt: u64) -> SessionFrame {
    frame(&format!(
        r#"{{"type":"item_started","item_id":"{item}","attempt":{attempt}}}"#
    ))
}

fn aborted(item: &str, attempt: u64) -> SessionFrame {
    frame(&format!(
        r#"{{"type":"item_aborted","item_id":"{item}","attempt":{attempt},"reason":"retry"}}"#
    ))
}

fn message(item: &str) -> Event {
    Event::from_json(format!(
        r#"{{"kind":"MessageEvent","id":"{item}","source":"agent"}}"#
    ))
    .unwrap()
}

/// Describes the waiting tokens with their items; consecutive pieces are counted.
fn waiting(stream: &mut TokenStream) -> Vec<String> {
    let mut all: Vec<(String, usize)> = Vec::new();
    while let Some(Some(token)) = stream.next().now_or_never() {
        let name = match &token {
            Token::Started { item_id, .. } => format!("started {item_id}"),
            Token::Aborted { item_id, .. } => format!("aborted {item_id}"),
            Token::Finished { item_id } => format!("finished {item_id}"),
            Token::Lagged { item_id } => format!("lagged {item_id}"),
            piece => format!("pieces {}", piece.piece().unwrap().0),
        };
        match all.last_mut() {
            Some((last, count)) if *last == name => *count += 1,
            _ => all.push((name, 1)),
        }
    }
    all.into_iter()
        .map(|(name, count)| match count {
            1 => name,
            _ => format!("{name} {count}"),
        })
        .collect()
}

#[test]
fn a_slow_reader_gets_a_lag_marker_and_every_control_token() {
    let tokens = Tokens::default();
    let mut slow = tokens.readers().subscribe(|| Some(-1));
    tokens.progress(started("a", 1));
    for _ in 0..1500 {
        tokens.progress(piece("a", "x"));
    }
    tokens.durable(0, &message("a"), false);
    tokens.progress(started("b", 1));
    tokens.progress(piece("b", "y"));
    let expected = [
        "started a",
        "lagged a",
        "finished a",
        "started b",
        "pieces b",
    ];
    assert_eq!(waiting(&mut slow), expected);
}

#[test]
fn a_full_queue_keeps_every_piece() {
    let tokens = Tokens::default();
    let mut stream = tokens.readers().subscribe(|| Some(-1));
    for _ in 0..PIECES {
        tokens.progress(piece("a", "x"));
    }
    assert_eq!(waiting(&mut stream), ["pieces a 1024"]);
    for _ in 0..PIECES {
        tokens.progress(piece("a", "x"));
    }
    assert_eq!(waiting(&mut stream), ["pieces a 1024"]);
}

#[test]
fn the_rest_of_a_lagging_attempt_is_skipped_and_the_next_attempt_is_complete() {
    let tokens = Tokens::default();
    let mut slow = tokens.readers().subscribe(|| Some(-1));
    for _ in 0..=PIECES {
        tokens.progress(piece("a", "x"));
    }
    assert_eq!(waiting(&mut slow), ["lagged a"]);
    // Although there is room again, a text with a gap is never yielded.
    tokens.progress(piece("a", "x"));
    assert_eq!(waiting(&mut slow), Vec::<String>::new());
    tokens.progress(aborted("a", 1));
    tokens.progress(started("a", 2));
    tokens.progress(piece("a", "x"));
    assert_eq!(waiting(&mut slow), ["aborted a", "started a", "pieces a"]);
}

#[test]
fn the_longest_waiting_item_is_dropped_for_a_newer_one() {
    let tokens = Tokens::default();
    let mut slow = tokens.readers().subscribe(|| Some(-1));
    tokens.progress(piece("a", "x"));
    for _ in 0..PIECES {
        tokens.progress(piece("b", "x"));
    }
    assert_eq!(waiting(&mut slow), ["lagged a", "pieces b 1024"]);
}

#[test]
fn a_few_large_pieces_overflow_and_a_single_piece_is_always_delivered() {
    let tokens = Tokens::default();
    let mut slow = tokens.readers().subscribe(|| Some(-1));
    let large = "x".repeat(BYTES / 2);
    for _ in 0..3 {
        tokens.progress(piece("a", &large));
    }
    assert_eq!(waiting(&mut slow), ["lagged a"]);
    tokens.progress(piece("b", &"x".repeat(2 * BYTES)));
    assert_eq!(waiting(&mut slow), ["pieces b"]);
    let queue = lock(&slow.0);
    assert_eq!((queue.pieces, queue.bytes), (0, 0));
}

#[test]
fn pieces_without_an_item_restart_after_their_event() {
    let tokens = Tokens::default();
    let mut slow = tokens.readers().subscribe(|| Some(-1));
    let delta = Event::from_json(
        r#"{"kind":"StreamingDeltaEvent","id":"d","source":"agent","content":"x"}"#,
    )
    .unwrap();
    let oh_protocol::Payload::StreamingDelta(delta) = delta.payload() else {
        panic!("it should decode: {delta:?}");
    };
    for _ in 0..=PIECES {
        tokens.legacy(delta);
    }
    tokens.durable(0, &message("m"), false);
    tokens.legacy(delta);
    assert_eq!(waiting(&mut slow), ["lagged ", "finished m", "pieces "]);
}

#[test]
fn streams_end_with_the_writer_after_all_received_pieces() {
    let tokens = Tokens::default();
    let readers = tokens.readers();
    let mut stream = readers.subscribe(|| Some(-1));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(stream.poll_token(&mut cx).is_pending());
    tokens.progress(piece("a", "x"));
    drop(tokens);
    assert!(stream.next().now_or_never().unwrap().is_some());
    assert_eq!(stream.next().now_or_never(), Some(None));
    let mut late = readers.subscribe(|| panic!("there is nothing to wait for"));
    assert_eq!(late.next().now_or_never(), Some(None));
}

#[test]
fn only_events_newer_than_the_subscription_are_reported_as_finished() {
    let tokens = Tokens::default();
    let readers = tokens.readers();
    // While the history arrives, after it has arrived, and after some new events.
    let mut before = readers.subscribe(|| None);
    tokens.durable(0, &message("0"), true);
    let mut live = readers.subscribe(|| Some(1));
    tokens.durable(1, &message("1"), true);
    tokens.live(1);
    tokens.durable(2, &message("2"), false);
    let mut after = readers.subscribe(|| Some(2));
    // After a disconnect, missed events are replayed, and are new to all of them.
    tokens.durable(3, &message("3"), true);
    tokens.durable(3, &message("3"), true);
    assert_eq!(waiting(&mut before), ["finished 2", "finished 3"]);
    assert_eq!(waiting(&mut live), ["finished 2", "finished 3"]);
    assert_eq!(waiting(&mut after), ["finished 3"]);
}

#[test]
fn an_event_right_after_the_history_counts_as_new() {
    let tokens = Tokens::default();
    let mut stream = tokens.readers().subscribe(|| None);
    tokens.durable(0, &message("0"), true);
    tokens.durable(1, &message("1"), false);
    assert_eq!(waiting(&mut stream), ["finished 1"]);
}

#[test]
fn a_dropped_reader_is_removed() {
    let tokens = Tokens::default();
    drop(tokens.readers().subscribe(|| None));
    tokens.progress(piece("a", "x"));
    assert!(tokens.readers().lock().readers.is_empty());
}
