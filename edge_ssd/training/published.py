"""Published weights by name, and the models that they become."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..files import StrPath, cache_folder, file_sha256, read_file, replacing
from ..networks import build_model
from ..networks.checkpoint import load_weights, read_weights
from .download import download


@dataclass(frozen=True)
class Published:
    """arch: see `networks.ARCHITECTURES`.   url: torchvision's file of weights, trained on COCO.

    sha256: of the file, all 64 digits, where somebody has downloaded and checked it; "": torchvision says the first
    eight alone, in the file's name.
    """

    arch: str
    url: str
    sha256: str = ""

    @property
    def file(self) -> str:
        """Name of the file of weights, which ends in the first digits of its hash."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def digest(self) -> str:
        """What is known of the file's SHA-256: all of it, or its first digits."""
        return self.sha256 or Path(self.file).stem.rsplit("-", 1)[-1]


PUBLISHED = {
    "ssd300-coco": Published(
        "ssd300_vgg16", "https://download.pytorch.org/models/ssd300_vgg16_coco-b556d3b4.pth"
    ),
    "ssdlite320-coco": Published(
        "ssdlite320_mobilenet_v3_large",
        "https://download.pytorch.org/models/ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
    ),
}

# A SHA-256 and a line feed, and room for what somebody has written behind.
_MOST_NOTE_BYTES = 1000

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
    """model: Path of the ONNX file.   weights: Path of the file that was downloaded.   sha256: of that."""

    model: Path
    weights: Path
    sha256: str


def pull(
    name: str, folder: StrPath, url: str = "", cache: StrPath | None = None, trusted: bool = False
) -> Pulled:
    """Downloads the weights `name` and writes them as folder/NAME.onnx with its spec.

    name: a key of PUBLISHED.   url: another address of the same file, whose hash is then checked all the same.
    cache: folder of downloads.
    trusted: as of `read_weights`; the digits of a hash in the file's name are too few to prove what it holds.
    Returns Pulled. Raises ValueError for an unknown name, and for content that is not the published file's or not that
    of the first download; FileNotFoundError without `folder`, OSError as `download`.
    """
    from .export_onnx import export_onnx  # needs onnx, which a training does not

    if name not in PUBLISHED:
        raise ValueError(f"name: expected one of {', '.join(PUBLISHED)}, got {name!r}")
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder to write to")
    published = PUBLISHED[name]
    file = download(url or published.url, cache or cache_folder(), published.file, published.digest)
    sha256 = checked_sha256(file)
    model = build_model(published.arch, len(COCO_NAMES) + 1)
    load_weights(model, read_weights(file, trusted), file)
    path = folder / f"{name}.onnx"
    export_onnx(model.eval(), model.spec(COCO_NAMES), path)
    return Pulled(path, file, sha256)


def checked_sha256(file: Path) -> str:
    """The SHA-256 of a downloaded file, which is noted beside it the first time, in NAME.sha256.

    Raises ValueError when another one was noted: of the published hash the first digits alone may be known, and files
    that share them can be made.
    """
    digest, note = file_sha256(file), file.with_name(f"{file.name}.sha256")
    try:
        noted = read_file(note, _MOST_NOTE_BYTES).decode("ascii", errors="replace").strip()
    except FileNotFoundError:
        noted = ""
    if noted and noted != digest:
        raise ValueError(
            f"{file}: expected the SHA-256 that was noted at the first download, {noted[:64]} ({note.name}), "
            f"got {digest}; find out which is the published one, and remove the other"
        )
    if not noted:
        with replacing(note) as temporary:
            temporary.write_text(digest + "\n", encoding="ascii")
    return digest


def weights_path(name: str) -> Path:
    """Path of a file of weights, or of those that `pull` has downloaded for a name such as "ssd300-coco".

    Raises FileNotFoundError, with the command that makes it one, for such a name without its file; ValueError when
    that is not the file that was downloaded.
    """
    path = Path(name)
    if name not in PUBLISHED or path.exists():
        return path
    path = cache_folder() / PUBLISHED[name].file
    if not path.is_file():
        raise FileNotFoundError(f"{name}: not on this machine yet; edge-ssd pull {name}")
    checked_sha256(path)
    return path


def published_classes(path: StrPath) -> tuple[str, ...]:
    """Names of the classes of the published file of weights `path`, known by its name; () for any other."""
    known = Path(path).name in {published.file for published in PUBLISHED.values()}
    return COCO_NAMES if known else ()
