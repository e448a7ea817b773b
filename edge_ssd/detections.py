"""What a detector found in one image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from .resize import ResizePlan


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes, scores and labels of one image, best score first.

    boxes: (N, 4) float32 x1 y1 x2 y2 in source pixels, clipped to the image.
    scores: (N,) float32, descending.   labels: (N,) int32, index into class_names.
    image_size: (height, width), pixels.   timestamp_ns: of the frame.
    keypoints: (N, K, 2) float32 x y in source pixels, not clipped; K = 0 of a model without.
    track_ids: (N,) int32, -1 without a track.

    Iterating gives (box, score, label); indexing with a mask, a slice or indices gives Detections.

    Equal when all of these are equal, numbers exactly. The hash is made of image_size, timestamp_ns and how many
    there are, and not of what the arrays hold: whoever writes into an array does not change the hash under a set
    that holds them.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    image_size: tuple[int, int]
    timestamp_ns: int = 0
    keypoints: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 2), np.float32))
    track_ids: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float32)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"boxes: expected shape (N, 4), got {boxes.shape}")
        scores, labels = np.asarray(self.scores, np.float32), np.asarray(self.labels, np.int32)
        points, tracks = np.asarray(self.keypoints, np.float32), np.asarray(self.track_ids, np.int32)
        if not points.size:
            points = np.empty((len(boxes), points.shape[1] if points.ndim == 3 else 0, 2), np.float32)
        if not tracks.size:
            tracks = np.full(len(boxes), -1, np.int32)
        if points.ndim != 3 or points.shape[::2] != (len(boxes), 2):
            raise ValueError(
                f"keypoints: expected shape ({len(boxes)}, K, 2) to match boxes, got {points.shape}"
            )
        for name, array in (("scores", scores), ("labels", labels), ("track_ids", tracks)):
            if array.shape != boxes.shape[:1]:
                raise ValueError(
                    f"{name}: expected shape {boxes.shape[:1]} to match boxes, got {array.shape}"
                )
        arrays = {
            "boxes": boxes,
            "scores": scores,
            "labels": labels,
            "keypoints": points,
            "track_ids": tracks,
        }
        for name, array in arrays.items():
            object.__setattr__(self, name, array)
        object.__setattr__(self, "image_size", tuple(self.image_size))

    @classmethod
    def from_rows(cls, rows: np.ndarray, count: int, plan: ResizePlan, timestamp_ns: int = 0) -> Detections:
        """Detections from the rows of post-processing.

        rows: (max_detections, 6 + 2 K) float32 x1 y1 x2 y2 score label and x y of key points,
            normalised to the network input.
        count: how many of them are used.   plan: the ResizePlan of the image.

        Boxes are moved to source pixels and clipped to the image; what is then empty is dropped.
        """
        rows = rows[:count]
        height, width = plan.source_size
        boxes = plan.to_source(rows[:, :4])
        np.clip(boxes, 0, np.array([width, height, width, height], np.float32), out=boxes)
        kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        points = plan.points_to_source(rows[kept, 6:].reshape(int(kept.sum()), (rows.shape[1] - 6) // 2, 2))
        labels = rows[kept, 5].astype(np.int32)
        return cls(boxes[kept], rows[kept, 4], labels, plan.source_size, timestamp_ns, points)

    @classmethod
    def empty(cls, image_size: tuple[int, int], timestamp_ns: int = 0) -> Detections:
        """No detections in an image of (height, width)."""
        return cls(np.empty((0, 4)), np.empty(0), np.empty(0), image_size, timestamp_ns)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        return (
            (self.image_size, self.timestamp_ns) == (other.image_size, other.timestamp_ns)
            and np.array_equal(self.boxes, other.boxes)
            and np.array_equal(self.scores, other.scores)
            and np.array_equal(self.labels, other.labels)
            and np.array_equal(self.keypoints, other.keypoints)
            and np.array_equal(self.track_ids, other.track_ids)
        )

    def __hash__(self) -> int:
        return hash((len(self), self.image_size, self.timestamp_ns))

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[tuple[np.ndarray, float, int]]:
        return zip(self.boxes, self.scores.tolist(), self.labels.tolist())

    def __getitem__(self, index: int | np.integer | slice | Sequence[int] | np.ndarray) -> Detections:
        rows = index if isinstance(index, slice) else np.atleast_1d(index)
        if isinstance(rows, np.ndarray) and rows.size == 0 and rows.dtype != bool:
            rows = rows.astype(np.intp)  # NumPy makes floats of an empty list
        return Detections(
            self.boxes[rows],
            self.scores[rows],
            self.labels[rows],
            self.image_size,
            self.timestamp_ns,
            self.keypoints[rows],
            self.track_ids[rows],
        )
