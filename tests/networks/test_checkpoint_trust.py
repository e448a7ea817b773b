"""With a torch before 2.10, checkpoints from elsewhere are refused, and one's own are read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from torch.torch_version import TorchVersion  # noqa: E402

from edge_ssd import Detector, cli  # noqa: E402
from edge_ssd.networks import build_model, checkpoint_trust  # noqa: E402
from edge_ssd.networks.checkpoint import load_checkpoint, load_model, read_weights, save_checkpoint  # noqa: E402
from edge_ssd.networks.checkpoint_trust import is_safe  # noqa: E402
from edge_ssd.training import published  # noqa: E402

pytestmark = pytest.mark.torch

SAID = (
    r"best\.pt: comes from elsewhere, and torch 2\.5\.0a0.* does not load it safely .* 2\.10 or newer; "
    r".* --trust-checkpoint"
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """This user's settings, somewhere else."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def old_torch(home, monkeypatch):
    """As NVIDIA's wheels for a Jetson are called."""
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.5.0a0+872d972e41.nv24.8"))


def saved(folder):
    folder.mkdir()
    model = build_model("ssd320_resnet16", 3, input_size=96)
    save_checkpoint(folder / "best.pt", model, model.spec(("cat", "dog")))
    return folder / "best.pt"


@pytest.fixture
def foreign(tmp_path, monkeypatch, home):
    """A whole run of another user, with what lies beside the checkpoint there."""
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.5.1"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "theirs"))
    path = saved(tmp_path / "run")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    assert path.with_name("best.pt.own").is_file()
    return path


@pytest.mark.parametrize("read", [load_checkpoint, read_weights, load_model])
def test_a_checkpoint_from_elsewhere_is_refused_unread(foreign, old_torch, read, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ValueError, match=SAID):
        read(foreign)


@pytest.mark.parametrize("read", [load_checkpoint, read_weights, load_model])
def test_one_that_is_called_trusted_is_read(foreign, old_torch, read):
    assert read(foreign, trusted=True)
    with Detector.load(foreign, trust_checkpoint=True) as detector:
        assert detector.class_names == ("cat", "dog")


def test_ones_own_is_read_until_it_is_changed(tmp_path, old_torch):
    path = saved(tmp_path / "mine")
    load_checkpoint(path)
    shutil.copytree(path.parent, tmp_path / "moved")
    load_checkpoint(tmp_path / "moved" / "best.pt")
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match=SAID):
        load_checkpoint(path)


def test_the_key_is_this_users_alone_and_no_empty_one_is_taken(tmp_path, old_torch, home):
    path = saved(tmp_path / "mine")
    key = home / "edge_ssd" / "checkpoint.key"
    assert key.stat().st_mode & 0o077 == 0
    key.write_bytes(b"")
    path.with_name("best.pt.own").write_text(checkpoint_trust._signature(path, b"") + "\n")
    with pytest.raises(ValueError, match=SAID):
        load_checkpoint(path)


def test_without_a_home_training_goes_on(tmp_path, old_torch, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    path = saved(tmp_path / "mine")
    assert not path.with_name("best.pt.own").exists()


def test_a_safe_torch_needs_no_note(tmp_path, home, monkeypatch):
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.10.0"))
    path = saved(tmp_path / "mine")
    assert [one.name for one in path.parent.iterdir()] == ["best.pt"]
    load_checkpoint(path)


@pytest.mark.parametrize(
    ("version", "safe"),
    [("2.5.1", False), ("2.9.1+cu130", False), ("2.10.0", True), ("2.13.0+cpu", True), ("3.0", True)],
)
def test_safe_from_2_10_on(monkeypatch, version, safe):
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    assert is_safe() is safe


def test_commands_say_the_way_out_and_take_it(foreign, old_torch, tmp_path, capsys):
    out = tmp_path / "m.onnx"
    assert cli.main(["export", str(foreign), "--out", str(out)]) == 1
    assert "--trust-checkpoint" in capsys.readouterr().err
    assert cli.main(["export", str(foreign), "--out", str(out), "--trust-checkpoint"]) == 0
    assert out.is_file()
    data = [
        "--data",
        "demo://?seed=1&frames=4&scene=1&size=96x96",
        "--batch",
        "4",
        "--workers",
        "0",
        "--epochs",
        "1",
    ]
    new = ["train", *data, "--arch", "ssd320_resnet16", "--input-size", "96", "--weights", str(foreign)]
    assert cli.main([*new, "--out", str(tmp_path / "new")]) == 1
    assert "--trust-checkpoint" in capsys.readouterr().err
    assert cli.main([*new, "--out", str(tmp_path / "new"), "--trust-checkpoint"]) == 0
    assert (
        cli.main(["train", "--resume", str(tmp_path / "new/last.pt"), "--epochs", "2", "--workers", "0"]) == 0
    )


def test_a_key_that_others_may_read_proves_nothing(tmp_path, old_torch, home):
    path = saved(tmp_path / "mine")
    (home / "edge_ssd" / "checkpoint.key").chmod(0o644)
    with pytest.raises(ValueError, match=SAID):
        load_checkpoint(path)


def test_a_power_cut_between_note_and_name_leaves_ones_own(tmp_path, old_torch, monkeypatch):
    path = saved(tmp_path / "mine")
    before = path.read_bytes()
    checkpoint_trust.sign(path, Path(__file__))  # the next one is noted, and never takes the name
    assert path.read_bytes() == before
    load_checkpoint(path)


def test_without_any_home_it_is_refused_in_one_line(foreign, old_torch, monkeypatch):
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr(checkpoint_trust.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(ValueError, match=SAID):
        load_checkpoint(foreign)


@pytest.mark.parametrize("trusted", [False, True])
def test_a_download_is_from_elsewhere_whatever_its_name_says(tmp_path, old_torch, monkeypatch, trusted):
    weights = tmp_path / "ssdlite320_mobilenet_v3_large_coco-a79551df.pth"
    weights.touch()
    monkeypatch.setattr(published, "download", lambda *_: weights)
    monkeypatch.setattr(torch, "load", lambda *_, **__: {"x": torch.zeros(1)})
    with pytest.raises(ValueError, match="expects shape" if trusted else "comes from elsewhere"):
        published.pull("ssdlite320-coco", tmp_path, trusted=trusted)
