#!/usr/bin/env bash
# What a page of XPages costs with and without cache and compression: one document and twelve resources, of the simulated
# cluster. `CASES=page-CONNECTIONS make wrk` runs it. Every process is killed by its pid, and every step has a time limit.
set -euo pipefail
cd "$(dirname "$0")/../.."

CONNECTIONS=${CONNECTIONS:-32}
STARTS=${STARTS:-3}                     # process starts of each variant
SECONDS_EACH=${SECONDS_EACH:-2}         # of load for each variant and start
VARIANTS=${VARIANTS:-plain compression cache both}
CODING=${CODING:-gzip, deflate, br, zstd}           # Accept-Encoding of the browser
PROXY_CPU=${PROXY_CPU:-0}
LOAD_CPU=${LOAD_CPU:-1}                 # for the load and the origin
ICM=${ICM:-}                            # executable; if not set, a release build of this tree
ACME=${ACME:-}                          # the simulated cluster; the same
CARGO=${CARGO:-cargo}

here=benches/wrk
work=$(mktemp -d)
icm='' acme=''
stop() { # stop PID
    [ -n "$1" ] || return 0
    kill -INT "$1" 2>/dev/null || true
    for _ in $(seq 60); do kill -0 "$1" 2>/dev/null || break; sleep 0.05; done
    kill -KILL "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}
trap 'stop "$icm"; stop "$acme"; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
die() { echo "page: $*" >&2; exit 1; }
command -v wrk >/dev/null || die "wrk is not installed (Debian: apt-get install wrk)"
[[ $CONNECTIONS =~ ^[1-9][0-9]*$ && $STARTS =~ ^[1-9][0-9]*$ && $SECONDS_EACH =~ ^[1-9][0-9]*$ ]] ||
    die "CONNECTIONS, STARTS and SECONDS_EACH are whole numbers"

built() { # built NAME ARGUMENTS...: the executable of one target, from a release build
    "$CARGO" build --release --message-format=json-render-diagnostics "${@:2}" |
        sed -n "/\"name\":\"$1\"/s/.*\"executable\":\"\([^\"]*\)\".*/\1/p" | tail -n 1
}
[ -n "$ICM" ] || ICM=$(built icm --bin icm)
[ -n "$ACME" ] || ACME=$(built acme --features acme --bin acme)
[ -x "$ICM" ] && [ -x "$ACME" ] || die "icm or acme cannot be built"

# A document of 40 KiB and, as Dojo and the themes come, twelve resources of 2 to 60 KiB.
{
    echo '/sales/leads.nsf/home.html?OpenPage&text=40000'
    for size in 2000 2500 3000 4000 6000 8000 12000 16000 24000 32000 48000 60000; do
        echo "/xsp/.ibmxspres/dojoroot/$size.js?text=$size&type=application/javascript&max-age=864000"
    done
} >"$work/targets"

config() { # config VARIANT
    sed -e 's/^access_log: .*/access_log: { path: icm-access.log, format: combined }/' $here/site.yaml
    case $1 in compression | both) echo '    compression: on' ;; esac
    case $1 in cache | both) echo 'cache: { size: 64MiB }' ;; esac
}

ticks() { sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'; }
hertz=$(getconf CLK_TCK)

answers() { # answers URL
    for _ in $(seq 100); do
        { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null && { exec 3<&- 3>&-; return 0; }
        sleep 0.1
    done
    return 1
}

taskset -c "$LOAD_CPU" "$ACME" --scenario $here/acme.yaml --quiet >"$work/acme.log" 2>&1 &
acme=$!
answers 18090 || die "acme does not start: $(tail -n 3 "$work/acme.log")"

load() { # load SECONDS
    PAGE_TARGETS=$work/targets timeout -k 5 $(($1 + 20)) taskset -c "$LOAD_CPU" wrk -t 1 -c "$CONNECTIONS" -d "${1}s" \
        --timeout 5s -H 'Host: www.acme.example' -H "Accept-Encoding: $CODING" \
        -s $here/page.lua http://127.0.0.1:18094/ 2>&1 | sed -n 's/^RESULT //p'
}

: >"$work/samples"
for start in $(seq "$STARTS"); do
    for variant in $VARIANTS; do
        mkdir -p "$work/$variant/state"
        config "$variant" >"$work/$variant/icm.yaml"
        "$ICM" check -c "$work/$variant/icm.yaml" >"$work/check" 2>&1 || die "$variant: $(cat "$work/check")"
        (cd "$work/$variant" && exec taskset -c "$PROXY_CPU" "$ICM" run -c icm.yaml >icm.log 2>&1) &
        icm=$!
        answers 18094 || die "icm does not start: $(tail -n 3 "$work/$variant/icm.log")"
        load 1 >/dev/null || true
        before=$(ticks "$icm") origin=$(ticks "$acme")
        read -r pages micros bytes refused broken <<<"$(load "$SECONDS_EACH")" || die "the load failed on $variant"
        [ $((refused + broken)) = 0 ] || die "$variant: $refused answers without 2xx or 3xx, $broken broken connections"
        awk -v v="$variant" -v s="$start" -v p="$pages" -v us="$micros" -v b="$bytes" -v hz="$hertz" \
            -v icm=$(($(ticks "$icm") - before)) -v acme=$(($(ticks "$acme") - origin)) \
            'BEGIN { printf "%s %d %.1f %.1f %.1f %.1f\n", v, s, p * 1e6 / us, icm * 1e6 / hz / p, acme * 1e6 / hz / p, b / p / 1024 }' |
            tee -a "$work/samples" >&2
        stop "$icm"
        icm=''
        : >"$work/$variant/icm-access.log"
    done
done

echo "| variant | pages/s | icm, us CPU a page | servers, us CPU a page | KiB sent a page |"
echo "|---|--:|--:|--:|--:|"
for variant in $VARIANTS; do
    awk -v v="$variant" '$1 == v { n++; for (i = 3; i <= 6; i++) sum[i] += $i }
        END { printf "| %s | %.0f | %.0f | %.0f | %.1f |\n", v, sum[3] / n, sum[4] / n, sum[5] / n, sum[6] / n }' "$work/samples"
done
