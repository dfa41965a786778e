"""Settings: where folders are, what wins over what, and what is refused."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from console import settings
from console.facts import UsageError
from console.settings import Folders, Settings, folders, load, private_folder


def write(home: Path, text: str | bytes) -> Path:
    file = home / "config" / "settings.toml"
    file.parent.mkdir(parents=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_folders_are_those_of_the_xdg_specification() -> None:
    there = folders({"HOME": "/home/me"})
    assert there.config == Path("/home/me/.config/tritondeck")
    assert there.state == Path("/home/me/.local/state/tritondeck")
    assert there.environments == Path("/home/me/.cache/tritondeck/environments")


def test_xdg_variables_move_them() -> None:
    moved = folders(
        {
            "HOME": "/home/me",
            "XDG_CONFIG_HOME": "/c",
            "XDG_STATE_HOME": "/s",
            "XDG_CACHE_HOME": "/x",
        }
    )
    assert moved.settings_file == Path("/c/tritondeck/settings.toml")
    assert moved.runs == Path("/s/tritondeck/runs")
    assert moved.cache == Path("/x/tritondeck")


@pytest.mark.parametrize("value", ["", "relative", "~/x"])
def test_a_relative_xdg_variable_is_ignored(value: str) -> None:
    there = folders({"HOME": "/home/me", "XDG_STATE_HOME": value})
    assert there.state == Path("/home/me/.local/state/tritondeck")


def test_one_folder_can_hold_everything(tmp_path: Path) -> None:
    there = folders({"TRITONDECK_HOME": str(tmp_path), "HOME": "/h", "XDG_STATE_HOME": "/s"})
    assert {there.config.parent, there.state.parent, there.cache.parent} == {tmp_path}


def test_environments_can_be_elsewhere(tmp_path: Path) -> None:
    there = load({"TRITONDECK_HOME": str(tmp_path), "TRITONDECK_ENVIRONMENTS": "/big"}).folders
    assert there.environments == Path("/big")
    assert there.runs == tmp_path / "state" / "runs"


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    loaded = load({"TRITONDECK_HOME": str(tmp_path)})
    assert (loaded.readonly, loaded.python, loaded.screen.interval) == (False, "", 1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_variable_wins_over_the_file(tmp_path: Path) -> None:
    write(tmp_path, 'python = "/usr/bin/python3"\nreadonly = false\n[screen]\ninterval = 2.0\n')
    home = {"TRITONDECK_HOME": str(tmp_path)}
    assert load(home).python == "/usr/bin/python3"
    over = {"TRITONDECK_PYTHON": "/opt/python", "TRITONDECK_READONLY": "1", "TRITONDECK_THEME": "t"}
    loaded = load({**home, **over})
    assert (loaded.python, loaded.readonly) == ("/opt/python", True)
    assert (loaded.screen.theme, loaded.screen.interval) == ("t", 2.0)


@pytest.mark.parametrize(
    "text",
    ["", 'python = "p"\nreadonly = true\n', '[screen]\ntheme = "t"\n[packages]\noffline = true\n'],
)
def test_plain_settings_are_the_same_without_and_with_pydantic(tmp_path: Path, text: str) -> None:
    given = {**tomllib.loads(text), "folders": Folders(tmp_path, tmp_path, tmp_path)}
    plain = settings._at_face_value(Settings, given)
    assert plain == TypeAdapter(Settings).validate_python(given)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[screen]\ninterval = 99\n", r"line 2.*screen\.interval.*less than or equal to 10"),
        ("[screen]\nintervall = 1\n", r"line 2.*screen\.intervall"),
        ("readonly = 'perhaps'\n", r"line 1.*readonly.*bool"),
        ("[packages]\nextra_index_urls = 'http://x'\n", r"line 2.*packages\.extra_index_urls"),
        ("screen = 3\n", r"line 1.*screen"),
        ("[screen\n", r"line 1"),
        (b"\xff\xfe", r"utf-8"),
    ],
)
def test_a_wrong_file_is_named_with_line_and_key(
    tmp_path: Path, text: str | bytes, why: str
) -> None:
    file = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load({"TRITONDECK_HOME": str(tmp_path)})
    assert str(file) in caught.value.title
    assert re.search(why, caught.value.why), caught.value.why


def test_a_variable_over_a_section_that_is_none_is_said_in_words(tmp_path: Path) -> None:
    write(tmp_path, "screen = 3\n")
    with pytest.raises(UsageError, match="wrong settings"):
        load({"TRITONDECK_HOME": str(tmp_path), "TRITONDECK_THEME": "dark"})


def test_a_wrong_value_of_a_variable_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="readonly"):
        load({"TRITONDECK_HOME": str(tmp_path), "TRITONDECK_READONLY": "perhaps"})


def test_a_private_folder_and_those_made_on_the_way_are_for_nobody_else(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        made = private_folder(tmp_path / "a" / "b")
    finally:
        os.umask(umask)
    assert [f.stat().st_mode & 0o777 for f in (made, made.parent)] == [0o700, 0o700]


def test_an_open_folder_is_closed(tmp_path: Path) -> None:
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o755)
    private_folder(place)
    assert place.stat().st_mode & 0o777 == 0o700


def test_a_folder_whose_parent_anybody_writes_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(UsageError, match="world-writable"):
        private_folder(tmp_path / "mine")
    tmp_path.chmod(0o1777)  # as /tmp: nobody can rename what belongs to others
    private_folder(tmp_path / "mine")


def test_a_file_in_the_way_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot create the folder"):
        private_folder(tmp_path / "file" / "inside")


def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    """Its files could be swapped under us."""
    theirs = Path("/usr")
    if os.geteuid() == 0:
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        os.chown(theirs, 12345, -1)
    with pytest.raises(UsageError, match=r"belongs to user id \d+, not to you"):
        private_folder(theirs)
