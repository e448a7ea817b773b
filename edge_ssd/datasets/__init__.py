"""Data sets: images with truth, for training, calibration and evaluation. No torch."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import StrPath
from ..sources.address import without_login
from .dataset import Dataset, Truth

__all__ = ["Dataset", "Truth", "open_dataset"]

if TYPE_CHECKING:
    from .coco import CocoDataset
    from .voc import VocDataset

# Data sets that an error names.
_LISTED = 10


def open_dataset(address: StrPath, split: str = "", class_names: Sequence[str] = ()) -> Dataset:
    """The data set at `address`.

    address: demo://?frames=N&..., or a folder: PASCAL VOC (Annotations, JPEGImages, ImageSets/Main, or XML beside
        the images) or COCO (annotations/*_<split>.json beside the images), or one that holds such a folder.
    split: VOC: a list in ImageSets/Main, or a sub-folder; all annotated images when empty. COCO: the set of an
        annotation file, may be empty when there is only one.
    class_names: the classes and their order, for example a model's; the data set's own when empty.

    Raises FileNotFoundError or ValueError, naming what is missing and what there is; ImportError without
    OpenCV. The content is looked at by `check`.
    """
    if not str(address).strip():
        raise ValueError("data: is empty; expected a VOC or COCO folder, or demo://?frames=N")
    try:
        return _kind_of(str(address))(str(address), split, tuple(class_names))
    except ModuleNotFoundError as error:
        if error.name != "cv2":
            raise
        raise ImportError(
            f"Reading {address} needs OpenCV ({error}). "
            "It ships with JetPack; elsewhere: pip install edge-ssd[cpu]"
        ) from None


def _kind_of(address: str) -> Callable[[str, str, tuple[str, ...]], Dataset]:
    """The class of the data set at an address."""
    if address.startswith("demo:"):
        from .demo import DemoDataset

        return DemoDataset
    folder = Path(address)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{without_login(address)}: no such folder; expected a VOC or COCO folder, or demo://?frames=N"
        )
    found = _class_of(folder)
    if found:
        return found
    below = [place for place in _folders_below(folder) if _class_of(place)]
    if below:
        return lambda _, split, class_names: _open_below(folder, below, split, class_names)
    if _has_xml_beside(folder):
        from .voc import VocDataset

        return VocDataset
    raise ValueError(
        f"{address}: expected VOC (Annotations/*.xml) or COCO (annotations/*.json), found {_other_layout(folder)}"
    )


def has_usual_layout(folder: Path) -> bool:
    """Whether a folder, or one below, has annotations in a file or a folder of their own, as `open_dataset` takes."""
    return any(_class_of(place) for place in (folder, *_folders_below(folder)))


def _class_of(folder: Path) -> type[VocDataset] | type[CocoDataset] | None:
    """The class of the data set in a folder that has its annotations in a file or a folder of their own; else None."""
    from .coco import CocoDataset, annotation_files
    from .voc import VocDataset
    from .voc_files import annotation_folder

    if (folder / "Annotations").is_dir():
        return VocDataset
    if annotation_files(folder):
        return CocoDataset
    return VocDataset if annotation_folder(folder) else None


def _folders_below(folder: Path) -> list[Path]:
    """The folders one and two steps below, such as VOC2007 in VOCdevkit."""
    below = [path for pattern in ("*/", "*/*/") for path in sorted(folder.glob(pattern))]
    return [path for path in below if path.is_dir() and not path.name.startswith((".", "__MACOSX"))]


def _open_below(folder: Path, below: list[Path], split: str, class_names: tuple[str, ...]) -> Dataset:
    """The only data set below a folder, or the one that is called as the split."""
    named = [place for place in below if split and place.name == split]
    if len(below) != 1 and len(named) != 1:
        names = ", ".join(map(str, below[:_LISTED]))
        raise ValueError(f"{folder}: holds {len(below)} data sets; give one of them: {names}")
    place = (named or below)[0]
    kind = _class_of(place)
    assert kind is not None, place
    return kind(place, "" if named and len(below) > 1 else split, class_names)


def _has_xml_beside(folder: Path) -> bool:
    """Whether XML files lie beside the images, in the folder itself or in sub-folders."""
    from .voc_files import has_xml

    return has_xml(folder)


def _other_layout(folder: Path) -> str:
    """What a folder holds that is neither VOC nor COCO, and how to make it one of them, for a message."""
    if (folder / "annotations.xml").is_file():
        return "annotations.xml, CVAT for images: export it as COCO or Pascal VOC"
    exported = next((p for n in ("*/", "") for p in folder.glob(f"{n}_annotations.coco.json")), None)
    if exported:
        return f"{exported.relative_to(folder)}, COCO as Roboflow has it: {_convert_hint(folder)}"
    # labels/*.txt, labels/train/*.txt or train/labels/*.txt; darknet's, beside the images
    patterns = ("labels/*.txt", "labels/*/*.txt", "*/labels/*.txt", "data.yaml", "*.names")
    if any(any(folder.glob(pattern)) for pattern in patterns):
        return f"YOLO's (labels/*.txt): {_convert_hint(folder)}"
    return "neither"


def _convert_hint(folder: Path) -> str:
    return f"convert it with `{shlex.join(['edge-ssd', 'data', 'convert', str(folder), '--out', 'OUT'])}`"
