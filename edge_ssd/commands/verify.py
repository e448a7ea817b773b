"""`edge-ssd verify`: the same images through a model in all its forms."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..files.terminal import joined, one_line
from . import new_parser
from .options import add_precision_argument, add_threads_argument, add_trust_arguments, positive

if TYPE_CHECKING:
    import numpy as np

    from ..agreement.variants import Difference, Variant
    from ..engines.choice import CpuEngine
    from ..options import DetectorOptions

DESCRIPTION = """\
Compare every form of a model with the model itself in ONNX Runtime, step by step, on the same images: engines, and
ONNX files in ONNX Runtime and, where it is installed, OpenVINO (in BF16, too, on CPUs that have it).

Exit code 1 when a form is beyond the tolerance of its precision, the first step that departs is named; when one does
not run at all; and when nothing could be compared. What only this machine lacks the GPU or the package for is said.

  edge-ssd verify ssd300.onnx                              # itself in OpenVINO, NAME.*.onnx and NAME.*.engine beside it
  edge-ssd verify ssd300.onnx runs/best.pt ssd300.int8.onnx --images photos/
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `verify` to the commands of `edge-ssd`."""
    parser = new_parser(subparsers, "verify", "the same images through every form of a model", DESCRIPTION)
    parser.add_argument("model", metavar="M.onnx", help="the truth")
    parser.add_argument(
        "forms",
        nargs="*",
        metavar="F",
        help="engines, ONNX files, checkpoints; default: the model in other engines and what lies beside it",
    )
    parser.add_argument(
        "--images",
        default="demo://?seed=1&frames=8&scene=1",
        metavar="D",
        help="folder of images, VOC or COCO folder or demo:// (the default)",
    )
    parser.add_argument("--most", type=positive, default=8, metavar="N", help="images at most (default: 8)")
    add_threads_argument(parser)
    add_precision_argument(parser)
    add_trust_arguments(parser)
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Prints the table; the exit code is 1 when a form departs or does not run, or nothing was compared."""
    from .needs import build_packages, warnings_on_stderr

    with warnings_on_stderr(), build_packages("verify"):
        from ..agreement.variants import OPTIONS, TRUTH_ENGINE, Variant, comparisons, variants_beside
        from ..build_engine.images import read_some
        from ..engines.choice import usable_cpu_engines

        options = replace(
            OPTIONS,
            threads=arguments.threads,
            trust_engine=arguments.trust_engine,
            trust_checkpoint=arguments.trust_checkpoint,
        )
        truth = Variant(_file(arguments.model), options)
        images = read_some(arguments.images, arguments.most)
        print(
            f"{arguments.model} in {truth.backend.engine.description}, on {len(images)} images of {arguments.images}"
        )
        engines = usable_cpu_engines(arguments.precision)
        named = [_file(form) for form in arguments.forms]
        beside = variants_beside(truth.path)
        _say_what_is_not_compared(named or beside)
        pairs = comparisons(named or [truth.path, *beside], engines)
        as_it_is = [(truth.path, TRUTH_ENGINE), (truth.path, None)]
        pairs = [pair for pair in pairs if pair not in as_it_is]
        compared, wrong = _compare_all(truth, pairs, images, options, bool(named))
    if not compared and not wrong:
        wrong = [
            f"nothing was compared; no other form of {truth.path.name} runs here. Make one: edge-ssd build "
            f"{truth.path} --precision fp16 --runtime cpu, or name one: edge-ssd verify {arguments.model} FORM"
        ]
    if wrong:
        print(f"error: {joined('; '.join(wrong))}", file=sys.stderr)
    return 1 if wrong else 0


def _file(name: str) -> Path:
    """The file to run: of a model that comes with the package, or of a bundle, the one that stands behind it."""
    from ..model_files.bundle import open_bundle
    from ..models import model_path

    path = model_path(name)
    return open_bundle(path) if path.suffix == ".zip" else path


def _compare_all(
    truth: Variant,
    pairs: Iterable[tuple[Path, CpuEngine | None]],
    images: Sequence[np.ndarray],
    options: DetectorOptions,
    named: bool,
) -> tuple[int, list[str]]:
    """(number of variants that were compared, [what is wrong with one]); prints each.

    pairs: see `comparisons`.   named: whether the user named them; one that this machine cannot run is then an error.
    """
    from ..agreement.variants import Variant, check_plan, compare
    from ..model_files.manifest import EngineMismatch

    compared, wrong = 0, []
    for path, engine in pairs:
        try:
            if path.suffix == ".engine":
                check_plan(path)
            variant = Variant(path, options, engine)
            differences = compare(truth, variant, images)
        except (ImportError, OSError, ValueError) as error:
            # A broken file is one everywhere; the rest is this machine's.
            is_broken = isinstance(error, (FileNotFoundError, ValueError))
            if is_broken and not isinstance(error, EngineMismatch):
                print(joined(f"{path.name}: FAILS: {error}"))
                said = str(error) if path.name in str(error) else f"{path.name} fails: {error}"
                wrong += [said] if said not in wrong else []
                continue
            if named:
                raise
            print(joined(f"{path.name}: not compared: {error}"))
            continue
        wrong += _print_variant(variant, differences)
        variant.backend.close()
        compared += 1
    return compared, wrong


def _print_variant(variant: Variant, differences: Sequence[Difference]) -> list[str]:
    """Prints the rows of one variant; returns [what departs first], or []."""
    print(one_line(f"{variant.path.name} ({variant.precision}, {variant.backend.engine.description})"))
    for difference in differences:
        mark = "DEPARTS" if difference.departs else "ok"
        print(
            f"  {mark:8}{difference.step:12} {difference.value:<10.3g} limit {difference.limit:<8.3g} "
            f"{difference.unit}{', ' * bool(difference.detail)}{difference.detail}"
        )
    first = next((difference for difference in differences if difference.departs), None)
    return (
        [
            f"{variant.path.name} departs first in {first.step} ({first.value:.3g}, limit {first.limit:.3g}; "
            f"{variant.backend.engine.description})"
        ]
        if first
        else []
    )


def _say_what_is_not_compared(variants: Sequence[Path]) -> None:
    from ..engines.choice import openvino_precisions
    from ..machine.gpu import gpu_info

    suffixes = {variant.suffix for variant in variants}
    if not variants:
        print("FP16, INT8: not compared; none lies beside the model (edge-ssd build makes them)")
    if not openvino_precisions():
        print("OpenVINO: not compared; it is not installed (pip install edge-ssd[openvino])")
    elif "bf16" not in openvino_precisions():
        print("OpenVINO in BF16: not compared; this CPU has no BF16 instructions")
    if ".pt" not in suffixes:
        print("torch: not compared; name a checkpoint (.pt) to do so")
    try:
        gpu_info()
    except OSError as error:
        print(f"kernels, TensorRT: not compared: {error}")
        return
    if not suffixes & {".engine", ".pt"}:
        print("kernels, TensorRT: not compared; build an engine (edge-ssd build), or name one")
