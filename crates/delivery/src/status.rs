//! The states of a destination, as operators see them.

/// The source of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseInitiator {
    /// The setting `paused = true`.
    Configuration,
    /// The command `tagway destinations pause`.
    Operator,
}

/// The state of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationStatus {
    /// It accepts events.
    Running,
    /// Some of its events wait for another try.
    Retrying,
    /// Its breaker is open.
    Broken,
    /// It refuses the credentials.
    Unauthorised,
    /// It is not called, and its events wait.
    Paused(PauseInitiator),
    /// It is being stopped.
    Stopped,
}

impl DestinationStatus {
    /// Returns the name in the API and the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Broken => "broken",
            Self::Unauthorised => "unauthorised",
            Self::Paused(_) => "paused",
            Self::Stopped => "stopped",
        }
    }

    /// Returns the reason why it is not running normally.
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Running | Self::Stopped => None,
            Self::Retrying => Some("some events wait for another try"),
            Self::Broken => Some("calls fail one after another; probing"),
            Self::Paused(PauseInitiator::Configuration) => {
                Some("paused = true in the configuration")
            }
            Self::Paused(PauseInitiator::Operator) => {
                Some("an operator paused it: `tagway destinations resume`")
            }
            Self::Unauthorised => Some("the vendor refuses the credentials; probing"),
        }
    }
}
