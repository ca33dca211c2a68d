//! Sends requests to one server, with one login.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, COOKIE, DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::{Certificate, Method, StatusCode, Url, redirect};
use scaup_sftp::text::Line;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::address::ServerAddress;
use super::content_body::ContentBody;
pub(super) use super::content_body::Sent;
use super::error::DavError;
use super::multistatus;
use super::sessions::Sessions;
use super::status::says_maintenance;

/// How long a connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);
/// How long the other side may leave what was sent without acknowledgement (`TCP_USER_TIMEOUT`).
const DEAD_AFTER: Duration = Duration::from_secs(30);
/// How often an idle connection is probed.
const PROBED_EVERY: Duration = Duration::from_secs(10);
/// How long the reply to a small request may take.
const REPLY_PATIENCE: Duration = Duration::from_secs(60);
/// How long a request may take that sends much, or has the server go through much.
pub(super) const LONG_PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How long what is busy is asked again.
const BUSY_PATIENCE: Duration = Duration::from_secs(30);
/// The first pause before something is asked again, at least. Each is twice as long as the one before it.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause, at least.
const PAUSE_MAX: Duration = Duration::from_secs(4);
/// The longest time that a server may ask to wait, seconds.
const WAIT_MAX: u64 = 24 * 3600;
/// The longest reply that is taken, bytes: a list of 20,000 files.
const REPLY_LEN_MAX: usize = 32 << 20;
/// Says that the request does not come from a page in a browser. Without it, OCS refuses (412).
const OCS_REQUEST: HeaderName = HeaderName::from_static("ocs-apirequest");

/// The value of `X-Requested-With` that says that no page of a browser is wanted.
pub(super) const BY_SCRIPT: &str = "XMLHttpRequest";

/// A login: the name, and an app password.
#[derive(Clone)]
pub struct Login {
    /// The name to log in with, which need not be the user's id.
    pub name: String,
    /// The app password.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Login {
    /// Returns the header for it (RFC 7617).
    fn header(&self) -> Result<HeaderValue, DavError> {
        let pair = Zeroizing::new(format!("{}:{}", self.name, *self.password));
        let text = Zeroizing::new(format!("Basic {}", data_encoding::BASE64.encode(pair.as_bytes())));
        let refused = |_| DavError::LoginRefused { host: String::new() };
        let mut header = HeaderValue::from_str(&text).map_err(refused)?;
        header.set_sensitive(true);
        Ok(header)
    }
}

/// What a request sends.
pub(super) enum Content {
    Nothing,
    /// A short text, of this type.
    Text(&'static str, Zeroizing<String>),
    /// Content of a file.
    File(Bytes, Sent),
}

/// A request.
pub(super) struct Request {
    pub(super) method: Method,
    /// The path below the server's address, percent-encoded, with the query.
    pub(super) path: String,
    /// What it is for, for messages.
    pub(super) what: &'static str,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) content: Content,
    /// Whether it may be sent again if nobody knows whether it was done.
    pub(super) is_repeatable: bool,
    /// Whether the server may work longer on it than a proxy waits: then it is not sent again because of that.
    pub(super) may_be_late: bool,
    /// How long the reply may take.
    pub(super) patience: Duration,
}

impl Request {
    pub(super) fn new(method: Method, path: String, what: &'static str) -> Self {
        Self {
            method,
            path,
            what,
            headers: Vec::new(),
            content: Content::Nothing,
            is_repeatable: true,
            may_be_late: false,
            patience: REPLY_PATIENCE,
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.push((HeaderName::from_static(name), value));
        self
    }

    pub(super) fn with_text(self, name: &'static str, value: &'static str) -> Self {
        self.with(name, HeaderValue::from_static(value))
    }
}

/// A reply.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Reply {
    /// Returns a header's text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns how long the server asks to wait, seconds.
    fn seconds_to_wait(&self) -> Option<u64> {
        let seconds: u64 = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(seconds.min(WAIT_MAX))
    }
}

/// What somebody finds who visits an address without the login.
pub struct Visit {
    /// The HTTP status.
    pub status: u16,
    /// Where the server sends them on to.
    pub location: Option<Url>,
}

/// Sends requests to one server. Clones share the connection, the login and its session.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    address: ServerAddress,
    login: Option<Login>,
    sessions: Arc<Sessions>,
    /// The login was refused: no more is sent.
    is_refused: Arc<AtomicBool>,
    /// How much the server's clock is ahead of this machine's, seconds, as its last reply said.
    clock_ahead: Arc<Mutex<Option<i64>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address)
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Creates a client without a login. It trusts the authorities of this system, and those in the file `ca` (PEM).
    /// The server calls an app password by `user_agent`.
    ///
    /// # Errors
    ///
    /// If the file can't be read or holds no certificate.
    pub fn new(address: ServerAddress, ca: Option<&Path>, user_agent: &str) -> Result<Self, DavError> {
        let own = ca.map(certificates).transpose()?.unwrap_or_default();
        let unreachable = |source| DavError::Unreachable { host: address.host(), source };
        let mut http = reqwest::Client::builder()
            .user_agent(user_agent)
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_PATIENCE)
            .tcp_user_timeout(DEAD_AFTER)
            .tcp_keepalive(PROBED_EVERY)
            .tls_certs_merge(own);
        if address.is_plain() {
            // What is not encrypted stays on this machine.
            http = http.no_proxy();
        } else {
            http = http.https_only(true);
        }
        Ok(Self {
            http: http.build().map_err(unreachable)?,
            address,
            login: None,
            sessions: Arc::default(),
            is_refused: Arc::default(),
            clock_ahead: Arc::default(),
        })
    }

    /// Returns a client with this login, in a session of its own.
    #[must_use]
    pub fn with_login(&self, login: Login) -> Self {
        Self { login: Some(login), sessions: Arc::default(), is_refused: Arc::default(), ..self.clone() }
    }

    /// Returns the login.
    #[must_use]
    pub fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Returns a client with the same login that does not know that it was refused.
    pub(super) fn unrefused(&self) -> Self {
        Self { is_refused: Arc::default(), ..self.clone() }
    }

    /// Returns the server's address.
    #[must_use]
    pub fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// Returns how much the server's clock is ahead of this machine's, if it has said what time it is.
    #[must_use]
    pub fn clock_ahead(&self) -> Option<i64> {
        *self.clock_ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time on the server's clock, as far as it has said it.
    #[must_use]
    pub fn server_time(&self) -> Timestamp {
        let ahead = SignedDuration::from_secs(self.clock_ahead().unwrap_or(0));
        Timestamp::now().checked_add(ahead).unwrap_or_else(|_| Timestamp::now())
    }

    pub(super) fn host(&self) -> String {
        self.address.host()
    }

    pub(super) fn refused(&self, what: &'static str, reply: &Reply) -> DavError {
        self.refused_with(what, reply.status, multistatus::message(&reply.body))
    }

    pub(super) fn refused_with(
        &self,
        what: &'static str,
        status: StatusCode,
        message: Option<Line>,
    ) -> DavError {
        DavError::Refused { host: self.host(), what, status: status.as_u16(), message }
    }

    pub(super) fn not_understood(&self, what: &'static str) -> DavError {
        DavError::NotUnderstood { host: self.host(), what }
    }

    /// Sends a request; what is busy is asked again for a while. Returns any reply that does not concern all requests
    /// alike.
    pub(super) async fn send(&self, request: &Request) -> Result<Reply, DavError> {
        let (give_up, mut pauses) = (Instant::now() + BUSY_PATIENCE, Pauses::new());
        loop {
            let sent = self.send_once(request).await;
            let mut is_undone = false;
            let pause = match &sent {
                Ok(reply) => match reply.status {
                    StatusCode::LOCKED => {
                        is_undone = true;
                        pauses.next()
                    }
                    StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT if !request.may_be_late => {
                        pauses.next()
                    }
                    StatusCode::SERVICE_UNAVAILABLE => {
                        if self.is_in_maintenance().await? {
                            return Err(DavError::Maintenance { host: self.host() });
                        }
                        let asked = Duration::from_secs(reply.seconds_to_wait().unwrap_or(0));
                        asked.max(pauses.next())
                    }
                    StatusCode::UNAUTHORIZED if self.login.is_some() => {
                        self.is_refused.store(true, Ordering::SeqCst);
                        return Err(DavError::LoginRefused { host: self.host() });
                    }
                    StatusCode::TOO_MANY_REQUESTS => {
                        return Err(DavError::TooMany {
                            host: self.host(),
                            seconds: reply.seconds_to_wait(),
                        });
                    }
                    StatusCode::PAYLOAD_TOO_LARGE => {
                        let len = match &request.content {
                            Content::File(content, _) => Some(content.len() as u64),
                            Content::Nothing | Content::Text(..) => None,
                        };
                        return Err(DavError::TooLong { host: self.host(), len });
                    }
                    StatusCode::INSUFFICIENT_STORAGE => return Err(DavError::NoRoom { host: self.host() }),
                    status if status.is_redirection() => {
                        let to = reply.headers.get(LOCATION).and_then(|to| to.to_str().ok());
                        let to = Line::of(to.unwrap_or("another address"));
                        return Err(DavError::LedElsewhere { host: self.host(), to });
                    }
                    _ => return sent,
                },
                // Where there was no reply yet, the address is wrong, or this machine has no network.
                Err(DavError::Unreachable { source, .. })
                    if source.is_connect() && self.clock_ahead().is_none() =>
                {
                    return sent;
                }
                Err(DavError::Unreachable { .. }) => pauses.next(),
                Err(_) => return sent,
            };
            if !(is_undone || request.is_repeatable) || Instant::now() + pause > give_up {
                return sent;
            }
            sleep(pause).await;
        }
    }

    /// Sends a request; any other reply than one of these statuses is an error.
    pub(super) async fn require(
        &self,
        request: &Request,
        statuses: &[StatusCode],
    ) -> Result<Reply, DavError> {
        let reply = self.send(request).await?;
        if statuses.contains(&reply.status) { Ok(reply) } else { Err(self.refused(request.what, &reply)) }
    }

    async fn send_once(&self, request: &Request) -> Result<Reply, DavError> {
        if self.is_refused.load(Ordering::SeqCst) {
            return Err(DavError::LoginRefused { host: self.host() });
        }
        let url = self.address.at(&request.path).map_err(|_| self.not_understood(request.what))?;
        let mut built = self.http.request(request.method.clone(), url).timeout(request.patience);
        built = built.header(OCS_REQUEST, "true");
        for (name, value) in &request.headers {
            built = built.header(name, value);
        }
        if let Some(login) = &self.login {
            built = built.header(AUTHORIZATION, login.header()?);
            if let Some(cookies) = self.sessions.header() {
                built = built.header(COOKIE, cookies);
            }
        }
        built = match &request.content {
            Content::Nothing => built,
            Content::Text(kind, text) => built.header(CONTENT_TYPE, *kind).body(text.as_bytes().to_vec()),
            Content::File(content, sent) => {
                sent.start_again();
                built.body(reqwest::Body::wrap(ContentBody::new(content.clone(), sent.clone())))
            }
        };
        let failed = |source| self.failed(source);
        let mut response = built.send().await.map_err(failed)?;
        let mut body = Zeroizing::new(Vec::new());
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            if body.len() + piece.len() > REPLY_LEN_MAX {
                return Err(self.not_understood(request.what));
            }
            body.extend_from_slice(&piece);
        }
        self.learn_clock(response.headers());
        if self.login.is_some() {
            self.sessions.learn(response.headers());
        }
        Ok(Reply { status: response.status(), headers: response.headers().clone(), body })
    }

    fn learn_clock(&self, headers: &HeaderMap) {
        let said = headers.get(DATE).and_then(|date| date.to_str().ok());
        let Some(date) = said.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) else { return };
        let ahead = date.timestamp().as_second() - Timestamp::now().as_second();
        *self.clock_ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead);
    }

    /// Returns the length that the server says a file has that somebody begins to read. What follows is not read.
    ///
    /// # Errors
    ///
    /// If the login does not lead there.
    pub async fn len_told(&self, path: &str) -> Result<u64, DavError> {
        let what = "looking at a file";
        let url = self.address.at(path).map_err(|_| self.not_understood(what))?;
        let response = self.get(&url, self.login.as_ref()).await?;
        match response.status() {
            StatusCode::OK => response.content_length().ok_or_else(|| self.not_understood(what)),
            status => Err(self.refused_with(what, status, None)),
        }
    }

    /// Visits an address of this server as somebody who does not have the login.
    ///
    /// # Errors
    ///
    /// If the server can't be reached.
    pub async fn visit(&self, url: &Url) -> Result<Visit, DavError> {
        let response = self.get(url, None).await?;
        let location = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        let location = location.and_then(|to| url.join(to).ok());
        Ok(Visit { status: response.status().as_u16(), location })
    }

    /// Gets what a browser would get, of which nothing is read yet. What is busy is asked again for a while.
    async fn get(&self, url: &Url, login: Option<&Login>) -> Result<reqwest::Response, DavError> {
        let (give_up, mut pauses) = (Instant::now() + BUSY_PATIENCE, Pauses::new());
        loop {
            let mut built = self.http.get(url.clone()).timeout(REPLY_PATIENCE);
            if let Some(login) = login {
                built = built.header(AUTHORIZATION, login.header()?).header("x-requested-with", BY_SCRIPT);
            }
            let got = built.send().await;
            let pause = pauses.next();
            let is_last = Instant::now() + pause > give_up;
            match got {
                Ok(response) if is_last || !is_busy(response.status()) => return Ok(response),
                Err(source) if is_last => return Err(self.failed(source)),
                Ok(_) | Err(_) => sleep(pause).await,
            }
        }
    }

    async fn is_in_maintenance(&self) -> Result<bool, DavError> {
        let request = Request::new(Method::GET, "status.php".to_owned(), "status");
        let reply = Box::pin(Self { login: None, ..self.clone() }.send_once(&request)).await?;
        Ok(says_maintenance(&reply.body))
    }

    fn failed(&self, source: reqwest::Error) -> DavError {
        let (host, source) = (self.host(), source.without_url());
        if source.is_builder() {
            self.not_understood("an address")
        } else if is_about_certificate(&source) {
            DavError::NotTrusted { host, source }
        } else {
            DavError::Unreachable { host, source }
        }
    }
}

/// Returns whether a status says that it may be different a little later.
fn is_busy(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::LOCKED
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// The pauses between requests that are repeated. They vary, so that two clients do not meet again.
struct Pauses(Duration);

impl Pauses {
    fn new() -> Self {
        Self(PAUSE_MIN)
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(PAUSE_MAX);
        let mut random = [0];
        // Without random numbers it is the same for all.
        let _ = getrandom::fill(&mut random);
        pause + pause * u32::from(random[0]) / 256
    }
}

fn certificates(file: &Path) -> Result<Vec<Certificate>, DavError> {
    let failed = |reason: String| DavError::Certificates {
        file: Line::of(&file.to_string_lossy()).to_string(),
        reason,
    };
    let pem = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))?;
    if found.is_empty() { Err(failed("it holds none (PEM)".to_owned())) } else { Ok(found) }
}

fn is_about_certificate(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        // An I/O error passes over the error that it holds.
        let held = cause.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        let held: Option<&(dyn Error + 'static)> = held.map(|held| held as _);
        let of_tls = cause.downcast_ref::<rustls::Error>().or_else(|| held?.downcast_ref());
        if let Some(rustls::Error::InvalidCertificate(_)) = of_tls {
            return true;
        }
        next = held.or_else(|| cause.source());
    }
    false
}
