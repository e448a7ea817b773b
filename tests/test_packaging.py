"""The package as users install it: a wheel, an editable install, and a bare checkout."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import zipfile

import pytest

from tests.conftest import ROOT


def _run(*command, cwd, **options):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of a clean copy of the checkout, so that no earlier build/ folder leaks into it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    _copy_sources(source)
    _run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", out, source, cwd=out)
    return next(out.glob("*.whl"))


def _copy_sources(target):
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The Python of a fresh environment with nothing but the wheel and NumPy."""
    folder = tmp_path_factory.mktemp("venv")
    _run(sys.executable, "-m", "venv", folder, cwd=folder)
    python = folder / "bin" / "python"
    _run(python, "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return python


def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.split("/")[0] for name in names}
    assert {f for f in folders if not f.endswith(".dist-info")} == {"edge_ssd"}
    for part in ("edge_ssd/run.py", "edge_ssd/kernels/__init__.py", "edge_ssd/build_engine/__init__.py"):
        assert part in names
    assert not any(name.startswith(("edge_ssd/tests", "edge_ssd/benchmarks")) for name in names)


@pytest.mark.parametrize("inside_checkout", [True, False])
def test_commands_answer_help_on_a_bare_install(installed, tmp_path, inside_checkout):
    cwd = ROOT if inside_checkout else tmp_path
    assert "--camera" in _run(installed, "-m", "edge_ssd.run", "--help", cwd=cwd)
    assert "doctor" in _run(installed.with_name("edge-ssd"), "--help", cwd=cwd)
    assert "doctor" in _run(installed, "-m", "edge_ssd", "--help", cwd=cwd)


def test_subpackages_of_other_folders_are_importable(installed, tmp_path):
    _run(installed, "-c", "import edge_ssd.kernels, edge_ssd.build_engine", cwd=tmp_path)


def test_an_editable_install_works_from_elsewhere(tmp_path):
    source = tmp_path / "checkout"
    source.mkdir()
    _copy_sources(source)
    _run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    _run(python, "-m", "pip", "install", "--quiet", "-e", source, cwd=tmp_path)
    _run(python, "-c", "import edge_ssd.kernels, edge_ssd.build_engine", cwd=tmp_path)
    assert "--camera" in _run(python, "-m", "edge_ssd.run", "--help", cwd=tmp_path)


def test_a_checkout_runs_without_installing(installed):
    # The environment has the wheel too; what runs inside the checkout is the checkout.
    code = "import edge_ssd, edge_ssd.kernels; print(edge_ssd.__file__); print(edge_ssd.kernels.__file__)"
    files = _run(installed, "-c", code, cwd=ROOT).splitlines()
    assert files == [str(ROOT / "edge_ssd/__init__.py"), str(ROOT / "kernels/__init__.py")]


# What uv says where it cannot reach a package index.
_OFFLINE = (
    "error sending request",
    "failed to fetch",
    "client error (connect)",
    "dns error",
    "network connectivity",
)


@pytest.mark.full
@pytest.mark.parametrize("extra", ["cuda12", "cuda13", "cpu", "build", "eval", "openvino"])
def test_extras_resolve_on_jetpack_6(extra, tmp_path):
    """Python 3.10 on Ubuntu 22.04's aarch64 (glibc 2.35), with the NumPy 1 that JetPack's OpenCV is built for."""
    requirements = [
        line.partition(";")
        for line in importlib.metadata.requires("edge-ssd")
        if f'extra == "{extra}"' in line
    ]
    markers = [
        marker.replace(f'extra == "{extra}"', "python_version >= '3'") for _, _, marker in requirements
    ]
    lines = [f"{name}; {marker}" for (name, _, _), marker in zip(requirements, markers)]
    (tmp_path / "extra.in").write_text("\n".join([*lines, "numpy>=1.24,<2"]) + "\n")
    platform = ["--python-platform", "aarch64-manylinux_2_35", "--python-version", "3.10"]
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", *platform, "extra.in"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    if done.returncode and any(sign in done.stderr.lower() for sign in _OFFLINE):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^numpy==1\.", done.stdout, re.MULTILINE)
    if extra.startswith("cuda"):
        assert re.search(rf"^cupy-{extra}x==13\.", done.stdout, re.MULTILINE)
