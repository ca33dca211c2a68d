//! A login in the browser, so that any second factor works (Nextcloud's login flow, version 2). It ends with an app
//! password, which opens what the account opens, without a second factor.

use std::time::Duration;

use reqwest::Url;
use scaup_sftp::text::Line;
use serde::Deserialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::dav::{Cancel, Client, DavError, Login};

/// How long the page can be used.
pub const PATIENCE: Duration = Duration::from_secs(20 * 60);
/// How often the server is asked whether access was granted.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// Why a login in the browser gave no app password.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// A request failed.
    #[error(transparent)]
    Dav(#[from] DavError),
    /// The page to open is on another host.
    #[error("the server names a page on another host, {0}: it is not opened")]
    Elsewhere(Line),
    /// The server that granted access is another one.
    #[error("access was granted by {granted}, not by {asked}: if that is the server's address, use it")]
    OtherServer {
        /// The address that the server says it has.
        granted: Line,
        /// The address that was asked.
        asked: String,
    },
    /// The server's reply was lost, and it may have held the app password.
    #[error(
        "the connection was lost while access was waited for; if you have granted it, revoke \"{device}\" on {host} under Settings, Security, and try again"
    )]
    ReplyLost {
        /// What the app password is called there.
        device: String,
        /// The server's host.
        host: String,
    },
    /// Nobody granted access in time.
    #[error("nobody granted access within 20 minutes")]
    TooLate,
}

#[derive(Deserialize)]
struct Begun {
    poll: Poll,
    login: String,
}

#[derive(Deserialize)]
struct Poll {
    token: Zeroizing<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    server: String,
    login_name: String,
    app_password: Zeroizing<String>,
}

/// Access that a person has granted.
pub struct Granted {
    /// The login, which is valid now.
    pub login: Login,
    /// Set if it was granted by another server than the one that was asked.
    pub other: Option<LoginError>,
}

/// A login that waits for the browser.
pub struct BrowserLogin {
    client: Client,
    token: Zeroizing<String>,
    page: Url,
}

impl BrowserLogin {
    /// Begins a login.
    ///
    /// # Errors
    ///
    /// If the server can't be asked, or names a page on another host.
    pub async fn begin(client: &Client) -> Result<Self, LoginError> {
        let begun: Begun = client.post_form("index.php/login/v2", &[], "beginning a login").await?;
        let elsewhere = || LoginError::Elsewhere(Line::of(&begun.login));
        let mut page = Url::parse(&begun.login).map_err(|_| elsewhere())?;
        if !client.address().includes(&page) {
            // Behind a proxy, a server may believe that it is reached by http.
            page = client.address().corrected(&page).ok_or_else(elsewhere)?;
        }
        Ok(Self { client: client.clone(), token: begun.poll.token, page })
    }

    /// Returns the page that a person has to open.
    #[must_use]
    pub fn page(&self) -> &str {
        self.page.as_str()
    }

    /// Waits until a person has granted access there. Who gets an app password has to delete it if it is not used. A
    /// request under way is not dropped: it may be the one that brings the app password.
    ///
    /// # Errors
    ///
    /// If nobody grants access in time, or the wait is cancelled.
    pub async fn granted(&self, cancel: &Cancel) -> Result<Granted, LoginError> {
        let give_up = Instant::now() + PATIENCE;
        let fields = [("token", self.token.as_str())];
        let mut is_lost = false;
        loop {
            let asked =
                self.client.post_form::<Said>("index.php/login/v2/poll", &fields, "asking for access").await;
            match asked {
                Ok(said) => return Ok(self.granted_by(said)),
                // The server tells the app password once.
                Err(error) if error.is_missing() && is_lost => {
                    return Err(LoginError::ReplyLost {
                        device: user_agent(),
                        host: self.client.address().host(),
                    });
                }
                Err(error) if error.is_missing() => {}
                Err(error) if error.may_be_done() => is_lost = true,
                Err(error) => return Err(error.into()),
            }
            if Instant::now() + ASKED_EVERY > give_up {
                return Err(LoginError::TooLate);
            }
            cancel.pause(ASKED_EVERY).await?;
        }
    }

    fn granted_by(&self, said: Said) -> Granted {
        let Said { server, login_name, app_password } = said;
        let address = self.client.address();
        let is_here = Url::parse(&server)
            .is_ok_and(|server| address.includes(&server) || address.corrected(&server).is_some());
        let other = (!is_here)
            .then(|| LoginError::OtherServer { granted: Line::of(&server), asked: address.to_string() });
        Granted { login: Login { name: login_name, password: app_password }, other }
    }
}

/// Returns the name by which the server calls what this machine does there, and the app passwords that it gets.
#[must_use]
pub fn user_agent() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c)).collect();
    format!("Scaup {} ({host})", env!("CARGO_PKG_VERSION"))
}
