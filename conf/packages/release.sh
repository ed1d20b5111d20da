# What all builds of artefacts have in common; sourced by build.sh and ../container/static.sh, in the root of the tree. The
# caller sets `target`, the build folder.

# Nothing may depend on the settings of the user who builds.
export LC_ALL=C TZ=UTC
umask 022

: "${CARGO:=cargo}"
# Outside a checkout the time of the changelog must do.
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}"
export SOURCE_DATE_EPOCH

# Without the paths of this machine, in Rust's messages and in those of the C code.
release_build() { # release_build ARGUMENT-OF-CARGO...
    local cargo_home=${CARGO_HOME:-$HOME/.cargo} flags
    flags=$(sed -n 's/^CFLAGS = "\(.*\)"/\1/p' .cargo/config.toml)
    CFLAGS="$flags -ffile-prefix-map=$PWD=/domino-icm -ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$target=/target" \
        RUSTFLAGS="--remap-path-prefix=$PWD=/domino-icm --remap-path-prefix=$cargo_home=/cargo --remap-path-prefix=$target=/target" \
        "$CARGO" build --release --locked "$@"
}
