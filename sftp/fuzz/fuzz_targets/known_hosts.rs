//! A file of known hosts, a list of revoked keys, and what a server shows.
//!
//! An input is two bytes how long the server's key or certificate is, that, and the two texts with a zero byte between
//! them.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use scaup_sftp::ssh::fuzzing::{Judgement, Shown};
use scaup_sftp::ssh::{
    AddressFamily, Agent, Algorithms, Destination, Method, Rekeying, StrictHostKeyChecking,
};

static DESTINATION: LazyLock<Destination> = LazyLock::new(|| Destination {
    host: "host.example".to_owned(),
    port: 22,
    address_family: AddressFamily::Any,
    user: "alice".to_owned(),
    host_key_alias: None,
    user_known_hosts: Vec::new(),
    global_known_hosts: Vec::new(),
    revoked_host_keys: None,
    rsa_bits_min: 0,
    strict_host_key_checking: StrictHostKeyChecking::Ask,
    hash_known_hosts: false,
    methods: Method::ALL.to_vec(),
    attempts: 3,
    batch_mode: false,
    unattended_codes: true,
    kbd_interactive_devices: None,
    algorithms: Algorithms::default(),
    rekeying: Rekeying::default(),
    identities: Vec::new(),
    default_identities: Vec::new(),
    certificates: Vec::new(),
    identities_only: false,
    agent: Agent::None,
    server_alive_interval: Duration::from_secs(4),
    server_alive_count_max: 2,
    connect_timeout: None,
    jumps: Vec::new(),
});

fuzz_target!(|input: &[u8]| {
    let Some((length, rest)) = input.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    let (blob, texts) = rest.split_at(length);
    let mut texts = texts.splitn(2, |byte| *byte == 0);
    let known = String::from_utf8_lossy(texts.next().unwrap_or_default());
    let revoked = texts.next().unwrap_or_default();
    let Some(shown) = Shown::read(blob) else { return };
    let judged = shown.judge(&DESTINATION, &known, revoked);
    let Some(key) = shown.key() else { return };
    // Whatever else the files say: a revoked key is never trusted, in whichever of them it stands.
    let marked = format!("{known}\n@revoked host.example {key}\n");
    assert_eq!(shown.judge(&DESTINATION, &marked, revoked), Judgement::Refused);
    let listed = [revoked, b"\n", key.as_bytes()].concat();
    assert_eq!(shown.judge(&DESTINATION, &known, &listed), Judgement::Refused);
    // A line more for a host that is called otherwise changes nothing.
    let other = format!("{known}\nelsewhere.example {key}\n@revoked *.org {key}\n");
    assert_eq!(shown.judge(&DESTINATION, &other, revoked), judged);
    // A key that is on record and not revoked is trusted; for a certificate its authority has the first word.
    if judged != Judgement::Refused && !shown.is_certificate() {
        let recorded = format!("{known}\nhost.example {key}\n");
        assert_eq!(shown.judge(&DESTINATION, &recorded, revoked), Judgement::Trusted);
    }
});
