//! The rig's proxy as a program, for the benchmarks: `road HOST PORT` leads there.
//!
//! It says the port that it listens on, then obeys one command a line and says when it has, until its standard input
//! ends:
//!
//! ```text
//! delay MILLISECONDS     how much later each byte arrives, in either direction
//! rate MEGABITS          how much passes in a second, in either direction; 0: as much as the machine can
//! passed                 says how many bytes have gone to the server, and to the client
//! ```

use std::error::Error;
use std::io::{BufRead as _, Write as _};
use std::time::Duration;

use scaup_rig::{Direction, Proxy};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port] = arguments.as_slice() else { return Err("usage: road HOST PORT".into()) };
    let proxy = Proxy::start(host, port.parse()?);
    let mut answers = std::io::stdout().lock();
    writeln!(answers, "{}", proxy.port())?;
    for command in std::io::stdin().lock().lines() {
        let answer = obey(&proxy, &command?)?;
        writeln!(answers, "{answer}")?;
    }
    Ok(())
}

fn obey(proxy: &Proxy, command: &str) -> Result<String, Box<dyn Error>> {
    match command.split_once(' ').unwrap_or((command, "")) {
        ("delay", milliseconds) => proxy.delay(Duration::from_secs_f64(milliseconds.parse::<f64>()? / 1e3)),
        ("rate", megabits) => {
            let bytes = megabits.parse::<u64>()? * 1_000_000 / 8;
            for direction in [Direction::ToServer, Direction::ToClient] {
                proxy.rate(direction, (bytes > 0).then_some(bytes));
            }
        }
        ("passed", "") => {
            let [up, down] = [Direction::ToServer, Direction::ToClient].map(|way| proxy.passed(way));
            return Ok(format!("{up} {down}"));
        }
        _ => return Err(format!("no such command: {command}").into()),
    }
    Ok("done".to_owned())
}
