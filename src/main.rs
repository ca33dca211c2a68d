//! Scaup's program: it passes the command line to `cli`, which returns the exit code.

use std::process::ExitCode;

use scaup_memory::WipingAllocator;

#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

fn main() -> ExitCode {
    scaup::cli::main()
}
