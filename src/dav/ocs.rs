//! OCS, Nextcloud's own interface: requests of form fields, replies in an envelope of JSON.

use reqwest::Method;
use reqwest::StatusCode;
use scaup_sftp::text::Line;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use zeroize::Zeroizing;

use super::client::{Client, Content, Reply, Request};
use super::error::DavError;
use super::files::encoded;

#[derive(Deserialize)]
struct Envelope<T> {
    ocs: Inside<T>,
}

#[derive(Deserialize)]
struct Inside<T> {
    meta: Meta,
    data: T,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    message: Option<String>,
}

/// A request to OCS.
pub struct Ocs<'a> {
    /// The HTTP method.
    method: Method,
    /// The path below `ocs/v2.php/`.
    path: &'a str,
    /// The fields: of the query in requests that only look, else of the body, so that no log of addresses has them.
    fields: &'a [(&'a str, &'a str)],
    /// What it is for, for messages.
    what: &'static str,
    /// Whether it may be sent again if nobody knows whether it was done.
    is_repeatable: bool,
}

impl<'a> Ocs<'a> {
    /// Creates a request that may be sent again if nobody knows whether it was done.
    #[must_use]
    pub fn new(method: Method, path: &'a str, fields: &'a [(&'a str, &'a str)], what: &'static str) -> Self {
        Self { method, path, fields, what, is_repeatable: true }
    }

    /// Makes it one that is sent once.
    #[must_use]
    pub fn once(self) -> Self {
        Self { is_repeatable: false, ..self }
    }
}

impl Client {
    /// Sends a request to OCS. The reply may hold what nobody should see, such as the hash of a password: only what `T`
    /// names is taken from it.
    ///
    /// # Errors
    ///
    /// [`DavError::Refused`] with the server's words, in the language of the account.
    pub async fn ocs<T: DeserializeOwned>(&self, ocs: Ocs<'_>) -> Result<T, DavError> {
        let Ocs { method, path, fields, what, is_repeatable } = ocs;
        let form = form(fields);
        // Without this, some versions refuse a login in XML, whatever else is asked for.
        let mut path = format!("ocs/v2.php/{path}?format=json");
        let mut content = Content::Nothing;
        if method == Method::GET {
            if !fields.is_empty() {
                path = format!("{path}&{}", *form);
            }
        } else if !fields.is_empty() {
            content = Content::Text("application/x-www-form-urlencoded", form);
        }
        let mut request = Request::new(method, path, what).with_text("accept", "application/json");
        request.content = content;
        request.is_repeatable = is_repeatable;
        let reply = self.send(&request).await?;
        if reply.status != StatusCode::OK {
            return Err(self.refused_with(what, reply.status, words(&reply)));
        }
        let envelope: Envelope<T> =
            serde_json::from_slice(&reply.body).map_err(|_| self.not_understood(what))?;
        Ok(envelope.ocs.data)
    }
}

impl Client {
    /// Sends a form, once, to a page that replies in JSON.
    ///
    /// # Errors
    ///
    /// If the server refuses.
    pub async fn post_form<T: DeserializeOwned>(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        what: &'static str,
    ) -> Result<T, DavError> {
        let mut request = Request::new(Method::POST, path.to_owned(), what);
        request.content = Content::Text("application/x-www-form-urlencoded", form(fields));
        request.is_repeatable = false;
        let reply = self.require(&request, &[StatusCode::OK]).await?;
        serde_json::from_slice(&reply.body).map_err(|_| self.not_understood(what))
    }

    /// Deletes the app password of the login, which then opens nothing any more. It is tried even if a request was
    /// refused before.
    ///
    /// # Errors
    ///
    /// If the server refuses, also because it was deleted before.
    pub async fn delete_app_password(&self) -> Result<(), DavError> {
        let _: IgnoredAny = self
            .unrefused()
            .ocs(Ocs::new(Method::DELETE, "core/apppassword", &[], "deleting the app password"))
            .await?;
        Ok(())
    }
}

fn words(reply: &Reply) -> Option<Line> {
    let envelope: Envelope<IgnoredAny> = serde_json::from_slice(&reply.body).ok()?;
    envelope.ocs.meta.message.filter(|message| !message.is_empty()).map(|message| Line::of(&message))
}

/// Returns fields as a form's body or a query has them.
pub(super) fn form(fields: &[(&str, &str)]) -> Zeroizing<String> {
    let mut form = Zeroizing::new(String::new());
    for (name, value) in fields {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        form.push_str(&Zeroizing::new(encoded(value)));
    }
    form
}
