"""aerie's engine beside supervision.InferenceSlicer and SAHI: `python benches/peers/peers.py`.

    python -m venv VENV && VENV/bin/pip install onnx onnxruntime==1.24.4 numpy opencv-python-headless supervision sahi
    VENV/bin/python benches/peers/make_models.py
    cargo build --release --example tiles
    VENV/bin/python benches/peers/peers.py [--frames 200] [--model yolov8n_fp32]

All three get the same decoded frames (cut from the four photos of ../shared/data), the same ONNX file, the same ONNX
Runtime (1.24.4, one thread, spinning off), the same tiles (640 px, 20 % overlap; frame sizes at which both slicers and we
agree on them), the same score limit, and suppress plainly by class at IoU 0.5 over all tiles. They take turns frame by
frame; the time is processor time of the process, so what else runs on the machine does not count. Each peer's adapter is
what its documentation asks for, written in numpy without waste: the same `Yolo` reads the graph for both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

REPO = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("AERIE_TEST_DATA", REPO / ".." / "shared" / "data"))
TILE, OVERLAP, SCORE, IOU = 640, 128, 0.3, 0.5
SIZES = ((1152, 640), (1152, 1152), (1664, 1152))  # 2, 4 and 6 tiles, none of them clipped

cv2.setNumThreads(1)


class Yolo:
    """The graph, and its raw output as boxes: one look at a tile."""

    def __init__(self, path: Path):
        o = ort.SessionOptions()
        o.intra_op_num_threads = 1
        o.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(str(path), o, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.spent = 0.0

    def __call__(self, tile: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x = np.ascontiguousarray(tile.transpose(2, 0, 1)[None], dtype=np.float32)
        x /= 255.0
        t = time.process_time()
        out = self.session.run(None, {self.input: x})[0][0]
        self.spent += time.process_time() - t
        scores = out[4:].max(0)
        at = np.flatnonzero(scores >= SCORE)
        classes = out[4:, at].argmax(0)
        xy, wh = out[:2, at].T, out[2:4, at].T
        return np.concatenate([xy - wh / 2, xy + wh / 2], 1), scores[at], classes


class Supervision:
    name = "supervision"

    def __init__(self, model: Path):
        import supervision as sv

        self.sv, self.yolo = sv, Yolo(model)
        self.slicer = sv.InferenceSlicer(
            callback=self.look, slice_wh=TILE, overlap_wh=OVERLAP, iou_threshold=IOU,
            overlap_filter=sv.OverlapFilter.NON_MAX_SUPPRESSION, thread_workers=1,
        )

    def look(self, tile: np.ndarray):
        boxes, scores, classes = self.yolo(tile)
        return self.sv.Detections(xyxy=boxes, confidence=scores, class_id=classes)

    def __call__(self, frame: np.ndarray) -> list:
        d = self.slicer(frame)
        return [[int(c), float(s), *map(float, b)] for c, s, b in zip(d.class_id, d.confidence, d.xyxy)] if len(d) else []


class Sahi:
    name = "sahi"

    def __init__(self, model: Path):
        from sahi.models.base import DetectionModel
        from sahi.prediction import ObjectPrediction
        from sahi.predict import get_sliced_prediction

        class Adapter(DetectionModel):
            def load_model(self):
                self.model = Yolo(model)
                self.category_mapping = {str(i): str(i) for i in range(80)}

            def perform_inference(self, image):
                self._original_predictions = self.model(image)

            def _create_object_prediction_list_from_original_predictions(self, shift_amount_list=None, full_shape_list=None):
                shift = shift_amount_list[0] if shift_amount_list and isinstance(shift_amount_list[0], (list, tuple)) else shift_amount_list or [0, 0]
                full = full_shape_list[0] if full_shape_list and isinstance(full_shape_list[0], (list, tuple)) else full_shape_list
                boxes, scores, classes = self._original_predictions
                self._object_prediction_list_per_image = [[
                    ObjectPrediction(bbox=b.tolist(), category_id=int(c), category_name=str(c), score=float(s), shift_amount=shift, full_shape=full)
                    for b, s, c in zip(boxes, scores, classes)
                ]]

        self.predict, self.model = get_sliced_prediction, Adapter(confidence_threshold=SCORE, device="cpu")
        self.yolo = self.model.model

    def __call__(self, frame: np.ndarray) -> list:
        r = self.predict(
            frame, self.model, slice_height=TILE, slice_width=TILE, overlap_height_ratio=OVERLAP / TILE, overlap_width_ratio=OVERLAP / TILE,
            perform_standard_pred=False, postprocess_type="NMS", postprocess_match_metric="IOU", postprocess_match_threshold=IOU, verbose=0,
        )
        return [[p.category.id, p.score.value, *p.bbox.to_xyxy()] for p in r.object_prediction_list]


class Ours:
    """The example `tiles`, fed by lines, in the environment that the station gives its child (perception::supervise)."""

    name = "aerie"

    def __init__(self, model: Path):
        self.child = subprocess.Popen(
            [REPO / "target" / "release" / "examples" / "tiles", model.parent, str(TILE), str(OVERLAP), str(SCORE), str(IOU)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
        )

    def ask(self, path: Path, width: int, height: int) -> dict:
        print(path, width, height, file=self.child.stdin, flush=True)
        return json.loads(self.child.stdout.readline())


def frames(count: int):
    """Cuts of the photos, the same in every run."""
    photos = [cv2.cvtColor(cv2.imread(str(p)), cv2.COLOR_BGR2RGB) for p in sorted((DATA / "photos").glob("*.JPG"))]
    rng = np.random.default_rng(4)
    for k in range(count):
        photo, (w, h) = photos[k % len(photos)], SIZES[k % len(SIZES)]
        x, y = rng.integers(0, photo.shape[1] - w), rng.integers(0, photo.shape[0] - h)
        yield np.ascontiguousarray(photo[y : y + h, x : x + w])


def agree(a: list, b: list) -> tuple[int, int]:
    """Boxes of either that have one of the same class at IoU 0.9 in the other, and how many there are."""
    def hits(one, other):
        n = 0
        for c, _, x1, y1, x2, y2 in one:
            for d, _, u1, v1, u2, v2 in other:
                inter = max(0, min(x2, u2) - max(x1, u1)) * max(0, min(y2, v2) - max(y1, v1))
                union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - inter
                if c == d and inter >= 0.9 * union:
                    n += 1
                    break
        return n
    return hits(a, b) + hits(b, a), len(a) + len(b)


def memory(kind: str, model: Path, count: int) -> None:
    """One engine alone in a process of its own, for its peak."""
    engine = {"supervision": Supervision, "sahi": Sahi}[kind](model)
    for frame in frames(count):
        engine(frame)
    status = Path("/proc/self/status").read_text()
    print(int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024)


def main() -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--frames", type=int, default=200)
    ap.add_argument("--model", default="yolov8n_fp32")
    ap.add_argument("--memory", help=argparse.SUPPRESS)
    a = ap.parse_args()
    model = REPO / "target" / "bench" / "models" / a.model / "model.onnx"
    if a.memory:
        memory(a.memory, model, 12)
        return 0
    peers, ours = [Supervision(model), Sahi(model)], Ours(model)
    raw = REPO / "target" / "bench" / "frame.rgb"
    cpu = {e.name: [] for e in (*peers, ours)}
    outside = {e.name: [] for e in (*peers, ours)}
    same = {p.name: [0, 0] for p in peers}
    tiles = 0
    for k, frame in enumerate(frames(a.frames)):
        h, w = frame.shape[:2]
        frame.tofile(raw)
        found = {}

        def peer(p):
            p.yolo.spent, t = 0.0, time.process_time()
            found[p.name] = p(frame)
            total = time.process_time() - t
            cpu[p.name].append(total)
            outside[p.name].append(total - p.yolo.spent)

        def own():
            r = ours.ask(raw, w, h)
            found["aerie"] = r["boxes"]
            cpu["aerie"].append(r["cpu_s"])
            outside["aerie"].append(r["cpu_s"] - r["inference_s"])
            return r["tiles"]

        turns = [lambda: peer(peers[0]), lambda: peer(peers[1]), own]
        for turn in turns[k % 3 :] + turns[: k % 3]:
            n = turn()
            tiles += n or 0
        for p in peers:
            n, total = agree(found[p.name], found["aerie"])
            same[p.name][0] += n
            same[p.name][1] += total
    ours.child.stdin.close()
    last = json.loads(ours.child.stdout.readline())
    # The first frames warm the caches and the memory of the sessions.
    cpu = {n: np.array(v[6:]) for n, v in cpu.items()}
    outside = {n: np.array(v[6:]) for n, v in outside.items()}
    peak = {p.name: float(subprocess.check_output([sys.executable, __file__, "--memory", p.name, "--model", a.model]).split()[-1]) for p in peers}
    peak["aerie"] = last["peak_mb"]
    print(f"{a.model}, {a.frames} frames, {tiles} tiles of {TILE} px")
    for n in cpu:
        line = f"  {n:12} {1e3 * cpu[n].mean():7.1f} CPU-ms a frame, outside session.run {1e3 * outside[n].mean():6.2f}, peak {peak[n]:.0f} MB"
        if n in same:
            line += f"; same boxes as aerie {100 * same[n][0] / max(1, same[n][1]):.2f} % of {same[n][1]}"
        print(line)
    fastest = min(peers, key=lambda p: cpu[p.name].mean()).name
    leanest = min(peers, key=lambda p: outside[p.name].mean()).name
    print(f"  aerie / {fastest}: CPU {cpu['aerie'].sum() / cpu[fastest].sum():.3f} (paired median {np.median(cpu['aerie'] / cpu[fastest]):.3f}; target 0.97)")
    print(f"  aerie / {leanest}: CPU outside session.run {outside['aerie'].sum() / outside[leanest].sum():.3f} (target 0.4)")
    print(f"  aerie / leaner: peak memory {peak['aerie'] / min(peak[p.name] for p in peers):.2f} (target 1)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
