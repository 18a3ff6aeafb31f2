//! A hash that does not change between Rust versions, for names of directories.

/// Returns the FNV-1a hash of some bytes. The standard hasher may change between Rust versions.
pub(crate) fn stable(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
