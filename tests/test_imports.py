"""Who may import what: the rules that keep a robot's install small and the kernels independent."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys

import pytest

from tests.conftest import ROOT

LEAVES = (
    "spec",
    "priors",
    "boxes",
    "resize",
    "detections",
    "frames",
    "timing",
    "device_array",
    "files",
    "limits",
)
HEAVY = ("torch", "tensorrt", "cupy", "onnxruntime", "onnx", "cv2", "matplotlib", "pycocotools", "tqdm")


@pytest.fixture(scope="module")
def floors():
    """docs/floors.py, which reads the imports and draws them."""
    spec = importlib.util.spec_from_file_location("floors", ROOT / "docs" / "floors.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestFloors:
    """Imports go down, and none in a circle."""

    def test_every_import_goes_down_and_none_in_a_circle(self, floors):
        assert floors.problems(floors.module_arrows()) == []

    def test_only_the_face_looks_up(self, floors):
        """edge_ssd/__init__.py, which names what users import and hands build_engine in."""
        (face,) = [name for name in floors.modules() if floors.part_of(name) == floors.FACE]
        assert {floors.part_of(name) for name in floors.module_arrows()[face]} >= {"detector", "build_engine"}

    def test_the_drawing_is_current(self, floors):
        """Else: python docs/floors.py."""
        assert floors.PICTURE.read_text(encoding="utf-8") == floors.drawing(floors.module_arrows())

    def test_the_names_are_those_of_the_installed_package(self, floors):
        names = floors.modules()
        assert {"edge_ssd.kernels.device", "edge_ssd.build_engine.build", "benchmarks.soak"} <= names.keys()
        assert not any(name.startswith(("kernels", "build_engine")) for name in names)

    def test_what_goes_up_or_round_is_named_with_its_way(self, floors):
        arrows = {
            "edge_ssd.spec": ["edge_ssd.detector"],
            "edge_ssd.detector": ["edge_ssd.sinks.video"],
            "edge_ssd.sinks.video": ["edge_ssd.spec"],
            "edge_ssd.attic": [],
        }
        said = floors.problems(arrows)
        assert "edge_ssd.spec imports edge_ssd.detector: spec does not stand above detector" in said
        assert "attic: has no floor; add it to FLOORS in docs/floors.py" in said
        way = "edge_ssd.spec -> edge_ssd.detector -> edge_ssd.sinks.video -> edge_ssd.spec"
        assert f"a circle: {way}" in said
        assert len(said) == 3

    def test_an_import_inside_a_function_counts(self, floors):
        assert "edge_ssd.build_engine" in floors.module_arrows()["edge_ssd"]
        assert "edge_ssd.model_files.bundle" in floors.module_arrows()["edge_ssd.loading"]


def _modules(folder):
    return [path for path in sorted((ROOT / folder).rglob("*.py")) if "__pycache__" not in path.parts]


def _package_of(path):
    """Dotted package in which `path` lies, as Python sees it once installed."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "edge_ssd" else ("edge_ssd", *parts)
    return parts[:-1]


def _imports(path):
    """Absolute dotted names that a file imports, anywhere in it."""
    package = _package_of(path)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *((node.module or "").split(".") if node.module else ())))
            # `from . import x` and `from .package import module` import the module itself.
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def _part_of(name):
    """The second component of a dotted name inside edge_ssd; "" outside of it."""
    parts = name.split(".")
    return parts[1] if parts[0] == "edge_ssd" and len(parts) > 1 else ""


def test_the_walk_sees_relative_imports():
    found = set(_imports(ROOT / "edge_ssd/backends/cpu.py"))
    assert {"numpy", "edge_ssd.backends.cpu_steps", "edge_ssd.priors.make_priors"} <= found | {"numpy"}
    assert "edge_ssd.backends.cpu_steps" in found
    assert "edge_ssd.backends.heads.arrange_heads" in found


@pytest.mark.parametrize("name", LEAVES)
def test_leaves_import_leaves_numpy_and_the_standard_library_only(name):
    path = ROOT / f"edge_ssd/{name}.py"
    for imported in _imports(path if path.is_file() else path.with_suffix("") / "__init__.py"):
        top = imported.split(".")[0]
        assert top == "numpy" or _part_of(imported) in LEAVES or top in sys.stdlib_module_names, imported


def test_kernels_import_numpy_and_cupy_only():
    for path in _modules("kernels"):
        for imported in _imports(path):
            top = imported.split(".")[0]
            inside = imported.startswith("edge_ssd.kernels")
            assert inside or top in ("numpy", "cupy") or top in sys.stdlib_module_names, f"{path}: {imported}"


def test_torch_is_imported_where_networks_are_run_or_trained_only():
    for path in [*_modules("edge_ssd"), *_modules("build_engine"), *_modules("kernels")]:
        is_torch_engine = path.parent.name == "engines" and path.name.startswith("torch_")
        is_benchmark = path.parent.name == "bench" and path.name in ("networks.py", "peers.py")
        allowed = {"training", "networks"} & set(path.parts) or is_torch_engine or is_benchmark
        if not allowed:
            assert "torch" not in {name.split(".")[0] for name in _imports(path)}, path


def test_build_engine_imports_the_parts_that_a_jetson_has():
    allowed = {*LEAVES, "reference", "engines", "backends", "detector", "datasets", "sources", "evaluation"}
    allowed |= {"build_engine", "agreement", "loading", "machine", "model_files", "options"}
    for path in _modules("build_engine"):
        if path.name == "__main__.py":  # the command line
            continue
        for imported in _imports(path):
            assert not imported.startswith("edge_ssd") or _part_of(imported) in allowed, f"{path}: {imported}"


def test_nothing_imports_the_checkout_names_that_others_own_on_pypi():
    for path in [
        *_modules("edge_ssd"),
        *_modules("build_engine"),
        *_modules("benchmarks"),
        *_modules("tests"),
    ]:
        tops = {name.split(".")[0] for name in _imports(path)}
        assert not tops & {"kernels", "build_engine"}, path


def _loaded_by(code):
    script = f"import sys; {code}; print(*sorted({HEAVY!r} & sys.modules.keys()))"
    script = script.replace(repr(HEAVY), repr(set(HEAVY)))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    "code",
    [
        "import edge_ssd",
        "import edge_ssd.cli",
        "from edge_ssd import Detector, Frame, Detections, SsdSpec, open_source",
    ],
)
def test_importing_the_package_loads_nothing_heavy(code):
    assert _loaded_by(code) == []


@pytest.mark.parametrize(("given", "seen"), [(None, "0"), ("2000", "2000")])
def test_idle_threads_of_opencv_sleep_unless_the_user_says_otherwise(monkeypatch, given, seen):
    name = "OPENCV_THREAD_POOL_ACTIVE_WAIT_WORKER"
    monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv(name, given)
    code = f"import edge_ssd, os; print(os.environ[{name!r}])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == seen


def test_the_probe_for_heavy_modules_sees_one():
    assert _loaded_by("import edge_ssd.backends.cpu_steps") == ["cv2"]


def test_every_tracked_module_keeps_to_the_grammar_of_the_oldest_python():
    for folder in ("edge_ssd", "kernels", "build_engine", "benchmarks", "tests"):
        for path in _modules(folder):
            ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
