//! The target of a login: its server, or a directory of this machine.

use std::io;
use std::time::{Duration, Instant};

use scaup_sftp::ssh::{AddressFamily, Destination};
use tokio::net::{TcpStream, lookup_host};

use super::{Check, Group};
use crate::config::size;
use crate::config::ssh_config;
use crate::config::target::Target;
use crate::daemon::protocol::LoginRequest;
use crate::remote::{
    Agreed, EXTENSIONS, Remote, RemoteError, RemotePath, RemoteStatistics, ServerFacts, Weakness,
};

const GROUP: Group = Group::Server;

/// How long looking up a name, or connecting to one address, may take at most.
const REPLIES_WITHIN: Duration = Duration::from_secs(15);
/// How often a round trip is measured: the shortest counts.
const ROUND_TRIPS: usize = 5;
/// Less free space than this is little, bytes.
const SPACE_MIN: u64 = 256 * 1024 * 1024;

/// Looks up the target's server, or the first jump host, and connects to it without logging in. The checks of a target
/// that can't be reached do not all succeed.
pub async fn reachable(login: &LoginRequest) -> Vec<Check> {
    let Target::Server(server) = &login.target else { return Vec::new() };
    // A configuration that can't be used is a finding about the login.
    let Ok(destination) = ssh_config::resolve(&login.settings.wanted(server, &login.directory)) else {
        return Vec::new();
    };
    reach(destination.jumps.first().unwrap_or(&destination)).await
}

async fn reach(to: &Destination) -> Vec<Check> {
    let (host, port) = (&to.host, to.port);
    let looked_up = within(lookup_host((host.as_str(), port))).await;
    let addresses: Vec<_> = match looked_up {
        Ok(addresses) => addresses
            .filter(|address| match to.address_family {
                AddressFamily::Any => true,
                AddressFamily::Inet => address.is_ipv4(),
                AddressFamily::Inet6 => address.is_ipv6(),
            })
            .collect(),
        Err(error) => {
            let found = format!("{host} can't be looked up: {error}");
            return vec![GROUP.failed("address", found, "correct the name, or connect to its network (VPN)")];
        }
    };
    let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    let mut checks = vec![match addresses.first() {
        Some(_) => GROUP.ok("address", format!("{host} is {}", shown.join(", "))),
        None => {
            let found = format!("{host} has no address of the family that AddressFamily names");
            return vec![GROUP.failed("address", found, "change AddressFamily")];
        }
    }];
    let mut last = None;
    for address in addresses {
        let begun = Instant::now();
        match within(TcpStream::connect(address)).await {
            Ok(_) => {
                let found = format!("port {port} accepts connections ({} ms)", begun.elapsed().as_millis());
                checks.push(GROUP.ok("connection", found));
                return checks;
            }
            Err(error) => last = Some(error),
        }
    }
    let why = last.map_or_else(String::new, |error| format!(": {error}"));
    let found = format!("port {port} of {host} accepts no connection{why}");
    checks.push(GROUP.failed(
        "connection",
        found,
        "correct the port, or ask the server's owner about a firewall",
    ));
    checks
}

async fn within<T>(reply: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(REPLIES_WITHIN, reply).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Examines the target behind a login. Nothing is written there, so nothing is said about the server's clock.
pub async fn checks(remote: &dyn Remote) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(facts) = remote.server() {
        checks.extend(facts.agreed.as_ref().map(security));
        checks.push(round_trip(remote).await);
        checks.extend(EXTENSIONS.map(|extension| offer(extension, &facts)));
    }
    checks.push(match remote.statistics(&RemotePath::root()).await {
        Ok(statistics) => space(&statistics),
        Err(RemoteError::Unsupported(_)) => GROUP.ok("space", "the server does not say how much is free"),
        Err(error) => {
            GROUP.warning("space", error.to_string(), "ask the server's owner whether its disk is well")
        }
    });
    checks
}

fn security(agreed: &Agreed) -> Check {
    let Agreed { kex, cipher, message_code, host_key, is_strict } = agreed;
    let found = format!("{kex}, {cipher}, {message_code}, host key {host_key}");
    if *is_strict {
        return GROUP.ok("encryption", found);
    }
    GROUP.warning(
        "encryption",
        format!("{found}; without strict key exchange, somebody on the way can remove its first messages (CVE-2023-48795)"),
        "update the server's SSH (OpenSSH 9.6 or newer)",
    )
}

async fn round_trip(remote: &dyn Remote) -> Check {
    match shortest_round_trip(remote).await {
        Ok(took) => GROUP.ok("round trip", format!("{:.1} ms", took.as_secs_f64() * 1000.0)),
        Err(error) => {
            GROUP.failed("round trip", error.to_string(), "check that the target's directory exists")
        }
    }
}

/// Measures how long a small request takes at least.
pub(super) async fn shortest_round_trip(remote: &dyn Remote) -> Result<Duration, RemoteError> {
    let mut shortest = Duration::MAX;
    for _ in 0..ROUND_TRIPS {
        let begun = Instant::now();
        remote.stat(&RemotePath::root()).await?;
        shortest = shortest.min(begun.elapsed());
    }
    Ok(shortest)
}

/// Says what it means if a server does not offer an extension. Only what endangers data is a warning.
fn offer((extension, weakness): (&'static str, Weakness), facts: &ServerFacts) -> Check {
    const UPDATE: &str = "use OpenSSH's sftp-server there (6.5 or newer)";
    if facts.extensions.contains(&extension) {
        let found = match facts.read_len_max {
            Some(length) if extension == "limits@openssh.com" => {
                format!("offered; one request reads up to {}", size::show(length.into()))
            }
            _ => "offered".to_owned(),
        };
        return GROUP.ok(extension, found);
    }
    let found = format!("not offered: {}", weakness.sentence());
    if weakness.endangers_data() {
        GROUP.warning(extension, found, UPDATE)
    } else {
        GROUP.ok(extension, found)
    }
}

fn space(statistics: &RemoteStatistics) -> Check {
    let RemoteStatistics { block_size, blocks, blocks_available, files, files_free, .. } = *statistics;
    let (all, free) = (blocks.saturating_mul(block_size), blocks_available.saturating_mul(block_size));
    let found = format!("{} of {} are free", size::show(free), size::show(all));
    // A file system that does not count says zero.
    if all > 0 && free < SPACE_MIN.min(all / 20) {
        return GROUP.warning("space", found, "free some space on the server");
    }
    if files > 0 && files_free == 0 {
        let found = format!("{found}, but no more files can be made (no inodes)");
        return GROUP.warning("space", found, "remove some files on the server");
    }
    GROUP.ok("space", found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn little_space_and_no_inodes_are_warnings() {
        let with = |blocks, blocks_available, files, files_free| RemoteStatistics {
            block_size: 4096,
            blocks,
            blocks_free: blocks_available,
            blocks_available,
            files,
            files_free,
            name_max: 255,
        };
        for (statistics, is_ok) in [
            (with(1_000_000, 500_000, 10, 5), true),
            (with(1_000_000, 10_000, 10, 5), false),
            (with(1_000_000, 0, 10, 5), false),
            (with(1_000_000, 500_000, 10, 0), false),
            (with(0, 0, 0, 0), true),
            (with(u64::MAX, u64::MAX, u64::MAX, 1), true),
        ] {
            assert_eq!(space(&statistics).verdict == Verdict::Ok, is_ok, "{statistics:?}");
        }
    }

    #[test]
    fn only_what_endangers_data_is_a_warning_where_it_is_missing() {
        let none =
            ServerFacts { agreed: None, extensions: Vec::new(), read_len_max: None, weaknesses: Vec::new() };
        let warned =
            EXTENSIONS.into_iter().filter(|extension| offer(*extension, &none).verdict != Verdict::Ok);
        let warned: Vec<_> = warned.map(|(extension, _)| extension).collect();
        assert_eq!(warned, ["posix-rename@openssh.com", "fsync@openssh.com"]);
        let all = ServerFacts { extensions: EXTENSIONS.map(|(extension, _)| extension).to_vec(), ..none };
        assert!(EXTENSIONS.into_iter().all(|extension| offer(extension, &all).verdict == Verdict::Ok));
    }

    #[test]
    fn a_key_exchange_that_is_not_strict_is_a_warning() {
        let agreed = |is_strict| Agreed {
            kex: "mlkem768x25519-sha256".into(),
            cipher: "chacha20-poly1305@openssh.com".into(),
            message_code: "none".into(),
            host_key: "ssh-ed25519".into(),
            is_strict,
        };
        assert_eq!(security(&agreed(true)).verdict, Verdict::Ok);
        assert_ne!(security(&agreed(false)).verdict, Verdict::Ok);
    }
}
