#!/usr/bin/env bash
# CPU per L1 hit: endcap beside a bare epoll loop, bare hyper and nginx's proxy_cache, on one core.
#
#   benches/hit/run.sh [--varnish] [--only "limit endcap nginx"] [--sizes "1024 16384"]
#                      [--rounds N] [--seconds S] [--connections C] [--event instructions:u] [--out FILE]
#
# Builds what it measures, unpacks nginx (and Varnish) from the distribution when it is missing,
# starts everything on loopback, checks the answers, measures, and writes benches/results/hit.txt.
# Takes about three minutes after the build. Linux only: it reads /proc and pins with taskset.
set -euo pipefail
cd "$(dirname "$0")/../.."

contenders="limit limit-again hyper endcap endcap+br nginx nginx-sendfile"
sizes="1024 16384 148480"
rounds=7 seconds=0.9 connections=32 event="" varnish="" out=benches/results/hit.txt
server_core=0 load_core=1
command="benches/hit/run.sh $*"
while [ $# -gt 0 ]; do
  case $1 in
    --varnish) varnish=varnish; shift; continue ;;
    --only) contenders=$2 ;;
    --sizes) sizes=$2 ;;
    --rounds) rounds=$2 ;;
    --seconds) seconds=$2 ;;
    --connections) connections=$2 ;;
    --event) event=$2 ;;
    --out) out=$2 ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
  shift 2
done
contenders="$contenders $varnish"
case " $contenders" in " limit "*) ;; *) echo "the first contender must be limit" >&2; exit 2 ;; esac

fail() { echo "run.sh: $*" >&2; exit 1; }
wants() { case " $contenders " in *" $1 "* | *" $1+"*) ;; *) false ;; esac; }
wants_nginx() { wants nginx || wants nginx-sendfile; }
[ "$(uname)" = Linux ] || fail "reads /proc and pins with taskset: Linux only"
[ "$(nproc)" -ge 2 ] || fail "needs two cores, one for the server and one for the load"

# --- What runs is stopped, what was written goes, whatever happens. Children are ended by their id.
work=$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")/endcap-hit.XXXXXX")
children=()
cleanup() {
  trap - EXIT INT TERM
  local child try alive
  for try in $(seq 0 30); do
    alive=""
    for child in "${children[@]}"; do
      kill -0 "$child" 2>/dev/null || continue
      alive=1
      # Once more after a while: a signal is lost on a child that was just about to become its program.
      if [ "$try" = 30 ]; then kill -KILL "$child" 2>/dev/null; elif [ $((try % 10)) = 0 ]; then kill "$child" 2>/dev/null; fi || true
    done
    [ -z "$alive" ] && break
    sleep 0.1
  done
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# --- Build. The bench is built as the product is, so that bare hyper has no lighter build than endcap.
echo "building" >&2
if wants endcap; then cargo build --release --quiet --bin endcap; fi
cargo bench --profile release --bench hit --no-run --quiet --message-format=json > "$work/build.json"
bench=$(sed -n '/"name":"hit"/s/.*"executable":"\([^"]*\)".*/\1/p' "$work/build.json")
[ -x "$bench" ] || fail "cargo did not say where the bench is"

# --- Tools. Packages are unpacked, not installed: nothing needs root, and no service is started.
tools=target/bench-tools
unpack() { # into packages...
  [ -d "$tools/$1" ] && return
  command -v apt-get >/dev/null || return 1
  echo "unpacking ${*:2}" >&2
  mkdir -p "$work/$1"
  if ! (cd "$work/$1" && apt-get download -qq "${@:2}" 2>/dev/null); then
    { [ "$(id -u)" = 0 ] && apt-get update -qq; } || sudo -n apt-get update -qq || return 1
    (cd "$work/$1" && apt-get download -qq "${@:2}" 2>/dev/null) || return 1
  fi
  mkdir -p "$tools/$1.part"
  for package in "$work/$1"/*.deb; do dpkg-deb -x "$package" "$tools/$1.part"; done
  mv "$tools/$1.part" "$tools/$1"
}
if wants_nginx; then
  nginx=$(command -v nginx) || nginx=$tools/nginx/usr/sbin/nginx
  [ -x "$nginx" ] || unpack nginx nginx || { command -v brew >/dev/null && brew install nginx && nginx=$(command -v nginx); } || true
  "$nginx" -v 2>/dev/null || fail "nginx is missing and could not be unpacked: install it and run this again"
fi
if wants varnish; then
  varnishd=$(command -v varnishd) || varnishd=$tools/varnish/usr/sbin/varnishd
  [ -x "$varnishd" ] || unpack varnish varnish libvarnishapi3 libjemalloc2 || true
  libraries=$(dirname "$(find "$tools/varnish" -name 'libvarnishapi.so*' 2>/dev/null | head -1)" 2>/dev/null || true)
  LD_LIBRARY_PATH=$libraries "$varnishd" -V 2>/dev/null || fail "varnishd is missing and could not be unpacked: install it and run this again"
fi

# --- Servers. Each is pinned to the server's core; the others sleep while one is measured.
# shellcheck disable=SC2046 # one port a word
set -- $("$bench" ports 5)
endcap_port=$1 ops_port=$2 nginx_port=$3 sendfile_port=$4 varnish_port=$5

serve() { # log command...: starts it in the background; its id is $server
  taskset -c "$server_core" "${@:2}" > "$work/$1.out" 2> "$work/$1.err" &
  server=$!
  children+=("$server")
}
announced() { # log: the address that one of our own servers has printed
  for _ in $(seq 100); do
    # The file may not be there yet, nor the line's end.
    if [ -s "$work/$1.out" ] && read -r address < "$work/$1.out"; then return; fi
    sleep 0.05
  done
  fail "$1 does not start: $(cat "$work/$1.err")"
}

serve origin "$bench" origin
announced origin
origin=$address
running="" # name=pid=address of those that serve every size

if wants endcap; then
  cat > "$work/endcap.toml" <<CONFIG
upstream = "http://$origin"
[listen]
address = "127.0.0.1:$endcap_port"
[ops]
address = "127.0.0.1:$ops_port"
[log]
requests = "off"
[route.bench]
paths = ["/store/bench/{size}"]
ttl = "1h"
tag_prefixes = ["prod_"]
[route.bench.query]
region_id = { kind = "text" }
[route.bench.headers]
x-publishable-api-key = { kind = "text" }
CONFIG
  TOKIO_WORKER_THREADS=1 serve endcap target/release/endcap serve --config "$work/endcap.toml"
  running="$running endcap=$server=127.0.0.1:$endcap_port"
fi

if wants_nginx; then
  # One worker, no logs, files in memory and kept open. Small answers are cheaper read and written in one
  # piece, large ones by sendfile: it gets a port for each, and at each size the better one counts. Tried and
  # no better: tcp_nopush (two more calls an answer), larger output_buffers, multi_accept off.
  mkdir -p "$work/nginx/cache"
  cat > "$work/nginx/nginx.conf" <<CONFIG
daemon off;
user $(id -un) $(id -gn);
worker_processes 1;
pid $work/nginx/pid;
error_log stderr crit;
events {
  use epoll;
  worker_connections 1024;
  multi_accept on;
  accept_mutex off;
}
http {
  access_log off;
  server_tokens off;
  default_type application/json;
  tcp_nodelay on;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  open_file_cache max=1000 inactive=1h;
  open_file_cache_valid 1h;
  open_file_cache_min_uses 1;
  client_body_temp_path $work/nginx/body;
  fastcgi_temp_path $work/nginx/fastcgi;
  uwsgi_temp_path $work/nginx/uwsgi;
  scgi_temp_path $work/nginx/scgi;
  proxy_temp_path $work/nginx/proxy;
  proxy_cache_path $work/nginx/cache levels=1:2 keys_zone=bench:10m inactive=1h use_temp_path=off;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_buffer_size 4k;
  proxy_cache bench;
  proxy_cache_valid 200 10m;
  proxy_cache_key "\$uri|\$arg_region_id|\$http_x_publishable_api_key|\$http_origin";
  proxy_ignore_headers Vary; # It is Origin, which is in the key: saves nginx a second hash.
  server {
    listen 127.0.0.1:$nginx_port backlog=1024;
    sendfile off;
    location /store/ { proxy_pass http://$origin; }
  }
  server {
    listen 127.0.0.1:$sendfile_port backlog=1024;
    sendfile on;
    location /store/ { proxy_pass http://$origin; }
  }
}
CONFIG
  serve nginx "$nginx" -e stderr -p "$work/nginx" -c "$work/nginx/nginx.conf"
  running="$running nginx=$server=127.0.0.1:$nginx_port nginx-sendfile=$server=127.0.0.1:$sendfile_port"
fi

if wants varnish; then
  cat > "$work/bench.vcl" <<CONFIG
vcl 4.1;
backend default { .host = "${origin%:*}"; .port = "${origin#*:}"; }
sub vcl_hash { hash_data(req.url); hash_data(req.http.x-publishable-api-key); return (lookup); }
sub vcl_backend_response { set beresp.ttl = 1h; }
CONFIG
  LD_LIBRARY_PATH=$libraries serve varnish "$varnishd" -F -n "$work/varnish" -f "$work/bench.vcl" \
    -a "127.0.0.1:$varnish_port" -s malloc,64m -T none -j none \
    -p thread_pools=1 -p timeout_idle=3600 -p vcc_allow_inline_c=off
  running="$running varnish=$server=127.0.0.1:$varnish_port"
fi

# --- Measure, a size at a time.
load_before=$(cut -d' ' -f1-3 /proc/loadavg)
"$bench" heads | tee "$work/table" >&2
for size in $sizes; do
  field=()
  own=()
  for name in $contenders; do
    case $name in
      limit*) serve "$name-$size" "$bench" limit --size "$size" ;;
      hyper) serve "$name-$size" "$bench" hyper --size "$size" ;;
      # endcap+br is the same process, asked for br.
      *) for one in $running; do [ "${one%%=*}" = "${name%%+*}" ] && field+=("$name=${one#*=}"); done; continue ;;
    esac
    own+=("$server")
    announced "$name-$size"
    field+=("$name=$server=$address")
  done
  limit=$(awk "BEGIN { print int($rounds * ($seconds * 1.3 + 0.5) * ${#field[@]} + 60) }")
  timeout --foreground "$limit" taskset -c "$load_core" "$bench" measure --size "$size" --connections "$connections" --rounds "$rounds" \
    --seconds "$seconds" ${event:+--event "$event"} "${field[@]}" | tee -a "$work/table" >&2 ||
    fail "measuring failed; the servers said: $(tail -qn 3 "$work"/*.err)"
  for child in "${own[@]}"; do kill "$child"; done
done
load_after=$(cut -d' ' -f1-3 /proc/loadavg)

# --- Report.
{
  echo "CPU per L1 hit, as a ratio to a bare epoll loop"
  echo
  echo "date        $(date -u +%Y-%m-%d)"
  echo "command     $command"
  echo "machine     $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores$(grep -qw hypervisor /proc/cpuinfo && echo ', virtual'), $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), Linux $(uname -r)"
  echo "versions    endcap $(git rev-parse --short HEAD 2>/dev/null || echo unknown)$(git diff --quiet HEAD -- src Cargo.lock 2>/dev/null || echo '+changes'), $(rustc --version | cut -d' ' -f1-2)"
  wants_nginx && echo "            $("$nginx" -v 2>&1)"
  wants varnish && echo "            $(LD_LIBRARY_PATH=$libraries "$varnishd" -V 2>&1 | head -1)"
  echo "load avg    before $load_before, after $load_after (what others do on the machine is noise in here)"
  echo
  cat "$work/table"
  cat <<NOTES

How: server on core $server_core, load on core $load_core, loopback, $connections kept connections, closed loop, one request out
on each, no pipelining, identity encoding but where a name says otherwise ("endcap+br": made once, sent as it is). $rounds rounds of ${seconds}s a contender, one after the other and round again; a
ratio is between turns of one round. Given: median [min-max] over rounds. CPU is what the scheduler has charged to
the server's process and its children, user and system: most of it is the kernel's TCP, the same for all.
Every answer's status and length are checked, one body in 64 byte by byte, and all 2,000 before the clock runs.
"limit" finds the ends of request heads and writes one prebuilt buffer, nothing else. "limit-again" is the same
program a second time: how far its ratio is from 1.00 is the noise of this run, and no smaller difference
between contenders means anything. "busy" is the part of its core that the server used, "queue" the part of the
time that it was ready to run and others had its core: on a quiet machine next to nothing, else do not trust the
run (Varnish has a thread a connection, and they queue behind one another). Where both leave much, the load was
the bottleneck, and the server paid for being woken more often.
"nginx" reads and writes, "nginx-sendfile" is the same process on another port: the better one counts.
NOTES
} > "$work/report"
mkdir -p "$(dirname "$out")"
mv "$work/report" "$out"
echo "written: $out" >&2
