"""Every public function and method says what it takes and what it gives, and a type checker can use that."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

FILES = [
    path
    for folder in ("edge_ssd", "build_engine", "kernels")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "__pycache__" not in path.parts
]


def public_functions(tree):
    """(name, node) of the functions of a module and of its public classes that others may call, __init__ too."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node.name, node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for member in node.body:
                if not isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                if member.name == "__init__" or not member.name.startswith("_"):
                    yield f"{node.name}.{member.name}", member


def unannotated(node, is_method):
    """What of a function has no annotation: names of arguments, and "return"."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    decorators = {one.id for one in node.decorator_list if isinstance(one, ast.Name)}
    if is_method and "staticmethod" not in decorators:
        arguments = arguments[1:]
    arguments += [one for one in (node.args.vararg, node.args.kwarg) if one]
    missing = [one.arg for one in arguments if one.annotation is None]
    return missing + ["return"] * (node.returns is None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_functions_are_annotated(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    missing = {
        name: found for name, node in public_functions(tree) if (found := unannotated(node, "." in name))
    }
    assert not missing


# The modules of what `from edge_ssd import ...` gives, and of what those take and give.
FACE = ("detector", "frames", "detections", "spec", "priors", "resize", "boxes", "options", "sources.source")


def test_every_type_of_the_public_names_is_known(tmp_path):
    """As pyright sees the package once installed: kernels/ and build_engine/ are its subpackages."""
    package = tmp_path / "edge_ssd"
    for folder, target in (
        ("edge_ssd", package),
        ("kernels", package / "kernels"),
        ("build_engine", package / "build_engine"),
    ):
        shutil.copytree(ROOT / folder, target, ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    command += ["--verifytypes", "edge_ssd", "--ignoreexternal", "--outputjson"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    names = tuple(f"edge_ssd.{module}." for module in FACE)
    face = [one for one in symbols if one["name"].startswith(names) and not one["name"].endswith(".log")]
    assert len(face) > 200
    assert [one["name"] for one in face if not one["isTypeKnown"]] == []


# A user's program: what is right in it, and what a type checker has to find.
PROGRAM = """
from edge_ssd import Detections, Detector, Frame, SsdSpec, open_source

detector = Detector.load("ssd300.onnx", score_threshold=0.4, precision="fp32")
for frame in open_source("rtsp://camera/stream"):
    for box, score, label in detector.detect(frame):
        print(box, score, detector.class_names[label])
    print({wrong})
"""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("frame.sequence", None),
        ("detector.class_nmaes", 'attribute "class_nmaes" for class "Detector"'),
        ("detector.detect(frame).boxs", 'attribute "boxs" for class "Detections"'),
        ("Detector.load('m.onnx', score_treshold=0.5)", 'No parameter named "score_treshold"'),
        ("frame.timestamp", 'attribute "timestamp" for class "Frame"'),
        ("SsdSpec.load('m.json').inputs", 'attribute "inputs" for class "SsdSpec"'),
    ],
)
def test_a_typo_in_a_users_program_is_found(tmp_path, wrong, said):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(wrong=wrong))
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)]}))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(program)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    messages = [one["message"] for one in json.loads(done.stdout)["generalDiagnostics"]]
    if said is None:
        assert messages == []
    else:
        assert any(said in message for message in messages), messages
