"""The training objective of SSD (the paper's eq. 1 to 3, and "Hard negative mining" of its 2.2)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from ..priors import make_priors
from ..spec import SsdSpec
from .data import Targets
from .matching import BACKGROUND, encode, match


class Losses(NamedTuple):
    """loc, conf: scalars, each already divided by the number of matches.   matches: that of this batch."""

    loc: torch.Tensor
    conf: torch.Tensor
    matches: int


class SsdLoss(nn.Module):
    """Smooth L1 on the offsets of matched priors, and softmax cross-entropy with hard negatives.

    spec: gives the priors and the variance.   iou_threshold, background_iou: see `match`; the defaults
    are the paper's.   negatives_per_match: hard negatives for each match of an image, and of an image without a
    match.
    mean_matches: function of the matches of this batch that gives what to divide by, when several processes have
    a part of the batch each: the mean over them, so that the mean of their gradients is that of the whole batch.
    Without it they are counted here, at least 1.
    """

    priors: torch.Tensor
    corners: torch.Tensor

    def __init__(
        self,
        spec: SsdSpec,
        iou_threshold: float = 0.5,
        background_iou: float = 0.5,
        negatives_per_match: int = 3,
        mean_matches: Callable[[int], float] | None = None,
    ) -> None:
        super().__init__()
        priors = torch.from_numpy(make_priors(spec))
        half = priors[:, 2:] / 2
        self.register_buffer("priors", priors)
        self.register_buffer("corners", torch.cat([priors[:, :2] - half, priors[:, :2] + half], dim=1))
        self.variance = spec.variance
        self.thresholds = iou_threshold, background_iou
        self.negatives_per_match = negatives_per_match
        self.mean_matches = mean_matches or partial(max, 1)

    def forward(self, loc: torch.Tensor, conf: torch.Tensor, targets: Targets) -> Losses:
        """loc (B, P, 4), conf (B, P, C) and the `Targets` of the batch -> Losses.

        Divided by the matches of the whole batch, at least 1. An image without a match has the hard negatives of
        one match, so that pictures of nothing teach what is no object. The paper's data has no such images;
        by its rule they would add nothing.
        """
        with torch.no_grad():
            matched = match(*targets, self.corners, *self.thresholds)
            image, prior = torch.nonzero(matched >= 0, as_tuple=True)
            object_index = matched[image, prior]
            negative_image, negative_prior = hard_negatives(conf, matched, self.negatives_per_match)
        matches = len(image)
        divisor = self.mean_matches(matches)
        wanted = encode(targets.boxes[image, object_index], self.priors[prior], self.variance)
        loc_loss = F.smooth_l1_loss(loc[image, prior].float(), wanted, reduction="sum")
        # Only the rows that count: a softmax over all priors and its gradient would cost more than the matching.
        rows = conf[torch.cat([image, negative_image]), torch.cat([prior, negative_prior])]
        columns = F.pad(targets.labels[image, object_index], (0, len(negative_image)))
        conf_loss = F.cross_entropy(rows.float(), columns, reduction="sum")
        return Losses(loc_loss / divisor, conf_loss / divisor, matches)


def hard_negatives(
    conf: torch.Tensor, matched: torch.Tensor, per_match: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The background priors that look least like background.

    conf: (B, P, C).   matched: (B, P), see `match`.   per_match: how many for each match of an image; an image
    without any has as many as for one.
    Returns (image, prior), both (N,) int64.
    """
    background = matched == BACKGROUND
    matches = (matched >= 0).sum(dim=1).clamp(min=1)
    counts = (per_match * matches).minimum(background.sum(dim=1))
    conf = conf.detach().float()
    # The sum of exp(conf - conf of background): its logarithm is the loss, its order is the same.
    hardness = (conf - conf[..., :1]).exp_().sum(dim=2).masked_fill_(~background, -1)
    # The largest count of the batch serves every image; what is over is cut off by rank.
    prior = hardness.topk(int(counts.max()), dim=1).indices
    image, rank = torch.nonzero(
        torch.arange(prior.shape[1], device=conf.device) < counts[:, None], as_tuple=True
    )
    return image, prior[image, rank]
