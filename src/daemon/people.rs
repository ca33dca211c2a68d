//! Who gives answers: a command of the user's, or a person.

use std::time::Duration;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::protocol::UserQuestion;

/// The sources of answers.
#[async_trait]
pub(super) trait People: Send + Sync {
    /// Returns the answer of a user's command.
    async fn by_command(&self, command: &str, text: &str) -> Result<Zeroizing<String>, String>;
    /// Returns the answer of a person.
    async fn by_person(&self, question: UserQuestion) -> Result<Zeroizing<String>, String>;
    /// Returns whether a person waits at this moment, who would see what appears on the screen.
    fn is_attended(&self) -> bool;
    /// Shows a message.
    fn tell(&self, text: String);
    /// Waits, and shows the reason to the person.
    async fn pause(&self, why: String, time: Duration);
}
