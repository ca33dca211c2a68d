//! The clock: one-time codes depend on it.

use std::path::Path;

use super::{GROUP, bus};
use crate::doctor::Check;

/// The file that systemd-timesyncd makes when it has set the clock.
const SET_BY_TIMESYNCD: &str = "/run/systemd/timesync/synchronized";

pub(super) async fn checks() -> Vec<Check> {
    let name = "clock";
    let check = match bus::is_clock_synchronized().await {
        Ok(true) => GROUP.ok(name, "a time server sets it"),
        _ if Path::new(SET_BY_TIMESYNCD).exists() => GROUP.ok(name, "systemd-timesyncd set it"),
        Ok(false) => GROUP.warning(
            name,
            "no time server sets it; a server refuses one-time codes if it is wrong by more than some seconds",
            "timedatectl set-ntp true",
        ),
        // Where neither systemd nor a bus runs, another program may set it.
        Err(_) => GROUP.ok(name, "it is not known whether a time server sets it"),
    };
    vec![check]
}
