"""`edge-ssd priors`: how well default boxes cover a data set, and boxes fitted to it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import new_parser, plotting
from .options import add_data_arguments, add_trust_checkpoint_argument

if TYPE_CHECKING:
    from ..datasets.analysis.coverage import Coverage, Objects
    from ..networks.receptive_field import Field
    from ..spec import SsdSpec

DESCRIPTION = """\
Coverage of a data set's objects by default boxes (the share with an IoU above 0.5, and the mean of the best IoU),
by class and size, and how each level's boxes lie on what its cells see. --fit makes boxes from the data set,
--align moves them over their receptive fields; `edge-ssd train --priors` takes the file that --out writes.

  edge-ssd priors --data VOCdevkit/VOC2007 --split trainval --arch ssd300_vgg16 --plot boxes.png
  edge-ssd priors --data tools --split train --arch ssdlite320_mobilenet_v3_large --finest-stride 8 \\
      --fit --boxes 6 --out tools-boxes.json
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `priors` to the commands of `edge-ssd`."""
    parser = new_parser(
        subparsers, "priors", "coverage of a data set by default boxes; fitted ones", DESCRIPTION
    )
    add_data_arguments(parser)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--arch", default="ssd300_vgg16", metavar="A", help="default: ssd300_vgg16")
    source.add_argument(
        "--model",
        metavar="M",
        help="own boxes of a model, a checkpoint or a spec; a file, or a shipped model's name",
    )
    add_layout_arguments(parser)
    parser.add_argument("--priors", default="coco", metavar="P", help="coco, voc or even; default: coco")
    parser.add_argument("--fit", action="store_true", help="boxes fitted to the data set")
    parser.add_argument(
        "--boxes", type=int, metavar="N", help="with --fit: boxes of a cell; default: as before"
    )
    parser.add_argument(
        "--align", action="store_true", help="centre the boxes on what the cells see (with --arch)"
    )
    add_trust_checkpoint_argument(parser)
    parser.add_argument("--out", metavar="P.json", help="write the boxes there, as a spec for edge-ssd train")
    parser.add_argument("--plot", metavar="F.png", help="write a picture there")
    parser.set_defaults(main=main)


def add_layout_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that give a network other maps than its usual ones."""
    parser.add_argument(
        "--input-size", default="", metavar="N", help="side of the network's input, or HEIGHTxWIDTH"
    )
    parser.add_argument(
        "--finest-stride",
        type=int,
        default=0,
        metavar="N",
        help="4 adds a feature map for small objects; 8 too for ssdlite320_mobilenet_v3_large",
    )


def main(arguments: argparse.Namespace) -> int:
    """Prints the tables; known errors come out as exceptions."""
    from ..datasets import open_dataset
    from ..datasets.analysis.coverage import read_objects
    from ..files.terminal import progress_bar
    from ..priors import make_priors

    plot_coverage = _load_plotter() if arguments.plot else None
    dataset = open_dataset(arguments.data, arguments.split)
    spec, fields = _start(arguments, dataset.class_names)
    bar = progress_bar(range(len(dataset)), desc="read", unit="image", leave=False)
    objects = read_objects(dataset, spec.input, bar)
    print(f"{dataset.address}: {len(objects.boxes)} objects")
    coverage = _report(f"boxes of {spec.name}, {len(make_priors(spec))}", objects, spec, fields)
    if arguments.fit or arguments.align:
        spec = _improved(arguments, spec, objects, fields)
        what = " and ".join(["fitted"] * arguments.fit + ["aligned"] * arguments.align)
        coverage = _report(f"boxes, {what}, {len(make_priors(spec))}", objects, spec, fields)
    if arguments.out:
        spec.save(arguments.out)
    if plot_coverage:
        levels = spec.priors.levels
        plot_coverage(
            objects, coverage, levels, spec.input.size, f"{spec.name} on {dataset.address}", arguments.plot
        )
    return 0


def _start(arguments: argparse.Namespace, class_names: tuple[str, ...]) -> tuple[SsdSpec, list[Field] | None]:
    """The spec whose boxes are measured, with the classes of the data set, and the fields of its levels; None
    for a model that may come from anywhere."""
    if arguments.model:
        if arguments.align:
            raise ValueError(
                "align: the receptive fields of a file are not known; give --arch instead of --model"
            )
        from ..models import model_path

        return _spec_of(model_path(arguments.model), arguments.trust_checkpoint), None
    from ..networks import build_model, parse_input_size
    from ..networks.receptive_field import receptive_fields

    options = {
        "input_size": parse_input_size(arguments.input_size),
        "finest_stride": arguments.finest_stride or None,
    }
    model = build_model(arguments.arch, len(class_names) + 1, **options, priors=arguments.priors)
    return model.spec(class_names), receptive_fields(arguments.arch, options["finest_stride"])


def _spec_of(path: Path, trusted: bool) -> SsdSpec:
    from ..spec import SsdSpec

    if path.suffix == ".pt":
        from ..networks.checkpoint import load_checkpoint

        return SsdSpec.from_json(load_checkpoint(path, trusted)["spec"])
    return SsdSpec.load(path.with_suffix(".json") if path.suffix == ".onnx" else path)


def _improved(
    arguments: argparse.Namespace, spec: SsdSpec, objects: Objects, fields: list[Field] | None
) -> SsdSpec:
    from ..datasets.analysis.coverage import fit_levels
    from ..networks.receptive_field import aligned
    from ..spec import PriorSpec

    levels = spec.priors.levels
    if not levels:
        raise ValueError(f"fit: {spec.name} has its boxes in a file and no levels; give --arch")
    if arguments.fit:
        counts = [arguments.boxes or len(level.sizes) for level in levels]
        sizes = fit_levels(objects, spec.input.size, [level.step for level in levels], counts)
        levels = tuple(
            replace(level, sizes=tuple((round(w, 2), round(h, 2)) for w, h in found.tolist()))
            for level, found in zip(levels, sizes)
        )
    if arguments.align and fields:
        levels = aligned(levels, fields)
    return replace(spec, priors=PriorSpec(levels))


def _report(title: str, objects: Objects, spec: SsdSpec, fields: list[Field] | None) -> Coverage:
    from ..datasets.analysis.coverage import coverage_text, measure_coverage
    from ..priors import make_priors

    coverage = measure_coverage(objects, make_priors(spec))
    print(f"\n{title}\n{coverage_text(objects, coverage)}")
    if fields:
        from ..networks.receptive_field import alignment_text

        print(f"\n{alignment_text(spec.priors.levels, fields)}")
    return coverage


def _load_plotter():
    with plotting():
        from ..datasets.analysis.coverage_plot import plot_coverage
    return plot_coverage
