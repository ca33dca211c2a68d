//! Scaup's program: the words of the command line go to `cli`, which answers the exit code.

use std::process::ExitCode;

use scaup_memory::WipingAllocator;

#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

fn main() -> ExitCode {
    scaup::cli::main()
}
