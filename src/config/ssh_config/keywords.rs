//! Every option of `ssh_config(5)`, and how Scaup treats it.
//!
//! This is the one list of them: files, `-o` and the help use it. None may be missing: an option that `ssh` obeys and
//! Scaup does not know could decide which keys are trusted, so unknown options are refused.

/// How Scaup treats an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It selects the lines of a file that hold. It has a meaning only in files.
    Structure,
    /// It is obeyed as in `ssh`.
    Heeded(Form),
    /// A host with any value but one of these is refused; with the remedy.
    Refused(&'static [&'static str], &'static str),
    /// It is never done, and without it nothing more is trusted or offered; with the reason. `-o` takes only values
    /// that switch it off.
    NeverDone(&'static str),
    /// It has no effect on a mount, whatever its value; with the reason.
    WithoutEffect(&'static str),
}

/// The form of an option's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One word.
    Word,
    /// One word, which is a comma-separated list.
    List,
    /// Any number of words.
    Words,
}

/// An option.
#[derive(Debug, PartialEq, Eq)]
pub struct Keyword {
    /// Its name, as in the manual.
    pub name: &'static str,
    /// How it is treated.
    pub treatment: Treatment,
}

/// Values that switch an option off.
const NO: &[&str] = &["no", "none", "false"];

const FORWARDING: &str = "nothing is forwarded";
const TERMINAL: &str = "there is no terminal and no command at the other end";
const LOG: &str = "Scaup has a log of its own";
const ROAD: &str = "Scaup keeps and restores connections in its own way";
const SHARED_CONNECTION: &str = "a mount has a connection of its own";
const GSSAPI: &str = "GSSAPI is not tried";
const HOST_BASED: &str = "host-based authentication is not tried";
const CANONICAL: &str = "host names are not made canonical";
const OBSOLETE: &str = "ssh ignores it, too";

use Form::{List, Word, Words};
use Treatment::{Heeded, NeverDone, Refused, Structure, WithoutEffect};

/// All options, in the order of the manual; behind them those of other versions.
pub const KEYWORDS: &[Keyword] = &[
    keyword("Host", Structure),
    keyword("Match", Structure),
    keyword("AddKeysToAgent", NeverDone("keys stay in the daemon")),
    keyword("AddressFamily", Heeded(Word)),
    keyword("BatchMode", Heeded(Word)),
    keyword("BindAddress", Refused(&[], "the system chooses the address to connect from; set a route")),
    keyword("BindInterface", Refused(&[], "the system chooses the interface to connect from; set a route")),
    keyword("CanonicalDomains", WithoutEffect(CANONICAL)),
    keyword("CanonicalizeFallbackLocal", WithoutEffect(CANONICAL)),
    keyword("CanonicalizeHostname", Refused(NO, "name the host in full, or with HostName")),
    keyword("CanonicalizeMaxDots", WithoutEffect(CANONICAL)),
    keyword("CanonicalizePermittedCNAMEs", WithoutEffect(CANONICAL)),
    keyword("CASignatureAlgorithms", Heeded(List)),
    keyword("CertificateFile", Heeded(Word)),
    keyword("CheckHostIP", Refused(NO, "hosts are known by their names, not by their addresses")),
    keyword("Ciphers", Heeded(List)),
    keyword("ClearAllForwardings", WithoutEffect(FORWARDING)),
    keyword("Compression", WithoutEffect("it is not offered: what is encrypted can't be compressed")),
    keyword("ConnectionAttempts", WithoutEffect(ROAD)),
    keyword("ConnectTimeout", Heeded(Word)),
    keyword("ControlMaster", NeverDone(SHARED_CONNECTION)),
    keyword("ControlPath", NeverDone(SHARED_CONNECTION)),
    keyword("ControlPersist", NeverDone(SHARED_CONNECTION)),
    keyword("DynamicForward", WithoutEffect(FORWARDING)),
    keyword("EnableEscapeCommandline", WithoutEffect(TERMINAL)),
    keyword("EnableSSHKeysign", NeverDone(HOST_BASED)),
    keyword("EscapeChar", WithoutEffect(TERMINAL)),
    keyword("ExitOnForwardFailure", WithoutEffect(FORWARDING)),
    keyword("FingerprintHash", WithoutEffect("fingerprints are always shown as SHA256")),
    keyword("ForkAfterAuthentication", WithoutEffect(TERMINAL)),
    keyword("ForwardAgent", WithoutEffect(FORWARDING)),
    keyword("ForwardX11", WithoutEffect(FORWARDING)),
    keyword("ForwardX11Timeout", WithoutEffect(FORWARDING)),
    keyword("ForwardX11Trusted", WithoutEffect(FORWARDING)),
    keyword("GatewayPorts", WithoutEffect(FORWARDING)),
    keyword("GlobalKnownHostsFile", Heeded(Words)),
    keyword("GSSAPIAuthentication", NeverDone(GSSAPI)),
    keyword("GSSAPIClientIdentity", NeverDone(GSSAPI)),
    keyword("GSSAPIDelegateCredentials", NeverDone(GSSAPI)),
    keyword("GSSAPIKeyExchange", NeverDone(GSSAPI)),
    keyword("GSSAPIRenewalForcesRekey", NeverDone(GSSAPI)),
    keyword("GSSAPIServerIdentity", NeverDone(GSSAPI)),
    keyword("GSSAPITrustDns", NeverDone(GSSAPI)),
    keyword("GSSAPIKexAlgorithms", NeverDone(GSSAPI)),
    keyword("HashKnownHosts", Heeded(Word)),
    keyword("HostbasedAcceptedAlgorithms", NeverDone(HOST_BASED)),
    keyword("HostbasedAuthentication", NeverDone(HOST_BASED)),
    keyword("HostKeyAlgorithms", Heeded(List)),
    keyword("HostKeyAlias", Heeded(Word)),
    keyword("HostName", Heeded(Word)),
    keyword("IdentitiesOnly", Heeded(Word)),
    keyword("IdentityAgent", Heeded(Word)),
    keyword("IdentityFile", Heeded(Word)),
    keyword("IgnoreUnknown", Heeded(List)),
    keyword("Include", Structure),
    keyword("IPQoS", WithoutEffect(ROAD)),
    keyword("KbdInteractiveAuthentication", Heeded(Word)),
    keyword("KbdInteractiveDevices", Heeded(List)),
    keyword("KexAlgorithms", Heeded(List)),
    keyword("KnownHostsCommand", Refused(&["none"], "write what the command says into a UserKnownHostsFile")),
    keyword("LocalCommand", WithoutEffect("no command is run")),
    keyword("LocalForward", WithoutEffect(FORWARDING)),
    keyword("LogLevel", WithoutEffect(LOG)),
    keyword("LogVerbose", WithoutEffect(LOG)),
    keyword("MACs", Heeded(List)),
    keyword("NoHostAuthenticationForLocalhost", NeverDone("every host has to show its key")),
    keyword("NumberOfPasswordPrompts", Heeded(Word)),
    keyword("PasswordAuthentication", Heeded(Word)),
    keyword("PermitLocalCommand", NeverDone("no command is run")),
    keyword("PermitRemoteOpen", WithoutEffect(FORWARDING)),
    keyword(
        "PKCS11Provider",
        Refused(&["none"], "load the token into the agent, with `ssh-add -s PROVIDER`"),
    ),
    keyword("Port", Heeded(Word)),
    keyword("PreferredAuthentications", Heeded(List)),
    keyword(
        "ProxyCommand",
        Refused(&["none"], "if it goes through another SSH server, name that with ProxyJump"),
    ),
    keyword("ProxyJump", Heeded(List)),
    keyword("ProxyUseFdpass", WithoutEffect("it is about ProxyCommand")),
    keyword("PubkeyAcceptedAlgorithms", Heeded(List)),
    keyword("PubkeyAuthentication", Heeded(Word)),
    keyword("RekeyLimit", Heeded(Words)),
    keyword("RemoteCommand", WithoutEffect(TERMINAL)),
    keyword("RemoteForward", WithoutEffect(FORWARDING)),
    keyword("RequestTTY", WithoutEffect(TERMINAL)),
    keyword("RequiredRSASize", Heeded(Word)),
    keyword("RevokedHostKeys", Heeded(Word)),
    keyword("SecurityKeyProvider", WithoutEffect("keys on security tokens are used through the agent")),
    keyword("SendEnv", WithoutEffect(TERMINAL)),
    keyword("ServerAliveCountMax", Heeded(Word)),
    keyword("ServerAliveInterval", Heeded(Word)),
    keyword("SessionType", WithoutEffect(TERMINAL)),
    keyword("SetEnv", WithoutEffect(TERMINAL)),
    keyword("StdinNull", WithoutEffect(TERMINAL)),
    keyword("StreamLocalBindMask", WithoutEffect(FORWARDING)),
    keyword("StreamLocalBindUnlink", WithoutEffect(FORWARDING)),
    keyword("StrictHostKeyChecking", Heeded(Word)),
    keyword("SyslogFacility", WithoutEffect(LOG)),
    keyword("TCPKeepAlive", WithoutEffect(ROAD)),
    keyword("Tunnel", NeverDone(FORWARDING)),
    keyword("TunnelDevice", WithoutEffect(FORWARDING)),
    keyword("UpdateHostKeys", NeverDone("a key is only added to the known hosts when it is accepted")),
    keyword("User", Heeded(Word)),
    keyword("UserKnownHostsFile", Heeded(Words)),
    keyword(
        "VerifyHostKeyDNS",
        NeverDone("keys are not looked up in the DNS; Scaup asks about an unknown key"),
    ),
    keyword("VisualHostKey", WithoutEffect(TERMINAL)),
    keyword("XAuthLocation", WithoutEffect(FORWARDING)),
    // Options of versions after 9.2.
    keyword("ChannelTimeout", WithoutEffect(TERMINAL)),
    keyword("ObscureKeystrokeTiming", WithoutEffect(TERMINAL)),
    keyword("RefuseConnection", Refused(&[], "the configuration says not to connect")),
    keyword("Tag", Heeded(Word)),
    keyword("VersionAddendum", WithoutEffect("Scaup sends its own version to servers")),
    keyword("WarnWeakCrypto", WithoutEffect("weak algorithms are not offered")),
    // Options of much older versions.
    keyword("AfsTokenPassing", WithoutEffect(OBSOLETE)),
    keyword("Cipher", WithoutEffect(OBSOLETE)),
    keyword("CompressionLevel", WithoutEffect(OBSOLETE)),
    keyword("FallBackToRsh", WithoutEffect(OBSOLETE)),
    keyword("GlobalKnownHostsFile2", WithoutEffect(OBSOLETE)),
    keyword("KerberosAuthentication", WithoutEffect(OBSOLETE)),
    keyword("KerberosTgtPassing", WithoutEffect(OBSOLETE)),
    keyword("Protocol", WithoutEffect(OBSOLETE)),
    keyword("RhostsAuthentication", WithoutEffect(OBSOLETE)),
    keyword("RhostsRSAAuthentication", WithoutEffect(OBSOLETE)),
    keyword("RSAAuthentication", WithoutEffect(OBSOLETE)),
    keyword("UsePrivilegedPort", WithoutEffect(OBSOLETE)),
    keyword("UserKnownHostsFile2", WithoutEffect(OBSOLETE)),
    keyword("UseRoaming", WithoutEffect(OBSOLETE)),
    keyword("UseRsh", WithoutEffect(OBSOLETE)),
];

/// Old names of options.
const ALIASES: &[(&str, &str)] = &[
    ("ChallengeResponseAuthentication", "KbdInteractiveAuthentication"),
    ("DSAAuthentication", "PubkeyAuthentication"),
    ("HostbasedKeyTypes", "HostbasedAcceptedAlgorithms"),
    ("IdentityFile2", "IdentityFile"),
    ("PubkeyAcceptedKeyTypes", "PubkeyAcceptedAlgorithms"),
    ("SkeyAuthentication", "KbdInteractiveAuthentication"),
    ("SmartcardDevice", "PKCS11Provider"),
    ("TISAuthentication", "KbdInteractiveAuthentication"),
];

const fn keyword(name: &'static str, treatment: Treatment) -> Keyword {
    Keyword { name, treatment }
}

/// Returns the option of this name, regardless of case.
#[must_use]
pub fn find(name: &str) -> Option<&'static Keyword> {
    let alias = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
    let name = alias.map_or(name, |(_, name)| name);
    KEYWORDS.iter().find(|keyword| keyword.name.eq_ignore_ascii_case(name))
}

/// Returns the names of the options that are obeyed, as listed for people.
pub fn heeded() -> impl Iterator<Item = &'static str> {
    let names = KEYWORDS.iter().filter(|keyword| matches!(keyword.treatment, Heeded(_)));
    names.map(|keyword| keyword.name)
}

impl Keyword {
    /// Returns whether its value is a comma-separated list.
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.treatment == Heeded(List)
    }

    /// Returns why it is refused with this value, wherever it comes from.
    #[must_use]
    pub fn refusal(&self, value: &str) -> Option<&'static str> {
        match self.treatment {
            Refused(taken, way_out) if !is_one_of(taken, value) => Some(way_out),
            _ => None,
        }
    }

    /// Returns why it is refused with this value on the command line, where the user wants it done.
    #[must_use]
    pub fn refusal_as_option(&self, value: &str) -> Option<&'static str> {
        match self.treatment {
            NeverDone(reason) if !is_one_of(NO, value) => Some(reason),
            Structure => Some("it only has a meaning in configuration files"),
            _ => self.refusal(value),
        }
    }
}

fn is_one_of(values: &[&str], value: &str) -> bool {
    values.iter().any(|taken| taken.eq_ignore_ascii_case(value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_option_stands_there_twice_and_every_alias_means_one() {
        for (index, keyword) in KEYWORDS.iter().enumerate() {
            let others = KEYWORDS.iter().skip(index + 1);
            assert!(
                others.clone().all(|other| !other.name.eq_ignore_ascii_case(keyword.name)),
                "{keyword:?}"
            );
            assert_eq!(find(&keyword.name.to_uppercase()), Some(keyword));
        }
        for (alias, name) in ALIASES {
            assert_eq!(find(alias).map(|keyword| keyword.name), Some(*name), "{alias}");
        }
    }
}
