#!/usr/bin/env bash
# Debian 12 for arm64, unpacked and never installed: headers and libraries to link against. Kept apart from this machine's
# own packages, because arm64 -dev packages installed beside the native ones remove those.
#   cross/sysroot.sh     makes .deps/cross/sysroot, prints its path; quiet and offline when done
set -euo pipefail
cd "$(dirname "$0")/.."

packages=libc6-dev,libstdc++-12-dev,libgcc-12-dev,libopencv-core-dev,libopencv-imgproc-dev,libopencv-imgcodecs-dev,libopencv-videoio-dev
sysroot=$PWD/.deps/cross/sysroot
if [ "$(cat "$sysroot/.made-of" 2>/dev/null)" != "$packages" ]; then
  command -v mmdebstrap >/dev/null || { echo "sysroot: mmdebstrap is missing: apt-get install mmdebstrap" >&2; exit 1; }
  echo "sysroot: unpacking Debian 12 for arm64 (some 2 GB)" >&2
  rm -rf "$sysroot"
  mkdir -p "$(dirname "$sysroot")"
  mmdebstrap --quiet --variant=extract --architectures=arm64 --include="$packages" bookworm "$sysroot" >&2
  # An absolute link would lead out of the sysroot, into this machine.
  find "$sysroot/usr/lib" "$sysroot/lib" -xtype l -lname '/*' 2>/dev/null | while read -r link; do
    target=$sysroot$(readlink "$link")
    [ -e "$target" ] && ln -sfr "$target" "$link"
  done
  # What the packages' own scripts would have set up.
  lib=$sysroot/usr/lib/aarch64-linux-gnu
  for name in blas/libblas.so.3 lapack/liblapack.so.3; do
    [ -e "$lib/$name" ] && ln -sf "$name" "$lib/$(basename "$name")"
  done
  echo "$packages" > "$sysroot/.made-of"
fi
echo "$sysroot"
