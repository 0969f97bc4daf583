"""The detector: a small anchor-free one-stage network, written for one CPU core.

What shaped it:
- A stem of stride 4 in one step. At 0.10 m a pixel the smallest thing we look for is about
  18 px wide, so full- and half-resolution feature maps, and blocks at a quarter, would cost
  memory traffic, which is what a CPU is short of, and buy little.
- ReLU: it is folded into the convolution by ONNX Runtime; SiLU is not, and costs an `exp` a value.
- Plain 3x3 convolutions in narrow cross-stage blocks: on a CPU they run near peak, while
  depthwise ones are bound by memory. Depthwise appears only in the heads, at one channel width.
- Boxes are four distances (left, top, right, bottom) from the cell's centre, in strides, through
  softplus: no distribution to integrate, and linear for large things.
- The class score means "how well does this box fit a thing of this class": classification and
  quality in one number, so nothing needs multiplying afterwards.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from classes import CLASSES

STRIDES = (8, 16, 32)
# Light, red against green, blue against yellow. As RGB the three channels are nearly the same picture, and
# a short training learns colour last (it took red soil for blue steel). Linear, so `fuse` folds it into the stem.
OPPONENT = ((0.7, 0.7, 0.7), (6.0, -6.0, 0.0), (-3.0, -3.0, 6.0))


def load_saved(path, device="cpu") -> dict:
    """What `train.py` saved. Torch before 2 reads no plain numbers in the safe way; the file is our own."""
    return torch.load(path, map_location=device, weights_only=int(torch.__version__.split(".")[0]) >= 2)


class ConvBN(nn.Module):
    """Convolution, batch norm, ReLU; `fuse` folds the norm into the convolution for export."""

    def __init__(self, cin: int, cout: int, k: int = 1, s: int = 1, groups: int = 1, act: bool = True, pad: int | None = None):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, k, s, k // 2 if pad is None else pad, groups=groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(cout, eps=1e-3, momentum=0.03)
        self.act = nn.ReLU(inplace=True) if act else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.bn(self.conv(x)))

    @torch.no_grad()
    def fuse(self) -> None:
        if isinstance(self.bn, nn.Identity):
            return
        gain = self.bn.weight / torch.sqrt(self.bn.running_var + self.bn.eps)
        fused = nn.Conv2d(
            self.conv.in_channels, self.conv.out_channels, self.conv.kernel_size, self.conv.stride,
            self.conv.padding, groups=self.conv.groups, bias=True,
        )
        fused.weight.copy_(self.conv.weight * gain[:, None, None, None])
        fused.bias.copy_(self.bn.bias - self.bn.running_mean * gain)
        self.conv, self.bn = fused, nn.Identity()


class Residual(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.a = ConvBN(c, c, 3)
        self.b = ConvBN(c, c, 3, act=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.b(self.a(x)))


class Cross(nn.Module):
    """Cross-stage block: half of the channels pass by, half go through `n` residual pairs."""

    def __init__(self, cin: int, cout: int, n: int):
        super().__init__()
        h = cout // 2
        self.by = ConvBN(cin, h)
        self.into = ConvBN(cin, h)
        self.body = nn.Sequential(*(Residual(h) for _ in range(n)))
        self.out = ConvBN(2 * h, cout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.cat((self.by(x), self.body(self.into(x))), 1))


class Context(nn.Module):
    """Pooling at three sizes: lets the coarsest level see a whole earthwork and its surroundings."""

    def __init__(self, c: int):
        super().__init__()
        self.into = ConvBN(c, c // 2)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.out = ConvBN(c * 2, c)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.into(x)
        p1 = self.pool(x)
        p2 = self.pool(p1)
        return self.out(torch.cat((x, p1, p2, self.pool(p2)), 1))


class Head(nn.Module):
    """Decoupled: one branch says what, the other where."""

    def __init__(self, cin: int, c: int, classes: int):
        super().__init__()
        self.stem = ConvBN(cin, c)
        self.cls = nn.Sequential(ConvBN(c, c, 5, groups=c), ConvBN(c, c))
        self.reg = nn.Sequential(ConvBN(c, c, 5, groups=c), ConvBN(c, c))
        self.cls_out = nn.Conv2d(c, classes, 1)
        self.reg_out = nn.Conv2d(c, 4, 1)
        nn.init.normal_(self.cls_out.weight, std=0.01)
        nn.init.constant_(self.cls_out.bias, -4.6)  # p = 0.01: the first steps are not spent on unlearning
        nn.init.normal_(self.reg_out.weight, std=0.01)
        nn.init.constant_(self.reg_out.bias, 2.0)  # boxes start about four strides wide

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(x)
        return self.cls_out(self.cls(x)), self.reg_out(self.reg(x))


class CellDetector(nn.Module):
    """What training, loss and export ask of a network: `levels`, maps of class logits and of distances in strides."""

    def levels(self, x: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        raise NotImplementedError

    def fuse(self) -> "CellDetector":
        return self

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Class logits [B,N,C], boxes [B,N,4] (x1,y1,x2,y2 in input pixels), centres [N,2], strides [N]."""
        logits, boxes, centres, strides = [], [], [], []
        for (c, r), stride in zip(self.levels(x), STRIDES):
            at = cell_centres(c, stride)
            d = F.softplus(r.flatten(2).transpose(1, 2)) * stride
            logits.append(c.flatten(2).transpose(1, 2))
            boxes.append(torch.cat((at - d[..., :2], at + d[..., 2:]), -1))
            centres.append(at)
            strides.append(torch.full((at.shape[0],), float(stride), device=x.device))
        return torch.cat(logits, 1), torch.cat(boxes, 1), torch.cat(centres), torch.cat(strides)


class Detector(CellDetector):
    def __init__(self, classes: int = len(CLASSES)):
        super().__init__()
        # Kept in checkpoints, so that one of a network that saw plain RGB is refused and not misread.
        self.register_buffer("opponent", torch.tensor(OPPONENT)[:, :, None, None])
        self.stem = ConvBN(3, 32, 6, 4, pad=1)
        self.d2 = ConvBN(32, 48, 3, 2)
        self.s2 = Cross(48, 48, 1)
        self.d3 = ConvBN(48, 96, 3, 2)
        self.s3 = Cross(96, 96, 2)
        self.d4 = ConvBN(96, 192, 3, 2)
        self.s4 = nn.Sequential(Cross(192, 192, 1), Context(192))
        # Top-down, then bottom-up: every level ends with both fine edges and wide surroundings.
        self.lat4 = ConvBN(192, 112)
        self.td3 = Cross(96 + 112, 80, 1)
        self.lat3 = ConvBN(80, 48)
        self.td2 = Cross(48 + 48, 48, 1)
        self.up2 = ConvBN(48, 48, 3, 2)
        self.bu3 = Cross(48 + 48, 80, 1)
        self.up3 = ConvBN(80, 80, 3, 2)
        self.bu4 = Cross(80 + 112, 112, 1)
        self.heads = nn.ModuleList((Head(48, 48, classes), Head(80, 48, classes), Head(112, 48, classes)))

    def levels(self, x: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        if self.opponent is not None:
            x = F.conv2d(x, self.opponent)
        c2 = self.s2(self.d2(self.stem(x)))
        c3 = self.s3(self.d3(c2))
        t4 = self.lat4(self.s4(self.d4(c3)))
        t3 = self.lat3(self.td3(torch.cat((c3, F.interpolate(t4, scale_factor=2.0, mode="nearest")), 1)))
        p2 = self.td2(torch.cat((c2, F.interpolate(t3, scale_factor=2.0, mode="nearest")), 1))
        p3 = self.bu3(torch.cat((self.up2(p2), t3), 1))
        p4 = self.bu4(torch.cat((self.up3(p3), t4), 1))
        return [h(p) for h, p in zip(self.heads, (p2, p3, p4))]

    @torch.no_grad()
    def fuse(self) -> "Detector":
        if self.opponent is not None:
            w = self.stem.conv.weight
            w.copy_(torch.einsum("oikl,ij->ojkl", w, self.opponent[:, :, 0, 0]))
            self.opponent = None
        for m in self.modules():
            if isinstance(m, ConvBN):
                m.fuse()
        return self


def cell_centres(like: torch.Tensor, stride: int) -> torch.Tensor:
    h, w = like.shape[-2:]
    ys = (torch.arange(h, device=like.device, dtype=torch.float32) + 0.5) * stride
    xs = (torch.arange(w, device=like.device, dtype=torch.float32) + 0.5) * stride
    gy, gx = torch.meshgrid(ys, xs, indexing="ij")
    return torch.stack((gx.reshape(-1), gy.reshape(-1)), 1)


class Exported(nn.Module):
    """What ONNX holds: `images` [1,3,H,W] RGB 0..1 -> `output0` [1,4+C,N]: cx, cy, w, h, then class probabilities."""

    def __init__(self, net: CellDetector):
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        parts = []
        for (c, r), stride in zip(self.net.levels(images), STRIDES):
            # Positions by cumulative sum of ones, so that the graph holds no size of the picture.
            one = torch.ones_like(c[:, :1])
            cx = (torch.cumsum(one, 3) - 0.5) * stride
            cy = (torch.cumsum(one, 2) - 0.5) * stride
            l, t, rt, b = (F.softplus(r) * stride).split(1, 1)
            box = torch.cat((cx + (rt - l) * 0.5, cy + (b - t) * 0.5, l + rt, t + b), 1)
            parts.append(torch.cat((box, c.sigmoid()), 1).flatten(2))
        return torch.cat(parts, 2)
