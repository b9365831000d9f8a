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
    /// The file's size or time of change is another, and stays so.
    File,
}

/// Watches for SIGHUP and for changes of the file.
#[derive(Debug)]
pub struct Watch {
    hangup: Signal,
    file: Option<PathBuf>,
    /// The file as it was when it was last to be read.
    read: Option<Stamp>,
    /// The file as it was at the last look.
    seen: Option<Stamp>,
    interval: Interval,
}

type Stamp = (SystemTime, u64);

impl Watch {
    /// Starts watching, from the file's present state: whoever reads the file afterwards misses no
    /// change. From now on SIGHUP does not end the process. Needs a runtime.
    pub async fn new(file: Option<PathBuf>) -> std::io::Result<Self> {
        let mut interval = interval(LOOK_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let hangup = signal(SignalKind::hangup())?;
        let mut watch = Self { hangup, file, read: None, seen: None, interval };
        watch.read = watch.look().await;
        watch.seen = watch.read;
        Ok(watch)
    }

    /// Returns when the configuration should be read again. Cancel safe.
    pub async fn changed(&mut self) -> Change {
        loop {
            tokio::select! {
                Some(()) = self.hangup.recv() => return Change::Signal,
                _ = self.interval.tick() => {
                    // A file that is away is being replaced, and one that is not what it was at the
                    // last look may be half written: what counts is what stays.
                    let stamp = self.look().await;
                    let is_steady = std::mem::replace(&mut self.seen, stamp) == stamp;
                    if is_steady && stamp.is_some() && stamp != self.read {
                        self.read = stamp;
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
        // Between two looks, so that each wait of one period holds one look.
        let quiet = tokio::time::timeout(LOOK_EVERY * 30 + LOOK_EVERY / 2, watch.changed()).await;
        assert!(quiet.is_err());
        std::fs::remove_file(&file).unwrap();
        let quiet = tokio::time::timeout(LOOK_EVERY * 30, watch.changed()).await;
        assert!(quiet.is_err(), "a file that is away is no change");
        for text in ["", "[[sites]]\nname", "[[sites]]\nname = \"a\"\n"] {
            std::fs::write(&file, text).unwrap();
            let half = tokio::time::timeout(LOOK_EVERY, watch.changed()).await;
            assert!(half.is_err(), "a file that still grows is no change: {text:?}");
        }
        let whole = tokio::time::timeout(LOOK_EVERY, watch.changed()).await;
        assert_eq!(whole, Ok(Change::File));
        let quiet = tokio::time::timeout(LOOK_EVERY * 30, watch.changed()).await;
        assert!(quiet.is_err(), "a change is told once");
    }
}
