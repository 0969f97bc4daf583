"""Make the scores probabilities and choose the thresholds: `python models/training/calibrate.py`.

A score of 0.7 should mean that seven of ten such boxes are right. For each class a line through the log-odds (Platt, 1999:
p = sigmoid(a x + b), x the log-odds that the network says) is fitted to boxes of generated towns that were neither
trained on nor are measured on, and folded into the last convolutions of the class heads, so the graph stays as it was.
One step of the same fit run again finds a = 1, b = 0.

A threshold then is the probability from which reporting pays: with a false box costing as much as F missed ones it is
F / (F + 1). Classes that never raise an alert have F = 1.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from classes import CLASSES
from data import ALL, DEFAULT_CACHE, REPO, VEHICLE, Cache
from evaluate import Model, curve, match, reliability

LOWEST = 0.05  # what the network thinks nothing of is not fitted: there is no end of it
PRIOR = 2.0  # boxes that say "as it was": a class with a handful of boxes must not be bent by them


def fit(scores: np.ndarray, hits: np.ndarray) -> tuple[float, float]:
    """a and b of Platt's line, by Newton's method; a penalty keeps them near 1 and 0 where little is known."""
    x = np.log(scores / (1 - scores))
    y = hits.astype(float)
    rows = np.stack((x, np.ones_like(x)), 1)
    at, start = np.array([1.0, 0.0]), np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-rows @ at))
        slope = rows.T @ (p - y) + PRIOR * (at - start)
        bend = (rows * (p * (1 - p))[:, None]).T @ rows + PRIOR * np.eye(2)
        step = np.linalg.solve(bend, slope)
        at = at - step
        if np.abs(step).max() < 1e-9:
            break
    if at[0] <= 0:
        raise SystemExit(f"the fit turns the scores over (a = {at[0]:.2f}): they say nothing of this class")
    return float(at[0]), float(at[1])


def fold(path: Path, lines: list[tuple[float, float]], out: Path) -> None:
    model = onnx.load(path)
    have = {i.name: i for i in model.graph.initializer}
    heads = [n for n in model.graph.node if n.op_type == "Conv" and have[n.input[1]].dims[:1] == [len(CLASSES)] and have[n.input[1]].dims[2:] == [1, 1]]
    if len(heads) != 3:
        raise SystemExit(f"{path}: {len(heads)} class heads, expected 3: not a model of export.py")
    a, b = (np.array([line[k] for line in lines], np.float32) for k in (0, 1))
    for node in heads:
        for name, value in ((node.input[1], lambda w: w * a[:, None, None, None]), (node.input[2], lambda v: v * a + b)):
            new = numpy_helper.from_array(value(numpy_helper.to_array(have[name])).astype(np.float32), name)
            have[name].CopyFrom(new)
    onnx.save(model, out)


def boxes(model: Model, cache: Cache) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Of each class: scores, whether they are right, and how many there were to find."""
    rows = [([], [], 0) for _ in ALL]
    for k in range(len(cache)):
        found = model(np.ascontiguousarray(cache.image(k)))
        for c in ALL:
            s, h, n = match(found, cache.labels[k], c)
            rows[c] = (rows[c][0] + [s], rows[c][1] + [h], rows[c][2] + n)
    return [(np.concatenate(s), np.concatenate(h).astype(bool), n) for s, h, n in rows]


def main(argv=None) -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", type=Path, default=REPO / "models" / "default" / "model.onnx", help="calibrated in place")
    ap.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    ap.add_argument("--set", default="towns-calibration")
    ap.add_argument("--false-costs", type=float, default=2.0, help="missed boxes that one false box outweighs, in classes that raise alerts")
    a = ap.parse_args(argv)
    cache = Cache(a.cache, a.set)
    before = boxes(Model(a.model), cache)
    lines = []
    for c, (s, h, n) in enumerate(before):
        keep = (s >= LOWEST) & (s < 1)
        lines.append(fit(s[keep], h[keep]) if keep.any() else (1.0, 0.0))
    # The model and its manifest change together, at the end: one that was interrupted leaves both as they were.
    calibrated = a.model.with_suffix(".calibrated.onnx")
    fold(a.model, lines, calibrated)
    after = boxes(Model(calibrated), cache)
    manifest = a.model.parent / "manifest.toml"
    text = manifest.read_text() if manifest.exists() else ""
    print(f"{a.set}: {len(cache)} pictures")
    for c, name in enumerate(CLASSES):
        costs = 1.0 if c == VEHICLE else a.false_costs
        threshold = costs / (1 + costs)
        text = re.sub(rf'(name = "{name}"\nthreshold = )[\d.]+', rf"\g<1>{threshold:.2f}", text)
        s, h, n = after[c]
        ap50 = curve(s, h, n)[0] if n else float("nan")
        sure = s >= threshold
        print(f"  {name:16} {n:5} boxes  a {lines[c][0]:.2f} b {lines[c][1]:+.2f}  ECE {reliability(*before[c][:2])[0]:.3f} -> {reliability(s, h)[0]:.3f}"
              f"  AP50 {ap50:.3f}  at {threshold:.2f}: precision {h[sure].mean() if sure.any() else 1:.3f} recall {h[sure].sum() / max(1, n):.3f}")
    calibrated.replace(a.model)
    if manifest.exists():
        digest = hashlib.sha256(a.model.read_bytes()).hexdigest()
        manifest.write_text(re.sub(r'(?m)^sha256 = ".*"$', f'sha256 = "{digest}"', text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
