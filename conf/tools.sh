#!/usr/bin/env bash
# Checks that the tools of make targets are installed: `conf/tools.sh build test`. As root it installs missing tools; with
# sudo at a terminal it asks first; otherwise it prints the command that installs everything, and fails. A missing optional
# tool is never an error; its tests or steps are skipped. Programs that cargo installs go to target/tools.
set -euo pipefail

say() { echo "make: $*" >&2; }
has() { command -v "$1" >/dev/null; }

required=() optional=() crates=()
tools=${CARGO_TARGET_DIR:-target}/tools
missing() { # missing LIST PROGRAM PACKAGE REASON
    local -n list=$1
    local mark=''
    [ "$1" = required ] || mark=' (optional)'
    say "$2 is missing: $4$mark"
    [[ " ${list[*]-} " == *" $3 "* ]] || list+=("$3")
}
need() { has "$1" || missing required "$@"; }
want() { has "$1" || missing optional "$@"; }

# What conf/packages/build.sh calls. Other versions may write other bytes.
crate() { # crate NAME VERSION REASON [OPTION...]
    local installed=''
    [ ! -r "$tools/.crates.toml" ] || installed=$(<"$tools/.crates.toml")
    if [[ $installed != *"\"$1 $2 "* ]]; then
        say "$1 is missing: $3"
        crates+=("$1@$2 ${*:4}")
    fi
}
package_crates() {
    crate cargo-deb 3.8.0 "writes the .deb" --no-default-features
    crate cargo-generate-rpm 0.21.1 "writes the .rpm"
    crate cargo-cyclonedx 0.5.9 "writes the SBOM"
}

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
        # Before Podman, which would bring another runtime. It is in a folder that is only in root's PATH, too.
        has /usr/sbin/runc || want runc runc "the container image is tested"
        want podman podman "the container image is tested"
        want pip3 python3-pip "the manifests for Kubernetes are checked with tools that are Python packages"
        # The tests of the packages install them in a system of their own, which takes root.
        if [ "$(id -u)" = 0 ]; then
            want mmdebstrap mmdebstrap "the packages are installed in a new system"
            want rpm rpm "the .rpm is installed"
            want lintian lintian "the .deb is examined"
            want dpkg-shlibdeps dpkg-dev "finds out which libraries the .deb needs"
            package_crates
        fi
        ;;
    static)
        need musl-gcc musl-tools "compiles the C code for static executables"
        ;;
    image)
        has podman || has docker || need buildah buildah "builds the container images"
        [ -s /etc/ssl/certs/ca-certificates.crt ] ||
            missing required ca-certificates ca-certificates "the certificates of public authorities are part of the image"
        ;;
    packages)
        need strip binutils "removes symbols"
        need xz xz-utils "compresses the .deb"
        need dpkg-shlibdeps dpkg-dev "finds out which libraries the .deb needs"
        package_crates
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

quietly() { # quietly COMMAND...: prints the output only when it fails
    local log
    log=$("$@" 2>&1) || { echo "$log" >&2; return 1; }
}

# In one build folder, because they share libraries. They are not worth a release build, but an .rpm has many checksums.
install_crates() {
    local crate settings=(--config profile.dev.debug=0)
    for crate in keccak md-5 sha1 sha2 sha3; do
        settings+=(--config "profile.dev.package.$crate.opt-level=3")
    done
    for crate in "${crates[@]}"; do
        say "installing ${crate%% *} into $tools"
        # shellcheck disable=SC2086 # the options of the crate
        CARGO_TARGET_DIR=$tools/build quietly "${CARGO:-cargo}" install --locked --debug --root "$tools" \
            "${settings[@]}" $crate || say "going on without ${crate%% *}"
    done
    [ ! -d "$tools/build" ] || rm -rf "$tools/build"
}

all=("${required[@]}" "${optional[@]}")
if [ ${#all[@]} = 0 ]; then
    install_crates
    exit 0
fi
stop() { # stop MESSAGE: fails only where a required tool is missing
    say "$1"
    [ ${#required[@]} = 0 ] || exit 1
    install_crates
    exit 0
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

export DEBIAN_FRONTEND=noninteractive
say "installing ${all[*]}"
quietly "${sudo[@]}" apt-get update || true
[ ${#required[@]} = 0 ] || quietly "${install[@]}" "${required[@]}" || exit 1
# One at a time, so that one that cannot be installed does not prevent the others.
for package in "${optional[@]}"; do
    quietly "${install[@]}" "$package" || say "going on without $package"
done
install_crates
