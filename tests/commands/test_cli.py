"""`edge-ssd`: exit codes, one-line errors, and what all commands share."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edge_ssd import __version__
from edge_ssd.cli import COMMANDS, build_parser, main, run_alone
from edge_ssd.commands import doctor, run
from tests.conftest import ROOT


def _edge_ssd(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "edge_ssd", *arguments],
        cwd=ROOT,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_every_command_answers_help(capsys):
    _, commands = build_parser()
    assert len(commands) == len(COMMANDS)
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert f"edge-ssd {command}" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run"], ["run", "--camera", "0", "--source", "a.mp4"]])
def test_wrong_use_is_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [ValueError("first\n  second"), OSError(28, "No space left"), ImportError("x"), MemoryError()]
)
def test_a_known_error_is_one_line_and_exit_code_1(monkeypatch, capsys, error):
    def fail(_):
        raise error

    monkeypatch.setattr(doctor, "main", fail)
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert len(printed) > len("error: \n")


def test_a_mistake_of_ours_is_one_line_that_says_how_to_report_it(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "main", lambda _: examine_nothing())
    assert main(["doctor"]) == 1
    line = _line_of("code = arguments.main(arguments)")
    assert capsys.readouterr().err == (
        f"error: KeyError: 'no such key' (edge_ssd/cli.py:{line}); this is a bug; run it again with --debug before "
        "the command and report it to the maintainers\n"
    )


def examine_nothing():
    return {}["no such key"]


def _line_of(code):
    lines = (ROOT / "edge_ssd/cli.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if code in line)


@pytest.mark.parametrize("by", ["option", "variable"])
@pytest.mark.parametrize("error", [ValueError("expected 1, got 2"), KeyError("x")])
def test_debug_shows_the_traceback_before_the_line(monkeypatch, capsys, by, error):
    def fail(_):
        raise error

    monkeypatch.setattr(doctor, "main", fail)
    monkeypatch.setenv("EDGE_SSD_DEBUG", "1" if by == "variable" else "0")
    assert main([*["--debug"] * (by == "option"), "doctor"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert any("in fail" in line for line in lines)
    assert lines[-1].startswith("error: ")
    assert sum(line.startswith("error: ") for line in lines) == 1


def test_debug_is_an_option_of_a_command_run_alone(monkeypatch, capsys):
    def fail(_):
        raise ValueError("expected 1, got 2")

    monkeypatch.setattr(run, "main", fail)
    assert run_alone(run, "run", ["--debug", "--camera", "0"]) == 1
    assert capsys.readouterr().err.startswith("Traceback")
    assert run_alone(run, "run", ["--camera", "0"]) == 1
    assert capsys.readouterr().err == "error: expected 1, got 2\n"


def test_control_characters_of_an_error_are_written_out(monkeypatch, capsys):
    def fail(_):
        raise OSError("the server says \x1b]0;title\x07 \u202e\x9b2J\nerror: forged")

    monkeypatch.setattr(doctor, "main", fail)
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().err
    assert printed == "error: the server says \\x1b]0;title\\x07 \\u202e\\x9b2J error: forged\n"


def test_an_error_of_megabytes_is_cut(monkeypatch, capsys):
    def fail(_):
        raise ValueError("first " + "x" * 1_000_000 + " last")

    monkeypatch.setattr(doctor, "main", fail)
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: first x")
    assert printed.endswith("x last\n")
    assert len(printed) < 10_000


def test_a_reader_that_has_had_enough_is_no_error():
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = _edge_ssd("doctor", "--json", stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    assert done.stderr == ""
    assert done.returncode == 0


def test_a_closed_standard_output_is_no_error(tmp_path):
    command = f"'{sys.executable}' -m edge_ssd data stats 'demo://?frames=2&size=64x64' >&-"
    done = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("arguments", [["--mod", "m.onnx"], ["--sour", "a.mp4"]])
def test_options_cannot_be_abbreviated(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["run", "--camera", "0", *arguments])
    assert ended.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err
