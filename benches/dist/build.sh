#!/usr/bin/env bash
# Builds icm for distribution (`make dist`) as target/dist/icm: an instrumented build records a profile under load, a second
# build is optimised for it, and BOLT arranges the code of that one by the jumps that it makes under the same load.
#
# Needs wrk, curl, and llvm-profdata and llvm-bolt of the compiler's LLVM; without BOLT the last step is left out. Every
# process is killed by its pid; the load stays on the loopback.
set -euo pipefail
cd "$(dirname "$0")/../.."

CARGO=${CARGO:-cargo}
TRAIN_SECONDS=${TRAIN_SECONDS:-3}       # of each kind of load; a few seconds are enough
here=benches/dist
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
host=$(rustc -vV | sed -n 's/^host: //p')
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
work=$(mktemp -d)
pids=()

say() { echo "dist: $*" >&2; }
die() { say "$*"; exit 1; }
stop() { # stop PID: leaves it time to write its profile
    kill -TERM "$1" 2>/dev/null || true
    for _ in $(seq 100); do kill -0 "$1" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}
finish() {
    trap '' INT TERM
    for pid in "${pids[@]}"; do stop "$pid"; done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

tool() { # tool NAME: the path of a tool of the compiler's LLVM version
    local sysroot tool
    sysroot=$(rustc --print sysroot)
    for tool in "$sysroot/lib/rustlib/$host/bin/$1" "$1-$llvm" "$1"; do
        if command -v "$tool" >/dev/null && [[ $("$tool" --version 2>/dev/null) == *"version $llvm."* ]]; then
            echo "$tool"
            return
        fi
    done
    return 1
}
profdata=$(tool llvm-profdata) ||
    die "llvm-profdata of LLVM $llvm is missing; as root: apt-get install llvm-$llvm, or: rustup component add llvm-tools"

# GNU strip damages the output of BOLT.
bolt=$(tool llvm-bolt) && merge=$(tool merge-fdata) && strip=$(tool llvm-strip) || {
    bolt=''
    say "llvm-bolt-$llvm is missing, so the last step is left out; as root: apt-get install bolt-$llvm llvm-$llvm"
}

# With `--target` the flags do not apply to build scripts and macros. BOLT needs symbols. Both builds need the same profile
# settings, because these are part of every function's name, and the recorded profile refers to functions by name.
build() { # build FLAGS DIRECTORY
    CARGO_PROFILE_RELEASE_STRIP=none RUSTFLAGS="${RUSTFLAGS:-} $1" "$CARGO" build --release --target "$host" --target-dir "$2" --bin icm
}

say "building the instrumented icm"
counts=$target/dist-counting/counts     # always the same path, because cargo rebuilds when flags change
rm -rf "$counts"
build "-Cprofile-generate=$counts" "$target/dist-counting"
"$CARGO" build --no-default-features --features acme --bin acme
acme=$target/debug/acme

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
start() { # start PORT COMMAND...
    local port=$1
    shift
    answers "$port" && die "port $port is taken"
    "$@" </dev/null >>"$work/log" 2>&1 &
    pids+=("$!")
    for _ in $(seq 150); do
        answers "$port" && return 0
        kill -0 "$!" 2>/dev/null || break
        sleep 0.1
    done
    die "$1 did not start: $(tail -n 5 "$work/log")"
}
mkdir "$work/tls"
start 18099 "$acme" --quiet --scenario "$here/acme.yaml" --tls-dir "$work/tls"
[ -e "$work/tls/web1.pem" ] || die "the cluster wrote no certificate"

agent='Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0'
host_name=web1.acme.example
cookie() { # the affinity cookie of a user who opens a database
    curl -s -D - -o /dev/null -H "Host: $host_name" "http://127.0.0.1:18080$1" | tr -d '\r' |
        sed -n 's/^[Ss]et-[Cc]ookie: \([^;]*\).*/\1/p' | paste -sd ';' | sed 's/;/; /g'
}
load() { # load CONNECTIONS URL OPTIONS...
    local connections=$1 url=$2
    shift 2
    timeout -k 5 $((TRAIN_SECONDS + 30)) wrk -t 1 -c "$connections" -d "${TRAIN_SECONDS}s" --timeout 10s \
        -H "Host: $host_name" -H "User-Agent: $agent" -H 'Accept-Language: de,en;q=0.7' \
        -H 'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8' "$@" "$url" |
        sed -n 's/^ *\([0-9]* requests in\)/\1/p' >&2
}
# The shapes of requests that the fast path has a way for, and those that are left to Pingora's loop.
train() { # train EXECUTABLE LOG-FORMAT FAST_PATH
    sed "s/format: combined/format: $2/; s/fast_path: on/fast_path: $3/" "$here/icm.yaml" >"$work/icm.yaml"
    mkdir -p "$work/state"
    start 18080 "$1" run -c "$work/icm.yaml"
    local icm=${pids[-1]} plain=http://127.0.0.1:18080 secure=https://127.0.0.1:18443 user
    local page="/sales/orders.nsf/fast?OpenPage" document="/sales/orders.nsf/0/1?OpenDocument"
    user=$(cookie "$page")
    say "training: $2 log, fast path $3"
    load 64 "$plain$page" -H "Cookie: SessionID=A1B2C3D4E5F6; $user"
    load 256 "$plain$page" -H "Cookie: SessionID=A1B2C3D4E5F6; $user"
    load 64 "$secure$page" -H "Cookie: SessionID=A1B2C3D4E5F6; $user"
    load 64 "$plain/sales/leads.nsf?OpenDatabase"
    load 64 "$plain$document&size=16384" -H "Cookie: $user"
    load 16 "$plain$page" -H 'Connection: close'
    load 8 "$secure$page" -H 'Connection: close'
    # Less of what is rarer: large and chunked answers, forms, a server with https.
    local TRAIN_SECONDS=1
    load 16 "$plain$document&size=262144"
    load 16 "$plain$document&chunked=1"
    load 16 "$plain/sales/orders.nsf/Order?CreateDocument" -s "$here/form.lua"
    load 16 "$plain/sales/leads.nsf?OpenDatabase" -H 'Host: secure.acme.example'
    curl -skZ --http2 --parallel-max 16 -o /dev/null -H "Host: $host_name" -H "Cookie: $user" "$secure$page&n=[1-2000]" 2>/dev/null || true
    # Other requests: one HTTP/2 connection each, missing pages, HEAD, a body that is announced first.
    for _ in $(seq 20); do
        curl -sk --http2 -o /dev/null -H "Host: $host_name" "$secure$page" \
            --next -sk --http2 -o /dev/null "$secure/sales/leads.nsf?OpenDatabase"
        curl -s -o /dev/null -H "Host: $host_name" "$plain/missing.nsf"
        curl -s -o /dev/null -I -H "Host: $host_name" "$plain$document"
        curl -s -o /dev/null -H "Host: $host_name" -H 'Expect: 100-continue' -H 'Transfer-Encoding: chunked' \
            -d 'Subject=dist&Body=training' "$plain/sales/orders.nsf/Order?CreateDocument"
    done
    kill -HUP "$icm"
    sleep 1
    stop "$icm"
}
counting=$target/dist-counting/$host/release/icm
train_all() { # train_all EXECUTABLE
    train "$1" combined on
    train "$1" json on
    # So that Pingora's loop is not laid out as code that never runs.
    TRAIN_SECONDS=1 train "$1" combined off
}
train_all "$counting"

# Named by its content, so that cargo notices a new one.
"$profdata" merge -o "$work/icm.profdata" "$counts"
mkdir -p "$target/dist"
profile=$target/dist/$(sha256sum "$work/icm.profdata" | cut -c 1-16).profdata
rm -f "$target"/dist/*.profdata
mv "$work/icm.profdata" "$profile"
say "building icm for the profile"
built=$target/dist-build/$host/release/icm
if [ -z "$bolt" ]; then
    build "-Cprofile-use=$profile -Clink-arg=-s" "$target/dist-build"
else
    build "-Cprofile-use=$profile -Clink-arg=-Wl,--emit-relocs" "$target/dist-build"
    say "optimising the layout"
    "$bolt" "$built" -instrument --instrumentation-file="$work/jumps" --instrumentation-file-append-pid \
        -o "$work/icm" >"$work/log" 2>&1 || die "BOLT failed: $(tail -n 5 "$work/log")"
    train_all "$work/icm"
    "$merge" -o "$work/all" "$work"/jumps.* 2>"$work/log" || die "the load recorded no profile: $(tail -n 5 "$work/log")"
    "$bolt" "$built" -data="$work/all" -reorder-blocks=ext-tsp -reorder-functions=cdsort -split-functions -split-all-cold \
        -split-eh -icf=1 -o "$work/icm" >"$work/log" 2>&1 || die "BOLT failed: $(tail -n 5 "$work/log")"
    "$strip" --strip-all "$work/icm"
    built=$work/icm
fi
"$built" --version >/dev/null || die "the built icm does not start"
cp "$built" "$target/dist/icm"
say "done: $target/dist/icm"
