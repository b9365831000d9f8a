//! Scripts on disk: one file each, named by the hash of its URL. An incomplete file counts as absent.
//! Every function blocks.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::source::{FetchedScript, ScriptMetadata, hash, hex};

/// The longest first line of a file.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The folder of scripts.
#[derive(Debug)]
pub(super) struct ScriptDiskCache {
    folder: PathBuf,
    max_bytes: u64,
    /// Held by the writer, which also enforces the disk limit.
    writing: Mutex<()>,
}

/// The first line of a file. The script follows.
#[derive(Serialize, Deserialize)]
struct DiskCacheHeader {
    sha256: String,
    #[serde(flatten)]
    facts: ScriptMetadata,
}

impl ScriptDiskCache {
    pub(super) fn new(folder: PathBuf, max_bytes: u64) -> Self {
        Self { folder, max_bytes, writing: Mutex::new(()) }
    }

    fn file(&self, url: &str) -> PathBuf {
        self.folder.join(hex(&hash(url.as_bytes())))
    }

    /// Returns the script of this URL if its file exists and is complete.
    pub(super) fn read(&self, url: &str, max_bytes: usize) -> Option<FetchedScript> {
        read(&self.file(url), url, max_bytes).ok()
    }

    /// Stores a script: completely, or not at all.
    pub(super) fn write(&self, source: &FetchedScript) -> io::Result<()> {
        // A poisoned lock guards nothing but the order.
        let _writing = self.writing.lock();
        write(&self.folder, &self.file(&source.facts.url), source)?;
        self.make_room()
    }

    /// Removes the oldest files until the rest fits.
    fn make_room(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let facts = entry.metadata()?;
            files.push((facts.modified()?, facts.len(), entry.path()));
        }
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        files.sort();
        for (_, length, file) in files {
            if bytes <= self.max_bytes {
                break;
            }
            fs::remove_file(file)?;
            bytes -= length;
        }
        Ok(())
    }
}

/// The script from `url` in a file. The error kind `InvalidData` means an incomplete file, or one of
/// another URL.
pub(super) fn read(file: &Path, url: &str, max_bytes: usize) -> io::Result<FetchedScript> {
    let damaged = || io::Error::from(io::ErrorKind::InvalidData);
    let length = fs::metadata(file)?.len();
    if length > max_bytes.saturating_add(MAX_HEAD_BYTES) as u64 {
        return Err(damaged());
    }
    let bytes = Bytes::from(fs::read(file)?);
    let end = memchr::memchr(b'\n', &bytes).ok_or_else(damaged)?;
    let head: DiskCacheHeader = serde_json::from_slice(bytes.get(..end).unwrap_or_default())?;
    let body = bytes.slice(end + 1..);
    let hash = hash(&body);
    if hex(&hash) != head.sha256 || head.facts.url != url {
        return Err(damaged());
    }
    Ok(FetchedScript { facts: head.facts, hash, body })
}

/// Writes a script to a file in a folder, atomically: after a crash the old one or the new one exists.
pub(super) fn write(folder: &Path, file: &Path, source: &FetchedScript) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let unfinished = file.with_added_extension("new");
    let head = DiskCacheHeader { sha256: hex(&source.hash), facts: source.facts.clone() };
    let mut out = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    out.write_all(&serde_json::to_vec(&head)?)?;
    out.write_all(b"\n")?;
    out.write_all(&source.body)?;
    out.sync_all()?;
    fs::rename(unfinished, file)?;
    // Makes the file's name as durable as its content.
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(url: &str, body: &str) -> FetchedScript {
        let facts = ScriptMetadata {
            url: url.to_owned(),
            content_type: "text/javascript".to_owned(),
            etag: None,
            last_modified: None,
            max_age: None,
            checked_at: 7,
        };
        FetchedScript { facts, hash: hash(body.as_bytes()), body: Bytes::from(body.to_owned()) }
    }

    #[test]
    fn read_rejects_incomplete_files() {
        let folder = tempfile::tempdir().unwrap();
        let disk = ScriptDiskCache::new(folder.path().join("scripts"), 1 << 20);
        disk.write(&source("https://x/a", "let a\n= 1")).unwrap();
        let read = disk.read("https://x/a", 100).unwrap();
        assert_eq!((&read.body[..], read.facts.checked_at), (&b"let a\n= 1"[..], 7));
        assert!(disk.read("https://x/b", 100).is_none());
        let file = disk.file("https://x/a");
        let whole = fs::read(&file).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[1..], &[&whole[..], b"x"].concat(), b""] {
            fs::write(&file, damaged).unwrap();
            assert!(disk.read("https://x/a", 100).is_none());
        }
        fs::write(disk.file("https://x/b"), &whole).unwrap();
        assert!(disk.read("https://x/b", 100).is_none(), "another's file");
    }

    #[test]
    fn write_removes_the_oldest_scripts_over_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let disk = ScriptDiskCache::new(folder.path().join("scripts"), 1000);
        for name in ["a", "b", "c"] {
            disk.write(&source(name, &name.repeat(300))).unwrap();
        }
        assert!(disk.read("a", 1000).is_none());
        assert!(disk.read("c", 1000).is_some());
    }
}
