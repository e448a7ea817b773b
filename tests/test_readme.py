"""What README.md says that can be checked: its links, its commands, its example of a line."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from edge_ssd.cli import build_parser
from tests.conftest import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "edge_ssd/models/README.md"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_known(page):
    _, names = build_parser()
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"^edge-ssd .*$", text, re.MULTILINE)
    for command in commands:
        assert shlex.split(command, comments=True)[1] in names, command


def test_the_example_line_has_the_keys_of_a_real_one():
    from edge_ssd.sinks.jsonl import record
    from tests.results import result

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example = json.loads(re.search(r"```json\n(.+?)```", text, re.DOTALL).group(1))
    real = record(result())
    assert example.keys() == real.keys()
    assert example["detections"][0].keys() == real["detections"][0].keys()
    assert example["timing_ms"].keys() == real["timing_ms"].keys()
