"""Order, collation and normalisation of training batches."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edge_ssd import reference  # noqa: E402
from edge_ssd.networks import build_model  # noqa: E402
from edge_ssd.training.augmentation import AUGMENTATIONS  # noqa: E402
from edge_ssd.training.data import RankBatches, RoundSampler, TrainingImages, collate, make_loader, normalise  # noqa: E402
from edge_ssd.training.loop import Trainer  # noqa: E402
from edge_ssd.training.options import TrainOptions  # noqa: E402

pytestmark = pytest.mark.torch

SEEDS = ((3, 0), (4, 0), (3, 1))  # (seed, round)
SPEC = build_model("ssd320_resnet16", 3, input_size=96).spec(["a", "b"])


class Images:
    """A data set of 10 images; image i has i % 3 objects."""

    def __len__(self):
        return 10

    def image(self, index):
        return np.full((50, 60, 3), index, np.uint8)

    def truth(self, index):
        count = index % 3
        return SimpleNamespace(
            boxes=np.tile(np.array([6, 5, 30, 25], np.float32), (count, 1)),
            labels=np.full(count, 1, np.int32),
            difficult=np.zeros(count, bool),
        )


def epoch_of(sampler, epoch):
    sampler.epoch = epoch
    return list(sampler)


def test_every_image_comes_once_before_any_comes_again():
    sampler = RoundSampler(10, 4, seed=1)
    order = [key for epoch in range(5) for key in epoch_of(sampler, epoch)]
    assert len(order) == 20
    assert sorted(order) == [(turn, index) for turn in range(2) for index in range(10)]


def test_order_of_an_epoch_does_not_depend_on_the_ones_before():
    assert epoch_of(RoundSampler(10, 7, 1), 3) == epoch_of(RoundSampler(10, 7, 1), 3)
    assert epoch_of(RoundSampler(10, 10, 1), 0) != epoch_of(RoundSampler(10, 10, 2), 0)


def test_epoch_longer_than_the_data_set_goes_round():
    assert len(epoch_of(RoundSampler(10, 25, 1), 0)) == 25


def test_batch_is_filled_up_with_background():
    images = TrainingImages(Images(), SPEC, AUGMENTATIONS["none"], seed=0)
    batch = collate([images[0, 0], images[0, 2]])
    assert batch.images.shape == (2, 96, 96, 3)
    assert batch.targets.labels.tolist() == [[0, 0], [2, 2]]  # class b is column 2
    torch.testing.assert_close(batch.targets.boxes[1, 0], torch.tensor([0.1, 0.1, 0.5, 0.5]))
    assert batch.indices == (0, 2)


def test_difficult_objects_of_an_image_are_difficult_in_the_batch():
    class Difficult(Images):
        def truth(self, index):
            truth = super().truth(index)
            truth.difficult[1:] = True
            return truth

    images = TrainingImages(Difficult(), SPEC, AUGMENTATIONS["none"], seed=0)
    assert collate([images[0, 1], images[0, 2]]).targets.difficult.tolist() == [[False, False], [False, True]]


def test_another_seed_and_another_round_give_other_views():
    images = [TrainingImages(Images(), SPEC, AUGMENTATIONS["ssd"], seed)[turn, 2] for seed, turn in SEEDS]
    for i, j in itertools.combinations(range(len(images)), 2):
        assert not np.array_equal(images[i][0], images[j][0]) or not np.array_equal(
            images[i][1], images[j][1]
        )
    again = TrainingImages(Images(), SPEC, AUGMENTATIONS["ssd"], SEEDS[0][0])[SEEDS[0][1], 2]
    np.testing.assert_array_equal(again[0], images[0][0])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_trainer_augments_as_its_options_say(name, tmp_path):
    model = build_model("ssd320_resnet16", 3, input_size=96)
    options = TrainOptions(
        augmentation=name, seed=7, batch=2, workers=0, precision="fp32", background_iou=0.3
    )
    trainer = Trainer(model, model.spec(["a", "b"]), Images(), None, options, tmp_path)
    assert trainer.loader.dataset.options is AUGMENTATIONS[name]
    assert trainer.loader.dataset.seed == 7
    assert trainer.loss.thresholds == (0.5, 0.3)


def test_batch_without_any_object():
    images = TrainingImages(Images(), SPEC, AUGMENTATIONS["none"], seed=0)
    assert collate([images[0, 0], images[0, 3]]).targets.boxes.shape == (2, 0, 4)


def test_batches_that_shared_memory_has_no_room_for_are_refused(monkeypatch, tmp_path):
    """Docker gives 64 MB: a worker's thread would fail, and the run would wait for ever."""
    images = TrainingImages(Images(), SPEC, AUGMENTATIONS["none"], seed=0)
    batches = RankBatches(RoundSampler(10, 20, 0), 4)
    height, width = SPEC.input.size
    needed = (2 * 2 + 1) * 4 * height * width * 3
    for free, workers, processes, refused in (
        (needed, 2, "1", False),
        (needed - 1, 2, "1", True),
        (needed - 1, 1, "1", False),
        (0, 0, "1", False),
        (2 * needed - 1, 2, "2", True),
    ):
        monkeypatch.setattr("edge_ssd.training.data._SHARED_MEMORY", str(tmp_path))
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        if not refused:
            make_loader(images, batches, workers)
            continue
        with pytest.raises(
            OSError, match=r"from 2 workers need .* free; take --workers 0, or .* --shm-size 64m"
        ):
            make_loader(images, batches, workers)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=needed // 5))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    make_loader(images, RankBatches(RoundSampler(10, 4, 0), 4), 2)  # an epoch of one batch
    monkeypatch.setattr("edge_ssd.training.data._SHARED_MEMORY", str(tmp_path / "elsewhere"))
    make_loader(images, batches, 2)  # a system that has none


@pytest.mark.parametrize("workers", [0, 1])
def test_loader_gives_the_same_batches_with_and_without_a_worker(workers):
    images = TrainingImages(Images(), SPEC, AUGMENTATIONS["ssd"], seed=3)
    sampler = RoundSampler(10, 10, seed=3)
    loader = make_loader(images, RankBatches(sampler, 4), workers)
    batches = list(loader)
    assert [batch.indices for batch in batches] == [
        tuple(index for _, index in epoch_of(sampler, 0)[start : start + 4]) for start in (0, 4)
    ]
    expected = collate([images[key] for key in epoch_of(sampler, 0)[:4]])
    assert torch.equal(batches[0].images, expected.images)
    assert torch.equal(batches[0].targets.boxes, expected.targets.boxes)


def test_normalisation_equals_the_runtimes():
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    expected, _ = reference.preprocess(image, SPEC)
    rgb = torch.from_numpy(image[None, ..., ::-1].copy())
    found = normalise(rgb, SPEC)
    assert found.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
