"""Two processes that train one network, started by torchrun, against one process with the whole batch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from edge_ssd import cli  # noqa: E402
from edge_ssd.networks.checkpoint import load_checkpoint  # noqa: E402
from edge_ssd.training.data import RankBatches, RoundSampler  # noqa: E402
from tests.conftest import ROOT  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
        reason="this torch has no Gloo",
    ),
]


def train(out, processes, arch, *options):
    """Runs `edge-ssd train` without augmentation in so many processes; returns its metrics, list of dict."""
    command = ["train", "--arch", arch, "--out", str(out), *options]
    command += ["--augmentation", "none", "--workers", "0", "--threads", "1", "--precision", "fp32"]
    if processes == 1:
        assert cli.main(command) == 0
    else:
        start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        done = subprocess.run(
            [sys.executable, *start, "-m", "edge_ssd", *command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def _same_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_two_processes_have_the_losses_and_weights_of_one_with_the_doubled_batch(tmp_path):
    # Frames with different counts of objects: a mean of the processes' own losses would differ.
    data = ["--data", "demo://?seed=3&frames=4&scene=1", "--epochs", "1", "--epoch-images", "2", "--ema", "0"]
    options = [*data, "--optimizer", "sgd", "--lr", "1e-3", "--warmup", "0", "--schedule", "step"]
    one = train(tmp_path / "one", 1, "ssd300_vgg16", *options, "--batch", "2")
    two = train(tmp_path / "two", 2, "ssd300_vgg16", *options, "--batch", "1")
    assert len(one) == len(two) == 1
    for name in ("loss_loc", "loss_conf"):
        # Sums of float32 in another order.
        assert [m[name] for m in two] == pytest.approx([m[name] for m in one], rel=1e-4)
    weights = [load_checkpoint(tmp_path / run / "last.pt")["model"] for run in ("one", "two")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-3, atol=1e-6)


def test_a_network_with_batch_norms_learns_in_two_processes(tmp_path):
    history = train(
        tmp_path,
        2,
        "ssd320_resnet16",
        *("--data", "demo://?seed=3&frames=16&size=128x96", "--input-size", "96", "--lr", "3e-3"),
        *("--epochs", "2", "--epoch-images", "96", "--batch", "8", "--warmup", "5"),
    )
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_parts_of_the_processes_make_the_whole_batch():
    whole = list(RankBatches(RoundSampler(10, 10, 1), 4))
    parts = [list(RankBatches(RoundSampler(10, 10, 1), 2, rank, 2)) for rank in (0, 1)]
    assert [first + second for first, second in zip(*parts)] == whole
    assert len(whole) == len(RankBatches(RoundSampler(10, 10, 1), 4)) == 2
