"""Which default box learns which object (the paper's 2.2, "Matching strategy")."""

from __future__ import annotations

import torch

BACKGROUND = -1
IGNORED = -2

# A prior of which more than this share lies in a difficult object is not background.
_INSIDE = 0.5
# Pairs of object and prior that are handled in one go: on a CPU those of about one image, which its cache
# holds (a whole batch takes twice as long), on a GPU what bounds the memory.
_CHUNK_PAIRS = {"cpu": 1 << 17, "gpu": 1 << 26}


def match(
    boxes: torch.Tensor,
    labels: torch.Tensor,
    difficult: torch.Tensor,
    priors: torch.Tensor,
    iou_threshold: float = 0.5,
    background_iou: float = 0.5,
) -> torch.Tensor:
    """The object that each default box is to predict.

    boxes: (B, G, 4) corners, normalised to the input; an image with fewer than G objects is filled up
        at the end.
    labels: (B, G) int64 columns of `conf`; 0 marks the filling.   difficult: (B, G) bool.
    priors: (P, 4) corners, normalised.

    A prior takes the object with which its IoU is highest, where that is > iou_threshold. Before that,
    each object takes the prior with which its IoU is highest; when two want the same one, the higher IoU
    wins. Priors that fall to a difficult object are IGNORED: neither that object nor background; and so
    are those whose highest IoU is > background_iou without being enough for a match (the paper has none),
    and those without a match that lie in a difficult object by more than half of their own area. In a crowd
    these are single ones of it, and the hardest of all negatives; scoring ignores a detection by the same
    share. It holds for an object that is merely hard to tell, too: its inside is no background either.

    Returns (B, P) int64: index into G, BACKGROUND or IGNORED.
    """
    if boxes.shape[1] == 0:
        return torch.full((len(boxes), len(priors)), BACKGROUND, device=boxes.device)
    pairs = _CHUNK_PAIRS["cpu" if boxes.device.type == "cpu" else "gpu"]
    images = max(1, pairs // (boxes.shape[1] * len(priors)))
    parts = zip(boxes.split(images), labels.split(images), difficult.split(images))
    return torch.cat([_match_together(*part, priors, iou_threshold, background_iou) for part in parts])


def _match_together(
    boxes: torch.Tensor,
    labels: torch.Tensor,
    difficult: torch.Tensor,
    priors: torch.Tensor,
    iou_threshold: float,
    background_iou: float,
) -> torch.Tensor:
    objects = max(1, int((labels > 0).sum(dim=1).max()))  # the rest is filling
    boxes, labels, difficult = boxes[:, :objects], labels[:, :objects], difficult[:, :objects]
    iou = batch_iou(boxes, priors)
    best_iou, best_prior = iou.max(dim=2)  # (B, G)
    wanted = (labels > 0) & ~difficult & (best_iou > 0)
    # 2 + IoU beats every plain IoU, and keeps the order among those that want the same prior.
    claims = torch.where(wanted, best_iou + 2, best_iou)
    iou.scatter_(2, best_prior[..., None], claims[..., None])
    value, index = iou.max(dim=1)  # (B, P)
    index = torch.where(torch.gather(difficult, 1, index), IGNORED, index)
    near = (value > background_iou) | _lie_inside(boxes, difficult, priors)
    return torch.where(value > iou_threshold, index, torch.where(near, IGNORED, BACKGROUND))


def _lie_inside(boxes: torch.Tensor, difficult: torch.Tensor, priors: torch.Tensor) -> torch.Tensor:
    """(B, P) bool: whether more than _INSIDE of a prior lies in one difficult object."""
    if not difficult.any():
        return torch.zeros((), dtype=torch.bool, device=boxes.device)
    shares = _intersections(boxes, priors).div_((priors[:, 2:] - priors[:, :2]).prod(dim=1))
    return ((shares > _INSIDE) & difficult[..., None]).any(dim=1)


def batch_iou(boxes: torch.Tensor, priors: torch.Tensor) -> torch.Tensor:
    """IoU of every object with every default box: corners (B, G, 4), (P, 4) -> (B, G, P).

    Empty boxes have IoU 0. In place where it can be: this is the most memory that training touches
    outside the network.
    """
    inter = _intersections(boxes, priors)
    areas = [(corners[..., 2:] - corners[..., :2]).prod(dim=-1) for corners in (boxes, priors)]
    union = (areas[0][..., None] + areas[1]).sub_(inter)
    return inter.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))


def _intersections(boxes: torch.Tensor, priors: torch.Tensor) -> torch.Tensor:
    """Areas that corners (B, G, 4) and (P, 4) share, (B, G, P)."""
    x1, y1, x2, y2 = boxes[..., None].unbind(2)  # each (B, G, 1)
    px1, py1, px2, py2 = priors.unbind(1)  # each (P,)
    inter = torch.minimum(x2, px2).sub_(torch.maximum(x1, px1)).clamp_(min=0)
    return inter.mul_(torch.minimum(y2, py2).sub_(torch.maximum(y1, py1)).clamp_(min=0))


def encode(boxes: torch.Tensor, priors: torch.Tensor, variance: tuple[float, float]) -> torch.Tensor:
    """The torch twin of `edge_ssd.boxes.encode_boxes` (the paper's eq. 2).

    boxes: (N, 4) corners, sides > 0.   priors: (N, 4) cx cy w h.   Returns (N, 4).
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    offsets = ((low + high) * 0.5 - priors[:, :2]) / (priors[:, 2:] * variance[0])
    sizes = torch.log((high - low) / priors[:, 2:]) / variance[1]
    return torch.cat([offsets, sizes], dim=1)
