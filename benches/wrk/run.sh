#!/usr/bin/env bash
# Loads icm and its peers with wrk, interleaved, and writes benches/results/wrk.md (`make wrk`).
#
# In: the variables below. Out: a Markdown table of medians. Everything that is started here is
# ended by its process id, and no step can last longer than its own limit.
set -euo pipefail
cd "$(dirname "$0")/../.."

CONNECTIONS=${CONNECTIONS:-64 256}      # of wrk, one pass for each
SECONDS_EACH=${SECONDS_EACH:-5}         # measured, after one second of warming up
ROUNDS=${ROUNDS:-3}                     # medians are taken over these
BODY=${BODY:-1024}                      # octets of the answer (nginx as the origin; acme's /fast has its own)
TARGET=${TARGET:-/sales/leads.nsf/fast?OpenPage}    # what is asked for
PROXY_CPU=${PROXY_CPU:-0}               # the proxy alone
LOAD_CPU=${LOAD_CPU:-1}                 # wrk and the origin
ONLY=${ONLY:-direct minimal icm nginx haproxy}
ICM=${ICM:-}                            # a built icm; absent: a release build of this tree
MINIMAL=${MINIMAL:-}                    # a built minimal_pingora; absent: likewise
OUT=${OUT:-benches/results/wrk.md}
CARGO=${CARGO:-cargo}

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

have wrk || die "wrk is not installed (Debian: apt-get install wrk)"
have taskset || die "taskset is not installed (Debian: apt-get install util-linux)"
taskset -c "$PROXY_CPU" true 2>/dev/null && taskset -c "$LOAD_CPU" true 2>/dev/null ||
    die "processors $PROXY_CPU and $LOAD_CPU are needed, one for the proxy, one for the load; set PROXY_CPU and LOAD_CPU"

# --- what is measured -------------------------------------------------------------------------

declare -A port=([direct]=18090 [minimal]=18091 [nginx]=18092 [haproxy]=18093 [icm]=18094)
declare -A title=([direct]="no proxy" [minimal]="minimal Pingora" [nginx]=nginx [haproxy]=HAProxy [icm]=icm)
failed=0 broken_requests=0 missing=()
declare -A pid=() command=() version=()

built() { # built NAME ARGUMENTS...: the executable of one target, from a release build
    # A bench brings the binaries of the package with it, so the name decides.
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

answers() { # answers PORT: true when the target is answered with 200
    local line=''
    { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 1
    printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$TARGET" >&3
    read -r -t 2 line <&3 || true
    exec 3<&- 3>&-
    [[ $line == "HTTP/1.1 200"* ]]
}

start() { # start NAME CPU COMMAND...
    local name=$1 cpu=$2
    shift 2
    { exec 3<>"/dev/tcp/127.0.0.1/${port[$name]}"; } 2>/dev/null && die "port ${port[$name]} is taken"
    command[$name]="taskset -c $cpu $*"
    taskset -c "$cpu" "$@" </dev/null >"$work/$name.log" 2>&1 &
    pid[$name]=$!
    pids+=("$!")
    for _ in $(seq 100); do
        answers "${port[$name]}" && return 0
        kill -0 "${pid[$name]}" 2>/dev/null || break
        sleep 0.1
    done
    failed=1 missing+=("${title[$name]}")
    say "$name does not answer, it is left out. It said: $(tail -n 5 "$work/$name.log")"
    return 1
}

nginx_conf() { # nginx_conf FILE SERVER-BLOCK
    # One process: with a single worker the master adds nothing but a process to count.
    cat >"$1" <<CONF
daemon off; master_process off; worker_processes 1; pid $1.pid; error_log $1.log error;
events { worker_connections 4096; }
http {
    access_log off; keepalive_requests 1000000; keepalive_timeout 300s;
    client_body_temp_path $work; proxy_temp_path $work; fastcgi_temp_path $work; uwsgi_temp_path $work; scgi_temp_path $work;
    $2
}
CONF
}

# --- origin and proxies -----------------------------------------------------------------------

if have nginx; then
    body=$(head -c "$BODY" /dev/zero | tr '\0' x)
    if [ "$BODY" -le 3000 ]; then
        serve="location / { default_type text/html; return 200 '$body'; }"
    else
        printf %s "$body" >"$work/body"
        serve="open_file_cache max=10 inactive=60s; location / { default_type text/html; root $work; try_files /body =404; }"
    fi
    nginx_conf "$work/origin.conf" "server { listen 127.0.0.1:18090 reuseport backlog=4096; listen 127.0.0.2:18090 backlog=4096; listen 127.0.0.3:18090 backlog=4096; $serve }"
    start direct "$LOAD_CPU" nginx -c "$work/origin.conf" -e "$work/origin.log" || die "the origin does not start"
    origin="nginx, $BODY octets"
else
    acme=$(built acme --features acme --bin acme) || die "acme cannot be built"
    start direct "$LOAD_CPU" "$acme" --quiet --scenario $here/acme.yaml || die "the origin does not start"
    origin="acme"
fi

running=()
wanted direct && running+=(direct)
if wanted minimal && start minimal "$PROXY_CPU" "$MINIMAL" 127.0.0.1:18091 127.0.0.1:18090; then
    running+=(minimal)
    version[minimal]="Pingora $(sed -n '/^name = "pingora-core"/{n;s/.*"\(.*\)"/\1/p}' Cargo.lock)"
fi
cp $here/icm.yaml "$work/"              # its access log is written beside it
if wanted icm && start icm "$PROXY_CPU" "$ICM" run -c "$work/icm.yaml"; then
    running+=(icm)
    version[icm]=$("$ICM" --version 2>/dev/null | head -n 1 || true)
fi
if wanted nginx && have nginx; then
    nginx_conf "$work/nginx.conf" "upstream origin { server 127.0.0.1:18090; keepalive 512; keepalive_requests 1000000; }
    server { listen 127.0.0.1:18092 reuseport backlog=4096; access_log $work/nginx-access.log combined buffer=64k flush=1s;
        location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ''; } }"
    if start nginx "$PROXY_CPU" nginx -c "$work/nginx.conf" -e "$work/nginx.log"; then
        running+=(nginx)
        version[nginx]=$(nginx -v 2>&1 | sed 's/.*: //')
    fi
fi
if wanted haproxy && have haproxy; then
    cat >"$work/haproxy.cfg" <<CONF
global
    nbthread 1
    maxconn 4000
defaults
    mode http
    timeout connect 5s
    timeout client 300s
    timeout server 60s
    http-reuse always
listen proxy
    bind 127.0.0.1:18093 backlog 4096
    server origin 127.0.0.1:18090
CONF
    if start haproxy "$PROXY_CPU" haproxy -db -f "$work/haproxy.cfg"; then
        running+=(haproxy)
        version[haproxy]=$(haproxy -v | sed -n '1s/HAProxy version \([^ ]*\).*/HAProxy \1/p')
    fi
fi
[ "${#running[@]}" -gt 0 ] || die "nothing to measure"

# --- measuring --------------------------------------------------------------------------------

ticks() { # ticks NAME: user and system time of the process, in clock ticks
    sed 's/.*) //' "/proc/${pid[$1]}/stat" | awk '{ print $12 + $13 }'
}
hertz=$(getconf CLK_TCK)

cookie() { # the affinity cookie that icm gives a user who opens the target
    local line
    { exec 3<>"/dev/tcp/127.0.0.1/${port[icm]}"; } 2>/dev/null || return 0
    printf 'GET %s HTTP/1.1\r\nHost: www.acme.example\r\nConnection: close\r\n\r\n' "$TARGET" >&3
    while read -r -t 2 line <&3 && [ "$line" != $'\r' ]; do
        [[ ${line,,} == "set-cookie: icm="* ]] && { line=${line#*: }; echo "${line%%;*}"; break; }
    done
    exec 3<&- 3>&-
}

# What a browser sends. All proxies get the same; the cookie means something to icm only.
agent='Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0'
sent() {
    headers=(-H 'Host: www.acme.example' -H "User-Agent: $agent"
        -H 'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8' -H 'Accept-Language: de,en;q=0.7')
    local given=''
    [[ " ${running[*]} " == *" icm "* ]] && given=$(cookie)
    headers+=(-H "Cookie: SessionID=A1B2C3D4E5F6${given:+; $given}")
}

load() { # load NAME CONNECTIONS SECONDS: wrk's report line
    timeout -k 5 $(($3 + 20)) taskset -c "$LOAD_CPU" wrk -t 1 -c "$2" -d "$3s" --timeout 5s "${headers[@]}" \
        -s $here/report.lua "http://127.0.0.1:${port[$1]}$TARGET" 2>&1 | sed -n 's/^RESULT //p'
}

: >"$work/samples"
for connections in $CONNECTIONS; do
    for round in $(seq "$ROUNDS"); do
        sent                            # the cookie grows old
        for name in "${running[@]}"; do
            load "$name" "$connections" 1 >/dev/null || true
            before=$(ticks "$name") || die "$name has ended: $(tail -n 3 "$work/$name.log")"
            report=$(load "$name" "$connections" "$SECONDS_EACH") || die "wrk failed on $name"
            after=$(ticks "$name") || die "$name has ended: $(tail -n 3 "$work/$name.log")"
            read -r requests micros p50 p99 refused broken <<<"$report" || die "wrk said nothing about $name"
            [ "${requests:-0}" -gt 0 ] || die "$name answered nothing"
            if [ $((refused + broken)) -gt 0 ]; then
                failed=1 broken_requests=1
                say "$name, $connections connections: $refused answers without 2xx or 3xx, $broken broken connections"
            fi
            awk -v n="$name" -v c="$connections" -v r="$requests" -v us="$micros" -v a="$p50" -v b="$p99" \
                -v t=$((after - before)) -v hz="$hertz" \
                'BEGIN { printf "%s %s %.0f %d %d %.2f\n", n, c, r * 1e6 / us, a, b, t * 1e6 / hz / r }' |
                tee -a "$work/samples" | awk -v i="$round" -v of="$ROUNDS" \
                '{ printf "wrk: %s connections, round %d of %d: %-8s %7d requests/s, %6.1f us CPU\n", $2, i, of, $1, $3, $6 }' >&2
        done
    done
done

# --- the table --------------------------------------------------------------------------------

median() { # median NAME CONNECTIONS COLUMN
    awk -v n="$1" -v c="$2" -v k="$3" '$1 == n && $2 == c { print $k }' "$work/samples" | sort -n |
        awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) printf "%.2f", a / b; else printf "-" }'; }
memory() { awk '/^VmHWM/ { printf "%.0f", $2 / 1024 }' "/proc/${pid[$1]}/status"; }
# Neither temporary nor absolute paths belong in a report.
shown() { local text=${1//$work/TMP}; echo "${text//$PWD\//}"; }

mkdir -p "$(dirname "$OUT")"
{
    echo "# Load test with wrk"
    echo
    echo "$(date -u +%Y-%m-%d), commit $(git describe --always --dirty 2>/dev/null || echo unknown)," \
        "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) processors, Linux $(uname -r | cut -d- -f1)."
    echo "Origin: $origin. Proxies: one worker on processor $PROXY_CPU; wrk (one thread) and origin on processor $LOAD_CPU."
    echo "Medians of $ROUNDS interleaved rounds of $SECONDS_EACH s, target \`$TARGET\`. What the columns mean: [benches/README.md](../README.md)."
    for connections in $CONNECTIONS; do
        echo
        echo "## $connections connections"
        echo
        echo "| proxy | requests/s | ratio | p50 ms | p99 ms | CPU us/request | ratio | memory MiB |"
        echo "|---|--:|--:|--:|--:|--:|--:|--:|"
        base_rate=0 base_cpu=0
        if [[ " ${running[*]} " == *" minimal "* ]]; then
            base_rate=$(median minimal "$connections" 3)
            base_cpu=$(median minimal "$connections" 6)
        fi
        for name in "${running[@]}"; do
            rate=$(median "$name" "$connections" 3)
            cpu=$(median "$name" "$connections" 6)
            shares="$(awk -v v="$cpu" 'BEGIN { printf "%.1f", v }') | $(ratio "$cpu" "$base_cpu") | $(memory "$name")"
            # The origin's own time is nobody's cost here.
            [ "$name" = direct ] && shares="- | - | -"
            echo "| ${title[$name]} | $(printf %.0f "$rate") | $(ratio "$rate" "$base_rate") |" \
                "$(awk -v a="$(median "$name" "$connections" 4)" -v b="$(median "$name" "$connections" 5)" \
                    'BEGIN { printf "%.2f | %.2f", a / 1000, b / 1000 }') | $shares |"
        done
    done
    echo
    echo "Ratios are against the minimal Pingora proxy. Memory is the highest resident size over the whole run."
    [ "$broken_requests" = 0 ] || echo "**Some requests failed; see the output of the run.**"
    [ "${#missing[@]}" = 0 ] || echo "**Did not start, left out: ${missing[*]}.**"
    echo
    echo '```'
    echo "wrk -t 1 -c CONNECTIONS -d ${SECONDS_EACH}s --timeout 5s -s $here/report.lua http://127.0.0.1:PORT$TARGET"
    for name in "${running[@]}"; do
        shown "${title[$name]}, port ${port[$name]}${version[$name]:+, ${version[$name]}}: ${command[$name]}"
    done
    echo '```'
} >"$work/report"
mv "$work/report" "$OUT"
cat "$OUT"
exit "$failed"
