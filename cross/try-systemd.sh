#!/usr/bin/env bash
# The amd64 package under a real systemd: Debian 12 in a virtual machine with control groups of version 2. Proves what a
# chroot cannot: READY and how soon, the sandbox with everything in it that aerie does, the watchdog, and perception driven
# out of memory while the station stays up. As root. The processor is emulated, so that it runs inside a virtual machine too:
# some ten times slower than the real one, AERIE_VM=kvm where that works.
#   cross/try-systemd.sh       prints what the machine found; fails when a check fails
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
deb=target/package/aerie_${version}_amd64.deb
[ -f "$deb" ] || { echo "try-systemd: $deb is missing; cross/deb.sh amd64" >&2; exit 1; }
for tool in qemu-system-x86_64 mmdebstrap mke2fs; do
  command -v $tool >/dev/null || { echo "try-systemd: $tool is missing: apt-get install qemu-system-x86 mmdebstrap e2fsprogs" >&2; exit 1; }
done

AERIE_BUILD=no AERIE_VERSION=$version+next cross/deb.sh amd64 >/dev/null
next=target/package/aerie_$version+next_amd64.deb
depends=$(dpkg-deb -f "$deb" Depends | sed -e 's/([^)]*)//g' -e 's/ //g')
base=.deps/trees/systemd.tar
if [ ! -f "$base" ]; then
  echo "try-systemd: making a Debian 12 with systemd and a kernel, once"
  mkdir -p .deps/trees
  mmdebstrap --quiet --variant=minbase --include="$depends,systemd-sysv,udev,linux-image-cloud-amd64,initramfs-tools,kmod" bookworm "${base%.tar}.new.tar"
  mv "${base%.tar}.new.tar" "$base"
fi

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
tree=$work/tree
mkdir "$tree"
tar -xf "$base" -C "$tree" --exclude='./dev/*'
cp "$deb" "$tree/root/aerie.deb"
cp "$next" "$tree/root/next.deb"
cat > "$tree/root/check.sh" <<'CHECK'
#!/bin/bash
# Runs inside the machine.
export DEBIAN_FRONTEND=noninteractive
failed=0
check() { local what=$1; shift; if "$@" >/tmp/said 2>&1; then echo "CHECK ok   $what"; else echo "CHECK FAIL $what"; head -5 /tmp/said; failed=1; fi; }
show() { systemctl show -P "$1" aerie; }
running() { aerie service status --config /etc/aerie/station.toml --json 2>/dev/null | grep -q '"running": true'; }
wait_running() { for _ in $(seq 240); do running && return; sleep 1; done; return 1; }
restarts() { aerie service status --config /etc/aerie/station.toml --json | sed -n 's/.*"restarts": \([0-9]*\).*/\1/p'; }
group=/sys/fs/cgroup/system.slice/aerie.service

dpkg -i /root/aerie.deb >/dev/null 2>&1
check "a package that is not set up is no failure" systemctl start aerie
check "and does not run" test "$(show ActiveState)" = inactive
aerie setup --id vm-01 --name VM --lat 23 --lon 113 --vehicle udpin:127.0.0.1:14550 --broker mqtt://127.0.0.1:9 --dock http://127.0.0.1:9 --weather http://127.0.0.1:9 >/dev/null
check "enabled and started: READY was said" systemctl enable --now aerie
start=$(show ExecMainStartTimestampMonotonic) ready=$(show ActiveEnterTimestampMonotonic)
echo "MEASURE start to READY: $(( (ready - start) / 1000 )) ms (first start: databases are made)"
systemctl restart aerie
start=$(show ExecMainStartTimestampMonotonic) ready=$(show ActiveEnterTimestampMonotonic)
echo "MEASURE start to READY: $(( (ready - start) / 1000 )) ms (second start)"
check "the model loads in the sandbox" wait_running
echo "MEASURE start to model loaded: $(journalctl -u aerie -o short-monotonic --no-pager | grep 'perception ready' | tail -1 | sed 's/\].*/]/') beside READY at $(( ready / 1000000 )) s"
echo "STATUS $(show StatusText)"
check "the station is in its own group" grep -qx "$(show MainPID)" $group/station/cgroup.procs
check "perception is in its own group, with its limit" test "$(cat $group/perception/memory.max)" = 629145600
check "one child is in it" test "$(wc -l < $group/perception/cgroup.procs)" = 1
systemd-analyze security --no-pager aerie | tail -1 | sed 's/^/MEASURE /'

main=$(show MainPID) before=$(restarts)
echo 8M > $group/perception/memory.max
for _ in $(seq 60); do grep -Eq '^oom_kill [1-9]' $group/perception/memory.events && break; sleep 1; done
check "out of memory: the kernel ended perception" grep -Eq '^oom_kill [1-9]' $group/perception/memory.events
check "the station stayed up" test "$(show MainPID)" = "$main" -a "$(show ActiveState)" = active
echo 600M > $group/perception/memory.max
check "another child runs" wait_running
check "and it is a new one" test "$(restarts)" -gt "$before"
journalctl -u aerie --no-pager | grep -m1 'needed more than' | sed 's/^/LOG /'

check "it answers again" sh -c "aerie service status --config /etc/aerie/station.toml --json | grep -q vm-01"
kill -STOP "$main"
for _ in $(seq 60); do [ "$(show MainPID)" = "$main" ] || break; sleep 1; done
sleep 5
check "hung: the watchdog started the station anew" test "$(show NRestarts)" -ge 1
journalctl -u aerie --no-pager | grep -m1 -i watchdog | sed 's/^/LOG /'
check "which runs" wait_running
aerie doctor --config /etc/aerie/station.toml | sed 's/^/DOCTOR /'
main=$(show MainPID)
check "an upgrade goes in" dpkg -i /root/next.deb
check "and starts the station anew" test "$(show MainPID)" != "$main" -a "$(show ActiveState)" = active
check "which runs" wait_running
# A key that the station's user finds nowhere on the disk.
install -d -m 700 /etc/aerie/keys
mv /etc/aerie/console.token /etc/aerie/keys/
chown -R root:root /etc/aerie/keys
sed -i 's|^token_file = .*|token_file = "/run/credentials/aerie.service/console.token"|' /etc/aerie/station.toml
mkdir -p /etc/systemd/system/aerie.service.d
printf '[Service]\nLoadCredential=console.token:/etc/aerie/keys/console.token\n' > /etc/systemd/system/aerie.service.d/keys.conf
systemctl daemon-reload
check "a key comes by LoadCredential" systemctl restart aerie
check "and opens the console" wait_running
check "it stops in order" systemctl stop aerie
check "with success" test "$(show Result)" = success
check "purged" dpkg -P aerie
echo "CHECK done failed=$failed"
systemctl poweroff --force
CHECK
chmod +x "$tree/root/check.sh"
cat > "$tree/etc/systemd/system/check.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/root/check.sh
StandardOutput=file:/dev/ttyS1
StandardError=file:/dev/ttyS1
[Install]
WantedBy=multi-user.target
UNIT
mkdir -p "$tree/etc/systemd/system/multi-user.target.wants"
ln -s ../check.service "$tree/etc/systemd/system/multi-user.target.wants/check.service"
sed -i 's/^After=.*/After=basic.target/' "$tree/etc/systemd/system/check.service"
: > "$tree/etc/fstab"
mke2fs -q -t ext4 -d "$tree" "$work/disk.img" 4G
kernel=$(echo "$tree"/boot/vmlinuz-*) initrd=$(echo "$tree"/boot/initrd.img-*)
log=.deps/trees/systemd.log
timeout 1500 qemu-system-x86_64 -accel "${AERIE_VM:-tcg,thread=multi}" -cpu max -m 2048 -smp 2 -display none -no-reboot -serial "file:$log.console" -serial "file:$log" \
  -drive "file=$work/disk.img,format=raw,if=virtio,cache=unsafe" -kernel "$kernel" -initrd "$initrd" \
  -append "root=/dev/vda rw console=ttyS0 quiet systemd.unified_cgroup_hierarchy=1 systemd.show_status=0"
grep -aE '^(CHECK|MEASURE|STATUS|LOG|DOCTOR)' "$log" | tr -d '\r' || true
grep -aq 'CHECK done failed=0' "$log" || { echo "try-systemd: FAILED, whole log: $log" >&2; exit 1; }
