//! The password of a link: generated to be read out on a telephone, or the user's own; checked by the server before
//! anything is uploaded.

use reqwest::Method;
use scaup_sftp::text::Line;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::error::ShareError;
use super::words::{self, LINK_WORDS, PASSPHRASE_WORDS, Policy};
use crate::account::Session;
use crate::dav::{DavError, Ocs};

/// How many passwords are generated before the server is asked for one.
const TRIES: usize = 3;

#[derive(Deserialize)]
struct Checked {
    passed: bool,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Generated {
    password: Zeroizing<String>,
}

/// Returns a passphrase for a file that is encrypted.
pub(super) fn passphrase() -> Result<Zeroizing<String>, ShareError> {
    Ok(words::passphrase(PASSPHRASE_WORDS)?)
}

impl Session {
    /// Returns the password for a link: `own`, if the server accepts it, or a generated one.
    pub(super) async fn link_password(
        &self,
        own: Option<Zeroizing<String>>,
    ) -> Result<Zeroizing<String>, ShareError> {
        if let Some(own) = own {
            return match self.refusal_of(&own).await? {
                Some(reason) => Err(ShareError::OwnPassword(reason)),
                None => Ok(own),
            };
        }
        let min_length = self.capabilities.password_policy.as_ref().and_then(|policy| policy.min_length);
        let min_length = min_length.and_then(|min| usize::try_from(min).ok()).unwrap_or(0);
        let policy = Policy::new(min_length)
            .map_err(|error| ShareError::MadePassword(Line::of(&error.to_string())))?;
        let mut reason = Line::default();
        for _ in 0..TRIES {
            let password = words::link_password(LINK_WORDS, &policy)?;
            match self.refusal_of(&password).await? {
                Some(refused) => reason = refused,
                None => return Ok(password),
            }
        }
        let generated = self.generated().await?;
        match self.refusal_of(&generated).await? {
            Some(_) => Err(ShareError::MadePassword(reason)),
            None => Ok(generated),
        }
    }

    /// Returns why the server would refuse a password, if it would. Where no policy is known, any is accepted.
    async fn refusal_of(&self, password: &str) -> Result<Option<Line>, DavError> {
        if self.capabilities.password_policy.is_none() {
            return Ok(None);
        }
        let fields = [("password", password), ("context", "sharing")];
        let path = "apps/password_policy/api/v1/validate";
        let ocs = Ocs::new(Method::POST, path, &fields, "checking the password");
        let Checked { passed, reason } = self.client.ocs(ocs).await?;
        Ok((!passed).then(|| Line::of(&reason.unwrap_or_default())))
    }

    async fn generated(&self) -> Result<Zeroizing<String>, DavError> {
        let path = "apps/password_policy/api/v1/generate";
        let fields = [("context", "sharing")];
        let ocs = Ocs::new(Method::GET, path, &fields, "generating a password");
        let Generated { password } = self.client.ocs(ocs).await?;
        Ok(password)
    }
}
