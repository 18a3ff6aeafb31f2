//! Encoders for gzipped tar and for zip archives. Content is stored uncompressed, which both
//! formats allow.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Builds a gzipped tar of files below a root directory. Entries without content are directories.
pub(crate) fn tar_gz(root: &str, files: impl Iterator<Item = (String, Option<Bytes>)>) -> Bytes {
    let mut tar = BytesMut::new();
    entry(&mut tar, root, None);
    for (path, content) in files {
        entry(&mut tar, &format!("{root}/{path}"), content.as_deref());
    }
    tar.put_bytes(0, 1024);
    gzip(&tar)
}

/// Adds a tar entry in the POSIX layout. A path that is too long loses its first segments.
fn entry(tar: &mut BytesMut, path: &str, content: Option<&[u8]>) {
    let mut head = [0_u8; 512];
    let mut put =
        |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    let mut name = path;
    while name.len() > 99 {
        name = name.split_once('/').map_or("", |(_, rest)| rest);
    }
    put(0, name);
    put(
        100,
        if content.is_some() {
            "0000644"
        } else {
            "0000755"
        },
    );
    for owner in [108, 116] {
        put(owner, "0000000");
    }
    let length = content.map_or(0, <[u8]>::len);
    put(124, &format!("{length:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(156, if content.is_some() { "0" } else { "5" });
    put(257, "ustar\u{0}00");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..155].copy_from_slice(format!("{sum:06o}\u{0}").as_bytes());
    tar.put_slice(&head);
    tar.put_slice(content.unwrap_or_default());
    tar.put_bytes(0, length.next_multiple_of(512) - length);
}

/// Builds a gzip member of stored blocks.
fn gzip(content: &[u8]) -> Bytes {
    let mut packed = BytesMut::new();
    packed.put_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    let mut blocks = content.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        packed.put_u8(u8::from(blocks.peek().is_none()));
        let length = block.len() as u16;
        packed.put_u16_le(length);
        packed.put_u16_le(!length);
        packed.put_slice(block);
    }
    packed.put_u32_le(crc(content));
    packed.put_u32_le(content.len() as u32);
    packed.freeze()
}

/// Builds a zip of stored files.
pub(crate) fn zip(files: Vec<(String, Bytes)>) -> Bytes {
    let mut packed = BytesMut::new();
    let mut directory = BytesMut::new();
    let count = files.len() as u16;
    for (name, content) in files {
        let at = packed.len() as u32;
        let mut common = BytesMut::new();
        // Version, flags (names are UTF-8), method (stored), time and date (1980), sizes.
        common.put_u16_le(20);
        common.put_u16_le(1 << 11);
        common.put_u16_le(0);
        common.put_u32_le(0x0021_0000);
        common.put_u32_le(crc(&content));
        common.put_u32_le(content.len() as u32);
        common.put_u32_le(content.len() as u32);
        common.put_u16_le(name.len() as u16);
        common.put_u16_le(0);
        packed.put_u32_le(0x0403_4b50);
        packed.put_slice(&common);
        packed.put_slice(name.as_bytes());
        packed.put_slice(&content);
        directory.put_u32_le(0x0201_4b50);
        directory.put_u16_le(20);
        directory.put_slice(&common);
        // Comment, disk, internal and external attributes, offset of the file.
        directory.put_bytes(0, 10);
        directory.put_u32_le(at);
        directory.put_slice(name.as_bytes());
    }
    let at = packed.len() as u32;
    packed.put_slice(&directory);
    packed.put_u32_le(0x0605_4b50);
    packed.put_u32_le(0);
    packed.put_u16_le(count);
    packed.put_u16_le(count);
    packed.put_u32_le(directory.len() as u32);
    packed.put_u32_le(at);
    packed.put_u16_le(0);
    packed.freeze()
}

/// Calculates the CRC-32 that both formats use.
fn crc(content: &[u8]) -> u32 {
    !content.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_follow_the_standard() {
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
    }
}
