# shellcheck shell=bash disable=SC2004,SC2034,SC2153,SC2154    # shares its variables with run.sh
#
# Starts the origin, and defines how the proxies that run.sh measures are started and stopped; run.sh sources it.
#
# Sets `running`, `with_tls`, and for each proxy its pid, title, command, version and TLS parameters. Ports: 18090 plus its
# place for plain HTTP, ten more with the P-256 certificate, twenty more with the RSA one, thirty more for icm's admin
# listener.

declare -A place=([direct]=0 [minimal]=1 [nginx]=2 [haproxy]=3)
declare -A offset=([plain]=0 [p256]=10 [rsa]=20)
declare -A title=([direct]="no proxy" [minimal]="minimal Pingora" [nginx]=nginx [haproxy]=HAProxy [icm]=icm
    [icm-off]="icm (fast path off)" [dist]="icm (dist)" [dist-off]="icm (dist, fast path off)")
declare -A command=() version=() tls_parameters=()
declare -A executable=() fast_path=()   # of each icm
icms=()                                 # their names, in the order of the report
running=() with_tls=()

add_icm() { # add_icm NAME EXECUTABLE FAST_PATH
    [ "${#icms[@]}" -lt 6 ] || die "more than six builds of icm cannot be measured at a time"
    place[$1]=$((4 + ${#icms[@]}))
    executable[$1]=$2
    fast_path[$1]=$3
    icms+=("$1")
}
is_icm() { [ -n "${executable[$1]:-}" ]; }

! wanted icm || add_icm icm "$ICM" "$FAST_PATH"
! wanted icm-off || add_icm icm-off "$ICM" off
if [ -n "$ICM_DIST" ]; then
    ! wanted dist || add_icm dist "$ICM_DIST" "$FAST_PATH"
    ! wanted dist-off || add_icm dist-off "$ICM_DIST" off
fi
for build in $BUILDS; do
    [[ $build =~ ^[a-z0-9-]+=. ]] || die "BUILDS has NAME=PATH, with a NAME of letters, digits and dashes"
    [ -z "${title[${build%%=*}]:-}" ] || die "${build%%=*} in BUILDS is taken"
    title[${build%%=*}]="icm (${build%%=*})"
    add_icm "${build%%=*}" "${build#*=}" "$FAST_PATH"
done

answers() { # answers PORT: true if the response for the target is 200
    local line=''
    { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 1
    printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$TARGET" >&3
    read -r -t 2 line <&3 || true
    exec 3<&- 3>&-
    [[ $line == "HTTP/1.1 200"* ]]
}

# handshake NAME KIND: the TLS parameters that openssl and the proxy negotiate
handshake() {
    timeout 5 openssl s_client -connect "127.0.0.1:$((18090 + ${place[$1]} + ${offset[$2]}))" -servername www.acme.example \
        </dev/null 2>/dev/null | sed -n 's/^New, \(.*\), Cipher is \(.*\)/\1 \2/p; s/^Server Temp Key: \([^,]*\).*/\1/p; s/^Server public key is \(.*\)/\1/p' |
        tr '\n' ',' | sed 's/,$//; s/,/, /g'
}

start() { # start NAME CPU COMMAND...
    local name=$1 cpu=$2 port=$((18090 + ${place[$1]}))
    shift 2
    { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null && die "port $port is taken"
    # HAProxy writes its access log there.
    taskset -c "$cpu" "$@" </dev/null >>"$work/$name-access.log" 2>"$work/$name.log" &
    pid[$name]=$!
    command[$name]="taskset -c $cpu $*"
    for _ in $(seq 200); do
        if answers "$port"; then
            running+=("$name")
            [[ $secure == 1 && -z ${tls_parameters[$name]:-} ]] || return 0
            tls_parameters[$name]=$(handshake "$name" p256)
            if [ -n "${tls_parameters[$name]}" ]; then
                with_tls+=("$name")
            elif [ "$name" != direct ]; then
                failed=1
                note "$name does not support TLS; the cases with TLS are left out"
            fi
            return 0
        fi
        kill -0 "${pid[$name]}" 2>/dev/null || break
        sleep 0.05
    done
    failed=1
    note "${title[$name]} did not start and is left out"
    tail -n 5 "$work/$name.log" >&2
    stop "$name"
    return 1
}
# The access logs, emptied so that they do not fill the disk.
shorten_logs() { truncate -s 0 "$work"/*-access.log "$work"/*/icm-access.log 2>/dev/null || true; }

certificate() { # certificate NAME ALGORITHM...: NAME.pem, NAME.key, and both in NAME.both
    openssl req -x509 -newkey "${@:2}" -nodes -days 30 -subj /CN=www.acme.example -addext subjectAltName=DNS:www.acme.example \
        -addext basicConstraints=critical,CA:FALSE -keyout "$work/$1.key" -out "$work/$1.pem" 2>/dev/null
    cat "$work/$1.pem" "$work/$1.key" >"$work/$1.both"
}
if [ "$secure" = 1 ]; then
    certificate p256 ec -pkeyopt ec_paramgen_curve:P-256
    certificate rsa rsa:2048
    certificates="the same self-signed certificates for all, ECDSA P-256 and RSA 2048 for its cases; $(openssl version | cut -d' ' -f1,2) is the client of wrk, rustls (TLS 1.3 only) that of the handshakes"
fi

tls_ports() { # tls_ports NAME: lines of `PORT CERTIFICATE`, none without TLS
    [ "$secure" = 1 ] || return 0
    for kind in p256 rsa; do echo "$((18090 + ${place[$1]} + ${offset[$kind]})) $kind"; done
}

# nginx_conf NAME KEEPALIVE HTTP-BLOCK SERVER-BLOCK [MORE-LISTEN]: one process, so that only one must be measured
nginx_conf() {
    {
        cat <<CONF
daemon off; master_process off; worker_processes 1; pid $work/$1.pid; error_log $work/$1.log error;
events { worker_connections 12000; }
http {
    access_log off; keepalive_requests 1000000; keepalive_timeout $2;
    client_body_temp_path $work; proxy_temp_path $work; fastcgi_temp_path $work; uwsgi_temp_path $work; scgi_temp_path $work;
    $3
    server { listen 127.0.0.1:$((18090 + ${place[$1]})) reuseport backlog=4096; ${5:-} $4 }
CONF
        tls_ports "$1" | while read -r port kind; do
            echo "server { listen 127.0.0.1:$port ssl reuseport backlog=4096; ssl_protocols TLSv1.2 TLSv1.3;"
            echo "ssl_certificate $work/$kind.pem; ssl_certificate_key $work/$kind.key; $4 }"
        done
        echo '}'
    } >"$work/$1.conf"
}

# --- the origin -------------------------------------------------------------------------------

# The three members. It outlives the proxies.
members=(127.0.0.1:18090 127.0.0.2:18090 127.0.0.3:18090)
if have nginx; then
    # The target itself has the first body; the others are requested by name.
    for bytes in "${bodies[@]}"; do
        head -c "$bytes" /dev/zero | tr '\0' x >"$work/body-$bytes"
    done
    first="rewrite ^ /body-${bodies[0]} last;"
    [ "${bodies[0]}" -gt 3000 ] || first="return 200 '$(cat "$work/body-${bodies[0]}")';"
    serve="root $work; default_type text/html; location / { if (\$arg_body) { rewrite ^ /body-\$arg_body last; } $first } location /body- { }"
    # The modification time of each database, for icm's freshness.
    for database in leads orders; do
        serve+=" location = /sales/$database.nsf { add_header Last-Modified 'Mon, 23 Nov 2026 08:00:00 GMT'; return 200 open; }"
    done
    nginx_conf direct 300s "sendfile on; open_file_cache max=10 inactive=60s; open_file_cache_valid 1h;" \
        "$serve" "listen 127.0.0.2:18090 backlog=4096; listen 127.0.0.3:18090 backlog=4096;"
    start direct "$LOAD_CPU" nginx -c "$work/direct.conf" -e "$work/direct.log" || die "the origin does not start"
    origin="nginx"
else
    acme=$(built acme --features acme --bin acme) || die "acme cannot be built"
    start direct "$LOAD_CPU" "$acme" --quiet --scenario "$here/acme.yaml" || die "the origin does not start"
    origin="acme"
    note "nginx is not installed: the simulated cluster is the origin, and the cases with larger bodies are left out"
    for i in "${!loads[@]}"; do
        case_of "${loads[i]}"
        [ "$bytes" = "${bodies[0]}" ] || unset "loads[i]"
    done
fi

# --- the proxies ------------------------------------------------------------------------------

if wanted nginx; then
    have nginx || note "nginx is not installed and left out"
    # TLS has nginx's defaults: tickets, no session cache. Its default buffers (eight of 4 KiB, then a file on disk) would
    # need three times the processor time for large responses.
    nginx_conf nginx 60s "proxy_max_temp_file_size 0; proxy_buffer_size 16k; proxy_buffers 16 16k; proxy_busy_buffers_size 128k;
    upstream origin { $(printf 'server %s; ' "${members[@]}") keepalive 512; keepalive_requests 1000000; keepalive_timeout 60s; }" \
        "access_log $work/nginx-access.log combined buffer=64k flush=1s;
        location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ''; }"
fi
if wanted haproxy; then
    have haproxy || note "HAProxy is not installed and left out"
    cat >"$work/haproxy.cfg" <<CONF
global
    nbthread 1
    maxconn 12000
    no strict-limits
    log stdout format raw local0 info
defaults
    mode http
    log global
    option httplog
    timeout connect 5s
    timeout client 60s
    timeout http-keep-alive 60s
    timeout server 60s
    http-reuse always
listen proxy
    bind 127.0.0.1:18093 backlog 4096
$(tls_ports haproxy | while read -r port kind; do echo "    bind 127.0.0.1:$port backlog 4096 ssl crt $work/$kind.both"; done)
    default-server pool-purge-delay 60s
$(for i in "${!members[@]}"; do echo "    server web$((i + 1)) ${members[i]}"; done)
CONF
fi
for name in "${icms[@]}"; do
    # A separate folder, because its files are written beside the configuration.
    mkdir -p "$work/$name/state"
    tls_ports "$name" | while read -r port kind; do
        echo "  - { address: 127.0.0.1:$port, tls: { certificates: [{ cert: $work/$kind.pem, key: $work/$kind.key }] } }"
    done >"$work/$name/listeners"
    sed "s/:18094/:$((18090 + ${place[$name]}))/; s/:18098/:$((18120 + ${place[$name]}))/; /^listeners:/r $work/$name/listeners
        s/fast_path: on/fast_path: ${fast_path[$name]}/" "$here/site.yaml" >"$work/$name/icm.yaml"
done

# Starts all that are wanted, as fresh processes.
start_proxies() {
    local name arguments
    running=()
    ! wanted direct || running=(direct)
    if wanted minimal; then
        arguments=(127.0.0.1:18091)
        while read -r port kind; do
            arguments+=(--tls "127.0.0.1:$port" "$work/$kind.pem" "$work/$kind.key")
        done < <(tls_ports minimal)
        start minimal "$PROXY_CPU" "$MINIMAL" "${arguments[@]}" "${members[@]}" || true
        version[minimal]="Pingora $(sed -n '/^name = "pingora-core"/{n;s/.*"\(.*\)"/\1/p}' Cargo.lock)"
    fi
    for name in "${icms[@]}"; do
        start "$name" "$PROXY_CPU" "${executable[$name]}" run -c "$work/$name/icm.yaml" || continue
        version[$name]=$("${executable[$name]}" --version 2>/dev/null | head -n 1 || true)
    done
    if wanted nginx && have nginx && start nginx "$PROXY_CPU" nginx -c "$work/nginx.conf" -e "$work/nginx.log"; then
        version[nginx]="$(nginx -v 2>&1 | sed 's/.*: //'), $(nginx -V 2>&1 | sed -n 's/.*running with \(OpenSSL [^ ]*\).*/\1/p')"
    fi
    if wanted haproxy && have haproxy && start haproxy "$PROXY_CPU" haproxy -db -f "$work/haproxy.cfg"; then
        version[haproxy]="$(haproxy -v | sed -n '1s/HAProxy version \([^ ]*\).*/HAProxy \1/p'), $(haproxy -vv | sed -n 's/^Running on OpenSSL version : \(OpenSSL [^ ]*\).*/\1/p')"
    fi
}

# Stops all but the origin.
stop_proxies() {
    local name names=()
    for name in "${running[@]}"; do [ "$name" = direct ] || names+=("$name"); done
    stop "${names[@]}"
    shorten_logs
}
