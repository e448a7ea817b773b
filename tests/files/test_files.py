"""Files that are whole or not there, what killed writers leave, and files that never end."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_ssd import files
from edge_ssd.files import read_file, replacing


@pytest.fixture(autouse=True)
def no_folder_cleaned(monkeypatch):
    monkeypatch.setattr(files, "_cleaned", set())


def test_file_takes_its_place_at_the_end(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.json"]


def test_failed_block_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as temporary:
        temporary.write_text("half ü", encoding="ascii")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_file_may_be_read_by_whom_the_umask_says(tmp_path):
    umask = os.umask(0o027)
    try:
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


_WRITE_FOR_EVER = """
import sys, time
from edge_ssd.files import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITE_FOR_EVER, tmp_path / "a"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def _grow_old(folder: Path):
    for path in folder.glob("*.tmp"):
        os.utime(path, (time.time() - 3600,) * 2)


def test_leftover_of_a_killed_writer_is_removed_at_the_next_write(writer, tmp_path):
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(list(tmp_path.glob("a.*.tmp"))) == 1
    _grow_old(tmp_path)
    with replacing(tmp_path / "b") as temporary:
        temporary.write_text("x")
    assert os.listdir(tmp_path) == ["b"]


def test_leftover_is_removed_however_young_it_is(writer, tmp_path):
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    with replacing(tmp_path / "b") as temporary:
        temporary.write_text("x")
    assert os.listdir(tmp_path) == ["b"]


def test_file_taken_for_a_leftover_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    lock, tries = files.lock, []

    def removed_first(descriptor, path):
        tries.append(path)
        if len(tries) == 1:
            path.unlink()
        return lock(descriptor, path)

    monkeypatch.setattr(files, "lock", removed_first)
    with replacing(tmp_path / "b") as temporary:
        temporary.write_text("x")
    assert len(tries) == 2
    assert (tmp_path / "b").read_text() == "x"
    assert os.listdir(tmp_path) == ["b"]


def test_file_that_another_process_writes_is_left_alone(writer, tmp_path):
    _grow_old(tmp_path)
    with replacing(tmp_path / "b") as temporary:
        temporary.write_text("x")
    assert len(list(tmp_path.glob("a.*.tmp"))) == 1


@pytest.mark.parametrize("name", ["mine.tmp", "a.1234.tmp", "a.0123456789abcdef.tmp.bak"])
def test_users_files_are_left_alone(name, tmp_path):
    (tmp_path / name).write_text("x")
    os.utime(tmp_path / name, (0, 0))
    with replacing(tmp_path / "b") as temporary:
        temporary.write_text("x")
    assert sorted(os.listdir(tmp_path)) == sorted([name, "b"])


def test_read_file_takes_up_to_the_limit(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("a")
    assert read_file(tmp_path / "link", 5) == b"12345"
    with pytest.raises(ValueError, match="has 5 bytes, more than the 4 that are read"):
        read_file(tmp_path / "a", 4)


def test_read_file_refuses_what_might_never_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, kind in (("pipe", "a pipe"), ("zero", "a device"), (".", "a folder")):
        with pytest.raises(ValueError, match=f"expected a regular file, got {kind}"):
            read_file(tmp_path / name, 5)


def test_read_file_refuses_a_file_that_lies_about_its_size():
    with pytest.raises(ValueError, match="has more than the 5 bytes"):
        read_file("/proc/self/status", 5)


def test_numbers_in_names_are_sorted_by_value():
    names = ["b1", "a10", "a2", "a02", "a", "a2b", "10", "9"]
    assert sorted(names, key=files.natural_key) == ["9", "10", "a", "a02", "a2", "a2b", "a10", "b1"]


def test_cache_that_cannot_be_used_says_what_helps(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/edge_ssd: cannot be made .*; let XDG_CACHE_HOME name a folder"):
        files.make_cache_folder(tmp_path / "file/edge_ssd")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(OSError, match=r"cannot be written to; let XDG_CACHE_HOME"):
        files.make_cache_folder(tmp_path / "folder")

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(files.Path, "home", no_home)
    with pytest.raises(OSError, match="this user has no home folder; let XDG_CACHE_HOME"):
        files.user_cache_folder()
