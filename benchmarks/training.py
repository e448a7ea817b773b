"""Images per second of training, and of its parts alone; what matching and loss take of a step.

python -m benchmarks.training                                      the small network on the rendered camera
python -m benchmarks.training --arch ssd300_vgg16 --batch 8 --data VOC2007 --split trainval --augmentation ssd
python -m benchmarks.training ... --out benchmarks/results/NAME    NAME.json and NAME.md too
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

import cv2
import torch

from edge_ssd.datasets import open_dataset
from edge_ssd.files import write_text
from edge_ssd.machine.cpu import cpu_name, usable_cores
from edge_ssd.networks import ARCHITECTURES, build_model
from edge_ssd.training.data import normalise
from edge_ssd.training.loop import Trainer
from edge_ssd.training.options import TrainOptions

FRAMES = "demo://?seed=1&frames=100000&scene=1"
# Images that are augmented to measure the rate of one core.
AUGMENTED = 300


def main():
    """Runs the benchmark; a table on standard output, or JSON with --json."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--arch", default="ssd320_resnet16", choices=ARCHITECTURES)
    parser.add_argument("--data", default=FRAMES, metavar="D")
    parser.add_argument("--split", default="", metavar="S")
    parser.add_argument(
        "--input-size", type=int, metavar="N", help="side of the input; default: the network's"
    )
    parser.add_argument("--batch", type=int, default=16, metavar="N")
    parser.add_argument(
        "--steps", type=int, default=20, metavar="N", help="steps that are timed, after three that are not"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of torch; default: one per core")
    parser.add_argument("--augmentation", default="none", metavar="A")
    parser.add_argument("--precision", default="auto", metavar="P")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, metavar="NAME", help="write NAME.json and NAME.md")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(make_trainer(arguments, folder), arguments.steps)
    print(json.dumps(report, indent=2) if arguments.json else table(report))
    if arguments.out:
        write(report, arguments)
    return 0


def make_trainer(arguments, folder):
    """A Trainer as `edge-ssd train` makes it, without a validation set."""
    dataset = open_dataset(arguments.data, arguments.split)
    options = TrainOptions(
        batch=arguments.batch,
        epoch_images=arguments.batch * (arguments.steps + 3),
        workers=arguments.workers,
        augmentation=arguments.augmentation,
        precision=arguments.precision,
    )
    torch.manual_seed(0)
    size = {"input_size": arguments.input_size} if arguments.input_size else {}
    model = build_model(arguments.arch, len(dataset.class_names) + 1, **size)
    return Trainer(model, model.spec(dataset.class_names), dataset, None, options, folder)


def measure(trainer, steps):
    """Milliseconds per image of each part, and images per second; a dict of plain numbers."""
    size = trainer.options.batch
    batch = next(iter(trainer.loader))
    trainer.step(batch)  # raises when the loss is no number
    images = normalise(batch.images.to(trainer.device), trainer.spec)
    step_ms = median_ms(lambda: trainer.step(batch), steps)
    network_ms = median_ms(lambda: forward_backward(trainer, images), steps)
    loss_ms = median_ms(loss_alone(trainer, images, batch.targets), steps)
    return {
        "arch": trainer.model.arch,
        "input": "x".join(map(str, trainer.spec.input.size)),
        "batch": size,
        "augmentation": trainer.options.augmentation,
        "device": cpu_name() if trainer.device.type == "cpu" else torch.cuda.get_device_name(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "loop_images_per_s": size * rate(map(trainer.step, trainer.loader), steps),
        "loader_images_per_s": size * rate(trainer.loader, steps),
        "augmented_images_per_core_s": per_core_rate(trainer.loader.dataset, AUGMENTED),
        "step_images_per_s": size / step_ms * 1e3,
        "forward_backward_images_per_s": size / network_ms * 1e3,
        "step_ms": step_ms,
        "loss_ms": loss_ms,
        "loss_share": loss_ms / step_ms,
    }


def forward_backward(trainer, images):
    """The network alone: a sum stands for the loss."""
    with trainer.autocast:
        loc, conf = trainer.model(images)
    (loc.float().sum() + conf.float().sum()).backward()


def loss_alone(trainer, images, targets):
    """A function that matches and computes the loss and its gradient, on outputs of the network."""
    targets = targets.to(trainer.device)
    with torch.no_grad(), trainer.autocast:
        heads = trainer.model(images)

    def run():
        loc, conf = (head.detach().requires_grad_() for head in heads)
        losses = trainer.loss(loc, conf, targets)
        (losses.loc + losses.conf).backward()

    return run


def median_ms(function, repeats):
    """Median milliseconds of a call, after three that are not counted."""
    times = []
    for _ in range(repeats + 3):
        started = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times[3:])


def rate(items, count):
    """Items per second of an iterable, after the first three."""
    iterator = iter(items)
    for _ in islice(iterator, 3):
        pass
    started = time.perf_counter()
    found = sum(1 for _ in islice(iterator, count))
    return found / (time.perf_counter() - started)


def per_core_rate(images, count):
    """Images read, decoded and augmented in a second of processor time of one core, after 16 that are not counted."""
    cv2.setNumThreads(1)
    for k in range(16):
        images[0, k % len(images)]
    started = time.process_time()
    for k in range(count):
        images[1, k % len(images)]
    return count / (time.process_time() - started)


def write(report, arguments):
    """The report as NAME.json and NAME.md, with the command that made it."""
    given = {"--data": Path(arguments.data).name if Path(arguments.data).is_dir() else arguments.data}
    given |= {"--split": arguments.split, "--arch": arguments.arch, "--input-size": arguments.input_size}
    given |= {
        "--batch": arguments.batch,
        "--augmentation": arguments.augmentation,
        "--threads": arguments.threads,
    }
    words = " ".join(f"{name} {value}" for name, value in given.items() if value)
    command = f"python -m benchmarks.training {words} --workers {arguments.workers} --steps {arguments.steps}"
    text = json.dumps({"command": command, **report}, indent=2)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(f"{arguments.out}.json", text + "\n")
    write_text(f"{arguments.out}.md", f"```\n{command}\n\n{table(report)}\n```\n")


def table(report):
    """The report as lines of name and value."""
    return "\n".join(
        f"{name:32s}{value:10.3g}" if isinstance(value, float) else f"{name:32s}{value!s:>10}"
        for name, value in report.items()
    )


if __name__ == "__main__":
    raise SystemExit(main())
