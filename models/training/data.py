"""Pictures and labels: which sets there are, the cache, and the augmented crops made from it.

Every set labels only some classes. `known` of a set says for which classes "no box here" really
means "nothing here": the classification loss of the other classes is switched off for its
pictures. A class is known where it is labelled, or where we looked at the pictures and there is
none of it (no burning in an orthophoto of Banepa, say): such real pictures are what teaches a
class that exists only in generated towns not to fire on real ground.

The cache holds every picture decoded and resampled to about 0.10 m a pixel as raw uint8 in one
file a set, read through mmap: a crop then costs one `warpAffine`.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from classes import CLASSES

cv2.setNumThreads(0)  # the trainer runs one process a core; OpenCV's own threads would only fight them

GSD_M = 0.10
BUILDING, BLUE_ROOF, VEHICLE, MACHINE, EARTHWORK, GARBAGE, DEBRIS, BURNING = range(8)
ALL = tuple(range(8))
PASTED = 0.4  # share of the crops of real pictures on which generated things are laid
HARD = 0.35  # share of the crops near places where an earlier round fired wrongly
CAR_M = 4.4  # typical length of a car, from which the scale of the Minsk pictures is estimated

REPO = Path(__file__).resolve().parents[2]
DEFAULT_DETECT = Path(os.environ.get("AERIE_TEST_DATA", REPO / ".." / "shared" / "data")) / "detect"
DEFAULT_TOWNS = REPO / "target" / "towns"
DEFAULT_CACHE = REPO / "target" / "training" / "cache"
DEFAULT_RUN = REPO / "target" / "training" / "run"


@dataclass(frozen=True)
class Source:
    """One labelled set as it is sampled in training."""

    known: tuple[int, ...]
    share: float  # of the crops of a batch
    scale: tuple[float, float] = (0.7, 1.4)


SOURCES = {
    "towns": Source(ALL, 0.60, (0.75, 1.3)),
    "minsk": Source((BLUE_ROOF, VEHICLE, MACHINE, EARTHWORK, GARBAGE, DEBRIS, BURNING), 0.20),
    "banepa": Source((BUILDING, BLUE_ROOF, MACHINE, DEBRIS, BURNING), 0.10),
    "kampala": Source((BUILDING, MACHINE, DEBRIS, BURNING), 0.06, (0.9, 1.8)),
    "fire": Source((BURNING,), 0.02, (0.5, 1.2)),
    "streetgarbage": Source((GARBAGE,), 0.01, (0.3, 0.9)),
}


AERIAL = ("minsk", "banepa", "kampala")  # real pictures from above, on which cut-out things are laid


class Cache:
    """One cached set: pictures as one flat mmap, an index beside it."""

    def __init__(self, folder: Path, name: str):
        index = folder / f"{name}.json"
        if not index.exists():
            raise FileNotFoundError(f"no cache {index}: run prepare.py first")
        self.items = json.loads(index.read_text())
        self.raw = np.memmap(folder / f"{name}.u8", np.uint8, "r")
        self.labels = [np.asarray(i["boxes"], np.float32).reshape(-1, 6) for i in self.items]
        # Where an earlier round fired wrongly (see mine.py); seldom classes first, as with the things themselves.
        self.hard: list[tuple[int, float, float]] = []
        weights = []
        for part in sorted(folder.glob(f"{name}.hard.*.json")):
            for k, points in json.loads(part.read_text()).items():
                self.hard += [(int(k), x, y) for _, x, y, _ in points]
                weights += [(int(c), score) for c, _, _, score in points]
        counts = np.bincount([c for c, _ in weights], minlength=len(CLASSES)) if weights else None
        weight = np.array([score / counts[c] ** 0.5 for c, score in weights])
        self.hard_p = weight / weight.sum() if weights else None
        groups: dict[str, list[int]] = {}
        for k, i in enumerate(self.items):
            groups.setdefault(i["group"], []).append(k)
        # Frames of one sequence are near copies: a group counts by the square root of its size.
        self.groups = list(groups.values())
        weight = np.sqrt([len(g) for g in self.groups])
        self.group_p = weight / weight.sum()

    def __len__(self) -> int:
        return len(self.items)

    def image(self, k: int) -> np.ndarray:
        i = self.items[k]
        n = i["h"] * i["w"] * 3
        return self.raw[i["at"] : i["at"] + n].reshape(i["h"], i["w"], 3)

    def pick(self, rng: np.random.Generator) -> int:
        group = self.groups[int(rng.choice(len(self.groups), p=self.group_p))]
        return group[int(rng.integers(len(group)))]


class Cutouts:
    """Things without their surroundings, to be laid on real pictures, where their class is known to be absent otherwise."""

    def __init__(self, folder: Path):
        index = folder / "cutouts.json"
        self.items = json.loads(index.read_text()) if index.exists() else []
        self.raw = np.memmap(folder / "cutouts.u8", np.uint8, "r") if self.items else None
        self.by_class: dict[int, list[dict]] = {}
        for i in self.items:
            self.by_class.setdefault(i["class"], []).append(i)

    def lay(self, image: np.ndarray, boxes: np.ndarray, rng: np.random.Generator, known: tuple[int, ...]) -> np.ndarray:
        """Lays up to three things on `image` (in place), away from what is marked; the boxes with theirs."""
        classes = [c for c in self.by_class if c in known]
        size = image.shape[0]
        for _ in range(int(rng.integers(1, 4)) if classes else 0):
            of = self.by_class[classes[int(rng.integers(len(classes)))]]
            i = of[int(rng.integers(len(of)))]
            n = i["h"] * i["w"] * 4
            rgba = np.rot90(self.raw[i["at"] : i["at"] + n].reshape(i["h"], i["w"], 4), int(rng.integers(4)))
            f = float(np.exp(rng.uniform(-0.3, 0.3)))
            w, h = max(8, int(rgba.shape[1] * f)), max(8, int(rgba.shape[0] * f))
            if w >= size * 0.9 or h >= size * 0.9:
                continue
            rgba = cv2.resize(np.ascontiguousarray(rgba), (w, h), interpolation=cv2.INTER_AREA if f < 1 else cv2.INTER_LINEAR)
            x, y = int(rng.integers(0, size - w)), int(rng.integers(0, size - h))
            if len(boxes):
                wide = np.minimum(boxes[:, 3], x + w) - np.maximum(boxes[:, 1], x)
                tall = np.minimum(boxes[:, 4], y + h) - np.maximum(boxes[:, 2], y)
                if (np.clip(wide, 0, None) * np.clip(tall, 0, None)).max() > 0.1 * w * h:
                    continue
            under = image[y : y + h, x : x + w].astype(np.float32)
            # Soft rims, and light more like that of the picture.
            alpha = cv2.GaussianBlur(rgba[..., 3].astype(np.float32) / 255, (0, 0), float(rng.uniform(0.5, 1.2)))[..., None]
            gain = float(np.clip(under.mean() / 115, 0.6, 1.4)) ** float(rng.uniform(0.3, 1.0))
            over = np.clip(rgba[..., :3].astype(np.float32) * gain, 0, 255)
            if i["class"] == BURNING:  # smoke is thin: the ground shows through
                alpha = alpha * float(rng.uniform(0.6, 1.0))
            image[y : y + h, x : x + w] = (under + (over - under) * alpha).astype(np.uint8)
            boxes = np.concatenate([boxes, np.array([[i["class"], x, y, x + w, y + h, 0]], np.float32)])
        return boxes


class CacheWriter:
    def __init__(self, folder: Path, name: str, gsd_m: float = GSD_M):
        self.gsd_m = gsd_m
        folder.mkdir(parents=True, exist_ok=True)
        self.final = folder / f"{name}.json"
        self.partial = folder / f"{name}.u8.partial"
        self.data = folder / f"{name}.u8"
        self.out = open(self.partial, "wb")
        self.items: list[dict] = []
        self.at = 0

    def add(self, image_rgb: np.ndarray, boxes: list, group: str, name: str) -> None:
        """`boxes`: rows of class, x1, y1, x2, y2 in pixels of `image_rgb`, ignore (0 or 1)."""
        h, w = image_rgb.shape[:2]
        self.out.write(np.ascontiguousarray(image_rgb).tobytes())
        rows = [[round(float(v), 2) for v in b] for b in boxes]
        self.items.append({"name": name, "group": group, "h": h, "w": w, "at": self.at, "boxes": rows})
        self.at += h * w * 3

    def close(self) -> int:
        self.out.close()
        self.partial.replace(self.data)
        self.final.write_text(json.dumps(self.items))
        return len(self.items)


# ---------------------------------------------------------------- augmentation


def crop(cache: Cache, rng: np.random.Generator, size: int, scale: tuple[float, float], rare: np.ndarray | None = None, lay=None):
    """One augmented crop: image [size,size,3] uint8 RGB, boxes [n,6] (class, x1, y1, x2, y2, ignore)."""
    hard = cache.hard[int(rng.choice(len(cache.hard), p=cache.hard_p))] if cache.hard and rng.random() < HARD else None
    k = cache.pick(rng) if hard is None else hard[0]
    image, labels = cache.image(k), cache.labels[k]
    h, w = image.shape[:2]
    s = float(np.exp(rng.uniform(math.log(scale[0]), math.log(scale[1]))))
    real = labels[labels[:, 5] == 0] if len(labels) else labels
    if hard is not None:
        off = rng.uniform(-0.42, 0.42, 2) * size / s
        cx, cy = hard[1] + off[0], hard[2] + off[1]
    elif len(real) and rng.random() < 0.75:
        # Look near a thing, seldom classes first: a town has hundreds of cars and one fire.
        p = np.ones(len(real)) if rare is None else rare[real[:, 0].astype(int)]
        b = real[int(rng.choice(len(real), p=p / p.sum()))]
        off = rng.uniform(-0.42, 0.42, 2) * size / s
        cx, cy = (b[1] + b[3]) / 2 + off[0], (b[2] + b[4]) / 2 + off[1]
    else:
        cx, cy = rng.uniform(0, w), rng.uniform(0, h)
    # Keep the crop on the picture where the picture is large enough.
    half = size / s / 2
    cx = float(np.clip(cx, half, w - half)) if w > 2 * half else w / 2
    cy = float(np.clip(cy, half, h - half)) if h > 2 * half else h / 2

    turn = int(rng.integers(4)) * 90.0
    tilt = float(rng.uniform(-12, 12)) if rng.random() < 0.3 else 0.0
    a = math.radians(turn + tilt)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    # Seen at a slant, ground is shorter one way than the other.
    slant = float(np.exp(rng.uniform(-0.15, 0.15))) if rng.random() < 0.4 else 1.0
    lin = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]) @ np.diag([flip * slant, 1.0 / slant]) * s
    shift = np.array([size / 2, size / 2]) - lin @ np.array([cx, cy])
    m = np.hstack([lin, shift[:, None]])
    # Read only the part that the crop can touch: the mmap then pages in no more than that.
    reach = half * 1.25 + 2
    x0, y0 = max(0, int(cx - reach)), max(0, int(cy - reach))
    x1, y1 = min(w, int(cx + reach) + 1), min(h, int(cy + reach) + 1)
    part = image[y0:y1, x0:x1]
    mp = m.copy()
    mp[:, 2] += lin @ np.array([x0, y0])
    flags = cv2.INTER_LINEAR
    if s < 0.55:  # shrink by area first, or thin things alias away
        f = 0.5 if s >= 0.275 else 0.25
        part = cv2.resize(np.ascontiguousarray(part), None, fx=f, fy=f, interpolation=cv2.INTER_AREA)
        mp[:, :2] /= f
    grey = int(rng.integers(90, 130))
    out = cv2.warpAffine(np.ascontiguousarray(part), mp, (size, size), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=(grey,) * 3)
    boxes = warp_boxes(labels, m, size)
    if lay is not None and rng.random() < PASTED:
        boxes = lay(out, boxes, rng)
    return photometric(out, rng), boxes


def warp_boxes(labels: np.ndarray, m: np.ndarray, size: int) -> np.ndarray:
    if not len(labels):
        return np.zeros((0, 6), np.float32)
    c = (labels[:, 1:3] + labels[:, 3:5]) / 2
    half = (labels[:, 3:5] - labels[:, 1:3]) / 2
    c = c @ m[:, :2].T + m[:, 2]
    # A turned box's own bounding box is too large for most things and its inscribed ellipse's is
    # too small: take the middle. Quarter turns are exact either way.
    lin = np.abs(m[:, :2])
    wide = half @ lin.T
    tight = np.sqrt((half**2) @ (lin**2).T)
    half = (wide + tight) / 2
    full = np.concatenate([c - half, c + half], 1)
    cut = np.clip(full, 0, size)
    side = cut[:, 2:] - cut[:, :2]
    area = side[:, 0] * side[:, 1]
    kept = area / np.maximum((full[:, 2] - full[:, 0]) * (full[:, 3] - full[:, 1]), 1e-6)
    seen = (side.min(1) > 2) & (area > 0)
    out = np.concatenate([labels[:, :1], cut, labels[:, 5:6]], 1).astype(np.float32)
    # Slivers at the border and things too small to tell are neither positive nor negative.
    out[(kept < 0.3) | (side.min(1) < 6), 5] = 1
    return out[seen]


def photometric(img: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x = img.astype(np.float32)
    if rng.random() < 0.8:  # hue, saturation as a mix with grey and a gain a channel
        grey = x @ np.array([0.299, 0.587, 0.114], np.float32)
        x = grey[..., None] + (x - grey[..., None]) * float(rng.uniform(0.5, 1.4))
        x *= rng.uniform(0.88, 1.12, 3).astype(np.float32)
    if rng.random() < 0.8:
        gain, lift = float(rng.uniform(0.65, 1.35)), float(rng.uniform(-25, 25))
        x = (x - 128) * gain + 128 + lift
    x = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        table = (np.linspace(0, 1, 256) ** float(rng.uniform(0.6, 1.6)) * 255).astype(np.uint8)
        x = cv2.LUT(x, table)
    r = rng.random()
    if r < 0.12:
        x = cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.5, 1.4)))
    elif r < 0.2:
        n = x.shape[0]
        f = float(rng.uniform(0.45, 0.8))
        x = cv2.resize(cv2.resize(x, (int(n * f), int(n * f)), interpolation=cv2.INTER_AREA), (n, n), interpolation=cv2.INTER_LINEAR)
    elif r < 0.3:
        x = np.clip(x + rng.normal(0, rng.uniform(2, 9), x.shape[:2] + (1,)), 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        q = int(rng.integers(35, 90))
        x = cv2.imdecode(cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, q])[1], cv2.IMREAD_COLOR)
    return x


class Sampler:
    """Makes whole batches; a batch depends on (seed, step, rank) only, so a resumed run sees the same data."""

    def __init__(self, cache_dir: Path, names: list[str], seed: int, size: int, batch: int, rank: int = 0, zoom: float = 1.0):
        self.names = names
        self.caches = {n: Cache(cache_dir, f"{n}-train") for n in names}
        share = np.array([SOURCES[n].share for n in names])
        self.p = share / share.sum()
        self.seed, self.size, self.batch, self.rank, self.zoom = seed, size, batch, rank, zoom
        self.cutouts = Cutouts(cache_dir)
        self.rare = {}
        for n, c in self.caches.items():
            counts = np.bincount(np.concatenate([l[:, 0].astype(int) for l in c.labels if len(l)]), minlength=len(CLASSES))
            self.rare[n] = 1.0 / np.maximum(counts, 1) ** 0.9

    def __call__(self, step: int):
        rng = np.random.default_rng((self.seed, step, self.rank))
        images = np.empty((self.batch, self.size, self.size, 3), np.uint8)
        rows, known = [], np.zeros((self.batch, len(CLASSES)), np.float32)
        for b in range(self.batch):
            n = self.names[int(rng.choice(len(self.names), p=self.p))]
            known_here = SOURCES[n].known
            lay = None
            if n in AERIAL and self.cutouts.items:
                lay = lambda image, boxes, rng, k=known_here: self.cutouts.lay(image, boxes, rng, k)
            images[b], boxes = crop(self.caches[n], rng, self.size, tuple(self.zoom * s for s in SOURCES[n].scale), self.rare[n], lay)
            known[b, list(known_here)] = 1
            rows.append(boxes)
        m = max(1, max(len(r) for r in rows))
        packed = np.full((self.batch, m, 6), -1, np.float32)
        for b, r in enumerate(rows):
            packed[b, : len(r)] = r
        return images, packed, known
