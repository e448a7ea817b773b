"""`edge-ssd train` and `edge-ssd export` from the command line, on the rendered camera."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from edge_ssd import cli  # noqa: E402
from edge_ssd.training import start as module  # noqa: E402
from edge_ssd.training.checkpoint import load_checkpoint  # noqa: E402
from edge_ssd.training.models import build_model  # noqa: E402

pytestmark = pytest.mark.torch

DATA = "demo://?seed=1&frames=8&scene=1&size=96x96"
SHORT = ["--epochs", "1", "--batch", "4", "--workers", "0", "--threads", "1", "--warmup", "1"]


@pytest.fixture(autouse=True)
def _small_inputs(monkeypatch):
    """The command's networks with an input of 96 x 96, so that a run takes a second."""

    def build(arch, num_classes, **options):
        return build_model(arch, num_classes, **{"input_size": 96, **options})

    monkeypatch.setattr(module, "build_model", build)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def train(*arguments):
    return cli.main(["train", *arguments, *SHORT])


def test_train_resume_and_export(tmp_path, capsys):
    run, model = tmp_path / "run", tmp_path / "model.onnx"
    assert train("--data", DATA, "--val", DATA, "--arch", "ssd320_resnet16", "--out", str(run)) == 0
    assert "best epoch 1: AP " in capsys.readouterr().out
    last = str(run / "last.pt")
    assert cli.main(["train", "--data", DATA, "--resume", last, "--epochs", "2", "--ema", "0.5"]) == 0
    assert load_checkpoint(last)["epoch"] == 2
    assert load_checkpoint(last)["training"]["batch"] == 4  # of the first command
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    assert cli.main(["export", last, "--out", str(model)]) == 0
    assert json.loads(model.with_suffix(".json").read_text())["input"]["height"] == 96
    assert "8 classes, 96 x 96" in capsys.readouterr().out


def failure(capsys, *arguments):
    assert train(*arguments) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1, error
    return error[0]


def test_known_errors_are_one_line(tmp_path, capsys):
    out = ["--out", str(tmp_path / "run")]
    assert "arch: missing" in failure(capsys, "--data", DATA, *out)
    assert "arch: expected one of ssd300_vgg16" in failure(capsys, "--data", DATA, "--arch", "yolo", *out)
    assert "no such checkpoint" in failure(capsys, "--data", DATA, "--resume", str(tmp_path / "none.pt"))


def test_resuming_with_another_network_or_other_classes_is_refused(tmp_path, capsys):
    assert train("--data", DATA, "--arch", "ssd320_resnet16", "--out", str(tmp_path)) == 0
    capsys.readouterr()
    last = str(tmp_path / "last.pt")
    assert "holds ssd320_resnet16, got ssd300_vgg16" in failure(
        capsys, "--data", DATA, "--resume", last, "--arch", "ssd300_vgg16"
    )
    checkpoint = load_checkpoint(last)
    checkpoint["spec"] = checkpoint["spec"].replace('"circle"', '"disc"')
    torch.save(checkpoint, last)
    assert "was trained on the classes disc" in failure(capsys, "--data", DATA, "--resume", last)


def test_weights_start_a_run_and_plain_ones_do_too(tmp_path):
    model = build_model("ssd320_resnet16", 9, input_size=96)
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    common = [
        "--data",
        DATA,
        "--arch",
        "ssd320_resnet16",
        "--out",
        str(tmp_path / "run"),
        "--lr",
        "0",
        "--ema",
        "0",
    ]
    assert train(*common, "--weights", str(tmp_path / "plain.pth")) == 0
    name = "head.regression_head.module_list.0.weight"
    assert torch.equal(load_checkpoint(tmp_path / "run" / "last.pt")["model"][name], model.state_dict()[name])
    assert train(*common, "--weights", str(tmp_path / "run" / "last.pt")) == 0
