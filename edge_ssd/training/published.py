"""Published weights by name, and the models that they become."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..files import StrPath
from ..networks import build_model
from ..networks.checkpoint import load_weights, read_weights
from .download import cache_folder, download


@dataclass(frozen=True)
class Published:
    """arch: see `networks.ARCHITECTURES`.   url: torchvision's file of weights, trained on COCO."""

    arch: str
    url: str

    @property
    def file(self) -> str:
        """Name of the file of weights, which ends in the first digits of its hash."""
        return self.url.rsplit("/", 1)[-1]


PUBLISHED = {
    "ssd300-coco": Published(
        "ssd300_vgg16", "https://download.pytorch.org/models/ssd300_vgg16_coco-b556d3b4.pth"
    ),
    "ssdlite320-coco": Published(
        "ssdlite320_mobilenet_v3_large",
        "https://download.pytorch.org/models/ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
    ),
}

# COCO's category ids are 1 to 90, of which ten were never used: "N/A", as torchvision calls them.
_COCO = (
    "person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant N/A stop_sign "
    "parking_meter bench bird cat dog horse sheep cow elephant bear zebra giraffe N/A backpack umbrella N/A N/A "
    "handbag tie suitcase frisbee skis snowboard sports_ball kite baseball_bat baseball_glove skateboard surfboard "
    "tennis_racket bottle N/A wine_glass cup fork knife spoon bowl banana apple sandwich orange broccoli carrot "
    "hot_dog pizza donut cake chair couch potted_plant bed N/A dining_table N/A N/A toilet N/A tv laptop mouse "
    "remote keyboard cell_phone microwave oven toaster sink refrigerator N/A book clock vase scissors teddy_bear "
    "hair_drier toothbrush"
)
COCO_NAMES = tuple(name.replace("_", " ") for name in _COCO.split())


class Pulled(NamedTuple):
    """model: Path of the ONNX file.   weights: Path of the file that was downloaded."""

    model: Path
    weights: Path


def pull(
    name: str, folder: StrPath, url: str = "", cache: StrPath | None = None, trusted: bool = False
) -> Pulled:
    """Downloads the weights `name` and writes them as folder/NAME.onnx with its spec.

    name: a key of PUBLISHED.   url: another address of the same file.   cache: folder of downloads.
    trusted: as of `read_weights`; the digits of a hash in the file's name are too few to prove what it holds.
    Returns Pulled. Raises ValueError for an unknown name or content, FileNotFoundError without `folder`, OSError as
    `download`.
    """
    from .export_onnx import export_onnx  # needs onnx, which a training does not

    if name not in PUBLISHED:
        raise ValueError(f"name: expected one of {', '.join(PUBLISHED)}, got {name!r}")
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder to write to")
    published = PUBLISHED[name]
    file = download(url or published.url, cache or cache_folder())
    model = build_model(published.arch, len(COCO_NAMES) + 1)
    load_weights(model, read_weights(file, trusted), file)
    path = folder / f"{name}.onnx"
    export_onnx(model.eval(), model.spec(COCO_NAMES), path)
    return Pulled(path, file)


def weights_path(name: str) -> Path:
    """Path of a file of weights, or of those that `pull` has downloaded for a name such as "ssd300-coco".

    Raises FileNotFoundError, with the command that makes it one, for such a name without its file.
    """
    path = Path(name)
    if name not in PUBLISHED or path.exists():
        return path
    path = cache_folder() / PUBLISHED[name].file
    if not path.is_file():
        raise FileNotFoundError(f"{name}: not on this machine yet; edge-ssd pull {name}")
    return path


def published_classes(path: StrPath) -> tuple[str, ...]:
    """Names of the classes of the published file of weights `path`, known by its name; () for any other."""
    known = Path(path).name in {published.file for published in PUBLISHED.values()}
    return COCO_NAMES if known else ()
