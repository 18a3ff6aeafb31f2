//! Decodes arbitrary bytes as an event: no panic, and the bytes are kept.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oh_protocol::Event;

fuzz_target!(|bytes: &[u8]| {
    let Ok(event) = Event::from_json(bytes.to_vec()) else {
        return;
    };
    assert_eq!(&event.raw()[..], bytes);
    let _ = event.to_string();
    let _ = event.malformed();
});
