"""Two questions answered by training: `python models/training/experiment.py gsd` and `… network`.

gsd: which ground sample distance should the model be trained at? The same network, from the same seed, equally long (so at
the same cost), at each distance; then measured on the held-out pictures at that distance: accuracy against what a
hectare costs. Its cache is finer than the usual one:

    for s in "train 1000 60 10" "train 3000 120 5 plain" "val 5000 60 5 plain"; do set -- $s
      target/release/examples/town_dataset target/towns-fine/$1 $2 $3 $4 $5 1.5; done
    python models/training/prepare.py --gsd 0.0667 --towns target/towns-fine --cache target/training/fine --only towns minsk banepa kampala

network: ours against YOLOX-nano, each trained on the fire videos alone, with the same crops, loss, rate and number of steps,
and measured on whole held-out videos (and stills). Its cache is the usual one: `prepare.py --only fire`.

Every run resumes where it was stopped. Figures are printed and kept as JSON beside the runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

import export
import train
from data import ALL, BUILDING, BURNING, DEFAULT_CACHE, REPO, VEHICLE, Cache
from evaluate import Model, evaluate_set

FINEST_M = 0.1 / 1.5
DISTANCES_M = (FINEST_M, 0.10, 0.14, 0.20)
SCORED = {"towns": ALL, "minsk": (VEHICLE,), "banepa": (BUILDING,)}
HALF = [0.5] * len(ALL)


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


def main(argv=None) -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("question", choices=("gsd", "network"))
    ap.add_argument("--cache", type=Path, help="default: target/training/fine, or for `network` target/training/cache")
    ap.add_argument("--out", type=Path, default=REPO / "target" / "training" / "experiment")
    ap.add_argument("--steps", type=int, default=1600)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--distances", type=float, nargs="*", default=DISTANCES_M, help="metres a pixel, none finer than the cache")
    a = ap.parse_args(argv)
    a.cache = a.cache or (DEFAULT_CACHE.parent / "fine" if a.question == "gsd" else DEFAULT_CACHE)
    gsd(a) if a.question == "gsd" else network(a)
    return 0


if __name__ == "__main__":
    sys.exit(main())
