//! The agents that hold keys.

use std::time::Duration;

use scaup_sftp::ssh::{Agent, keys_in};

use super::{GROUP, Server};
use crate::doctor::Check;

const NAME: &str = "agent";

/// How long an agent may take to list its keys.
const REPLIES_WITHIN: Duration = Duration::from_secs(3);

/// Most keys that OpenSSH's server lets a client try (`MaxAuthTries 6`), less one attempt for another method.
const KEYS_MAX: usize = 5;

/// Examines each agent once; without servers, the one of the environment.
pub(super) async fn checks(servers: &[Server<'_>]) -> Vec<Check> {
    let mut agents: Vec<&Agent> = Vec::new();
    for server in servers {
        if !agents.contains(&&server.destination.agent) {
            agents.push(&server.destination.agent);
        }
    }
    if servers.is_empty() {
        agents.push(&Agent::FromEnvironment);
    }
    let mut checks = Vec::new();
    for agent in agents {
        let offering = servers.iter().find(|Server { destination, .. }| {
            destination.agent == *agent && !destination.identities_only && destination.identities.is_empty()
        });
        checks.push(check(agent, offering).await);
    }
    checks
}

/// Examines an agent, all keys of which are offered to `offering`, if there is such a server.
async fn check(agent: &Agent, offering: Option<&Server<'_>>) -> Check {
    let (shown, advice) = match agent {
        Agent::None => return GROUP.ok(NAME, "IdentityAgent says to use none"),
        Agent::FromEnvironment => match std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()) {
            None => return GROUP.ok(NAME, "there is none (SSH_AUTH_SOCK is not set)"),
            Some(path) => (path.display().to_string(), "start it (ssh-agent(1)), or unset SSH_AUTH_SOCK"),
        },
        Agent::Socket(path) => {
            (path.display().to_string(), "start it, or correct IdentityAgent in ssh_config")
        }
    };
    match tokio::time::timeout(REPLIES_WITHIN, keys_in(agent)).await {
        Err(_) => {
            let found = format!("{shown}: it did not reply within {} s", REPLIES_WITHIN.as_secs());
            GROUP.warning(NAME, found, advice)
        }
        Ok(Err(error)) => GROUP.warning(NAME, format!("{shown}: it can't be used: {error}"), advice),
        Ok(Ok(count)) => {
            judged(&shown, count.unwrap_or_default(), offering.map(|it| it.subject.name.as_str()))
        }
    }
}

fn judged(shown: &str, count: usize, offering: Option<&str>) -> Check {
    let keys = if count == 1 { "key" } else { "keys" };
    match offering {
        Some(subject) if count > KEYS_MAX => GROUP.warning(
            NAME,
            format!(
                "it holds {count} keys, all of which are offered to {subject}; servers give up after some"
            ),
            "name the right key with IdentityFile, and write IdentitiesOnly yes, in ~/.ssh/config",
        ),
        _ => GROUP.ok(NAME, format!("{shown}: it holds {count} {keys}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn many_keys_are_a_problem_only_where_all_are_offered() {
        assert_eq!(judged("a", 5, Some("hq")).verdict, Verdict::Ok);
        assert_ne!(judged("a", 6, Some("hq")).verdict, Verdict::Ok);
        assert_eq!(judged("a", 6, None).verdict, Verdict::Ok);
    }
}
