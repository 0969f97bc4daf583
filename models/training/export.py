"""Checkpoint -> ONNX and a check that both give the same: `python models/training/export.py`.

Writes `model.onnx` (opset 17, any multiple of 32 in height and width) and puts its sha256 into
the manifest beside it, if there is one.
"""

from __future__ import annotations

import argparse
import inspect
import hashlib
import re
import sys
from pathlib import Path

import numpy as np
import torch

from data import DEFAULT_RUN, REPO
from model import CLASSES, CellDetector, Exported, load_saved
from networks import NETWORKS

SIZES = ((640, 640), (768, 1024), (320, 416))  # height, width


def load(checkpoint: Path) -> CellDetector:
    saved = load_saved(checkpoint)
    net = NETWORKS[saved.get("network", "aerie")]()
    net.load_state_dict(saved["ema"])
    return net.eval()


def export(net: CellDetector, out: Path) -> None:
    model = Exported(net.fuse()).eval()
    out.parent.mkdir(parents=True, exist_ok=True)
    # Torch before 2.5 has the one exporter only, and no word for it.
    choice = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(
        model, (torch.rand(1, 3, 320, 416),), str(out), opset_version=17, **choice,
        input_names=["images"], output_names=["output0"],
        dynamic_axes={"images": {2: "height", 3: "width"}, "output0": {2: "boxes"}},
    )
    verify(model, out)


def verify(model: Exported, path: Path) -> None:
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for h, w in SIZES:
        x = rng.random((1, 3, h, w), np.float32)
        got = session.run(["output0"], {"images": x})[0]
        with torch.no_grad():
            want = model(torch.from_numpy(x)).numpy()
        cells = sum((h // s) * (w // s) for s in (8, 16, 32))
        if got.shape != (1, 4 + len(CLASSES), cells):
            raise SystemExit(f"{path}: output at {w}x{h} is {got.shape}, expected (1, {4 + len(CLASSES)}, {cells})")
        worst_px, worst_p = np.abs(got - want)[:, :4].max(), np.abs(got - want)[:, 4:].max()
        print(f"{w}x{h}: output {got.shape}, largest difference {worst_px:.2e} px, {worst_p:.2e} probability")
        if worst_px > 0.05 or worst_p > 1e-3:
            raise SystemExit(f"{path}: ONNX Runtime and PyTorch disagree at {w}x{h}")


def main(argv=None) -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--checkpoint", type=Path, default=DEFAULT_RUN / "last.pt")
    ap.add_argument("--out", type=Path, default=REPO / "models" / "default" / "model.onnx")
    a = ap.parse_args(argv)
    export(load(a.checkpoint), a.out)
    digest = hashlib.sha256(a.out.read_bytes()).hexdigest()
    manifest = a.out.parent / "manifest.toml"
    if manifest.exists():
        text = manifest.read_text()
        manifest.write_text(re.sub(r'(?m)^sha256 = ".*"$', f'sha256 = "{digest}"', text))
    print(f"{a.out}: {a.out.stat().st_size / 1e6:.2f} MB, sha256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
