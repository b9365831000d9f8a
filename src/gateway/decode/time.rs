//! Corrects event times of clients whose clocks are wrong (`docs/contracts/beacons.md` 1.6).

use jiff::{SignedDuration, Timestamp};

/// The largest correction: a clock that is further off is not trusted at all.
const MAX_CORRECTION: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Returns the time of the event: `received - (sent - happened)`, so that only the client's own interval counts,
/// not its clock. Never after it was received. Without `sent` the client's clock is used as it is.
pub(super) fn correct(
    happened: Option<Timestamp>,
    sent: Option<Timestamp>,
    received: Timestamp,
) -> Timestamp {
    let Some(happened) = happened else { return received };
    let Some(sent) = sent else { return happened.min(received) };
    if received.duration_since(sent).abs() > MAX_CORRECTION {
        return received;
    }
    let age = sent.duration_since(happened);
    received.checked_sub(age).map_or(received, |time| time.min(received))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn client_clock_does_not_matter_but_its_intervals_do() {
        let received = at("2026-11-23T12:00:10Z");
        let correct = |happened: &str, sent: &str| {
            correct(
                (!happened.is_empty()).then(|| at(happened)),
                (!sent.is_empty()).then(|| at(sent)),
                received,
            )
        };
        let cases = [
            // Right clock, sent 10 s after it happened.
            ("2026-11-23T12:00:00Z", "2026-11-23T12:00:10Z", "2026-11-23T12:00:00Z"),
            // One hour fast.
            ("2026-11-23T13:00:00Z", "2026-11-23T13:00:10Z", "2026-11-23T12:00:00Z"),
            // Nine hours slow.
            ("2026-11-23T03:00:00Z", "2026-11-23T03:00:10Z", "2026-11-23T12:00:00Z"),
            // Happened after it was sent: not after it was received.
            ("2026-11-23T12:00:20Z", "2026-11-23T12:00:10Z", "2026-11-23T12:00:10Z"),
            // Kept offline for two days.
            ("2026-11-21T12:00:00Z", "2026-11-23T12:00:10Z", "2026-11-21T12:00:00Z"),
            // A clock that was never set.
            ("1970-01-01T00:00:10Z", "1970-01-01T00:00:20Z", "2026-11-23T12:00:10Z"),
            // Without a sending time.
            ("2026-11-23T11:00:00Z", "", "2026-11-23T11:00:00Z"),
            ("2026-11-23T14:00:00Z", "", "2026-11-23T12:00:10Z"),
            ("", "2026-11-23T12:00:00Z", "2026-11-23T12:00:10Z"),
        ];
        for (happened, sent, expected) in cases {
            assert_eq!(correct(happened, sent), at(expected), "{happened} {sent}");
        }
    }
}
