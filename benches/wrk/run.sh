#!/usr/bin/env bash
# Loads icm and its peers, case by case and interleaved, and writes benches/results/wrk.md and wrk.svg (`make wrk`).
#
# The report has tables of medians with their spread, and a chart. Every process is killed by its pid, and every step has a
# time limit.
set -euo pipefail
cd "$(dirname "$0")/../.."

# What is measured. A case is [tls-]BODY-CONNECTIONS for keep-alive, or close-, full-, fullrsa-, resumed-CONNECTIONS for one
# request a connection: plain, with a full TLS handshake (P-256 or RSA certificate), with a resumed one.
CASES=${CASES:-}
CONNECTIONS=${CONNECTIONS:-}            # instead of CASES: keep-alive, one case for each number of connections ...
BODY=${BODY:-}                          # ... with responses of this many bytes (16k means 16384); 1k if not set
SECONDS_EACH=${SECONDS_EACH:-3}         # measured; one second of warm-up precedes the first round
ROUNDS=${ROUNDS:-3}                     # number of samples for the medians
TARGET=${TARGET:-/sales/leads.nsf/fast?OpenPage}    # of all requests
PROXY_CPU=${PROXY_CPU:-0}               # only for the proxy
LOAD_CPU=${LOAD_CPU:-1}                 # for the load and the origin
ONLY=${ONLY:-direct minimal icm dist nginx haproxy}
ICM=${ICM:-}                            # executable; if not set, a release build of this tree
ICM_DIST=${ICM_DIST:-}                  # a second icm, such as that of `make dist`, in a separate row
MINIMAL=${MINIMAL:-}                    # executable; if not set, a release build
HANDSHAKES=${HANDSHAKES:-}              # executable; if not set, a release build
OUT=${OUT:-benches/results/wrk.md}      # the chart has the same name with .svg
CARGO=${CARGO:-cargo}

if [ -z "$CASES" ]; then
    if [ -n "$CONNECTIONS$BODY" ]; then
        for c in ${CONNECTIONS:-64 256}; do CASES+="${BODY:-1k}-$c "; done
    else
        CASES="1k-64 1k-256 16k-64 256k-64 close-64 tls-1k-64 full-32 fullrsa-32 resumed-32"
    fi
fi

here=benches/wrk
work=$(mktemp -d)
pids=()
finish() {
    trap '' INT TERM
    for pid in "${pids[@]}"; do kill -INT "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do
        for _ in $(seq 30); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { echo "wrk: $*" >&2; }
die() { say "$*"; exit 1; }
wanted() { [[ " $ONLY " == *" $1 "* ]]; }
have() { command -v "$1" >/dev/null; }
failed=0 notes=()
note() { say "$1"; notes+=("$1"); }

have wrk || die "wrk is not installed (Debian: apt-get install wrk)"
have taskset || die "taskset is not installed (Debian: apt-get install util-linux)"
taskset -c "$PROXY_CPU" true 2>/dev/null && taskset -c "$LOAD_CPU" true 2>/dev/null ||
    die "processors $PROXY_CPU and $LOAD_CPU are needed, one for the proxy, one for the load; set PROXY_CPU and LOAD_CPU"

# --- the cases --------------------------------------------------------------------------------

case_of() { # case_of NAME: sets kind, protocol (plain, p256, rsa), body, connections
    kind=keep protocol=plain body=1k
    connections=${1##*-}
    case $1 in
        close-*) kind=close ;;
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
secure=0 handshakes=0 bodies=()
for name in $CASES; do
    case_of "$name"
    [ "$protocol" = plain ] || secure=1
    [[ $kind != full && $kind != resumed ]] || handshakes=1
    [[ " ${bodies[*]} " == *" $bytes "* ]] || bodies+=("$bytes")
done
if [ "$secure" = 1 ] && ! have openssl; then
    note "openssl is not installed, the cases with TLS are left out"
    CASES=$(tr ' ' '\n' <<<"$CASES" | grep -vE '^(tls|full|fullrsa|resumed)-' | tr '\n' ' ')
    secure=0 handshakes=0
fi

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
if wanted icm && [ -z "$ICM" ]; then
    say "building icm"
    ICM=$(built icm --bin icm) || die "icm cannot be built"
fi
if [ "$handshakes" = 1 ] && [ -z "$HANDSHAKES" ]; then
    HANDSHAKES=$(built handshakes --bench handshakes) || die "handshakes cannot be built"
fi

# shellcheck source=benches/wrk/proxies.sh
. $here/proxies.sh
[ "${#running[@]}" -gt 0 ] || die "nothing to measure"

# --- measuring --------------------------------------------------------------------------------

ticks() { # ticks NAME: user and system time of the process, in clock ticks
    sed 's/.*) //' "/proc/${pid[$1]}/stat" | awk '{ print $12 + $13 }'
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
    local of=$1 given=''
    [[ $of == icm || $of == dist || " ${running[*]} " != *" icm "* ]] || of=icm
    [[ $of != icm && $of != dist ]] || given=$(cookie "$of")
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

measure() { # measure CASE ROUND NAME: adds a line to the samples
    local before after report requests micros p50 p99 refused broken wrong
    before=$(ticks "$3") || die "$3 has ended: $(tail -n 3 "$work/$3.log")"
    report=$(load "$3" "$SECONDS_EACH") || die "the load failed on $3"
    after=$(ticks "$3") || die "$3 has ended: $(tail -n 3 "$work/$3.log")"
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
        -v t=$((after - before)) -v hz="$hertz" -v mem="$(peak "$3")" \
        'BEGIN { printf "%s %d %s %.0f %d %d %.2f %d\n", case, i, n, r * 1e6 / us, a, b, t * 1e6 / hz / r, mem }' |
        tee -a "$work/samples" | awk -v of="$ROUNDS" \
        '{ printf "wrk: %-10s round %d of %d: %-8s %7d requests/s, %6.1f us CPU\n", $1, $2, of, $3, $4, $7 }' >&2
}

: >"$work/samples"
for name in $CASES; do
    case_of "$name"
    for proxy in "${running[@]}"; do reset_peak "$proxy"; done
    for round in $(seq "$ROUNDS"); do
        for proxy in "${running[@]}"; do
            [[ $protocol == plain || " ${with_tls[*]} " == *" $proxy "* ]] || continue
            sent "$proxy"               # a new cookie, because it expires
            [ "$round" -gt 1 ] || load "$proxy" 1 >/dev/null || true
            measure "$name" "$round" "$proxy"
        done
    done
done

# --- the report -------------------------------------------------------------------------------

# Removes temporary and absolute paths from the report.
shown() { local text=${1//$work/TMP}; echo "${text//$PWD\//}"; }
titles=''
for proxy in "${running[@]}"; do titles+="$proxy=${title[$proxy]};"; done

mkdir -p "$(dirname "$OUT")"
{
    echo "# Load test"
    echo
    echo "$(date -u +%Y-%m-%d), commit $(git describe --always --dirty 2>/dev/null || echo unknown)," \
        "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) processors, Linux $(uname -r | cut -d- -f1)."
    echo "Origin: $origin. Proxies: one worker on processor $PROXY_CPU; load (wrk with one thread, or benches/handshakes.rs) and origin on processor $LOAD_CPU."
    echo "Medians (lowest to highest) of $ROUNDS interleaved rounds of $SECONDS_EACH s, target \`$TARGET\`. What the columns mean: [benches/README.md](../README.md)."
    [ "$secure" = 0 ] || echo "TLS: $certificates."
    for line in "${notes[@]}"; do echo; echo "**$line.**"; done
    awk -v titles="$titles" -f $here/samples.awk -f $here/report.awk "$work/samples"
    echo
    echo '```'
    for proxy in "${running[@]}"; do
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
