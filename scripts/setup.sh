#!/usr/bin/env bash
# Everything `make` needs on Debian 12: packages, ONNX Runtime, the page's assets. Idempotent; quiet and offline when done.
#   scripts/setup.sh          for building and the demo
#   scripts/setup.sh test     also what the tests use
#   scripts/setup.sh training also Debian's torch, for the smoke training
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# --- Debian packages ---------------------------------------------------------------------------------------------
# Only the four OpenCV modules in use: libopencv-dev would bring Qt and VTK.
packages=(libopencv-core-dev libopencv-imgproc-dev libopencv-imgcodecs-dev libopencv-videoio-dev
          clang libclang-dev build-essential pkg-config mosquitto mosquitto-clients python3-pip unzip)
command -v npm >/dev/null || packages+=(nodejs npm)
[ "${1:-}" = test ] && packages+=(gdal-bin libfaketime systemd)
[ "${1:-}" = training ] && packages+=(python3-torch python3-opencv python3-onnx python3-venv)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || die "these Debian packages are missing: ${missing[*]}; run as root, or: apt-get install ${missing[*]}"
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # On a machine that runs no service yet, installing the broker must not start one on the standard port.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } >/tmp/aerie-apt.log 2>&1 \
    || { tail -5 /tmp/aerie-apt.log >&2; die "apt-get failed (whole log: /tmp/aerie-apt.log); check the network and the package sources"; }
fi

# --- Rust --------------------------------------------------------------------------------------------------------
command -v cargo >/dev/null || die "cargo is missing; install Rust (rustup) and run make again"

# --- ONNX Runtime ------------------------------------------------------------------------------------------------
scripts/onnxruntime.sh "$(uname -m)" .deps/onnxruntime

# --- the web page ------------------------------------------------------------------------------------------------
web=src/console/web
stamp=$web/dist/.built-from
sources=$(find $web -path $web/node_modules -prune -o -path $web/dist -prune -o -type f -print0 | sort -z | xargs -0 cat | sha256sum)
if [ "$(cat $stamp 2>/dev/null)" != "$sources" ]; then
  say "building the web page"
  (cd $web && npm install --no-save --silent --no-audit --no-fund && npm run --silent build) >/tmp/aerie-npm.log 2>&1 \
    || { tail -5 /tmp/aerie-npm.log >&2; die "the web page could not be built (whole log: /tmp/aerie-npm.log)"; }
  echo "$sources" > $stamp
fi

# --- the test runner ---------------------------------------------------------------------------------------------
if [ "${1:-}" = test ] && ! cargo nextest --version >/dev/null 2>&1; then
  say "installing cargo-nextest (a few minutes, once)"
  cargo install -q --locked cargo-nextest || die "cargo-nextest could not be installed; check the network"
fi
