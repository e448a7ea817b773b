"""The heads of an SSD: small convolutions on every feature map that predict `loc` and `conf`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

# (in_channels, out_channels) -> module that keeps the size of the map.
Predictor = Callable[[int, int], nn.Module]


class MultiScaleHead(nn.Module):
    """One predictor per feature map; their outputs joined in the order of the priors (the paper's 2.1).

    predictors: map (B, channels, H, W) -> (B, boxes * columns, H, W).   columns: numbers per prior.
    """

    def __init__(self, predictors: Iterable[nn.Module], columns: int) -> None:
        super().__init__()
        self.module_list = nn.ModuleList(predictors)
        self.columns = columns

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """List of (B, channels, H, W) -> (B, P, columns); order level, row, column, box of a cell."""
        return torch.cat([self._rows(layer(x)) for layer, x in zip(self.module_list, maps)], dim=1)

    def _rows(self, x: torch.Tensor) -> torch.Tensor:
        # Sizes other than the batch are plain numbers, so that the exported graph has no shape arithmetic.
        priors = x.shape[1] * x.shape[2] * x.shape[3] // self.columns
        return x.permute(0, 2, 3, 1).reshape(-1, priors, self.columns)


class SsdHead(nn.Module):
    """The box and the class predictions of all feature maps.

    channels, boxes_per_cell: per feature map.   num_classes: background included.
    predictor: makes the module of a map; see `Predictor`.
    """

    def __init__(
        self, channels: Sequence[int], boxes_per_cell: Sequence[int], num_classes: int, predictor: Predictor
    ) -> None:
        super().__init__()
        maps = tuple(zip(channels, boxes_per_cell))
        self.classification_head = MultiScaleHead(
            [predictor(c, n * num_classes) for c, n in maps], num_classes
        )
        self.regression_head = MultiScaleHead([predictor(c, n * 4) for c, n in maps], 4)

    def forward(self, maps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Feature maps -> loc (B, P, 4), conf (B, P, C)."""
        return self.regression_head(maps), self.classification_head(maps)
