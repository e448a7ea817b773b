"""The kernels alone: right first, then timed against the time that their bytes take at the least.

Inputs take turns, so many that they do not fit the L2 cache ("from memory"); the same one again and again is
"from cache", as when the network has just written it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge_ssd import reference
from edge_ssd.backends.settings import postprocess_settings
from edge_ssd.kernels import Postprocess
from edge_ssd.priors import make_priors

from .cases import CASES, SECTION, TUNING, Case, heads_of, num_sets, ssd300_spec, timed
from .device import COPY
from .device import SECTION as DEVICE
from .preprocess import time_preprocess, tune_preprocess

_TUNED_BLOCKS = (64, 128, 256, 512, 1024)
# Of scores: exp differs in its last bits between the devices.
_SCORE_TOLERANCE = 2e-6


def run(records):
    """Adds the rows of this section; needs a GPU."""
    from cupy.cuda import runtime

    from edge_ssd.kernels.device import Device

    from .timing import GraphTimer

    device = Device()
    timer = GraphTimer(device)
    cache = runtime.getDeviceProperties(runtime.getDevice())["l2CacheSize"]
    gb_per_s = records.value(DEVICE, COPY, "gb_per_s")
    time_preprocess(records, device, timer, cache, gb_per_s)
    time_postprocess(records, device, timer, cache, gb_per_s)
    tune_preprocess(records, device, timer, cache)
    tune_postprocess(records, device, timer, cache)


class LaunchRecorder:
    """A device that remembers the launches it passes on, by kernel, and the arrays it makes.

    launches: {kernel: function that launches it again}.   arrays: made through `empty`.
    """

    def __init__(self, device):
        self._device = device
        self.launches, self.arrays = {}, []

    def __getattr__(self, name):
        return getattr(self._device, name)

    def empty(self, shape, dtype):
        self.arrays.append(self._device.empty(shape, dtype))
        return self.arrays[-1]

    def kernel(self, name, **defines):
        launch = self._device.kernel(name, **defines)

        def recorded(*arguments, **options):
            self.launches[name] = lambda: launch(*arguments, **options)
            self.launches[name]()

        return recorded

    def poison(self):
        """Fills all arrays with 0xFF, NaN in a float: what is not written shows."""
        with self._device.stream:
            for array in self.arrays:
                array.view(np.uint8).fill(0xFF)


def check_postprocess(device, spec, case, seed=1, **launch):
    """Raises ValueError unless the kernels give the reference's rows for fresh heads of a Case.

    Where nearly equal scores would let the two devices choose differently (all fire), the same boxes with
    ready-made scores that all differ have to be equal in every row.
    """
    priors = make_priors(spec)
    loc, conf = heads_of(case, len(priors), spec.num_columns, seed)
    if case.content == "all fire":
        spec = replace(spec, score_activation="none")
        rng = np.random.default_rng(seed)
        orders = rng.permuted(np.tile(np.arange(len(priors)), (spec.num_columns, 1)), axis=1).T
        # Exact in float16 up to 2048 steps: equal scores, too, have one right order.
        conf = np.broadcast_to((orders % 1792 + 256) / 2048, conf.shape).astype(conf.dtype)
    recorder = LaunchRecorder(device)
    step = Postprocess(recorder, priors, postprocess_settings(spec), len(loc), **launch)
    recorder.poison()
    with device.stream:
        rows, counts = step(device.array(loc), device.array(conf))
    rows, counts = device.to_host(rows), device.to_host(counts)
    for i in {0, len(loc) - 1}:
        expected = reference.postprocess(loc[i], conf[i], priors, spec)
        _check_rows(rows[i], counts[i], *expected, case, f"{case.name}, image {i}")


def _check_rows(rows, counts, expected_rows, expected_counts, case, what):
    if counts.tolist() != expected_counts.tolist():
        raise ValueError(f"{what}: counts are {counts.tolist()}, the reference's {expected_counts.tolist()}")
    if not np.abs(rows[:, 4] - expected_rows[:, 4]).max(initial=0) <= _SCORE_TOLERANCE:
        raise ValueError(f"{what}: scores differ from the reference's")
    unequal = (rows[:, [0, 1, 2, 3, 5]] != expected_rows[:, [0, 1, 2, 3, 5]]).any(axis=1)
    if case.content == "quiet":
        # Two scores that differ by less than the tolerance may have changed places.
        gaps = np.abs(np.diff(expected_rows[:, 4])) < _SCORE_TOLERANCE
        unequal &= ~(np.concatenate([gaps, [False]]) | np.concatenate([[False], gaps]))
    if unequal.any():
        raise ValueError(f"{what}: {int(unequal.sum())} rows differ from the reference's")


def time_postprocess(records, device, timer, cache, gb_per_s, spec=None, cases=CASES):
    """A row for every Case: all three kernels; and for those of batch 1, of each alone."""
    spec = spec or ssd300_spec()
    for case in cases:
        with records.row(SECTION, f"post-processing {case.name}") as values:
            check_postprocess(device, spec, case)
            sets, moved = prepared(device, spec, case, cache)
            values.update(timed(timer, [s["all"] for s in sets], moved["all"], gb_per_s))
        if case.batch_size == 1 and values:
            for kernel in ("score_candidates", "class_nms", "merge"):
                with records.row(SECTION, f"{kernel} {case.name}") as values:
                    values.update(timed(timer, [s[kernel] for s in sets], moved[kernel], gb_per_s))


def tune_postprocess(records, device, timer, cache, spec=None, blocks=_TUNED_BLOCKS):
    """A row for each kernel and content: microseconds by threads of a block."""
    spec = spec or ssd300_spec()
    for case in (Case("quiet"), Case("all fire")):
        for block in blocks:
            with records.row(TUNING, f"post-processing {case.name}, {block} threads") as values:
                check_postprocess(device, spec, case, block=block)
                sets, _ = prepared(device, spec, case, cache, block=block)
                for kernel in ("score_candidates", "class_nms", "merge", "all"):
                    values[f"{kernel}_us"] = timer([s[kernel] for s in sets]).median_us


def prepared(device, spec, case, cache, **launch):
    """([{kernel or "all": function that launches it}] for as many inputs as do not fit `cache`, {same: bytes}).

    The buffers of the steps between are one set, as in the pipeline.
    """
    priors, settings = make_priors(spec), postprocess_settings(spec)
    loc, conf = heads_of(case, len(priors), spec.num_columns)
    sets, recorder = [], LaunchRecorder(device)
    step = Postprocess(recorder, priors, settings, case.batch_size, **launch)
    for _ in range(num_sets(loc.nbytes + conf.nbytes, cache)):
        heads = device.array(loc), device.array(conf)
        with device.stream:
            step(*heads)
        sets.append({**recorder.launches, "all": lambda heads=heads: step(*heads)})
    device.stream.synchronize()
    return sets, bytes_moved(loc, conf, spec, settings)


def bytes_moved(loc, conf, spec, settings):
    """{kernel, or "all": bytes that it has to read and write, each once}.

    "all": heads in, rows out; what lies between is the implementation's own affair.
    """
    batch_size, num_priors, _ = loc.shape
    classes, limit = len(settings.columns), settings.max_detections
    fired = sum(_fired(conf[i], spec) for i in range(batch_size))
    tiles = -(-num_priors // 32)
    words, heads = 4 * batch_size * classes * tiles, loc.nbytes + conf.nbytes
    decoded = min(fired, batch_size * classes * settings.top_k)
    kept = min(decoded, batch_size * classes * min(settings.top_k, limit))
    rows = batch_size * (limit * 24 + 8)
    return {
        "score_candidates": heads + words + 4 * fired + 4 * batch_size * tiles,
        "class_nms": words
        + 4 * fired
        + decoded * (16 + 4 * loc.itemsize)
        + 20 * kept
        + 4 * batch_size * classes,
        "merge": 4 * kept + 4 * batch_size * (classes + tiles) + 16 * batch_size * limit + rows,
        "all": heads + 16 * num_priors + rows,
    }


def _fired(conf, spec):
    limit = np.float32(spec.postprocess.score_threshold)
    return int((reference.activate(conf.astype(np.float32), spec.score_activation)[:, 1:] > limit).sum())
