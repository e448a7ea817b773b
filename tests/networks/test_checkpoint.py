"""Checkpoints: what is read back, what is refused, and what a failure leaves behind."""

from __future__ import annotations

import copy
import pickle
import struct
import zipfile
from contextlib import suppress

import pytest

torch = pytest.importorskip("torch")

from edge_ssd import limits  # noqa: E402
from edge_ssd.networks import build_model  # noqa: E402
from edge_ssd.networks import checkpoint as module  # noqa: E402
from edge_ssd.networks.checkpoint import (  # noqa: E402
    FORMAT,
    load_checkpoint,
    load_model,
    read_weights,
    save_checkpoint,
)

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model("ssd320_resnet16", 3, input_size=96)


@pytest.fixture
def path(model, tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, model, model.spec(["a", "b"]), epoch=3)
    return path


def test_network_and_spec_come_back_equal(model, path):
    again, spec = load_model(path)
    assert spec == model.spec(["a", "b"])
    assert again.layout.input_size == (96, 96)
    assert not again.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_checkpoint_holds_plain_types_and_tensors(path):
    content = torch.load(path, weights_only=True)
    assert content["format"] == FORMAT
    assert content["epoch"] == 3
    assert content["options"] == {"input_size": 96}


def test_averaged_weights_are_preferred(model, path):
    average = {name: tensor * 0 for name, tensor in model.state_dict().items()}
    save_checkpoint(path, model, model.spec(["a", "b"]), ema=average)
    again, _ = load_model(path)
    assert all((tensor == 0).all() for tensor in again.state_dict().values())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_cut_off_checkpoint_is_refused_in_one_line(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"last\.pt: not a readable checkpoint") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


class Stranger:
    ran = False

    def __reduce__(self):
        return setattr, (Stranger, "ran", True)


@pytest.mark.parametrize(
    "save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))]
)
def test_pickled_stranger_is_refused_and_not_run(tmp_path, save):
    path = tmp_path / "stranger.pt"
    save({"format": FORMAT, "model": Stranger()}, path)
    with pytest.raises(ValueError, match=r"stranger\.pt: "):
        load_checkpoint(path)
    assert not Stranger.ran


def test_plain_weights_are_no_checkpoint(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=f"expected format '{FORMAT}', got None"):
        load_checkpoint(tmp_path / "weights.pt")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pt: no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")


def test_weights_of_another_class_count_are_refused_by_name(model, path):
    other = build_model("ssd320_resnet16", 5, input_size=96)
    with pytest.raises(
        ValueError, match=r"w\.pt: head\.classification_head.*5 classes.*expects shape .*, got"
    ):
        module.load_weights(other, model.state_dict(), "w.pt")


def test_weights_of_another_network_are_refused_by_name(model):
    other = build_model("ssdlite320_mobilenet_v3_large", 3)
    with pytest.raises(ValueError, match=r"ssdlite320_mobilenet_v3_large with 3 classes .* got none"):
        module.load_weights(other, model.state_dict(), "w.pt")


@pytest.mark.parametrize(
    "error", [RuntimeError("PytorchStreamWriter failed"), OSError(28, "No space left on device")]
)
def test_full_disk_leaves_the_last_checkpoint(model, path, monkeypatch, error):
    before = path.read_bytes()

    def fill_disk(content, file):
        file.write(b"half")
        raise error

    monkeypatch.setattr(module.torch, "save", fill_disk)
    with pytest.raises(OSError, match=r"No space left|could not be written; the last one stays"):
        save_checkpoint(path, model, model.spec(["a", "b"]), epoch=4)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["last.pt"]


def deflated(path):
    """The same checkpoint, compressed."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


@pytest.fixture
def no_torch_load(monkeypatch):
    monkeypatch.setattr(module.torch, "load", lambda *_, **__: pytest.fail("was read"))


def test_compressed_checkpoint_is_refused_before_torch_unpacks_it(path, no_torch_load):
    deflated(path)
    with pytest.raises(ValueError, match=r"last\.pt: not a readable checkpoint .*compressed by method 8"):
        load_checkpoint(path)


def test_checkpoint_that_claims_more_than_it_has_is_refused_before_torch_allocates_it(path, no_torch_load):
    """Two entries of its list name the same bytes, as quines and bombs do."""
    with zipfile.ZipFile(path, "a") as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        for i in range(3):
            twin = copy.copy(largest)
            twin.filename = twin.orig_filename = f"last/data/twin{i}"
            archive.filelist.append(twin)
        archive._didModify = True
    with pytest.raises(
        ValueError, match=r"not a readable checkpoint; it has \d+ bytes and claims to hold \d+"
    ):
        load_checkpoint(path)


def test_checkpoint_larger_than_any_is_refused(path, no_torch_load, monkeypatch):
    monkeypatch.setattr(limits, "MOST_CHECKPOINT_BYTES", 1000)
    with pytest.raises(ValueError, match=r"last\.pt: has 0\.0 GB, more than the"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "error", [IndexError("x"), struct.error("x"), KeyError("x"), RecursionError(), AssertionError()]
)
def test_any_error_of_the_reader_is_one_of_the_file(path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(module.torch, "load", fail)
    for read in (load_checkpoint, read_weights):
        with pytest.raises(ValueError, match=r"last\.pt: not a readable checkpoint"):
            read(path)


def test_bytes_changed_anywhere_are_one_line(path, rng):
    """Of the pickle, which is small, and of the list of entries; most of the rest are weights."""
    whole = path.read_bytes()
    start = whole.index(b"data.pkl")
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.integers(3000, size=3):
            data[start + place if rng.integers(2) else -1 - place] = rng.integers(256)
        path.write_bytes(data)
        with suppress(ValueError):  # any other error fails
            load_model(path)


HUGE = 10**9


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ema": ...}, "not a whole checkpoint: ema is missing"),
        ({"spec": ...}, "not a whole checkpoint: spec is missing"),
        ({"model": ...}, "not a whole checkpoint: model is missing"),
        ({"model": [1]}, "model: expected a dictionary of tensors by name, got list"),
        ({"ema": {"a": 1}}, "ema: expected a dictionary of tensors by name, with 'a' it is none"),
        ({"arch": 5}, "arch: expected str, got int"),
        ({"arch": "yolo"}, "arch: expected one of"),
        ({"options": {5: 6}}, "options: expected names"),
        ({"options": {"input_size": "a"}}, r"last\.pt: "),
        ({"options": {"input_size": [96]}}, "input_size: expected a multiple of 32"),
        ({"options": {"priors": 7}}, r"last\.pt: "),
        ({"options": {"input_size": 96, "neck": ["fpn"]}}, r"last\.pt: neck"),
        ({"spec": "{"}, "not valid JSON"),
        ({"epoch": -1}, "epoch: expected 0 or more, got -1"),
        ({"epoch": True}, "epoch: expected int, got bool"),
        ({"optimizer": []}, "optimizer: expected dict, got list"),
        ({"origin": {"data": 5}}, "origin: expected texts"),
        ({"model": {"a": torch.zeros(1).expand(HUGE)}}, "model: 'a' claims more numbers than the file has"),
        ({"model": {"a": torch.empty(HUGE, device="meta")}}, "model: 'a': expected a plain tensor"),
        ({"format": ["x"] * 1000}, "got list; is it a file of plain weights"),
    ],
)
def test_checkpoint_with_other_fields_is_refused_by_name(path, changes, said):
    content = {**torch.load(path, weights_only=True), **changes}
    torch.save({name: value for name, value in content.items() if value is not ...}, path)
    with pytest.raises(ValueError, match=said) as error:
        load_model(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


def test_network_far_larger_than_its_weights_is_refused_before_it_is_made(model, path):
    content = torch.load(path, weights_only=True)
    boxes = [[[10.0, 10.0]]] * len(model.layout.boxes_per_cell)
    boxes[0] = boxes[0] * 1_000_000  # a head of 200 GB
    content["options"] = {"input_size": 96, "priors": boxes}
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"last\.pt: head\..* expects shape"):
        load_checkpoint(path)


def test_weights_may_be_views_of_one_tensor(model, tmp_path):
    whole = torch.arange(10.0)
    torch.save({"a": whole[:5], "b": whole[5:]}, tmp_path / "w.pt")
    assert torch.equal(read_weights(tmp_path / "w.pt")["b"], whole[5:])
