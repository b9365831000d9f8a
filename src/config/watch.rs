//! Detects that the configuration, or a certificate, must be reloaded.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The time between two checks of the files: fast enough for a person, and a `stat` each costs nothing.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The reason for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadReason {
    /// SIGHUP: the configuration, with its certificates and `${file:}`.
    Signal,
    /// The configuration's size or modification time has changed, and is stable.
    File,
    /// The size or modification time of a certificate's file has changed, and is stable.
    Certificate,
}

/// Watches for SIGHUP and for changes of the files.
#[derive(Debug)]
pub struct ConfigWatcher {
    hangup: Signal,
    file: Option<WatchedFile>,
    certificates: Vec<WatchedFile>,
    interval: Interval,
}

/// A file, and its state at the last check.
#[derive(Debug)]
struct WatchedFile {
    path: PathBuf,
    /// The file's state when it was last due to be read.
    read: Option<FileStamp>,
    /// The file's state at the last check.
    last_stamp: Option<FileStamp>,
}

type FileStamp = (SystemTime, u64);

impl WatchedFile {
    /// Watches from the file's present state.
    async fn new(path: PathBuf) -> Self {
        let now = stamp(&path).await;
        Self { path, read: now, last_stamp: now }
    }

    /// Checks the file. Returns true if it must be read again. A missing file is being replaced, and one that
    /// changed since the last check may be half written: only a stable state counts.
    async fn has_changed(&mut self) -> bool {
        let stamp = stamp(&self.path).await;
        let is_steady = std::mem::replace(&mut self.last_stamp, stamp) == stamp;
        let is_news = is_steady && stamp.is_some() && stamp != self.read;
        if is_news {
            self.read = stamp;
        }
        is_news
    }
}

async fn stamp(path: &PathBuf) -> Option<FileStamp> {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

impl ConfigWatcher {
    /// Starts watching from the file's present state: a caller that reads the file afterwards misses no
    /// change. From now on SIGHUP does not end the process. Needs a runtime.
    ///
    /// # Errors
    ///
    /// Fails if the process cannot receive SIGHUP.
    pub async fn new(file: Option<PathBuf>) -> std::io::Result<Self> {
        let mut interval = interval(CHECK_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let hangup = signal(SignalKind::hangup())?;
        let file = match file {
            Some(path) => Some(WatchedFile::new(path).await),
            None => None,
        };
        Ok(Self { hangup, file, certificates: Vec::new(), interval })
    }

    /// Watches these certificate files, and no others. Files that are already watched keep their state.
    pub async fn set_certificates(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        let mut known = std::mem::take(&mut self.certificates);
        for path in paths {
            let file = match known.iter().position(|file| file.path == path) {
                Some(index) => known.swap_remove(index),
                None => WatchedFile::new(path).await,
            };
            self.certificates.push(file);
        }
    }

    /// Returns when something must be reloaded. Cancel safe.
    pub async fn changed(&mut self) -> ReloadReason {
        loop {
            tokio::select! {
                Some(()) = self.hangup.recv() => return ReloadReason::Signal,
                _ = self.interval.tick() => {}
            }
            if let Some(file) = &mut self.file
                && file.has_changed().await
            {
                return ReloadReason::File;
            }
            // All files are checked: a certificate and its key are replaced one after the other.
            let mut is_news = false;
            for file in &mut self.certificates {
                is_news |= file.has_changed().await;
            }
            if is_news {
                return ReloadReason::Certificate;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changed_reports_a_changed_file_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tagway.toml");
        std::fs::write(&file, "a").unwrap();
        let mut watch = ConfigWatcher::new(Some(file.clone())).await.unwrap();
        tokio::time::pause();
        // Halfway between two checks, so that each wait of one period contains one check.
        let quiet =
            tokio::time::timeout(CHECK_INTERVAL * 30 + CHECK_INTERVAL / 2, watch.changed()).await;
        assert!(quiet.is_err());
        std::fs::remove_file(&file).unwrap();
        let quiet = tokio::time::timeout(CHECK_INTERVAL * 30, watch.changed()).await;
        assert!(quiet.is_err(), "a file that is away is no change");
        for text in ["", "[[sites]]\nname", "[[sites]]\nname = \"a\"\n"] {
            std::fs::write(&file, text).unwrap();
            let half = tokio::time::timeout(CHECK_INTERVAL, watch.changed()).await;
            assert!(half.is_err(), "a file that still grows is no change: {text:?}");
        }
        let whole = tokio::time::timeout(CHECK_INTERVAL, watch.changed()).await;
        assert_eq!(whole, Ok(ReloadReason::File));
        let quiet = tokio::time::timeout(CHECK_INTERVAL * 30, watch.changed()).await;
        assert!(quiet.is_err(), "a change is told once");
    }

    #[tokio::test]
    async fn changed_reports_replaced_certificates_together_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["shop.pem", "shop.key"].map(|name| dir.path().join(name));
        files.iter().for_each(|file| std::fs::write(file, "a").unwrap());
        let mut watch = ConfigWatcher::new(None).await.unwrap();
        watch.set_certificates(files.clone()).await;
        tokio::time::pause();
        let quiet = tokio::time::timeout(CHECK_INTERVAL * 30, watch.changed()).await;
        assert!(quiet.is_err());
        files.iter().for_each(|file| std::fs::write(file, "longer").unwrap());
        // Already watched files keep their state: a change meanwhile is still detected.
        watch.set_certificates(files).await;
        assert_eq!(watch.changed().await, ReloadReason::Certificate);
        let quiet = tokio::time::timeout(CHECK_INTERVAL * 30, watch.changed()).await;
        assert!(quiet.is_err(), "a change is told once");
    }
}
