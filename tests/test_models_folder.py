"""The shipped models by name."""

import pytest

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
