//! Parses arbitrary bytes as the response to CONNECT or to a WebSocket handshake: no panic, and the
//! same status and headers however the bytes are split.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oh_transport::fuzzing::read_head;

fuzz_target!(|bytes: &[u8]| {
    let Some((piece, bytes)) = bytes.split_first() else {
        return;
    };
    let whole = read_head(bytes, usize::MAX);
    let pieces = read_head(bytes, usize::from(*piece) + 1);
    match (whole, pieces) {
        (Ok((status, headers, rest)), Ok((same_status, same_headers, same_rest))) => {
            assert_eq!(status, same_status);
            // Only the status of a malformed rejection is kept.
            if status.as_u16() < 300 {
                assert_eq!(headers, same_headers);
                assert_eq!(rest, same_rest);
            }
            assert!(bytes.ends_with(&rest));
        }
        (Err(error), Err(_)) => {
            let _ = format!("{error} {error:?}");
        }
        (whole, pieces) => panic!("{whole:?} {pieces:?}"),
    }
});
