# What the scripts of both packages have in common: the build puts it at their beginning. Without systemd the running process
# is the one in /run/icm/icm.pid, the `pingora.pid_file` of the packaged configuration.

unit=domino-icm.service

with_systemd() { [ -d /run/systemd/system ]; }

# Prints the process in the pid file, if it is one of icm: after a crash another process may have its number.
running_process() {
    pid=$(cat /run/icm/icm.pid 2>/dev/null) || return 1
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = icm ] && echo "$pid"
}

is_running() {
    if with_systemd; then systemctl is-active --quiet "$unit"; else running_process >/dev/null; fi
}

# Hands the listening sockets over to the executable that the package has just replaced. A failure is no failure of the
# package, because the old process goes on.
upgrade_running() {
    if said=$(/usr/bin/icm upgrade -c /etc/icm/icm.yaml 2>&1); then
        echo "domino-icm: upgraded without a restart: $said"
    else
        echo "domino-icm: the running process could not be upgraded and goes on with the old version:" >&2
        [ -z "$said" ] || echo "$said" >&2
        echo "domino-icm: find the cause, then run: icm upgrade -c /etc/icm/icm.yaml" >&2
    fi
}

# Without systemd: requests in flight finish, within `pingora.grace_period_seconds`.
stop_process() {
    pid=$(running_process) || return 0
    kill -TERM "$pid" 2>/dev/null || return 0
    seconds=0
    while [ -d "/proc/$pid" ] && [ "$seconds" -lt 90 ]; do
        sleep 1
        seconds=$((seconds + 1))
    done
}
