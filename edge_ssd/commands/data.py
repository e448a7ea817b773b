"""`edge-ssd data`: what is in a data set."""

from __future__ import annotations

import argparse

from . import plotting

DESCRIPTION = """\
Sizes, classes, overlaps and light of a data set, as a table and a picture.

  edge-ssd data stats 'demo://?seed=1000&frames=500' --plot demo.png
  edge-ssd data stats VOCdevkit/VOC2007 --split trainval
"""


def add_parser(subparsers):
    """Adds `data` and its own commands to the commands of `edge-ssd`."""
    parser = subparsers.add_parser("data", help="what is in a data set")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    stats = commands.add_parser(
        "stats",
        help="sizes, classes, overlaps, light",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    stats.add_argument("data", metavar="D", help="VOC or COCO folder, or demo://?seed=S&frames=N")
    stats.add_argument(
        "--split", default="", metavar="S", help="VOC: list in ImageSets/Main; COCO: set of the file"
    )
    stats.add_argument("--plot", metavar="F.png", help="write histograms and a contact sheet there")
    stats.set_defaults(main=main)


def main(arguments):
    """Measures and prints the table; known errors come out as exceptions."""
    from tqdm import tqdm

    from ..datasets import open_dataset
    from ..datasets.statistics import measure, statistics_text

    plot_statistics = _load_plotter() if arguments.plot else None
    dataset = open_dataset(arguments.data, arguments.split)
    statistics = measure(dataset, tqdm(range(len(dataset)), desc="measure", unit="image", dynamic_ncols=True))
    if plot_statistics:
        plot_statistics(statistics, dataset, arguments.plot)
    print(dataset.address)
    print(statistics_text(statistics))
    return 0


def _load_plotter():
    with plotting():
        from ..datasets.plot import plot_statistics
    return plot_statistics
