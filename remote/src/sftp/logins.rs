//! Limits logins that lead to no connection: each may cost a one-time code, or a person's time.

use std::time::Duration;

use tokio::time::Instant;

/// What the last login needed, and thus how many of its kind may succeed without leading to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginAllowance {
    /// No question was asked.
    Unlimited,
    /// A command gave a code.
    OfCommand,
    /// A person was asked.
    OfPerson,
}

impl LoginAllowance {
    /// Returns the limit: a number of logins within a time.
    fn limit(self) -> Option<(usize, Duration)> {
        match self {
            Self::Unlimited => None,
            Self::OfCommand => Some((1, Duration::from_secs(5 * 60))),
            Self::OfPerson => Some((2, Duration::from_secs(60 * 60))),
        }
    }
}

/// The logins since there was last a connection.
#[derive(Debug, Default)]
pub(super) struct InVain(Vec<Instant>);

impl InVain {
    /// Records a successful login.
    pub(super) fn record(&mut self) {
        self.0.push(Instant::now());
    }

    /// Returns how long it takes until another login is allowed.
    pub(super) fn next_in(&self, allowance: LoginAllowance) -> Duration {
        let Some((most, within)) = allowance.limit() else { return Duration::ZERO };
        let before_those = self.0.len().checked_sub(most).and_then(|first| self.0.get(first));
        before_those.map_or(Duration::ZERO, |at| within.saturating_sub(at.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The clock is paused, and moved ahead.
    #[tokio::test(start_paused = true)]
    async fn a_command_is_asked_once_in_five_minutes_and_a_person_twice_an_hour() {
        for (allowance, most, within) in [
            (LoginAllowance::OfCommand, 1, 300),
            (LoginAllowance::OfPerson, 2, 3600),
            (LoginAllowance::Unlimited, 1000, 10),
        ] {
            let mut logins = InVain::default();
            for _ in 0..most {
                assert_eq!(logins.next_in(allowance), Duration::ZERO);
                logins.record();
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            let next = Duration::from_secs(if most < 1000 { within - most } else { 0 });
            assert_eq!(logins.next_in(allowance), next, "{allowance:?}");
            tokio::time::advance(next).await;
            assert_eq!(logins.next_in(allowance), Duration::ZERO);
        }
    }
}
