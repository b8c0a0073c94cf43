#!/usr/bin/env bash
# What purges cost, and 10,000 shoppers at once: all figures in one report.
#
#   benches/purge/run.sh [--only "work hits index entries start replay cold"] [--out FILE]
#
# Builds what it measures, starts its own redis-server, and writes benches/results/purge.txt.
# Takes about five minutes after the build. Linux only: it reads /proc and pins with taskset.
set -euo pipefail
cd "$(dirname "$0")/../.."

roles="work hits index entries start replay cold" out=benches/results/purge.txt
command="benches/purge/run.sh $*"
while [ $# -gt 0 ]; do
  case $1 in
    --only) roles=$2 ;;
    --out) out=$2 ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
  shift 2
done
fail() { echo "run.sh: $*" >&2; exit 1; }
[ "$(uname)" = Linux ] || fail "reads /proc and pins with taskset: Linux only"
command -v redis-server >/dev/null || fail "redis-server is missing: install it"
[ "$(ulimit -n)" -ge 12000 ] || ulimit -n 12000 || fail "needs 12000 open files: ulimit -n"

cargo build --locked --quiet --profile bench --bench purge --bin endcap
bench=$(find target/release/deps -maxdepth 1 -name 'purge-*' -type f -perm -u+x -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2-)
work=$(mktemp)
trap 'rm -f "$work"' EXIT
load_before=$(cut -d' ' -f1-3 /proc/loadavg)
for role in $roles; do
  # As full as the index gets by default, and just after it has forgotten its older half.
  case $role in index) "$bench" index --tags 917000 | tee -a "$work" >&2 ;; esac
  "$bench" "$role" | tee -a "$work" >&2
done
case " $roles " in
  *" cold "*)
    # Once more where a machine that is too busy to answer in time is not taken for a Redis that is too slow.
    echo "the same with redis.deadline = 500ms:" | tee -a "$work" >&2
    ENDCAP_REDIS__DEADLINE=500ms "$bench" cold | tee -a "$work" >&2 ;;
esac
load_after=$(cut -d' ' -f1-3 /proc/loadavg)
{
  echo "What purges cost"
  echo
  echo "date        $(date -u +%Y-%m-%d)"
  echo "command     $command"
  echo "machine     $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores$(grep -qw hypervisor /proc/cpuinfo && echo ', virtual'), $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), Linux $(uname -r)"
  echo "versions    endcap $(git rev-parse --short HEAD 2>/dev/null || echo unknown)$(git diff --quiet HEAD -- src Cargo.lock 2>/dev/null || echo '+changes'), $(rustc --version | cut -d' ' -f1-2), redis $(redis-server --version | sed 's/.*v=\([^ ]*\).*/\1/'); bench profile"
  echo "load avg    before $load_before, after $load_after (what others do on the machine is noise in here)"
  echo
  cat "$work"
  cat <<NOTES

How: "purge" is what a node does with a line of the log that it has read, hashing its tags included; "next look" is
what the first hit on an entry pays for the purges since the last one. Both in one process, medians of wall time.
"hits" are over sockets, on core 0, 32 kept connections, closed loop, 1 KiB, purges of other products coming from
Redis; CPU is what the scheduler has charged to the node, all it does with purges included; ratios are taken within
a round, median [quartiles]. Memory is the growth of VmRSS, what the allocator has not given back included, entries
filled by the node's own code; "beside these" is, by their types, moka (0.3 KB in six allocations a key), the entry itself
(0.2 KB), and the counts and the allocator's share of its key, fields, tags and body. "start": the client's parser reads a batch while
hashing (10 % of the node's time by samples), JSON, the index (12 %, and 9 % for the kernel to clear its pages) are at the last one. "replay": the journal
lies in memory, the times are those of Redis; the other nodes stay blind for 3 s after the log is back. "cold": the origin
takes 100 ms, clients and nodes share the cores; behind it what each node counts of the shared tier and of leases.
NOTES
} > "$out"
echo "written: $out" >&2
