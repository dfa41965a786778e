"""The catalog of upstream's generations and command lines, and a plan's comparison with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.upstream import flags, generations, parsers
from console.facts import Level, UsageError

DEPLOY = "scripts/deploy/nlp/deploy_triton.py"
IN_FRAMEWORK = "scripts/deploy/nlp/deploy_inframework_triton.py"
SCRIPT = """
import argparse

def get_args(argv):
    parser = argparse.ArgumentParser(description="x")
    group = parser.add_argument_group("model")
    group.add_argument("-nc", "--nemo_checkpoint", type=str, required=True, help="where")
    parser.add_argument("-ng", "--num_gpus", default=2, type=int)
    parser.add_argument("--dtype", choices=["bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--task_ids", nargs="+")
    parser.add_argument("-dm", "--debug_mode", default=False, action="store_true")
    parser.add_argument("--rest", default=False, type=bool)
    parser.add_argument("--sp", action=argparse.BooleanOptionalAction)
    parser.add_argument("--folder", default=Path("x") / "y")
    parser.add_argument("positional")
    return parser.parse_args(argv)
"""


def compare(*words: str, script: str = "x.py", generation: str = "") -> list[tuple[Level, str]]:
    found = flags.compare(
        words, parsers.read(SCRIPT), script=script, source="a test", generation=generation
    )
    return [(verdict.level, verdict.summary) for verdict in found]


def test_every_generation_of_the_command_lines_is_described() -> None:
    assert list(generations.catalog().generations) == list(parsers.scripts().generations)


@pytest.mark.parametrize("route", list(generations.catalog().routes))
def test_a_route_has_its_script_in_the_generations_that_have_it(route: str) -> None:
    entry = generations.catalog().routes[route]
    having = [n for n in generations.catalog().generations if generations.has(route, n)]
    assert having[0] == entry.first and having[-1] == entry.last
    assert all(parsers.known(entry.script, name) for name in having)


def test_flags_of_a_generation_are_those_of_its_git_history() -> None:
    first, later = parsers.known(DEPLOY, "nemo-24.07"), parsers.known(DEPLOY, "nemo-25.04")
    assert first and later
    assert first.find("--hf_model_id_path") is None and later.find("--hf_model_id_path")
    option = first.find("-tmn")
    assert option and option.name == "--triton_model_name" and option.required


def test_an_installed_script_is_read_without_running_it() -> None:
    found = parsers.read(SCRIPT)
    assert [option.name for option in found.options] == [
        *("--nemo_checkpoint", "--num_gpus", "--dtype", "--task_ids", "--debug_mode", "--rest"),
        *("--sp", "--folder"),
    ]
    assert found.find("-nc") == parsers.Option(
        flags=("--nemo_checkpoint", "-nc"), type="str", required=True, line=7
    )
    assert found.find("--no-sp") is found.find("--sp")
    folder = found.find("--folder")
    assert folder and folder.default == "Path('x') / 'y'"


def test_a_text_that_is_not_python_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="cannot read the options"):
        parsers.read("def (", "deploy.py")


def test_a_plan_that_fits_passes_in_one_verdict() -> None:
    words = ("--nemo_checkpoint", "${checkpoint}", "--num_gpus=4", "--task_ids", "a", "b")
    assert compare(*words) == [(Level.PASS, "x.py accepts all 3 planned flags")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gpus", "1"), "x.py has no flag --gpus"),
        (("--num_gpus", "many"), "--num_gpus: many is not of type int"),
        (("--dtype", "int8"), "--dtype: int8 is not among bfloat16, float16"),
        (("--debug_mode", "True"), "--debug_mode: takes no value, and True is given"),
        (("--num_gpus",), "--num_gpus: needs a value"),
        (("--num_gpus", "1", "2"), "--num_gpus: takes one value, and 2 are given"),
    ],
)
def test_what_argparse_would_refuse_is_a_failure(words: tuple[str, ...], said: str) -> None:
    assert (Level.FAIL, said) in compare("--nemo_checkpoint", "x", *words)


def test_a_missing_required_flag_is_a_failure_with_its_line() -> None:
    (found,) = flags.compare((), parsers.read(SCRIPT), script="x.py", source="a test")
    assert found.level is Level.FAIL and found.figure == "line 7"


def test_the_bool_trap_is_told() -> None:
    (found,) = compare("--nemo_checkpoint", "x", "--rest", "False")
    assert found[1].startswith("--rest: any text counts as true")
    assert compare("--nemo_checkpoint", "x", "--rest", "True")[0][0] is Level.PASS


def test_a_negative_number_is_a_value() -> None:
    assert compare("--nemo_checkpoint", "x", "--num_gpus", "-1")[0][0] is Level.PASS


def test_a_renamed_flag_is_told_with_its_name_here() -> None:
    parser = parsers.known(IN_FRAMEWORK, "ed-0.3")
    assert parser
    words = ("--triton_model_name", "m", "--tensor_parallelism_size", "2")
    (found,) = flags.compare(words, parser, script=IN_FRAMEWORK, source="the catalog")
    assert found.figure == "it is called --tensor_model_parallel_size here"


def test_a_flag_that_does_nothing_is_a_warning() -> None:
    parser = parsers.known(DEPLOY, "ed-0.4")
    assert parser
    words = ("--triton_model_name", "m", "--service_port", "8080")
    (found,) = flags.compare(words, parser, script=DEPLOY, source="x", generation="ed-0.4")
    assert found.level is Level.WARN and "does nothing" in found.summary


def test_a_changed_default_is_a_warning_unless_the_plan_sets_it() -> None:
    predicted = parsers.read(SCRIPT.replace("default=2", "default=1"))
    here = parsers.read(SCRIPT)
    words = ["--nemo_checkpoint", "x"]
    (found,) = flags.compare(words, here, script="x.py", source="x", predicted=predicted)
    assert found.level is Level.WARN and found.figure == "2 instead of 1"
    words += ["--num_gpus", "1"]
    (found,) = flags.compare(words, here, script="x.py", source="x", predicted=predicted)
    assert found.level is Level.PASS


@pytest.mark.parametrize(
    ("package", "version", "name"),
    [
        ("nemo_toolkit", "2.0.0rc1", "nemo-24.07"),
        ("nemo_toolkit", "2.3.2", "nemo-25.04"),
        ("nemo-export-deploy", "0.2.1", "ed-0.2"),
        ("nemo_export_deploy", "0.4.0", "ed-0.4"),
        ("nemo-export-deploy", "unknown", ""),
        ("nemo_toolkit", "1.23.0", ""),
    ],
)
def test_a_generation_is_known_by_the_installed_version(
    package: str, version: str, name: str
) -> None:
    assert generations.of_version(package, version) == name


def test_a_container_tag_may_promise_two_generations() -> None:
    assert generations.of_image("nvcr.io/nvidia/nemo:25.07") == ("nemo-25.07", "ed-0.1")


def test_a_route_that_is_gone_names_the_last_generation_and_what_to_take_instead() -> None:
    found = generations.verdict("nemo-tensorrt-llm", "ed-0.5")
    assert found.level is Level.FAIL
    assert "Export-Deploy 0.4" in found.figure and "trtllm-llmapi" in found.fix


def test_a_route_before_its_first_generation_names_that_one() -> None:
    found = generations.verdict("ray-hf", "nemo-25.04")
    assert found.figure == "the first that has it is Export-Deploy 0.1 (NeMo container 25.07)"


def test_a_difference_inside_a_route_warns() -> None:
    assert generations.verdict("nemo-vllm", "ed-0.4").level is Level.WARN
    assert generations.verdict("nemo-multimodal", "nemo-24.09").level is Level.PASS
    assert generations.verdict("nemo-multimodal", "nemo-24.07").level is Level.WARN


@pytest.mark.parametrize(
    ("name", "said"), [("nemo-99.99", "no generation nemo-99.99"), ("", "no generation is named")]
)
def test_a_generation_that_there_is_not_is_told_with_those_that_there_are(
    name: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        generations.generation(name)
    assert "ed-0.4" in raised.value.why and "options.generation" in raised.value.fix


def test_an_operators_file_adds_a_generation(tmp_path: Path) -> None:
    file = tmp_path / "generations.toml"
    file.write_text(
        '[generations."ed-0.7"]\ntitle = "x"\npackage = "nemo-export-deploy"\n'
        'versions = "==0.7.*"\nroot = "/opt"\nref = "mine"\n'
    )
    assert list(generations.catalog(file).generations)[-1] == "ed-0.7"
