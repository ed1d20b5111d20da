#!/usr/bin/env bash
# Builds the .deb, the .rpm and the SBOM into target/packages, and SHA256SUMS beside them: `make packages`. The same
# executable gives the same bytes, because times come from the last commit and file modes from here.
#
#   ICM       executable to pack; absent: a release build
#   VERSION   version of the packages; absent: that of Cargo.toml
#   OUT       folder for the artefacts; absent: target/packages
#   FAST      1: compress quickly, for tests
#   PACKAGER  "Name <address>" of the maintainer of the packages
set -euo pipefail
cd "$(dirname "$0")/../.."
source=$PWD
here=$source/conf/packages
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tools=$target/tools/bin
out=$(realpath -m "${OUT:-$target/packages}")
. "$here/release.sh"
: "${VERSION:=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}"
export VERSION
: "${PACKAGER:=domino-icm <packages@example.com>}"
# Debian and RPM sort 1.0~rc.1 before 1.0.
version=${VERSION/-/\~}

file() { # file MODE SOURCE DESTINATION
    install -D -m "$1" "$2" "$root/$3"
}

# Everything that both packages install, with the modes that it gets.
stage() {
    local path
    file 755 "$ICM" usr/bin/icm
    strip --strip-all "$root/usr/bin/icm"
    # Debian 12 and RHEL 9 have a systemd that does not know notify-reload yet.
    sed -e '/^# domino-icm as a service/,/^$/d' -e 's|/usr/local/bin/icm|/usr/bin/icm|' \
        -e 's|^Type=notify-reload$|Type=notify\nExecReload=/bin/kill -HUP $MAINPID|' \
        -e 's|^Documentation=.*|Documentation=man:icm(1) file:///usr/share/doc/domino-icm/docs/README.md|' \
        conf/systemd/domino-icm.service >"$work/unit"
    file 644 "$work/unit" usr/lib/systemd/system/domino-icm.service
    file 640 "$here/icm.yaml" etc/icm/icm.yaml
    file 644 "$here/logrotate" etc/logrotate.d/domino-icm
    file 644 "$here/copyright" "$doc/copyright"
    file 644 "$here/lintian-overrides" usr/share/lintian/overrides/domino-icm

    "$ICM" man | gzip -9n >"$work/man"
    file 644 "$work/man" usr/share/man/man1/icm.1.gz
    "$ICM" completion bash >"$work/bash"
    "$ICM" completion zsh >"$work/zsh"
    "$ICM" completion fish >"$work/fish"
    file 644 "$work/bash" usr/share/bash-completion/completions/icm
    file 644 "$work/zsh" usr/share/zsh/vendor-completions/_icm
    file 644 "$work/fish" usr/share/fish/vendor_completions.d/icm.fish

    # In the order of the source tree, so that the links between the pages work.
    for path in README.md SECURITY.md CHANGELOG.md docs conf; do
        find "$path" -type f ! -path 'conf/packages/*' ! -name .gitignore ! -path 'conf/*.sh' ! -path '*/secrets/*' -print0
    done | while IFS= read -rd '' path; do
        if [ -x "$path" ]; then file 755 "$path" "$doc/$path"; else file 644 "$path" "$doc/$path"; fi
    done
}

# The scripts of a package: the common part, then its own.
scripts() { # scripts FORMAT
    local script
    mkdir -p "$work/$1"
    for script in "$here/$1"/*; do
        { printf '#!/bin/sh\nset -e\n\n'; cat "$here/running.sh"; echo; cat "$script"; } >"$work/$1/${script##*/}"
        chmod 755 "$work/$1/${script##*/}"
    done
}

# The lists of files in the manifest, for cargo-deb and for cargo-generate-rpm.
deb_files() {
    local path mode
    while read -r mode path; do
        printf '    ["root/%s", "%s", "%s"],\n' "$path" "$path" "$mode"
    done <"$work/files"
}
rpm_files() {
    local path mode more
    while read -r mode path; do
        more=''
        case $path in
        usr/share/lintian/*) continue ;;
        etc/*) more=', config = "noreplace"' ;;
        usr/share/doc/* | usr/share/man/*) more=', doc = true' ;;
        esac
        [ "$path" != etc/icm/icm.yaml ] || more+=', group = "icm"'
        # Fedora's zsh reads another folder.
        printf '    { source = "root/%s", dest = "/%s", mode = "%s"%s },\n' \
            "$path" "${path/zsh\/vendor-completions/zsh\/site-functions}" "$mode" "$more"
    done <"$work/files"
}

# A manifest of its own, because the files, the version and the executable are not those of the tree.
manifest() {
    local text
    text=$(<"$here/manifest.toml")
    text=${text/@VERSION@/"$VERSION"}
    text=${text/@PACKAGER@/"$PACKAGER"}
    text=${text/@DEB_FILES@/"$(deb_files)"}
    text=${text/@RPM_FILES@/"$(rpm_files)"}
    echo "$text"
}

changelog() {
    cat <<END
domino-icm ($version-1) unstable; urgency=medium

  * The changes are in CHANGELOG.md.

 -- $PACKAGER  $(date --rfc-email --date "@$SOURCE_DATE_EPOCH")
END
}

build_deb() {
    local arguments=(--no-build --no-strip --compress-system --deb-version "$version-1" --output "$work/out/")
    [ "${FAST-}" != 1 ] || arguments+=(--fast)
    scripts deb
    changelog >"$work/changelog"
    (cd "$work" && "$tools/cargo-deb" "${arguments[@]}")
}

build_rpm() {
    local arguments=(--output "$work/out/" --auto-req builtin --set-metadata "version = \"$version\"")
    [ "${FAST-}" != 1 ] || arguments+=(--payload-compress none)
    scripts rpm
    (cd "$work" && "$tools/cargo-generate-rpm" generate-rpm "${arguments[@]}")
}

# CycloneDX, for the features of the release. The tool writes beside Cargo.toml.
build_sbom() {
    "$tools/cargo-cyclonedx" cyclonedx --quiet --format json --spec-version 1.5 --override-filename .sbom-of-icm
    sed "s|path+file://$source#|path+file:///domino-icm#|" .sbom-of-icm.json >"$work/out/domino-icm-$version.cdx.json"
    rm .sbom-of-icm.json
}

[ -n "${ICM-}" ] || { release_build --bin icm; ICM=$target/release/icm; }
ICM=$(realpath "$ICM")
mkdir -p "$out"
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
doc=usr/share/doc/domino-icm
mkdir -p "$work/out" "$work/src"
stage
(cd "$root" && find . -type f -printf '%m %P\n' | sort -k2) >"$work/files"
cp LICENSE "$work"
echo 'fn main() {}' >"$work/src/main.rs"
manifest >"$work/Cargo.toml"
build_deb
build_rpm
build_sbom
# Older artefacts of this version go, those of others stay.
mv "$work"/out/* "$out"
"$here/checksums.sh" "$out"
(cd "$out" && sha256sum --check --quiet SHA256SUMS && ls -l)
