#!/usr/bin/env bash
# Installs a package in a fresh Debian 12 tree, runs the station as a process, upgrades, refuses to downgrade, removes and
# purges. There is no systemd in such a tree: cross/try-systemd.sh has that. As root; arm64 runs under qemu-user.
#   cross/try-deb.sh amd64|arm64
set -euo pipefail
cd "$(dirname "$0")/.."
arch=$1
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
deb=target/package/aerie_${version}_$arch.deb
[ -f "$deb" ] || { echo "try-deb: $deb is missing; cross/deb.sh $arch" >&2; exit 1; }
newer=$version+next
AERIE_BUILD=no AERIE_VERSION=$newer cross/deb.sh "$arch" >/dev/null
next=target/package/aerie_${newer}_$arch.deb

tree=
say() { printf 'try-deb %s: %s\n' "$arch" "$*"; }
fail() { say "FAILED: $*" >&2; tail -20 "$tree/tmp/station.log" 2>/dev/null >&2 || true; exit 1; }

# A tree with what the package declares and nothing else: a missing dependency shows.
depends=$(dpkg-deb -f "$deb" Depends | sed -e 's/([^)]*)//g' -e 's/ //g')
base=.deps/trees/$arch-$(printf '%s' "$depends" | sha256sum | cut -c1-8).tar
if [ ! -f "$base" ]; then
  if [ "$arch" != amd64 ]; then
    cross/qemu.sh
    command -v arch-test >/dev/null || { apt-get install -q -y --no-install-recommends arch-test >/tmp/aerie-apt.log 2>&1 || fail "arch-test is missing"; }
  fi
  say "making a Debian 12 tree, once"
  mkdir -p .deps/trees
  mmdebstrap --quiet --variant=minbase --architectures="$arch" --include="$depends" bookworm "${base%.tar}.new.tar"
  mv "${base%.tar}.new.tar" "$base"
fi
[ "$arch" = amd64 ] || cross/qemu.sh

tree=$(mktemp -d)
station=
cleanup() {
  [ -z "$station" ] || kill "$station" 2>/dev/null || true
  [ -z "$station" ] || wait "$station" 2>/dev/null || true
  umount "$tree/proc" "$tree/dev" 2>/dev/null || true
  rm -rf --one-file-system "$tree"
}
trap cleanup EXIT
tar -xf "$base" -C "$tree" --exclude='./dev/*'
mount -t proc proc "$tree/proc"
mount --bind /dev "$tree/dev"
cp "$deb" "$next" "$tree/tmp/"
root=(chroot "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive)
inside() { "${root[@]}" "$@"; }
as_aerie() { inside setpriv --reuid aerie --regid aerie --init-groups "$@"; }

# run_and_look [COMMAND]: the command runs beside the station, which looks as it should.
run_and_look() {
  # Not through a function: what is killed later must be the station itself.
  "${root[@]}" setpriv --reuid aerie --regid aerie --init-groups /usr/lib/aerie/aerie-station --config /etc/aerie/station.toml 2>>"$tree/tmp/station.log" &
  station=$!
  local limit=$((SECONDS + 180)) status=
  until status=$(inside aerie service status --config /etc/aerie/station.toml --json 2>/dev/null || true) &&
    [[ $status == *'"running": true'* ]]; do
    kill -0 "$station" 2>/dev/null || fail "the station ended"
    [ $SECONDS -lt $limit ] || fail "perception is not running after 180 s: $status"
    sleep 1
  done
  grep -q "\"version\": \"$version\"" <<<"$status" || fail "another version answers"
  # There is neither drone nor dock here, and it says so; everything that came with the package must be well.
  local doctor
  doctor=$(as_aerie aerie doctor --config /etc/aerie/station.toml --json || true)
  for part in configuration model disk; do
    grep -A1 "\"part\": \"$part\"" <<<"$doctor" | grep -q '"grade": "ok"' || fail "doctor: $part: $doctor"
  done
  [ $# = 0 ] || "$@"
  as_aerie aerie support-bundle --config /etc/aerie/station.toml --log /etc/hostname --out /tmp/bundle-$SECONDS.tar.gz >/dev/null
  kill "$station" && wait "$station" || fail "the station did not end in order"
  station=
}

hold() { inside aerie service hold --reason upgrade >/dev/null || fail "hold"; }
held() {
  local status
  status=$(inside aerie service status --json || true)
  grep -q "held by .*: $1" <<<"$status" || fail "not held: $1: $status"
}

say "install"
inside dpkg -i "/tmp/$(basename "$deb")" >"$tree/tmp/dpkg.log" 2>&1 || { cat "$tree/tmp/dpkg.log"; fail "dpkg -i"; }
inside aerie --version
inside sh -c 'test -f /usr/share/man/man1/aerie-doctor.1.gz -a -f /usr/share/bash-completion/completions/aerie'
inside sh -c '! ldd /usr/bin/aerie /usr/lib/aerie/aerie-station | grep "not found"' || fail "a library is missing"
say "set up and run"
inside aerie setup --id try-01 --name Try --lat 23.05 --lon 113 --vehicle udpin:127.0.0.1:0 --broker mqtt://127.0.0.1:9 \
  --dock http://127.0.0.1:9 --weather http://127.0.0.1:9 >/dev/null
if inside aerie setup --id x --name X --lat 0 --lon 0 >/dev/null 2>&1; then fail "setup overwrote a configuration"; fi
sed -i "s/127.0.0.1:8480/127.0.0.1:${AERIE_TRY_PORT:-18480}/" "$tree/etc/aerie/station.toml"
inside aerie config check /etc/aerie/station.toml
run_and_look hold
before=$(sha256sum < "$tree/etc/aerie/console.token")
as_aerie aerie backup --config /etc/aerie/station.toml --out /var/lib/aerie/backup.tar.gz >/dev/null
[ -s "$tree/var/lib/aerie/aerie.db" ] || fail "no state was kept"

say "upgrade"
inside dpkg -i "/tmp/$(basename "$next")" >"$tree/tmp/dpkg.log" 2>&1 || { cat "$tree/tmp/dpkg.log"; fail "upgrade"; }
[ "$(sha256sum < "$tree/etc/aerie/console.token")" = "$before" ] || fail "the upgrade changed a key"
run_and_look held upgrade
say "reset and restore"
mv "$tree/var/lib/aerie/backup.tar.gz" "$tree/root/"
inside aerie reset --yes >/dev/null || fail "reset"
inside aerie restore /root/backup.tar.gz --config /etc/aerie/station.toml >/dev/null || fail "restore"
# As its own user: what root put back has to be its own.
run_and_look held "put back from a backup"
say "downgrade"
if inside dpkg -i "/tmp/$(basename "$deb")" >"$tree/tmp/dpkg.log" 2>&1; then fail "a downgrade went through"; fi
grep -q "refusing to go back" "$tree/tmp/dpkg.log" || fail "a downgrade was refused without a reason"
inside env AERIE_DOWNGRADE=1 dpkg -i "/tmp/$(basename "$deb")" >/dev/null 2>&1 || fail "a downgrade that was asked for"
# A database of a newer layout is refused by the program, whatever dpkg was told.
sqlite='import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute("PRAGMA user_version=99"); c.commit()'
python3 -c "$sqlite" "$tree/var/lib/aerie/aerie.db"
as_aerie timeout 60 /usr/lib/aerie/aerie-station --config /etc/aerie/station.toml 2>"$tree/tmp/newer.log" && fail "a newer layout was opened"
grep -q "written by a newer aerie" "$tree/tmp/newer.log" || fail "a newer layout: no reason was given"
say "remove"
inside dpkg -r aerie >/dev/null 2>&1
[ -s "$tree/var/lib/aerie/aerie.db" ] && [ -f "$tree/etc/aerie/station.toml" ] || fail "removing took the state"
say "purge"
inside dpkg -P aerie >/dev/null 2>&1
left=$(find "$tree" -xdev \( -path "$tree/tmp" -o -path "$tree/proc" -o -path "$tree/dev" -o -path "$tree/var/lib/dpkg" -o -path "$tree/var/log" \) -prune -o -name '*aerie*' -print)
[ -z "$left" ] || fail "left behind: $left"
if grep -q '^aerie:' "$tree/etc/passwd"; then fail "the user is still there"; fi
say "passed"
