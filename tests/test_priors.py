"""Default boxes: counts, places and order."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_ssd.priors import cell_sizes, make_priors, ssd300_levels, ssd512_levels, ssdlite_levels
from edge_ssd.spec import PriorLevel, PriorSpec
from tests.specs import example_spec


@pytest.mark.parametrize(
    ("levels", "size", "count"),
    [
        (ssd300_levels("coco"), 300, 8732),
        (ssd300_levels("voc"), 300, 8732),
        (ssd512_levels("coco"), 512, 24564),
        (ssd512_levels("voc"), 512, 24564),
        (ssdlite_levels(320), 320, 3234),
    ],
)
def test_the_known_networks_have_their_published_number_of_priors(levels, size, count):
    priors = make_priors(example_spec(height=size, width=size, priors=PriorSpec(levels=levels)))
    assert priors.shape == (count, 4)
    assert priors.dtype == np.float32
    assert priors.flags.c_contiguous
    assert (priors[:, :2] > 0).all()
    assert (priors[:, :2] < 1.02).all()  # the last of SSD300's ten cells of 32 has its centre at 304 of 300
    assert (priors[:, 2:] > 0).all()


def test_order_is_level_row_column_box():
    levels = (PriorLevel((2, 3), (50, 20), ((10, 20), (30, 40))), PriorLevel((1, 1), (100, 60), ((5, 6),)))
    priors = make_priors(example_spec(height=100, width=60, priors=PriorSpec(levels=levels)))
    expected = [
        (10, 25, 10, 20), (10, 25, 30, 40), (30, 25, 10, 20), (30, 25, 30, 40), (50, 25, 10, 20), (50, 25, 30, 40),
        (10, 75, 10, 20), (10, 75, 30, 40), (30, 75, 10, 20), (30, 75, 30, 40), (50, 75, 10, 20), (50, 75, 30, 40),
        (30, 50, 5, 6),
    ]  # fmt: skip
    assert np.allclose(priors, np.array(expected) / (60, 100, 60, 100), atol=1e-7)


def test_the_offset_moves_the_centres_by_steps():
    level = PriorLevel((1, 2), (100, 50), ((10, 10),), offset=0.25)
    priors = make_priors(example_spec(height=100, width=100, priors=PriorSpec(levels=(level,))))
    assert np.allclose(priors[:, :2], [(0.125, 0.25), (0.625, 0.25)])


def test_cell_sizes_follow_the_paper():
    root2, root3 = math.sqrt(2), math.sqrt(3)
    assert np.allclose(
        cell_sizes(60, 111, (2, 3)),
        [
            (60, 60),
            (math.sqrt(60 * 111),) * 2,
            (60 * root2, 60 / root2),
            (60 / root2, 60 * root2),
            (60 * root3, 60 / root3),
            (60 / root3, 60 * root3),
        ],
    )


def test_first_boxes_of_ssd300_are_those_of_the_authors_configuration():
    # conv4_3 with the VOC sizes: 30, sqrt(30 * 60), and 30 at 2 : 1 and 1 : 2, around (4, 4).
    priors = make_priors(example_spec()) * 300
    expected = [(4, 4, 30, 30), (4, 4, 42.4264, 42.4264), (4, 4, 42.4264, 21.2132), (4, 4, 21.2132, 42.4264)]
    assert np.allclose(priors[:4], expected, atol=1e-3)


def test_clip_cuts_the_corners_and_turns_them_back_into_centre_form():
    level = PriorLevel((1, 1), (100, 100), ((120, 40),))
    priors = make_priors(
        example_spec(height=100, width=100, priors=PriorSpec(levels=(level,), clip=True))
    )  # corners -0.1 0.3 1.1 0.7
    assert np.allclose(priors, [(0.5, 0.5, 1.0, 0.4)])
    level = PriorLevel((1, 1), (20, 20), ((60, 20),))
    priors = make_priors(example_spec(height=100, width=100, priors=PriorSpec(levels=(level,), clip=True)))
    assert np.allclose(priors, [(0.2, 0.1, 0.4, 0.2)])  # corners -0.2 0 0.4 0.2


def _spec_with_file(folder, array):
    np.save(folder / "m.priors.npy", array)
    return example_spec(priors=PriorSpec(file="m.priors.npy"), folder=str(folder))


def test_priors_from_a_file_are_taken_as_they_are(tmp_path, rng):
    array = rng.uniform(0.1, 0.9, (7, 4))
    priors = make_priors(_spec_with_file(tmp_path, array))
    assert priors.dtype == np.float32
    assert np.array_equal(priors, array.astype(np.float32))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((4, 3), np.float32), r"expected a \(P, 4\) float array, got \(4, 3\)"),
        (np.ones((4, 4), np.int32), "got .* int32"),
        (np.full((2, 4), np.nan, np.float32), "expected finite"),
        (np.array([[0.1, 0.1, -0.2, 0.2]], np.float32), "did it store corners"),
        (np.array([[None]], dtype=object), "not a readable .npy file"),
    ],
)
def test_a_file_with_something_else_is_refused_by_name(tmp_path, array, message):
    with pytest.raises(ValueError, match=message) as error:
        make_priors(_spec_with_file(tmp_path, array))
    assert "m.priors.npy" in str(error.value)


def test_a_missing_or_truncated_file_is_named(tmp_path):
    spec = _spec_with_file(tmp_path, np.ones((4, 4), np.float32))
    file = tmp_path / "m.priors.npy"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"m\.priors\.npy"):
        make_priors(spec)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"m\.priors\.npy"):
        make_priors(spec)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="relative to the spec"):
        make_priors(spec)
