//! Finds the bytes a string cannot pass over, sixteen at a time. Knows nothing of what they mean.

use wide::u8x16;

const BLOCK: usize = 16;

/// Where the next quote, backslash or control character is, from `at` on; the end if there is
/// none.
#[inline]
pub(super) fn next_special(text: &[u8], at: usize) -> usize {
    // Most strings are short.
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
    // Less than a block is left: it is the end of the last one.
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

/// The special bytes of a block, a bit for each; the lowest bit is the first byte's.
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
                    // What stands behind the first changes nothing.
                    if special {
                        text[at..].fill(b'"');
                        assert_eq!(next_special(&text, 0), at);
                    }
                }
            }
        }
    }
}
