#!/usr/bin/env bash
# The Debian package of one architecture, by dpkg-deb: the same bytes from the same commit and compiler.
#   cross/deb.sh amd64|arm64      target/package/aerie_VERSION_ARCH.deb
# AERIE_VERSION overrides the version (cross/try-deb.sh makes an upgrade of it); AERIE_BUILD=no takes the binary that is there.
set -euo pipefail
cd "$(dirname "$0")/.."
die() { printf 'deb: %s\n' "$*" >&2; exit 1; }

arch=$1
version=${AERIE_VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)}
# The time of the commit, so that a package does not know when it was made.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1767225600)}
export TZ=UTC LC_ALL=C.UTF-8
umask 022

case "$arch" in
  amd64) binary=target/release/aerie runtime=.deps/onnxruntime strip=strip ;;
  arm64) binary=target/aarch64-unknown-linux-gnu/release/aerie runtime=.deps/cross/onnxruntime strip=aarch64-linux-gnu-strip ;;
  *) die "amd64 or arm64" ;;
esac
if [ "${AERIE_BUILD:-yes}" = yes ]; then
  if [ "$arch" = arm64 ]; then cross/arm64.sh build; else cargo build --release --locked; fi
fi
[ -x "$binary" ] && [ -x "$binary-station" ] || die "$binary or $binary-station is missing"
[ -f "$runtime/libonnxruntime.so" ] || die "$runtime is missing; make setup, or make arm64"

stage=target/package/$arch
rm -rf "$stage" && mkdir -p "$stage/DEBIAN"
put() { install -D -m "$1" "$2" "$stage/$3"; }
put 755 "$binary" usr/bin/aerie
put 755 "$binary-station" usr/lib/aerie/aerie-station
$strip --strip-unneeded --remove-section=.comment "$stage/usr/bin/aerie" "$stage/usr/lib/aerie/aerie-station"
# Flight must neither hold nor wait for what only perception needs. libopencv_core alone stays: initialisers of the bindings.
if readelf -d "$stage/usr/lib/aerie/aerie-station" | grep -q 'NEEDED.*opencv_[^c]'; then die "aerie-station was linked with what reads pictures"; fi
put 644 "$runtime/libonnxruntime.so" usr/lib/aerie/libonnxruntime.so
for file in manifest.toml model.onnx CARD.md CARD.zh-CN.md; do put 644 models/default/$file usr/share/aerie/models/default/$file; done
put 644 systemd/aerie.service usr/lib/systemd/system/aerie.service
put 644 systemd/aerie.sysusers usr/lib/sysusers.d/aerie.conf
put 644 systemd/aerie.tmpfiles usr/lib/tmpfiles.d/aerie.conf

# Pages and completions come from the program itself. A foreign one runs under qemu-user.
files=$stage.files
rm -rf "$files"
if [ "$arch" = arm64 ]; then
  cross/qemu.sh
  QEMU_LD_PREFIX=$PWD/.deps/cross/sysroot "$binary" package-files "$files"
else
  "$binary" package-files "$files"
fi
for page in "$files"/man/*.1; do put 644 "$page" usr/share/man/man1/"$(basename "$page")"; done
gzip -9n "$stage"/usr/share/man/man1/*.1
put 644 "$files/completions/aerie" usr/share/bash-completion/completions/aerie
put 644 "$files/completions/_aerie" usr/share/zsh/vendor-completions/_aerie
put 644 "$files/completions/aerie.fish" usr/share/fish/vendor_completions.d/aerie.fish
put 644 "$files/station.toml" usr/share/doc/aerie/examples/station.toml

doc=usr/share/doc/aerie
for page in deploying hardware; do put 644 docs/$page.md $doc/$page.md; done
put 644 systemd/debian/copyright $doc/copyright
for file in LICENSE ThirdPartyNotices.txt; do put 644 "$runtime/$file" $doc/onnxruntime/$file; done
python3 scripts/third_party.py --target "$([ "$arch" = arm64 ] && echo aarch64 || echo x86_64)-unknown-linux-gnu" \
  --notices "$stage/$doc/THIRD-PARTY.txt" --sbom "$stage/$doc/sbom.cdx.json" --runtime "$runtime"
gzip -9n "$stage/$doc/THIRD-PARTY.txt" "$stage/$doc/onnxruntime/ThirdPartyNotices.txt"
printf 'aerie (%s) stable; urgency=medium\n\n  * See the repository.\n\n -- aerie maintainers <maintainers@aerie.invalid>  %s\n' \
  "$version" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n > "$stage/$doc/changelog.gz"
chmod 644 "$stage/$doc/changelog.gz"

size=$(du -sk --apparent-size "$stage" | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@SIZE@/$size/" systemd/debian/control.in > "$stage/DEBIAN/control"
for script in preinst postinst prerm postrm; do
  sed "s/@VERSION@/$version/g" systemd/debian/$script > "$stage/DEBIAN/$script"
  chmod 755 "$stage/DEBIAN/$script"
done
(cd "$stage" && find usr -type f -print0 | sort -z | xargs -0 md5sum > DEBIAN/md5sums)
# GPL code of Debian's libraries is depended on, never carried: nothing but ONNX Runtime may be a library here.
[ "$(find "$stage" -name '*.so*' | sed 's|.*/||')" = libonnxruntime.so ] || die "a library that is not ours to ship is in the package"
find "$stage" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
deb=target/package/aerie_${version}_${arch}.deb
dpkg-deb --root-owner-group --uniform-compression -Zxz --build "$stage" "$deb" >/dev/null
printf '%s  %s bytes  sha256 %s\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d' ' -f1)"
