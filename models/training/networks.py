"""The networks that `train.py` can train: ours, and a peer to measure it against.

YOLOX-nano as its paper's authors describe it (arXiv 2107.08430: CSPDarknet of depth 0.33 and width 0.25 with depthwise
convolutions, PAFPN, decoupled heads; 0.91 M parameters with 80 classes), written anew. Loss, assignment, distances and
crops are those of our own network, so that the two differ in the network alone; there is thus no objectness branch: the
class score holds the quality.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from classes import CLASSES
from model import CellDetector, Detector


def conv(cin: int, cout: int, k: int = 1, s: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(cin, cout, k, s, k // 2, groups=groups, bias=False),
        nn.BatchNorm2d(cout, eps=1e-3, momentum=0.03),
        nn.SiLU(inplace=True),
    )


def separable(cin: int, cout: int, s: int = 1) -> nn.Sequential:
    return nn.Sequential(conv(cin, cin, 3, s, cin), conv(cin, cout))


class Bottleneck(nn.Module):
    def __init__(self, c: int, shortcut: bool):
        super().__init__()
        self.body = nn.Sequential(conv(c, c), separable(c, c))
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


class CrossStage(nn.Module):
    def __init__(self, cin: int, cout: int, n: int = 1, shortcut: bool = True):
        super().__init__()
        h = cout // 2
        self.into, self.by, self.out = conv(cin, h), conv(cin, h), conv(2 * h, cout)
        self.body = nn.Sequential(*(Bottleneck(h, shortcut) for _ in range(n)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.cat((self.body(self.into(x)), self.by(x)), 1))


class PyramidPool(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.into, self.out = conv(c, c // 2), conv(2 * c, c)
        self.pools = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in (5, 9, 13))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.into(x)
        return self.out(torch.cat((x, *(pool(x) for pool in self.pools)), 1))


class DecoupledHead(nn.Module):
    def __init__(self, cin: int, c: int, classes: int):
        super().__init__()
        self.stem = conv(cin, c)
        self.cls = nn.Sequential(separable(c, c), separable(c, c), nn.Conv2d(c, classes, 1))
        self.reg = nn.Sequential(separable(c, c), separable(c, c), nn.Conv2d(c, 4, 1))
        # As in our own head: scores start at 0.01, boxes about four strides wide.
        for last, bias in ((self.cls[-1], -4.6), (self.reg[-1], 2.0)):
            nn.init.normal_(last.weight, std=0.01)
            nn.init.constant_(last.bias, bias)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(x)
        return self.cls(x), self.reg(x)


class YoloxNano(CellDetector):
    def __init__(self, classes: int = len(CLASSES)):
        super().__init__()
        self.stem = conv(12, 16, 3)
        self.c2 = nn.Sequential(separable(16, 32, 2), CrossStage(32, 32, 1))
        self.c3 = nn.Sequential(separable(32, 64, 2), CrossStage(64, 64, 3))
        self.c4 = nn.Sequential(separable(64, 128, 2), CrossStage(128, 128, 3))
        self.c5 = nn.Sequential(separable(128, 256, 2), PyramidPool(256), CrossStage(256, 256, 1, shortcut=False))
        self.lat5, self.td4 = conv(256, 128), CrossStage(256, 128, shortcut=False)
        self.lat4, self.td3 = conv(128, 64), CrossStage(128, 64, shortcut=False)
        self.up3, self.bu4 = separable(64, 64, 2), CrossStage(128, 128, shortcut=False)
        self.up4, self.bu5 = separable(128, 128, 2), CrossStage(256, 256, shortcut=False)
        self.heads = nn.ModuleList(DecoupledHead(c, 64, classes) for c in (64, 128, 256))

    def levels(self, x: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        # Four neighbours side by side: half the resolution, nothing lost.
        x = torch.cat((x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]), 1)
        c3 = self.c3(self.c2(self.stem(x)))
        c4 = self.c4(c3)
        double = lambda y: F.interpolate(y, scale_factor=2.0, mode="nearest")
        t5 = self.lat5(self.c5(c4))
        t4 = self.lat4(self.td4(torch.cat((double(t5), c4), 1)))
        p3 = self.td3(torch.cat((double(t4), c3), 1))
        p4 = self.bu4(torch.cat((self.up3(p3), t4), 1))
        p5 = self.bu5(torch.cat((self.up4(p4), t5), 1))
        return [head(p) for head, p in zip(self.heads, (p3, p4, p5))]


NETWORKS = {"aerie": Detector, "yolox-nano": YoloxNano}
