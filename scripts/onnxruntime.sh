#!/usr/bin/env bash
# ONNX Runtime out of its Python wheel, by its pinned SHA-256: the only form in which a package registry carries it.
#   scripts/onnxruntime.sh x86_64|aarch64 FOLDER      nothing to do, and offline, when it is there
set -euo pipefail
die() { printf 'onnxruntime: %s\n' "$*" >&2; exit 1; }

version=1.24.4
case "$1" in
  x86_64)  sha=e54ad52e61d2d4618dcff8fa1480ac66b24ee2eab73331322db1049f11ccf330 ;;
  aarch64) sha=046ff290045a387676941a02a8ae5c3ebec6b4f551ae228711968c4a69d8f6b7 ;;
  *) die "no ONNX Runtime for $1; aerie runs on x86_64 and aarch64" ;;
esac
target=$2
[ "$(cat "$target/version" 2>/dev/null)" != "$version $sha" ] || exit 0
printf 'setup: fetching ONNX Runtime %s for %s\n' "$version" "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download -q --no-deps --only-binary=:all: --platform "manylinux_2_28_$1" --python-version 311 \
  --implementation cp --abi cp311 -d "$work" "onnxruntime==$version" 2>"$work/log" \
  || { tail -3 "$work/log" >&2; die "version $version could not be downloaded; check the network and run make again"; }
echo "$sha  $(echo "$work"/onnxruntime-*.whl)" | sha256sum -c --quiet - \
  || die "the wheel does not have the pinned sha256; nothing was installed"
mkdir -p "$target"
unzip -q -o -j "$work"/onnxruntime-*.whl 'onnxruntime/capi/libonnxruntime.so*' 'onnxruntime/LICENSE' \
  'onnxruntime/ThirdPartyNotices.txt' -d "$target"
mv "$target"/libonnxruntime.so.* "$target/libonnxruntime.so"
echo "$version $sha" > "$target/version"
