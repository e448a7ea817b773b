"""The shipped models by name."""

from __future__ import annotations

import pytest

from edge_ssd import Detector
from edge_ssd.boxes import iou_matrix
from edge_ssd.datasets import open_dataset
from edge_ssd.models import FOLDER, find_model


def test_shipped_models_are_found_by_name():
    assert find_model("demo") == FOLDER / "demo.onnx"
    assert find_model("demo").is_file()


def test_an_unknown_name_lists_the_shipped_ones():
    with pytest.raises(ValueError, match=r"model: expected a file or one of the shipped demo.*, got 'face'"):
        find_model("face")


def test_every_shipped_model_has_a_spec_and_a_card_and_is_small():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for path in FOLDER.glob("*.onnx"):
        assert path.with_suffix(".json").is_file()
        assert path.name in card
        assert path.stat().st_size <= 12 * 2**20


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.onnx")), ids=lambda path: path.stem)
def test_no_shipped_model_says_where_it_was_made(path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        assert not part.doc_string
        assert not part.metadata_props


def test_the_model_of_tools_finds_things_on_the_floor(shared_folder):
    folder = shared_folder / "data" / "foda31"
    if not folder.is_dir():
        pytest.skip(f"no data set at {folder}")
    images = open_dataset(folder, "val")
    with Detector.load("fod31", score_threshold=None) as detector:
        assert detector.class_names == images.class_names
        chosen, found, named = range(0, len(images), 16), 0, 0
        for index in chosen:
            truth, seen = images.truth(index), detector.detect(images.image(index))
            on_it = iou_matrix(seen.boxes[:1], truth.boxes)[0] >= 0.5  # the surest one
            found += on_it.any()
            named += bool((truth.labels[on_it] == seen.labels[0]).any())
    # Its card says more on all 785 images; 50 leave some room for luck.
    assert found > 0.9 * len(chosen)
    assert named > 0.5 * len(chosen)
