"""`edge-ssd verify`: the same images through a model in all its forms."""

from __future__ import annotations

import sys

from . import new_parser

DESCRIPTION = """\
Compare every form of a model with the model itself, step by step, on the same images. Exit code 1 when one is
beyond the tolerance of its precision; the first step that departs is named.

  edge-ssd verify ssd300.onnx                              # with NAME.*.onnx and NAME.*.engine beside it
  edge-ssd verify ssd300.onnx runs/best.pt ssd300.int8.onnx --images photos/
"""


def add_parser(subparsers):
    """Adds `verify` to the commands of `edge-ssd`."""
    parser = new_parser(subparsers, "verify", "the same images through every form of a model", DESCRIPTION)
    parser.add_argument("model", metavar="M.onnx", help="the truth")
    parser.add_argument(
        "forms",
        nargs="*",
        metavar="F",
        help="engines, ONNX files, checkpoints; default: what lies beside the model",
    )
    parser.add_argument(
        "--images",
        default="demo://?seed=1&frames=8&scene=1",
        metavar="D",
        help="folder of images, VOC or COCO folder or demo:// (the default)",
    )
    parser.add_argument("--most", type=int, default=8, metavar="N", help="images at most (default: 8)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads; default: all cores")
    parser.set_defaults(main=main)


def main(arguments):
    """Prints the table; the exit code is 1 when a step of a form is beyond its tolerance."""
    from .needs import build_packages, warnings_on_stderr

    with warnings_on_stderr(), build_packages("verify"):
        from ..build_engine.images import read_some
        from ..build_engine.verify import Form, compare, forms_beside

        truth = Form(arguments.model, arguments.threads)
        images = read_some(arguments.images, arguments.most)
        print(
            f"{arguments.model} in {truth.backend.engine.description}, on {len(images)} images of {arguments.images}"
        )
        forms = arguments.forms or forms_beside(arguments.model)
        _say_what_is_not_compared([str(form) for form in forms])
        departed = []
        for path in forms:
            try:
                form = Form(path, arguments.threads)
            except (ImportError, OSError, ValueError) as error:
                if arguments.forms:
                    raise
                print(f"{path.name}: not compared: {error}")
                continue
            departed += _print_form(form, compare(truth, form, images))
            form.backend.close()
    if departed:
        print(f"error: {'; '.join(departed)}", file=sys.stderr)
    return 1 if departed else 0


def _print_form(form, differences):
    """Prints the rows of one form; returns [what departs first], or []."""
    print(f"{form.path.name} ({form.precision}, {form.backend.engine.description})")
    for difference in differences:
        mark = "DEPARTS" if difference.departs else "ok"
        print(
            f"  {mark:8}{difference.step:12} {difference.value:<10.3g} limit {difference.limit:<8.3g} "
            f"{difference.unit}{', ' * bool(difference.detail)}{difference.detail}"
        )
    first = next((difference for difference in differences if difference.departs), None)
    return (
        [f"{form.path.name} departs first in {first.step} ({first.value:.3g}, limit {first.limit:.3g})"]
        if first
        else []
    )


def _say_what_is_not_compared(forms):
    from ..gpu_info import gpu_info

    if not any(form.endswith(".pt") for form in forms):
        print("torch: not compared; name a checkpoint (.pt) to do so")
    try:
        gpu_info()
    except OSError as error:
        print(f"kernels, TensorRT: not compared: {error}")
        return
    if not any(form.endswith((".engine", ".pt")) for form in forms):
        print("kernels, TensorRT: not compared; build an engine (edge-ssd build), or name one")
