"""The options that name a data set, as several commands have them."""

ADDRESS = "VOC or COCO folder, or demo://?seed=S&frames=N"


def add_data_arguments(parser, required=True):
    """--data and --split."""
    parser.add_argument("--data", required=required, default="", metavar="D", help=ADDRESS)
    add_split_argument(parser)


def add_split_argument(parser):
    """--split alone, where the address is no option."""
    parser.add_argument(
        "--split", default="", metavar="S", help="VOC: list in ImageSets/Main; COCO: set of the file"
    )
