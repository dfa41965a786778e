"""The rendered script: clean, faithful to hostile words, and it really runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.planning.plan import (
    Command,
    CommandStep,
    EnvironmentSpec,
    EnvironmentStep,
    ExitCode,
    FileExists,
    FileSpec,
    JsonFile,
    LogMarker,
    Plan,
    ServiceSpec,
    ServiceStep,
    UrlReady,
    WriteStep,
)
from console.planning.script import render
from console.planning.variables import Variable, expand, literal, shell_word
from tests import shell

HOSTILE = "a $(touch pwned) `id` 'single' \"double\" ${HOME} \\ ; & | * ~ -x"
WRITE_JSON = (
    "import json, sys; json.dump({'a': {'b': 0.5}}, open('r.json', 'w')); print('saw', sys.argv[1])"
)


def example_plan(limit: float = 1.0) -> Plan:
    return Plan(
        deployment="it's $odd",
        backend="onnx",
        variables=(Variable(name="http_port", kind="port", default="0", help="HTTP port"),),
        environments=(
            EnvironmentSpec(name="tiny", title="Tiny", requirements=(), imports=("json",)),
        ),
        steps=(
            EnvironmentStep(id="environment", title="Environment", environment="tiny"),
            WriteStep(
                id="files",
                title="Files",
                files=(
                    FileSpec(path="${work}/a b/c.txt", text="END\n$HOME `x`\n"),
                    FileSpec(path="${work}/t.txt", text="port=${http_port}\n", template=True),
                ),
                success=(FileExists(path="${work}/a b/c.txt"),),
            ),
            CommandStep(
                id="command",
                title="Command",
                command=Command(
                    argv=("python", "-c", WRITE_JSON, literal(HOSTILE)), runtime="environment:tiny"
                ),
                success=(
                    ExitCode(),
                    JsonFile(path="${work}/r.json", expect={"a.b": {"max": limit}}),
                    LogMarker(pattern=r"^saw a \$\("),
                ),
            ),
            ServiceStep(
                id="serve",
                title="Serve",
                service=ServiceSpec(
                    name="files",
                    command=Command(
                        argv=("python", "-m", "http.server", "-b", "127.0.0.1", "${http_port}"),
                        runtime="environment:tiny",
                    ),
                    http_url="http://127.0.0.1:${http_port}",
                    token_file="${token_file}",
                    repository="${work}/repository",
                ),
                success=(UrlReady(url="http://127.0.0.1:${http_port}/", timeout=60),),
            ),
        ),
    )


def run_script(plan: Plan, folder: Path) -> subprocess.CompletedProcess[str]:
    return shell.run(folder, render(plan), timeout=120)


def test_script_is_clean_under_shellcheck() -> None:
    shell.clean(render(example_plan()))


def test_script_runs_every_kind_of_step_in_an_empty_folder(tmp_path: Path) -> None:
    done = run_script(example_plan(), tmp_path)
    assert done.returncode == 0, done.stderr
    work = tmp_path / "it's $odd"
    assert (work / "a b" / "c.txt").read_text() == "END\n$HOME `x`\n"
    assert f"saw {HOSTILE}" in (work / "logs" / "command.log").read_text()
    assert not list(tmp_path.rglob("pwned"))
    assert (work / "token").stat().st_mode & 0o777 == 0o600


def test_script_stops_at_a_bound_that_does_not_hold(tmp_path: Path) -> None:
    done = run_script(example_plan(limit=0.1), tmp_path)
    assert done.returncode != 0
    assert "a.b is 0.5, at most 0.1 allowed" in done.stderr
    assert not (tmp_path / "it's $odd" / "logs" / "serve.log").exists()


def test_rendering_is_a_pure_function() -> None:
    assert render(example_plan()) == render(example_plan())


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=60))
def test_literal_text_survives_expansion(text: str) -> None:
    assert expand(literal(text), {}) == text


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=60))
def test_shell_word_is_one_word_with_the_same_text(text: str) -> None:
    word = shell_word(literal(text) + "${tail}")
    done = subprocess.run(
        ["bash", "-c", f"TAIL='a b'; printf '%s\\0' {word}"], capture_output=True, check=True
    )
    assert done.stdout.decode() == f"{text}a b\0"


def test_plan_refuses_a_variable_that_nobody_declares() -> None:
    step = CommandStep(id="x", title="x", command=Command(argv=("echo", "${nowhere}")))
    with pytest.raises(ValueError, match="no such variable: nowhere"):
        Plan(deployment="d", backend="onnx", steps=(step,))


def test_plan_survives_json() -> None:
    plan = example_plan()
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
