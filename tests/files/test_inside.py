"""Files that another file names: below its folder on any system, behind any link, and regular."""

from __future__ import annotations

import os

import pytest

from edge_ssd.files.inside import file_inside, place_inside, stays_inside


@pytest.mark.parametrize("name", ["a", "./a", "parts/w0", "a.b c", "ü/..a", "a..b"])
def test_names_below_a_folder(name):
    assert stays_inside(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a",
        "a/../../b",
        "a/..",
        "/a",
        "a\\b",
        "C:a",
        "C:\\a",
        "a\0",
        "a\nb",
        ".. /a",
        "... /a",
        " ",
    ],
)
def test_names_that_leave_a_folder_on_some_system(name):
    assert not stays_inside(name)


@pytest.fixture
def folder(tmp_path):
    """A folder with a file, links inside and out, and what is no regular file; a secret beside it."""
    folder = tmp_path / "folder"
    (folder / "parts").mkdir(parents=True)
    (folder / "parts" / "a").write_text("a")
    (folder / "to_a").symlink_to("parts/a")
    (tmp_path / "secret").write_text("secret")
    (folder / "out").symlink_to("../secret")
    (folder / "up").symlink_to("..")
    (folder / "circle").symlink_to("circle")
    os.mkfifo(folder / "pipe")
    (folder / "null").symlink_to("/dev/null")
    return folder


@pytest.mark.parametrize("name", ["parts/a", "./parts/a", "to_a"])
def test_files_below_it_are_found(folder, name):
    assert file_inside(folder, name).read_text() == "a"


def test_a_folder_may_itself_be_reached_by_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to("folder")
    assert file_inside(tmp_path / "link", "parts/a").read_text() == "a"


@pytest.mark.parametrize("name", ["out", "up/secret", "null"])
def test_links_out_of_it_are_refused_for_reading_and_writing(folder, name):
    for find in (file_inside, place_inside):
        with pytest.raises(ValueError, match="is a link out of its folder"):
            find(folder, name)


def test_a_new_file_behind_a_link_is_refused(folder):
    with pytest.raises(ValueError, match="is a link out of its folder"):
        place_inside(folder, "up/new")
    assert place_inside(folder, "parts/new") == folder / "parts" / "new"


def test_what_is_no_regular_file_is_refused_and_not_opened(folder):
    with pytest.raises(ValueError, match="expected a regular file, got a pipe"):
        file_inside(folder, "pipe")
    with pytest.raises(ValueError, match="expected a regular file, got a folder"):
        file_inside(folder, "parts")
    with pytest.raises((ValueError, OSError)):  # Python 3.13 leaves it to the system
        file_inside(folder, "circle")


@pytest.mark.parametrize("name", ["none", "parts/a/b"])
def test_a_missing_file_is_named(folder, name):
    with pytest.raises(FileNotFoundError, match="no such file"):
        file_inside(folder, name)
