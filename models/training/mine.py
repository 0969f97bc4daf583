"""Note where a model fires wrongly on the training pictures: `python models/training/mine.py`.

`train.py` then looks there too (a share of its crops), which teaches what only resembles a thing: stacked timber is no
excavator, a grey patch no smoke. Writes `hard` points into the cache's index; run it between two rounds of training.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

from data import DEFAULT_CACHE, REPO, SOURCES, Cache
from evaluate import iou, suppress


def main(argv=None) -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", type=Path, default=REPO / "models" / "default" / "model.onnx")
    ap.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    ap.add_argument("--sets", nargs="*", default=["towns"], choices=sorted(SOURCES))
    ap.add_argument("--above", type=float, default=0.3, help="scores from which a wrong box counts")
    ap.add_argument("--part", default="0/1", help="K/N: only every Nth picture from the Kth, for N processes beside each other; the last step joins them")
    args = ap.parse_args(argv)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(args.model), options)
    part, parts = (int(x) for x in args.part.split("/"))
    for name in args.sets:
        cache = Cache(args.cache, f"{name}-train")
        known = list(SOURCES[name].known)
        found: dict[int, list] = {}
        for k in range(part, len(cache), parts):
            image = cache.image(k)
            h, w = image.shape[0] // 32 * 32, image.shape[1] // 32 * 32
            out = session.run(None, {"images": (image[:h, :w].astype(np.float32) / 255).transpose(2, 0, 1)[None]})[0][0]
            scores = out[4:].max(0)
            keep = scores >= args.above
            cls, scores, box = out[4:, keep].argmax(0), scores[keep], out[:4, keep].T
            box = np.concatenate([box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2], 1)
            truth = cache.labels[k]
            points = []
            for c in known:
                of = cls == c
                boxes, sc = box[of], scores[of]
                for i in suppress(boxes, sc, 0.5):
                    b = boxes[i : i + 1]
                    same = truth[(truth[:, 0] == c) | (truth[:, 5] == 1)]
                    if not len(same) or iou(b, same[:, 1:5]).max() < 0.1:
                        points.append([c, round(float(b[0, [0, 2]].mean()), 1), round(float(b[0, [1, 3]].mean()), 1), round(float(sc[i]), 3)])
            if points:
                found[k] = points
        path = args.cache / f"{name}-train.hard.{part}of{parts}.json"
        for old in args.cache.glob(f"{name}-train.hard.*.json"):
            if not old.name.endswith(f"of{parts}.json"):
                old.unlink()  # of an earlier mining in other parts: its places would count twice
        path.write_text(json.dumps(found))
        print(f"{path.name}: {sum(len(p) for p in found.values())} wrong boxes in {len(found)} pictures", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
