"""What README.md says that can be checked: its links, its commands, its example of a line."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from edge_ssd.cli import build_parser
from tests.conftest import ROOT

PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "SECURITY.md",
        ROOT / "docs/architecture.md",
        ROOT / "edge_ssd/models/README.md",
    ]
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_known(page):
    parser, _ = build_parser()
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for command in re.findall(r"^edge-ssd .*$", text, re.MULTILINE):
        words = shlex.split(command, comments=True)
        words = words[1 : words.index("|")] if "|" in words else words[1:]
        parser.parse_args(words)  # ends the test when an option is unknown or wrong


def test_the_example_line_has_the_keys_of_a_real_one():
    from edge_ssd.sinks.jsonl import record
    from tests.results import result

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example = json.loads(re.search(r"```json\n(.+?)```", text, re.DOTALL).group(1))
    real = record(result())
    assert example.keys() == real.keys()
    assert example["detections"][0].keys() == real["detections"][0].keys()
    assert example["timing_ms"].keys() == real["timing_ms"].keys()
