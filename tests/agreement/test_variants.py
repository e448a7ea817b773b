"""`edge-ssd verify`: forms that agree pass, and of one that does not the first step that departs is named."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import onnx
import pytest

from edge_ssd import loading
from edge_ssd.agreement import tolerances, variants
from edge_ssd.agreement.variants import STEPS, Variant, compare, comparisons, precision_of, variants_beside
from edge_ssd.backends.cuda import CudaBackend
from edge_ssd.build_engine.fp16 import convert_to_fp16
from edge_ssd.build_engine.images import read_some
from edge_ssd.build_engine.session import open_bytes
from edge_ssd.cli import main
from edge_ssd.engines import choice
from edge_ssd.engines.choice import CpuEngine, usable_cpu_engines
from edge_ssd.files import file_sha256
from edge_ssd.model_files.bundle import write_bundle
from edge_ssd.model_files.manifest import EngineFile
from edge_ssd.models import DEMO_MODEL
from edge_ssd.spec import SsdSpec
from tests.build_engine.graphs import residual, save, small_spec
from tests.kernels.simulated_engine import SimulatedEngine
from tests.model_files.test_manifest import MANIFEST

ONE_THREAD = replace(variants.OPTIONS, threads=1)
BF16, FP32 = CpuEngine("openvino", "bf16"), CpuEngine("openvino", "fp32")
FEW = ["--threads", "1", "--images", "demo://?seed=1&frames=2&scene=1"]
needs_openvino = pytest.mark.skipif(not find_spec("openvino"), reason="openvino is not installed")


@pytest.fixture(scope="module")
def images():
    return read_some("demo://?seed=1&frames=4&scene=1", 4)


@pytest.fixture
def demo(tmp_path):
    return saved(tmp_path / "demo.onnx", onnx.load(DEMO_MODEL))


def saved(path, proto, **changes):
    """The demo model, or one made of it, with its spec."""
    onnx.save(proto, path)
    spec = SsdSpec.load(DEMO_MODEL.with_suffix(".json"))
    SsdSpec.from_json(spec.to_json()).save(path.with_suffix(".json"))
    for key, value in changes.items():
        text = path.with_suffix(".json").read_text()
        path.with_suffix(".json").write_text(text.replace(key, value))
    return path


def differences(truth, form, images):
    return {d.step: d for d in compare(Variant(truth, ONE_THREAD), Variant(form, ONE_THREAD), images)}


def test_the_model_agrees_with_itself_exactly(demo, images):
    found = differences(demo, demo, images)
    assert list(found) == list(STEPS)
    assert all(d.value == 0 for d in found.values())
    assert "0 of " in found["detections"].detail
    assert not found["detections"].detail.startswith("0 of 0")


def test_fp16_is_within_its_tolerance(demo, images):
    half = convert_to_fp16(onnx.load(demo))[0]
    found = differences(demo, saved(demo.with_name("demo.fp16.onnx"), half), images)
    assert not any(d.departs for d in found.values())
    assert 1e-4 < found["loc"].value < found["loc"].limit  # it is another precision
    assert found["preprocess"].value == found["postprocess"].value == 0


def with_head(factor, name):
    """The demo model with one head scaled."""
    model = onnx.load(DEMO_MODEL)
    maker = next(node for node in model.graph.node if node.output[0] == name)
    maker.output[0] = "before"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(factor), "factor"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["before", "factor"], [name], name="scaled"))
    return model


@pytest.mark.parametrize("name", ["loc", "conf"])
def test_the_head_that_departs_is_named(demo, images, name, capsys):
    other = saved(demo.with_name("wrong.onnx"), with_head(0.5, name))
    found = differences(demo, other, images)
    assert next(step for step, d in found.items() if d.departs) == name
    assert main(["verify", str(demo), str(other), *FEW]) == 1
    assert f"wrong.onnx departs first in {name}" in capsys.readouterr().err


def test_a_nan_on_one_image_is_not_forgotten_on_the_next(demo, images):
    form, calls = Variant(demo, ONE_THREAD), []
    right = form.backend.infer

    def infer(batch):
        loc, conf = right(batch)
        calls.append(1)
        return loc * np.float32(np.nan if len(calls) == 1 else 1), conf

    form.backend.infer = infer
    found = {d.step: d for d in compare(Variant(demo, ONE_THREAD), form, images)}
    assert found["loc"].departs


def test_another_preprocessing_is_named_before_its_consequences(demo, images):
    other = saved(demo.with_name("bgr.onnx"), onnx.load(DEMO_MODEL), **{'"rgb"': '"bgr"'})
    departs = [step for step, d in differences(demo, other, images).items() if d.departs]
    assert departs[0] == "preprocess"
    assert "loc" in departs


def test_post_processing_of_its_own_is_compared_on_its_own_heads(demo, images):
    form = Variant(demo, ONE_THREAD)
    right = form.backend.postprocess

    def moved(loc, conf):
        rows, counts = right(loc, conf)
        return rows + np.float32(1e-3), counts

    form.backend.postprocess = moved
    found = {d.step: d for d in compare(Variant(demo, ONE_THREAD), form, images)}
    assert next(step for step, d in found.items() if d.departs) == "postprocess"


def test_nan_departs(demo, images):
    other = saved(demo.with_name("nan.onnx"), with_head(np.nan, "loc"))
    assert differences(demo, other, images)["loc"].departs


def test_precision_by_name():
    names = ["a.onnx", "a.fp16.onnx", "a.int8.rtx.engine", "a.int8-cpu.onnx", "fp16.onnx", "best.pt"]
    assert [precision_of(name) for name in names] == ["fp32", "fp16", "int8", "int8", "fp32", "fp32"]


@pytest.fixture
def no_gpu(monkeypatch):
    def none():
        raise OSError("no NVIDIA driver on this machine")

    monkeypatch.setattr(loading, "gpu_info", none)


@pytest.fixture
def no_openvino(monkeypatch):
    monkeypatch.setattr(choice, "find_spec", lambda name: None if name == "openvino" else find_spec(name))


def with_plan(model):
    """An engine beside the model, whole as far as anyone can tell without TensorRT."""
    plan = model.with_name("demo.int8.engine")
    plan.write_bytes(b"plan")
    manifest = replace(MANIFEST, engine_bytes=4, engine_sha256=file_sha256(plan))
    EngineFile(SsdSpec.load(model.with_suffix(".json")), manifest).save(plan)
    return plan


def test_what_lies_beside_is_compared_and_what_this_machine_cannot_run_is_said(demo, capsys, no_gpu):
    saved(demo.with_name("demo.fp16.onnx"), convert_to_fp16(onnx.load(demo))[0])
    with_plan(demo)
    assert [path.name for path in variants_beside(demo)] == ["demo.fp16.onnx", "demo.int8.engine"]
    assert main(["verify", str(demo), *FEW]) == 0
    shown = capsys.readouterr().out
    assert "demo.fp16.onnx (fp16, ONNX Runtime" in shown
    assert "demo.int8.engine: not compared" in shown
    assert all(step in shown for step in STEPS)


def test_a_form_that_was_asked_for_and_is_not_there_is_an_error(demo, capsys):
    assert main(["verify", str(demo), str(demo.with_name("none.onnx")), "--threads", "1"]) == 1
    assert capsys.readouterr().err.count("no such model file") == 1  # once, not for every engine


def test_a_form_that_was_asked_for_and_cannot_run_here_is_an_error(demo, capsys, no_gpu):
    assert main(["verify", str(demo), str(with_plan(demo)), *FEW]) == 1
    assert "an engine runs on a GPU" in capsys.readouterr().err


def test_a_broken_form_beside_the_model_fails(demo, capsys, no_openvino):
    whole = saved(demo.with_name("demo.int8.onnx"), onnx.load(demo))
    whole.write_bytes(whole.read_bytes()[:300_000])
    saved(demo.with_name("demo.fp16.onnx"), convert_to_fp16(onnx.load(demo))[0])
    assert main(["verify", str(demo), *FEW]) == 1
    shown = capsys.readouterr()
    assert "demo.int8.onnx: FAILS: " in shown.out
    (line,) = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert "demo.int8.onnx: ONNX Runtime cannot load this model" in line
    assert "demo.fp16.onnx (fp16, ONNX Runtime" in shown.out  # the others are compared all the same


def test_a_form_of_another_model_fails(demo, capsys, no_openvino):
    """It runs, and its heads have another shape."""
    save(demo.parent, residual()).replace(demo.with_name("demo.fp16.onnx"))
    demo.with_name("small.json").replace(demo.with_name("demo.fp16.json"))
    assert main(["verify", str(demo), *FEW]) == 1
    shown = capsys.readouterr()
    assert "demo.fp16.onnx: FAILS: " in shown.out
    assert "it was made of another model" in shown.err


def test_an_engine_without_its_manifest_fails_on_any_machine(demo, capsys, no_gpu):
    demo.with_name("demo.int8.engine").write_bytes(b"plan")
    assert main(["verify", str(demo), *FEW]) == 1
    assert "demo.int8.engine.json: no manifest beside demo.int8.engine" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"pla", b"plan ", b"plbn"])
def test_another_engine_than_its_manifest_describes_fails_on_any_machine(demo, capsys, no_gpu, content):
    with_plan(demo).write_bytes(content)
    assert main(["verify", str(demo), *FEW]) == 1
    assert "demo.int8.engine: is not the engine that its manifest describes" in capsys.readouterr().err


def test_the_model_as_it_is_is_no_form_of_itself(demo, capsys, no_openvino):
    assert main(["verify", str(demo), str(demo), *FEW]) == 1
    assert "nothing was compared" in capsys.readouterr().err


def test_nothing_beside_the_model_is_no_success(demo, capsys, no_openvino):
    assert main(["verify", str(demo), *FEW]) == 1
    shown = capsys.readouterr()
    assert "FP16, INT8: not compared; none lies beside the model" in shown.out
    assert "OpenVINO: not compared; it is not installed" in shown.out
    assert (
        "error: nothing was compared; no other form of demo.onnx runs here. Make one: edge-ssd build"
        in shown.err
    )


def test_forms_that_this_machine_cannot_run_are_no_success(demo, capsys, no_gpu, no_openvino):
    with_plan(demo)
    assert main(["verify", str(demo), *FEW]) == 1
    shown = capsys.readouterr()
    assert "demo.int8.engine: not compared" in shown.out
    assert "nothing was compared" in shown.err


@pytest.mark.parametrize("most", ["0", "-1", "x"])
def test_at_least_one_image(demo, capsys, most):
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(demo), "--most", most])
    assert ended.value.code == 2
    assert f"expected a whole number above 0, got '{most}'" in capsys.readouterr().err


@needs_openvino
def test_every_form_is_compared_in_every_engine(demo, capsys):
    saved(demo.with_name("demo.fp16.onnx"), convert_to_fp16(onnx.load(demo))[0])
    assert main(["verify", str(demo), *FEW]) == 0
    shown = capsys.readouterr().out
    assert "demo.onnx (fp32, OpenVINO" in shown
    assert "demo.onnx (fp32, ONNX Runtime" not in shown  # which it is compared with
    assert "demo.fp16.onnx (fp16, ONNX Runtime" in shown
    assert "demo.fp16.onnx (fp16, OpenVINO" in shown


@needs_openvino
def test_a_form_that_departs_in_one_engine_alone_is_named_with_it(demo, capsys, monkeypatch):
    from edge_ssd.engines.openvino_engine import OpenVinoEngine

    right = OpenVinoEngine.infer
    monkeypatch.setattr(
        OpenVinoEngine, "infer", lambda self, batch: [1.1 * head for head in right(self, batch)]
    )
    assert main(["verify", str(demo), *FEW]) == 1
    assert "demo.onnx departs first in loc (0.1, limit 0.001; OpenVINO" in capsys.readouterr().err


@needs_openvino
@pytest.mark.parametrize("bf16", [False, True])
def test_bf16_is_a_row_of_its_own_where_the_cpu_has_it_unless_it_is_turned_off(
    demo, capsys, monkeypatch, bf16
):
    monkeypatch.delenv("EDGE_SSD_PRECISION", raising=False)
    monkeypatch.setenv("EDGE_SSD_ASSUME_BF16", str(int(bf16)))
    main(["verify", str(demo), *FEW])
    shown = capsys.readouterr().out
    assert ("demo.onnx (bf16, OpenVINO" in shown) is bf16
    assert ("OpenVINO in BF16: not compared; this CPU has no BF16" in shown) is not bf16
    main(["verify", str(demo), *FEW, "--precision", "fp32"])
    assert "(bf16, " not in capsys.readouterr().out
    monkeypatch.setenv("EDGE_SSD_PRECISION", "fp32")
    main(["verify", str(demo), *FEW])
    assert "(bf16, " not in capsys.readouterr().out


@needs_openvino
@pytest.mark.parametrize("bf16", [False, True])
def test_bf16_is_an_engine_where_the_cpu_has_it(monkeypatch, bf16):
    monkeypatch.delenv("EDGE_SSD_PRECISION", raising=False)
    monkeypatch.setenv("EDGE_SSD_ASSUME_BF16", str(int(bf16)))
    everything = [variants.TRUTH_ENGINE, FP32, *[BF16] * bf16]
    assert usable_cpu_engines() == everything
    assert usable_cpu_engines("fp32") == everything[:2]
    if bf16:
        assert usable_cpu_engines("bf16") == everything[2:]


def test_an_engine_or_a_checkpoint_has_one_way_to_run(tmp_path):
    forms = [tmp_path / name for name in ("a.fp16.onnx", "a.engine", "a.pt")]
    assert [(path.name, engine) for path, engine in comparisons(forms, [FP32, BF16])] == [
        ("a.fp16.onnx", FP32),
        ("a.fp16.onnx", BF16),
        ("a.engine", None),
        ("a.pt", None),
    ]


def test_the_engine_is_asked_for_and_decides_the_tolerance(demo, monkeypatch):
    """No BF16 is needed to see which limits it has."""
    opened, asked = variants.load_backend, []

    def load(path, options):
        asked.append(CpuEngine(options.engine, options.precision))
        return opened(path, replace(options, engine="onnxruntime", precision="fp32"))

    monkeypatch.setattr(variants, "load_backend", load)
    quantised = saved(demo.with_name("demo.int8.onnx"), onnx.load(demo))
    assert Variant(demo, ONE_THREAD, BF16).precision == "bf16"
    assert Variant(quantised, ONE_THREAD, BF16).precision == "int8"
    assert Variant(demo, ONE_THREAD, FP32).precision == "fp32"
    assert asked == [BF16, BF16, FP32]


def test_names_stand_for_the_files_behind_them(demo, capsys, no_openvino, monkeypatch, tmp_path):
    """The model by the name that comes with the package; a bundle by what it runs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    half = saved(demo.with_name("demo.fp16.onnx"), convert_to_fp16(onnx.load(demo))[0])
    write_bundle(demo, tmp_path / "robot.zip", run=[half.name])
    assert main(["verify", "demo", str(tmp_path / "robot.zip"), *FEW]) == 0
    assert "demo.fp16.onnx (fp16, ONNX Runtime" in capsys.readouterr().out


@pytest.mark.torch
def test_a_checkpoint_is_a_form_too(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    from edge_ssd.networks import build_model
    from edge_ssd.networks.checkpoint import save_checkpoint
    from edge_ssd.training.export_onnx import export_onnx

    torch.manual_seed(0)
    model = build_model("ssd320_resnet16", 3, input_size=96).eval()
    spec = model.spec(["a", "b"])
    save_checkpoint(tmp_path / "m.pt", model, spec)
    export_onnx(model, spec, tmp_path / "m.onnx")
    forms = [str(tmp_path / "m.onnx"), str(tmp_path / "m.pt")]
    assert main(["verify", *forms, "--images", "demo://?seed=1&frames=2", "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    assert "m.pt (fp32, torch" in shown
    assert "torch: not compared" not in shown


def test_kernels_are_compared_step_by_step(tmp_path, rng, simulated, monkeypatch):
    """An engine's form has the GPU's steps; here they run on the simulated device."""
    path = save(tmp_path, residual())
    session = open_bytes(path.read_bytes(), threads=1)
    engine = SimulatedEngine(
        simulated, lambda batch: session.run(["loc", "conf"], {"image": batch}), (100, 100)
    )
    backend = CudaBackend(engine, small_spec(), None, simulated, memory="pinned")
    on_cpu = variants.load_backend
    monkeypatch.setattr(
        variants, "load_backend", lambda p, options: backend if p.suffix == ".engine" else on_cpu(p, options)
    )
    image = rng.integers(0, 256, (60, 90, 3), np.uint8)
    found = compare(Variant(path, ONE_THREAD), Variant(path.with_suffix(".engine"), ONE_THREAD), [image])
    assert [d.step for d in found] == list(STEPS)
    assert not any(d.departs for d in found)
    assert engine.calls > 0


def test_a_checkpoint_in_float16_is_compared_as_such(tmp_path, rng, simulated, monkeypatch):
    """As torch runs it on a GPU; its name says nothing of it."""
    path = save(tmp_path, residual())
    session = open_bytes(path.read_bytes(), threads=1)
    network = lambda batch: session.run(["loc", "conf"], {"image": batch})  # noqa: E731
    engine = SimulatedEngine(simulated, network, (100, 100), dtype=np.float16)
    backend = CudaBackend(engine, small_spec(), None, simulated, memory="pinned")
    on_cpu = variants.load_backend
    monkeypatch.setattr(
        variants, "load_backend", lambda p, options: backend if p.suffix == ".pt" else on_cpu(p, options)
    )
    form = Variant(path.with_suffix(".pt"), ONE_THREAD)
    assert form.precision == "fp16"
    found = compare(Variant(path, ONE_THREAD), form, [rng.integers(0, 256, (60, 90, 3), np.uint8)])
    assert not any(d.departs for d in found)
    assert found[0].value > tolerances.PIXEL_LEVELS / min(small_spec().input.std)  # float16 rounds it


def test_tolerances_grow_with_what_a_precision_loses():
    fp32, fp16, bf16, int8 = (tolerances.TOLERANCES[name] for name in ("fp32", "fp16", "bf16", "int8"))
    assert fp32.head < fp16.head < bf16.head < int8.head
    assert fp32.lost < fp16.lost < bf16.lost < int8.lost
    assert fp32.iou > fp16.iou >= bf16.iou > int8.iou
