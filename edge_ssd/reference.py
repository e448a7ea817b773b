"""The definition of every step around the network, in NumPy: pixels to network input, network outputs to detections.

Written to be read, not to be fast. What runs is tested against it: the CUDA kernels (`kernels/`, each step here names
its own) and the CPU's fast path (`edge_ssd.backends.cpu_steps`). Everything is float32, and every comparison is made
as a kernel makes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .boxes import box_area, decode_boxes, decode_linear, intersections
from .frames import split_planes
from .kernels.color import yuv_to_rgb
from .resize import ResizePlan, plan_resize
from .spec import SsdSpec

# ---------------------------------------------------------------------------------------------------------
# pixels -> network input: kernels/preprocess.cu


def preprocess(
    image: np.ndarray | tuple[np.ndarray, ...],
    spec: SsdSpec,
    pixel_format: str = "bgr8",
    color_matrix: str = "bt601",
    color_range: str = "limited",
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, ResizePlan]:
    """The network input for one image, and where the image lies in it. Kernel: kernels/preprocess.cu.

    Colour conversion, bilinear resize, padding, (pixel - mean) / std, all without rounding to integers between.

    Args:
        image: uint8, as `Frame.image` for `pixel_format`, any pitch.
        spec: its `input` holds.
        pixel_format: one of `edge_ssd.frames.PIXEL_FORMATS`.
        color_matrix: "bt601" or "bt709", of the YUV formats.
        color_range: "limited" or "full", of the YUV formats.
        out: (3, height, width) float32 or float16 to write into; made when not given.

    Returns:
        (1, 3, height, width) float32 (or out's dtype), and the ResizePlan.

    Raises:
        ValueError: the image does not fit its format.
    """
    planes = host_planes(image, pixel_format)
    rgb = to_rgb(planes, pixel_format, color_matrix, color_range)
    plan = plan_resize(rgb.shape[:2], spec.input.size, spec.input.resize)
    resized = resize_bilinear(rgb, plan.inner_size)

    pixels = np.empty((*spec.input.size, 3), np.float32)  # channels in the order of spec.input.color
    pixels[:] = spec.input.pad_value
    (top, left), (height, width) = plan.padding, plan.inner_size
    inner = resized if spec.input.color == "rgb" else resized[..., ::-1]
    pixels[top : top + height, left : left + width] = inner

    mean, std = np.array(spec.input.mean, np.float32), np.array(spec.input.std, np.float32)
    if out is None:
        out = np.empty((3, *spec.input.size), np.float32)
    out[:] = ((pixels - mean) / std).transpose(2, 0, 1)
    return out[None], plan


def host_planes(image: np.ndarray | tuple[np.ndarray, ...], pixel_format: str) -> tuple[np.ndarray, ...]:
    """The planes of an image in host memory, as views. Raises ValueError for one that does not fit or is on a GPU."""
    planes = split_planes(image, pixel_format)
    on_host = tuple(plane for plane in planes if isinstance(plane, np.ndarray))
    if len(on_host) < len(planes):
        raise ValueError("image: lies on a GPU; pass a copy on the host (torch: .cpu(), CuPy: asnumpy)")
    return on_host


def to_rgb(
    planes: tuple[np.ndarray, ...],
    pixel_format: str,
    color_matrix: str = "bt601",
    color_range: str = "limited",
) -> np.ndarray:
    """(H, W, 3) float32 R G B, 0..255, of the planes that `split_planes` gives. Kernel: preprocess.cu.

    Each chroma sample holds for the two or four pixels it was taken of. Luma below black counts as black.
    """
    packed = planes[0]
    if pixel_format == "mono8":
        return np.stack([packed] * 3, axis=2).astype(np.float32)
    if pixel_format in ("rgb8", "rgba8"):
        return packed[..., :3].astype(np.float32)
    if pixel_format in ("bgr8", "bgra8"):
        return packed[..., 2::-1].astype(np.float32)
    if pixel_format == "yuyv":
        y, u, v = packed[..., 0], packed[:, 0::2, 1], packed[:, 1::2, 1]
    elif pixel_format == "uyvy":
        y, u, v = packed[..., 1], packed[:, 0::2, 0], packed[:, 1::2, 0]
    elif pixel_format == "nv12":
        y, u, v = packed, planes[1][..., 0], planes[1][..., 1]
    else:  # i420
        y, u, v = planes
    u, v = (
        c.repeat(y.shape[0] // c.shape[0], axis=0).repeat(y.shape[1] // c.shape[1], axis=1) for c in (u, v)
    )
    matrix, black = yuv_to_rgb(color_matrix, color_range)
    yuv1 = np.stack([np.maximum(y, black), u, v, np.ones_like(y)], axis=2).astype(np.float32)
    return np.clip(yuv1 @ matrix.T, 0, 255)


def resize_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, C) float32 -> (height, width, C): bilinear, pixel centres at half, edges repeated, no antialiasing.

    As OpenCV's INTER_LINEAR; size: (height, width). Kernel: preprocess.cu.
    """
    for axis, target in enumerate(size):
        count = image.shape[axis]
        centre = np.clip((np.arange(target) + 0.5) * count / target - 0.5, 0, count - 1)
        low = np.floor(centre).astype(int)
        high = np.minimum(low + 1, count - 1)
        weight = (centre - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (-1, 1))
        image = image.take(low, axis) * (1 - weight) + image.take(high, axis) * weight
    return image


# ---------------------------------------------------------------------------------------------------------
# network outputs -> detections: kernels/score_candidates.cu, class_nms.cu and merge.cu


def postprocess(
    loc: np.ndarray,
    conf: np.ndarray,
    priors: np.ndarray,
    spec: SsdSpec,
    labels: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The detections in one image's raw network outputs. Kernels: score_candidates.cu, class_nms.cu, merge.cu.

    Activation; per class, scores > score_threshold, the best top_k (equal scores: lower prior first) and
    greedy NMS dropping IoU > iou_threshold; then the best max_detections over all classes (equal scores:
    lower class, then lower prior). One prior may yield several classes. A prior with a NaN or Inf in loc
    or conf yields nothing and is counted.

    Args:
        loc: (P, 4 + 2 K) offsets, K: key points; float32, or float16, which is widened first.
        conf: (P, C) class outputs, float32 or float16.
        priors: (P, 4) float32 cx cy w h, normalised; of any values with the box coding "corners".
        spec: its thresholds hold.
        labels: (K,) int indices into class_names to look for; all when None.

    Returns:
        rows (max_detections, 6 + 2 K) float32 x1 y1 x2 y2 score label and x y of each key point, normalised to the
        network input, not clipped (boxes are with clip_boxes "before_nms"), zeros beyond the count; counts (2,) int32:
        rows used, priors dropped.

    Raises:
        ValueError: the shapes do not fit.
    """
    loc, conf = checked_heads(loc, conf, priors, spec)
    finite = finite_priors(loc, conf)
    scores, classes, rows = score_candidates(
        conf,
        spec.score_activation,
        spec.background_index,
        spec.score_thresholds,
        finite=finite,
        labels=labels,
    )
    detections = []
    for label in range(len(spec.class_names)):
        of_class = classes == label
        boxes, best, kept = class_nms(scores[of_class], rows[of_class], loc, priors, spec)
        points = keypoints_of(loc, priors, kept, spec)
        detections.append(np.column_stack([boxes, best, np.full(len(best), label, np.float32), points]))
    result, used = merge(np.concatenate(detections), spec.postprocess.max_detections)
    return result, np.array([used, np.count_nonzero(~finite)], np.int32)


def checked_heads(
    loc: np.ndarray, conf: np.ndarray, priors: np.ndarray, spec: SsdSpec
) -> tuple[np.ndarray, np.ndarray]:
    """loc and conf as float32. Raises ValueError unless they are (P, 4 + 2 K) and (P, C), float32 or float16."""
    count = len(priors)
    for name, array, columns in (("loc", loc, spec.loc_columns), ("conf", conf, spec.num_columns)):
        if array.shape != (count, columns):
            raise ValueError(f"{name}: expected shape {(count, columns)}, got {array.shape}")
        if array.dtype not in (np.float32, np.float16):
            raise ValueError(f"{name}: expected float32 or float16, got {array.dtype}")
    return loc.astype(np.float32, copy=False), conf.astype(np.float32, copy=False)


def finite_priors(loc: np.ndarray, conf: np.ndarray) -> np.ndarray:
    """(P,) bool: which priors have only finite numbers in loc (P, ...) and conf (P, C). Kernel: score_candidates.cu."""
    return np.all(np.isfinite(loc), axis=1) & np.all(np.isfinite(conf), axis=1)


def activate(conf: np.ndarray, activation: str) -> np.ndarray:
    """Probabilities of raw class outputs: (N, C) float32 -> (N, C) float32. Kernel: score_candidates.cu.

    activation: "softmax", "sigmoid", or "none" where they are probabilities already.
    """
    if activation == "softmax":
        exps = np.exp(conf - conf.max(axis=1, keepdims=True))
        return exps / exps.sum(axis=1, keepdims=True)
    if activation == "sigmoid":
        with np.errstate(over="ignore"):  # exp(-x) = inf gives the right 0
            return np.float32(1) / (np.float32(1) + np.exp(-conf))
    return conf


def score_candidates(
    conf: np.ndarray,
    activation: str,
    background_index: int | None,
    score_threshold: float | Sequence[float],
    finite: np.ndarray | None = None,
    labels: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every (prior, class) whose probability is > score_threshold. Kernel: kernels/score_candidates.cu.

    Args:
        conf: (P, C) float32.
        activation: see `activate`.
        background_index: the column of the background, which is no class; None when there is none.
        score_threshold: cast to float32; one for all classes, or one for each without the background.
        finite: (P,) bool, priors to look at; all when None.
        labels: (K,) classes to look at; all when None.

    Returns:
        scores (N,) float32, classes (N,) int64 (columns without the background's) and rows (N,) int64 (priors),
        in order of prior, then class.
    """
    priors = np.arange(len(conf)) if finite is None else np.flatnonzero(finite)
    scores = activate(conf[priors], activation)
    if background_index is not None:
        scores = np.delete(scores, background_index, axis=1)
    fires = scores > np.asarray(score_threshold, np.float32)
    if labels is not None:
        fires &= np.isin(np.arange(scores.shape[1]), labels)
    rows, classes = np.nonzero(fires)
    return scores[rows, classes], classes, priors[rows]


def class_nms(
    scores: np.ndarray, rows: np.ndarray, loc: np.ndarray, priors: np.ndarray, spec: SsdSpec
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the candidates of one class, the best top_k after greedy NMS. Kernel: kernels/class_nms.cu.

    Args:
        scores: (N,) float32, of one class.
        rows: (N,) their priors, ascending.
        loc: (P, 4 + 2 K) float32 offsets.
        priors: (P, 4) float32 cx cy w h, normalised.
        spec: its top_k, iou_threshold, box order, box coding and clipping hold.

    Returns:
        boxes (N, 4) and scores (N,) float32, and their priors (N,), best first; equal scores: lower prior first.
    """
    best = np.argsort(-scores, kind="stable")[: spec.postprocess.top_k]
    scores, rows = scores[best], rows[best]
    boxes = candidate_boxes(loc, priors, rows, spec)
    kept = nms(boxes, scores, spec.postprocess.iou_threshold)
    return boxes[kept], scores[kept], rows[kept]


def candidate_boxes(loc: np.ndarray, priors: np.ndarray, rows: np.ndarray, spec: SsdSpec) -> np.ndarray:
    """Corner boxes of the priors `rows` (N,), in the spec's box order, box coding and clipping. Kernel: class_nms.cu.

    Returns (N, 4) float32, normalised to the network input.
    """
    loc = loc[rows, :4]
    if spec.loc_order == "cycxhw":
        loc = loc[:, [1, 0, 3, 2]]
    if spec.box_coding == "center_size":
        boxes = decode_boxes(loc, priors[rows], spec.variance)
    elif spec.box_coding == "linear":
        boxes = decode_linear(loc, priors[rows], spec.linear_scale)
    else:  # corners: what is the wrong way round is empty
        boxes = np.concatenate([loc[:, :2], np.maximum(loc[:, :2], loc[:, 2:])], axis=1)
    return np.clip(boxes, 0, 1) if spec.postprocess.clip_boxes == "before_nms" else boxes


def keypoints_of(loc: np.ndarray, priors: np.ndarray, rows: np.ndarray, spec: SsdSpec) -> np.ndarray:
    """The key points of the priors `rows` (N,), coded as centres are.

    loc: (P, 4 + 2 K).   Returns (N, 2 K) float32 x y of each point, normalised to the network input, not clipped.
    """
    points = loc[rows, 4:].reshape(len(rows), len(spec.keypoints), 2)
    if spec.loc_order == "cycxhw":
        points = points[..., ::-1]
    if spec.box_coding != "corners":
        around, sides = priors[rows, None, :2], priors[rows, None, 2:]
        if spec.box_coding == "center_size":
            points = around + points * np.float32(spec.variance[0]) * sides
        else:
            points = around + points / np.array(spec.linear_scale[::-1], np.float32) * sides
    return points.reshape(len(rows), loc.shape[1] - 4)


def nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Indices of the boxes that survive greedy non-maximum suppression, best score first. Kernel: class_nms.cu.

    boxes: (N, 4) float32 corners, any one frame.   scores: (N,) float32.
    A box is dropped when its IoU with a kept, higher-scoring box is > iou_threshold.
    Equal scores keep input order. Two empty boxes have IoU 0.

    Returns (K,) int64; (0,) for no input.
    """
    waiting, kept = np.argsort(-scores, kind="stable"), []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        waiting = waiting[~overlaps(boxes[best], boxes[waiting], iou_threshold)]
    return np.array(kept, np.int64)


def overlaps(first: np.ndarray, second: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Whether boxes overlap by IoU > iou_threshold: corners (..., 4), (..., 4), broadcast -> bool.

    Tested as inter > threshold * union, so that two empty boxes do not. Kernel: class_nms.cu.
    """
    inter = intersections(first, second)
    return inter > np.float32(iou_threshold) * (box_area(first) + box_area(second) - inter)


def merge(detections: np.ndarray, max_detections: int) -> tuple[np.ndarray, int]:
    """The best max_detections over all classes. Kernel: kernels/merge.cu.

    detections: (N, 6 + 2 K) float32 x1 y1 x2 y2 score label and key points, class after class, each best first.

    Returns rows (max_detections, 6 + 2 K) float32, best first (equal scores: as they came), zeros beyond the count; and
    the count.
    """
    best = detections[np.argsort(-detections[:, 4], kind="stable")][:max_detections]
    rows = np.zeros((max_detections, detections.shape[1]), np.float32)
    rows[: len(best)] = best
    return rows, len(best)
