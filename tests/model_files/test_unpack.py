"""Bundles that lie, burst or hide: each refused in one line, and nothing of them stays."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import zipfile
from collections import namedtuple
from contextlib import suppress
from hashlib import sha256

import pytest

from edge_ssd import limits
from edge_ssd.model_files import unpack as module
from edge_ssd.model_files.bundle import open_bundle
from edge_ssd.model_files.unpack import FORMAT, unpack


def index_of(contents, **changes):
    digests = {name: sha256(data).hexdigest() for name, data in contents.items()}
    return {"format": FORMAT, "model": "m.onnx", "engines": [], "files": digests, **changes}


def write_bundle(path, files, index=None, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("bundle.json", json.dumps(index_of(files) if index is None else index))
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def refused(tmp_path):
    """A function that asserts that a bundle is refused with a word, and that nothing stays."""

    def check(path, said, error=ValueError):
        with pytest.raises(error, match=said) as raised:
            unpack(path, tmp_path / "cache" / "it")
        assert "\n" not in str(raised.value)
        assert not list((tmp_path / "cache").rglob("*"))
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted({"cache", path.name})

    return check


FILES = {"m.onnx": b"model" * 100, "m.json": b"spec"}


def test_what_was_packed_comes_out(tmp_path):
    unpack(write_bundle(tmp_path / "b.zip", FILES), tmp_path / "it")
    assert {p.name: p.read_bytes() for p in (tmp_path / "it").iterdir() if p.name != "bundle.json"} == FILES


def test_an_index_that_unpacks_to_gigabytes_is_not_read(tmp_path, refused):
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bundle.json", b" " * (limits.MOST_INDEX_BYTES + 1))
    refused(tmp_path / "b.zip", r"b\.zip: bundle\.json: unpacks to more than 1048576 bytes; refused")


def test_an_index_that_claims_to_be_small_is_not_believed(tmp_path, refused):
    """The size in the header is what a reader trusts; the checksum gives the lie away."""
    path = write_bundle(tmp_path / "b.zip", FILES)
    size = len(json.dumps(index_of(FILES)))
    data = path.read_bytes()
    assert data.count(size.to_bytes(4, "little")) == 2  # in front of the entry and in the list
    path.write_bytes(data.replace(size.to_bytes(4, "little"), (10).to_bytes(4, "little")))
    refused(path, "not a whole bundle")


def test_files_that_unpack_to_far_more_than_the_bundle_are_refused(tmp_path, refused):
    files = {**FILES, "m.bin": b"\0" * (limits.HARMLESS_BUNDLE_BYTES + 1)}
    path = write_bundle(tmp_path / "b.zip", files)
    refused(path, r"unpacks to \d+ times its size, more than 200 times; refused")


def test_files_larger_than_any_model_are_refused(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(limits, "MOST_BUNDLE_BYTES", 400)
    refused(write_bundle(tmp_path / "b.zip", FILES), "unpacks to more than 0 GiB; refused")


def test_room_is_asked_for_before_the_first_byte(tmp_path, refused, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 503))
    refused(write_bundle(tmp_path / "b.zip", FILES), "MB are needed to unpack b.zip, 0 MB are free", OSError)


def test_a_full_disk_leaves_nothing(tmp_path, refused, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    path = write_bundle(tmp_path / "b.zip", FILES)
    refused(path, r"No space left on device; 'm.onnx' was not unpacked: .*/cache/", OSError)


def flagged(path, offset_in_list, offset_before, bits):
    """Sets bits of a field of every entry, in the list and in front of the content."""
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\1\2", offset_in_list), (b"PK\3\4", offset_before)):
        start = data.find(signature)
        while start >= 0:
            data[start + offset] |= bits
            start = data.find(signature, start + 4)
    path.write_bytes(data)
    return path


def test_encrypted_bundles_are_refused(tmp_path, refused):
    path = flagged(write_bundle(tmp_path / "b.zip", FILES), 8, 6, 1)
    refused(path, "'bundle.json' is encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_of_compression_are_refused(tmp_path, refused, method):
    path = write_bundle(tmp_path / "b.zip", FILES, method=method)
    refused(path, f"'bundle.json' is compressed by method {method}")


def test_unknown_methods_of_compression_are_refused(tmp_path, refused):
    refused(flagged(write_bundle(tmp_path / "b.zip", FILES), 10, 8, 99), "is compressed by method")


def test_a_name_that_is_there_twice_is_refused(tmp_path, refused):
    path = write_bundle(tmp_path / "b.zip", FILES)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("m.onnx", b"another")
    refused(path, "'m.onnx' is there twice")


def test_damage_anywhere_is_one_line(tmp_path, refused, rng):
    path = write_bundle(tmp_path / "b.zip", {"m.onnx": rng.bytes(500)})
    whole = path.read_bytes()
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(len(data), size=rng.integers(1, 4)):
            data[place] = rng.integers(256)
        path.write_bytes(data[: rng.integers(len(data)) if rng.integers(4) == 0 else None])
        with suppress(ValueError):  # any other error fails
            unpack(path, tmp_path / "cache" / "it")
            shutil.rmtree(tmp_path / "cache" / "it")  # what was changed is not looked at, such as a date
        assert not list((tmp_path / "cache").rglob("*"))


@pytest.mark.parametrize(
    ("files", "changes", "said"),
    [
        (FILES, {"files": [1]}, "files is missing, or no dict"),
        (FILES, {"files": {"m.onnx": 5}}, "files: expected a hash for each"),
        (FILES, {"model": "m.json"}, r"'m\.json': expected a name that ends in \.onnx"),
        (FILES, {"run": ["m.json"]}, r"'m\.json': expected a name that ends in \.onnx or \.engine"),
        (FILES, {"engines": ["m.onnx"]}, r"'m\.onnx': expected a name that ends in \.engine"),
        ({**FILES, "./bundle.json": b"{}"}, {}, r"'bundle\.json' is listed twice"),
        ({**FILES, "./m.onnx": b"model"}, {}, r"'m\.onnx' is listed twice"),
        ({**FILES, "m.onnx/a": b"model"}, {}, r"'m\.onnx' is a file and the folder of 'm\.onnx/a'"),
        ({**FILES, "sub/": b""}, {}, "'sub/' is a folder"),
        ({**FILES, "x\n.json": b""}, {}, "would leave the folder"),
        ({**FILES, **{f"{i}.json": b"" for i in range(1000)}}, {}, "lists 1002 files, more than the 1000"),
        (FILES, {"model": [[]]}, "model is missing, or no str"),
        (FILES, {"format": {"a": 1}}, "not a bundle of edge-ssd bundle"),
    ],
)
def test_an_index_that_lies(tmp_path, refused, files, changes, said):
    refused(write_bundle(tmp_path / "b.zip", files, index_of(files, **changes)), said)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{", "\xff", '{"format": ' + "1" * 5000 + "}", "null", "", "[1, 2]"]
)
def test_an_index_that_is_no_json_object(tmp_path, refused, text):
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bundle.json", text.encode("latin-1"))
    refused(tmp_path / "b.zip", "not a whole bundle|not a bundle of")


def test_a_list_of_entries_that_is_too_long_is_not_read(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(limits, "MOST_ARCHIVE_LIST_BYTES", 100)
    refused(write_bundle(tmp_path / "b.zip", FILES), "a list of entries of")


_UNPACK_FOR_EVER = """
import sys, time
from pathlib import Path
from edge_ssd.model_files import unpack as module
def wait(*_):
    print("unpacking", flush=True)
    time.sleep(60)
module._extract = wait
module.unpack(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_what_a_killed_process_has_unpacked_is_removed_by_the_next(tmp_path):
    path, cache = write_bundle(tmp_path / "b.zip", FILES), tmp_path / "cache"
    process = subprocess.Popen(
        [sys.executable, "-c", _UNPACK_FOR_EVER, path, cache / "other"], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"unpacking\n"
    unpack(path, cache / "first")
    assert len(list(cache.glob(".unpacking-*"))) == 1  # one that is alive is left alone
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    unpack(path, cache / "second")
    assert sorted(p.name for p in cache.iterdir()) == ["first", "second"]


def test_an_unpacked_bundle_that_was_damaged_is_named(tmp_path):
    path = write_bundle(tmp_path / "b.zip", FILES)
    folder = open_bundle(path, tmp_path / "cache").parent
    (folder / "bundle.json").write_text("{")
    with pytest.raises(ValueError, match=r"is damaged .*; remove this folder, and it is unpacked again"):
        open_bundle(path, tmp_path / "cache")
