//! Connections, requests as they come in, answers as they go out, and who answers what.

use std::convert::Infallible;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;

use super::faults::{Request, What};
use super::tree::{Blob, State, random};
use super::{STORED, UNBROKEN};
use super::{bulk, dav, flow, login, ocs, propfind, public, trash, uploads};

/// The most that is kept in memory of a request that is no upload.
const MOST: usize = 1 << 26;

/// A request, whole: the web server in front of the real one also waits for the end of the body.
pub(super) struct Call {
    pub(super) method: String,
    /// Decoded; bytes that are no UTF-8 are taken for Latin-1.
    pub(super) path: String,
    pub(super) target: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    /// Of all but PUT.
    pub(super) body: Vec<u8>,
    /// Of PUT.
    pub(super) upload: Option<Received>,
    /// Whether what is stored shall differ from what came.
    pub(super) damage: bool,
}

/// The body of a PUT.
pub(super) struct Received {
    pub(super) blob: Arc<Blob>,
    pub(super) sha256: Option<String>,
}

impl Call {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A field of the query.
    pub(super) fn asked(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The fields of the body: a form, or a JSON object.
    pub(super) fn fields(&self) -> Vec<(String, String)> {
        if self.header("content-type").is_some_and(|of| of.starts_with("application/json")) {
            let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(&self.body) else {
                return Vec::new();
            };
            let text = |value: serde_json::Value| match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            return object.into_iter().map(|(key, value)| (key, text(value))).collect();
        }
        form(&String::from_utf8_lossy(&self.body))
    }

    /// The value of a cookie.
    pub(super) fn cookie(&self, name: &str) -> Option<String> {
        let cookies = self.headers.get_all("cookie").iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    }
}

/// Splits `a=b&c=d`.
pub(super) fn form(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let decoded = |text: &str| decode(&text.replace('+', " "));
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(k, v)| (decoded(k), decoded(v)))
        .collect()
}

/// Percent-decodes; what is no UTF-8 then is taken for Latin-1, as the real server does.
pub(super) fn decode(text: &str) -> String {
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(text).collect();
    String::from_utf8(bytes).unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect())
}

/// Percent-encodes a path with lower-case digits, as the server's hrefs are.
pub(super) fn encode(path: &str) -> String {
    let mut encoded = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~()/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02x}"));
        }
    }
    encoded
}

/// What goes back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    /// An open file, so that its replacement does not matter; and the length left.
    File(std::fs::File, u64),
}

impl Answer {
    /// Nothing but a status.
    pub(super) fn empty(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), content: Content::Bytes(Vec::new()) }
            .with("content-type", "text/html; charset=UTF-8")
    }

    /// The same answer with other words in its text.
    fn saying(mut self, said: &str, instead: &str) -> Answer {
        if let Content::Bytes(bytes) = &mut self.content {
            let text = String::from_utf8_lossy(bytes);
            assert!(text.contains(said), "{said} is not in {text}");
            *bytes = text.replace(said, instead).into_bytes();
        }
        self
    }

    /// A text of some type.
    pub(super) fn text(status: u16, of: &str, text: String) -> Answer {
        let content = Content::Bytes(text.into_bytes());
        Answer { status, headers: Vec::new(), content }.with("content-type", of)
    }

    /// JSON.
    pub(super) fn json(status: u16, value: &serde_json::Value) -> Answer {
        Answer::text(status, "application/json; charset=utf-8", value.to_string())
    }

    /// A page.
    pub(super) fn page(status: u16, title: &str, body: &str) -> Answer {
        let page =
            format!("<!DOCTYPE html><html><head><title>{title}</title></head><body>{body}</body></html>");
        Answer::text(status, "text/html; charset=UTF-8", page)
    }

    /// A refusal in the words of WebDAV.
    pub(super) fn dav(status: u16, exception: &str, message: &str) -> Answer {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<d:error xmlns:d=\"DAV:\" \
             xmlns:s=\"http://sabredav.org/ns\">\n  <s:exception>{exception}</s:exception>\n  \
             <s:message>{}</s:message>\n</d:error>\n",
            propfind::escape(message)
        );
        Answer::text(status, "application/xml; charset=utf-8", text)
    }

    /// A part of a file.
    pub(super) fn file(status: u16, blob: &Blob, from: u64, length: u64) -> Answer {
        let mut file = std::fs::File::open(&blob.path).expect(STORED);
        file.seek(SeekFrom::Start(from)).expect(STORED);
        Answer { status, headers: Vec::new(), content: Content::File(file, length) }
    }

    /// To another address.
    pub(super) fn see(location: &str) -> Answer {
        Answer::empty(303).with("location", location)
    }

    /// With one more header.
    pub(super) fn with(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With its own addresses below `prefix`.
    fn below(&mut self, prefix: &str) {
        for (name, value) in &mut self.headers {
            if name == "location" && value.starts_with('/') {
                value.insert_str(0, prefix);
            }
        }
        if let Content::Bytes(bytes) = &mut self.content
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            let mut text = text.to_owned();
            for mark in ["<d:href>", "href=\"", "action=\""] {
                text = text.replace(&format!("{mark}/"), &format!("{mark}{prefix}/"));
            }
            *bytes = text.into_bytes();
        }
    }

    fn length(&self) -> u64 {
        match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(_, left) => *left,
        }
    }
}

/// What the connection's task can't go on after: the connection closes.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut")
    }
}

impl std::error::Error for Cut {}

type Out = UnsyncBoxBody<Bytes, std::io::Error>;

/// A file as a body, read piece by piece: its length is not bounded by the memory.
struct FileBody(std::fs::File, u64);

impl Body for FileBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.1 == 0 {
            return Poll::Ready(None);
        }
        let mut piece = vec![0; usize::try_from(self.1.min(1 << 16)).expect("it is small")];
        let read = match self.0.read(&mut piece) {
            Ok(0) => return Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into()))),
            Ok(read) => read,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        piece.truncate(read);
        self.1 -= read as u64;
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.1)
    }
}

/// Takes connections for ever.
pub(super) async fn listen(
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    state: Arc<Mutex<State>>,
) -> Result<Infallible, std::io::Error> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (connection, _) = listener.accept().await?;
        let _ = connection.set_nodelay(true);
        let (state, tls) = (state.clone(), tls.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| exchange(state.clone(), request));
            let http = hyper::server::conn::http1::Builder::new();
            let _ = match tls {
                None => http.serve_connection(TokioIo::new(connection), service).await,
                Some(tls) => match tls.accept(connection).await {
                    Ok(connection) => http.serve_connection(TokioIo::new(connection), service).await,
                    Err(_) => return,
                },
            };
        });
    }
}

/// One request and its answer.
async fn exchange(
    state: Arc<Mutex<State>>,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Out>, Cut> {
    let (head, body) = request.into_parts();
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let target = head.uri.path_and_query().map_or_else(|| head.uri.to_string(), ToString::to_string);
    let mut call = Call {
        method: head.method.to_string(),
        path: decode(head.uri.path()),
        query: form(head.uri.query().unwrap_or_default()),
        target,
        headers: head.headers.clone(),
        body: Vec::new(),
        upload: None,
        damage: false,
    };
    let (line, fault) = {
        let mut state = state.lock().expect(UNBROKEN);
        // What is not below the place of installation is answered as not there.
        call.path = call.path.strip_prefix(&state.prefix).unwrap_or("/elsewhere").to_owned();
        let line = Request {
            method: call.method.clone(),
            target: call.target.clone(),
            status: 0,
            user_agent: text("user-agent").unwrap_or_default(),
            login: text("authorization").is_some(),
            length: text("content-length").and_then(|length| length.parse().ok()),
        };
        state.log.push(line);
        let mut faults = state.faults.iter_mut();
        let fault = faults.find_map(|fault| {
            fault.strikes(&call.method, &call.target, &call.path).then(|| fault.what.clone())
        });
        (state.log.len() - 1, fault)
    };
    match &fault {
        Some(What::CutBefore) => return Err(Cut),
        Some(What::Slow(time)) => tokio::time::sleep(*time).await,
        Some(What::WrongHash) => call.damage = true,
        _ => {}
    }
    let cut_after = if let Some(What::CutBody(bytes)) = fault { Some(bytes) } else { None };
    receive(&state, &mut call, body, cut_after).await?;
    if let Some(What::Late(time)) = fault {
        state.lock().expect(UNBROKEN).log[line].status = 504;
        let answer = refusal(&call, 504);
        let late = send(&call, answer);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            route(&mut state.lock().expect(UNBROKEN), &call);
        });
        return Ok(late);
    }
    let answer = {
        let mut state = state.lock().expect(UNBROKEN);
        let answer = match &fault {
            Some(What::Status(status)) => refusal(&call, *status),
            Some(What::Redirect(host)) => {
                Answer::empty(307).with("location", &format!("{host}{}", call.target))
            }
            _ => {
                let answer = route(&mut state, &call);
                finish(&mut state, &call, answer)
            }
        };
        if matches!(fault, Some(What::LoseAnswer)) {
            return Err(Cut);
        }
        let answer = match &fault {
            Some(What::Lie(said, instead)) => answer.saying(said, instead),
            _ => answer,
        };
        state.log[line].status = answer.status;
        answer
    };
    Ok(send(&call, answer))
}

/// The body: of a PUT to a file, else to memory.
async fn receive(
    state: &Mutex<State>,
    call: &mut Call,
    mut body: Incoming,
    cut_after: Option<u64>,
) -> Result<(), Cut> {
    let put = call.method == "PUT" && !call.path.starts_with("/ocs/");
    // Chunked without a length: the script behind the web server sees nothing of it.
    let lost = put
        && call.header("content-length").is_none()
        && state.lock().expect(UNBROKEN).personality().upload_needs_length;
    let path = state.lock().expect(UNBROKEN).blob_path();
    let mut file =
        if put { Some(std::fs::File::create(&path).expect("content can be stored")) } else { None };
    let mut blob = Blob { path, size: 0 };
    let mut hash = call.headers.contains_key("x-hash").then(Sha256::new);
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Cut)?.into_data() else { continue };
        received += data.len() as u64;
        if cut_after.is_some_and(|bytes| received >= bytes) {
            return Err(Cut);
        }
        match &mut file {
            Some(_) if lost => {}
            Some(file) => {
                file.write_all(&data).expect("content can be stored");
                blob.size += data.len() as u64;
                if let Some(hash) = &mut hash {
                    hash.update(&data);
                }
            }
            None => {
                if call.body.len() < MOST {
                    call.body.extend_from_slice(&data);
                }
            }
        }
    }
    if cut_after.is_some() {
        return Err(Cut);
    }
    if file.is_some() {
        if call.damage && call.path.contains("/dav/") {
            super::tree::damage(&blob.path);
        }
        let sha256 = hash.map(|hash| data_encoding::HEXLOWER.encode(&hash.finalize()));
        call.upload = Some(Received { blob: Arc::new(blob), sha256 });
    }
    Ok(())
}

/// What a fault's status looks like where the client asked.
fn refusal(call: &Call, status: u16) -> Answer {
    match status {
        429 => Answer::empty(429),
        status if call.path.contains("/dav") && status >= 400 => {
            let exception = match status {
                401 => "Sabre\\DAV\\Exception\\NotAuthenticated",
                423 => "OCA\\DAV\\Connector\\Sabre\\Exception\\FileLocked",
                503 => "Sabre\\DAV\\Exception\\ServiceUnavailable",
                507 => "Sabre\\DAV\\Exception\\InsufficientStorage",
                _ => "Sabre\\DAV\\Exception",
            };
            Answer::dav(status, exception, "")
        }
        status => Answer::empty(status),
    }
}

/// Who answers.
fn route(state: &mut State, call: &Call) -> Answer {
    let path = call.path.strip_prefix("/index.php").unwrap_or(&call.path);
    if path == "/status.php" {
        return ocs::status(state);
    }
    if state.settings.maintenance {
        return login::maintenance(state, call, path);
    }
    if let Some(rest) = path.strip_prefix("/ocs/v2.php").or_else(|| path.strip_prefix("/ocs/v1.php")) {
        return ocs::answer(state, call, rest);
    }
    if let Some(rest) = path.strip_prefix("/remote.php") {
        return remote(state, call, rest);
    }
    if path.starts_with("/public.php/") || path.starts_with("/s/") {
        return public::answer(state, call, path);
    }
    flow::answer(state, call, path)
}

/// WebDAV of an account.
fn remote(state: &mut State, call: &Call, rest: &str) -> Answer {
    let user = match login::of_dav(state, call) {
        Ok(user) => user,
        Err(refused) => return *refused,
    };
    if let Some(path) = rest.strip_prefix("/webdav") {
        return dav::answer(state, call, &user, &user, path, "/remote.php/webdav/");
    }
    let Some(rest) = rest.strip_prefix("/dav/") else { return not_found(rest) };
    let (kind, rest) = rest.split_once('/').unwrap_or((rest, ""));
    if kind == "bulk" {
        return bulk::answer(state, call, &user);
    }
    let (owner, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = format!("/{path}");
    if !state.users.contains_key(owner) {
        return not_found(owner);
    }
    match kind {
        "files" => dav::answer(state, call, &user, owner, &path, &format!("/remote.php/dav/files/{owner}/")),
        _ if owner != user => Answer::dav(403, "Sabre\\DAV\\Exception\\Forbidden", ""),
        "uploads" => uploads::answer(state, call, &user, &path),
        "trashbin" => trash::answer(state, call, &user, &path),
        _ => not_found(kind),
    }
}

/// 404 in the words of WebDAV.
pub(super) fn not_found(name: &str) -> Answer {
    let name = name.trim_start_matches('/');
    let message = format!("File with name //{name} could not be located");
    Answer::dav(404, "Sabre\\DAV\\Exception\\NotFound", &message)
}

/// What all answers have: the time, and a session for those who bring none.
fn finish(state: &mut State, call: &Call, mut answer: Answer) -> Answer {
    let time = state.timestamp().as_second() + state.settings.date_skew;
    answer.headers.push(("date".to_owned(), propfind::http_date(time)));
    if !state.prefix.is_empty() && answer.status != 206 {
        answer.below(&state.prefix);
    }
    let session = state.instance.clone();
    let had = call.cookie(&session).is_some() || answer.headers.iter().any(|(name, _)| name == "set-cookie");
    let sessionless = call.path == "/status.php" && state.personality().status_without_session;
    if !had {
        let names = ["nc_sameSiteCookielax", "nc_sameSiteCookiestrict", "oc_sessionPassphrase", &session];
        for name in &names[..if sessionless { 2 } else { 4 }] {
            let cookie = format!("{name}={}; path=/; HttpOnly; SameSite=Lax", random(26));
            answer.headers.push(("set-cookie".to_owned(), cookie));
        }
    }
    answer
}

fn send(call: &Call, answer: Answer) -> hyper::Response<Out> {
    let mut response = hyper::Response::builder().status(answer.status);
    let length = answer.length();
    let headers = response.headers_mut().expect("the status is valid");
    for (name, value) in &answer.headers {
        let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value.as_bytes()))
        else {
            continue;
        };
        headers.append(name, value);
    }
    if answer.status != 204 && answer.status != 304 {
        headers.insert("content-length", HeaderValue::from(length));
    }
    let body: Out = match answer.content {
        _ if call.method == "HEAD" => {
            http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
        }
        Content::Bytes(bytes) => {
            http_body_util::Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
        }
        Content::File(file, left) => FileBody(file, left).boxed_unsync(),
    };
    response.body(body).expect("the headers are valid")
}
