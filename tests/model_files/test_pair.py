"""A model and its spec: both new, both old, or a model without a spec, which is refused by name."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from edge_ssd.model_files.pair import replacing_model
from edge_ssd.spec import PriorSpec, SsdSpec, load_spec_of
from tests.media import on_a_full_disk
from tests.specs import example_spec

OLD, NEW = example_spec(), example_spec(class_names=("left", "right"))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "m.onnx"
    with replacing_model(path, OLD) as temporary:
        temporary.write_text("old model")
    return path


def test_both_are_replaced(path):
    with replacing_model(path, NEW) as temporary:
        temporary.write_text("new model")
        assert (path.read_text(), load_spec_of(path)) == ("old model", OLD)
    assert (path.read_text(), load_spec_of(path)) == ("new model", NEW)
    assert sorted(os.listdir(path.parent)) == ["m.json", "m.onnx"]


def test_both_stay_when_the_model_cannot_be_written(path):
    with pytest.raises(OSError, match="No space"), replacing_model(path, NEW) as temporary:
        on_a_full_disk(temporary, b"half")
    assert (path.read_text(), load_spec_of(path)) == ("old model", OLD)
    assert sorted(os.listdir(path.parent)) == ["m.json", "m.onnx"]


# Killed just before the n-th time that a name changes.
_KILLED = """
import os, sys
from edge_ssd.model_files.pair import replacing_model
from tests.model_files.test_pair import NEW
left = int(sys.argv[2])
def counting(change):
    def changed(*arguments, **options):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), 9)
        return change(*arguments, **options)
    return changed
os.replace, os.unlink = counting(os.replace), counting(os.unlink)
with replacing_model(sys.argv[1], NEW) as temporary:
    temporary.write_text("new model")
"""


@pytest.mark.parametrize(
    ("change", "model", "spec"),
    [(1, "old model", OLD), (2, "old model", None), (3, "new model", None), (4, "new model", NEW)],
)
def test_killed_between_two_names_the_spec_of_another_model_is_never_there(path, change, model, spec):
    ended = subprocess.run([sys.executable, "-c", _KILLED, path, str(change)])
    assert ended.returncode == (0 if change == 4 else -9)
    assert path.read_text() == model
    if spec is None:
        with pytest.raises(FileNotFoundError, match=r"m\.json: no spec beside m\.onnx"):
            load_spec_of(path)
    else:
        assert load_spec_of(path) == spec


def test_a_spec_that_says_the_same_stays_there_all_the_time(path, monkeypatch):
    replace_name = os.replace

    def replaced(source, target):
        assert load_spec_of(path) == OLD
        replace_name(source, target)

    monkeypatch.setattr(os, "replace", replaced)
    with replacing_model(path, OLD) as temporary:
        temporary.write_text("new model")
    assert path.read_text() == "new model"


def test_the_file_of_the_priors_comes_along_and_old_ones_stay_after_a_failure(tmp_path):
    for name, value in (("a", 0.5), ("b", 0.25)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "p.npy", np.full((2, 4), value, np.float32))
        replace(OLD, priors=PriorSpec(file="p.npy"), folder=str(tmp_path / name)).save(
            tmp_path / name / "m.json"
        )
    spec, path = SsdSpec.load(tmp_path / "a" / "m.json"), tmp_path / "b" / "m.onnx"
    with pytest.raises(OSError, match="full"), replacing_model(path, spec) as temporary:
        raise OSError("full")
    assert np.load(tmp_path / "b" / "p.npy")[0, 0] == 0.25
    with replacing_model(path, spec) as temporary:
        temporary.write_text("new model")
    assert np.load(tmp_path / "b" / "p.npy")[0, 0] == 0.5
    assert sorted(os.listdir(tmp_path / "b")) == ["m.json", "m.onnx", "p.npy"]
