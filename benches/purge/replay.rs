//! A full journal, from the moment when the log can be reached again until all of it stands there.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use endcap::invalidate::journal::{Journal, JournalError};

use crate::server::{Node, PATIENCE, Redis};
use crate::start::purge;
use crate::{median, say};

const STARTS: usize = 5;

pub(crate) fn run(bytes_max: u64) -> Result<()> {
    // In memory: each record is synced by itself, and it is not the writing that is measured.
    let folder = tempfile::tempdir_in("/dev/shm")?;
    let (full, path) = (folder.path().join("full"), folder.path().join("journal"));
    let (mut journal, _) = Journal::open(&full, bytes_max)?;
    let purges = (0..)
        .find_map(|number| match journal.append(&purge(number)) {
            Ok(()) => None,
            Err(JournalError::Full { .. }) => Some(Ok(number)),
            Err(error) => Some(Err(error)),
        })
        .context("it is full at some time")??;
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let mut elapsed = Vec::new();
    for _ in 0..STARTS {
        std::fs::copy(&full, &path)?;
        let redis = Redis::start()?;
        let node = Node::start(nobody, &redis, None, &[("ENDCAP_PURGE__JOURNAL", path.as_os_str())])?;
        let mut connection = redis.connect()?;
        // The file is emptied when the log has all.
        while std::fs::metadata(&path)?.len() > 100 {
            if node.began.elapsed() > PATIENCE {
                bail!("the journal is not emptied within {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        elapsed.push(written_at(&mut connection, "XREVRANGE")? - written_at(&mut connection, "XRANGE")?);
    }
    say(&format!(
        "a full journal of {bytes_max} bytes, {purges} purges, from the node's first line in the log to its last: {:.2} s (median of {STARTS})",
        median(&mut elapsed),
    ));
    Ok(())
}

/// When the first line that this command finds was written, in seconds.
fn written_at(connection: &mut redis::Connection, command: &str) -> Result<f64> {
    let (from, to) = if command == "XRANGE" { ("-", "+") } else { ("+", "-") };
    let found: Vec<(String, Vec<String>)> =
        redis::cmd(command).arg("endcap:purges").arg(from).arg(to).arg("COUNT").arg(1).query(connection)?;
    let (id, _) = found.first().context("the log has lines")?;
    let (millis, _) = id.split_once('-').context("a position has two parts")?;
    Ok(millis.parse::<f64>()? / 1000.0)
}
