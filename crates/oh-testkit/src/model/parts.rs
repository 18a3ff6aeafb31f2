//! Parts of a model's responses that are the same in both APIs.

/// Returns the time in seconds, as in a response.
pub(super) fn seconds_now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

/// Returns a unique id with a prefix, as providers generate them.
pub(super) fn id(prefix: &str) -> String {
    format!("{prefix}{}", uuid::Uuid::new_v4().simple())
}

/// Splits text into a few pieces at character boundaries, as models stream it.
pub(crate) fn pieces(text: &str) -> Vec<&str> {
    const PIECE: usize = 24;
    let mut rest = text;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let end = rest
            .char_indices()
            .map(|(at, _)| at)
            .find(|at| *at >= PIECE)
            .unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    pieces
}
