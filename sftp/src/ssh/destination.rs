//! A destination: where to connect and as which user, from `ssh_config(5)` and the command line.

use std::path::PathBuf;
use std::time::Duration;

use super::algorithms::Algorithms;
use crate::text::Line;

/// The treatment of host keys that are not known (`StrictHostKeyChecking`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrictHostKeyChecking {
    /// Refuse unknown keys.
    Yes,
    /// Accept unknown keys, and record them.
    AcceptNew,
    /// Ask.
    Ask,
    /// Accept unknown keys. Changed and revoked keys are still refused.
    No,
}

/// A method of authentication (RFC 4252, RFC 4256).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `publickey`.
    PublicKey,
    /// `keyboard-interactive`.
    KeyboardInteractive,
    /// `password`.
    Password,
}

impl Method {
    /// All methods, in the order in which they are tried unless the user prefers another.
    pub const ALL: [Self; 3] = [Self::PublicKey, Self::KeyboardInteractive, Self::Password];
}

/// The location of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agent {
    /// At the socket named by `SSH_AUTH_SOCK`.
    FromEnvironment,
    /// At this socket.
    Socket(PathBuf),
    /// No agent is used.
    None,
}

/// Which addresses of a host may be connected to (`AddressFamily`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressFamily {
    /// All.
    #[default]
    Any,
    /// IPv4 only.
    Inet,
    /// IPv6 only.
    Inet6,
}

/// When new keys are agreed on for a connection (`RekeyLimit`); `None` leaves it to the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rekeying {
    /// After this many bytes in one direction.
    pub bytes: Option<usize>,
    /// After this time.
    pub time: Option<Duration>,
}

/// A server, and how to log in there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The name or address to connect to.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Which of its addresses may be connected to.
    pub address_family: AddressFamily,
    /// The user to log in as.
    pub user: String,
    /// The name under which its key is known, if that differs.
    pub host_key_alias: Option<String>,
    /// The user's files of known hosts; new keys go to the first.
    pub user_known_hosts: Vec<PathBuf>,
    /// The system's files of known hosts.
    pub global_known_hosts: Vec<PathBuf>,
    /// A file of keys that must not belong to a host, nor to the authority that signed for it (`RevokedHostKeys`).
    pub revoked_host_keys: Option<PathBuf>,
    /// The shortest RSA key that a host or the user may have, bits (`RequiredRSASize`).
    pub rsa_bits_min: u32,
    /// The treatment of unknown host keys.
    pub strict_host_key_checking: StrictHostKeyChecking,
    /// Whether new entries hash the host's name.
    pub hash_known_hosts: bool,
    /// The methods that may be tried, in order of preference.
    pub methods: Vec<Method>,
    /// How often a passphrase, a password or a code may be typed (`NumberOfPasswordPrompts`).
    pub attempts: usize,
    /// Whether no person may be asked (`BatchMode`): the implementer of `Interaction` obeys it.
    pub batch_mode: bool,
    /// Whether its questions for a code may be answered without a person: the same implementer obeys it.
    pub unattended_codes: bool,
    /// The devices that keyboard-interactive authentication is asked to use (`KbdInteractiveDevices`).
    pub kbd_interactive_devices: Option<String>,
    /// The algorithms to offer.
    pub algorithms: Algorithms,
    /// When new keys are agreed on.
    pub rekeying: Rekeying,
    /// Identity files that the user named, in order.
    pub identities: Vec<PathBuf>,
    /// Identity files to try if none was named.
    pub default_identities: Vec<PathBuf>,
    /// Certificates that the user named.
    pub certificates: Vec<PathBuf>,
    /// Whether only the named identities are offered, even if the agent holds others.
    pub identities_only: bool,
    /// The location of the agent.
    pub agent: Agent,
    /// How often a silent server is sent a keep-alive request.
    pub server_alive_interval: Duration,
    /// How many such requests may stay without a reply.
    pub server_alive_count_max: usize,
    /// How long connecting may take, for each address; `None` for as long as the system tries.
    pub connect_timeout: Option<Duration>,
    /// Jump hosts, the first to connect to first.
    pub jumps: Vec<Destination>,
}

impl Destination {
    /// Returns `user@host`, as prompts name it.
    #[must_use]
    pub fn user_at_host(&self) -> String {
        Line::of(&format!("{}@{}", self.user, self.host)).into()
    }

    /// Returns the suffix for the failure message after the last wrong answer: `, 3 times`.
    pub(super) fn times(&self) -> String {
        if self.attempts > 1 { format!(", {} times", self.attempts) } else { String::new() }
    }

    /// Returns the name to look up in the known hosts.
    pub(super) fn known_host_name(&self) -> String {
        let name = self.host_key_alias.as_deref().unwrap_or(&self.host).to_lowercase();
        // An alias is used as it is, without the port.
        if self.port == 22 || self.host_key_alias.is_some() {
            name
        } else {
            format!("[{name}]:{}", self.port)
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns a destination with only a host and a port.
    pub(crate) fn destination(host: &str, port: u16) -> Destination {
        Destination {
            host: host.to_owned(),
            port,
            address_family: AddressFamily::Any,
            user: "alice".to_owned(),
            host_key_alias: None,
            user_known_hosts: Vec::new(),
            global_known_hosts: Vec::new(),
            revoked_host_keys: None,
            rsa_bits_min: 1024,
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
            server_alive_interval: Duration::from_secs(15),
            server_alive_count_max: 3,
            connect_timeout: Some(Duration::from_secs(5)),
            jumps: Vec::new(),
        }
    }
}
