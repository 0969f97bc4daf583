#!/usr/bin/env bash
# Builds for arm64, and proves it under emulation. Debian 12 on x86-64, as root, with rustup.
#   cross/arm64.sh build       target/aarch64-unknown-linux-gnu/release/aerie
#   cross/arm64.sh test        unit tests and a sortie of the demo under qemu-user; the summary goes to .deps/cross/demo.json
set -euo pipefail
cd "$(dirname "$0")/.."
die() { printf 'arm64: %s\n' "$*" >&2; exit 1; }

packages=(gcc-aarch64-linux-gnu g++-aarch64-linux-gnu mmdebstrap)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || die "these Debian packages are missing: ${missing[*]}"
  { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } >/tmp/aerie-apt.log 2>&1 \
    || die "apt-get failed (whole log: /tmp/aerie-apt.log)"
fi
rustup target list --installed | grep -qx aarch64-unknown-linux-gnu || rustup target add aarch64-unknown-linux-gnu
scripts/onnxruntime.sh aarch64 .deps/cross/onnxruntime
# shellcheck source=cross/env.sh
source cross/env.sh

case "$1" in
  build)
    cargo build --release --locked
    ;;
  test)
    cross/qemu.sh
    cargo build --release --locked
    aerie=target/$CARGO_BUILD_TARGET/release/aerie
    file -b "$aerie" 2>/dev/null | grep -q aarch64 || [ "$(od -An -tx2 -j18 -N2 "$aerie")" = " 00b7" ] || die "$aerie is not for arm64"
    # Without the serial line: qemu-user has no pseudo-terminal in the way the test opens one (ENODEV).
    # Optimised as the tests of this machine are, which compiles in a third of the time.
    cargo test --release --locked --lib --config 'profile.release.package.aerie.opt-level=1' -- \
      --skip a_serial_line_carries_both_ways ${AERIE_TEST_FILTER:-}
    # The emulated processor needs some ninety times as long for a picture: real time, one sortie, and no delay to judge by.
    rm -rf .deps/cross/demo && mkdir -p .deps/cross
    "$aerie" demo --headless --sorties 1 --speed "${AERIE_DEMO_SPEED:-1}" --seed 1 --latency-limit 900 \
      --out .deps/cross/demo --summary .deps/cross/demo.json
    cat .deps/cross/demo.json
    ;;
  *) die "build or test" ;;
esac
