#!/usr/bin/env bash
# Proves that the commands of models/training fit together: a model of drawn squares, trained, exported and measured in a
# minute. By Debian's torch, which is small; models/training/requirements.txt names what the shipped model was made with.
set -euo pipefail
cd "$(dirname "$0")/.."
skip() { printf 'smoke training: SKIPPED, %s\n' "$*"; exit 0; }

scripts/setup.sh training || skip "see above"
venv=.deps/training
[ -x "$venv/bin/python" ] || /usr/bin/python3 -m venv --system-site-packages "$venv"
"$venv/bin/python" -c 'import onnxruntime' 2>/dev/null || "$venv/bin/pip" install -q --no-deps "$(grep '^onnxruntime==' models/training/requirements.txt)" \
  || skip "ONNX Runtime for Python could not be downloaded"
nice "$venv/bin/python" models/training/smoke.py
