"""`edge-ssd run` as a user meets it: outputs, exit codes, one line for what is wrong, and its end."""

from __future__ import annotations

import json
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ssd import cli
from edge_ssd.sources import source as source_module
from tests.conftest import ROOT
from tests.media import encoded, picture, write_video
from tests.planted import save_cat_model
from tests.stream_server import StreamServer

# Numbers and messages are those of one engine; what `auto` takes depends on the machine.
NAMED = ("--engine", "onnxruntime", "--precision", "fp32")
DEMO = "demo://?frames=4&size=80x64"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_cat_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def run(model, capfd):
    """Runs in this process; gives the exit code, standard output and standard error."""

    def run(*arguments, model=model, named=NAMED):
        code = cli.main(["run", "--model", model, *named, *map(str, arguments)])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def server():
    with StreamServer() as server:
        yield server


def command(model, *arguments):
    return [sys.executable, "-m", "edge_ssd.run", "--model", model, *NAMED, *map(str, arguments)]


def run_alone(model, *arguments):
    """Runs in a process of its own, where FFmpeg is told to be silent before it is loaded."""
    done = subprocess.run(command(model, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr


def lines_of(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def frames_in(path):
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.grab():
        count += 1
    return count


def wait_for_lines(path, count, process, seconds=20):
    end = time.monotonic() + seconds
    while not (path.exists() and path.read_bytes().count(b"\n") >= count):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"no {count} lines in {seconds} s"
        time.sleep(0.02)


# --- outputs


def test_several_outputs_at_once(run, tmp_path):
    outputs = [tmp_path / name for name in ("a.jsonl", "a.mp4", "pictures")]
    arguments = [part for output in outputs for part in ("--output", output)]
    code, out, err = run("--source", DEMO, *arguments, "--output", "-")
    assert code == 0
    lines = lines_of(outputs[0])
    assert [line["sequence"] for line in lines] == [0, 1, 2, 3]
    assert [d["label"] for d in lines[0]["detections"]] == ["cat"]
    np.testing.assert_allclose(lines[0]["detections"][0]["box"], [22, 17.6, 38, 30.4], atol=1e-3)
    assert lines == [json.loads(line) for line in out.splitlines()]
    assert frames_in(outputs[1]) == 4
    assert sorted(os.listdir(outputs[2])) == [f"{i:06d}.png" for i in range(4)]
    assert err.startswith("4 frames in ")


def test_without_an_output_the_lines_go_to_standard_output(run):
    code, out, _ = run("--source", DEMO)
    assert code == 0
    assert len(out.splitlines()) == 4


def test_the_summary_tells_what_ran_how_fast_and_what_was_lost(run, tmp_path):
    for name, data in (("1.jpg", encoded(picture(), ".jpg")), ("2.jpg", b"broken")):
        (tmp_path / name).write_bytes(data)
    code, _, err = run("--source", tmp_path, "--output", tmp_path / "out/a.jsonl")
    assert code == 0
    skipped, first, what, source, copies, head, *stages, found, written = err.splitlines()
    assert skipped.startswith(f"skipped {tmp_path}/2.jpg: ")
    assert first.startswith("1 frames in ")
    assert "cat, ONNX Runtime" in what
    assert source.endswith("policy every: 0 dropped, 1 skipped, opened again 0 times")
    assert copies.split() == ["frame", "copies:", "driver", "0,", "CPU", "0,", "bus", "0"]
    assert head.split() == ["ms", "p50", "p95", "p99"]
    assert [line.split()[0] for line in stages] == ["capture", "preprocess", "infer", "postprocess", "age"]
    assert all(len(line.split()) >= 4 for line in stages)
    assert found.split() == ["detections", "cat", "1"]
    assert written.endswith("out/a.jsonl")
    assert len(lines_of(tmp_path / "out/a.jsonl")) == 1


def test_max_frames_and_classes(run):
    code, out, _ = run("--source", "demo://", "--max-frames", 2, "--classes", "dog")
    assert code == 0
    assert [json.loads(line)["detections"] for line in out.splitlines()] == [[], []]


def test_a_folder_of_every_kind_of_image(run, tmp_path):
    images = {
        "a.jpg": picture(),
        "b.png": picture()[..., 0],
        "c.png": np.dstack([picture(), picture()[..., 0]]),
        "d.png": picture().astype(np.uint16) * 256,
        "e.png": picture(1, 1),
        "f.jpg": np.full((6000, 8000, 3), 90, np.uint8),
    }
    for name, image in images.items():
        (tmp_path / name).write_bytes(encoded(image, name[1:]))
    code, out, _ = run("--source", tmp_path)
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [os.path.basename(line["source"]) for line in lines] == list(images)
    assert [(line["height"], line["width"]) for line in lines] == [i.shape[:2] for i in images.values()]
    for line in lines:
        (cat,) = line["detections"]
        width, height = line["width"], line["height"]
        wanted = [0.275 * width, 0.275 * height, 0.475 * width, 0.475 * height]
        np.testing.assert_allclose(cat["box"], wanted, atol=1e-3 * width + 1e-3)


# --- wrong use: exit code 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--classes", "cat,horse"], "classes: this model has no 'horse'; it has cat, dog"),
        (["--output", "a.jsonl", "--output", "./a.jsonl"], "--output a.jsonl: given twice"),
        (["--output", "-", "--output", "-"], "--output -: given twice"),
    ],
)
def test_arguments_that_do_not_fit_are_wrong_use(run, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("--source", DEMO, *arguments)
    assert (code, out, err) == (2, "", f"edge-ssd run: error: {said}\n")
    assert os.listdir(tmp_path) == []


def test_the_source_is_not_written_over(run, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", 5)
    before = clip.read_bytes()
    assert run("--source", tmp_path, "--output", f"{tmp_path}/")[0] == 2
    (tmp_path / "link.mp4").symlink_to(clip)
    code, _, err = run("--source", clip, "--output", tmp_path / "link.mp4")
    assert code == 2
    assert "link.mp4: is the source itself" in err
    assert clip.read_bytes() == before


@pytest.mark.parametrize("name", ["clip.partial.mp4", "clip.cut-off.mp4"])
def test_what_a_killed_run_recorded_is_not_written_over_by_the_run_that_reads_it(run, tmp_path, name):
    clip = write_video(tmp_path / name, 5)
    before = clip.read_bytes()
    code, _, err = run("--source", clip, "--output", tmp_path / "clip.mp4")
    assert code == 2
    assert "clip.mp4: is the source itself" in err
    assert clip.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "in_flight"),
    [
        (["--source", "clip.mp4"], 0),
        (["--source", "file:///photos"], 0),
        (["--source", "photo.jpg"], 1),
        (["--source", "clip.mp4", "--policy", "newest"], 1),
        (["--source", "clip.mp4", "--in-flight", "3"], 3),
        (["--source", "/dev/video0"], 1),
        (["--source", "rtsp://camera/stream"], 1),
        (["--source", DEMO], 1),
        (["--camera", "0"], 1),
        (["--camera", "0", "--in-flight", "0"], 0),
    ],
)
def test_files_have_a_frame_for_each_thread_and_cameras_one(run, monkeypatch, arguments, in_flight):
    given = {}

    def load(_, **options):
        given.update(options)
        raise OSError("enough seen")

    monkeypatch.setattr("edge_ssd.detector.Detector.load", load)
    assert run(*arguments)[0] == 1
    assert given["in_flight"] == in_flight


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--score-threshold", "1.5", "expected a number from 0 to 1, got '1.5'"),
        ("--iou-threshold", "nan", "expected a number from 0 to 1, got 'nan'"),
        ("--max-frames", "-1", "expected a whole number of at least 0, got '-1'"),
        ("--threads", "two", "expected a whole number of at least 0, got 'two'"),
        ("--retry-seconds", "soon", "expected seconds of at least 0, got 'soon'"),
        ("--policy", "latest", "invalid choice: 'latest'"),
    ],
)
def test_a_wrong_value_is_named(run, capfd, option, value, said):
    with pytest.raises(SystemExit) as stopped:
        run("--source", DEMO, f"{option}={value}")
    assert stopped.value.code == 2
    assert f"argument {option}: {said}" in capfd.readouterr().err


def test_a_camera_and_a_source_are_one_too_many(run, capfd):
    with pytest.raises(SystemExit) as stopped:
        run("--source", DEMO, "--camera", 0)
    assert stopped.value.code == 2
    assert "not allowed with argument" in capfd.readouterr().err


# --- bad input: one line, exit code 1


def one_line(result, said):
    code, _, err = result
    assert code == 1
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: ")
    assert said in err


def test_models_that_cannot_run_are_one_line_and_no_output_is_touched(run, model, tmp_path):
    output = tmp_path / "a.jsonl"
    output.write_text("from the run before\n")
    whole, spec = Path(model).read_bytes(), json.loads(Path(model).with_suffix(".json").read_text())
    for name, data, spec_text, said in [
        ("missing.onnx", None, None, "missing.onnx: no such model file"),
        ("nospec.onnx", whole, None, "nospec.json: no spec beside nospec.onnx"),
        ("cut.onnx", whole[: len(whole) // 2], json.dumps(spec), "cut.onnx: ONNX Runtime cannot load"),
        ("key.onnx", whole, json.dumps({**spec, "colour": 1}), "key.json: colour: unknown key"),
        ("json.onnx", whole, "{", "json.json: not valid JSON"),
    ]:
        if data is not None:
            (tmp_path / name).write_bytes(data)
        if spec_text is not None:
            (tmp_path / name).with_suffix(".json").write_text(spec_text)
        one_line(run("--source", DEMO, "--output", output, model=str(tmp_path / name)), said)
    assert output.read_text() == "from the run before\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("97", "/dev/video97: no such camera; cameras here: "),
        ("nowhere.mp4", "nowhere.mp4: no such file or folder"),
        ("demo://?colour=1", "unknown parameter 'colour'"),
        ("ftp://x", "unknown kind of source ftp://"),
    ],
)
def test_a_source_that_cannot_be_opened_is_one_line(run, source, said):
    one_line(run("--source", source), said)


def test_a_server_that_is_not_there_is_one_line(model):
    one_line(run_alone(model, "--source", "http://127.0.0.1:9/live"), "no video stream there")


def test_a_camera_that_is_not_there(run):
    one_line(run("--camera", "97"), "/dev/video97: no such camera")


def test_an_output_that_cannot_be_written_is_one_line(run, tmp_path):
    (tmp_path / "a.jsonl").mkdir()
    one_line(run("--source", DEMO, "--output", tmp_path / "a.jsonl"), "a.jsonl: cannot be written")


def test_pictures_beside_their_images_are_refused(run, tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(picture(), ".jpg"))
    one_line(run("--source", tmp_path / "a.jpg", "--output", tmp_path), "holds the images themselves")
    assert os.listdir(tmp_path) == ["a.jpg"]


def test_nan_in_the_outputs_is_one_line_and_what_was_written_stays(run, tmp_path):
    model = save_cat_model(tmp_path, brightness=1e38)  # a bright image makes conf infinite
    for name, level in (("1.png", 0), ("2.png", 255)):
        (tmp_path / name).write_bytes(encoded(np.full((50, 50, 3), level, np.uint8), ".png"))
    outputs = tmp_path / "out/a.jsonl", tmp_path / "out/a.mp4"
    result = run("--source", tmp_path, "--output", outputs[0], "--output", outputs[1], model=str(model))
    one_line(result, f"output 'conf' holds NaN or Inf for 16 of 16 priors ({tmp_path}/2.png)")
    assert len(lines_of(outputs[0])) == 1
    assert frames_in(outputs[1]) == 1


def test_a_full_disk_is_one_line_and_leaves_whole_lines(run, tmp_path):
    output = tmp_path / "a.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # no file may grow beyond
    try:
        result = run("--source", "demo://?size=64x64", "--output", output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    kept = lines_of(output)
    one_line(result, f"a.jsonl: File too large after {len(kept)} lines, which are kept")
    assert len(kept) >= 2


# --- live sources


def test_a_stream_that_stops_is_opened_again_and_the_lines_stay_valid(run, server, tmp_path, monkeypatch):
    monkeypatch.setattr(source_module, "_FIRST_PAUSE_S", 0.02)
    server.burst = 5
    output = tmp_path / "a.jsonl"
    arguments = ["--policy", "every", "--max-frames", 12, "--output", output]
    code, _, err = run("--source", f"{server.address}/live", *arguments)
    assert code == 0
    assert [line["sequence"] for line in lines_of(output)] == list(range(12))
    assert err.count("/live: the stream stopped after 5 frames; trying again in 0.0 s") == 2
    assert err.count("/live: back") == 2
    assert "opened again 2 times" in err


def test_a_stream_that_stays_away_ends_the_run_with_what_was_written(model, server, tmp_path):
    server.burst = 5
    output = tmp_path / "a.jsonl"
    arguments = ["--source", f"{server.address}/live", "--retry-seconds", 0, "--output", output]
    result = run_alone(model, *arguments)
    one_line(result, "/live: the stream stopped after 5 frames")
    assert 1 <= len(lines_of(output)) <= 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_live_run_with_complete_files_and_a_summary(model, server, tmp_path, number):
    outputs = tmp_path / "a.jsonl", tmp_path / "a.mp4"
    arguments = ["--source", f"{server.address}/live", "--output", outputs[0], "--output", outputs[1]]
    with subprocess.Popen(command(model, *arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        wait_for_lines(outputs[0], 10, process)
        process.send_signal(number)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    frames = len(lines_of(outputs[0]))
    assert err.startswith(f"{frames} frames in ")
    assert "(stopped)" in err.splitlines()[0]
    assert frames_in(outputs[1]) >= 1


def test_a_terminal_shows_one_line_that_is_rewritten(model, server, tmp_path):
    master, slave = pty.openpty()
    output = tmp_path / "a.jsonl"
    arguments = ["--source", f"{server.address}/live", "--output", output]
    with subprocess.Popen(command(model, *arguments), cwd=ROOT, stderr=slave) as process:
        os.close(slave)
        wait_for_lines(output, 80, process)
        shown = os.read(master, 100_000).decode()
        process.send_signal(signal.SIGINT)
        process.wait(10)
    os.close(master)
    lines = shown.split("\r")[1:]
    assert len(lines) >= 2
    assert all(line.endswith("\x1b[K") and "\n" not in line for line in lines)
    assert " FPS | capture " in lines[-1]


# --- pipes


@pytest.mark.parametrize("pipe", ["| head -n 1", "2>&1 | head -n 1", "2>&1 | true"])
def test_a_reader_that_has_had_enough_is_no_error(model, pipe):
    line = " ".join(f"'{part}'" for part in command(model, "--source", "demo://?size=64x64&frames=2000"))
    script = f"{line} {pipe}; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30)
    *shown, status = done.stdout.splitlines()
    assert (status, done.stderr) == ("0", "")
    assert all(json.loads(text)["sequence"] == 0 for text in shown)


def test_a_wrong_kind_of_output_is_wrong_use_and_empties_no_other(run, tmp_path):
    (tmp_path / "kept.jsonl").write_text("kept")
    code, _, said = run("--source", DEMO, "--output", tmp_path / "kept.jsonl", "--output", tmp_path / "z.txt")
    assert code == 2
    assert "z.txt: expected an output ending in" in said
    assert (tmp_path / "kept.jsonl").read_text() == "kept"


def test_a_source_with_an_escaped_address_is_not_overwritten(run, tmp_path):
    folder = tmp_path / "my videos"
    folder.mkdir()
    write_video(folder / "clip.avi", 3, codec="MJPG")
    before = (folder / "clip.avi").read_bytes()
    address = f"file://{tmp_path}/my%20videos/clip.avi"
    code, _, said = run("--source", address, "--output", folder / "clip.avi")
    assert code == 2
    assert "is the source itself" in said
    assert (folder / "clip.avi").read_bytes() == before


def test_an_image_of_the_source_folder_is_not_overwritten(run, tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture(), ".png"))
    code, _, said = run("--source", tmp_path, "--output", tmp_path / "a.png")
    assert code == 2
    assert "is the source itself" in said


def test_a_log_that_is_appended_to_keeps_its_lines_when_the_disk_is_full(model, tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text("x" * 2000 + "\n")
    words = " ".join(
        f"'{word}'" for word in command(model, "--source", "demo://?frames=40&size=80x64", "--output", "-")
    )
    done = subprocess.run(
        ["sh", "-c", f"ulimit -f 8; {words} >> '{log}'"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "lines, which are kept" in done.stderr
    lines = log.read_text().splitlines()
    assert lines[0] == "x" * 2000
    assert all(json.loads(line) for line in lines[1:])
    assert len(lines) > 1
