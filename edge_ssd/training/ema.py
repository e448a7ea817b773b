"""An exponential moving average of a network's weights.

torch's AveragedModel is not used: its first update copies the weights, where this average starts from the initial
ones, and get_ema_multi_avg_fn has no warm-up of the decay and averages whole-number buffers, too. A resumed run goes on
to the bit from checkpoints that hold a plain state dict and a count ("ema", "ema_steps"); an averaging function of our
own and the translation of those to AveragedModel's `module.` names would be longer than this file.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch


class MovingAverage:
    """The average of the weights over about the last 1 / (1 - decay) steps; it usually scores better.

    Norm statistics are averaged too; whole-number buffers are copied.
    state: the averages, as the state dict of the model.   steps: updates so far.
    """

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self._live = list(model.state_dict().values())
        self.state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Takes the model's present weights in. The first steps count more, or the start would linger."""
        self.steps += 1
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for average, live in zip(self.state.values(), self._live):
            if average.is_floating_point():
                average.lerp_(live, weight)
            else:
                average.copy_(live)

    def load(self, state: Mapping[str, torch.Tensor], steps: int) -> None:
        """Goes on from an earlier average: its `state` and its `steps`."""
        self.steps = steps
        for name, average in self.state.items():
            average.copy_(state[name])
