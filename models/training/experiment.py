"""Questions answered by experiment: `python models/training/experiment.py gsd`, `… network` and `… labels`.

gsd: which ground sample distance should the model be trained at? The same network, from the same seed, equally long (so at
the same cost), at each distance; then measured on the held-out pictures at that distance: accuracy against what a
hectare costs. Its cache is finer than the usual one:

    for s in "train 1000 60 10" "train 3000 120 5 plain" "val 5000 60 5 plain"; do set -- $s
      target/release/examples/town_dataset target/towns-fine/$1 $2 $3 $4 $5 1.5; done
    python models/training/prepare.py --gsd 0.0667 --towns target/towns-fine --cache target/training/fine --only towns minsk banepa kampala

network: ours against YOLOX-nano, each trained on the fire videos alone, with the same crops, loss, rate and number of steps,
and measured on whole held-out videos (and stills). Its cache is the usual one: `prepare.py --only fire`.

labels: what do footprints cost that lie a little off the roofs of Banepa? All boxes of a picture are moved together to where
they agree best with what the shipped model found, at most OFF_M, and measured again. Towns, whose boxes are exact, say how
much the moving alone flatters. No training. Cache: `prepare.py --only banepa towns`.

Every run resumes where it was stopped. Figures are printed and kept as JSON beside the runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np

import export
import train
from data import ALL, BLUE_ROOF, BUILDING, BURNING, DEFAULT_CACHE, GSD_M, REPO, VEHICLE, Cache
from evaluate import Model, curve, evaluate_set, iou, match

FINEST_M = 0.1 / 1.5
DISTANCES_M = (FINEST_M, 0.10, 0.14, 0.20)
SCORED = {"towns": ALL, "minsk": (VEHICLE,), "banepa": (BUILDING,)}
HALF = [0.5] * len(ALL)
OFF_M, OFF_STEP_M = 2.0, 0.2
SURE = 0.4


def trained(run: Path, cache: Path, steps: int, *more: object) -> Model:
    train.main([*map(str, ("--cache", cache, "--run", run, "--steps", steps, *more))])
    export.main(["--checkpoint", str(run / "last.pt"), "--out", str(run / "model.onnx")])
    return Model(run / "model.onnx")


def gsd(a: argparse.Namespace) -> None:
    rows = []
    for distance in a.distances:
        zoom = FINEST_M / distance
        model = trained(a.out / f"gsd-{100 * distance:.0f}cm", a.cache, a.steps, "--zoom", zoom, "--seed", a.seed)
        row: dict = {"gsd_m": round(distance, 3)}
        for name, classes in SCORED.items():
            figures = evaluate_set(model, Cache(a.cache, f"{name}-val"), classes, HALF, zoom)
            by_class = {c: v["ap50"] for c, v in figures.items() if isinstance(v, dict)}
            row[name] = {"mean": round(float(np.mean(list(by_class.values()))), 3), **by_class}
            if name == "towns":
                # A tile of 640 px covers (640 gsd)² m² of ground.
                row["cpu_ms_per_hectare"] = round(figures["cpu_ms_per_640_tile"] * 1e4 / (640 * distance) ** 2, 1)
        rows.append(row)
        print(json.dumps(row), flush=True)
    (a.out / "gsd.json").write_text(json.dumps(rows, indent=1))
    print("m a pixel   CPU-ms a hectare   towns   vehicle, Minsk   building, Banepa   lowest class of the towns")
    for r in rows:
        low = min((v, c) for c, v in r["towns"].items() if c != "mean")
        print(f"{r['gsd_m']:9.3f} {r['cpu_ms_per_hectare']:18.1f} {r['towns']['mean']:7.3f} {r['minsk']['mean']:16.3f} {r['banepa']['mean']:18.3f}   {low[1]} {low[0]:.3f}")


def network(a: argparse.Namespace) -> None:
    rows = {}
    for name in ("aerie", "yolox-nano"):
        model = trained(a.out / f"fire-{name}", a.cache, a.steps, "--network", name, "--sets", "fire", "--seed", a.seed)
        figures = evaluate_set(model, Cache(a.cache, "fire-val"), (BURNING,), HALF)
        rows[name] = {"ap50": figures["burning"]["ap50"], "boxes": figures["burning"]["boxes"], "cpu_ms_per_640_tile": figures["cpu_ms_per_640_tile"]}
        print(name, json.dumps(rows[name]), flush=True)
    (a.out / "network.json").write_text(json.dumps(rows, indent=1))


def moved(found: np.ndarray, truth: np.ndarray, gsd: float) -> tuple[float, float]:
    """The common shift in pixels, within OFF_M, by which the boxes agree best: the largest sum over truths of their best overlap."""
    steps = np.arange(-OFF_M, OFF_M + 1e-9, OFF_STEP_M) / gsd
    best = max(((iou(truth[:, 1:5] + [dx, dy, dx, dy], found[:, 2:6]).max(1).sum(), -abs(dx) - abs(dy), dx, dy) for dx in steps for dy in steps))
    return best[2], best[3]


def labels(a: argparse.Namespace) -> None:
    model = Model(REPO / "models" / "default" / "model.onnx")
    a.out.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name in ("banepa", "towns"):
        cache = Cache(a.cache, f"{name}-val")
        at = {need: ([], [], []) for need in (0.3, 0.5, 0.7)}  # of each picture: scores, hits, number of truths
        after, shifts, unmarked = ([], [], []), [], []
        for k in range(len(cache)):
            image, truth = np.ascontiguousarray(cache.image(k)), cache.labels[k].copy()
            found = model(image)
            # As the engine's sets/banepa.toml counts: a building with a blue roof is a building.
            if name == "banepa":
                found[found[:, 0] == BLUE_ROOF, 0] = BUILDING
                truth = truth[truth[:, 0] != BLUE_ROOF]
            found = found[np.argsort(-found[:, 1], kind="stable")]
            sure = found[(found[:, 0] == BUILDING) & (found[:, 1] >= SURE)]
            for need, lists in at.items():
                for one, more in zip(lists, match(found, truth, BUILDING, need)):
                    one.append(more)
            for f in sure[~match(sure, truth, BUILDING)[1]] if name == "banepa" else ():
                unmarked.append((f[1], crop(image, truth, f)))
            mine = truth[(truth[:, 0] == BUILDING) & (truth[:, 5] == 0)]
            if len(mine) and len(sure):
                dx, dy = moved(sure, mine)
                truth[:, 1:5] += [dx, dy, dx, dy]
                shifts.append(float(np.hypot(dx, dy)) * GSD_M)
            for one, more in zip(after, match(found, truth, BUILDING)):
                one.append(more)
        rows[name] = {"boxes": sum(after[2]), **{f"ap{100 * need:.0f}": ap(*lists) for need, lists in at.items()},
                      "ap50_moved": ap(*after), "median_shift_m": round(float(np.median(shifts)), 2), "largest_shift_m": round(max(shifts), 2)}
        if unmarked:
            unmarked.sort(key=lambda r: -r[0])
            edge = [c for _, c in unmarked] + [np.zeros_like(unmarked[0][1])] * (-len(unmarked) % 10)
            cv2.imwrite(str(a.out / "unmarked.png"), np.vstack([np.hstack(edge[i : i + 10]) for i in range(0, len(edge), 10)]))
            scores, hits = np.concatenate(at[0.5][0]), np.concatenate(at[0.5][1]).astype(bool)
            kept = hits | (scores < SURE)
            kept[np.isin(scores, [s for k, (s, _) in enumerate(unmarked) if k in a.no_roof])] = True
            rows[name] |= {"unmarked": len(unmarked), "ap50_without_them": ap([scores[kept]], [hits[kept]], at[0.5][2])}
        print(name, json.dumps(rows[name]), flush=True)
    (a.out / "labels.json").write_text(json.dumps(rows, indent=1))


def ap(scores: list, hits: list, truths: list) -> float:
    return round(curve(np.concatenate(scores), np.concatenate(hits).astype(bool), sum(truths))[0], 3)


def moved(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The common shift in pixels, within OFF_M, by which the boxes agree best: the largest sum over truths of their best overlap."""
    steps = np.arange(-OFF_M, OFF_M + 1e-9, OFF_STEP_M) / GSD_M
    best = max((iou(truth[:, 1:5] + [dx, dy, dx, dy], found[:, 2:6]).max(1).sum(), -abs(dx) - abs(dy), dx, dy) for dx in steps for dy in steps)
    return best[2], best[3]


def crop(image: np.ndarray, truth: np.ndarray, f: np.ndarray, side: int = 180) -> np.ndarray:
    """One found box (red) with its surroundings and the footprints there (black)."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    for t in truth:
        cv2.rectangle(bgr, (int(t[1]), int(t[2])), (int(t[3]), int(t[4])), (0, 0, 0), 2)
    cv2.rectangle(bgr, (int(f[2]), int(f[3])), (int(f[4]), int(f[5])), (0, 0, 255), 2)
    half = max(f[4] - f[2], f[5] - f[3]) / 2 + 50
    x, y = (f[2] + f[4]) / 2, (f[3] + f[5]) / 2
    scale = side / 2 / half
    return cv2.warpAffine(bgr, np.float32([[scale, 0, (half - x) * scale], [0, scale, (half - y) * scale]]), (side, side), borderValue=(80, 80, 80))


def main(argv=None) -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("question", choices=("gsd", "network", "labels"))
    ap.add_argument("--cache", type=Path, help="default: target/training/fine for `gsd`, else target/training/cache")
    ap.add_argument("--out", type=Path, default=REPO / "target" / "training" / "experiment")
    ap.add_argument("--steps", type=int, default=1600)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--distances", type=float, nargs="*", default=DISTANCES_M, help="metres a pixel, none finer than the cache")
    ap.add_argument("--no-roof", type=int, nargs="*", default=[], help="see `labels`")
    a = ap.parse_args(argv)
    a.cache = a.cache or (DEFAULT_CACHE.parent / "fine" if a.question == "gsd" else DEFAULT_CACHE)
    {"gsd": gsd, "network": network, "labels": labels}[a.question](a)
    return 0


if __name__ == "__main__":
    sys.exit(main())
