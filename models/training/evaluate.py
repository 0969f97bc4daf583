"""Measure an exported model on the held-out sets: `python models/training/evaluate.py`.

AP50 a class and set, precision and recall at the manifest's thresholds, and the calibration error of the scores.
Only classes that a set labels are scored on it.
Runs whole pictures at 0.10 m a pixel through ONNX Runtime; tiling and merging are the engine's and
are measured there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tomllib
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

from data import ALL, BLUE_ROOF, BUILDING, BURNING, CAR_M, DEFAULT_CACHE, DEFAULT_DETECT, GARBAGE, GSD_M, REPO, VEHICLE, Cache
from classes import CLASSES
from prepare import read, resample

SCORED = {"towns": ALL, "banepa": (BUILDING, BLUE_ROOF), "minsk": (VEHICLE,), "fire": (BURNING,), "streetgarbage": (GARBAGE,)}
FLOOR = 0.02


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    wh = np.clip(np.minimum(a[:, None, 2:4], b[None, :, 2:4]) - np.maximum(a[:, None, :2], b[None, :, :2]), 0, None)
    inter = wh[..., 0] * wh[..., 1]
    area = lambda x: (x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1])
    return inter / (area(a)[:, None] + area(b)[None] - inter + 1e-9)


def suppress(boxes: np.ndarray, scores: np.ndarray, limit: float) -> np.ndarray:
    order, keep = np.argsort(-scores), []
    while len(order):
        k = order[0]
        keep.append(k)
        order = order[1:][iou(boxes[k : k + 1], boxes[order[1:]])[0] <= limit]
    return np.array(keep, int)


class Model:
    def __init__(self, path: Path, threads: int = 1):
        o = ort.SessionOptions()
        o.intra_op_num_threads = threads
        o.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(str(path), o, providers=["CPUExecutionProvider"])

    def raw(self, image: np.ndarray) -> np.ndarray:
        h, w = image.shape[:2]
        canvas = np.full((-(-h // 32) * 32, -(-w // 32) * 32, 3), 114, np.uint8)
        canvas[:h, :w] = image
        x = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32) / 255
        return self.session.run(["output0"], {"images": x})[0][0]

    def __call__(self, image: np.ndarray, nms: float = 0.5) -> np.ndarray:
        """Rows of class, score, x1, y1, x2, y2."""
        out = self.raw(image)
        h, w = image.shape[:2]
        xy, wh = out[:2].T, out[2:4].T
        boxes = np.clip(np.concatenate([xy - wh / 2, xy + wh / 2], 1), 0, [w, h, w, h])
        found = []
        best, score = out[4:].argmax(0), out[4:].max(0)  # as in the engine: a cell says one class
        for c in range(len(CLASSES)):
            s = np.where(best == c, score, 0)
            at = np.flatnonzero(s > FLOOR)
            at = at[np.argsort(-s[at])[:1500]]
            for k in at[suppress(boxes[at], s[at], nms)]:
                found.append((c, s[k], *boxes[k]))
        return np.array(found, np.float32).reshape(-1, 6)


def match(found: np.ndarray, truth: np.ndarray, c: int, need: float = 0.5) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores, hit flags of the found boxes of class `c` in one picture (those on ignored ground left out), number of truths."""
    f = found[found[:, 0] == c]
    f = f[np.argsort(-f[:, 1])]
    mine = truth[(truth[:, 0] == c) & (truth[:, 5] == 0)]
    ignored = truth[(truth[:, 5] == 1) & ((truth[:, 0] == c) | (truth[:, 0] == -1))]
    free = np.ones(len(mine), bool)
    scores, hits = [], []
    overlap = iou(f[:, 2:6], mine[:, 1:5]) if len(mine) else np.zeros((len(f), 0))
    for k in range(len(f)):
        o = np.where(free, overlap[k], -1)
        if len(o) and o.max() >= need:
            free[o.argmax()] = False
            scores.append(f[k, 1]), hits.append(True)
            continue
        if len(ignored):
            g, b = ignored[:, 1:5], f[k, 2:6]
            wh = np.clip(np.minimum(g[:, 2:], b[2:]) - np.maximum(g[:, :2], b[:2]), 0, None)
            if (wh[:, 0] * wh[:, 1]).max() > 0.5 * (b[2] - b[0]) * (b[3] - b[1]):
                continue
        scores.append(f[k, 1]), hits.append(False)
    return np.array(scores), np.array(hits, bool), len(mine)


def curve(scores: np.ndarray, hits: np.ndarray, total: int) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """AP (area under the interpolated curve), scores from high to low, precision, recall."""
    order = np.argsort(-scores, kind="stable")
    tp = np.cumsum(hits[order])
    precision = tp / np.arange(1, len(tp) + 1)
    recall = tp / max(1, total)
    hull = np.maximum.accumulate(precision[::-1])[::-1] if len(tp) else precision
    ap = float(np.sum(np.diff(np.concatenate([[0], recall])) * hull))
    return ap, scores[order], precision, recall


def at_threshold(scores, precision, recall, t: float) -> tuple[float, float]:
    n = int((scores >= t).sum())
    return (float(precision[n - 1]), float(recall[n - 1])) if n else (1.0, 0.0)


def reliability(scores: np.ndarray, hits: np.ndarray, bins: int = 10, lowest: float = 0.05) -> tuple[float, list]:
    """Expected calibration error, and for each tenth of score that has boxes: how many, their mean score, the share that
    is right. Boxes below `lowest`, which nobody is shown, are left out."""
    rows, error, total = [], 0.0, int((scores >= lowest).sum())
    for k in range(bins):
        inside = (scores >= max(lowest, k / bins)) & (scores < (k + 1) / bins + (k == bins - 1))
        if n := int(inside.sum()):
            mean, right = float(scores[inside].mean()), float(hits[inside].mean())
            rows.append([n, round(mean, 3), round(right, 3)])
            error += n / total * abs(mean - right)
    return error, rows


def evaluate_set(model: Model, cache: Cache, classes, thresholds: list[float], zoom: float = 1.0) -> dict:
    rows = {c: ([], [], 0) for c in classes}
    cpu = pixels = 0.0
    for k in range(len(cache)):
        image, truth = np.ascontiguousarray(cache.image(k)), cache.labels[k]
        if zoom != 1:
            image, truth = resample(image, truth, zoom)
        t = time.process_time()
        found = model(image)
        cpu += time.process_time() - t
        pixels += image.shape[0] * image.shape[1]
        for c in classes:
            s, h, n = match(found, truth, c)
            rows[c] = (rows[c][0] + [s], rows[c][1] + [h], rows[c][2] + n)
    out = {}
    for c, (s, h, n) in rows.items():
        if not n:
            continue
        ap, scores, precision, recall = curve(np.concatenate(s), np.concatenate(h).astype(bool), n)
        p, r = at_threshold(scores, precision, recall, thresholds[c])
        out[CLASSES[c]] = {"boxes": n, "ap50": round(ap, 3), "threshold": thresholds[c], "precision": round(p, 3), "recall": round(r, 3)}
        error, tenths = reliability(scores, np.concatenate(h).astype(bool)[np.argsort(-np.concatenate(s), kind="stable")])
        out[CLASSES[c]] |= {"ece": round(error, 3), "tenths": tenths}
    out["cpu_ms_per_640_tile"] = round(1000 * cpu / pixels * 640 * 640, 1)
    return out


def photos(model: Model, folder: Path, thresholds: list[float], out: Path | None) -> dict:
    """Drone photos with marked vehicles, shrunk to 0.10 m a pixel by the length of their own cars."""
    result = {}
    for p in sorted(folder.glob("DJI_*.JPG")):
        image, rows = read(p)
        cars = rows[rows[:, 0] == 0]
        gsd = CAR_M / float(np.median(np.maximum(cars[:, 3] - cars[:, 1], cars[:, 4] - cars[:, 2])))
        image, rows = resample(image, rows, min(1.0, gsd / GSD_M))
        found = model(image)
        found = found[found[:, 1] >= np.array(thresholds)[found[:, 0].astype(int)]]
        truth = np.concatenate([np.full((len(rows), 1), VEHICLE), rows[:, 1:5], np.zeros((len(rows), 1))], 1)
        _, hits, n = match(found, truth, VEHICLE, need=0.4)
        others = found[found[:, 0] != VEHICLE]
        result[p.name] = {"gsd_m": round(gsd, 3), "marked": n, "found": int(hits.sum()), "unmarked": int((~hits).sum()),
                          "other": {CLASSES[int(c)]: int((others[:, 0] == c).sum()) for c in np.unique(others[:, 0])}}
        if out:
            draw(image, found, truth, out / f"{p.stem}.png")
    return result


def draw(image: np.ndarray, found: np.ndarray, truth: np.ndarray, path: Path) -> None:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    colours = [(0, 0, 255), (255, 0, 0), (0, 255, 0), (0, 255, 255), (255, 0, 255), (255, 255, 0), (0, 128, 255), (255, 255, 255)]
    for t in truth:
        cv2.rectangle(bgr, (int(t[1]), int(t[2])), (int(t[3]), int(t[4])), (0, 0, 0), 2)
    for f in found:
        c = int(f[0])
        cv2.rectangle(bgr, (int(f[2]), int(f[3])), (int(f[4]), int(f[5])), colours[c], 1)
        cv2.putText(bgr, f"{c} {f[1]:.2f}", (int(f[2]), int(f[3]) - 2), cv2.FONT_HERSHEY_SIMPLEX, 0.35, colours[c], 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), bgr)


def main(argv=None) -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", type=Path, default=REPO / "models" / "default" / "model.onnx")
    ap.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    ap.add_argument("--sets", nargs="*", default=list(SCORED))
    ap.add_argument("--photos", type=Path, default=DEFAULT_DETECT.parent / "photos", help="a check on real drone photos; never trained on")
    ap.add_argument("--draw", type=Path, help="write annotated pictures here")
    ap.add_argument("--draw-count", type=int, default=6)
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--json", type=Path, help="write the figures here too")
    a = ap.parse_args(argv)
    manifest = a.model.parent / "manifest.toml"
    thresholds = [0.4] * len(CLASSES)
    if manifest.exists():
        thresholds = [c["threshold"] for c in tomllib.loads(manifest.read_text())["classes"]]
    model = Model(a.model, a.threads)
    figures: dict = {}
    for name in a.sets:
        if not (a.cache / f"{name}-val.json").exists():
            print(f"{name}: skipped, not in the cache")
            continue
        cache = Cache(a.cache, f"{name}-val")
        figures[name] = evaluate_set(model, cache, SCORED[name], thresholds)
        print(f"{name} ({len(cache)} pictures, {figures[name]['cpu_ms_per_640_tile']} CPU-ms a 640x640)")
        for c, v in figures[name].items():
            if isinstance(v, dict):
                print(f"  {c:16} {v['boxes']:5} boxes  AP50 {v['ap50']:.3f}  at {v['threshold']:.2f}: precision {v['precision']:.3f} recall {v['recall']:.3f}"
                      f"   ECE {v['ece']:.3f}: " + " ".join(f"{n}x{m:.2f}={r:.2f}" for n, m, r in v["tenths"]), flush=True)
        if a.draw:
            for k in np.linspace(0, len(cache) - 1, min(a.draw_count, len(cache))).astype(int):
                image = np.ascontiguousarray(cache.image(k))
                found = model(image)
                found = found[found[:, 1] >= np.array(thresholds)[found[:, 0].astype(int)]]
                draw(image, found, cache.labels[k], a.draw / name / (Path(cache.items[k]["name"]).stem + ".png"))
    if a.photos.is_dir():
        figures["photos"] = photos(model, a.photos, thresholds, a.draw and a.draw / "photos")
        for n, v in figures["photos"].items():
            print(f"  {n}: {v['found']} of {v['marked']} marked vehicles found, {v['unmarked']} other vehicle boxes, other classes {v['other']}")
    if a.json:
        a.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
