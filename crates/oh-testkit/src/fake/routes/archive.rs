//! Archives in memory: gzipped tar, and zip.

use std::io::{Cursor, Result, Write};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use tar::{EntryType, Header};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// Builds a gzipped tar of files below a root directory. Entries without content are directories.
///
/// # Errors
///
/// Returns an error if a path cannot be in a tar.
pub(crate) fn tar_gz(
    root: &str,
    files: impl Iterator<Item = (String, Option<Bytes>)>,
) -> Result<Bytes> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    add(&mut tar, root, None)?;
    for (path, content) in files {
        add(&mut tar, &format!("{root}/{path}"), content.as_deref())?;
    }
    Ok(tar.into_inner()?.finish()?.into())
}

fn add(tar: &mut tar::Builder<impl Write>, path: &str, content: Option<&[u8]>) -> Result<()> {
    let (kind, mode) = match content {
        Some(_) => (EntryType::Regular, 0o644),
        None => (EntryType::Directory, 0o755),
    };
    let content = content.unwrap_or_default();
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content)
}

/// Builds a zip of stored files.
///
/// # Errors
///
/// Returns an error if a name cannot be in a zip.
pub(crate) fn zip(files: Vec<(String, Bytes)>) -> Result<Bytes> {
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(name, stored)?;
        zip.write_all(&content)?;
    }
    Ok(zip.finish()?.into_inner().into())
}
