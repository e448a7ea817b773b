"""What others make of the same network, weights and frame on the same GPU: torchvision, and torch.compile.

torchvision's SSD300 as its users run it: eager, float32, from a BGR frame in the host's memory to boxes in it.
And its network at its best: float16, channels-last, in a CUDA graph, then softmax, decoding and one batched_nms.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np

from edge_ssd import reference
from edge_ssd.bench.networks import COLUMNS, random_network
from edge_ssd.priors import make_priors

from .cases import Case, heads_of, ssd300_spec
from .pipeline import FRAME_SIZE

SECTION, COMPILED = "peers", "torch.compile"
EAGER = "torchvision ssd300_vgg16, eager float32, frame to boxes"
GRAPHED = "torchvision's network float16 in a CUDA graph + decode + batched_nms"
NMS = "torchvision.ops.batched_nms alone, 8732 x 81 quiet"

_ARCH = "ssd300_vgg16"
_REPEATS = 60


def run(records):
    """Adds the rows of this section; needs torchvision."""
    frame = np.random.default_rng(0).integers(0, 256, (*FRAME_SIZE, 3), np.uint8)
    with records.row(SECTION, EAGER) as values:
        values.update(eager(frame))
    for content in ("quiet", "all fire"):
        with records.row(SECTION, post_name(content)) as values:
            values.update(torch_postprocess(content))
    with records.row(SECTION, GRAPHED) as values:
        values.update(graphed(frame))
    with records.row(SECTION, NMS) as values:
        values.update(nms_alone())


def post_name(content):
    """The row of torch's post-processing for one content of `cases.CONTENTS`."""
    return f"torch's decode + batched_nms, {content}"


def run_compiled(records):
    """Adds the row of torch.compile, which may take minutes to compile."""
    with records.row(COMPILED, "the same network, float16, channels-last") as values:
        import torch

        network, batch = _half_network()
        start = time.perf_counter()
        compiled = torch.compile(network, mode="reduce-overhead")
        with torch.inference_mode():
            try:
                compiled(batch)
            except Exception as error:  # of the compiler, of Triton, of a missing g++: no common base
                raise ImportError(f"torch.compile does not work here ({error})") from error
            for _ in range(3):
                compiled(batch)
            torch.cuda.synchronize()
            values["compile_s"] = time.perf_counter() - start
            values.update(_timed(lambda: compiled(batch), "network"))


def torchvision_ssd300(network):
    """torchvision's detector with the weights of ours, on the GPU, in evaluation mode."""
    from torchvision.models.detection import ssd300_vgg16

    model = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=COLUMNS[_ARCH])
    model.load_state_dict(network.state_dict())
    return model.eval()


def eager(frame):
    """Microseconds from a BGR frame in the host's memory to boxes, scores and labels there."""
    import torch

    model = torchvision_ssd300(random_network(_ARCH)[0]).cuda()

    @torch.inference_mode()
    def detect():
        image = torch.from_numpy(frame).cuda().flip(-1).permute(2, 0, 1).float().div(255)
        return {name: values.cpu() for name, values in model([image])[0].items()}

    found = detect()
    return {"detections": len(found["boxes"]), **_timed(detect, "frame")}


def graphed(frame):
    """Microseconds of the whole, frame to detections in the host's memory, and of the network alone."""
    import torch

    network, batch = _half_network()
    graph, (loc, conf) = _captured(network, batch)
    post = TorchPostprocess(ssd300_spec(), batch.device)
    mean = torch.tensor(ssd300_spec().input.mean, device=batch.device)[:, None, None]

    @torch.inference_mode()
    def detect():
        image = torch.from_numpy(frame).cuda().flip(-1).permute(2, 0, 1)[None].float()
        image = torch.nn.functional.interpolate(image, batch.shape[-2:], mode="bilinear", align_corners=False)
        batch.copy_(image - mean)
        graph.replay()
        return [values.cpu() for values in post(loc[0], conf[0])]

    return {**_timed(graph.replay, "network"), **_timed(detect, "frame")}


def torch_postprocess(content):
    """Microseconds of softmax, decoding, top_k of each class and batched_nms in torch, for a Case of ours; as
    many detections as the reference has."""
    import torch

    spec, device = ssd300_spec(), torch.device("cuda")
    loc, conf = heads_of(Case(content), len(make_priors(spec)), spec.num_columns)
    post = TorchPostprocess(spec, device)
    heads = [torch.from_numpy(values[0]).to(device) for values in (loc, conf)]
    with torch.inference_mode():
        values = _timed(partial(post, *heads), "postprocess")
        found = len(post(*heads)[0])
    _, counts = reference.postprocess(loc[0], conf[0], make_priors(spec), spec)
    return {"detections": found, "detections_of_reference": int(counts[0]), **values}


def nms_alone():
    """Microseconds of batched_nms on the candidates of the quiet Case, top_k of each class already taken."""
    import torch
    from torchvision.ops import batched_nms

    spec, device = ssd300_spec(), torch.device("cuda")
    loc, conf = heads_of(Case("quiet"), len(make_priors(spec)), spec.num_columns)
    post = TorchPostprocess(spec, device)
    with torch.inference_mode():
        candidates = post.candidates(*(torch.from_numpy(values[0]).to(device) for values in (loc, conf)))
        nms = partial(batched_nms, *candidates, spec.postprocess.iou_threshold)
        return {"candidates": len(candidates[0]), **_timed(nms, "nms")}


class TorchPostprocess:
    """(P, 4) loc and (P, C) conf on the GPU -> boxes 0..1, scores, labels, by torch's operators and torchvision's
    batched_nms; all classes at once, which is faster than torchvision's own loop over them."""

    def __init__(self, spec, device):
        import torch

        self._spec = spec
        self._priors = torch.from_numpy(make_priors(spec)).to(device)

    def candidates(self, loc, conf):
        """Boxes, scores and labels that NMS has to choose from: at most top_k of each class."""
        import torch

        settings, variance = self._spec.postprocess, self._spec.variance
        scores = conf.float().softmax(-1)[:, 1:]
        centre = self._priors[:, :2] + loc[:, :2].float() * variance[0] * self._priors[:, 2:]
        half_size = self._priors[:, 2:] * (loc[:, 2:].float() * variance[1]).exp() / 2
        boxes = torch.cat([centre - half_size, centre + half_size], dim=1).clamp_(0, 1)
        best, places = scores.topk(settings.top_k, dim=0)
        passed = best > settings.score_threshold
        return boxes[places[passed]], best[passed], passed.nonzero()[:, 1]

    def __call__(self, loc, conf):
        from torchvision.ops import batched_nms

        boxes, scores, labels = self.candidates(loc, conf)
        settings = self._spec.postprocess
        kept = batched_nms(boxes, scores, labels, settings.iou_threshold)[: settings.max_detections]
        return boxes[kept], scores[kept], labels[kept]


def _half_network():
    """The network alone as torch has it, float16 and channels-last on the GPU, and a batch for it."""
    import torch

    from edge_ssd.engines.torch_network import prepare

    # `half()` alone would not run: L2Norm computes in float32, and the convolution after it takes what comes.
    network = prepare(random_network(_ARCH)[0], half=True).cuda()
    batch = torch.randn((1, 3, 300, 300), device="cuda", dtype=torch.float16) * 50
    return network, batch.contiguous(memory_format=torch.channels_last)


def _captured(network, batch):
    """A CUDA graph of the network, and its outputs."""
    import torch

    torch.backends.cudnn.benchmark = True
    stream = torch.cuda.Stream()
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(3):
            network(batch)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        outputs = network(batch)
    return graph, outputs


def _timed(work, name):
    """{name_p50_us, name_p99_us} of work that is waited for."""
    import torch

    times = []
    for i in range(_REPEATS + 10):
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        if i >= 10:
            times.append((time.perf_counter() - start) * 1e6)
    p50, p99 = np.percentile(times, (50, 99))
    return {f"{name}_p50_us": float(p50), f"{name}_p99_us": float(p99)}
