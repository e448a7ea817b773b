"""What a user, or a framework's own file, says of a model."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from ..spec import PriorSpec


@dataclass(frozen=True)
class DraftOptions:
    """What the model cannot tell about itself. None or empty: not said, so guessed, or the usual value of SSD.

    size: (height, width), where the model leaves them open.   mean, std: one number or three, 0..255 scale.
    classes: names, the background column's among them or not.
    levels: per level "STEP:SIZE,SIZE,..." in input pixels, a SIZE being a side or WxH; the map has
        ceil(side / STEP) cells. Or one name of a known layout, see `layouts`. cell_spacing: where STEP does not divide
        the input, "even" spreads the cells evenly over it (torchvision, TensorFlow), "step" keeps them STEP apart
        (Caffe).
    priors_file: an .npy file (P, 4) cx cy w h beside the model, instead of levels.   priors: from a framework's file.
    loc, conf: names of the outputs, with commas between those of several levels.
    background: a column, -1 for none, None to guess.
    """

    size: tuple[int, int] | None = None
    color: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: str | None = None
    classes: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    cell_spacing: str = "even"
    priors_file: str = ""
    priors: PriorSpec | None = None
    loc: str = ""
    conf: str = ""
    box_coding: str = ""
    activation: str = ""
    background: int | None = None
    loc_order: str | None = None
    variance: tuple[float, float] | None = None
    iou_threshold: float | None = None
    score_threshold: float | None = None
    top_k: int | None = None
    max_detections: int | None = None

    def over(self, other: DraftOptions) -> DraftOptions:
        """These, and `other` where these say nothing. Priors of one kind leave no room for those of another."""
        said = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        if self.levels or self.priors_file:
            said["priors"] = None
        return replace(other, **said)


# What is written where nobody says otherwise, and the option that changes it.
USUAL: dict[str, Any] = {
    "color": "rgb",
    "mean": (127.5,),
    "std": (127.5,),
    "resize": "stretch",
    "loc_order": "cxcywh",
    "variance": (0.1, 0.2),
    "iou_threshold": 0.45,
    "score_threshold": 0.01,
    "top_k": 400,
    "max_detections": 200,
}


def assumed(options: DraftOptions) -> list[str]:
    """What nobody has said and the model cannot tell, a sentence each, with the option that changes it."""
    said = []
    if options.color is None:
        said.append("color: the network takes RGB; for BGR (Caffe, OpenCV): --color bgr")
    if options.mean is None or options.std is None:
        said.append("mean, std: pixels become (x - 127.5) / 127.5; for others: --mean R G B --std R G B")
    if options.resize is None:
        said.append("resize: images are stretched to the input; to keep their shape: --resize letterbox")
    if options.loc_order is None:
        said.append("loc_order: an offset is x y w h; for y x h w (TensorFlow): --loc-order cycxhw")
    if options.variance is None:
        said.append("variance: 0.1 for centers, 0.2 for sizes; for others: --variance C S")
    return said


def with_usual(options: DraftOptions) -> DraftOptions:
    """The options with the usual value of each that is not said."""
    return replace(options, **{name: v for name, v in USUAL.items() if getattr(options, name) is None})
