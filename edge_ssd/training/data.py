"""Batches for training: images and objects from a data set, augmented in worker processes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Iterator, Sequence
from threading import Thread
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils import data as torch_data

from ..datasets import Dataset
from ..spec import SsdSpec
from .augmentation import AugmentOptions, augment
from .paste import ObjectPaster

# Where workers leave their batches, and how many each of them has ready beside the one in use.
_SHARED_MEMORY = "/dev/shm"
_PREFETCHED = 2


class Targets(NamedTuple):
    """The objects of a batch, filled up to the image with the most.

    boxes: (B, G, 4) float32 corners, normalised to the input.   labels: (B, G) int64, columns of `conf`;
    0, background, marks the filling.   difficult: (B, G) bool.
    """

    boxes: torch.Tensor
    labels: torch.Tensor
    difficult: torch.Tensor

    def to(self, device: torch.device) -> Targets:
        """The same on another device."""
        return Targets(*(tensor.to(device, non_blocking=True) for tensor in self))


class Batch(NamedTuple):
    """images: (B, height, width, 3) uint8 in the spec's colour order.   indices: of the data set's images."""

    images: torch.Tensor
    targets: Targets
    indices: tuple[int, ...]


class TrainingImages(torch_data.Dataset):
    """Augmented images of a data set (see `edge_ssd.datasets`), by (round, index).

    The random numbers depend on the seed, the round and the index alone, so a resumed run sees the
    images that the first would have seen, with any number of workers.
    """

    def __init__(self, dataset: Dataset, spec: SsdSpec, options: AugmentOptions, seed: int) -> None:
        self.dataset, self.spec, self.options, self.seed = dataset, spec, options, seed
        self.paster = ObjectPaster(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
        """(round, index) -> image, boxes (N, 4), labels (N,), difficult (N,), index; see `Batch`."""
        turn, index = key
        rng = np.random.default_rng((self.seed, turn, index))
        image, truth = self.dataset.image(index), self.dataset.truth(index)
        if self.options.paste and rng.random() < self.options.paste:
            image, truth = self.paster.paste(image, truth, rng)
        image, boxes, kept = augment(image, truth, self.spec, self.options, rng)
        return image, boxes, truth.labels[kept] + 1, truth.difficult[kept], index


class RoundSampler:
    """The (round, index) of each image of an epoch, shuffled.

    length: images of the data set.   epoch_images: images of an epoch. An epoch goes on where the last
    one stopped; every image comes once before any comes again.   epoch: set it before each iteration.
    """

    def __init__(self, length: int, epoch_images: int, seed: int) -> None:
        self.length, self.epoch_images, self.seed = length, epoch_images, seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.epoch_images

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position, end = self.epoch * self.epoch_images, (self.epoch + 1) * self.epoch_images
        while position < end:
            turn, start = divmod(position, self.length)
            stop = min(self.length, start + end - position)
            order = np.random.default_rng((self.seed, turn)).permutation(self.length)
            yield from ((turn, int(index)) for index in order[start:stop])
            position += stop - start


class RankBatches:
    """The part of one process in batches that several share: lists of (round, index).

    sampler: RoundSampler, the same in every process.   batch: images of a part.   rank, count: of the process.
    The last, smaller batch is left out.
    """

    def __init__(self, sampler: RoundSampler, batch: int, rank: int = 0, count: int = 1) -> None:
        self.sampler, self.batch, self.rank, self.count = sampler, batch, rank, count

    def __len__(self) -> int:
        return len(self.sampler) // (self.batch * self.count)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        whole = []
        for key in self.sampler:
            whole.append(key)
            if len(whole) == self.batch * self.count:
                yield whole[self.rank * self.batch : (self.rank + 1) * self.batch]
                whole = []


def collate(samples: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]]) -> Batch:
    """A Batch of what `TrainingImages` gives."""
    images, boxes, labels, difficult, indices = zip(*samples)
    shape = (len(samples), max(map(len, boxes)))
    targets = Targets(
        torch.zeros(*shape, 4), torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.bool)
    )
    for i, count in enumerate(map(len, boxes)):
        targets.boxes[i, :count] = torch.from_numpy(boxes[i])
        targets.labels[i, :count] = torch.from_numpy(labels[i].astype(np.int64))
        targets.difficult[i, :count] = torch.from_numpy(difficult[i])
    return Batch(torch.from_numpy(np.stack(images)), targets, tuple(indices))


def make_loader(images: TrainingImages, batches: RankBatches, workers: int) -> torch_data.DataLoader[Any]:
    """The DataLoader of `TrainingImages` in the order of `RankBatches`.

    workers: processes that load images; 0 loads in this one.
    Raises OSError where the shared memory has no room for their batches.
    """
    if workers:
        _check_shared_memory(images.spec, batches, workers)
    return torch_data.DataLoader(
        images,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
        prefetch_factor=_PREFETCHED if workers > 0 else None,
        # Not by fork: a process that has OpenCV's or ONNX Runtime's threads hangs in its child.
        multiprocessing_context="forkserver" if workers > 0 else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
    )


def _check_shared_memory(spec: SsdSpec, batches: RankBatches, workers: int) -> None:
    """Raises OSError where batches would not fit: then a thread of a worker fails, and the run waits for ever."""
    if not os.path.isdir(_SHARED_MEMORY):
        return
    height, width = spec.input.size
    loaders = int(
        os.environ.get("LOCAL_WORLD_SIZE", "1")
    )  # torchrun's name for the processes of this machine
    at_once = min(workers * _PREFETCHED + 1, len(batches))
    needed = loaders * at_once * batches.batch * height * width * 3
    free = shutil.disk_usage(_SHARED_MEMORY).free
    if needed > free:
        raise OSError(
            f"{_SHARED_MEMORY}: batches of {batches.batch} images from {workers} workers need {needed / 1e6:.0f} MB of "
            f"shared memory, {free / 1e6:.0f} MB are free; take --workers 0, or give the container more: "
            f"docker run --shm-size {-(-2 * needed // (64 << 20)) * 64}m"
        )


def _start_worker(_worker: int) -> None:
    # The processes share the cores; threads of OpenCV's in each would only take turns.
    cv2.setNumThreads(1)
    Thread(target=_end_with_the_run, daemon=True).start()


def _end_with_the_run() -> None:
    # torch's workers look whether their parent has changed, and under forkserver that is the server, which stays as
    # long as a worker does: a run that was killed would leave both behind.
    parent = multiprocessing.parent_process()
    if parent is not None:  # as it is in a worker
        parent.join()
        os._exit(1)


def normalise(images: torch.Tensor, spec: SsdSpec) -> torch.Tensor:
    """(B, height, width, 3) uint8 -> (B, 3, height, width) float32, channels last, as `spec.input` says."""
    mean = torch.tensor(spec.input.mean, device=images.device)
    scale = 1 / torch.tensor(spec.input.std, device=images.device)
    return images.float().sub_(mean).mul_(scale).permute(0, 3, 1, 2)
