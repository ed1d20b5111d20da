#!/usr/bin/env bash
# Checks that the tools of make targets are installed: `conf/tools.sh build test`. As root it installs missing tools; with
# sudo at a terminal it asks first; otherwise it prints the command that installs everything, and fails. A missing optional
# tool is never an error; its tests or steps are skipped.
set -euo pipefail

say() { echo "make: $*" >&2; }
has() { command -v "$1" >/dev/null; }

required=() optional=()
missing() { # missing LIST PROGRAM PACKAGE REASON
    local -n list=$1
    local mark=''
    [ "$1" = required ] || mark=' (optional)'
    say "$2 is missing: $4$mark"
    [[ " ${list[*]-} " == *" $3 "* ]] || list+=("$3")
}
need() { has "$1" || missing required "$@"; }
want() { has "$1" || missing optional "$@"; }

# Checks pages for accessibility in the tests. It is a file, not a program, so it comes from its registry, once.
axe_core() {
    local version=4.14.1 dir=${CARGO_TARGET_DIR:-target}/axe-core
    local sum=e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745
    [ ! -f "$dir/axe.min.js" ] && has chromium || return 0
    has npm || { say "axe-core is missing, and npm to fetch it: pages are tested for accessibility (optional)"; return 0; }
    mkdir -p "$dir"
    if (cd "$dir" && npm pack --silent "axe-core@$version" >/dev/null 2>&1 &&
        echo "$sum  axe-core-$version.tgz" | sha256sum --check --status &&
        tar xzf "axe-core-$version.tgz" --strip-components=1 package/axe.min.js package/LICENSE); then
        say "fetched axe-core $version"
    else
        say "going on without axe-core $version, which could not be fetched from npm or has another checksum"
    fi
    rm -f "$dir/axe-core-$version.tgz"
}

for job; do
    case $job in
    build)
        # No Debian package is recent enough for the edition of this crate.
        cargo=${CARGO:-cargo}
        has "${cargo%% *}" || { say "cargo is missing: install Rust from https://rustup.rs"; exit 1; }
        need cc build-essential "compiles the C code of ring, zstd and zlib-ng, and links"
        need cmake cmake "configures zlib-ng, which Pingora compresses with"
        ;;
    test)
        need curl curl "the commands of the README are run as a test"
        need openssl openssl "TLS sessions are resumed with its client"
        want chromium chromium "pages are tested in a browser"
        want chromedriver chromium-driver "pages are tested in a browser"
        want caddy caddy "certificates are ordered from its ACME server"
        axe_core
        # Debian installs it in a folder that is only in root's PATH.
        has /usr/sbin/keepalived || want keepalived keepalived "the move of a floating address is tested"
        ;;
    wrk)
        need wrk wrk "makes the load"
        need openssl openssl "makes the certificates"
        want nginx nginx "answers the load, and icm is measured beside it"
        want haproxy haproxy "icm is measured beside it"
        ;;
    live)
        need nginx nginx "icm is measured beside it"
        need haproxy haproxy "icm is measured beside it"
        ;;
    dist)
        # These must have the compiler's LLVM version.
        llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
        host=$(rustc -vV | sed -n 's/^host: //p')
        need curl curl "makes a part of the load"
        has "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" ||
            need "llvm-profdata-$llvm" "llvm-$llvm" "merges the profile of the first build"
        want "llvm-bolt-$llvm" "bolt-$llvm" "arranges the code by its use"
        want "llvm-strip-$llvm" "llvm-$llvm" "strips the output of BOLT"
        ;;
    *) say "$0: no such job: $job"; exit 2 ;;
    esac
done

all=("${required[@]}" "${optional[@]}")
[ ${#all[@]} -gt 0 ] || exit 0
stop() { # stop MESSAGE: fails only where a required tool is missing
    say "$1"
    exit $((${#required[@]} > 0))
}
has apt-get || stop "apt-get is missing too: install these with the package manager of this system"

sudo=()
[ "$(id -u)" = 0 ] || ! has sudo || sudo=(sudo)
install=("${sudo[@]}" apt-get install --yes --no-install-recommends)
if [ "$(id -u)" != 0 ]; then
    where=' as root'
    ! has sudo || where=''
    advice="to install, run$where: ${sudo[*]:+sudo }apt-get update && ${install[*]} ${all[*]}"
    # Do not ask in every run if only optional tools are missing.
    if [ ${#required[@]} = 0 ] || ! has sudo || ! [ -t 0 ]; then
        stop "$advice"
    fi
    read -rp "make: install ${all[*]} with sudo? [y/N] " answer
    [[ $answer == [yY]* ]] || stop "$advice"
fi

quietly() { # quietly COMMAND...: prints the output only when it fails
    local log
    log=$("$@" 2>&1) || { echo "$log" >&2; return 1; }
}
export DEBIAN_FRONTEND=noninteractive
say "installing ${all[*]}"
quietly "${sudo[@]}" apt-get update || true
[ ${#required[@]} = 0 ] || quietly "${install[@]}" "${required[@]}" || exit 1
# One at a time, so that one that cannot be installed does not prevent the others.
for package in "${optional[@]}"; do
    quietly "${install[@]}" "$package" || say "going on without $package"
done
