"""data.yaml: what is read of YAML, and what is refused."""

from __future__ import annotations

import pytest

pytest.importorskip("cv2")

from edge_ssd.datasets.convert.yolo_yaml import read_data_yaml


def _read(tmp_path, text):
    path = tmp_path / "data.yaml"
    path.write_text(text, encoding="utf-8")
    return read_data_yaml(path)


@pytest.mark.parametrize(
    "text",
    [
        "names: [cat, big dog, 'it''s', \"a, b\", '#5']",
        "names: ['cat',\n  'big dog',  # a comment\n  'it''s', \"a, b\", '#5',\n]\nnc: 5",
        "nc: 5\nnames:\n  - cat\n  - big dog\n  - it's\n  - 'a, b'\n  - '#5'\n",
        "names:\n- cat\n- big dog\n- it's\n- \"a, b\"\n- '#5'\n",
        "\ufeff# COCO\nnames:\n  0: cat\n  1: big dog\n  # no class\n  2: it's\n  3: a, b\n  4: '#5'\n\n"
        "download: |\n  wget x\n",
        "names: {0: cat, 1: big dog, 2: it's, '3': 'a, b', 4: '#5'}",
        "'names':\r\n  - cat\r\n  - big dog\r\n  - it's\r\n  - 'a, b'\r\n  - '#5'\r\n",
    ],
)
def test_names_are_read_as_they_are_written(tmp_path, text):
    assert _read(tmp_path, text).names == {0: "cat", 1: "big dog", 2: "it's", 3: "a, b", 4: "#5"}


def test_splits_and_path(tmp_path):
    found = _read(
        tmp_path,
        "path: ../datasets/coco128  # its root\ntrain: images/train2017\nval:\n  - a\n  - b\ntest:  # optional\n"
        "roboflow:\n  workspace: x\n  url: https://a/b\nnames: [x]\nkpt_shape: [17, 3]\n",
    )
    assert found.path == "../datasets/coco128"
    assert found.splits == {"train": ("images/train2017",), "val": ("a", "b")}
    assert found.has_keypoints


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("names: [cat, dog", "names: expected ] at the end"),
        ("names: *other", r"names: expected a plain value, got '\*other'"),
        ("names: !!python/object:os.system [x]", "names: expected a plain value"),
        ("names: |\n  cat\n  dog", r"names: expected one line, got a second one: 'cat'"),
        ("names: [[a], b]", r"names: expected a plain value, got '\[a\]'"),
        ("names: {a: cat}", "names: expected NUMBER: NAME"),
        ("names: {0: cat, 0: dog}", "each number once"),
        ("names: [a]\nnames: [b]", "line 2: names: is there twice"),
        ("names: ['a]", "names: expected"),
        ("just words", "line 1: expected KEY: VALUE, got 'just words'"),
        ("path: [a]", "path: expected one path"),
    ],
)
def test_what_is_not_read_is_named(tmp_path, text, said):
    with pytest.raises(ValueError, match=said) as error:
        _read(tmp_path, text)
    assert "data.yaml: " in str(error.value)
