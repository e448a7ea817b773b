"""The CPU's fast path: the steps of `edge_ssd.reference`, with the same results in a fraction of the time.

`preprocess`, `postprocess`, `score_candidates` and `nms` take and give what those of the same name there do, where
every step is defined; this says only how it is made fast. Post-processing gives the reference's rows to the bit; a
preprocessed pixel is within 0.02 levels of the reference's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from threading import local
from typing import Any

import cv2
import numpy as np

from ..engines.layout import interleaved_pixels
from ..kernels.color import YuvToRgb, yuv_to_rgb
from ..reference import (
    activate,
    candidate_boxes,
    checked_heads,
    finite_priors,
    host_planes,
    keypoints_of,
    overlaps,
)
from ..resize import ResizePlan, plan_resize
from ..spec import InputSpec, SsdSpec

# Where the red, green and blue of a pixel lie in what `_colors` returns.
_RGB_CHANNELS = {"bgr8": (2, 1, 0), "bgra8": (2, 1, 0), "mono8": (0, 0, 0)}

_PACKED_YUV = ("yuyv", "uyvy")

# What OpenCV calls the way from those channels to three in the order of an interleaved batch; none where they are it.
_TO_INTERLEAVED = {
    "bgr8": {"rgb": cv2.COLOR_BGR2RGB},
    "rgb8": {"bgr": cv2.COLOR_RGB2BGR},
    "bgra8": {"rgb": cv2.COLOR_BGRA2RGB, "bgr": cv2.COLOR_BGRA2BGR},
    "rgba8": {"rgb": cv2.COLOR_RGBA2RGB, "bgr": cv2.COLOR_RGBA2BGR},
    "mono8": {"rgb": cv2.COLOR_GRAY2RGB, "bgr": cv2.COLOR_GRAY2BGR},
}

# From this many source rows for one row of the input, it is cheaper to fetch the two rows that bilinear
# interpolation reads than to convert the whole image to float; it also bounds the memory of huge stills.
_SPARSE_ROWS = 4

# A reduced image is taken in strips where they come out even: when it gets smaller, no row of the input reads beyond
# the rows of its own strip. Their floats then stay in the second-level cache, and what the network left there mostly,
# too: with 8 strips of 640x480 preprocess takes 10 us more than with one, and the network 60 us less.
_STRIP_BYTES = 512 << 10
_FEWEST_STRIP_ROWS = 8  # of the input: less is work without a gain

# The pre-filter before softmax and sigmoid keeps every logit down to this far below the threshold's,
# which is a hundred times the rounding of float32 there: it decides nothing, it only saves exponentials.
_LOGIT_MARGIN = 1e-3

# When more than one prior in so many passes the first filter (an untrained network, a wall of objects), a
# second one pays.
_FLAT_SHARE = 8

# Candidates that NMS compares with each other at a time, best first: most images have fewer, and 256
# squared comparisons stay in L2. It looks for them in a window, past those that a kept box suppresses.
_NMS_CHUNK = 128
_NMS_WINDOW = 1024

# Temporary arrays of a thread are kept for its next frame up to this size each: a huge still leaves nothing.
_MOST_KEPT_BYTES = 32 << 20
_kept = local()


def _temporary(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """An array for the time of one step, of what this thread had under that name before; not initialised.

    Fresh ones of a few megabytes would be given back to the system after each frame, and zeroed page by page.
    """
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    block = getattr(_kept, name, None)
    if block is None or block.nbytes < nbytes:
        block = np.empty(nbytes, np.uint8)
        if nbytes <= _MOST_KEPT_BYTES:
            setattr(_kept, name, block)
    return block[:nbytes].view(dtype).reshape(shape)


# ---------------------------------------------------------------------------------------------------------
# pixels -> network input


def preprocess(
    image: np.ndarray | tuple[np.ndarray, ...],
    spec: SsdSpec,
    pixel_format: str = "bgr8",
    color_matrix: str = "bt601",
    color_range: str = "limited",
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, ResizePlan]:
    """The network input for one image, and where the image lies in it; see `edge_ssd.reference.preprocess`.

    Arguments, results and errors are the same; `out` may be interleaved, see `edge_ssd.engines.layout`. OpenCV
    resizes, in pieces that stay in the cache.
    """
    planes = host_planes(image, pixel_format)
    plan = plan_resize(planes[0].shape[:2], spec.input.size, spec.input.resize)
    if out is None:
        out = np.empty((3, *spec.input.size), np.float32)
    conversion = yuv_to_rgb(color_matrix, color_range)
    interleaved = interleaved_pixels(out)
    if interleaved is None:
        resized = _resize(planes, pixel_format, conversion, plan.inner_size)
        _normalise_planes(resized, pixel_format, spec.input, plan, out)
    else:
        pixels, is_reversed = interleaved
        inner = pixels[_inner(plan)]
        if inner.shape != pixels.shape:
            _rows(pixels)[:] = _interleaved_constants(spec.input, is_reversed)[2]
        _resize_interleaved(planes, pixel_format, conversion, _memory_order(spec.input, is_reversed), inner)
        _normalise_interleaved(inner, spec.input, is_reversed)
    return out[None], plan


def _resize_interleaved(
    planes: tuple[np.ndarray, ...], pixel_format: str, conversion: YuvToRgb, order: str, out: np.ndarray
) -> None:
    """Planes of uint8 -> out (height, width, 3) float32, 0..255.   order: "rgb" or "bgr", of out's channels."""
    converted = pixel_format if pixel_format in _TO_INTERLEAVED else "rgb8"  # of YUV, `_colors` makes RGB
    code = _TO_INTERLEAVED[converted].get(order)
    if code is None:
        _resize(planes, pixel_format, conversion, out.shape[:2], out)
    else:
        resized = _resize(planes, pixel_format, conversion, out.shape[:2])
        cv2.cvtColor(resized, code, dst=out)


def _resize(
    planes: tuple[np.ndarray, ...],
    pixel_format: str,
    conversion: YuvToRgb,
    size: tuple[int, int],
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Planes of uint8 -> (height, width, channels) float32, bilinear, as OpenCV's INTER_LINEAR on float.

    out: written and returned; None for a temporary array.
    """
    height, width = size
    if out is None:
        channels = planes[0].shape[2:] if len(planes) == 1 and pixel_format not in _PACKED_YUV else (3,)
        out = _temporary("resized", (height, width, *channels), np.float32)
    rows = planes[0].shape[0]
    if rows >= _SPARSE_ROWS * height:
        above, below, weight = _row_taps(rows, height)
        image = _colors(_taken_rows(planes, above), pixel_format, conversion)
        lower = _colors(_taken_rows(planes, below), pixel_format, conversion, "lower")
        np.subtract(lower, image, out=lower)
        np.multiply(lower, weight.reshape(-1, *(1,) * (image.ndim - 1)), out=lower)
        np.add(image, lower, out=image)
        return cv2.resize(image, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    count = _strip_count(rows, height, 4 * planes[0][0].size) if len(planes) == 1 else 1
    for i in range(count):
        strip = out[i * height // count : (i + 1) * height // count]
        parts = planes if count == 1 else (planes[0][i * rows // count : (i + 1) * rows // count],)
        image = _colors(parts, pixel_format, conversion)
        cv2.resize(image, (width, len(strip)), dst=strip, interpolation=cv2.INTER_LINEAR)
    return out


@lru_cache(maxsize=64)
def _strip_count(rows: int, height: int, row_bytes: int) -> int:
    """Into how many strips of equal height an image of `rows` is cut that becomes `height` rows; 1: into none."""
    if rows < height:
        return 1
    together = math.gcd(rows, height)
    counts = [n for n in range(1, together + 1) if together % n == 0 and height // n >= _FEWEST_STRIP_ROWS]
    return next((n for n in counts if rows // n * row_bytes <= _STRIP_BYTES), counts[-1] if counts else 1)


def _row_taps(rows: int, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two source rows of each input row, and the weight of the second."""
    centre = (np.arange(height, dtype=np.float64) + 0.5) * (rows / height) - 0.5
    above = np.clip(np.floor(centre).astype(np.intp), 0, rows - 1)
    below = np.minimum(above + 1, rows - 1)
    return above, below, np.clip(centre - above, 0, 1).astype(np.float32)


def _taken_rows(planes: tuple[np.ndarray, ...], rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rows of the planes for rows of the image, as temporary arrays: chroma planes have half as many."""
    height, taken = planes[0].shape[0], []
    for i, plane in enumerate(planes):
        wanted = rows if plane.shape[0] == height else rows // 2
        out = _temporary(f"rows {i}", (len(rows), *plane.shape[1:]), np.uint8)
        # "clip", since "raise" goes through a buffer; no row is out of range.
        taken.append(np.take(plane, wanted, axis=0, out=out, mode="clip"))
    return tuple(taken)


def _colors(
    planes: tuple[np.ndarray, ...], pixel_format: str, conversion: YuvToRgb, name: str = "pixels"
) -> np.ndarray:
    """(H, W, channels) float32, channels in the order of `_RGB_CHANNELS`, 0..255; a temporary array of that name."""
    if pixel_format in ("nv12", "i420", *_PACKED_YUV):
        yuv = _yuv_pixels(planes, pixel_format).astype(np.float32)
        # Luma below black counts as black, as in OpenCV's conversions.
        np.maximum(yuv[..., 0], conversion.black, out=yuv[..., 0])
        # transform adds the matrix's last column; the result leaves 0..255 where YUV has no RGB.
        rgb = cv2.transform(yuv, conversion.matrix)
        return np.clip(rgb, 0, 255, out=rgb)
    pixels = _temporary(name, planes[0].shape, np.float32)
    np.copyto(pixels, planes[0])
    return pixels


def _yuv_pixels(planes: tuple[np.ndarray, ...], pixel_format: str) -> np.ndarray:
    """(H, W, 3) uint8 Y U V, chroma replicated."""
    height, width = planes[0].shape[:2]
    if pixel_format in _PACKED_YUV:
        luma = 0 if pixel_format == "yuyv" else 1
        chroma = planes[0][..., 1 - luma].reshape(height, width // 2, 2)
        parts = [np.ascontiguousarray(planes[0][..., luma]), np.repeat(chroma, 2, axis=1)]
    else:
        parts = [np.ascontiguousarray(planes[0])]
        for plane in planes[1:]:
            # Rows were fetched singly already when there are as many as of luma.
            repeated = np.ascontiguousarray(plane)
            parts.append(cv2.resize(repeated, (width, height), interpolation=cv2.INTER_NEAREST))
    return cv2.merge(parts)


@lru_cache
def _constants(spec: InputSpec) -> tuple[np.ndarray, ...]:
    """mean, 1 / std and pad_value of an InputSpec, each (3, 1, 1) float32."""
    mean, std, pad = (np.array(v, np.float32).reshape(3, 1, 1) for v in (spec.mean, spec.std, spec.pad_value))
    return mean, 1 / std, pad


def _normalise_planes(
    resized: np.ndarray, pixel_format: str, spec: InputSpec, plan: ResizePlan, out: np.ndarray
) -> None:
    """(h, w, channels) float32 0..255 -> out (3, H, W), padded, channels in the spec's order."""
    channels = _RGB_CHANNELS.get(pixel_format, (0, 1, 2))
    if spec.color == "bgr":
        channels = channels[::-1]
    mean, scale, pad = _constants(spec)
    planes = out if out.dtype == np.float32 else _temporary("planes", out.shape, np.float32)
    inner = planes[(slice(None), *_inner(plan))]
    if inner.shape != planes.shape:
        planes[:] = pad
    # One pass from interleaved to planar, in any order, straight into the batch; of three channels in half the time.
    if resized.shape[2:] == (3,):
        cv2.split(resized, [inner[channels.index(i)] for i in range(3)])
    else:
        from_to = [index for i, channel in enumerate(channels) for index in (channel, i)]
        cv2.mixChannels([resized], list(inner), from_to)
    if mean.any():
        np.subtract(planes, mean, out=planes)
    if (scale != 1).any():
        np.multiply(planes, scale, out=planes)
    if planes is not out:
        out[:] = planes


def _inner(plan: ResizePlan) -> tuple[slice, slice]:
    """The rows and the columns of the input that the image fills."""
    (top, left), (height, width) = plan.padding, plan.inner_size
    return slice(top, top + height), slice(left, left + width)


def _memory_order(spec: InputSpec, is_reversed: bool) -> str:
    """ "rgb" or "bgr": how the channels of interleaved pixels lie."""
    return {"rgb": "bgr", "bgr": "rgb"}[spec.color] if is_reversed else spec.color


@lru_cache
def _interleaved_constants(spec: InputSpec, is_reversed: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """mean, 1 / std and the normalised pad_value of an InputSpec, each (W * 3,): for a row of interleaved pixels."""
    step, width = -1 if is_reversed else 1, spec.size[1]
    mean, scale, pad = (np.tile(values.reshape(3)[::step], width) for values in _constants(spec))
    return mean, scale, (pad - mean) * scale


def _normalise_interleaved(pixels: np.ndarray, spec: InputSpec, is_reversed: bool) -> None:
    """(h, w, 3) float32 0..255, in place."""
    rows = _rows(pixels)
    mean, scale, _ = (values[: rows.shape[1]] for values in _interleaved_constants(spec, is_reversed))
    if mean.any():
        np.subtract(rows, mean, out=rows)
    if (scale != 1).any():
        np.multiply(rows, scale, out=rows)


def _rows(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3) -> (h, w * 3), a view: long rows, over which NumPy is four times as fast as over threes."""
    return pixels.reshape(len(pixels), -1)


# ---------------------------------------------------------------------------------------------------------
# network outputs -> detections


def postprocess(
    loc: np.ndarray,
    conf: np.ndarray,
    priors: np.ndarray,
    spec: SsdSpec,
    labels: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The detections in one image's raw network outputs; see `edge_ssd.reference.postprocess`.

    Arguments, results and errors are the same. NMS goes over all classes at once, best candidates first, so that
    it can stop at max_detections.
    """
    loc, conf = checked_heads(loc, conf, priors, spec)
    limits = spec.postprocess
    finite = _finite_priors(loc, conf)
    scores, classes, rows = score_candidates(
        conf,
        spec.score_activation,
        spec.background_index,
        spec.score_thresholds,
        finite=finite,
        labels=labels,
    )
    result = np.zeros((limits.max_detections, 2 + spec.loc_columns), np.float32)
    dropped = 0 if finite is None else np.count_nonzero(~finite)
    if not len(rows):
        return result, np.array([0, dropped], np.int32)
    order = _best_candidates(scores, classes, limits.top_k)
    scores, classes, rows = scores[order], classes[order], rows[order]
    boxes = _candidate_boxes(loc, priors, rows, spec)
    kept = _class_nms(boxes, scores, classes, limits.iou_threshold, limits.max_detections)
    used = result[: len(kept)]
    used[:, :4], used[:, 4], used[:, 5] = boxes[kept], scores[kept], classes[kept]
    if spec.keypoints:
        used[:, 6:] = keypoints_of(loc, priors, rows[kept], spec)
    return result, np.array([len(kept), dropped], np.int32)


def _finite_priors(loc: np.ndarray, conf: np.ndarray) -> np.ndarray | None:
    """As `edge_ssd.reference.finite_priors`, but None when all are: that needs no look at each row."""
    with np.errstate(over="ignore", invalid="ignore"):
        # A sum is finite only where all of it is. It may overflow where all of it is: then each row is looked at.
        if np.isfinite(np.einsum("pc->", conf)) and np.isfinite(np.einsum("pc->", loc)):
            return None
    finite = finite_priors(loc, conf)
    return None if finite.all() else finite


def score_candidates(
    conf: np.ndarray,
    activation: str,
    background_index: int | None,
    score_threshold: float | Sequence[float],
    finite: np.ndarray | None = None,
    labels: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every (prior, class) whose probability is > score_threshold; see `edge_ssd.reference.score_candidates`.

    Arguments and results are the same. Priors that cannot fire are left out before any exponential.
    """
    threshold: Any = np.asarray(score_threshold, np.float32)[()]
    lowest = threshold
    if threshold.ndim:
        lowest = threshold.min()
        if background_index is not None:
            threshold = np.insert(threshold, background_index, np.inf)
    rows = _rows_that_may_fire(conf, activation, background_index, lowest, finite)
    if not len(rows):
        return np.empty(0, np.float32), rows, rows
    scores = activate(conf[rows], activation)
    fired = scores > threshold
    if background_index is not None:
        fired[:, background_index] = False
    if labels is not None:
        fired &= _columns_of(labels, background_index, conf.shape[1])
    per_row = np.count_nonzero(fired, axis=1)
    where = np.flatnonzero(fired)
    fired_rows = np.repeat(np.arange(len(rows)), per_row)
    columns = where - fired_rows * conf.shape[1]
    if background_index is not None:
        columns -= columns > background_index
    return scores.reshape(-1)[where], columns, rows[fired_rows]


def _rows_that_may_fire(
    conf: np.ndarray,
    activation: str,
    background_index: int | None,
    threshold: np.float32,
    finite: np.ndarray | None,
) -> np.ndarray:
    """Priors (K,) int64, ascending: all with a probability > threshold, and few others.

    A softmax probability is at most the sigmoid of its logit less the background's: the other classes
    can only lower it. So most priors are ruled out by comparisons, without an exponential.
    """
    if activation != "none" and (
        not 0 < threshold < 1 or (activation, background_index) == ("softmax", None)
    ):
        return np.arange(len(conf)) if finite is None else np.flatnonzero(finite)
    lowest = threshold
    if activation != "none":
        lowest = np.float32(math.log(threshold / (1.0 - float(threshold))) - _LOGIT_MARGIN)
    if activation == "softmax":
        lowest = conf[:, background_index, None] + lowest
    words = _temporary("above", (-(-conf.size // 8),), np.uint64)
    words[-1:] = 0  # what lies behind the last
    above = words.view(np.bool_)[: conf.size].reshape(conf.shape)
    np.greater(conf, lowest, out=above)
    if background_index is not None:
        above[:, background_index] = False
    rows = _rows_with_any(above, words)
    if finite is not None:
        rows = rows[finite[rows]]
    if activation == "softmax" and len(rows) > len(conf) // _FLAT_SHARE:
        rows = rows[_may_exceed(conf[rows], threshold)]
    return rows


def _rows_with_any(table: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Indices of the rows of a (P, C) bool array that hold a True, ascending, and of some beside them.

    words: the same memory, eight values in each: an eighth to look through, most of which is 0.
    """
    hits = np.flatnonzero(words != 0)
    columns = table.shape[1]
    if len(hits) > len(table) or columns < 8:  # fewer, and a word may lie in more than two rows
        return np.flatnonzero(table.any(axis=1))
    rows = np.empty(2 * len(hits), np.int64)  # of the first and the last value of each word
    np.floor_divide(8 * hits, columns, out=rows[0::2])
    np.floor_divide(8 * hits + 7, columns, out=rows[1::2])
    np.minimum(rows, len(table) - 1, out=rows)
    first = np.ones(len(rows), bool)
    first[1:] = rows[1:] != rows[:-1]
    return rows[first]


def _may_exceed(conf: np.ndarray, threshold: np.float32) -> np.ndarray:
    """(K,) bool: false where softmax is too flat for any probability > threshold.

    exp is convex, so C logits of mean a have exponentials of mean at least exp(a): a probability is at
    most exp(its logit - a) / C. That costs a sum and a maximum instead of C exponentials.
    """
    columns = conf.shape[1]
    # No matrix product: it would wake the threads of a BLAS, which then spin beside those of the network.
    mean = np.einsum("pc->p", conf) / np.float32(columns)
    return conf.max(axis=1) - mean > math.log(threshold * columns) - _LOGIT_MARGIN


def _columns_of(labels: np.ndarray, background_index: int | None, num_columns: int) -> np.ndarray:
    """(C,) bool: which columns of conf belong to the labels."""
    columns = np.asarray(labels, np.int64)
    if background_index is not None:
        columns = columns + (columns >= background_index)
    wanted = np.zeros(num_columns, bool)
    wanted[columns] = True
    return wanted


def _best_candidates(scores: np.ndarray, classes: np.ndarray, top_k: int) -> np.ndarray:
    """The candidates that NMS looks at, best first: of each class the best top_k.

    scores (N,) float32, classes (N,): of candidates in order of prior.
    Equal scores: lower class, then lower prior. Returns (K,) int64, indices into the two arrays.
    """
    # A stable sort of 16-bit keys is a radix sort; it leaves each class in order of prior.
    by_class = np.argsort(classes.astype(np.uint16), kind="stable")
    counts = np.bincount(classes, minlength=1)
    if counts.max() > top_k:
        by_class = by_class[_best_of_each_class(scores[by_class], counts, top_k)]
    return by_class[np.argsort(-scores[by_class], kind="stable")]


def _best_of_each_class(scores: np.ndarray, counts: np.ndarray, top_k: int) -> np.ndarray:
    """(N,) bool: the best top_k of each class; scores (N,) lie class by class, counts[i] of class i."""
    slots = np.arange(counts.max()) < counts[:, None]
    table = np.full(slots.shape, -np.inf, np.float32)
    table[slots] = scores
    pivot = -np.partition(-table, top_k - 1, axis=1)[:, top_k - 1 : top_k]
    best, ties = table > pivot, table == pivot
    room = top_k - np.count_nonzero(best, axis=1)[:, None]
    best |= ties & (np.cumsum(ties, axis=1, dtype=np.int32) <= room)
    return best[slots]


def _candidate_boxes(loc: np.ndarray, priors: np.ndarray, rows: np.ndarray, spec: SsdSpec) -> np.ndarray:
    """As `edge_ssd.reference.candidate_boxes`; rows may come several times."""
    if len(rows) <= len(priors):
        return candidate_boxes(loc, priors, rows, spec)
    return candidate_boxes(loc, priors, np.arange(len(priors)), spec)[rows]


def nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Indices of the boxes that survive greedy non-maximum suppression; see `edge_ssd.reference.nms`.

    Arguments and results are the same. Boxes are compared many at a time.
    """
    order = np.argsort(-scores, kind="stable")
    one_class = np.zeros(len(order), np.int64)
    return order[_class_nms(boxes[order], scores[order], one_class, iou_threshold, len(order))]


def _class_nms(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, iou_threshold: float, max_detections: int
) -> np.ndarray:
    """Greedy NMS within each class, over all classes at once.

    boxes (N, 4) float32 corners, scores (N,), classes (N,): best first over all classes. So what is kept
    first is also the best of all classes together, and nothing after max_detections needs looking at.

    Returns (K,) int64 indices, K at most max_detections, ascending.
    """
    kept = np.empty(0, np.int64)
    start = 0
    while start < len(scores) and len(kept) < max_detections:
        window = np.arange(start, min(start + (_NMS_WINDOW if len(kept) else _NMS_CHUNK), len(scores)))
        suppressed = _suppressed_by(boxes[kept], classes[kept], boxes[window], classes[window], iou_threshold)
        alive = window[~suppressed]
        start = alive[_NMS_CHUNK] if len(alive) > _NMS_CHUNK else window[-1] + 1
        alive = alive[:_NMS_CHUNK]
        same = classes[alive][:, None] == classes[alive]
        suppresses = np.triu(same & overlaps(boxes[alive][:, None], boxes[alive], iou_threshold), 1)
        kept = np.concatenate([kept, alive[_greedy(suppresses)]])
    return kept[:max_detections]


def _suppressed_by(
    kept_boxes: np.ndarray,
    kept_classes: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    iou_threshold: float,
) -> np.ndarray:
    """(N,) bool: whether a kept box of the same class overlaps each box."""
    if not len(kept_boxes):
        return np.zeros(len(boxes), bool)
    # One line of the table per class, padded with empty boxes, which overlap nothing: each box is
    # compared with the kept ones of its own class alone.
    order = np.argsort(kept_classes, kind="stable")
    counts = np.bincount(kept_classes, minlength=classes.max() + 1)
    slots = np.arange(counts.max()) < counts[:, None]
    table = np.zeros((*slots.shape, 4), np.float32)
    table[slots] = kept_boxes[order]
    return np.any(overlaps(boxes[:, None], table[classes], iou_threshold), axis=1)


def _greedy(suppresses: np.ndarray) -> np.ndarray:
    """Which boxes greedy NMS keeps: suppresses (N, N) bool, row i over column j > i -> (N,) bool.

    Each round settles at least one more box from the front (a box is settled once all before it are),
    so the fixed point is the greedy answer; real images take two to five rounds.
    """
    kept = np.ones(len(suppresses), bool)
    while True:
        settled = ~np.any(suppresses[kept], axis=0)
        if np.array_equal(settled, kept):
            return kept
        kept = settled
