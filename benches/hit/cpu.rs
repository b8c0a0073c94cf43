//! What a server has used of its core.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// What a server had of its core.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    /// Its processes ran, user and system together.
    pub(crate) ran: Duration,
    /// They were ready to run, and others had the core.
    pub(crate) queued: Duration,
}

/// What a process and its descendants have used: the scheduler's own account, in nanoseconds.
/// Threads and children that ended are not in it; the contenders' workers live on while they serve.
pub(crate) fn used(root: u32) -> Result<Used> {
    let mut sum = [0; 2];
    for pid in tree(root)? {
        for task in fs::read_dir(format!("/proc/{pid}/task")).context("a process of the server ended")? {
            // An idle helper may end between the listing and the reading.
            let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            for (sum, number) in sum.iter_mut().zip(line.split(' ')) {
                *sum += number.parse::<u64>()?;
            }
        }
    }
    let [ran, queued] = sum.map(Duration::from_nanos);
    Ok(Used { ran, queued })
}

/// A process and its descendants.
pub(crate) fn tree(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("CPU time is read from /proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end between the listing and the reading.
        let Some(parent) = parent(pid) else { continue };
        parents.push((pid, parent));
    }
    anyhow::ensure!(parents.iter().any(|&(pid, _)| pid == root), "process {root} is gone");
    let mut tree = vec![root];
    let mut next = 0;
    while next < tree.len() {
        let parent = tree[next];
        tree.extend(parents.iter().filter(|&&(_, of)| of == parent).map(|&(pid, _)| pid));
        next += 1;
    }
    Ok(tree)
}

/// A process's parent: in its stat line, the second after the name, which is in brackets.
fn parent(pid: u32) -> Option<u32> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    line.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
