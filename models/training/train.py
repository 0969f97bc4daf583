"""Train the detector from random weights: `python models/training/train.py`.

One process a core, each with one thread, averaging gradients: on a machine that others use too,
threads of one process spend their time waiting for each other at every layer, processes only once
a step. Resumes from the last checkpoint by itself; a resumed run sees the batches it would have
seen. With a GPU, `--device cuda --workers 1 --batch 32`.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import queue
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from data import DEFAULT_CACHE, DEFAULT_RUN, SOURCES, Sampler
from loss import detection_loss
from model import load_saved
from networks import NETWORKS


def arguments(argv=None) -> argparse.Namespace:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    ap.add_argument("--run", type=Path, default=DEFAULT_RUN, help="checkpoints and the log go here")
    ap.add_argument("--sets", nargs="*", help="which sets; default: all that are in the cache")
    ap.add_argument("--steps", type=int, default=9000)
    ap.add_argument("--cooldown", type=float, default=0.35, help="share of the steps, at the end, over which the rate falls to nearly nothing")
    ap.add_argument("--warmup", type=int, default=150)
    ap.add_argument("--by-geometry", type=int, default=250, help="first steps that assign by geometry alone")
    ap.add_argument("--batch", type=int, default=8, help="crops a worker and step")
    ap.add_argument("--size", type=int, default=320)
    ap.add_argument("--rate", type=float, default=2e-3)
    ap.add_argument("--decay", type=float, default=0.02)
    ap.add_argument("--ema", type=float, default=0.998)
    ap.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    ap.add_argument("--device", default="cpu")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--save-every", type=int, default=200)
    ap.add_argument("--network", choices=sorted(NETWORKS), default="aerie", help="yolox-nano: the peer, for comparison (networks.py)")
    ap.add_argument("--zoom", type=float, default=1.0, help="show the cache at this scale: 0.5 teaches twice its metres a pixel (experiment.py gsd)")
    ap.add_argument("--init", type=Path, help="start from this checkpoint's weights of an earlier run of this script")
    return ap.parse_args(argv)


def rate_at(step: int, a: argparse.Namespace) -> float:
    """Warm-up, a plateau, then a cosine to 1 %: the plateau lets a run be made longer while it is under way."""
    if step < a.warmup:
        return a.rate * (step + 1) / a.warmup
    start = a.steps * (1 - a.cooldown)
    if step < start:
        return a.rate
    x = min(1.0, (step - start) / max(1.0, a.steps - start))
    return a.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * x)))


def prefetched(sampler: Sampler, start: int, stop: int):
    """Batches from a thread, two ahead at most (OpenCV lets go of the interpreter while it works)."""
    ahead: queue.Queue = queue.Queue(2)

    def fill():
        try:
            for step in range(start, stop):
                ahead.put((step, sampler(step)))
            ahead.put(None)
        except BaseException as e:  # a thread's death must not leave the trainer waiting for ever
            ahead.put(e)

    threading.Thread(target=fill, daemon=True).start()
    while (item := ahead.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item


def work(rank: int, a: argparse.Namespace, meet: str) -> None:
    torch.set_num_threads(1 if a.device == "cpu" else 4)
    torch.manual_seed(a.seed)
    if a.workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=a.workers, timeout=timedelta(hours=2))
    names = a.sets or [n for n in SOURCES if (a.cache / f"{n}-train.json").exists()]
    if not names:
        raise SystemExit(f"no set in {a.cache}: run prepare.py first")
    device = torch.device(a.device)
    net = NETWORKS[a.network]().to(device, memory_format=torch.channels_last)
    ema = copy.deepcopy(net).eval().requires_grad_(False)
    still = [p for p in net.parameters() if p.ndim < 2]
    heavy = [p for p in net.parameters() if p.ndim >= 2]
    opt = torch.optim.AdamW([{"params": heavy, "weight_decay": a.decay}, {"params": still, "weight_decay": 0.0}], lr=a.rate, betas=(0.9, 0.99))
    last = a.run / "last.pt"
    step = 0
    if last.exists():
        saved = load_saved(last, device)
        net.load_state_dict(saved["net"])
        ema.load_state_dict(saved["ema"])
        opt.load_state_dict(saved["opt"])
        step = saved["step"]
    elif a.init:
        saved = load_saved(a.init, device)
        net.load_state_dict(saved["ema"])
        ema.load_state_dict(saved["ema"])

    def save() -> None:
        partial = a.run / "last.pt.partial"
        torch.save({"net": net.state_dict(), "ema": ema.state_dict(), "opt": opt.state_dict(), "step": step, "sets": names, "seed": a.seed, "network": a.network}, partial)
        partial.replace(last)

    log = None
    if rank == 0:
        a.run.mkdir(parents=True, exist_ok=True)
        log = open(a.run / "log.txt", "a", buffering=1)
        log.write(f"# sets {names} from step {step} to {a.steps}, {vars(a)}\n")
    params = [p for p in net.parameters()]
    net.train()
    seen, t0 = np.zeros(3), time.time()
    for step, (images, truth, known) in prefetched(Sampler(a.cache, names, a.seed, a.size, a.batch, rank, a.zoom), step, a.steps):
        for g in opt.param_groups:
            g["lr"] = rate_at(step, a)
        x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div_(255)
        loss, lc, lb = detection_loss(net(x), torch.from_numpy(truth).to(device), torch.from_numpy(known).to(device), step < a.by_geometry and not a.init)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        if a.workers > 1:
            flat = torch.cat([p.grad.reshape(-1) for p in params])
            dist.all_reduce(flat)
            flat /= a.workers
            at = 0
            for p in params:
                p.grad.copy_(flat[at : at + p.numel()].view_as(p))
                at += p.numel()
        torch.nn.utils.clip_grad_norm_(params, 10.0)
        opt.step()
        if rank == 0:
            keep = min(a.ema, (1 + step) / (20 + step))
            with torch.no_grad():
                for e, p in zip(ema.state_dict().values(), net.state_dict().values()):
                    if e.dtype.is_floating_point:
                        e.lerp_(p, 1 - keep)
                    else:
                        e.copy_(p)
            value = loss.item()
            if not math.isfinite(value):
                raise SystemExit(f"loss is {value} at step {step}: lower --rate and resume")
            seen += (value, lc.item(), lb.item())
            step += 1
            if step % 50 == 0:
                log.write(f"{step} loss {seen[0] / 50:.3f} cls {seen[1] / 50:.3f} box {seen[2] / 50:.3f} rate {rate_at(step, a):.2e} {(time.time() - t0) / 50:.2f} s/step\n")
                seen, t0 = np.zeros(3), time.time()
            if step % a.save_every == 0 or step == a.steps:
                save()
    if a.workers > 1:
        dist.barrier()
        dist.destroy_process_group()


def main(argv=None) -> int:
    a = arguments(argv)
    if a.workers == 1:
        work(0, a, "")
    else:
        with tempfile.TemporaryDirectory() as d:
            mp.spawn(work, (a, os.path.join(d, "meet")), nprocs=a.workers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
