"""`edge-ssd train`: train an SSD on a data set."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING

from . import new_parser
from .needs import train_packages
from .options import add_data_arguments, add_trust_checkpoint_argument
from .priors import add_layout_arguments

if TYPE_CHECKING:
    from ..training.options import RunOptions

DESCRIPTION = """\
Train an SSD. The data are checked before the first epoch. RUN gets last.pt, best.pt, metrics.jsonl and curve.png.

  edge-ssd train --data VOC2007 --split trainval --val VOC2007 --val-split test --arch ssd300_vgg16 --out runs/voc
  edge-ssd train --data 'demo://?seed=1&frames=100000&scene=1' --epoch-images 6400 \\
      --val 'demo://?seed=2&frames=200&scene=1' --arch ssd320_resnet16 --out runs/demo
  edge-ssd train --data tools --split train --val tools --val-split val --arch ssdlite320_mobilenet_v3_large \\
      --input-size 192 --finest-stride 8 --neck fpn --priors even --out runs/tools
  edge-ssd train --resume runs/demo/last.pt --epochs 80
  torchrun --nproc-per-node 2 -m edge_ssd train --data ...   (several GPUs, or processes on the CPU)
"""

# Options of `TrainOptions` and what they are called; their types and defaults stand there.
_OPTIONS = {
    "epochs": (int, "N", "epochs in all"),
    "epoch_images": (int, "N", "images of an epoch; default: all of the data set"),
    "batch": (int, "N", "images of a step"),
    "optimizer": (str, "O", "sgd or adamw"),
    "lr": (float, "F", "peak learning rate"),
    "momentum": (float, "F", "of SGD"),
    "weight_decay": (float, "F", "of convolutions"),
    "warmup": (int, "N", "steps over which the learning rate rises; a tenth of the run at most"),
    "schedule": (str, "S", "cosine or step"),
    "clip_norm": (float, "F", "largest norm of the gradient; 0: any"),
    "ema": (float, "F", "decay of the averaged weights; 0: none are kept"),
    "augmentation": (
        str,
        "A",
        "ssd, light, floor (seen from above; objects are pasted on other images) or none",
    ),
    "background_iou": (float, "F", "priors from this IoU to 0.5 are no background; the paper's: 0.5"),
    "priors": (str, "P", "default boxes: coco, even, voc (VGG16), or what edge-ssd priors --out wrote"),
    "precision": (str, "P", "fp32, bf16 or auto: bf16 where the processor computes in it"),
    "workers": (int, "N", "processes that load images"),
    "threads": (int, "N", "threads of torch; default: one per core"),
    "val_every": (int, "N", "epochs between two validations"),
    "patience": (int, "N", "stop after this many validations without a better AP; default: never"),
    "seed": (int, "N", "of weights, order and augmentation"),
}


# What torch says, and what helps.
_RUNTIME_ERRORS = {
    "out of memory": "take a smaller --batch or --input-size",
    "DataLoader worker": "take fewer --workers, or give the container more shared memory (docker run --shm-size)",
}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `train` to the commands of `edge-ssd`."""
    parser = new_parser(subparsers, "train", "train an SSD on a data set", DESCRIPTION)
    add_data_arguments(parser, required=False)
    parser.add_argument(
        "--val", default="", metavar="D", help="data set that is scored after each epoch; default: none"
    )
    parser.add_argument("--val-split", default="", metavar="S", help="image list of it")
    parser.add_argument(
        "--arch",
        default="",
        metavar="A",
        help="ssd300_vgg16, ssd512_vgg16, ssdlite320_mobilenet_v3_large or ssd320_resnet16",
    )
    parser.add_argument(
        "--out", default="", metavar="RUN", help="folder of the run; default when resuming: the checkpoint's"
    )
    add_layout_arguments(parser)
    parser.add_argument("--neck", default="", metavar="N", help="fpn: a feature pyramid before the heads")
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--resume",
        default="",
        metavar="RUN/last.pt",
        help="go on with this run; its data and options hold where none are given",
    )
    start.add_argument(
        "--weights",
        default="",
        metavar="F.pt",
        help="start from this checkpoint of the same network, from torchvision's weights, or from what edge-ssd pull "
        "has fetched (ssd300-coco, ssdlite320-coco); classes of the same name keep their heads, others are made anew",
    )
    start.add_argument(
        "--base-weights",
        default="",
        metavar="F.pth",
        help="start from torchvision's ImageNet classifier: vgg16, or mobilenet_v3_large",
    )
    add_trust_checkpoint_argument(parser)
    for name, (kind, metavar, text) in _OPTIONS.items():
        parser.add_argument("--" + name.replace("_", "-"), type=kind, metavar=metavar, help=text)
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        default=None,
        help="losses, scores and pictures to RUN/tensorboard",
    )
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Trains; returns the exit code. Known errors come out as exceptions."""
    with train_packages("train"):
        from ..training.run import RunOptions, train

    run = RunOptions(**{field.name: getattr(arguments, field.name) for field in fields(RunOptions)})
    names = (*_OPTIONS, "tensorboard")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    with _stopped_and_failed(run):
        folder, history = train(run, given)
    if not history:  # another process than the first
        return 0
    scores = [metrics for metrics in history if "AP" in metrics]
    if scores:
        best = max(scores, key=lambda metrics: metrics["AP"])
        print(
            f"best epoch {best['epoch']}: AP {best['AP']:.3f}, AP50 {best['AP50']:.3f}; {folder / 'best.pt'}"
        )
    else:
        print(f"last epoch {history[-1]['epoch']}: loss {history[-1]['loss']:.3f}; {folder / 'last.pt'}")
    return 0


@contextmanager
def _stopped_and_failed(run: RunOptions) -> Iterator[None]:
    """Ctrl-C and SIGTERM say how to go on; failures of torch and its workers are one line with a next step."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        last = run.folder / "last.pt"
        if last.is_file():
            print(f"the epochs before are in {last}: edge-ssd train --resume {last}", file=sys.stderr)
        raise
    except (ValueError, OSError) as error:
        text = str(error)
        if not text.startswith("Caught "):
            raise
        # A worker's: its traceback, with what happened in the last line.
        raise ValueError(text.strip().splitlines()[-1].partition(": ")[2]) from error
    except RuntimeError as error:
        for sign, advice in _RUNTIME_ERRORS.items():
            if sign in str(error):
                raise OSError(f"{str(error).splitlines()[0]}; {advice}") from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
