"""Checkpoints: what is read back, what is refused, and what a failure leaves behind."""

from __future__ import annotations

import pickle

import pytest

torch = pytest.importorskip("torch")

from edge_ssd.networks import build_model  # noqa: E402
from edge_ssd.networks import checkpoint as module  # noqa: E402
from edge_ssd.networks.checkpoint import FORMAT, load_checkpoint, load_model, save_checkpoint  # noqa: E402

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
