"""Deployment files: what is saved loads as the same, and the operator's own words survive."""

from __future__ import annotations

import stat
import string
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.desk import tomlfile
from console.facts import DeckError, UsageError
from console.planning import deployment as files
from console.planning.deployment import (
    ChecksSection,
    Deployment,
    EnvironmentChoice,
    ServerSection,
    VerifyCase,
)

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)
# Everything that TOML can carry: no lone surrogates, any control character by escape.
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
PATHS = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00/"), min_size=1, max_size=20
).map(lambda name: str(Path("/models") / name))  # as loading makes them
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
    st.lists(st.integers(0, 4096), max_size=4),
)


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    ports = draw(st.lists(st.integers(1, 65535), min_size=3, max_size=3, unique=True))
    return Deployment(
        name=draw(NAMES),
        backend=draw(NAMES),
        checkpoints=draw(st.dictionaries(NAMES, PATHS, min_size=1, max_size=3)),
        model_name=draw(st.none() | NAMES),
        options=draw(st.dictionaries(NAMES, VALUES, max_size=5)),
        server=ServerSection(
            http_port=ports[0],
            grpc_port=ports[1],
            metrics_port=ports[2],
            control=draw(st.sampled_from(["explicit", "none"])),
            log_verbose=draw(st.integers(0, 9)),
        ),
        environments=draw(
            st.dictionaries(
                NAMES, st.builds(EnvironmentChoice, python=TEXTS, use=TEXTS), max_size=2
            )
        ),
        checks=ChecksSection(accept=tuple(draw(st.lists(NAMES, max_size=3)))),
        verify=tuple(
            draw(
                st.lists(
                    st.builds(
                        VerifyCase,
                        input=st.just("") | PATHS,
                        text=TEXTS,
                        expect=TEXTS,
                        fields=st.dictionaries(NAMES, TEXTS, max_size=2),
                    ),
                    max_size=3,
                )
            )
        ),
    )


FEW = settings(max_examples=30)


@FEW
@given(deployments())
def test_what_is_saved_loads_as_the_same_deployment(wanted: Deployment) -> None:
    assert files.loads(tomlfile.render(wanted), Path("/x/d.toml")) == wanted


@FEW
@given(deployments(), deployments())
def test_saving_over_another_deployment_leaves_nothing_of_it(
    before: Deployment, after: Deployment
) -> None:
    text = tomlfile.render(after, tomlfile.render(before), Path("/x"))
    assert files.loads(text, Path("/x/d.toml")) == after


@FEW
@given(deployments())
def test_saving_the_same_again_changes_no_byte(wanted: Deployment) -> None:
    once = tomlfile.render(wanted)
    assert tomlfile.render(wanted, once, Path("/x")) == once


@FEW
@given(
    deployments(),
    st.text(
        string.printable.replace("\n", "")
        .replace("\r", "")
        .replace("\x0b", "")
        .replace("\x0c", ""),
        max_size=30,
    ),
)
def test_a_comment_survives_any_change(wanted: Deployment, words: str) -> None:
    first = tomlfile.render(wanted)
    commented = f"# {words}\n{first}# the end: {words}\n"
    changed = wanted.model_copy(update={"name": "another"})
    text = tomlfile.render(changed, commented, Path("/x"))
    assert text.startswith(f"# {words}\n")
    assert f"# the end: {words}\n" in text


@pytest.mark.fuzz
@settings(max_examples=3000)
@given(deployments(), deployments())
def test_any_deployment_survives_being_saved_over_any_other(
    before: Deployment, after: Deployment
) -> None:
    text = tomlfile.render(after, tomlfile.render(before), Path("/x"))
    assert files.loads(text, Path("/x/d.toml")) == after
    assert tomlfile.render(after, text, Path("/x")) == text


OPERATORS = """\
# Digits for the lab.
version = 1
name = "digits"          # short, it is the URL
backend = "onnx"

[checkpoints]
model = "models/digits.nemo"   # beside this file

[server]
# 8000 is the lab's proxy
http_port = 9000  # agreed with ops
grpc_port = 0

[options]
opset = 17 # tried 18, worse

[[verify]]  # a known sound
input = "one.wav"
expect = "one"
"""


def test_comments_order_and_relative_paths_survive_a_change(tmp_path: Path) -> None:
    file = tmp_path / "deployment.toml"
    file.write_text(OPERATORS)
    loaded = files.load(file)
    server = loaded.server.model_copy(update={"http_port": 9100})
    tomlfile.write(loaded.model_copy(update={"server": server}), file)
    assert file.read_text() == OPERATORS.replace("9000", "9100")


def test_a_new_key_is_added_to_its_section(tmp_path: Path) -> None:
    file = tmp_path / "deployment.toml"
    file.write_text(OPERATORS)
    loaded = files.load(file)
    tomlfile.write(loaded.model_copy(update={"options": {"opset": 17, "device": "cpu"}}), file)
    text = file.read_text()
    assert tomllib.loads(text)["options"] == {"opset": 17, "device": "cpu"}
    assert "# tried 18, worse" in text


def test_a_new_file_is_private_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    wanted = Deployment(name="a", backend="onnx", checkpoints={"model": "/m.onnx"})
    new, old = tmp_path / "new.toml", tmp_path / "old.toml"
    old.write_text("")
    old.chmod(0o640)
    tomlfile.write(wanted, new)
    tomlfile.write(wanted, old)
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    assert stat.S_IMODE(old.stat().st_mode) == 0o640


def test_a_broken_file_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text("name = [\n")
    with pytest.raises(UsageError, match="not valid TOML"):
        tomlfile.write(Deployment(name="a", backend="b", checkpoints={"model": "/m"}), file)
    assert file.read_text() == "name = [\n"


def test_a_folder_that_is_missing_is_an_error_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DeckError, match="cannot write the deployment file"):
        tomlfile.write(
            Deployment(name="a", backend="b", checkpoints={"model": "/m"}),
            tmp_path / "no" / "a.toml",
        )
    assert list(tmp_path.iterdir()) == []
