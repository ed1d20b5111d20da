#!/usr/bin/env bash
# Starts the simulated Acme cluster and icm in front of it, for `make run`. Ctrl-C stops both.
set -euo pipefail
cd "$(dirname "$0")/.."
bin="${CARGO_TARGET:-target}/debug"

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
await() { # await PORT PID NAME: until the port answers or the process has ended
    for _ in $(seq 150); do
        answers "$1" && return 0
        kill -0 "$2" 2>/dev/null || break
        sleep 0.1
    done
    echo "demo: $3 did not start, see above" >&2
    exit 1
}

for port in 8080 8098 8099; do
    if answers $port; then
        echo "demo: something listens on 127.0.0.1:$port already; is another Acme cluster running?" >&2
        exit 1
    fi
done
# Each in its own process group, so that Ctrl-C reaches only this script, which stops them in order.
set -m
acme='' icm=''
finish() {
    trap '' INT TERM HUP
    for pid in $icm $acme; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}
trap finish EXIT
trap 'exit 0' INT TERM HUP

"$bin/acme" --quiet </dev/null >/dev/null &
acme=$!
await 8099 "$acme" "the Acme cluster"
"$bin/icm" run -c conf/acme.yaml </dev/null &
icm=$!
await 8080 "$icm" icm

cat <<'TEXT'

  The Acme cluster (four simulated Domino servers) is running, with icm in front of it. Try:

    http://127.0.0.1:8080/?OpenServer         the databases of the cluster, through icm
    http://127.0.0.1:8080/sales/orders.nsf    one of them; three servers hold it
    http://127.0.0.1:8080/sales/leads.nsf     one path, two databases: icm asks which one
    http://127.0.0.1:8098/                    the status page of icm
    http://127.0.0.1:8099/servers             the servers themselves; README.md shows how to make them fail

  Ctrl-C stops both. The access log of icm follows.

TEXT
wait "$icm"
