"""The command line as a process: what it imports, what it prints, how it ends."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from console import cli

ROOT = Path(__file__).parents[2]
TRITONDECK = (sys.executable, "-m", "console.cli")


def tritondeck(
    home: Path, *words: str, cwd: Path = ROOT, **environ: str
) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "TRITONDECK_HOME": str(home), **environ}
    return subprocess.run(
        [*TRITONDECK, *words],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=60,
        check=False,
    )


def imported_by(*words: str) -> set[str]:
    """Top-level packages in `sys.modules` after `main(words)`."""
    program = (
        "import sys\nfrom console import cli\n"
        "try:\n    cli.main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('\\n' + ' '.join(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


# Heavy packages, and each of the core dependencies.
HEAVY = {
    "textual",
    "rich",
    "tritonclient",
    "pydantic",
    "yaml",
    "psutil",
    "onnx",
    "tomlkit",
    "pynvml",
}


@pytest.mark.parametrize("words", [["--help"], ["deploy", "--help"], ["--version"], ["version"]])
def test_help_and_version_import_nothing_heavy(words: list[str]) -> None:
    assert not imported_by(*words) & (HEAVY | {"numpy", "shtab", "screens", "backends"})


def test_help_takes_a_quarter_of_a_second_of_processor_time_at_most(tmp_path: Path) -> None:
    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert tritondeck(tmp_path, "--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # The least of a few: what others run on this machine is not ours to measure.
    assert min(once() for _ in range(5)) <= 0.25


def test_inspect_imports_neither_textual_nor_tritonclient() -> None:
    assert not imported_by("inspect", str(ROOT / "README.md")) & {"textual", "rich", "tritonclient"}


def test_help_lists_every_verb_with_what_it_does(tmp_path: Path) -> None:
    shown = " ".join(tritondeck(tmp_path, "--help").stdout.split())
    for name, _, text, _ in cli.TABLE:
        assert f"{name} {text}" in shown


@pytest.mark.parametrize("name", [entry[0] for entry in cli.TABLE])
def test_every_verb_has_help_and_a_function_that_exists(name: str) -> None:
    from importlib import import_module

    args = {entry[0]: entry[1] for entry in cli.TABLE}[name]
    module, _, function = args.partition(":")
    assert callable(getattr(import_module(module), function))
    with pytest.raises(SystemExit) as ended:
        cli.parser().parse_args([name, "--help"])
    assert ended.value.code == 0


def test_every_verb_is_in_the_documents() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text()
    table = text.split("## Deploying")[0]
    undocumented = [entry[0] for entry in cli.TABLE if f"`{entry[0]}" not in table]
    assert undocumented == []


# ---------------------------------------------------------------------------- ends


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["no-such-verb"], 2),
        (["inspect"], 2),
        (["inspect", "/no/such/file.nemo"], 2),
        (["runs", "--no-such-flag"], 2),
        (["deploy", "no-such-name"], 2),
        (["deploy", "../escape"], 2),
        (["forget", "../escape"], 2),
        (["runs", "show", "../../etc"], 2),
        (["runs", "show", "never-run"], 1),
        (["backends", "no-such-backend"], 2),
        (["env", "create", "no-such-environment"], 2),
        (["stop", "no-such-service"], 2),
        (["logs"], 2),
        ([], 2),
        (["version"], 0),
        (["runs"], 0),
        (["ps"], 0),
        (["deployments"], 0),
        (["env", "list"], 0),
    ],
)
def test_exit_code(tmp_path: Path, words: list[str], code: int) -> None:
    done = tritondeck(tmp_path, *words)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["no-such-verb", "--json"],
        ["inspect", "/no/such/file.nemo", "--json"],
        ["deploy", "no-such-name", "--json"],
        ["runs", "show", "never-run", "--json"],
        ["--json", "runs"],
    ],
)
def test_an_error_is_one_json_object_with_the_exit_code(tmp_path: Path, words: list[str]) -> None:
    done = tritondeck(tmp_path, *words)
    document = json.loads(done.stdout)
    assert document["version"] == 1
    assert set(document["error"]) == {"title", "why", "fix", "raw", "exit_code"}
    assert document["error"]["exit_code"] == done.returncode != 0


def test_a_reader_that_went_away_is_no_error_message(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nowhere:
        done = subprocess.run(
            [*TRITONDECK, "completion", "bash"], stdout=nowhere, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (cli.EXIT_PIPE, b"")


@pytest.mark.parametrize("words", [["version"], ["runs", "--json"], ["completion", "bash"]])
def test_a_full_disk_behind_stdout_is_an_error_in_words(words: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*TRITONDECK, *words], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr


def test_a_flag_of_an_option_before_the_deployment_is_wrong_usage(tmp_path: Path) -> None:
    done = tritondeck(tmp_path, "plan", "--max-batch-size", "4", "digits")
    assert done.returncode == 2
    assert "name the deployment before" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-batch-size", "many"], "max_batch_size: Input should be a valid integer"),
        (["--no-such-option", "1"], "there is no flag --no-such-option"),
        (["--max-batch-size"], "--max-batch-size needs a value"),
        (["--set", "opset"], "--set takes KEY=VALUE"),
        (["--set", "server.http_port=70000"], "server.http_port"),
        (["--set", "server.no_such_key=1"], "server.no_such_key"),
        (["--set", "version.x=1"], "version is not a section"),
        (["--name", "other"], "--name, --backend and --profile are for a checkpoint"),
    ],
)
def test_a_wrong_option_says_what_was_expected(tmp_path: Path, words: list[str], said: str) -> None:
    done = tritondeck(tmp_path, "plan", "examples/digits/deployment.toml", *words)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--opset", "18"],
        ["--opset=18"],
        ["--set", "opset=18"],
        ["--set", "options.opset=18"],
        ["--verbose", "--opset", "18"],
        ["--verbose", "false", "--opset", "18"],
    ],
)
def test_an_option_of_the_backend_has_a_flag_of_its_own(tmp_path: Path, words: list[str]) -> None:
    done = tritondeck(tmp_path, "plan", "examples/digits/deployment.toml", *words, "--json")
    assert done.returncode == 0, done.stderr
    steps = {step["id"]: step for step in json.loads(done.stdout)["plan"]["steps"]}
    argv = steps["export"]["command"]["argv"]
    assert argv[argv.index("--opset") + 1] == "18"


def test_a_dotted_key_changes_the_deployment(tmp_path: Path) -> None:
    words = ("examples/digits/deployment.toml", "--set", "server.http_port=8123", "--json")
    plan = json.loads(tritondeck(tmp_path, "plan", *words).stdout)["plan"]
    assert {v["name"]: v["default"] for v in plan["variables"]}["http_port"] == "8123"


def test_an_ascii_locale_shows_foreign_names_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "Modèle"
    folder.mkdir()
    done = tritondeck(
        tmp_path, "inspect", str(folder / "x.nemo"), PYTHONIOENCODING="ascii", LC_ALL="C"
    )
    assert done.returncode == 2
    assert "Mod\\xe8le" in done.stderr


def test_a_hostile_file_name_reaches_no_terminal(tmp_path: Path) -> None:
    name = "\x1b]0;owned\x07\x9b31m\u202egnp.nemo"
    done = tritondeck(tmp_path, "inspect", str(tmp_path / name))
    assert done.returncode == 2
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", done.stderr)


def test_a_file_name_that_is_not_utf8_is_valid_json(tmp_path: Path) -> None:
    done = tritondeck(tmp_path, "inspect", os.fsdecode(b"/no/\xff.nemo"), "--json")
    text = json.loads(done.stdout)["error"]["title"]
    text.encode("utf-8")
    assert "\N{REPLACEMENT CHARACTER}" in text


def test_no_colour_outside_a_terminal(tmp_path: Path) -> None:
    done = tritondeck(tmp_path, "doctor")
    assert "\x1b" not in done.stdout + done.stderr


def test_readonly_refuses_changes_and_allows_looking(tmp_path: Path) -> None:
    assert tritondeck(tmp_path, "--readonly", "runs").returncode == 0
    done = tritondeck(tmp_path, "--readonly", "env", "create", "embedded")
    assert done.returncode == 3
    assert "read-only" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_the_verbs(tmp_path: Path, shell: str) -> None:
    done = tritondeck(tmp_path, "completion", shell)
    assert done.returncode == 0
    assert all(entry[0] in done.stdout for entry in cli.TABLE)


def test_bash_completion_completes_a_verb_and_its_action(tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(tritondeck(tmp_path, "completion", "bash").stdout)

    def completed(*words: str) -> list[str]:
        program = (
            f"source {shlex.quote(str(script))}; COMP_WORDS=({shlex.join(words)}); "
            f"COMP_CWORD={len(words) - 1}; _shtab_tritondeck 2>/dev/null; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert completed("tritondeck", "qui") == ["quickstart"]
    assert completed("tritondeck", "runs", "ret") == ["retry"]


# ---------------------------------------------------------------------------- documents


def documented(language: str) -> list[str]:
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def examples() -> list[tuple[str, int, str]]:
    """Command, exit code and output (``…`` stands for anything) of every console block."""
    found = []
    for block in documented("console"):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            command, _, comment = command.partition("  # exits ")
            found.append((command, int(comment or 0), output))
    return found


@pytest.mark.parametrize(("command", "code", "output"), examples(), ids=lambda v: str(v)[:40])
def test_the_documented_example_is_what_happens(
    tmp_path: Path, command: str, code: int, output: str
) -> None:
    words = shlex.split(command)
    assert words.pop(0) == "tritondeck"
    done = tritondeck(tmp_path, *words)
    assert done.returncode == code, done.stderr
    pattern = ".*".join(re.escape(piece) for piece in output.split("…"))
    assert re.fullmatch(pattern, done.stdout + done.stderr, re.S), done.stdout + done.stderr


@pytest.mark.parametrize("line", [li for block in documented("sh") for li in block.splitlines()])
def test_the_documented_command_line_is_understood(line: str) -> None:
    words = shlex.split(line)
    assert words.pop(0) == "tritondeck"
    args, rest = cli.parser().parse_known_args(words)
    assert args.target
    assert not rest or args.option_flags
