"""A command in an image as words, and what the engines say, as pure functions."""

from __future__ import annotations

import csv
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from console.facts import UsageError
from console.planning.containers import (
    SHELL_HEAD,
    bind,
    filled,
    gpu_words,
    huggingface_cache,
    run_words,
    shell_before,
    shell_words,
)
from console.planning.plan import Command, Container, ImageSpec, Mount, PublishedPort
from console.planning.variables import literal
from console.runtimes import engine_errors
from console.runtimes.containers import env_lines
from console.runtimes.copying import Copy
from console.runtimes.docker import Docker
from console.runtimes.podman import Podman

VALUES = {"image_server": "nvcr.io/x:1", "work": "/w", "http_port": "8123"}
CALLER = ("--user", "7:8")

paths = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), min_size=1)


def command(argv: tuple[str, ...] = ("true",), **container: object) -> Command:
    return Command(argv=argv, runtime="image:server", container=Container.model_validate(container))


def words(made: Command, engine: str = "docker") -> list[str]:
    name = "podman" if engine == "podman" else "docker"
    return filled(run_words(made), name, VALUES, CALLER, "/env")


def test_the_defaults_are_hardened_and_never_pull() -> None:
    line = " ".join(words(command()))
    for expected in (
        "--pull never", "--user 7:8", "--init", "--read-only", "--tmpfs /tmp", "--cap-drop ALL",
        "--security-opt no-new-privileges", "--pids-limit 4096", "--shm-size 1g",
    ):  # fmt: skip
        assert expected in line
    assert line.endswith("nvcr.io/x:1 true")
    assert "-v" not in words(command()) and "--privileged" not in line


def test_ports_are_published_on_loopback_unless_an_address_is_named() -> None:
    port = PublishedPort(host="${http_port}", container=8000)
    assert "127.0.0.1:8123:8000" in words(command(ports=(port,)))
    away = PublishedPort(host="1", container=2, address="::1")
    assert "[::1]:1:2" in words(command(ports=(away,)))


def test_gpus_are_said_as_each_engine_means_them() -> None:
    assert gpu_words("docker", "all") == ["--gpus", "all"]
    assert gpu_words("docker", "0,GPU-ab") == ["--gpus", '"device=0,GPU-ab"']
    assert gpu_words("podman", "0,GPU-ab") == [
        "--device", "nvidia.com/gpu=0", "--device", "nvidia.com/gpu=GPU-ab",
    ]  # fmt: skip
    assert "--gpus" not in words(command(gpus="all"), "podman")


@given(source=paths, target=paths, read_only=st.booleans())
def test_any_path_is_one_field_of_the_mount(source: str, target: str, read_only: bool) -> None:
    # Go's reader and this one agree on quoting; a carriage return in Go's is normalised.
    text = bind(source, target, read_only)
    (row,) = csv.reader([text] if "\n" not in text and "\r" not in text else _lines(text))
    assert row[:3] == ["type=bind", f"source={source}", f"target={target}"]
    assert row[3:] == (["readonly"] if read_only else [])


def _lines(text: str) -> list[str]:
    """The record as `csv.reader` takes it: with the line breaks inside its quotes."""
    return text.splitlines(keepends=True) if text.splitlines(keepends=True) else [text]


@pytest.mark.parametrize("name", ["a b", "a:b", "a,b", 'a"b', "$HOME", "`id`", "new\nline", "-v"])
def test_bash_hands_over_the_words_that_a_run_uses(name: str) -> None:
    made = command(
        argv=(literal(f"{name}"), "${work}/x"),
        mounts=(Mount(source=literal(f"/{name}"), target="/m", read_only=True),),
        gpus="0,1",
        workdir="${work}",
    )
    body = run_words(made)
    script = (
        f"set -euo pipefail\nENGINE=docker\ndocker() {{ :; }}\n{SHELL_HEAD}\n{shell_before(body)}\n"
        f"CALLER=({' '.join(CALLER)})\nprintf '%s\\0' {shell_words(body)}\n"
    )
    env = {"PATH": os.environ["PATH"], "IMAGE_SERVER": "nvcr.io/x:1", "WORK": "/w"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == words(made)


def test_the_hugging_face_cache_is_shared_with_the_host() -> None:
    mount, env = huggingface_cache("${work}/hf")
    assert 'type=bind,"source=/w/hf","target=/huggingface"' in words(command(mounts=(mount,)))
    assert mount.create and env == {"HF_HOME": "/huggingface"}


def test_an_environment_file_takes_everything_but_line_breaks() -> None:
    assert env_lines({"A": 'x "y" # $z', "B": ""}) == 'A=x "y" # $z\nB=\n'
    for name, value in (("A", "x\ny"), ("A", "x\ry"), ("A B", "x"), ("", "x"), ("A=B", "x")):
        with pytest.raises(UsageError):
            env_lines({name: value})


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": "root"}, {"gpus": "0 1"}, {"shm_size": "lots"}, {"pids": 20}, {"cpus": "two"},
        {"network": "host", "ports": ({"host": "1", "container": 2},)},
        {"mounts": ({"source": "/a", "target": "b"},)},
    ],
)  # fmt: skip
def test_what_no_engine_would_take_is_refused_when_the_plan_is_made(
    wrong: dict[str, object],
) -> None:
    with pytest.raises(ValidationError):
        Container.model_validate(wrong)


def test_a_pinned_image_is_asked_for_by_its_digest() -> None:
    digest = "sha256:" + "a" * 64
    pinned = ImageSpec(name="s", reference="host:5000/triton:24.10", digest=digest)
    assert pinned.tag == f"host:5000/triton@{digest}"
    assert ImageSpec(name="s", reference="host:5000/triton", digest=digest).tag == (
        f"host:5000/triton@{digest}"
    )


def test_a_derived_images_tag_tells_its_requirements_apart() -> None:
    one, other = (ImageSpec(name="s", base="b:1", requirements=(r,)) for r in ("x==1", "x==2"))
    assert one.tag.startswith("tritondeck/s:") and one.tag != other.tag


OLD_TAIL, NEW_TAIL = (
    ".\nSee 'docker run --help'.\n",
    "\n\nRun 'docker run --help' for more information\n",
)


@pytest.mark.parametrize("tail", [OLD_TAIL, NEW_TAIL])
def test_both_tails_of_dockers_messages_read_the_same(tail: str) -> None:
    said = (
        "docker: Error response from daemon: No such image: nvcr.io/nvidia/tritonserver:24.10-py3"
    )
    told = engine_errors.explain(said + tail, "start the container")
    assert told.title.startswith("the image nvcr.io/nvidia/tritonserver:24.10-py3")
    unknown = engine_errors.explain("docker: Error response from daemon: something new" + tail, "x")
    assert (unknown.title, unknown.why.rstrip(".")) == ("cannot x", "something new")


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ('could not select device driver "cdi" with capabilities: []', "the engine knows no such GPU"),
        ("unknown or invalid runtime name: nvidia\nUnknown runtime specified nvidia.", "this docker has no"),
        ("toomanyrequests: You have reached your pull rate limit", "the registry gives no more"),
        ("unauthorized: authentication required", "the registry does not give"),
        ("manifest for x:1 not found: manifest unknown", "the registry has no such image"),
        ("write /var/lib/docker/tmp/x: no space left on device", "the engine's disk is full"),
        ("BuildKit is enabled but the buildx component is missing or broken.", "docker cannot build"),
        ('The container name "/x" is already in use by container "1"', "there is a container x already"),
        ("crun: setrlimit `RLIMIT_NOFILE`: Operation not permitted", "the engine may not set its limits"),
        ("Error: insufficient UIDs or GIDs available in user namespace", "podman cannot map user ids"),
    ],
)  # fmt: skip
def test_texts_that_need_another_machine_are_known_too(said: str, title: str) -> None:
    assert engine_errors.explain(said, "run").title.startswith(title)


# ---------------------------------------------------------------------------- logs


def copied(tmp_path: Path, engine: Docker | Podman, *chunks: bytes) -> bytes:
    out = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    copy = Copy(engine, "c", tmp_path / "place", out)
    copy.begin()
    for chunk in chunks:
        copy.take(0, chunk)
    copy.take(0, b"")
    os.close(out)
    return (tmp_path / "out").read_bytes()


STAMP = b"2026-11-21T07:11:54.%09dZ "


def test_a_line_is_copied_once_however_often_it_is_read(tmp_path: Path) -> None:
    lines = b"".join(STAMP % n + b"line %d\n" % n for n in (1, 2, 2, 3))
    assert copied(tmp_path, Docker(), lines[:40], lines[40:]).count(b"line") == 4
    more = lines + STAMP % 3 + b"another of the same moment\n" + STAMP % 4 + b"new\n"
    assert copied(tmp_path, Docker(), more) == b"another of the same moment\nnew\n"


def test_stamps_between_the_pieces_of_a_line_are_taken_out(tmp_path: Path) -> None:
    long = STAMP % 1 + b"a" * 16384 + STAMP % 2 + b"b\n"
    assert copied(tmp_path, Docker(), long) == b"a" * 16384 + b"b\n"
    (tmp_path / "place").unlink()
    pieces = STAMP % 1 + b"[a]" + STAMP % 2 + b"[b]" + STAMP % 3 + b"\n"
    assert copied(tmp_path, Podman(), pieces) == b"[a][b]\n"


def test_a_time_that_the_program_prints_itself_stays(tmp_path: Path) -> None:
    line = STAMP % 1 + b'2026-11-21T07:11:54Z E 7 server.cc:1] "x"\n'
    for engine in (Docker(), Podman()):
        assert copied(tmp_path, engine, line).startswith(b"2026-11-21T07:11:54Z E 7")
        (tmp_path / "place").unlink()
