"""Calibration: ranges from real images, histograms, and what is no calibration set."""

from __future__ import annotations

import json
import logging

import cv2
import numpy as np
import pytest

from edge_ssd.build_engine.calibration import Table, calibrate, calibrate_model
from edge_ssd.build_engine.histogram import Histogram
from edge_ssd.build_engine.images import CalibrationImages
from edge_ssd.build_engine.model_file import load_model
from edge_ssd.files import file_sha256
from tests.build_engine.graphs import residual, save, small_spec


def calibrated(arrays, method):
    """(low, high) of one tensor that has these values, image by image."""
    ranges, extremes = calibrate(lambda batch: [batch], ["x"], arrays, method)
    return ranges["x"], extremes["x"]


def test_minmax_takes_the_extremes_over_all_images():
    ranges, extremes = calibrated([np.array([-1.0, 2.0]), np.array([-3.0, 1.0])], "minmax")
    assert ranges == extremes == (-3.0, 2.0)


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_a_single_outlier_is_cut_off(rng, method):
    values = rng.normal(0, 1, 200_000).astype(np.float32)
    values[0] = 100
    ranges, extremes = calibrated([values], method)
    assert extremes[1] == 100
    assert 2 < ranges[1] < 20
    assert ranges[0] >= extremes[0]  # never beyond what was seen


@pytest.mark.parametrize("method", ["percentile", "entropy"])
@pytest.mark.parametrize("top", [1e-45, 1e-40, 1e-37, 6e-36])
def test_magnitudes_near_nothing_count_as_zero(method, top):
    """A dead ReLU, an exponential that has underflown: bins of theirs are beyond float32."""
    tiny = np.full(1000, top, np.float32)
    assert calibrated([tiny, -tiny], method)[0] == (0.0, 0.0)
    mixed, _ = calibrated([tiny, np.array([0, 1.0], np.float32), tiny], method)
    assert (
        mixed
        == calibrated([np.zeros_like(tiny), np.array([0, 1.0], np.float32), np.zeros_like(tiny)], method)[0]
    )


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_small_magnitudes_have_their_range(method):
    values = np.linspace(0, 1e-30, 10_000, dtype=np.float32)
    assert calibrated([values], method)[0][1] == pytest.approx(1e-30, rel=0.01)


def test_percentile_is_numpys_within_a_bin(rng):
    values = rng.exponential(1, 100_000).astype(np.float32)
    ranges, _ = calibrated([values], "percentile")
    assert ranges[1] == pytest.approx(np.percentile(values, 99.99), abs=4 * float(values.max()) / 2048)


def test_entropy_keeps_a_flat_distribution_whole():
    values = np.linspace(-5, 5, 100_000, dtype=np.float32)
    assert calibrated([values], "entropy")[0] == (-5, 5)


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_a_tensor_of_zeros_has_no_range(method):
    assert calibrated([np.zeros(1000, np.float32)], method)[0] == (0.0, 0.0)


def test_a_histogram_that_grows_counts_what_one_of_full_range_counts(rng):
    values = rng.exponential(1, 4096).astype(np.float32)
    values[0], values[-1] = 1.0, 8.0 * (1 - 1e-6)
    grown, whole = Histogram(), Histogram()
    grown.add(np.array([1.0], np.float32))  # then 2, 4, 8
    for part in np.sort(values[values <= 8]).reshape(-1, 1):
        grown.add(part)
    whole.add(np.array([8.0], np.float32))
    whole.add(values[values <= 8])
    assert grown.top == whole.top == 8
    assert grown.counts.sum() == whole.counts.sum()
    # 1.0 was added to one, 8.0 to the other; a value on the edge of a bin may fall on either side of it.
    assert np.abs(grown.counts - whole.counts).sum() <= 6


def test_nan_is_named():
    with pytest.raises(ValueError, match="tensor 'x' holds NaN or Inf"):
        calibrated([np.array([np.nan])], "minmax")


def test_the_hash_of_a_table_is_that_of_its_file(tmp_path):
    table = Table("minmax", 3, "photos/", "ab", {"x": (-1.0, 2.0)}, {"x": (-1.0, 3.0)})
    table.save(tmp_path / "t.json")
    assert file_sha256(tmp_path / "t.json") == table.sha256
    assert json.loads((tmp_path / "t.json").read_text())["ranges"] == {"x": [-1.0, 2.0]}
    other = Table("minmax", 3, "photos/", "ab", {"x": (-1.0, 2.5)}, {"x": (-1.0, 3.0)})
    assert other.sha256 != table.sha256


@pytest.mark.parametrize("batch", ["batch", 2])
def test_every_float_tensor_of_a_model_has_a_range(tmp_path, batch):
    model = load_model(save(tmp_path, residual(shape=(batch, 3, 100, 100))))
    images = CalibrationImages("demo://?seed=5&frames=40&scene=1", model.spec, 3)
    table = calibrate_model(model, images, "minmax", "", threads=1, progress=False)
    assert table.images == 3
    assert {"image", "stem", "stem_relu", "a_sum", "b_sum", "loc", "conf", "loc_moved"} <= set(table.ranges)
    assert table.ranges["image"][0] >= -1  # the runtime's own preprocess: (pixel - 127.5) / 127.5
    assert table.ranges["stem_relu"] == (0.0, max(0.0, table.ranges["stem"][1]))


@pytest.fixture
def folder(tmp_path, rng):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), rng.integers(0, 256, (40, 60, 3), np.uint8))
    return tmp_path


def test_few_images_are_warned_about(folder, caplog):
    with caplog.at_level(logging.WARNING, "edge_ssd"):
        assert len(CalibrationImages(folder, small_spec(), 100)) == 3
    assert "3 images are few to calibrate with" in caplog.text


def test_an_image_that_cannot_be_read_is_left_out_and_named(folder, caplog):
    (folder / "bad.jpg").write_bytes(b"no picture")
    images = CalibrationImages(folder, small_spec(), 100)
    with caplog.at_level(logging.WARNING, "edge_ssd"):
        batches = list(images)
    assert [batch.shape for batch in batches] == [(1, 3, 100, 100)] * 3
    assert images.used == 3
    assert "bad.jpg" in caplog.text


def test_no_readable_image_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no image to calibrate with"):
        CalibrationImages(tmp_path, small_spec(), 100)
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="none of the 1 calibration images can be read"):
        list(CalibrationImages(tmp_path, small_spec(), 100))


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder of calibration images"):
        CalibrationImages(tmp_path / "none", small_spec(), 100)


def test_images_are_spread_evenly_over_a_data_set():
    images = CalibrationImages("demo://?seed=5&frames=101&scene=1", small_spec(), 5)
    assert images._indices == [0, 25, 50, 75, 100]
