"""The learning rate over a run, the averaged weights, and the options."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from edge_ssd.training.ema import MovingAverage  # noqa: E402
from edge_ssd.training.options import TrainOptions  # noqa: E402
from edge_ssd.training.schedule import learning_rate  # noqa: E402

pytestmark = pytest.mark.torch


def rates(schedule, steps=120, warmup=10):
    return [learning_rate(step, steps, 1.0, warmup, schedule) for step in range(steps)]


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_rate_rises_linearly_to_the_peak(schedule):
    assert rates(schedule)[:11] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0], rel=1e-3
    )


def test_cosine_is_half_way_down_in_the_middle_and_near_zero_at_the_end():
    found = rates("cosine", steps=110)
    assert found[60] == pytest.approx(0.5)
    assert found[-1] < 1e-3


def test_step_divides_by_ten_after_two_thirds_and_five_sixths():
    found = rates("step", warmup=0)
    assert [found[i] for i in (79, 80, 99, 100, 119)] == pytest.approx([1, 0.1, 0.1, 0.01, 0.01])


def test_run_that_is_all_warm_up_has_a_rate():
    assert learning_rate(0, 1, 1.0, 0, "cosine") == 1.0


def test_average_follows_the_weights_and_copies_counters():
    model = torch.nn.BatchNorm2d(1)
    average = MovingAverage(model, decay=0.5)
    with torch.no_grad():
        model.weight.fill_(2.0)
        model.num_batches_tracked.fill_(7)
    average.update()
    # The first update's decay is min(0.5, 2 / 11): 1 * 2 / 11 + 2 * 9 / 11
    assert average.state["weight"].item() == pytest.approx(20 / 11)
    assert average.state["num_batches_tracked"].item() == 7
    for _ in range(50):
        average.update()
    assert average.state["weight"].item() == pytest.approx(2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, "epochs: expected at least 1, got 0"),
        ({"lr": float("nan")}, "lr: expected at least 0, got nan"),
        ({"schedule": "linear"}, "schedule: expected one of cosine, step, got 'linear'"),
        ({"optimizer": "lion"}, "optimizer: expected one of sgd, adamw, got 'lion'"),
        ({"augmentation": "all"}, "augmentation: expected one of ssd, light, floor, none"),
        ({"precision": "fp8"}, "precision: expected one of auto, fp32, bf16"),
        ({"ema": 1.0}, "ema, momentum: expected numbers from 0 to below 1"),
        ({"background_iou": 0.6}, "background_iou: expected a number from 0 to 0.5"),
    ],
)
def test_option_out_of_range_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        TrainOptions(**given)
