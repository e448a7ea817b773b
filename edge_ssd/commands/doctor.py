"""`edge-ssd doctor`: what this machine has, what will run, and what to do about the rest."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `doctor` to the commands of `edge-ssd`."""
    parser = subparsers.add_parser("doctor", help="what this machine has, and what will run")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Prints the findings; the exit code is 0 when something will run."""
    from ..doctor import examine, will_run

    findings = examine()
    able = will_run(findings)
    if arguments.json:
        print(json.dumps({"findings": [asdict(f) for f in findings], "will_run": able}, indent=2))
        return 0 if able else 1
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{'ok' if finding.present else '--'}  {finding.name:{width}}  {finding.detail}")
        if finding.advice:
            print(f"    {'':{width}}  -> {finding.advice}")
    print("will run:" if able else "nothing will run yet; follow the advice above")
    for sentence in able:
        print(f"  {sentence}")
    return 0 if able else 1
