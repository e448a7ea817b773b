"""Every name of TensorRT that the engine uses, looked up in the real packages; no Runtime is made."""

from __future__ import annotations

import ast

import pytest

from tests.conftest import ROOT
from tests.engines.fake_tensorrt import fake_tensorrt

SOURCES = [ROOT / "edge_ssd/engines" / name for name in ("tensorrt_engine.py", "tensorrt_log.py")]

# Variables of the source, less a leading underscore, and what they hold; "" is the module.
HOLDERS = {
    "trt": "",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "runtime": "Runtime",
    "runtime_config": "IRuntimeConfig",
}
PACKAGES = ("tensorrt_rtx", "tensorrt_lean", "tensorrt")
RTX_ALONE = {
    ("IExecutionContext", "is_stream_capturable"),
    ("", "DynamicShapesKernelSpecializationStrategy"),
    ("DynamicShapesKernelSpecializationStrategy", "EAGER"),
    ("IRuntimeConfig", "dynamic_shapes_kernel_specialization_strategy"),
}


def names_in(source):
    """(class, name) of every attribute that is taken from a holder or from a class of the module."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute):
            continue
        chain = [node.attr]
        while isinstance(node.value, ast.Attribute):
            node = node.value
            chain.insert(0, node.attr)
        chain.insert(0, getattr(node.value, "id", "?"))
        for i, part in enumerate(chain[:-1]):
            if HOLDERS.get(part.lstrip("_")) is not None:
                class_name = HOLDERS[part.lstrip("_")]
                found.add((class_name, chain[i + 1]))
                if not class_name and len(chain) > i + 2:
                    found.add((chain[i + 1], chain[i + 2]))
    return found


NAMES = set().union(*(names_in(path.read_text(encoding="utf-8")) for path in SOURCES))
OWN = {("", "_edge_ssd_logger")}  # put there by us


def missing_in(module, names):
    """Those of `names` that the module lacks."""
    return {
        (class_name, name)
        for class_name, name in names
        if not hasattr(getattr(module, class_name, None) if class_name else module, name)
    }


def test_the_walk_finds_names_through_locals_attributes_and_classes():
    source = "trt.Runtime(x)\nself._engine.num_io_tensors\ncontext.run(1)\na = self._trt.DataType.HALF\n"
    expected = {("", "Runtime"), ("ICudaEngine", "num_io_tensors"), ("IExecutionContext", "run")}
    assert names_in(source) == expected | {("", "DataType"), ("DataType", "HALF")}
    some = {
        ("IExecutionContext", "execute_async_v3"),
        ("Runtime", "deserialize_cuda_engine"),
        ("ILogger", "Severity"),
    }
    assert some <= NAMES
    assert len(NAMES) >= 25


@pytest.mark.parametrize("package", PACKAGES)
def test_the_real_package_has_every_name(package):
    module = pytest.importorskip(package, reason=f"{package} is not installed")
    missing = missing_in(module, NAMES - OWN)
    if package == "tensorrt_rtx":
        assert missing == set()
    else:
        # TensorRT 10.3 has no runtime configuration either.
        assert missing <= RTX_ALONE | {("ICudaEngine", "create_runtime_config")}
        assert RTX_ALONE - {("DynamicShapesKernelSpecializationStrategy", "EAGER")} <= missing


def test_a_wrong_name_would_be_found():
    module = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    wrong = {("IExecutionContext", "execute_async_v9"), ("", "Runtimes"), ("NoClass", "name")}
    assert missing_in(module, NAMES - OWN | wrong) == wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_the_stand_ins_have_nothing_that_the_real_package_lacks(package):
    real = pytest.importorskip(package, reason=f"{package} is not installed")
    stand_in = fake_tensorrt("1.7.1.116" if package == "tensorrt_rtx" else "11.4.0.106", [])
    used = {("", name) for name in vars(stand_in) if not name.startswith("_")}
    for _, class_name in list(used):
        attributes = dir(getattr(stand_in, class_name))
        used |= {(class_name, name) for name in attributes if not name.startswith("_")}
    assert missing_in(real, used) == set()


@pytest.mark.parametrize("version", ["10.3.0", "11.4.0.106", "1.7.1.116"])
def test_only_names_of_the_table_are_missing_in_a_version(version, engines):
    module = fake_tensorrt(version, [])
    asked = {n for n in NAMES if n[0] not in ("IRuntimeConfig", "DynamicShapesKernelSpecializationStrategy")}
    optional = set() if version.startswith("1.") else set(engines("tensorrt_engine").OPTIONAL)
    assert missing_in(module, asked) <= optional | OWN
