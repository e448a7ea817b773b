"""The learning rate over a run.

torch's schedulers are not used: here the rate is a function of the step alone, so that a run that is resumed, with more
epochs or without, has to the bit the rates of one that was never interrupted, and checkpoints hold no state for it.
CosineAnnealingLR computes each rate from the one before, for a length that was fixed at the start; LambdaLR would need
this same function and would only call it.
"""

from __future__ import annotations

import math

SCHEDULES = ("cosine", "step")
# The paper's 3.1 and 3.4 divide by 10 after two thirds and five sixths of the steps.
_DROPS = (2 / 3, 5 / 6)


def learning_rate(step: int, total_steps: int, peak: float, warmup_steps: int, schedule: str) -> float:
    """The learning rate of one step.

    step: from 0.   peak: the highest.   warmup_steps: it rises linearly from 0 to the peak.
    schedule: "cosine" falls to 0 at the end, "step" divides by 10 after 2/3 and 5/6 of the run.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    if schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return peak * 0.1 ** sum(progress >= drop for drop in _DROPS)
