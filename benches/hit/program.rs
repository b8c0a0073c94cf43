//! What the programs of the benches have in common.

use clap::{Parser, Subcommand};

/// The allocator of the program that is measured.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Args<R: Subcommand> {
    #[command(subcommand)]
    role: Option<R>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The role that this process is started in; `None` where cargo has started it.
pub(crate) fn role<R: Subcommand>() -> Option<R> {
    Args::parse().role
}

pub(crate) fn say(line: &str) {
    println!("{line}");
}
