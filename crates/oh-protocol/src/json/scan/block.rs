//! Searches for the special bytes of a JSON string, sixteen bytes at a time.

use wide::u8x16;

const BLOCK: usize = 16;

/// Returns the position of the next quote, backslash or control character from `at` on, or the end
/// of the text if there is none.
#[inline]
pub(super) fn next_special(text: &[u8], at: usize) -> usize {
    // Check the first block separately, because most strings are short.
    if let Some(block) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let found = specials(block);
        if found != 0 {
            return at + found.trailing_zeros() as usize;
        }
        return next_special_beyond(text, at + BLOCK);
    }
    next_special_beyond(text, at)
}

#[inline(never)]
fn next_special_beyond(text: &[u8], mut at: usize) -> usize {
    while let Some(two) = text
        .get(at..)
        .and_then(<[u8]>::first_chunk::<{ 2 * BLOCK }>)
        && let ([first, second], _) = two.as_chunks()
    {
        let found = specials(first) | specials(second) << BLOCK;
        if found != 0 {
            return at + found.trailing_zeros() as usize;
        }
        at += 2 * BLOCK;
    }
    if let Some(block) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let found = specials(block);
        if found != 0 {
            return at + found.trailing_zeros() as usize;
        }
        at += BLOCK;
    }
    // Less than a block is left, so search the last sixteen bytes and discard the ones before `at`.
    let left = text.len().saturating_sub(at);
    let found = match text.last_chunk() {
        Some(block) => specials(block) >> (BLOCK - left),
        None => {
            let mut block = [0; BLOCK];
            let rest = text.get(at..).unwrap_or_default();
            block
                .iter_mut()
                .zip(rest)
                .for_each(|(to, from)| *to = *from);
            specials(&block)
        }
    };
    at + left.min(found.trailing_zeros() as usize)
}

/// Returns the special bytes of a block as a bit mask. The lowest bit is the first byte.
#[inline]
fn specials(block: &[u8; BLOCK]) -> u32 {
    let bytes = u8x16::new(*block);
    let special = bytes.simd_eq(u8x16::splat(b'"'))
        | bytes.simd_eq(u8x16::splat(b'\\'))
        | bytes.min(u8x16::splat(0x1f)).simd_eq(bytes);
    special.to_bitmask()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_special_byte_is_found_in_each_place() {
        for length in 0..50 {
            for byte in 0..=u8::MAX {
                for at in 0..length {
                    let mut text = vec![0x80; length];
                    text[at] = byte;
                    let special = byte == b'"' || byte == b'\\' || byte < 0x20;
                    let found = if special { at } else { length };
                    assert_eq!(next_special(&text, 0), found);
                    assert_eq!(next_special(&text, at), found);
                    assert_eq!(next_special(&text, at + 1), length);
                    // Bytes after the first special byte do not change the result.
                    if special {
                        text[at..].fill(b'"');
                        assert_eq!(next_special(&text, 0), at);
                    }
                }
            }
        }
    }
}
