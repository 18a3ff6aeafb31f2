//! Decodes arbitrary bytes as a frame: no panic, and its event has exactly the bytes of the frame.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oh_protocol::SessionFrame;

fuzz_target!(|bytes: &[u8]| {
    match SessionFrame::from_json(bytes.to_vec()) {
        Ok(SessionFrame::Durable { event, .. } | SessionFrame::Transient { event }) => {
            let raw = event.raw();
            assert!(bytes.windows(raw.len()).any(|piece| piece == &raw[..]));
            let _ = event.payload();
        }
        Ok(SessionFrame::Unknown { raw, .. }) => assert_eq!(&raw[..], bytes),
        _ => {}
    }
});
