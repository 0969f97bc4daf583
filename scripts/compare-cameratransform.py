#!/usr/bin/env python3
"""How long `cameratransform` (PyPI) takes for a position, beside aerie. Both on this machine, one after the other.

    python3 -m venv venv && venv/bin/pip install cameratransform
    cargo bench --bench locate -- flat
    venv/bin/python scripts/compare-cameratransform.py ../shared/data/georef/thunderstorm/obs.csv

Each row has its own pose, so a camera is set up for each, as aerie does; the second figure leaves the set-up out. aerie's
figures are read from what criterion left in target/criterion; they include the error ellipse, which cameratransform has not.
"""

import csv
import json
import pathlib
import sys
import time
import warnings

warnings.filterwarnings("ignore")
import cameratransform as ct  # noqa: E402


def camera(row):
    n = {k: float(v) for k, v in row.items() if k.endswith(("_px", "_deg", "_m", "_w", "_h")) or k in ("k1", "k2", "k3")}
    return ct.Camera(
        ct.RectilinearProjection(
            focallength_px=n["fx_px"], center=(n["cx_px"], n["cy_px"]), image=(int(n["img_w"]), int(n["img_h"]))
        ),
        ct.SpatialOrientation(
            elevation_m=n["drone_hae_m"] - n["gcp_hae_m"],
            tilt_deg=90 + n["pitch_deg"],
            heading_deg=n["yaw_true_deg"],
            roll_deg=n["roll_deg"],
        ),
        ct.BrownLensDistortion(n["k1"], n["k2"], n["k3"]),
    )


def main():
    rows = list(csv.DictReader(open(sys.argv[1])))
    start = time.perf_counter()
    for row in rows:
        cam = camera(row)
        cam.setGPSpos(float(row["drone_lat"]), float(row["drone_lon"]), cam.elevation_m)
        cam.gpsFromImage([[float(row["px_x"]), float(row["px_y"])]], Z=0)
    whole = (time.perf_counter() - start) / len(rows)
    cams = [camera(row) for row in rows]
    for cam, row in zip(cams, rows):
        cam.setGPSpos(float(row["drone_lat"]), float(row["drone_lon"]), cam.elevation_m)
        cam.gpsFromImage([[float(row["px_x"]), float(row["px_y"])]], Z=0)
    start = time.perf_counter()
    for cam, row in zip(cams, rows):
        cam.gpsFromImage([[float(row["px_x"]), float(row["px_y"])]], Z=0)
    warm = (time.perf_counter() - start) / len(rows)
    print(f"cameratransform, a row with its own pose: {whole * 1e6:.0f} us; the same without setting the camera up: {warm * 1e6:.0f} us")
    for estimate in sorted(pathlib.Path("target/criterion").glob("flat*/new/estimates.json")):
        aerie = json.loads(estimate.read_text())["median"]["point_estimate"] / 1e9
        print(f"aerie, {estimate.parts[-3]}: {aerie * 1e6:.2f} us: {whole / aerie:.0f} and {warm / aerie:.0f} times as fast")


main()
