"""A whole run on a few small images: what it learns, writes, resumes and refuses."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edge_ssd.datasets import Dataset, Truth  # noqa: E402
from edge_ssd.networks import build_model  # noqa: E402
from edge_ssd.networks.checkpoint import load_checkpoint, load_model, save_checkpoint  # noqa: E402
from edge_ssd.training.history import read_metrics  # noqa: E402
from edge_ssd.training.loop import Trainer, make_optimizer  # noqa: E402
from edge_ssd.training.options import TrainOptions  # noqa: E402

pytestmark = pytest.mark.torch

SIDE = 96


class Shapes(Dataset):
    """Fixed images of discs and squares on noise."""

    def __init__(self, length=8):
        super().__init__("shapes", ("disc", "square"))
        self._items = [self._draw(np.random.default_rng(seed)) for seed in range(length)]

    @staticmethod
    def _draw(rng):
        image = rng.integers(0, 80, (SIDE, SIDE, 3), np.uint8)
        boxes, labels = [], []
        for column in range(2):
            label, radius = int(rng.integers(2)), int(rng.integers(9, 20))
            x, y = (
                int(rng.integers(radius, 48 - radius + 1)) + 48 * column,
                int(rng.integers(radius, SIDE - radius)),
            )
            color = tuple(int(v) for v in rng.integers(120, 256, 3))
            if label:
                cv2.rectangle(image, (x - radius, y - radius), (x + radius, y + radius), color, -1)
            else:
                cv2.circle(image, (x, y), radius, color, -1)
            boxes.append([x - radius, y - radius, x + radius + 1, y + radius + 1])
            labels.append(label)
        return image, Truth(
            np.array(boxes, np.float32), np.array(labels, np.int32), np.zeros(2, bool), (SIDE, SIDE)
        )

    def __len__(self):
        return len(self._items)

    def image_name(self, index):
        return f"shapes/{index}.png"

    def image(self, index):
        return self._items[index][0]

    def truth(self, index):
        return self._items[index][1]

    def annotation(self, index):
        raise NotImplementedError("the truth is given")

    def check(self):
        pass


class Interrupted(Shapes):
    """Shapes that a user stops waiting for."""

    def __init__(self, images):
        super().__init__()
        self._left = images

    def image(self, index):
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        return super().image(index)


def trainer(folder, train_set=None, val_set=None, **options):
    """A Trainer of a 96 x 96 network on the shapes."""
    torch.manual_seed(0)
    given = {"batch": 8, "workers": 0, "augmentation": "none", "ema": 0.0, "warmup": 5, "precision": "fp32"}
    model = build_model("ssd320_resnet16", 3, input_size=SIDE)
    spec = model.spec(Shapes(0).class_names)
    return Trainer(model, spec, train_set or Shapes(), val_set, TrainOptions(**{**given, **options}), folder)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_eight_images_are_learned_by_heart(tmp_path):
    shapes = Shapes()
    history = trainer(tmp_path, shapes, shapes, epochs=3, epoch_images=200, lr=3e-3, val_every=3).run()
    assert history[-1]["AP50"] > 0.9
    assert history[-1]["loss"] < 0.1 * history[0]["loss"]


def test_run_leaves_checkpoints_metrics_and_a_picture(tmp_path):
    trainer(tmp_path / "runs" / "a", epochs=2, val_set=Shapes(2)).run()
    folder = tmp_path / "runs" / "a"
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.pt",
        "curve.png",
        "last.pt",
        "metrics.jsonl",
    ]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert {"loss", "loss_loc", "loss_conf", "lr", "images_per_s", "AP", "AP50"} <= set(lines[1])
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_best_checkpoint_is_of_the_epoch_with_the_best_ap(tmp_path):
    run = trainer(tmp_path, epochs=4, val_set=Shapes(2))
    scores = iter([0.3, 0.5, 0.4, 0.45])
    run._validate = lambda: dict.fromkeys(("AP", "AP50"), next(scores))
    run.run()
    assert load_checkpoint(tmp_path / "best.pt")["epoch"] == 2
    assert load_checkpoint(tmp_path / "last.pt")["epoch"] == 4


def test_without_validation_the_best_epoch_is_that_of_the_lowest_loss(tmp_path):
    run = trainer(tmp_path, epochs=3)
    train_epoch, losses = run._train_epoch, iter([3.0, 1.0, 2.0])
    run._train_epoch = lambda: {**train_epoch(), "loss": next(losses)}
    run.run()
    assert load_checkpoint(tmp_path / "best.pt")["epoch"] == 2


def test_an_epoch_is_kept_when_its_validation_fails(tmp_path):
    run = trainer(tmp_path, epochs=2, val_set=Shapes(2))

    def fail():
        raise ValueError("b.png: cannot be decoded")

    run._validate = fail
    with pytest.raises(ValueError, match=r"b\.png"):
        run.run()
    assert load_checkpoint(tmp_path / "last.pt")["epoch"] == 1
    assert [m["epoch"] for m in read_metrics(tmp_path / "metrics.jsonl", before_epoch=9)] == [1]


def resumed(folder, epochs, **options):
    """A Trainer that goes on from the last.pt of a run with validation."""
    run = trainer(folder, epochs=epochs, val_set=Shapes(2), **options)
    checkpoint = load_checkpoint(folder / "last.pt")
    run.resume(checkpoint, read_metrics(folder / "metrics.jsonl", checkpoint["epoch"]))
    return run


def killed_in_validation(folder, scores, epochs, **options):
    """A run whose validations give `scores`, and that is stopped in the one after them."""
    run, scores = trainer(folder, epochs=epochs, val_set=Shapes(2), **options), iter(scores)

    def validate():
        score = next(scores, None)
        if score is None:
            raise KeyboardInterrupt
        return dict.fromkeys(("AP", "AP50"), score)

    run._validate = validate
    with pytest.raises(KeyboardInterrupt):
        run.run()


@pytest.mark.parametrize("epochs", [2, 3])
@pytest.mark.parametrize(("score", "best"), [(0.5, 2), (0.1, 1)])
def test_an_epoch_whose_validation_was_killed_is_validated_by_the_resumed_run(tmp_path, epochs, score, best):
    """The last epoch of a run, too."""
    killed_in_validation(tmp_path, [0.3], epochs)
    run = resumed(tmp_path, epochs)
    seen = []
    run._validate = lambda: (
        seen.append(run.epoch),
        dict.fromkeys(("AP", "AP50"), score if run.epoch == 2 else 0),
    )[1]
    history = run.run()
    assert seen == list(range(2, epochs + 1))
    assert [m["AP"] for m in history] == [0.3, score, 0][:epochs]
    assert history == read_metrics(tmp_path / "metrics.jsonl", 9)
    assert load_checkpoint(tmp_path / "best.pt")["epoch"] == best


def test_the_validation_made_up_for_is_of_the_weights_of_that_epoch(tmp_path, monkeypatch):
    killed_in_validation(tmp_path, [0.3], 2, ema=0.9)
    run, seen = resumed(tmp_path, 2, ema=0.9), []

    def evaluate(detector, *_, **__):
        seen.append(detector._backend.engine.model.state_dict())
        return {"AP": 0.4, "AP50": 0.4, "VOC_AP50_area": 0.4}

    monkeypatch.setattr("edge_ssd.training.loop.evaluate", evaluate)
    run.run()
    last, best = (load_checkpoint(tmp_path / name) for name in ("last.pt", "best.pt"))
    assert len(seen) == 1
    for name, tensor in last["ema"].items():
        assert torch.equal(seen[0][name], tensor), name
        assert torch.equal(best["ema"][name], tensor), name
    assert torch.equal(best["rng"], last["rng"])


def test_an_epoch_that_was_not_to_be_validated_is_not_made_up_for(tmp_path):
    killed_in_validation(tmp_path, [], 4, val_every=2)
    assert load_checkpoint(tmp_path / "last.pt")["epoch"] == 2
    run = resumed(tmp_path, 4, val_every=3)
    run._validate = lambda: dict.fromkeys(("AP", "AP50"), 0.5)
    assert [m["epoch"] for m in run.run() if "AP" in m] == [3, 4]


def test_metrics_that_were_not_written_are_those_of_the_checkpoint(tmp_path):
    killed_in_validation(tmp_path, [0.3], 2)
    metrics = tmp_path / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    metrics.write_text(lines[0] + "\n")  # killed between last.pt and this
    run = resumed(tmp_path, 2)
    run._validate = lambda: dict.fromkeys(("AP", "AP50"), 0.5)
    second = {**json.loads(lines[1]), "AP": 0.5, "AP50": 0.5}
    assert run.run() == [json.loads(lines[0]), second]


def test_a_run_that_stops_by_itself_does_so_after_a_validation_made_up_for(tmp_path):
    killed_in_validation(tmp_path, [0.5, 0.4], 9, patience=2)
    run = resumed(tmp_path, 9, patience=2)
    run._validate = lambda: dict.fromkeys(("AP", "AP50"), 0.3)
    assert len(run.run()) == 3


def test_without_validation_the_best_epoch_is_there_before_the_last(tmp_path):
    """Killed between the two, the run trains the epoch again; the other way round best.pt would stay the older one."""
    run, saved = trainer(tmp_path, epochs=1), []
    save = run._save
    run._save = lambda name, metrics: (saved.append(name), save(name, metrics))
    run.run()
    assert saved == ["best.pt", "last.pt"]


def test_two_trainings_into_one_folder_are_refused(tmp_path):
    run = trainer(tmp_path, epochs=1)
    train_epoch = run._train_epoch

    def meanwhile():
        with pytest.raises(
            ValueError, match=r"last\.pt: another training is writing this run; wait for it, or take"
        ):
            trainer(tmp_path, epochs=1).run()
        return train_epoch()

    run._train_epoch = meanwhile
    assert len(run.run()) == 1
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("damage", [{"optimizer": {"state": 5}}, {"rng": torch.zeros(3)}, {"optimizer": {}}])
def test_a_damaged_state_is_one_line(tmp_path, damage):
    trainer(tmp_path, epochs=1).run()
    with pytest.raises(ValueError, match="resume: the state of the run is damaged"):
        trainer(tmp_path, epochs=2).resume({**load_checkpoint(tmp_path / "last.pt"), **damage})


@pytest.mark.parametrize(
    "line", ["[]", "{}", '{"epoch": "1"}', "[" * 9999, "\xff", '{"epoch": 1, "loss": "x"}', "5"]
)
def test_lines_that_are_no_metrics_are_left_out(tmp_path, line):
    whole = dict.fromkeys(("epoch", "loss", "loss_loc", "loss_conf", "lr", "images_per_s", "train_s"), 1)
    (tmp_path / "m.jsonl").write_bytes(f"{line}\n{json.dumps(whole)}\n".encode("latin-1"))
    assert read_metrics(tmp_path / "m.jsonl", 1) == [whole]


def test_every_epoch_is_a_line_of_the_log(tmp_path, capsys):
    trainer(tmp_path, epochs=2, val_set=Shapes(2), val_every=2).run()
    lines = [line for line in capsys.readouterr().err.splitlines() if "images/s" in line]
    assert [line.split(":")[0].strip() for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "AP50" not in lines[0]
    assert "AP50" in lines[1]


def test_of_a_short_run_a_tenth_warms_up(tmp_path):
    run = trainer(tmp_path, epochs=20, warmup=300, lr=1.0)
    rates = [run._set_learning_rate(step, 20) for step in range(20)]
    assert max(rates) == rates[1] == 1.0
    assert rates[-1] < 0.02


def test_gradients_are_clipped_and_what_has_one_dimension_does_not_decay(tmp_path):
    run = trainer(tmp_path, clip_norm=1e-6, optimizer="sgd", momentum=0.5, weight_decay=0.25, lr=1.0)
    run._set_learning_rate(9, 10)
    run.step(next(iter(run.loader)))
    norm = sum(float(p.grad.square().sum()) for p in run.model.parameters()) ** 0.5
    assert norm == pytest.approx(1e-6, rel=1e-3)
    matrices, vectors = make_optimizer(run.model, run.options).param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.25, 0.0)
    assert (matrices["momentum"], vectors["momentum"]) == (0.5, 0.5)
    assert {p.ndim for p in vectors["params"]} == {1}
    assert 1 not in {p.ndim for p in matrices["params"]}


def test_the_averaged_weights_are_validated(tmp_path, monkeypatch):
    run, seen = trainer(tmp_path, epochs=1, val_set=Shapes(2), ema=0.9, lr=0.01), []

    def evaluate(detector, *_, **__):
        seen.append(detector._backend.engine.model.state_dict())
        return {"AP": 0.1, "AP50": 0.1, "VOC_AP50_area": 0.1}

    monkeypatch.setattr("edge_ssd.training.loop.evaluate", evaluate)
    run.run()
    name = next(name for name, value in run.model.state_dict().items() if value.ndim == 4)
    assert torch.equal(seen[0][name], run.average.state[name])
    assert not torch.equal(seen[0][name], run.model.state_dict()[name])


def test_what_is_background_reaches_the_loss(tmp_path):
    assert trainer(tmp_path, background_iou=0.3).loss.thresholds == (0.5, 0.3)


def test_one_image_is_no_batch_for_a_batch_norm(tmp_path):
    with pytest.raises(ValueError, match="batch: expected at least 2; this network normalises"):
        trainer(tmp_path, batch=1)


def test_loss_that_is_no_number_stops_the_run_and_names_the_images(tmp_path):
    broken = trainer(tmp_path)
    with torch.no_grad():
        next(broken.model.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match=r"loss: .*nan.*epoch 1; lower --lr .*shapes/0\.png"):
        broken.run()
    assert not (tmp_path / "last.pt").exists()


def test_gradient_that_is_no_number_stops_the_run_before_the_weights_are_touched(tmp_path):
    run = trainer(tmp_path, clip_norm=0)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    parameter = next(run.model.parameters())
    parameter.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(ValueError, match=r"gradient: expected finite numbers, .* shapes/\d\.png"):
        run.step(next(iter(run.loader)))
    assert all(torch.equal(p, before[name]) for name, p in run.model.named_parameters())


def test_averaged_weights_are_what_a_detector_loads(tmp_path):
    run = trainer(tmp_path, epochs=1, ema=0.5)
    run.run()
    model, spec = load_model(tmp_path / "last.pt")
    assert spec == run.spec
    name = "stem.0.weight"
    torch.testing.assert_close(model.backbone.state_dict()[name], run.average.state["backbone." + name])
    assert not torch.equal(model.backbone.state_dict()[name], run.model.backbone.state_dict()[name])


def test_batch_larger_than_an_epoch_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch: expected at most the 8 images of an epoch, got 16"):
        trainer(tmp_path, batch=16)


def test_training_in_bf16_stays_near_training_in_fp32(tmp_path):
    losses = [
        trainer(tmp_path, epochs=1, precision=precision).run()[0]["loss"] for precision in ("fp32", "bf16")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)  # bfloat16 keeps 8 bits


def test_optimizer_of_a_run_stays_when_it_is_resumed(tmp_path):
    trainer(tmp_path, epochs=1).run()
    with pytest.raises(ValueError, match="optimizer: the run to resume has adamw, got sgd"):
        trainer(tmp_path, epochs=2, optimizer="sgd").resume(load_checkpoint(tmp_path / "last.pt"))


def test_weights_alone_cannot_be_resumed(tmp_path):
    run = trainer(tmp_path)
    save_checkpoint(tmp_path / "plain.pt", run.model, run.spec)
    with pytest.raises(ValueError, match=r"resume: the checkpoint holds no run, .*optimizer"):
        run.resume(load_checkpoint(tmp_path / "plain.pt"))


def test_run_stops_when_it_gets_no_better(tmp_path):
    run = trainer(tmp_path, epochs=9, val_set=Shapes(2), patience=2)
    run._validate = lambda: {"AP": 0.5, "AP50": 0.5}
    assert len(run.run()) == 3


def test_stop_counts_validations_and_not_epochs(tmp_path):
    run = trainer(tmp_path, val_set=Shapes(2), patience=2)
    scores = [{"AP": 0.1}, {}, {"AP": 0.3}, {}, {"AP": 0.2}, {}]
    assert not run._stops(scores)
    assert run._stops([*scores, {"AP": 0.3}])
    assert not run._stops([*scores, {"AP": 0.31}])
    assert not run._stops([{"AP": 0.0}] * 9)  # it has not begun to learn
    assert not run._stops([*[{"AP": 0.0}] * 9, {"AP": 0.1}])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_resumed_run_is_the_same_to_the_bit(tmp_path, optimizer):
    options = {"augmentation": "ssd", "ema": 0.9, "optimizer": optimizer, "lr": 1e-3, "schedule": "step"}
    whole = trainer(tmp_path / "whole", epochs=3, **options)
    expected = whole.run()
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "parts", Interrupted(images=12), epochs=3, **options).run()  # in the second epoch
    second = trainer(tmp_path / "parts", epochs=3, **options)
    history = read_metrics(tmp_path / "parts" / "metrics.jsonl", before_epoch=1)
    second.resume(load_checkpoint(tmp_path / "parts" / "last.pt"), history)
    assert [(m["epoch"], m["loss"]) for m in second.run()] == [(m["epoch"], m["loss"]) for m in expected]
    for state, other in (
        (whole.model.state_dict(), second.model.state_dict()),
        (whole.average.state, second.average.state),
    ):
        for name, tensor in state.items():
            assert torch.equal(other[name], tensor), name


def test_tensorboard_gets_losses_scores_and_pictures(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trainer(tmp_path, epochs=2, val_set=Shapes(2), tensorboard=True).run()
    events = reader.EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    assert {"loss/loss", "loss/loss_loc", "loss/loss_conf", "validation/AP", "run/lr"} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("validation/AP")] == [1, 2]
    assert {"matched priors", "detections/0", "detections/1"} <= set(tags["images"])
    assert events.Images("detections/0")[0].width == SIDE


def test_nan_keeps_the_checkpoint_of_the_last_good_epoch(tmp_path):
    run = trainer(tmp_path, epochs=3)
    train_epoch = run._train_epoch

    def break_after_one():
        if run.epoch == 1:
            with torch.no_grad():
                next(run.model.parameters()).fill_(torch.nan)
        return train_epoch()

    run._train_epoch = break_after_one
    with pytest.raises(ValueError, match=r"epoch 2; .*shapes/\d\.png"):
        run.run()
    content = load_checkpoint(tmp_path / "last.pt")
    assert content["epoch"] == 1
    assert all(torch.isfinite(t).all() for t in content["model"].values())
