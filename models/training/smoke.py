"""The whole road in under a minute: `python models/training/smoke.py`.

Draws a few dozen tiny pictures with coloured squares as the eight classes, writes them as a towns
folder, then prepares, trains a few steps, resumes, exports, calibrates and evaluates, all in a temporary folder.
It proves that the commands fit together, and that the loss falls; it proves nothing about quality.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).resolve().parent
COLOURS = ((200, 190, 180), (30, 60, 200), (240, 240, 240), (250, 200, 20), (150, 90, 40), (120, 200, 90), (0, 160, 160), (255, 80, 0))


def draw_towns(root: Path, counts: dict[str, int], seed: int = 7) -> None:
    rng = np.random.default_rng(seed)
    for split, n in counts.items():
        (root / split / "images").mkdir(parents=True)
        (root / split / "labels").mkdir(parents=True)
        for k in range(n):
            image = rng.integers(60, 110, (256, 256, 3), np.uint8)
            rows = []
            for c in rng.permutation(8)[:5]:
                w, h = rng.integers(24, 80, 2)
                x, y = rng.integers(0, 256 - w), rng.integers(0, 256 - h)
                image[y : y + h, x : x + w] = np.array(COLOURS[c])[::-1]
                rows.append(f"{c} {(x + w / 2) / 256:.5f} {(y + h / 2) / 256:.5f} {w / 256:.5f} {h / 256:.5f}")
            cv2.imwrite(str(root / split / "images" / f"{k:03}.png"), image)
            (root / split / "labels" / f"{k:03}.txt").write_text("\n".join(rows) + "\n")


def step(script: str, *args: object) -> None:
    print(f"$ {script} {' '.join(map(str, args))}", flush=True)
    subprocess.run([sys.executable, str(HERE / script), *map(str, args)], check=True)


def main() -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", type=Path, help="keep the exported model here")
    a = ap.parse_args()
    with tempfile.TemporaryDirectory() as d:
        root = Path(d)
        draw_towns(root / "towns", {"train": 24, "val": 4, "calibration": 4})
        step("prepare.py", "--towns", root / "towns", "--detect", root / "none", "--cache", root / "cache")
        common = ("--cache", root / "cache", "--run", root / "run", "--batch", 4, "--size", 160, "--workers", 1, "--warmup", 5, "--by-geometry", 30, "--save-every", 25)
        step("train.py", *common, "--steps", 50)
        step("train.py", *common, "--steps", 100)  # goes on where the first stopped
        model = (a.out or root / "model") / "model.onnx"
        step("export.py", "--checkpoint", root / "run" / "last.pt", "--out", model)
        step("calibrate.py", "--model", model, "--cache", root / "cache")
        step("evaluate.py", "--model", model, "--cache", root / "cache", "--photos", root / "none")
        losses = [float(x) for x in re.findall(r"^\d+ loss (\S+)", (root / "run" / "log.txt").read_text(), re.M)]
        if not (len(losses) == 2 and losses[1] < losses[0]):
            print(f"smoke training: the loss did not fall: {losses}", file=sys.stderr)
            return 1
    print(f"smoke training: loss {losses[0]:.2f} -> {losses[1]:.2f}, exported and evaluated")
    return 0


if __name__ == "__main__":
    sys.exit(main())
