"""Which cell learns which box, and what each mistake costs.

Assignment is task-aligned: a cell is worth `score^0.5 * iou^6` to a box it lies in, the best
`TOP` cells of a box learn it, and a cell wanted by two boxes goes to the one it overlaps more.
A fresh network's scores and boxes are noise, so the first steps assign by geometry instead: the
overlap of the box with a square of five strides at the cell, which picks level and centre.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

TOP = 9


def pairwise_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """[B,M,4] x [B,N,4] -> [B,M,N]"""
    lt = torch.maximum(a[:, :, None, :2], b[:, None, :, :2])
    rb = torch.minimum(a[:, :, None, 2:], b[:, None, :, 2:])
    wh = (rb - lt).clamp_(min=0)
    inter = wh[..., 0] * wh[..., 1]
    area_a = ((a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1]))[:, :, None]
    area_b = ((b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]))[:, None, :]
    return inter / (area_a + area_b - inter + 1e-7)


def giou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    lt, rb = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    wh = (rb - lt).clamp(min=0)
    inter = wh[:, 0] * wh[:, 1]
    union = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1]) + (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) - inter
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    hull_area = hull[:, 0] * hull[:, 1]
    return inter / (union + 1e-7) - (hull_area - union) / (hull_area + 1e-7)


@torch.no_grad()
def assign(probs, boxes, centres, strides, truth, by_geometry: bool):
    """truth [B,M,6] (class, x1,y1,x2,y2, ignore; class -1 = padding).

    Returns index of the truth a cell learns [B,N] (-1 none), its target score [B,N].
    """
    cls, gt = truth[..., 0], truth[..., 1:5]
    valid = (cls >= 0) & (truth[..., 5] == 0)
    # A car 18 px wide holds few cell centres: every box reaches at least one stride around its centre.
    mid, half = (gt[..., :2] + gt[..., 2:]) / 2, (gt[..., 2:] - gt[..., :2]) / 2
    off = (centres[None, None] - mid[:, :, None]).abs()
    inside = ((off <= half[:, :, None]) | (off <= 0.75 * strides[None, None, :, None])).all(-1)
    iou = pairwise_iou(gt, boxes)
    if by_geometry:
        prior = torch.cat((centres - 2.5 * strides[:, None], centres + 2.5 * strides[:, None]), 1)
        worth = pairwise_iou(gt, prior[None].expand(gt.shape[0], -1, -1))
    else:
        score = probs.gather(2, cls.clamp(min=0).long()[:, None, :].expand(-1, probs.shape[1], -1)).transpose(1, 2)
        worth = score.clamp(min=1e-6).sqrt() * iou.pow(6)
    worth = worth * inside * valid[..., None]
    k = min(TOP, worth.shape[-1])
    best, at = worth.topk(k, -1)
    chosen = torch.zeros_like(worth, dtype=torch.bool).scatter_(2, at, best > 1e-9)
    contest = iou if not by_geometry else worth
    owner_worth, owner = torch.where(chosen, contest + 1e-9, torch.zeros_like(contest)).max(1)
    index = torch.where(owner_worth > 0, owner, torch.full_like(owner, -1))
    # Target: best overlap of the box's cells, scaled by how well this cell is aligned.
    owned = F.one_hot(index.clamp(min=0), worth.shape[1]).transpose(1, 2).bool() & (index >= 0)[:, None]
    w = worth * owned
    peak = w.amax(-1, keepdim=True)
    peak_iou = (iou * owned).amax(-1, keepdim=True)
    if by_geometry:
        peak_iou = peak_iou.clamp(min=0.5)
    target = (w / (peak + 1e-12) * peak_iou).sum(1)
    return index, target


def detection_loss(out, truth, known, by_geometry: bool):
    """Mean over positives of focal-weighted classification plus GIoU. `known` [B,C]: classes this picture labels."""
    logits, boxes, centres, strides = out
    probs = logits.detach().sigmoid()
    index, target = assign(probs, boxes.detach(), centres, strides, truth, by_geometry)
    pos = index >= 0
    at = index.clamp(min=0)
    cls = truth[..., 0].clamp(min=0).long().gather(1, at)
    want = torch.zeros_like(logits)
    want.scatter_(2, cls[..., None], (target * pos)[..., None])

    weight = known[:, None, :].expand_as(logits).clone()
    ignore = (truth[..., 5] == 1) & (truth[..., 0] >= -1)
    if ignore.any():
        g = truth[..., 1:5]
        hit = ((centres[None, None] >= g[:, :, None, :2]) & (centres[None, None] <= g[:, :, None, 2:])).all(-1) & ignore[..., None]
        for c in range(logits.shape[2]):
            of_class = (truth[..., 0] == c) | (truth[..., 0] == -1)
            weight[..., c] *= 1 - (hit & of_class[..., None]).any(1).float() * (want[..., c] == 0)
    # Varifocal: positives count by their quality, easy negatives hardly at all.
    focus = torch.where(want > 0, want, 0.75 * probs.square())
    total = target.sum().clamp(min=1.0)
    loss_cls = (F.binary_cross_entropy_with_logits(logits, want, reduction="none") * focus * weight).sum() / total
    if pos.any():
        gt = truth[..., 1:5].gather(1, at[..., None].expand(-1, -1, 4))[pos]
        t = target[pos]
        loss_box = ((1 - giou(boxes[pos], gt)) * t).sum() / total
    else:
        loss_box = boxes.sum() * 0
    return loss_cls + 2.0 * loss_box, loss_cls.detach(), loss_box.detach()
