//! A login in the browser, so that any second factor works (Nextcloud's login flow, version 2). It ends with an app
//! password, which opens what the account opens, without a second factor.

use std::time::Duration;

use reqwest::Url;
use scaup_sftp::text::Line;
use serde::Deserialize;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use crate::dav::{Client, DavError, Login};

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
struct Granted {
    server: String,
    login_name: String,
    app_password: Zeroizing<String>,
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

    /// Waits until a person has granted access there.
    ///
    /// # Errors
    ///
    /// If nobody does in time, or another server did.
    pub async fn granted(&self) -> Result<Login, LoginError> {
        let give_up = Instant::now() + PATIENCE;
        let fields = [("token", self.token.as_str())];
        loop {
            let asked = self
                .client
                .post_form::<Granted>("index.php/login/v2/poll", &fields, "asking for access")
                .await;
            match asked {
                Ok(granted) => return self.checked(granted),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error.into()),
            }
            if Instant::now() + ASKED_EVERY > give_up {
                return Err(LoginError::TooLate);
            }
            sleep(ASKED_EVERY).await;
        }
    }

    fn checked(&self, granted: Granted) -> Result<Login, LoginError> {
        let Granted { server, login_name, app_password } = granted;
        let address = self.client.address();
        let is_here = Url::parse(&server)
            .is_ok_and(|server| address.includes(&server) || address.corrected(&server).is_some());
        if !is_here {
            return Err(LoginError::OtherServer { granted: Line::of(&server), asked: address.to_string() });
        }
        Ok(Login { name: login_name, password: app_password })
    }
}
