#!/usr/bin/env bash
# Proves that the commands of models/training fit together: a model of drawn squares, trained, exported and measured in a
# minute. By Debian's torch, which is small; models/training/requirements.txt names what the shipped model was made with.
set -euo pipefail
cd "$(dirname "$0")/.."
skip() { printf 'smoke training: SKIPPED, %s\n' "$*"; exit 0; }

packages=(python3-torch python3-opencv python3-onnx python3-venv)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || skip "these Debian packages are missing: ${missing[*]}"
  { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } >/tmp/aerie-apt.log 2>&1 \
    || skip "apt-get failed (whole log: /tmp/aerie-apt.log)"
fi
venv=.deps/training
[ -x "$venv/bin/python" ] || /usr/bin/python3 -m venv --system-site-packages "$venv"
"$venv/bin/python" -c 'import onnxruntime' 2>/dev/null || "$venv/bin/pip" install -q --no-deps "$(grep '^onnxruntime==' models/training/requirements.txt)" \
  || skip "ONNX Runtime for Python could not be downloaded"
nice "$venv/bin/python" models/training/smoke.py
