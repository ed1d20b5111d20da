#!/usr/bin/env bash
# Loads icm and its peers and writes benches/results/wrk.md and wrk.svg (`make wrk`).
#
# One process can cost half as much again as the next one of the same executable, so builds are compared over several
# process starts: each time all proxies are started, loaded in turn in every case, and stopped. Every process is killed by
# its pid, and every step has a time limit.
set -euo pipefail
cd "$(dirname "$0")/../.."

# What is measured. A case is [tls-]BODY-CONNECTIONS for keep-alive; close-, full-, fullrsa-, resumed-CONNECTIONS for one
# request a connection: plain, with a full TLS handshake (P-256 or RSA certificate), with a resumed one; or
# idle-CONNECTIONS for the memory of a process with so many idle connections. page-CONNECTIONS, alone, is another load:
# pages of XPages, with and without cache and compression (page.sh).
CASES=${CASES:-}
CONNECTIONS=${CONNECTIONS:-}            # instead of CASES: keep-alive, one case for each number of connections ...
BODY=${BODY:-}                          # ... with responses of this many bytes (16k means 16384); 1k if not set
STARTS=${STARTS:-7}                     # process starts of each proxy
SECONDS_EACH=${SECONDS_EACH:-2}         # of load for each case, proxy and start; one more warms up a new process
TARGET=${TARGET:-/sales/leads.nsf/fast?OpenPage}    # of all requests
PROXY_CPU=${PROXY_CPU:-0}               # only for the proxy
LOAD_CPU=${LOAD_CPU:-1}                 # for the load and the origin
ONLY=${ONLY:-direct minimal icm dist nginx haproxy}     # also icm-off and dist-off: the same with `fast_path: off`
FAST_PATH=${FAST_PATH:-on}              # on or off: `proxy.fast_path` of icm and dist
ICM=${ICM:-}                            # executable; if not set, a release build of this tree
ICM_DIST=${ICM_DIST:-}                  # executable of dist, such as that of `make dist`; if not set, dist is left out
BUILDS=${BUILDS:-}                      # more executables of icm to compare: NAME=PATH ..., six rows of icm in all
MINIMAL=${MINIMAL:-}                    # executable; if not set, a release build
HANDSHAKES=${HANDSHAKES:-}              # executable; if not set, a release build
IDLE=${IDLE:-}                          # executable; if not set, a release build
OUT=${OUT:-benches/results/wrk.md}      # the chart has the same name with .svg
CARGO=${CARGO:-cargo}

if [ -z "$CASES" ]; then
    if [ -n "$CONNECTIONS$BODY" ]; then
        for c in ${CONNECTIONS:-64 256}; do CASES+="${BODY:-1k}-$c "; done
    else
        CASES="1k-64 1k-256 tls-1k-64 16k-64 256k-64 close-64 full-32 fullrsa-32 resumed-32 idle-10000"
    fi
fi

here=benches/wrk
if [[ $CASES =~ ^page-([0-9]+)$ ]]; then
    CONNECTIONS=${BASH_REMATCH[1]} exec $here/page.sh
fi
work=$(mktemp -d)
declare -A pid=()
stop() { # stop NAMES...: all of them at once
    local name
    for name; do kill -INT "${pid[$name]}" 2>/dev/null || true; done
    for name; do
        for _ in $(seq 60); do kill -0 "${pid[$name]}" 2>/dev/null || break; sleep 0.05; done
        kill -KILL "${pid[$name]}" 2>/dev/null || true
        wait "${pid[$name]}" 2>/dev/null || true
        unset "pid[$name]"
    done
}
finish() {
    trap '' INT TERM
    stop "${!pid[@]}"
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { echo "wrk: $*" >&2; }
die() { say "$*"; exit 1; }
wanted() { [[ " $ONLY " == *" $1 "* ]]; }
have() { command -v "$1" >/dev/null; }
failed=0 notes=()
note() { # note TEXT: also in the report, once
    local known
    say "$1"
    for known in "${notes[@]}"; do [ "$known" != "$1" ] || return 0; done
    notes+=("$1")
}

have wrk || die "wrk is not installed (Debian: apt-get install wrk)"
have taskset || die "taskset is not installed (Debian: apt-get install util-linux)"
taskset -c "$PROXY_CPU" true 2>/dev/null && taskset -c "$LOAD_CPU" true 2>/dev/null ||
    die "processors $PROXY_CPU and $LOAD_CPU are needed, one for the proxy, one for the load; set PROXY_CPU and LOAD_CPU"
[[ $STARTS =~ ^[1-9][0-9]*$ && $SECONDS_EACH =~ ^[1-9][0-9]*$ ]] || die "STARTS and SECONDS_EACH are whole numbers"
[[ $FAST_PATH == on || $FAST_PATH == off ]] || die "FAST_PATH is on or off"
# Idle connections need open files.
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)" 2>/dev/null || true

# --- the cases --------------------------------------------------------------------------------

case_of() { # case_of NAME: sets kind, protocol (plain, p256, rsa), body, connections
    kind=keep protocol=plain body=1k
    connections=${1##*-}
    case $1 in
        close-*) kind=close ;;
        idle-*) kind=idle ;;
        full-*) kind=full protocol=p256 ;;
        fullrsa-*) kind=full protocol=rsa ;;
        resumed-*) kind=resumed protocol=p256 ;;
        tls-*-*) protocol=p256 body=${1#tls-} body=${body%-*} ;;
        *-*) body=${1%-*} ;;
        *) die "$1 is not a case; see the head of $here/run.sh" ;;
    esac
    [[ $connections =~ ^[1-9][0-9]*$ && $body =~ ^[1-9][0-9]*[kM]?$ ]] || die "$1 is not a case; see the head of $here/run.sh"
    bytes=$(numfmt --from=iec "${body^^}")
}
secure=0 handshakes=0 bodies=() loads=() idles=()
for name in $CASES; do
    case_of "$name"
    if [[ $kind == idle && $(ulimit -n) != unlimited && $((connections + 1000)) -gt $(ulimit -n) ]]; then
        note "case $name is left out: it needs $((connections + 1000)) open files, and the system allows $(ulimit -n)"
        continue
    fi
    if [ "$protocol" != plain ] && ! have openssl; then
        note "openssl is not installed, the cases with TLS are left out"
        continue
    fi
    if [ "$kind" = idle ]; then idles+=("$name"); else loads+=("$name"); fi
    [ "$protocol" = plain ] || secure=1
    [[ $kind != full && $kind != resumed ]] || handshakes=1
    [[ " ${bodies[*]} " == *" $bytes "* ]] || bodies+=("$bytes")
done
built() { # built NAME ARGUMENTS...: the executable of one target, from a release build
    # Building a bench also builds the binaries of the package, so filter by name.
    local path
    path=$("$CARGO" build --release --message-format=json-render-diagnostics "${@:2}" |
        sed -n "/\"name\":\"$1\"/s/.*\"executable\":\"\([^\"]*\)\".*/\1/p" | tail -n 1)
    [ -n "$path" ] && echo "$path"
}
if wanted minimal && [ -z "$MINIMAL" ]; then
    say "building minimal_pingora"
    MINIMAL=$(built minimal_pingora --bench minimal_pingora) || die "minimal_pingora cannot be built"
fi
if { wanted icm || wanted icm-off; } && [ -z "$ICM" ]; then
    say "building icm"
    ICM=$(built icm --bin icm) || die "icm cannot be built"
fi
if [ "$handshakes" = 1 ] && [ -z "$HANDSHAKES" ]; then
    HANDSHAKES=$(built handshakes --bench handshakes) || die "handshakes cannot be built"
fi
if [ "${#idles[@]}" -gt 0 ] && [ -z "$IDLE" ]; then
    IDLE=$(built idle --bench idle) || die "idle cannot be built"
fi

# shellcheck source=benches/wrk/proxies.sh
. $here/proxies.sh

# --- measuring --------------------------------------------------------------------------------

ticks() { # ticks NAME: user and system time of the process, in clock ticks
    sed 's/.*) //' "/proc/${pid[$1]}/stat" | awk '{ print $12, $13 }'
}
hertz=$(getconf CLK_TCK)
# Resets the peak of the resident size.
reset_peak() { { echo 5 >"/proc/${pid[$1]}/clear_refs"; } 2>/dev/null || true; }
peak() { awk '/^VmHWM/ { printf "%.0f", $2 / 1024 }' "/proc/${pid[$1]}/status"; }

cookie() { # cookie NAME: the affinity cookie of this icm for the target
    local line
    { exec 3<>"/dev/tcp/127.0.0.1/$((18090 + ${place[$1]}))"; } 2>/dev/null || return 0
    printf 'GET %s HTTP/1.1\r\nHost: www.acme.example\r\nConnection: close\r\n\r\n' "$TARGET" >&3
    while read -r -t 2 line <&3 && [ "$line" != $'\r' ]; do
        [[ ${line,,} == "set-cookie: icm="* ]] && { line=${line#*: }; echo "${line%%;*}"; break; }
    done
    exec 3<&- 3>&-
}

# The headers of a browser, the same for all proxies. Only icm uses the cookie, and each icm has its own.
agent='Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0'
sent() { # sent NAME: sets fields
    fields=('Host: www.acme.example' "User-Agent: $agent"
        'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8' 'Accept-Language: de,en;q=0.7')
    local of=$1 given='' name
    is_icm "$of" || for name in "${running[@]}"; do ! is_icm "$name" || { of=$name; break; }; done
    ! is_icm "$of" || given=$(cookie "$of")
    fields+=("Cookie: SessionID=A1B2C3D4E5F6${given:+; $given}")
}

load() { # load NAME SECONDS: one line of requests, microseconds, p50, p99, refused, broken, wrong handshakes
    local at=127.0.0.1:$((18090 + ${place[$1]} + ${offset[$protocol]})) path=$TARGET
    [ "$bytes" = "${bodies[0]}" ] || path+="$([[ $TARGET == *\?* ]] && echo '&' || echo '?')body=$bytes"
    local limit=(timeout -k 5 $(($2 + 20)) taskset -c "$LOAD_CPU")
    if [[ $kind == full || $kind == resumed ]]; then
        "${limit[@]}" "$HANDSHAKES" "$at" "$kind" "$connections" "$2" "$path" "${fields[@]}" 2>&1 | sed -n 's/^RESULT //p'
        return
    fi
    local headers=() field scheme=http
    [ "$kind" = keep ] || headers+=(-H 'Connection: close')
    [ "$protocol" = plain ] || scheme=https
    for field in "${fields[@]}"; do headers+=(-H "$field"); done
    "${limit[@]}" wrk -t 1 -c "$connections" -d "$2s" --timeout 5s "${headers[@]}" \
        -s $here/report.lua "$scheme://$at$path" 2>&1 | sed -n 's/^RESULT //p'
}

gone() { die "$1 has ended: $(tail -n 3 "$work/$1.log")"; }

measure() { # measure CASE START NAME: adds a line to the samples
    local before after report requests micros p50 p99 refused broken wrong
    before=$(ticks "$3") || gone "$3"
    report=$(load "$3" "$SECONDS_EACH") || die "the load failed on $3"
    after=$(ticks "$3") || gone "$3"
    read -r requests micros p50 p99 refused broken wrong <<<"$report" || die "the load printed no result for $3"
    [ "${requests:-0}" -gt 0 ] || die "$3 answered nothing in case $1"
    if [ $((refused + broken)) -gt 0 ]; then
        failed=1
        note "$3, case $1: $refused answers without 2xx or 3xx, $broken broken connections"
    fi
    if [ "${wrong:-0}" -gt 0 ]; then
        failed=1
        note "$3, case $1: $wrong of $requests handshakes were of the wrong kind"
    fi
    awk -v case="$1" -v i="$2" -v n="$3" -v r="$requests" -v us="$micros" -v a="$p50" -v b="$p99" \
        -v before="$before" -v after="$after" -v hz="$hertz" -v mem="$(peak "$3")" 'BEGIN {
            split(before, x, " "); split(after, y, " ")
            user = (y[1] - x[1]) * 1e6 / hz / r; kernel = (y[2] - x[2]) * 1e6 / hz / r
            printf "%s %d %s %.0f %d %d %.2f %.2f %.2f %d\n", case, i, n, r * 1e6 / us, a, b, user + kernel, user, kernel, mem }' |
        tee -a "$work/samples" | awk -v of="$STARTS" \
        '{ printf "wrk: %-10s start %d of %d: %-8s %7d requests/s, %6.1f us CPU\n", $1, $2, of, $3, $4, $7 }' >&2
}

measure_idle() { # measure_idle CASE START NAME: adds a line to the samples
    local report opened refused closed before after
    report=$(timeout -k 5 120 taskset -c "$LOAD_CPU" "$IDLE" "127.0.0.1:$((18090 + ${place[$3]}))" "$connections" "${pid[$3]}" \
        "$TARGET" "${fields[@]}" 2>&1) || { failed=1; note "$3, case $1: ${report##*$'\n'}"; return 0; }
    read -r opened refused closed before after <<<"${report#*RESULT }"
    if [ $((refused + closed)) -gt 0 ]; then
        failed=1
        note "$3, case $1: $refused answers without 200, and $closed of $opened connections were closed"
    fi
    awk -v case="$1" -v i="$2" -v n="$3" -v c="$opened" -v b="$before" -v a="$after" \
        'BEGIN { printf "%s %d %s %d 0 0 %.1f %.1f %.2f 0\n", case, i, n, c, a / 1024, b / 1024, (a - b) / c }' |
        tee -a "$work/samples" | awk -v of="$STARTS" \
        '{ printf "wrk: %-10s start %d of %d: %-8s %7.1f MiB\n", $1, $2, of, $3, $7 }' >&2
}

in_turn() { # in_turn START: sets order to those that run, another one first in each start
    local n=${#running[@]} i
    order=()
    for ((i = 0; i < n; i++)); do order+=("${running[(i + $1 - 1) % n]}"); done
}

: >"$work/samples"
seen=()
for start in $(seq "$STARTS"); do
    # Fresh processes for the idle connections, because a load leaves memory behind.
    for phase in loads idles; do
        declare -n cases=$phase
        [ "${#cases[@]}" -gt 0 ] || continue
        start_proxies
        [ "${#running[@]}" -gt 0 ] || die "nothing to measure"
        for proxy in "${running[@]}"; do [[ " ${seen[*]} " == *" $proxy "* ]] || seen+=("$proxy"); done
        in_turn "$start"
        warm=()
        for name in "${cases[@]}"; do
            case_of "$name"
            for proxy in "${order[@]}"; do
                [[ $protocol == plain || " ${with_tls[*]} " == *" $proxy "* ]] || continue
                # The maximum of load and origin, which needs no comparison.
                [ "$proxy" != direct ] || [[ $start == 1 && $phase == loads ]] || continue
                sent "$proxy"           # a new cookie, because it expires
                if [ "$phase" = idles ]; then
                    measure_idle "$name" "$start" "$proxy"
                    continue
                fi
                [[ " ${warm[*]} " == *" $proxy "* ]] || load "$proxy" 1 >/dev/null || true
                warm+=("$proxy")
                reset_peak "$proxy"
                measure "$name" "$start" "$proxy"
                shorten_logs
            done
        done
        stop_proxies
    done
done

# --- the report -------------------------------------------------------------------------------

# Removes temporary and absolute paths from the report.
shown() { local text=${1//$work/TMP}; echo "${text//$PWD\//}"; }
titles=''
for proxy in "${seen[@]}"; do titles+="$proxy=${title[$proxy]};"; done

machine() {
    local cache
    cache=$(getconf LEVEL2_CACHE_SIZE 2>/dev/null || true)
    sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1 | tr -d '\n'
    [ "${cache:-0}" -le 0 ] || printf ' (L2 of %d KiB)' $((cache / 1024))
    awk -v n="$(nproc)" '/^MemTotal/ { printf ", %d processors, %.0f GiB", n, $2 / 1048576 }' /proc/meminfo
    printf ', Linux %s' "$(uname -r | cut -d- -f1)"
}

mkdir -p "$(dirname "$OUT")"
{
    echo "# Load test"
    echo
    echo "$(date -u +%Y-%m-%d), commit $(git describe --always --dirty 2>/dev/null || echo unknown)," \
        "$(machine)."
    echo "Origin: $origin. Proxies: one worker on processor $PROXY_CPU; load (wrk with one thread, or benches/handshakes.rs) and origin on processor $LOAD_CPU."
    echo "$STARTS process starts of each proxy, each with $SECONDS_EACH s of every case, interleaved; target \`$TARGET\`. What the columns mean: [benches/README.md](../README.md)."
    [ "$secure" = 0 ] || echo "TLS: $certificates."
    for line in "${notes[@]}"; do echo; echo "**$line.**"; done
    awk -v titles="$titles" -f $here/samples.awk -f $here/report.awk "$work/samples"
    echo
    echo '```'
    for proxy in "${seen[@]}"; do
        shown "${title[$proxy]}${version[$proxy]:+, ${version[$proxy]}}: ${command[$proxy]}"
        [ -z "${tls_parameters[$proxy]:-}" ] || echo "    ${tls_parameters[$proxy]}"
    done
    echo '```'
} >"$work/report"
awk -v titles="$titles" -f $here/samples.awk -f $here/chart.awk "$work/samples" >"$work/chart"
mv "$work/report" "$OUT"
mv "$work/chart" "${OUT%.md}.svg"
cat "$OUT"
exit "$failed"
