"""One writer at a time, and a dead one does not count."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from edge_ssd.files.only_writer import only_writer

_WORDS = "another build is writing this file", "take another name"


def test_second_writer_is_refused_and_the_lock_is_gone_at_the_end(tmp_path):
    path = tmp_path / "a"
    with (
        only_writer(path, *_WORDS),
        pytest.raises(
            ValueError, match=r"/a: another build is writing this file; wait for it, or take another"
        ),
        only_writer(path, *_WORDS),
    ):
        pass
    assert os.listdir(tmp_path) == []
    with only_writer(path, *_WORDS):
        pass


_HOLD = """
import sys, time
from edge_ssd.files.only_writer import only_writer
with only_writer(sys.argv[1], "another", "x"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_lock_of_a_killed_writer_does_not_count(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", _HOLD, tmp_path / "a"], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(ValueError, match="another build"), only_writer(tmp_path / "a", *_WORDS):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with only_writer(tmp_path / "a", *_WORDS):
        pass
    assert os.listdir(tmp_path) == []


def test_what_lies_behind_a_planted_lock_is_not_touched(tmp_path):
    (tmp_path / "precious").write_text("old")
    (tmp_path / ".a.lock").symlink_to("precious")
    with pytest.raises(OSError, match="/a: cannot be written"), only_writer(tmp_path / "a", *_WORDS):
        pass
    assert (tmp_path / "precious").read_text() == "old"
    os.mkfifo(tmp_path / ".b.lock")
    with pytest.raises(ValueError, match=r"\.b\.lock: expected"), only_writer(tmp_path / "b", *_WORDS):
        pass
