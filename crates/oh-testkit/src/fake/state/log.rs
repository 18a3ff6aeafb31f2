//! The log of one conversation, stored as encoded socket frames, so that each event is encoded only
//! once.

use std::collections::{BTreeSet, HashMap};

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Deserialize;

use crate::fake::wire::frames;

/// The maximum size of a frame on the session socket.
pub(crate) const MAX_FRAME: usize = 4 * 1024 * 1024;

/// The sizes of the memory blocks that frames share. Short logs use small blocks.
const PIECES: std::ops::RangeInclusive<usize> = 4 * 1024..=256 * 1024;

const HEAD: &[u8] = br#"{"type":"durable","seq":"#;
const EVENT: &[u8] = br#","event":"#;
const TAIL: &[u8] = b"}";

/// An encoded session socket frame of a logged event.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    bytes: Bytes,
    /// The offset of the event.
    from: usize,
}

impl Frame {
    /// Encodes a separate frame, for an event that is sent in a different form than it is logged.
    pub(crate) fn new(seq: usize, event: &[u8]) -> Self {
        let mut bytes = BytesMut::with_capacity(event.len() + 64);
        let from = put(&mut bytes, seq, event);
        let bytes = bytes.freeze();
        Self { bytes, from }
    }

    /// Returns the whole frame.
    pub(crate) fn whole(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the event alone.
    pub(crate) fn event(&self) -> Bytes {
        self.bytes.slice(self.from..self.bytes.len() - TAIL.len())
    }

    pub(crate) fn fits(&self) -> bool {
        fits(self.bytes.len())
    }
}

fn fits(length: usize) -> bool {
    length <= MAX_FRAME
}

/// Appends the frame of an event. Returns the offset of the event in the frame.
fn put(bytes: &mut BytesMut, seq: usize, event: &[u8]) -> usize {
    let mut digits = [0; 20];
    let seq = decimal(seq, &mut digits);
    let before = HEAD.len() + seq.len() + EVENT.len();
    let start = bytes.len();
    frames::head(bytes, frames::TEXT, before + event.len() + TAIL.len());
    for part in [HEAD, seq, EVENT, event, TAIL] {
        bytes.put_slice(part);
    }
    bytes.len() - start - event.len() - TAIL.len()
}

fn decimal(mut number: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

/// The location of a frame.
#[derive(Clone, Copy)]
struct Entry {
    piece: u32,
    at: u32,
    length: u32,
    from: u32,
}

#[derive(Default)]
pub(crate) struct Log {
    /// Completed blocks of frames.
    sealed: Vec<Bytes>,
    /// The block being written, which is the next one to be completed.
    open: BytesMut,
    entries: Vec<Entry>,
    bytes: usize,
    largest: usize,
    /// Positions of unreadable events, which sockets and searches omit.
    unreadable: BTreeSet<usize>,
    /// Positions by event id, filled on demand.
    index: HashMap<Box<str>, usize>,
    indexed: usize,
}

impl Log {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends an event. Returns its position.
    pub(crate) fn push(&mut self, event: &[u8]) -> usize {
        let seq = self.entries.len();
        // Includes room for the longest frame head.
        let needed = event.len() + 80;
        if self.open.capacity() - self.open.len() < needed {
            self.seal();
            let size = self.bytes.clamp(*PIECES.start(), *PIECES.end());
            self.open = BytesMut::with_capacity(size.max(needed));
        }
        let at = self.open.len();
        let from = put(&mut self.open, seq, event);
        let length = self.open.len() - at;
        self.bytes += length;
        self.largest = self.largest.max(length);
        self.entries.push(Entry {
            piece: self.sealed.len() as u32,
            at: at as u32,
            length: length as u32,
            from: from as u32,
        });
        seq
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.sealed.push(self.open.split().freeze());
        }
    }

    /// Returns the frame at a position, even if the event is unreadable.
    pub(crate) fn frame(&mut self, seq: usize) -> Option<Frame> {
        let entry = *self.entries.get(seq)?;
        if entry.piece as usize == self.sealed.len() {
            self.seal();
        }
        let piece = &self.sealed[entry.piece as usize];
        let (at, length) = (entry.at as usize, entry.length as usize);
        Some(Frame {
            bytes: piece.slice(at..at + length),
            from: entry.from as usize,
        })
    }

    /// Returns at most `limit` readable frames from `start`, with their positions.
    pub(crate) fn page(&mut self, start: usize, limit: usize) -> Vec<(usize, Frame)> {
        let mut page = Vec::new();
        for seq in start..self.len() {
            if page.len() == limit {
                break;
            }
            if !self.unreadable.contains(&seq) {
                page.extend(self.frame(seq).map(|frame| (seq, frame)));
            }
        }
        page
    }

    /// Returns contiguous frames from `start` up to `end` or about this many bytes, and the next
    /// position. Returns `None` if frames have to be checked one by one.
    pub(crate) fn stretch(
        &mut self,
        start: usize,
        end: usize,
        bytes: usize,
    ) -> Option<(Vec<Bytes>, usize)> {
        if !self.unreadable.is_empty() || !fits(self.largest) {
            return None;
        }
        self.seal();
        let (mut stretch, mut next, mut total) = (Vec::new(), start, 0);
        while next < end && total < bytes {
            let first = self.entries[next];
            let rest = &self.entries[next..end];
            let count = rest.partition_point(|entry| entry.piece == first.piece);
            let last = rest[count - 1];
            let range = first.at as usize..(last.at + last.length) as usize;
            total += range.len();
            stretch.push(self.sealed[first.piece as usize].slice(range));
            next += count;
        }
        Some((stretch, next))
    }

    pub(crate) fn event(&mut self, seq: usize) -> Option<Bytes> {
        self.frame(seq).map(|frame| frame.event())
    }

    pub(crate) fn is_readable(&self, seq: usize) -> bool {
        seq < self.len() && !self.unreadable.contains(&seq)
    }

    /// Makes an event unreadable.
    pub(crate) fn lose(&mut self, seq: usize) {
        self.unreadable.insert(seq);
    }

    /// Returns the position of the event with this id.
    pub(crate) fn find(&mut self, id: &str) -> Option<usize> {
        #[derive(Deserialize)]
        struct Header {
            id: Box<str>,
        }
        for seq in self.indexed..self.len() {
            let event = self.event(seq).unwrap_or_default();
            if let Ok(header) = serde_json::from_slice::<Header>(&event) {
                self.index.insert(header.id, seq);
            }
        }
        self.indexed = self.len();
        self.index.get(id).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_contain_the_event_and_its_position() {
        let mut log = Log::default();
        let events: Vec<String> = (0..2000)
            .map(|n| format!("{{\"n\":\"{}\"}}", "x".repeat(n)))
            .collect();
        for (seq, event) in events.iter().enumerate() {
            assert_eq!(log.push(event.as_bytes()), seq);
            // Also reads while the log is being written.
            if seq % 7 == 0 {
                assert_eq!(log.event(seq).unwrap(), event.as_bytes());
            }
        }
        let page = log.page(0, usize::MAX);
        assert_eq!(page.len(), events.len());
        for ((seq, frame), event) in page.iter().zip(&events) {
            assert_eq!(frame.event(), event.as_bytes());
            let expected = format!(r#"{{"type":"durable","seq":{seq},"event":{event}}}"#);
            assert!(frame.whole().ends_with(expected.as_bytes()), "{seq}");
            let head = frame.whole().len() - expected.len();
            assert_eq!(head, if expected.len() < 126 { 2 } else { 4 });
            assert_eq!(Frame::new(*seq, event.as_bytes()).whole(), frame.whole());
        }
    }

    #[test]
    fn ranges_are_the_joined_frames() {
        let mut log = Log::default();
        for n in 0..3000 {
            log.push(format!("{{\"n\":{n}}}").as_bytes());
        }
        let whole: Vec<u8> = log
            .page(5, 2900)
            .iter()
            .flat_map(|(_, f)| f.whole().to_vec())
            .collect();
        let (mut next, mut got) = (5, Vec::new());
        while next < 2905 {
            let (pieces, after) = log.stretch(next, 2905, 1000).unwrap();
            assert!(after > next);
            got.extend(pieces.concat());
            next = after;
        }
        assert_eq!(got, whole);
        log.lose(9);
        assert!(log.stretch(0, 10, 1000).is_none());
        assert_eq!(
            log.page(8, 2)
                .iter()
                .map(|(seq, _)| *seq)
                .collect::<Vec<_>>(),
            [8, 10]
        );
    }
}
