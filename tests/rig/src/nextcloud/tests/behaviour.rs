//! What other tests count on beside the recorded answers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::ToSpan as _;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::super::{Fault, Nextcloud, Version, What};
use super::{Reply, basic, send};

const FILES: &str = "/remote.php/dav/files/alice";
const SHARES: &str = "/ocs/v2.php/apps/files_sharing/api/v1/shares";

/// A server and alice's login.
struct Client {
    server: Nextcloud,
    password: String,
}

impl Client {
    fn new(version: Version) -> Client {
        let server = Nextcloud::start(version);
        let password = server.app_password();
        Client { server, password }
    }

    fn try_send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Reply> {
        let mut all = vec![
            basic("alice", &self.password),
            ("OCS-APIRequest".to_owned(), "true".to_owned()),
            ("Accept".to_owned(), "application/json".to_owned()),
            ("Content-Length".to_owned(), body.len().to_string()),
        ];
        all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        send(&self.server.url(), method, target, &all, body)
    }

    fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.try_send(method, target, headers, body).unwrap()
    }

    fn share(&self, form: &str) -> Reply {
        let of = [("Content-Type", "application/x-www-form-urlencoded")];
        self.send("POST", SHARES, &of, form.as_bytes())
    }
}

fn fault(method: &str, path: &str, what: What) -> Fault {
    Fault { method: method.to_owned(), path_contains: path.to_owned(), after: 0, times: 1, what }
}

fn day(from_today: i64) -> String {
    jiff::Zoned::now().date().checked_add(from_today.days()).unwrap().to_string()
}

#[test]
fn a_status_is_given_so_often_and_not_before() {
    let client = Client::new(Version::V32);
    let locked = Fault { after: 1, times: 2, ..fault("PUT", "/a b.txt", What::Status(423)) };
    client.server.fail(locked);
    let put = || client.send("PUT", &format!("{FILES}/a%20b.txt"), &[], b"x").status;
    assert_eq!([put(), put(), put(), put()], [201, 423, 423, 204]);
    client.server.fail(fault("", "/shares", What::Status(429)));
    let refused = client.share("path=/a b.txt&shareType=3");
    assert_eq!((refused.status, refused.body.len()), (429, 0));
}

#[test]
fn a_cut_connection_leaves_nothing_and_a_lost_answer_everything() {
    let client = Client::new(Version::V32);
    let put = |path: &str, body: &[u8]| client.try_send("PUT", &format!("{FILES}{path}"), &[], body);
    client.server.fail(fault("PUT", "/before", What::CutBefore));
    client.server.fail(fault("PUT", "/body", What::CutBody(100_000)));
    client.server.fail(fault("PUT", "/lost", What::LoseAnswer));
    assert!(put("/before", b"x").is_none());
    assert!(put("/body", &vec![b'x'; 3_000_000]).is_none());
    assert!(put("/lost", b"x").is_none());
    assert_eq!(client.server.files(), ["/lost"]);
    assert_eq!(put("/body", b"x").unwrap().status, 201);
    let statuses: Vec<u16> = client.server.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [0, 0, 0, 201]);
    client.server.fail(fault("POST", "/shares", What::LoseAnswer));
    let of = [("Content-Type", "application/x-www-form-urlencoded")];
    assert!(client.try_send("POST", SHARES, &of, b"path=/lost&shareType=3").is_none());
    assert_eq!(client.server.shares().len(), 1);
}

#[test]
fn damage_slowness_and_redirects_are_as_asked() {
    let client = Client::new(Version::V31);
    client.server.fail(fault("PUT", "/a", What::WrongHash));
    let put = client.send("PUT", &format!("{FILES}/a"), &[("X-Hash", "sha256")], b"hello");
    let rehashed = client.send("PATCH", &format!("{FILES}/a"), &[("X-Recalculate-Hash", "sha256")], b"");
    let stored = rehashed.header("oc-checksum").unwrap().strip_prefix("SHA256:");
    assert!(put.header("x-hash-sha256").is_some());
    assert_ne!(put.header("x-hash-sha256"), stored);
    assert_ne!(client.server.content("/a"), b"hello");
    client.server.fail(fault("GET", "/a", What::Slow(Duration::from_millis(300))));
    let begun = Instant::now();
    assert_eq!(client.send("GET", &format!("{FILES}/a"), &[], b"").status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    client.server.fail(fault("GET", "/a", What::Redirect("https://elsewhere.example".to_owned())));
    let sent = client.send("GET", &format!("{FILES}/a"), &[], b"");
    assert_eq!(sent.header("location"), Some("https://elsewhere.example/remote.php/dav/files/alice/a"));
}

#[test]
fn an_upload_in_parts_is_put_together() {
    let client = Client::new(Version::V34);
    let upload = "/remote.php/dav/uploads/alice/u1";
    let target = format!("{}{FILES}/big", client.server.url());
    let to = [("Destination", target.as_str())];
    client.server.change(|settings| settings.chunk_max_size = 10);
    assert_eq!(client.send("MKCOL", upload, &to, b"").status, 201);
    assert_eq!(client.send("PUT", &format!("{upload}/00002"), &to, b"world").status, 201);
    assert_eq!(client.send("PUT", &format!("{upload}/00001"), &to, b"hello ").status, 201);
    assert_eq!(client.send("PUT", &format!("{upload}/00003"), &to, b"12345678901").status, 413);
    assert_eq!(client.server.uploads(), ["u1"]);
    let end = [("Destination", target.as_str()), ("OC-Total-Length", "11"), ("X-OC-MTime", "1700000000")];
    let ended = client.send("MOVE", &format!("{upload}/.file"), &end, b"");
    assert_eq!((ended.status, ended.header("x-oc-mtime")), (201, Some("accepted")));
    assert_eq!(client.server.content("/big"), b"hello world");
    assert!(client.server.uploads().is_empty());
}

#[test]
fn a_link_follows_its_file_through_the_trash_and_ends_on_its_day() {
    for version in Version::ALL {
        let client = Client::new(version);
        client.server.put("/S/o.pdf", b"content");
        let made =
            client.share(&format!("path=/S/o.pdf&shareType=3&password=Maple-otter-42&expireDate={}", day(3)));
        assert_eq!(made.status, 200, "{}", made.text());
        let share = &client.server.shares()[0];
        let open = || client.server.open_link(&share.token, Some("Maple-otter-42"));
        assert_eq!(open().unwrap(), b"content");
        assert_eq!(client.server.open_link(&share.token, Some("wrong")), None);
        client.server.remove("/S/o.pdf");
        assert_eq!((open(), client.server.trash()), (None, vec!["/S/o.pdf".to_owned()]));
        assert_eq!(client.send("GET", SHARES, &[], b"").json()["ocs"]["data"], serde_json::json!([]));
        client.server.restore("/S/o.pdf");
        assert!(open().is_some());
        client.server.rename("/S", "/R");
        assert_eq!(client.server.shares()[0].path.as_deref(), Some("/R/o.pdf"));
        client.server.advance_days(if version == Version::V34 { 3 } else { 2 });
        assert!(open().is_some(), "{version:?}");
        client.server.advance_days(1);
        assert_eq!(client.server.shares().len(), 1);
        assert_eq!(open(), None);
        assert_eq!(client.server.shares().len(), 0);
        assert_eq!(client.server.files(), ["/R/", "/R/o.pdf"]);
    }
}

#[test]
fn an_upload_without_a_length_is_empty_up_to_32() {
    for version in Version::ALL {
        let client = Client::new(version);
        let headers =
            [basic("alice", &client.password), ("Transfer-Encoding".to_owned(), "chunked".to_owned())];
        let put =
            send(&client.server.url(), "PUT", &format!("{FILES}/a"), &headers, b"5\r\nhello\r\n0\r\n\r\n");
        assert_eq!(put.unwrap().status, 201);
        let expected: &[u8] = if version == Version::V34 { b"hello" } else { b"" };
        assert_eq!(client.server.content("/a"), expected);
    }
}

#[test]
fn an_administrators_settings_are_obeyed() {
    let client = Client::new(Version::V32);
    let put = |name: &str| client.send("PUT", &format!("{FILES}/{name}"), &[], b"x").status;
    client.server.change(|settings| {
        settings.forbidden_characters = vec![':'];
        settings.forbidden_basenames = vec!["con".to_owned()];
        settings.forbidden_extensions = vec![".exe".to_owned()];
        settings.share_url_base = Some("http://inside.example".to_owned());
        settings.date_skew = 7200;
        settings.delete_from_trash = false;
    });
    assert_eq!([put("a:b"), put("CON.txt"), put("a.exe"), put("a.txt")], [400, 400, 400, 201]);
    let made = client.share("path=/a.txt&shareType=3").json();
    assert!(made["ocs"]["data"]["url"].as_str().unwrap().starts_with("http://inside.example/s/"));
    let deleted = client.send("DELETE", &format!("{FILES}/a.txt"), &[("X-NC-Skip-Trashbin", "true")], b"");
    assert_eq!((deleted.status, client.server.trash().len()), (204, 0));
    assert_eq!(put("b.txt"), 201);
    client.server.remove("/b.txt");
    assert_eq!(client.send("DELETE", "/remote.php/dav/trashbin/alice/trash", &[], b"").status, 403);
    for _ in 0..19 {
        client.share("path=/a.txt&shareType=3");
    }
    assert_eq!(client.share("path=/a.txt&shareType=3").status, 429);
    client.server.change(|settings| settings.policy_app = false);
    let policy = "/ocs/v2.php/apps/password_policy/api/v1/generate";
    assert_eq!(client.send("GET", policy, &[], b"").status, 404);
}

/// What a form or link of a page leads to.
fn attribute(page: &str, name: &str) -> String {
    let (_, rest) = page.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("{name}: {page}"));
    rest.split('"').next().unwrap().replace("&amp;", "&")
}

#[test]
fn a_browser_clicks_through_the_login_flow() {
    for second_factor in [false, true] {
        let server = Nextcloud::start(Version::V34);
        server.change(|settings| settings.second_factor = second_factor);
        let agent = [("User-Agent".to_owned(), "Scaup 0.1 (laptop)".to_owned())];
        let begun = send(&server.url(), "POST", "/index.php/login/v2", &agent, b"").unwrap().json();
        let token = format!("token={}", begun["poll"]["token"].as_str().unwrap());
        let poll = || {
            let of = [("Content-Length".to_owned(), token.len().to_string())];
            send(&server.url(), "POST", "/login/v2/poll", &of, token.as_bytes()).unwrap()
        };
        assert_eq!(poll().status, 404);
        let mut cookie = String::new();
        let mut visit = |method: &str, address: &str, form: &str| {
            let (mut method, mut address, mut form) =
                (method.to_owned(), address.to_owned(), form.to_owned());
            loop {
                let target = address.strip_prefix(&server.url()).unwrap_or(&address).to_owned();
                let headers = [
                    ("Cookie".to_owned(), cookie.clone()),
                    ("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned()),
                    ("Content-Length".to_owned(), form.len().to_string()),
                ];
                let reply = send(&server.url(), &method, &target, &headers, form.as_bytes()).unwrap();
                if let Some(set) = reply.header("set-cookie") {
                    cookie = set.split(';').next().unwrap().to_owned();
                }
                match reply.header("location") {
                    None => return reply.text(),
                    Some(next) => {
                        (method, address, form) = ("GET".to_owned(), next.to_owned(), String::new())
                    }
                }
            }
        };
        let start = visit("GET", begun["login"].as_str().unwrap(), "");
        let login = visit("GET", &attribute(&start, "href"), "");
        let next = attribute(&login, "name=\"redirect_url\" value");
        let next = percent_encoding::utf8_percent_encode(&next, percent_encoding::NON_ALPHANUMERIC);
        let form = format!("user=alice&password=correct+horse&redirect_url={next}");
        let mut page = visit("POST", &attribute(&login, "action"), &form);
        if second_factor {
            let again = visit("POST", &attribute(&page, "action"), "challenge=000000");
            page = visit("POST", &attribute(&again, "action"), "challenge=123456");
        }
        let state = format!("stateToken={}", attribute(&page, "name=\"stateToken\" value"));
        assert!(page.contains("Grant access"), "{page}");
        visit("POST", &attribute(&page, "action"), &state);
        let granted = poll();
        assert_eq!(granted.json()["loginName"], "alice");
        assert_eq!(poll().status, 404);
        assert_eq!(server.devices(), ["Scaup 0.1 (laptop)"]);
    }
}

#[test]
fn a_flow_is_granted_without_a_browser_where_that_is_wanted() {
    let server = Nextcloud::start(Version::V28);
    server.grant_logins(true);
    let begun = send(&server.url(), "POST", "/login/v2", &[], b"").unwrap().json();
    let token = format!("token={}", begun["poll"]["token"].as_str().unwrap());
    let of = [("Content-Length".to_owned(), token.len().to_string())];
    let granted = send(&server.url(), "POST", "/login/v2/poll", &of, token.as_bytes()).unwrap();
    assert_eq!((granted.status, server.app_passwords()), (200, 1));
}

#[test]
fn its_own_authority_vouches_for_the_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let server = Nextcloud::start_with_tls(Version::V34, &file);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&file).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let port = server.url().rsplit(':').next().unwrap().to_owned();
    let mut stream = StreamOwned::new(tls, TcpStream::connect(format!("127.0.0.1:{port}")).unwrap());
    stream.write_all(b"GET /status.php HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("34.0.1"), "{answer}");
}

#[test]
fn it_may_be_installed_below_a_path_and_log_in_by_another_name() {
    let server = Nextcloud::start_below(Version::V32, "/nextcloud");
    server.change(|settings| settings.login_name = Some("alice@example.com".to_owned()));
    server.put("/S/a", b"x");
    let login = basic("alice@example.com", &server.app_password());
    let target = format!("/nextcloud{FILES}/S");
    let listed = send(&server.url(), "PROPFIND", &target, std::slice::from_ref(&login), b"").unwrap().text();
    assert!(listed.contains("<d:href>/nextcloud/remote.php/dav/files/alice/S/a</d:href>"), "{listed}");
    let to = ("Destination".to_owned(), format!("{}{FILES}/S/b", server.url()));
    let moved = send(&server.url(), "MOVE", &format!("{target}/a"), &[login.clone(), to], b"").unwrap();
    assert_eq!((moved.status, server.files()), (201, vec!["/S/".to_owned(), "/S/b".to_owned()]));
    let outside = send(&server.url(), "PROPFIND", &format!("{FILES}/S"), &[login], b"").unwrap();
    assert_eq!(outside.status, 404);
}

#[test]
fn nothing_is_left_of_a_server_that_was_dropped() {
    let server = Nextcloud::start(Version::V29);
    let url = server.url();
    server.put("/a", b"x");
    drop(server);
    let begun = Instant::now();
    while TcpStream::connect(url.strip_prefix("http://").unwrap()).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(10));
    }
}
