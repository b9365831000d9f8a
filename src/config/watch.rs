//! Noticing that the configuration should be read again.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often the file is looked at: soon enough for a person, and one `stat` costs nothing.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why the configuration should be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// SIGHUP: certificates and `${file:}` may have changed as well.
    Signal,
    /// The file's size or time of change is another.
    File,
}

/// Watches for SIGHUP and for changes of the file.
#[derive(Debug)]
pub struct Watch {
    hangup: Signal,
    file: Option<PathBuf>,
    seen: Option<Stamp>,
    interval: Interval,
}

type Stamp = (SystemTime, u64);

impl Watch {
    /// Starts watching, from the file's present state. Needs a runtime.
    pub async fn new(file: Option<PathBuf>) -> std::io::Result<Self> {
        let mut interval = interval(LOOK_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = Self { hangup: signal(SignalKind::hangup())?, file, seen: None, interval };
        watch.seen = watch.look().await;
        Ok(watch)
    }

    /// Returns when the configuration should be read again. Cancel safe.
    pub async fn changed(&mut self) -> Change {
        loop {
            tokio::select! {
                Some(()) = self.hangup.recv() => return Change::Signal,
                _ = self.interval.tick() => {
                    // A file that is away is being replaced: what counts is what comes.
                    let Some(stamp) = self.look().await else { continue };
                    if self.seen.replace(stamp).is_some_and(|seen| seen != stamp) {
                        return Change::File;
                    }
                }
            }
        }
    }

    async fn look(&self) -> Option<Stamp> {
        let metadata = tokio::fs::metadata(self.file.as_ref()?).await.ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_changed_file_is_noticed_and_an_untouched_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tagway.toml");
        std::fs::write(&file, "a").unwrap();
        let mut watch = Watch::new(Some(file.clone())).await.unwrap();
        tokio::time::pause();
        let quiet = tokio::time::timeout(Duration::from_secs(60), watch.changed()).await;
        assert!(quiet.is_err());
        std::fs::remove_file(&file).unwrap();
        let quiet = tokio::time::timeout(Duration::from_secs(60), watch.changed()).await;
        assert!(quiet.is_err(), "a file that is away is no change");
        std::fs::write(&file, "ab").unwrap();
        assert_eq!(watch.changed().await, Change::File);
    }
}
