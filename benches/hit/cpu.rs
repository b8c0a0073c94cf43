//! What a server has used of its core.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// What a server had of its core in a span of time.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    /// Its processes ran, user and system together.
    pub(crate) ran: Duration,
    /// They were ready to run, and others had the core.
    pub(crate) queued: Duration,
}

/// The scheduler's account of each thread of a server at one moment, in nanoseconds.
#[derive(Default)]
pub(crate) struct Account(HashMap<u32, [u64; 2]>);

/// Reads the account of a process and its descendants.
pub(crate) fn account(root: u32) -> Result<Account> {
    let mut threads = HashMap::new();
    for pid in tree(root)? {
        for task in fs::read_dir(format!("/proc/{pid}/task")).context("a process of the server ended")? {
            let task = task?;
            // An idle helper may end between the listing and the reading.
            let Ok(line) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            let mut numbers = line.split(' ').map(str::parse);
            let (Some(ran), Some(queued)) = (numbers.next(), numbers.next()) else { continue };
            let thread = task.file_name().to_string_lossy().parse()?;
            threads.insert(thread, [ran?, queued?]);
        }
    }
    Ok(Account(threads))
}

impl Account {
    /// What the server has used between `before` and this account. A thread that ended between the two is not
    /// in it: the contenders' workers live on while they serve, only idle helpers end.
    pub(crate) fn since(&self, before: &Self) -> Used {
        let mut sum = [0; 2];
        for (thread, numbers) in &self.0 {
            let earlier = before.0.get(thread).copied().unwrap_or_default();
            for (sum, (now, then)) in sum.iter_mut().zip(numbers.iter().zip(earlier)) {
                *sum += now.saturating_sub(then);
            }
        }
        let [ran, queued] = sum.map(Duration::from_nanos);
        Used { ran, queued }
    }
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
