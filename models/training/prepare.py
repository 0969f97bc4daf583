"""Decode and resample every picture once: `python models/training/prepare.py`.

Sets that are absent are named and left out. Real pictures are brought to about 0.10 m a pixel (or `--gsd`):
Banepa and Kampala from the scale of their map tiles, Minsk from the length of its cars.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from pathlib import Path

import cv2
import numpy as np

from data import (
    BLUE_ROOF, BUILDING, BURNING, CAR_M, DEFAULT_CACHE, DEFAULT_DETECT, DEFAULT_TOWNS, GARBAGE, GSD_M, VEHICLE, CacheWriter,
)

PICTURES = (".jpg", ".jpeg", ".png", ".JPG")
# Whole videos kept out of training: one of flames, one of dense smoke, one of thin smoke, and a tenth of the stills.
FIRE_HELD_OUT = ("fire1_mp4", "newsmoke1_mp4", "smoke1_mp4", "test2_mp4")


def pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.suffix in PICTURES) if folder.is_dir() else []


def read(path: Path, labels: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """RGB picture and rows of class, x1, y1, x2, y2 in its pixels, ignore (0 or 1)."""
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError(f"{path}: not a readable picture")
    h, w = bgr.shape[:2]
    txt = labels or path.with_suffix(".txt")
    rows = []
    if txt.exists():
        for n, line in enumerate(txt.read_text().splitlines(), 1):
            v = line.split()
            if not v:
                continue
            if len(v) < 5:
                raise ValueError(f"{txt}:{n}: expected `class cx cy w h`, got {line!r}")
            c, cx, cy, bw, bh = (float(x) for x in v[:5])
            ignore = float(v[5]) if len(v) > 5 else 0.0
            rows.append((c, (cx - bw / 2) * w, (cy - bh / 2) * h, (cx + bw / 2) * w, (cy + bh / 2) * h, ignore))
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.array(rows, np.float64).reshape(-1, 6)


def resample(image: np.ndarray, rows: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    if abs(factor - 1) < 0.02:
        return image, rows
    h, w = image.shape[:2]
    size = (max(32, round(w * factor)), max(32, round(h * factor)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    rows = rows.copy()
    rows[:, [1, 3]] *= size[0] / w
    rows[:, [2, 4]] *= size[1] / h
    return image, rows


def mapped(rows: np.ndarray, classes: dict[int, tuple[int, int]]) -> list:
    """`classes`: label's number -> (our class, ignore)."""
    return [(*classes[int(r[0])][:1], *r[1:5], max(classes[int(r[0])][1], r[5])) for r in rows if int(r[0]) in classes]


def towns(root: Path, split: str, out: CacheWriter) -> None:
    for p in pictures(root / split / "images"):
        image, rows = read(p, root / split / "labels" / (p.stem + ".txt"))
        out.add(image, mapped(rows, {c: (c, 0) for c in range(8)}), p.stem, p.name)


def banepa(root: Path, split: str, out: CacheWriter) -> None:
    for p in pictures(root / "banepa_building" / split):
        blue = blue_roofs(p, root / "banepa_building" / "blue_roof_prelabels" / (p.stem + ".txt"))
        image, rows = resample(*read(p), 0.13 / out.gsd_m)
        scale = image.shape[0] / 512
        blue = [(c, x1 * scale, y1 * scale, x2 * scale, y2 * scale, ignore) for c, x1, y1, x2, y2, ignore in blue]
        boxes = mapped(rows, {0: (BUILDING, 0)})
        if split == "train":
            # A cell says one class, and a blue roof is worth more than a building: one that surely is blue is none. Where
            # it is not sure, neither answer is punished.
            sure = [b for b in blue if not b[5]]
            boxes = [b for b in boxes if not any(overlap(b[1:5], s[1:5]) > 0.4 for s in sure)]
            boxes += [(BUILDING, *b[1:5], 1) for b in blue if b[5]]
        out.add(image, boxes + blue, p.stem, p.name)


def overlap(a, b) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(0.0, w) * max(0.0, h)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter + 1e-9)


def write_blue_labels(root: Path, folder: Path) -> None:
    """The same judgement as text, for `aerie model evaluate` (sets/banepa_blue.toml)."""
    folder.mkdir(parents=True, exist_ok=True)
    for p in pictures(root / "banepa_building" / "val"):
        h, w = cv2.imread(str(p)).shape[:2]
        rows = blue_roofs(p, root / "banepa_building" / "blue_roof_prelabels" / (p.stem + ".txt"))
        lines = [f"0 {(x1 + x2) / 2 / w:.6f} {(y1 + y2) / 2 / h:.6f} {(x2 - x1) / w:.6f} {(y2 - y1) / h:.6f} {ignore}" for _, x1, y1, x2, y2, ignore in rows]
        (folder / (p.stem + ".txt")).write_text("\n".join(lines) + "\n")


def blue_roofs(picture: Path, labels: Path) -> list:
    """Colour-segmentation guesses, all 40 pictures looked at: the large and truly blue ones are right;
    the small and the dark ones are tanks, tarpaulins, solar panels or shadow about half the time, so
    those are ignored rather than taught."""
    image, rows = read(picture, labels)
    out = []
    for _, x1, y1, x2, y2, _ in rows:
        part = image[max(0, int(y1)) : int(y2) + 1, max(0, int(x1)) : int(x2) + 1].reshape(-1, 3).astype(int)
        blueness = np.median(part[:, 2] - part[:, 0]) if len(part) else 0
        sure = min(x2 - x1, y2 - y1) >= 24 and blueness >= 40
        out.append((BLUE_ROOF, x1, y1, x2, y2, 0 if sure else 1))
    return out


def kampala(root: Path, split: str, out: CacheWriter) -> None:
    for p in pictures(root / "kampala_building" / split):
        zoom = int(p.stem.rsplit("-", 1)[-1])
        gsd = 156543.03392 * math.cos(math.radians(0.32)) / 2**zoom  # Kampala lies 0.3 degrees north
        image, rows = resample(*read(p), gsd / out.gsd_m)
        out.add(image, mapped(rows, {0: (BUILDING, 0)}), p.stem, p.name)


def minsk(root: Path, split: str, out: CacheWriter) -> None:
    for p in pictures(root / "minsk_vehicle" / split):
        image, rows = read(p)
        cars = rows[rows[:, 0] == 0]
        if not len(cars):
            continue  # no car, no scale
        gsd = CAR_M / float(np.median(np.maximum(cars[:, 3] - cars[:, 1], cars[:, 4] - cars[:, 2])))
        image, rows = resample(image, rows, gsd / out.gsd_m)
        # Group by sequence; MOS numbers run on through two different places.
        number = re.search(r"MOS(\d+)", p.stem)
        group = f"MOS{int(number[1]) >= 100}" if number else p.stem.split("-000")[0]
        # Frames of the DJI sequence lie seconds apart and differ; each counts as its own.
        group = group if number else p.stem
        out.add(image, mapped(rows, {0: (VEHICLE, 0), 1: (VEHICLE, 0), 2: (VEHICLE, 0), 3: (VEHICLE, 0), 4: (VEHICLE, 1)}), group, p.name)


def fire(root: Path, split: str, out: CacheWriter) -> None:
    for p in pictures(root / "fire_smoke" / "all"):
        video = re.sub(r"-\d+_jpg.*|_jpg.*", "", p.stem)
        still = re.fullmatch(r"img_(\d+)", video)
        held = int(still[1]) % 10 == 3 if still else video in FIRE_HELD_OUT
        if held != (split == "val"):
            continue
        image, rows = read(p)
        image, rows = resample(image, rows, 512 / max(image.shape[:2]))
        out.add(image, mapped(rows, {0: (BURNING, 0), 2: (BURNING, 0)}), video, p.name)


def streetgarbage(root: Path, split: str, out: CacheWriter) -> None:
    for p in pictures(root / "street_garbage" / split):
        image, rows = read(p)
        image, rows = resample(image, rows, 512 / max(image.shape[:2]))
        # A bin is not garbage, yet an overflowing one is half so: neither taught nor punished.
        out.add(image, mapped(rows, {0: (GARBAGE, 0), 1: (GARBAGE, 1), 2: (GARBAGE, 1)}), p.stem, p.name)


def cutouts(root: Path, cache: Path) -> int:
    """Things without their surroundings, out of generated towns: one RGBA file and its index."""
    index, at = [], 0
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "cutouts.u8", "wb") as out:
        for p in sorted((root / "train" / "cutouts").glob("*.png")):
            bgra = cv2.imread(str(p), cv2.IMREAD_UNCHANGED)
            rgba = np.ascontiguousarray(cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGBA))
            index.append({"class": int(p.name.split("_")[0]), "h": rgba.shape[0], "w": rgba.shape[1], "at": at})
            out.write(rgba.tobytes())
            at += rgba.size
    (cache / "cutouts.json").write_text(json.dumps(index))
    return len(index)


READERS = {"towns": towns, "banepa": banepa, "kampala": kampala, "minsk": minsk, "fire": fire, "streetgarbage": streetgarbage}


def main() -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--detect", type=Path, default=DEFAULT_DETECT, help="real sets")
    ap.add_argument("--towns", type=Path, default=DEFAULT_TOWNS, help="generated towns: {train,val,calibration}/{images,labels}")
    ap.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    ap.add_argument("--gsd", type=float, default=GSD_M, help="metres a pixel of the cache; towns are taken as they were generated")
    ap.add_argument("--only", nargs="*", choices=sorted(READERS), help="only these sets")
    args = ap.parse_args()
    if not args.only or "towns" in args.only:
        print(f"cutouts: {cutouts(args.towns, args.cache)}", flush=True)
    if not args.only or "banepa" in args.only:
        write_blue_labels(args.detect, args.cache / "blue_roof_labels")
    for name in args.only or READERS:
        for split in ("train", "val", "calibration")[: 3 if name == "towns" else 2]:
            out = CacheWriter(args.cache, f"{name}-{split}", args.gsd)
            READERS[name](args.towns if name == "towns" else args.detect, split, out)
            for old in args.cache.glob(f"{name}-{split}.hard.*.json"):
                old.unlink()  # mined on what was there before
            if out.items:
                print(f"{name}-{split}: {out.close()} pictures, {sum(len(i['boxes']) for i in out.items)} boxes, {out.at / 2**20:.0f} MiB", flush=True)
            else:
                out.out.close()
                out.partial.unlink()
                print(f"{name}-{split}: none found, left out", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
