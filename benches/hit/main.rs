//! CPU per L1 hit, as a ratio to a bare epoll loop, beside other caches on the same work.
//!
//! `benches/hit/run.sh` starts the contenders and measures them; this is the program it uses, in
//! several roles.

#![expect(clippy::disallowed_methods, reason = "a bench measures real time, and its bare server has no drain")]
#![expect(clippy::print_stdout, reason = "a command line program")]

mod bare_hyper;
mod cpu;
mod limit;
mod load;
mod measure;
mod origin;
mod program;
mod sample;
mod wanted;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;

use crate::load::{Load, Until};
use crate::program::say;
use crate::wanted::Wanted;

#[derive(Subcommand)]
enum Role {
    /// Serves one prebuilt answer from a bare epoll loop.
    Limit {
        #[arg(long)]
        size: usize,
    },
    /// Serves one list from bare hyper.
    Hyper {
        #[arg(long)]
        size: usize,
    },
    /// Serves lists of any size to caches.
    Origin,
    /// Asks one server for lists and reports.
    Load {
        address: SocketAddr,
        #[arg(long, default_value_t = 1024)]
        size: usize,
        #[arg(long, default_value_t = 32)]
        connections: usize,
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// The encoding that is asked for; without it the plain list.
        #[arg(long)]
        accept_encoding: Option<String>,
        /// So many requests instead of a time.
        #[arg(long)]
        requests: Option<u64>,
    },
    /// Measures servers against each other.
    Measure(measure::Plan),
    /// Prints the heads of the columns that `measure` prints.
    Heads,
    /// Prints ports that are free now.
    Ports { count: usize },
}

fn main() -> Result<()> {
    match program::role() {
        None => say("started by `benches/hit/run.sh`; see there, or --help"),
        Some(Role::Limit { size }) => {
            // What a cache adds to the origin's headers, so that the bytes on the wire are alike.
            let more = "date: Thu, 01 Jan 2026 00:00:00 GMT\r\nage: 17\r\n";
            limit::serve(any_port(), &origin::answer(size, more))?;
        }
        Some(Role::Hyper { size }) => bare_hyper::serve(listen()?, size)?,
        Some(Role::Origin) => origin::serve(&listen()?)?,
        Some(Role::Load { address, size, connections, seconds, accept_encoding, requests }) => {
            let until = requests.map_or(Until::Elapsed(Duration::from_secs_f64(seconds)), Until::Requests);
            let wanted = Wanted::new(address, size, accept_encoding.as_deref())?;
            let outcome = Load::connect(address, &wanted, connections, 1)?.run(until)?;
            say(&format!(
                "{} answers, all right: {:.0} req/s, p50 {:.0} us, p90 {:.0} us, p99 {:.0} us, max {:.0} us",
                outcome.requests,
                outcome.rate(),
                outcome.percentile_us(50.0),
                outcome.percentile_us(90.0),
                outcome.percentile_us(99.0),
                outcome.percentile_us(100.0),
            ));
        }
        Some(Role::Measure(plan)) => measure::run(&plan)?,
        Some(Role::Heads) => say(&measure::heads()),
        Some(Role::Ports { count }) => {
            // Held together, so that they differ.
            let held = (0..count).map(|_| TcpListener::bind(any_port())).collect::<Result<Vec<_>, _>>()?;
            for listener in held {
                say(&listener.local_addr()?.port().to_string());
            }
        }
    }
    Ok(())
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn listen() -> Result<TcpListener> {
    let listener = TcpListener::bind(any_port())?;
    announce(listener.local_addr()?);
    Ok(listener)
}

/// Tells the script where a server listens.
fn announce(address: SocketAddr) {
    say(&address.to_string());
}
