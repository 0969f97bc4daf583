#!/usr/bin/env bash
# Lets this machine's kernel start arm64 programs, through Debian's static qemu. Nothing to do when it can.
set -euo pipefail
misc=/proc/sys/fs/binfmt_misc
[ -e $misc/qemu-aarch64 ] && exit 0
if [ ! -x /usr/bin/qemu-aarch64-static ]; then
  [ "$(id -u)" = 0 ] || { echo "qemu: qemu-user-static is missing; apt-get install it" >&2; exit 1; }
  { apt-get update -q && apt-get install -q -y --no-install-recommends qemu-user-static; } >/tmp/aerie-apt.log 2>&1 \
    || { echo "qemu: apt-get failed (whole log: /tmp/aerie-apt.log)" >&2; exit 1; }
fi
[ -e $misc/register ] || mount -t binfmt_misc none $misc
# As Debian's qemu-user-static registers it. F: the interpreter is opened now, so it works inside a chroot too.
printf '%s' ':qemu-aarch64:M:0:\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:F' > $misc/register
