#!/usr/bin/env bash
# Builds an image from nothing but one static binary: image.sh PACKAGE BINARY IMAGE. `DOCKER_HOST` says which engine it is for.
set -euo pipefail
cd "$(dirname "$0")/.."
package=$1 binary=$2 image=$3

arch=$(uname -m)
target="$arch-unknown-linux-musl"
if command -v rustup >/dev/null && ! rustup target list --installed | grep -qx "$target"; then rustup target add "$target" >&2; fi
# In a folder of its own, so that a build that is under way need not be waited for.
"${CARGO:-cargo}" build --quiet --locked --profile guest --target "$target" -p "$package" --bin "$binary" --target-dir target/containers >&2

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
install -m 0755 "target/containers/$target/guest/$binary" "$root/$binary"
# Mount points, which a root that cannot be written to has to have.
mkdir -p "$root/tmp" "$root/run/tower" "$root/workspace"
# What is mounted at /tmp takes its mode from here.
chmod 1777 "$root/tmp"
chmod 0755 "$root"
tar --owner=0 --group=0 -C "$root" -c . | docker import --change "ENTRYPOINT [\"/$binary\"]" - "$image"
