"""Data sets: images with truth, for training, calibration and evaluation. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..files import StrPath
from ..sources.address import without_login
from .dataset import Dataset, Truth

__all__ = ["Dataset", "Truth", "open_dataset"]


def open_dataset(address: StrPath, split: str = "", class_names: Sequence[str] = ()) -> Dataset:
    """The data set at `address`.

    address: demo://?frames=N&..., or a folder: PASCAL VOC (Annotations, JPEGImages, ImageSets/Main) or
        COCO (annotations/*_<split>.json beside the images).
    split: VOC: a list in ImageSets/Main, all annotated images when empty. COCO: the set of an annotation
        file, may be empty when there is only one.
    class_names: the classes and their order, for example a model's; the data set's own when empty.

    Raises FileNotFoundError or ValueError, naming what is missing and what there is; ImportError without
    OpenCV. The content is looked at by `check`.
    """
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
    if (folder / "Annotations").is_dir():
        from .voc import VocDataset

        return VocDataset
    if any((folder / "annotations").glob("*.json")):
        from .coco import CocoDataset

        return CocoDataset
    raise ValueError(
        f"{address}: expected VOC (Annotations/*.xml) or COCO (annotations/*.json), found {_other_layout(folder)}"
    )


def _other_layout(folder: Path) -> str:
    """What a folder holds that is neither VOC nor COCO, and how to make it one of them, for a message."""
    exported = next(folder.glob("*/_annotations.coco.json"), None)
    if exported:
        split = exported.parent.name
        return (
            f"{split}/{exported.name}: COCO laid out otherwise; copy it to annotations/instances_{split}.json "
            f"and leave the images in {split}"
        )
    # labels/*.txt, labels/train/*.txt or train/labels/*.txt
    if any(any(folder.glob(pattern)) for pattern in ("labels/*.txt", "labels/*/*.txt", "*/labels/*.txt")):
        return (
            "YOLO's (labels/*.txt). Export it as COCO or Pascal VOC from the tool it was marked with, or convert it: "
            "pip install supervision; DetectionDataset.from_yolo(IMAGES, LABELS, 'data.yaml')"
            ".as_pascal_voc('OUT/JPEGImages', 'OUT/Annotations')"
        )
    return "neither"
