#!/usr/bin/env bash
# Starts the simulated Acme cluster and icm in front of it, for `make run`. Ctrl-C ends both.
set -euo pipefail
cd "$(dirname "$0")/.."
bin="${CARGO_TARGET:-target}/debug"

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

if answers 8099; then
    echo "demo: something listens on 127.0.0.1:8099 already; is another Acme cluster running?" >&2
    exit 1
fi
# Each in a process group of its own: Ctrl-C reaches this script alone, which ends them in order.
set -m
acme='' icm=''
finish() {
    trap '' INT TERM
    for pid in $icm $acme; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}
trap finish EXIT
trap 'exit 0' INT TERM

"$bin/acme" --quiet </dev/null >/dev/null &
acme=$!
for _ in $(seq 100); do
    answers 8099 && break
    kill -0 "$acme" 2>/dev/null || { echo "demo: the Acme cluster did not start, see above" >&2; exit 1; }
    sleep 0.1
done

cat <<'TEXT'

  The Acme cluster (four simulated Domino servers) is running. Try:

    http://127.0.0.1:8080/sales/orders.nsf    a database, through icm
    http://127.0.0.1:8080/sales/leads.nsf     one path, two databases: the choice page
    http://127.0.0.1:8098/                    status of icm
    http://127.0.0.1:8099/                    switch faults: curl -X PUT -d '{"fault":{"kind":"refuse"}}' 127.0.0.1:8099/servers/Web1

  Ctrl-C ends both.

TEXT
"$bin/icm" run -c conf/acme.yaml </dev/null &
icm=$!
wait "$icm"
