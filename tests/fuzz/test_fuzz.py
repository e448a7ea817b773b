"""Mutated files of every kind: known errors alone, no crash, no hang, no memory without end."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.fuzz.harness import CORPUS, Harness, fuzz, judge
from tests.fuzz.kinds import ALL, CHEAP, NATIVE

SEED = 20260101
PAST = [(path.parent.name, path.name) for path in sorted(CORPUS.glob("*/*"))]
RIGHT = [harness for harness in CHEAP if harness.name != "address"]  # nothing is at those
_NEEDS = {"checkpoint": "torch", "openvino": "openvino"}


def _problems(harness, folder, runs):
    outcome = fuzz(harness, folder / "work", SEED, runs)
    assert outcome.runs == runs
    return [f"{failure.reason}: {failure.message} (input {failure.index})" for failure in outcome.failures]


@pytest.mark.full
@pytest.mark.parametrize("harness", CHEAP, ids=lambda harness: harness.name)
def test_cheap_kinds(harness, tmp_path):
    assert _problems(harness, tmp_path, 2000) == []


@pytest.mark.full
@pytest.mark.parametrize("harness", NATIVE, ids=lambda harness: harness.name)
def test_kinds_that_native_code_reads(harness, tmp_path):
    pytest.importorskip(_NEEDS.get(harness.name, "onnxruntime"))
    assert _problems(harness, tmp_path, 200) == []


@pytest.mark.parametrize(("kind", "name"), PAST)
def test_past_failures_are_mended(kind, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    harnesses = [ALL[kind]] if kind in ALL else [ALL["onnxruntime"]]
    for harness in harnesses:
        assert judge(harness, (CORPUS / kind / name).read_bytes(), tmp_path) == ("", "")


@pytest.mark.parametrize("harness", RIGHT, ids=lambda harness: harness.name)
def test_files_that_are_right_are_read(harness, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for data in harness.right():
        harness.run(data, tmp_path)


def _key_error(data, folder):
    raise KeyError("x") if data == b"bad" else ValueError("refused")


def _hang(data, folder):
    if data == b"bad":
        time.sleep(60)


def _abort(data, folder):
    if data == b"bad":
        os.kill(os.getpid(), signal.SIGABRT)


def _take_memory(data, folder):
    if data == b"bad":
        bytearray(3 << 30)


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (_key_error, "KeyError at test_fuzz.py"),
        (_hang, "does not end; File"),
        (_abort, "signal SIGABRT"),
        (_take_memory, "MemoryError at test_fuzz.py"),
    ],
)
def test_each_way_to_fail_is_noticed(run, reason, tmp_path):
    """One bad input of nine: the other eight are tried all the same."""
    harness = Harness(
        "planted", lambda: [b""], lambda rng, _: b"bad" if rng.random() < 0.1 else b"good", run, seconds=0.5
    )
    outcome = fuzz(harness, tmp_path / "work", seed=3, runs=9)
    assert outcome.runs == 9
    assert [failure.data for failure in outcome.failures] == [b"bad"]
    assert outcome.failures[0].reason.startswith(reason)
