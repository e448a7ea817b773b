"""An exponential moving average of a network's weights."""

from __future__ import annotations

import torch


class MovingAverage:
    """The average of the weights over about the last 1 / (1 - decay) steps; it usually scores better.

    Norm statistics are averaged too; whole-number buffers are copied.
    """

    def __init__(self, model, decay):
        self.decay = decay
        self.steps = 0
        self._live = list(model.state_dict().values())
        self.state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self):
        """Takes the model's present weights in. The first steps count more, or the start would linger."""
        self.steps += 1
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for average, live in zip(self.state.values(), self._live):
            if average.is_floating_point():
                average.lerp_(live, weight)
            else:
                average.copy_(live)

    def load(self, state, steps):
        """Goes on from an earlier average."""
        self.steps = steps
        for name, average in self.state.items():
            average.copy_(state[name])
