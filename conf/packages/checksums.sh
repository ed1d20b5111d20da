#!/usr/bin/env bash
# Writes SHA256SUMS for all artefacts in a folder: `conf/packages/checksums.sh target/packages`.
set -euo pipefail
cd "$1"
find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\n' | LC_ALL=C sort | xargs -r -d '\n' sha256sum >SHA256SUMS
