#!/usr/bin/env bash
# Builds the container images of icm and acme from finished executables (`make image`):
#
#   ICM=FILE ACME=FILE conf/container/build.sh
#
# writes domino-icm-VERSION-image.tar and domino-icm-acme-VERSION-image.tar, which `docker load` and `podman load` read. Static
# executables make the smallest images. For a dynamic one the libraries that it needs are copied from this machine; the tests
# build their images like this.
#
# ICM, ACME  executables; absent: static release builds (static.sh)
# OUT        folder for the archives (target/packages)
# BUILDER    podman, buildah or docker with its options; by default the first of these that is there
# REPOSITORY names of the images: REPOSITORY:VERSION and REPOSITORY-acme:VERSION (localhost/domino-icm, which is never pulled)
# CONTEXT    folder for the prepared context (target/image)
# SOURCE_DATE_EPOCH  the time in the images, by default that of the last commit: the same executables make the same layer
set -euo pipefail
cd "$(dirname "$0")/../.."

die() { echo "image: $*" >&2; exit 1; }
target=${CARGO_TARGET_DIR:-target}
folder=${OUT:-$target/packages}
context=${CONTEXT:-$target/image}
repository=${REPOSITORY:-localhost/domino-icm}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
authorities=/etc/ssl/certs/ca-certificates.crt

if [ -z "${ICM:-}" ] || [ -z "${ACME:-}" ]; then
    conf/container/static.sh icm acme
    : "${ICM:=$target/x86_64-unknown-linux-musl/release/icm}" "${ACME:=$target/x86_64-unknown-linux-musl/release/acme}"
fi
icm=$ICM acme=$ACME
for file in "$icm" "$acme"; do [ -x "$file" ] || die "$file is not an executable"; done
[ -s "$authorities" ] || die "$authorities is missing: install the package ca-certificates"
if [ -n "${BUILDER:-}" ]; then
    read -ra builder <<<"$BUILDER"
else
    for program in podman buildah docker; do
        if command -v "$program" >/dev/null; then builder=("$program"); break; fi
    done
    [ -n "${builder[*]-}" ] || die "podman, buildah or docker is needed"
fi

rm -rf "$context"
mkdir -p "$context" "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The tools that read the files must be able to do so whatever the umask is here.
umask 022

with_libraries() { # with_libraries PROGRAM ROOT: copies the libraries of a dynamic program to the same paths
    local library
    # ldd prints `not a dynamic executable` or `statically linked` for a static one.
    while read -r library; do
        install -D -m 755 "$library" "$2$library"
    done < <(ldd "$1" 2>/dev/null | sed -nE 's/^[^/]*(\/[^ ]+) \(0x[0-9a-f]+\)$/\1/p')
}

archive() { # archive NAME FILES...: NAME.tar of the folder, in a fixed order, owned by root
    tar --create --file "$context/$1.tar" --directory "$work/$1" --sort=name --format=ustar \
        --mtime="@$epoch" --numeric-owner --owner=0 --group=0 .
}

for name in icm acme; do
    root=$work/$name
    install -d "$root/etc" "$root/usr/bin" "$root/usr/share/doc/domino-icm"
    install -m 755 "${!name}" "$root/usr/bin/$name"
    with_libraries "${!name}" "$root"
    echo 'icm:x:65532:65532:domino-icm:/var/lib/icm:/sbin/nologin' >"$root/etc/passwd"
    echo 'icm:x:65532:' >"$root/etc/group"
    install -m 644 LICENSE "$root/usr/share/doc/domino-icm/LICENSE"
done
install -D -m 644 "$authorities" "$work/icm$authorities"
install -d "$work/icm/etc/icm" "$work/icm/var/lib"
install -d -m 1777 "$work/acme/tmp"
archive icm
archive acme
# The only folder that belongs to the user. `tar --append` needs no root for another owner.
install -d -m 750 "$work/own/var/lib/icm"
tar --append --file "$context/icm.tar" --directory "$work/own" --format=ustar --mtime="@$epoch" \
    --numeric-owner --owner=65532 --group=65532 ./var/lib/icm

build() { # build STAGE IMAGE FILE
    local arguments=(--file Dockerfile --target "$1" --tag "$2")
    [ "$1" = acme ] || arguments+=(--build-arg "VERSION=$version" --build-arg "REVISION=$revision")
    # An old archive would be added to.
    rm -f "$3"
    # Only Docker's format has a health check, and both Docker and Podman load its archives.
    case ${builder[0]##*/} in
    docker)
        "${builder[@]}" build "${arguments[@]}" "$context"
        "${builder[@]}" save --output "$3" "$2"
        ;;
    buildah)
        "${builder[@]}" build --format docker --layers=false --timestamp "$epoch" --identity-label=false "${arguments[@]}" "$context"
        "${builder[@]}" push "$2" "docker-archive:$3:$2"
        ;;
    *)
        "${builder[@]}" build --format docker --layers=false --timestamp "$epoch" --identity-label=false "${arguments[@]}" "$context"
        "${builder[@]}" save --format docker-archive --output "$3" "$2"
        ;;
    esac
    chmod 644 "$3"
}
build icm "$repository:$version" "$folder/domino-icm-$version-image.tar"
build acme "$repository-acme:$version" "$folder/domino-icm-acme-$version-image.tar"
ls -l "$folder"/domino-icm-*image.tar
