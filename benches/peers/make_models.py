"""Model directories for the measures: `python benches/peers/make_models.py`.

Reads `yolov8n_int8.onnx` of ../shared/data/onnx_families (dynamic int8: ConvInteger) and writes, with manifests, into
target/bench/models: `yolov8n_int8`, the graph as it is, and `yolov8n_fp32`, the same graph with every ConvInteger turned
back into a float Conv of the same weights. Nothing of it is committed or shipped (AGPL-3.0).
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

REPO = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("AERIE_TEST_DATA", REPO / ".." / "shared" / "data"))
OUT = REPO / "target" / "bench" / "models"
# What a car is large in for COCO's pictures: 4.5 m as some 90 pixels. Chosen beforehand, not by the photos.
GSD_M = 0.05


def dequantised(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = model.graph
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    makers = {o: n for n in graph.node for o in n.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for n in graph.node:
        for i in n.input:
            users.setdefault(i, []).append(n)
    drop, made = set(), {}
    for conv in [n for n in graph.node if n.op_type == "ConvInteger"]:
        quantise = makers[conv.input[0]]
        cast = users[conv.output[0]][0]
        scaled = users[cast.output[0]][0]
        scale = makers[next(i for i in scaled.input if i != cast.output[0])]
        weight_scale = next(constants[i] for i in scale.input if i in constants)
        zero = constants[conv.input[3]].astype(np.float32) if len(conv.input) > 3 else np.float32(0)
        shape = (-1, 1, 1, 1) if np.ndim(weight_scale) == 1 and np.size(weight_scale) > 1 else ()
        weight = (constants[conv.input[1]].astype(np.float32) - np.reshape(zero, shape or np.shape(zero))) * np.reshape(weight_scale, shape or ())
        name = conv.output[0] + "_weight"
        graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), name))
        node = helper.make_node("Conv", [quantise.input[0], name], [scaled.output[0]], name=conv.name + "_float")
        node.attribute.extend(conv.attribute)
        made[id(scaled)] = node
        drop |= {id(conv), id(cast), id(scale), id(quantise)}
    nodes = [made.get(id(n), n) for n in graph.node if id(n) not in drop]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {i for n in graph.node for i in n.input}
    for i in [i for i in graph.initializer if i.name not in used]:
        graph.initializer.remove(i)
    onnx.checker.check_model(model)
    return model


def write(name: str, data: bytes, names: dict[int, str]) -> None:
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(data)
    classes = "\n".join(
        f'[[classes]]\nname = "{n}"\nthreshold = 0.3\ngrade = "real-not-aerial"\ncentre_height_m = 0.8\n' for n in names.values()
    )
    (folder / "manifest.toml").write_text(f"""name = "{name}"
version = "1"
file = "model.onnx"
sha256 = "{hashlib.sha256(data).hexdigest()}"
family = "yolo_raw"
gsd_m = {GSD_M}
nms_iou = 0.5
licence = "AGPL-3.0, a test input only"

[input]
width = 640
height = 640
stride = 32
dynamic = false
color = "rgb"
scale = 255.0
pad = 114

{classes}""")
    print(folder)


def main() -> int:
    source = DATA / "onnx_families" / "yolov8n_int8.onnx"
    if not source.exists():
        print(f"skipped: {source} is absent")
        return 1
    model = onnx.load(source)
    names = ast.literal_eval({p.key: p.value for p in model.metadata_props}["names"])
    write("yolov8n_int8", source.read_bytes(), names)
    write("yolov8n_fp32", dequantised(model).SerializeToString(), names)
    return 0


if __name__ == "__main__":
    sys.exit(main())
