"""Default boxes: counts, places and order."""

from __future__ import annotations

import math
import os

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


def _header(text, version=b"\1\0"):
    """An .npy file of nothing but a header."""
    text = text.encode() + b"\n"
    length = len(text).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + length + text


_NPY = "{'descr': '%s', 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\5\6" + b"\0" * 18, "expected one array, got an archive of several"),
        (b"PK\3\4 cut off", "expected one array, got an archive of several"),
        (b"\x93NUMPY", "not a readable .npy file"),
        (b"\x93NUMPY\7\7" + b"x" * 40, "not a readable .npy file"),
        (_header(_NPY % ("<f4", "(4, 4)") + "'''", b"\2\0"), "not a readable .npy file"),
        (_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4L, 4"), "not a readable .npy file"),
        (_header("(" * 4000), "not a readable .npy file"),
        (_header("-" * 4000 + "1"), "not a readable .npy file"),
        (_header(" " * 9000), "a header of 9001 bytes"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff" + b" " * 100, "a header of 4294967295 bytes"),
        (_header(_NPY % ("|O", "(1, 4)")), "not a readable .npy file .it holds pickled objects"),
        (_header(_NPY % ("<f4", "(-1, 4)")), "expected at most 1000000 rows, got -1"),
        (
            _header(_NPY % ("<f4", "(10000000000000000, 4)")),
            "expected at most 1000000 rows, got 1000000000000000",
        ),
        (_header(_NPY % ("<f8", "(1000000, 4)")), "0 bytes of numbers, the header claims 32000000"),
        (_header(_NPY % ("<f4", "(" + "9" * 3000 + ", 4)")), "rows, got 999|not a readable .npy file"),
    ],
)
def test_what_only_looks_like_an_array_is_refused_by_name(tmp_path, content, message):
    spec = _spec_with_file(tmp_path, np.ones((4, 4), np.float32))
    (tmp_path / "m.priors.npy").write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        make_priors(spec)
    assert str(error.value).startswith(f"{tmp_path / 'm.priors.npy'}: priors.file: ")
    assert "\n" not in str(error.value)


def test_priors_of_any_float_and_order_are_read(tmp_path, rng):
    array = rng.uniform(0.1, 0.9, (7, 4))
    for dtype in (">f4", "<f8", "f2"):
        for order in "CF":
            given = np.asarray(array.astype(dtype), order=order)
            assert np.array_equal(make_priors(_spec_with_file(tmp_path, given)), given.astype(np.float32))


def test_numbers_that_become_infinite_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected finite cx cy w h"):
        make_priors(_spec_with_file(tmp_path, np.array([[1e300, 0.5, 0.5, 0.5]])))


def test_a_pipe_is_not_waited_for(tmp_path):
    spec = _spec_with_file(tmp_path, np.ones((1, 4)))
    (tmp_path / "m.priors.npy").unlink()
    os.mkfifo(tmp_path / "m.priors.npy")
    with pytest.raises(ValueError, match="expected a regular file, got a pipe"):
        make_priors(spec)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "spec").mkdir()
    spec = _spec_with_file(tmp_path / "spec", np.ones((1, 4)))
    (tmp_path / "spec" / "m.priors.npy").rename(tmp_path / "elsewhere.npy")
    (tmp_path / "spec" / "m.priors.npy").symlink_to("../elsewhere.npy")
    with pytest.raises(ValueError, match="is a link out of its folder"):
        make_priors(spec)
