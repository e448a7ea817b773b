"""Sensitivity: what kind a convolution is, which is to blame, and how few to keep."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ssd.build_engine.graph import Graph
from edge_ssd.build_engine.sensitivity import Layer, fewest_kept, kind_of_layers, measure
from tests.build_engine.graphs import depthwise, l2norm, residual


@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (
            depthwise,
            {
                "stem": "first",
                "dw": "depthwise",
                "se1": "squeeze-excite",
                "se2": "squeeze-excite",
                "pw": "other",
            },
        ),
        (l2norm, {"stem": "first", "wide": "other", "loc_head": "after L2 norm"}),
        (
            residual,
            {"stem": "first", "a1": "other", "b_skip": "other", "loc_head": "head", "conf_head": "head"},
        ),
    ],
)
def test_kinds(make, kinds):
    found = kind_of_layers(Graph(make()))
    assert {name: found[f"n_{name}"] for name in kinds} == kinds


def test_the_usual_suspects_come_first():
    kinds = list(kind_of_layers(Graph(residual())).values())
    assert kinds[:3] == ["first", "head", "head"]
    assert set(kinds[3:]) == {"other"}


def heads_with(errors):
    """heads_of of a network whose loc is off by the sum of the errors of the layers that are quantised."""

    def heads_of(kept):
        wrong = 0.0 if kept is None else sum(error for name, error in errors.items() if name not in kept)
        return [(np.full((1, 4), 10 + wrong), np.full((1, 3), 10.0))]

    return heads_of


def test_the_layer_to_blame_is_first_and_its_share_is_told():
    errors = {"a": 1.0, "b": 3.0, "c": 0.0}
    layers, full = measure(dict.fromkeys(errors, "other"), heads_with(errors))
    assert full == pytest.approx(0.2)  # loc is off by 4 of 10, conf by nothing
    assert [(layer.name, layer.gain) for layer in layers] == [
        ("b", pytest.approx(0.75)),
        ("a", pytest.approx(0.25)),
        ("c", pytest.approx(0)),
    ]


def test_a_layer_that_makes_up_for_another_has_a_gain_below_zero():
    layers, _ = measure({"a": "other", "b": "other"}, heads_with({"a": 3.0, "b": -1.0}))
    assert layers[-1].name == "b"
    assert layers[-1].gain < 0


def test_a_network_without_error():
    layers, full = measure({"a": "other"}, heads_with({"a": 0.0}))
    assert (full, layers[0].gain) == (0, 0)


LAYERS = [Layer(str(i), "other", 1 / (i + 1)) for i in range(20)]


@pytest.mark.parametrize("needed", range(21))
def test_no_more_are_kept_than_needed(needed):
    asked = []

    def loss_of(kept):
        asked.append(len(kept))
        return 1.0 if len(kept) < needed else 0.1

    kept, tried = fewest_kept(LAYERS, loss_of, 0.5)
    assert kept == tuple(str(i) for i in range(needed))
    assert [count for count, _ in tried] == asked
    assert len(asked) == len(set(asked)) <= 11  # evaluations are what takes the time


def test_a_budget_that_cannot_hold_keeps_all_and_says_what_was_tried():
    kept, tried = fewest_kept(LAYERS, lambda kept: 2.0, 0.5)
    assert len(kept) == 20
    assert tried[-1] == (20, 2.0)


def test_a_budget_that_holds_at_once_keeps_none():
    assert fewest_kept(LAYERS, lambda kept: 0.5, 0.5) == ((), [(0, 0.5)])
