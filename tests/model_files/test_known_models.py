"""Which models are opened without a trial, and that the list of them can be trusted or is not."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import numpy_helper

from edge_ssd import limits
from edge_ssd.files import file_sha256
from edge_ssd.model_files import known_models
from edge_ssd.model_files.known_models import digest_of, is_known, remember, remember_made
from edge_ssd.models import FOLDER, SHIPPED
from tests.hostile.broken_onnx import save, small_ssd

DIGEST, ENGINE = "0123456789abcdef" * 4, "onnxruntime 1.0 fp32 32x32"


@pytest.fixture
def known(tmp_path, monkeypatch):
    """The list, in an empty folder."""
    monkeypatch.setenv("EDGE_SSD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "known_models.txt"


def test_the_table_of_shipped_models_is_that_of_the_files():
    assert {path.name: file_sha256(path) for path in FOLDER.glob("*.onnx")} == SHIPPED


def test_a_shipped_model_is_known_wherever_it_lies(known):
    assert is_known(SHIPPED["demo.onnx"], ENGINE)
    assert not is_known(DIGEST, ENGINE)


def test_what_an_engine_has_opened_is_known_for_that_engine(known):
    remember(DIGEST, ENGINE)
    assert is_known(DIGEST, ENGINE)
    assert not is_known(DIGEST, ENGINE.replace("1.0", "1.1"))
    assert not is_known(DIGEST[::-1], ENGINE)
    assert known.stat().st_mode & 0o777 == 0o600


def test_what_was_made_here_is_known_for_every_engine(known, tmp_path):
    path = save(tmp_path, small_ssd())
    remember_made(path)
    assert is_known(file_sha256(path), ENGINE)
    assert is_known(file_sha256(path), "another")


def test_a_model_with_weights_elsewhere_is_known_with_those_alone(known, tmp_path):
    model = small_ssd()
    tensor = model.graph.initializer[0]
    (tmp_path / "w.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    path = save(tmp_path, model)
    remember_made(path)
    digest = file_sha256(path)
    assert not is_known(digest, ENGINE)
    assert is_known(digest_of(path, digest, ["w.bin"]), ENGINE)
    (tmp_path / "w.bin").write_bytes(bytes(864))
    assert not is_known(digest_of(path, digest, ["w.bin"]), ENGINE)


def test_a_broken_model_is_not_remembered_as_made_here(known, tmp_path):
    model = small_ssd()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros(3), "other"))
    remember_made(save(tmp_path, model))
    assert not known.exists()


def test_the_latest_ones_stay(known, monkeypatch):
    monkeypatch.setattr(limits, "MOST_KNOWN_MODELS", 3)
    for i in (0, 1, 2, 0, 3):
        remember(f"{i:064x}", ENGINE)
    assert [is_known(f"{i:064x}", ENGINE) for i in range(4)] == [True, False, True, True]
    assert len(known.read_text().splitlines()) == 3


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_list_that_others_may_write_does_not_count(known, mode):
    remember(DIGEST, ENGINE)
    known.chmod(mode)
    assert not is_known(DIGEST, ENGINE)
    remember(DIGEST, ENGINE)  # and is written anew
    assert is_known(DIGEST, ENGINE)


def test_a_list_of_another_user_does_not_count(known, monkeypatch):
    remember(DIGEST, ENGINE)
    monkeypatch.setattr(os, "getuid", lambda: known.stat().st_uid + 1)
    assert not is_known(DIGEST, ENGINE)


def test_a_list_behind_a_link_does_not_count(known, tmp_path):
    remember(DIGEST, ENGINE)
    known.rename(tmp_path / "list")
    known.symlink_to(tmp_path / "list")
    assert not is_known(DIGEST, ENGINE)


def test_a_umask_that_lets_a_group_write_changes_nothing(known):
    before = os.umask(0o002)
    try:
        remember(DIGEST, ENGINE)
    finally:
        os.umask(before)
    assert is_known(DIGEST, ENGINE)


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe\x00" * 100, b"x" * 10_000_000, b"\n" * 1000])
def test_a_damaged_list_is_an_empty_one(known, damage):
    known.parent.mkdir()
    known.write_bytes(damage)
    known.chmod(0o600)
    assert not is_known(DIGEST, ENGINE)
    remember(DIGEST, ENGINE)
    assert is_known(DIGEST, ENGINE)


def test_the_lines_between_damaged_ones_stay(known):
    remember(DIGEST, ENGINE)
    known.write_bytes(b"\x00\xff\n" + known.read_bytes() + b"0123")
    assert is_known(DIGEST, ENGINE)


@pytest.mark.parametrize("obstacle", ["file", "folder", "no home"])
def test_where_the_list_cannot_be_written_nothing_is_known(known, monkeypatch, obstacle):
    if obstacle == "file":
        known.parent.write_text("in the way")
    elif obstacle == "folder":
        known.mkdir(parents=True)
    else:

        def no_home():
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("EDGE_SSD_CACHE")
        monkeypatch.setattr(known_models, "cache_folder", no_home)
    remember(DIGEST, ENGINE)
    assert not is_known(DIGEST, ENGINE)


def test_many_writers_at_once_leave_a_whole_list(known):
    digests = [f"{i:064x}" for i in range(40)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda digest: remember(digest, ENGINE), digests))
    lines = known.read_text().splitlines()
    assert lines
    assert {*lines} <= {f"{digest} {ENGINE}" for digest in digests}
    assert [path.name for path in known.parent.iterdir()] == [known.name]
