//! From the start of a process until it is ready, behind a log of so many purges.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use endcap::policy::purge::{Mode, Purge};
use endcap::store::line;

use crate::server::{Node, Redis};
use crate::{cpu, median, say};

const STARTS: usize = 5;
const BATCH: usize = 10_000;

pub(crate) fn run(purges: usize) -> Result<()> {
    let redis = Redis::start()?;
    let mut connection = redis.connect()?;
    for batch in 0..purges.div_ceil(BATCH) {
        let mut pipeline = redis::pipe();
        for number in batch * BATCH..purges.min((batch + 1) * BATCH) {
            append(&mut pipeline, "endcap:purges", number);
        }
        pipeline.query::<()>(&mut connection)?;
    }
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let (mut elapsed, mut ran, mut queued) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let node = Node::start(nobody, &redis, None, &[])?;
        elapsed.push(node.ready()?.as_secs_f64());
        let used = cpu::account(node.id())?.since(&cpu::Account::default());
        ran.push(used.ran.as_secs_f64());
        queued.push(used.queued.as_secs_f64());
    }
    say(&format!(
        "start behind {purges} purges until /readyz: {:.2} s; the node ran {:.2} s, and waited {:.2} s for a core that others \
         had (medians of {STARTS} starts)",
        median(&mut elapsed),
        median(&mut ran),
        median(&mut queued)
    ));
    Ok(())
}

/// A line of a log as a node writes it.
pub(crate) fn append(pipeline: &mut redis::Pipeline, log: &str, number: usize) {
    pipeline.cmd("XADD").arg(log).arg("*").arg(line::FIELD).arg(line::encode(&purge(number))).ignore();
}

/// An update of one product.
pub(crate) fn purge(number: usize) -> Purge {
    let tags =
        vec![(format!("prod_01JAV7ZC4R8N5X2KQW7Y{number:010}"), Mode::Hard), ("list:product".to_owned(), Mode::Soft)];
    Purge { tags, source: "default".into(), event_id: format!("msg_{number}"), ..Purge::default() }
}
