"""`edge-ssd train` and `edge-ssd export` from the command line, on the rendered camera."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from edge_ssd import cli  # noqa: E402
from edge_ssd.networks import build_model  # noqa: E402
from edge_ssd.networks.checkpoint import load_checkpoint  # noqa: E402
from edge_ssd.training import start as module  # noqa: E402

pytestmark = pytest.mark.torch

DATA = "demo://?seed=1&frames=8&scene=1&size=96x96"
VAL = "demo://?seed=2&frames=4&scene=1&size=96x96"
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
    return cli.main(["train", *SHORT, *arguments])


def test_train_resume_and_export(tmp_path, capsys):
    run, model = tmp_path / "run", tmp_path / "model.onnx"
    assert train("--data", DATA, "--val", VAL, "--arch", "ssd320_resnet16", "--out", str(run)) == 0
    assert "best epoch 1: AP " in capsys.readouterr().out
    last = str(run / "last.pt")
    assert cli.main(["train", "--resume", last, "--epochs", "2", "--ema", "0.5"]) == 0
    assert load_checkpoint(last)["epoch"] == 2
    assert load_checkpoint(last)["training"]["batch"] == 4  # of the first command
    assert load_checkpoint(last)["origin"] == {"data": DATA, "split": "", "val": VAL, "val_split": ""}
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
        capsys, "--data", DATA, "--resume", last, "--arch", "ssd300_vgg16", "--epochs", "2"
    )
    checkpoint = load_checkpoint(last)
    checkpoint["spec"] = checkpoint["spec"].replace('"circle"', '"disc"')
    torch.save(checkpoint, last)
    resumed = failure(capsys, "--data", DATA, "--resume", last, "--epochs", "2")
    assert "was trained on the classes disc" in resumed


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
    common[common.index("--out") + 1] = str(tmp_path / "second")
    assert train(*common, "--weights", str(tmp_path / "run" / "last.pt")) == 0


@pytest.fixture
def finished(tmp_path, capsys):
    """The folder of a run of one epoch with a validation."""
    run = tmp_path / "run"
    assert train("--data", DATA, "--val", VAL, "--arch", "ssd320_resnet16", "--out", str(run)) == 0
    capsys.readouterr()
    return run


def test_a_run_is_not_written_over(finished, capsys):
    before = (finished / "best.pt").read_bytes()
    new = ["--data", DATA, "--arch", "ssd320_resnet16", "--out", str(finished)]
    assert "holds a run already. Go on with it: edge-ssd train --resume" in failure(capsys, *new)
    assert (finished / "best.pt").read_bytes() == before


def test_what_a_resumed_run_must_not_change(finished, capsys):
    last = ["--resume", str(finished / "last.pt")]
    assert "epochs: the run has 1 already" in failure(capsys, *last)
    other = "demo://?seed=9&frames=8&scene=1&size=96x96"
    assert cli.main(["train", *last, "--data", other, "--epochs", "2"]) == 1
    assert "val: the run chose its best.pt by AP" in capsys.readouterr().err


# The command, killed in its n-th validation.
_KILLED = """
import os, sys
from edge_ssd import cli
from edge_ssd.training.loop import Trainer
validate, left = Trainer._validate, int(sys.argv[1])
def killed(self):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), 9)
    return validate(self)
Trainer._validate = killed
cli.main(["train", *sys.argv[2:]])
"""


def test_a_run_killed_in_its_last_validation_is_finished_by_resume(tmp_path, capsys):
    run = tmp_path / "run"
    new = ["--data", DATA, "--val", VAL, "--arch", "ssd320_resnet16", "--input-size", "96", "--out", str(run)]
    ended = subprocess.run([sys.executable, "-c", _KILLED, "1", *SHORT, *new], capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not (run / "best.pt").exists()
    assert "AP" not in json.loads((run / "metrics.jsonl").read_text())
    assert cli.main(["train", "--resume", str(run / "last.pt")]) == 0
    assert "best epoch 1: AP " in capsys.readouterr().out
    assert "AP" in json.loads((run / "metrics.jsonl").read_text())
    assert load_checkpoint(run / "best.pt")["epoch"] == 1
    assert sorted(path.name for path in run.iterdir()) == ["best.pt", "curve.png", "last.pt", "metrics.jsonl"]
    assert "epochs: the run has 1 already" in failure(capsys, "--resume", str(run / "last.pt"))


def test_images_to_validate_on_are_not_trained_on(tmp_path, capsys):
    same = ["--data", DATA, "--val", DATA, "--arch", "ssd320_resnet16", "--out", str(tmp_path / "run")]
    assert "val: 8 of its 8 images are trained on" in failure(capsys, *same)


def test_a_run_resumed_elsewhere_knows_what_was_best(finished, tmp_path, capsys):
    metrics = finished / "metrics.jsonl"
    first = {**json.loads(metrics.read_text()), "AP": 0.99}
    metrics.write_text(json.dumps(first) + "\n")
    other = tmp_path / "other"
    resume = ["--resume", str(finished / "last.pt"), "--out", str(other), "--epochs", "2"]
    assert cli.main(["train", *resume]) == 0
    assert not (other / "best.pt").exists()
    assert len((other / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), "take a smaller --batch"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error"), "fewer --workers"),
        (
            ValueError(
                "Caught ValueError in DataLoader worker process 0.\nTraceback\nValueError: a.png: broken\n"
            ),
            "error: a.png: broken",
        ),
    ],
)
def test_failures_of_torch_and_its_workers_are_one_line(tmp_path, capsys, monkeypatch, error, said):
    def fail(*_):
        raise error

    monkeypatch.setattr("edge_ssd.training.run.train", fail)
    assert said in failure(capsys, "--data", DATA, "--arch", "ssd320_resnet16", "--out", str(tmp_path))


def test_an_interrupted_run_says_how_to_go_on(finished, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("edge_ssd.training.run.train", interrupt)
    assert cli.main(["train", "--resume", str(finished / "last.pt")]) == 130
    assert f"edge-ssd train --resume {finished / 'last.pt'}" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of a POSIX system")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_a_run_that_is_killed_leaves_no_process_behind(tmp_path, name):
    command = [sys.executable, "-m", "edge_ssd", "train", "--data", DATA, "--arch", "ssd320_resnet16"]
    command += [
        "--out",
        str(tmp_path / "run"),
        "--epochs",
        "500",
        "--batch",
        "4",
        "--workers",
        "1",
        "--threads",
        "1",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        for line in run.stderr:
            if "images/s" in line:  # the end of the first epoch: its worker is there
                break
        group = _processes_of(run.pid)
        assert len(group) >= 3  # the run, the server of its workers, a worker
        run.send_signal(getattr(signal, name))
        run.stderr.read()
    deadline = time.monotonic() + 20
    while (left := _processes_of(run.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def _processes_of(session):
    """Processes of a session that have not ended, as Linux lists them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found
