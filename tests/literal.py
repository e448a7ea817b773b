"""Post-processing written out as slowly and literally as its definition reads: one prior, one class at a time."""

from __future__ import annotations

import numpy as np

from edge_ssd.boxes import decode_boxes


def postprocess(loc, conf, priors, spec):
    """(rows, counts) as `edge_ssd.reference.postprocess` defines them, by loops over plain lists."""
    limits, background = spec.postprocess, spec.background_index
    finite = [bool(np.isfinite(loc[p]).all() and np.isfinite(conf[p]).all()) for p in range(len(priors))]
    boxes = decode_boxes(loc[:, [1, 0, 3, 2]] if spec.loc_order == "cycxhw" else loc, priors, spec.variance)
    if limits.clip_boxes == "before_nms":
        boxes = np.clip(boxes, 0, 1)
    columns = [c for c in range(conf.shape[1]) if c != background]
    survivors = []
    for label, column in enumerate(columns):
        scored = []
        for p in range(len(priors)):
            if finite[p]:
                score = _probability(conf[p], column, spec.score_activation)
                if score > np.float32(limits.score_threshold):
                    scored.append((-score, p))
        kept = []
        for negative, p in sorted(scored)[: limits.top_k]:
            if not any(_overlap(boxes[p], boxes[q], np.float32(limits.iou_threshold)) for _, _, q in kept):
                kept.append((negative, label, p))
        survivors += kept
    rows = np.zeros((limits.max_detections, 6), np.float32)
    best = sorted(survivors)[: limits.max_detections]
    for i, (negative, label, p) in enumerate(best):
        rows[i] = [*boxes[p], -negative, label]
    return rows, np.array([len(best), finite.count(False)], np.int32)


def _probability(row, column, activation):
    if activation == "softmax":
        exps = np.exp(row - row.max())
        return exps[column] / exps.sum()
    if activation == "sigmoid":
        with np.errstate(over="ignore"):
            return np.float32(1) / (np.float32(1) + np.exp(-row[column]))
    return row[column]


def _overlap(a, b, threshold):
    width = max(np.float32(0), min(a[2], b[2]) - max(a[0], b[0]))
    height = max(np.float32(0), min(a[3], b[3]) - max(a[1], b[1]))
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    inter = width * height
    return inter > threshold * (area_a + area_b - inter)
