#!/usr/bin/env bash
# Builds static executables with musl, which need no library of the system on which they run:
#
#   conf/container/static.sh [icm] [acme]    only builds these: target/x86_64-unknown-linux-musl/release/
#   conf/container/static.sh archive         packs icm into target/packages/domino-icm-VERSION-x86_64-linux-musl.tar.gz
#
# ICM  executable to pack; absent: a release build
# OUT  folder for the archive (target/packages)
set -euo pipefail
cd "$(dirname "$0")/../.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
out=$(realpath -m "${OUT:-$target/packages}")
machine=$(uname -m)
triple=$machine-unknown-linux-musl
. conf/packages/release.sh
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

build() { # build NAME FEATURES...
    [ -d "$(rustc --print sysroot)/lib/rustlib/$triple" ] || rustup target add "$triple"
    release_build --target "$triple" --bin "$@"
}

archive() {
    local name=domino-icm-$version-$machine-linux-musl work root path
    [ -n "${ICM:-}" ] || { build icm; ICM=$target/$triple/release/icm; }
    work=$(mktemp -d)
    # shellcheck disable=SC2064
    trap "rm -rf '$work'" EXIT
    root=$work/$name
    install -D -m 755 "$ICM" "$root/icm"
    install -m 644 LICENSE conf/systemd/domino-icm.service "$root"
    install -d "$root/completions"
    "$ICM" man >"$root/icm.1"
    "$ICM" completion bash >"$root/completions/icm.bash"
    "$ICM" completion zsh >"$root/completions/_icm"
    "$ICM" completion fish >"$root/completions/icm.fish"
    # In the order of the source tree, so that the links between the pages work.
    find README.md SECURITY.md CHANGELOG.md docs conf -type f ! -path 'conf/packages/*' ! -name '*.sh' ! -path '*/secrets/*' -print0 |
        while IFS= read -rd '' path; do
            install -D -m "$([ -x "$path" ] && echo 755 || echo 644)" "$path" "$root/$path"
        done
    mkdir -p "$out"
    tar --create --directory "$work" --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" \
        --numeric-owner --owner=0 --group=0 "$name" | gzip -9n >"$out/$name.tar.gz"
    ls -l "$out/$name.tar.gz"
}

for job in "${@:-icm}"; do
    case $job in
    icm) build icm ;;
    acme) build acme --features acme ;;
    archive) archive ;;
    *) echo "$0: no such job: $job" >&2; exit 2 ;;
    esac
done
