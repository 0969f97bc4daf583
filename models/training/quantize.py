"""fp32 -> static int8 (QDQ), and how far the two agree: `python models/training/quantize.py`.

Convolutions and what lies between them run on 8-bit integers (activations with a range each, weights with one a channel),
calibrated on generated towns that were neither trained on nor are measured on; the decode tail (everything behind the
last convolutions of the heads) stays fp32: a box coordinate of 600 px in 8 bits would be off by 2.

Writes a model directory beside nothing else, and accepts it only if `evaluate.py`'s AP50 on the generated towns of `--cache`
falls by at most 0.01 in the mean over the classes; with `--out models/default-int8`, say, `aerie run` can use it by
`perception.model`. Exit code 1: not accepted.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from data import ALL, DEFAULT_CACHE, DEFAULT_TOWNS, REPO, Cache
from evaluate import Model, evaluate_set

MOST_LOST = 0.01
MOST_PICTURES = 60


def tail(model: onnx.ModelProto) -> list[str]:
    """The nodes behind the last convolutions: those from which no convolution is reached any more."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    before: set[int] = set()
    for node in reversed(model.graph.node):
        following = [u for o in node.output for u in users.get(o, [])]
        if node.op_type == "Conv" or any(id(u) in before for u in following):
            before.add(id(node))
    return [node.name for node in model.graph.node if id(node) not in before]


class Towns(CalibrationDataReader):
    def __init__(self, pictures: list[Path], name: str):
        self.left, self.name = iter(pictures), name

    def get_next(self):
        path = next(self.left, None)
        if path is None:
            return None
        rgb = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        h, w = (side // 32 * 32 for side in rgb.shape[:2])
        return {self.name: np.ascontiguousarray(rgb[:h, :w].transpose(2, 0, 1)[None], np.float32) / 255}


def quantise(source: Path, out: Path, pictures: list[Path]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        # With the input's sides left open, symbolic shapes of the decode tail's ranges cannot be told: nothing needs them.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        model = onnx.load(prepared)
        quantize_static(
            str(prepared), str(out), Towns(pictures, model.graph.input[0].name), quant_format=QuantFormat.QDQ,
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            # 7-bit weights: without VNNI the 8-bit product of two pairs overflows 16 bits.
            reduce_range=True, calibrate_method=CalibrationMethod.MinMax, nodes_to_exclude=tail(model),
            extra_options={"ActivationSymmetric": False},
        )


def cpu_ratio(fp32: Path, int8: Path, pairs: int = 40) -> tuple[float, float, float]:
    """CPU of a 640x640 tile, paired medians."""
    x = np.random.default_rng(0).random((1, 3, 640, 640), np.float32)
    one, other = Model(fp32), Model(int8)
    times = []
    for k in range(pairs + 3):
        pair = {}
        for name, model in ((0, one), (1, other)) if k % 2 else ((1, other), (0, one)):
            t = time.process_time()
            model.session.run(["output0"], {"images": x})
            pair[name] = time.process_time() - t
        times.append((pair[0], pair[1]))
    times = np.array(times[3:])
    return 1e3 * np.median(times[:, 0]), 1e3 * np.median(times[:, 1]), float(np.median(times[:, 1] / times[:, 0]))


def main(argv=None) -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", type=Path, default=REPO / "models" / "default" / "model.onnx")
    ap.add_argument("--calibration", type=Path, default=DEFAULT_TOWNS / "calibration" / "images",
                    help="generated pictures: town_dataset target/towns/calibration 6000 180 5 plain")
    ap.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    ap.add_argument("--set", default="towns-val")
    ap.add_argument("--out", type=Path, default=REPO / "target" / "training" / "int8")
    a = ap.parse_args(argv)
    pictures = sorted(a.calibration.glob("*.jpg"))
    pictures = pictures[:: max(1, len(pictures) // MOST_PICTURES)][:MOST_PICTURES]
    if len(pictures) < 16:
        print(f"{a.calibration}: {len(pictures)} pictures, at least 16 are needed: {ap._option_string_actions['--calibration'].help}")
        return 1
    a.out.mkdir(parents=True, exist_ok=True)
    out = a.out / "model.onnx"
    quantise(a.model, out, pictures)
    text = (a.model.parent / "manifest.toml").read_text()
    text = re.sub(r'(?m)^sha256 = ".*"$', f'sha256 = "{hashlib.sha256(out.read_bytes()).hexdigest()}"', text)
    text = re.sub(r'(?m)^version = "(.*)"$', r'version = "\1-int8"', text)
    (a.out / "manifest.toml").write_text(text)

    fp32_ms, int8_ms, ratio = cpu_ratio(a.model, out)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, calibrated on {len(pictures)} pictures; a 640x640 tile: "
          f"{int8_ms:.1f} CPU-ms, fp32 {fp32_ms:.1f}, ratio {ratio:.3f}")
    cache, thresholds = Cache(a.cache, a.set), [0.5] * len(ALL)
    lost = []
    of = {name: evaluate_set(Model(path), cache, ALL, thresholds) for name, path in (("fp32", a.model), ("int8", out))}
    for c, v in of["fp32"].items():
        if isinstance(v, dict):
            lost.append(v["ap50"] - of["int8"][c]["ap50"])
            print(f"  {c:16} {v['boxes']:5} boxes  AP50 fp32 {v['ap50']:.3f}  int8 {of['int8'][c]['ap50']:.3f}")
    mean = sum(lost) / len(lost)
    accepted = mean <= MOST_LOST
    print(f"mAP50 lost {mean:+.4f} (at most {MOST_LOST}): {'accepted' if accepted else 'NOT accepted'}")
    return 0 if accepted else 1


if __name__ == "__main__":
    sys.exit(main())
