#!/usr/bin/env bash
# Kills, then freezes one of three servers under a constant load, behind icm, nginx and HAProxy in turn, and counts the
# requests that fail (`make faults`). Writes benches/results/faults.md. Every process is killed by its pid.
set -euo pipefail
cd "$(dirname "$0")/../.."

PER_SECOND=${PER_SECOND:-2000}          # requests, every fourth a POST
SECONDS_EACH=${SECONDS_EACH:-16}        # of load; the fault is after AFTER seconds
AFTER=${AFTER:-3}
ROUNDS=${ROUNDS:-2}
DELAY=${DELAY:-20}                      # response time of a server in ms
ONLY=${ONLY:-icm nginx haproxy}
FAULTS=${FAULTS:-KILL STOP}
OUT=${OUT:-benches/results/faults.md}
CARGO=${CARGO:-cargo}
ICM=${ICM:-} ACME=${ACME:-} DRIVER=${DRIVER:-}      # executables; if not set, a release build of this tree

work=$(mktemp -d)
declare -A pid=()
stop() { # stop NAME
    local p=${pid[$1]:-}
    [ -n "$p" ] || return 0
    kill -CONT "$p" 2>/dev/null || true
    kill -INT "$p" 2>/dev/null || true
    for _ in $(seq 50); do kill -0 "$p" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$p" 2>/dev/null || true
    unset "pid[$1]"
}
finish() {
    trap '' INT TERM
    for name in "${!pid[@]}"; do stop "$name"; done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { echo "faults: $*" >&2; }
die() { say "$*"; exit 1; }

built() { # built NAME ARGUMENTS...: the executable of one target, from a release build
    local path
    path=$("$CARGO" build --release --message-format=json-render-diagnostics "${@:2}" |
        sed -n "/\"name\":\"$1\"/s/.*\"executable\":\"\([^\"]*\)\".*/\1/p" | tail -n 1)
    [ -n "$path" ] && echo "$path"
}
[ -n "$DRIVER" ] || DRIVER=$(built faults --bench faults) || die "the load cannot be built"
[ -n "$ACME" ] || ACME=$(built acme --features acme --bin acme) || die "acme cannot be built"
if [[ " $ONLY " == *" icm "* ]] && [ -z "$ICM" ]; then ICM=$(built icm --bin icm) || die "icm cannot be built"; fi

open() { { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null && exec 3<&- 3>&-; }
start() { # start NAME PORT COMMAND...
    open "$2" && die "port $2 is taken"
    "${@:3}" </dev/null >"$work/$1.log" 2>&1 &
    pid[$1]=$!
    disown                              # no message when it is killed
    for _ in $(seq 100); do
        open "$2" && return 0
        kill -0 "${pid[$1]}" 2>/dev/null || break
        sleep 0.1
    done
    die "$1 does not start. Its log: $(tail -n 5 "$work/$1.log")"
}

# --- servers and proxies ----------------------------------------------------------------------

cat >"$work/acme.yaml" <<CONF
cluster: Faults
servers:
  - { name: Web1/Acme, http: 18081, https: false, agent: false, metrics: false }
  - { name: Web2/Acme, http: 18082, https: false, agent: false, metrics: false }
  - { name: Web3/Acme, http: 18083, https: false, agent: false, metrics: false }
databases:
  - { path: sales/orders.nsf, replica_id: C1257A000041D2E1, title: Orders, replicas: all }
CONF
cat >"$work/icm.yaml" <<CONF
pingora: { threads: 2, grace_period_seconds: 1 }
listeners: [{ address: 127.0.0.1:18094 }]
admin: { address: 127.0.0.1:18098 }
access_log: { path: icm-access.log, format: combined }
clusters:
  - name: Faults
    servers:
      source: static
      list:
        - { name: Web1/Acme, hostname: web1.acme.example, http: 127.0.0.1:18081 }
        - { name: Web2/Acme, hostname: web2.acme.example, http: 127.0.0.1:18082 }
        - { name: Web3/Acme, hostname: web3.acme.example, http: 127.0.0.1:18083 }
    directory:
      source: static
      databases:
        - path: sales/orders.nsf
          replica_id: C1257A000041D2E1
          replicas: [{ server: Web1/Acme }, { server: Web2/Acme }, { server: Web3/Acme }]
    probe: { interval: 500ms, timeout: 1s }
    failover: { connect_timeout: 1s, response_timeout: 1s }
CONF
cat >"$work/nginx.conf" <<CONF
daemon off; master_process off; pid $work/nginx.pid; error_log $work/nginx-error.log error;
events { worker_connections 4096; }
http {
    access_log $work/nginx-access.log; keepalive_requests 1000000;
    client_body_temp_path $work; proxy_temp_path $work; fastcgi_temp_path $work; uwsgi_temp_path $work; scgi_temp_path $work;
    upstream cluster {
        least_conn;
        server 127.0.0.1:18081; server 127.0.0.1:18082; server 127.0.0.1:18083;
        keepalive 512; keepalive_requests 1000000;
    }
    server {
        listen 127.0.0.1:18092 backlog=4096;
        location / {
            proxy_pass http://cluster; proxy_http_version 1.1; proxy_set_header Connection '';
            proxy_connect_timeout 1s; proxy_read_timeout 1s; proxy_send_timeout 1s;
        }
    }
}
CONF
cat >"$work/haproxy.cfg" <<CONF
global
    nbthread 2
    maxconn 4000
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 1s
    timeout check 1s
    http-reuse always
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response response-timeout
frontend web
    bind 127.0.0.1:18093 backlog 4096
    default_backend cluster
backend cluster
    balance leastconn
    option httpchk GET /
    http-check expect status 200-499
    http-request disable-l7-retry if METH_POST
    default-server check inter 500ms fall 2 rise 2 observe layer7 error-limit 5 on-error mark-down
    server web1 127.0.0.1:18081
    server web2 127.0.0.1:18082
    server web3 127.0.0.1:18083
CONF
declare -A port=([icm]=18094 [nginx]=18092 [haproxy]=18093)
declare -A title=([icm]=icm [nginx]=nginx [haproxy]=HAProxy)
declare -A what=([KILL]="process killed" [STOP]="process frozen")
declare -A command=([icm]="$ICM run -c $work/icm.yaml" [nginx]="nginx -c $work/nginx.conf -e $work/nginx.log"
    [haproxy]="haproxy -db -f $work/haproxy.cfg")

# --- measuring --------------------------------------------------------------------------------

: >"$work/samples"
for round in $(seq "$ROUNDS"); do
    for fault in $FAULTS; do
        for name in $ONLY; do
            [ "$name" = icm ] || command -v "$name" >/dev/null || { say "$name is not installed"; continue; }
            for n in 1 2 3; do
                start "web$n" "1808$n" "$ACME" --quiet --scenario "$work/acme.yaml" --only "Web$n" --control 127.0.0.1:0
            done
            # shellcheck disable=SC2086
            start "$name" "${port[$name]}" ${command[$name]}
            sleep 2
            report=$(timeout $((SECONDS_EACH + 30)) "$DRIVER" "127.0.0.1:${port[$name]}" \
                "/sales/orders.nsf/0/1?OpenDocument&delay=$DELAY&size=1024" \
                "/sales/orders.nsf/0/1?SaveDocument&delay=$DELAY&size=1024" \
                "$PER_SECOND" "$SECONDS_EACH" "SIG$fault" "${pid[web2]}" "$AFTER" | sed -n 's/^RESULT //p') ||
                die "the load failed on $name"
            echo "$fault $name $report" >>"$work/samples"
            say "round $round of $ROUNDS, ${what[$fault]}, $name: $report"
            stop "$name"
            for n in 1 2 3; do stop "web$n"; done
        done
    done
done

mkdir -p "$(dirname "$OUT")"
{
    echo "# One of three servers dies"
    echo
    echo "$(date -u +%Y-%m-%d), commit $(git describe --always --dirty 2>/dev/null || echo unknown), $(nproc) processors." \
        "$PER_SECOND requests a second, a quarter of them POST, answers after $DELAY ms; timeouts 1 s, checks every 500 ms;" \
        "the fault after $AFTER of $SECONDS_EACH s, $ROUNDS rounds."
    echo
    echo "| fault | proxy | requests | failed GET | failed POST | statuses | failures, ms after the fault | slowest answer ms |"
    echo "|---|---|--:|--:|--:|---|---|--:|"
    for fault in $FAULTS; do
        for name in $ONLY; do
            awk -v f="$fault" -v n="$name" -v t="${title[$name]}" -v w="${what[$fault]}" '
                function join(a, b) { return a == "" ? b : a " / " b }
                $1 == f && $2 == n { r = join(r, $3); g = join(g, $4); p = join(p, $5); s = join(s, $10)
                    m = join(m, $6 == "-" ? "-" : $6 " to " $7); l = join(l, $8); seen = 1 }
                END { if (seen) printf "| %s | %s | %s | %s | %s | %s | %s | %s |\n", w, t, r, g, p, s, m, l }' "$work/samples"
        done
    done
    echo
    echo "One figure for each round. Status 0: the connection broke without an answer."
} >"$work/report"
mv "$work/report" "$OUT"
cat "$OUT"
