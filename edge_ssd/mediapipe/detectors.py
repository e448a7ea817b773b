"""MediaPipe's detectors: files of one wheel, and the spec of each."""

from __future__ import annotations

from dataclasses import dataclass

from ..spec import InputSpec, OutputSpec, PostprocessSpec, PriorLevel, PriorSpec, SsdSpec

# The last release with the graphs inside, of one platform, so that the same file comes everywhere.
VERSION = "0.10.21"
WHEEL = f"mediapipe-{VERSION}-cp311-cp311-manylinux_2_28_x86_64.whl"
WHEEL_SHA256 = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"

_FACE = ("right_eye", "left_eye", "nose_tip", "mouth_center", "right_ear_tragion", "left_ear_tragion")
_PALM = ("wrist", "index_mcp", "middle_mcp", "ring_mcp", "pinky_mcp", "thumb_cmc", "thumb_mcp")
_PERSON = ("mid_hip", "full_body_edge", "mid_shoulder", "upper_body_edge")


@dataclass(frozen=True)
class Detector:
    """A detector of the wheel.

    member: its file there.   side: of the square input, pixels.   levels: (stride, boxes of a cell) of each map.
    mean: of the input, as its standard deviation, 0..255 scale; 0 for pixels / 255.
    """

    member: str
    label: str
    side: int
    levels: tuple[tuple[int, int], ...]
    keypoints: tuple[str, ...]
    mean: float = 127.5
    score_threshold: float = 0.5

    def spec(self, name: str) -> SsdSpec:
        """What the converted model's input and outputs mean.

        The default boxes are those of MediaPipe's SsdAnchorsCalculator with `fixed_anchor_size`
        (mediapipe/calculators/tflite/ssd_anchors_calculator.cc): every box is as large as the input, centred in its
        cell; layers of one stride share a map, each with two boxes for a cell (one where
        `interpolated_scale_aspect_ratio` is 0). Strides and sizes are those of the graphs beside the files
        (modules/*/*.pbtxt), offsets are in input pixels (x_scale = y_scale = the side).
        """
        side = float(self.side)
        levels = tuple(
            PriorLevel(
                (self.side // stride, self.side // stride),
                (float(stride), float(stride)),
                ((side, side),) * boxes,
            )
            for stride, boxes in self.levels
        )
        std = self.mean or 255.0
        return SsdSpec(
            name=name,
            input=InputSpec(
                "image",
                self.side,
                self.side,
                "rgb",
                (self.mean, self.mean, self.mean),
                (std, std, std),
                "letterbox",
            ),
            outputs=OutputSpec("loc", "conf"),
            class_names=(self.label,),
            background_index=None,
            score_activation="sigmoid",
            loc_order="cxcywh",
            variance=(1.0, 1.0),
            priors=PriorSpec(levels),
            postprocess=PostprocessSpec(self.score_threshold, 0.3, 100, 50),
            box_coding="linear",
            coding_scale=(side, side),
            keypoints=self.keypoints,
        )


DETECTORS = {
    "mediapipe-face": Detector(
        "mediapipe/modules/face_detection/face_detection_short_range.tflite",
        "face",
        128,
        ((8, 2), (16, 6)),
        _FACE,
    ),
    "mediapipe-face-full": Detector(
        "mediapipe/modules/face_detection/face_detection_full_range_sparse.tflite",
        "face",
        192,
        ((4, 1),),
        _FACE,
    ),
    "mediapipe-palm": Detector(
        "mediapipe/modules/palm_detection/palm_detection_full.tflite",
        "palm",
        192,
        ((8, 2), (16, 6)),
        _PALM,
        mean=0,
    ),
    "mediapipe-person": Detector(
        "mediapipe/modules/pose_detection/pose_detection.tflite",
        "person",
        224,
        ((8, 2), (16, 2), (32, 6)),
        _PERSON,
    ),
}
