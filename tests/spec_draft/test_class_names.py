"""Class names from the files of the frameworks, each as its framework writes it."""

from __future__ import annotations

import pytest

from edge_ssd.datasets.dataset import is_background
from edge_ssd.spec_draft.class_names import class_names

LABEL_MAP = """\
# TensorFlow's: the ids of COCO have gaps.
item {
  name: "/m/01g317"
  id: 1
  display_name: "person"
}
item { name: '/m/0199g' id: 2 display_name: "traffic \\"light\\"" }
item <
  name: "/m/0k4j", id: 4
>
"""
CAFFE_MAP = """\
item { name: "none_of_the_above" label: 0 display_name: "background" }
item { name: "aeroplane" label: 1 display_name: "aeroplane" }
"""


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "labels.txt",
            "BACKGROUND\r\ncat\r\ntraffic light\r\n\r\n",
            ("BACKGROUND", "cat", "traffic light"),
        ),
        ("voc.names", "\ufeffcat\n  dog, or wolf \n", ("cat", "dog, or wolf")),
        ("coco.labels", "0: person\n2: car\n", ("person", "class 1", "car")),
        ("labels.txt", "1\tperson\n2\tcar\n", ("person", "car")),
        ("labels.txt", "7 up\ncola\n", ("7 up", "cola")),
        ("map.pbtxt", LABEL_MAP, ("person", 'traffic "light"', "class 3", "/m/0k4j")),
        ("labelmap_voc.prototxt", CAFFE_MAP, ("background", "aeroplane")),
    ],
)
def test_names_of_each_kind_of_file(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content.encode())
    assert class_names(str(tmp_path / name)) == expected


def test_a_list_is_no_file():
    assert class_names(" cat , dog.txt ") == ("cat", "dog.txt")
    assert class_names("") == ()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\n\n", "expected class names"),
        ("a.txt", b"\xff\xfe\n", "not a text file"),
        ("a.pbtxt", b"item { name: 'a' }", "expected a name and an id"),
        ("a.pbtxt", b"item {\n name 'a'\n}", "line 2: not protobuf's text format"),
        ("a.pbtxt", b"item { name: 'a' id: 999999 }", "expected numbers below 100000"),
        ("a.pbtxt", b"item {\n" * 200, "in each other"),
        ("a.pbtxt", b"item { name: 'a' id: 1", "not protobuf's text format"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        class_names(str(tmp_path / name))
    assert name in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="no such file of class names"):
        class_names("nowhere/labels.txt")


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("background", True),
        ("BACKGROUND", True),
        ("__background__", True),
        ("_Background", True),
        ("back ground", False),
        ("backgrounds", False),
        ("__", False),
    ],
)
def test_what_reads_like_background(name, is_one):
    assert is_background(name) == is_one
