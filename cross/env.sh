# To be sourced: everything cargo needs to build for arm64 on an x86-64 Debian 12, without a container.
# shellcheck shell=bash
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
sysroot=$("$root/cross/sysroot.sh")
export CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$root/cross/aarch64-linker
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CXX_aarch64_unknown_linux_gnu=aarch64-linux-gnu-g++
export AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar
# The bindings are made of these headers; nothing of this machine may be probed.
export OPENCV_INCLUDE_PATHS=$sysroot/usr/include/opencv4,$sysroot/usr/include/aarch64-linux-gnu/opencv4
export OPENCV_LINK_PATHS=$sysroot/usr/lib/aarch64-linux-gnu
export OPENCV_LINK_LIBS=opencv_core,opencv_imgproc,opencv_imgcodecs,opencv_videoio
export OPENCV_DISABLE_PROBES=pkg_config,cmake,vcpkg_cmake,vcpkg
# What is run here all the same runs under qemu-user against the same sysroot.
export QEMU_LD_PREFIX=$sysroot
export AERIE_ONNXRUNTIME=$root/.deps/cross/onnxruntime/libonnxruntime.so
