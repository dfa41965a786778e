"""The Ray Serve route: what it takes, what it refuses, and what it says to upstream's scripts."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from pydantic import ValidationError

from backends.environments import environment
from backends.language import ray_words
from backends.language.ray_options import RayOptions
from backends.ray_serve import RayServeBackend
from backends.upstream import flags, generations, parsers
from console.checkpoints.model import Checkpoint, Format, Risk, Severity
from console.facts import Endpoint, Level, ModelMetadata, ToolFacts, Verdict
from console.planning.deployment import Deployment, VerifyCase
from console.planning.plan import Plan, ServiceSpec, ServiceStep, TextAnswered, VerifyStep
from console.prompts import TextRequest
from tests.contract import samples
from tests.upstream import agreed

BACKEND = RayServeBackend()
FOLDER = samples.language()
NEMO2 = samples.nemo_language(format=Format.NEMO2)
MEGATRON = samples.nemo_language(format=Format.MEGATRON)
ORDER = list(generations.catalog().generations)
WITH_SCRIPTS = [name for name in ORDER if name.startswith("ed-")]
WORST = [Level.PASS, Level.UNKNOWN, Level.WARN, Level.FAIL]
SCRIPTS, CATALOG = cache(parsers.scripts), cache(generations.catalog)
OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "replicas": {"num_replicas": 3},
    "gpus": {"num_gpus_per_replica": 2.0},
    "part-of-a-gpu": {"num_gpus_per_replica": 0.5},
    "cpus": {"num_cpus_per_replica": 4.0},
    "requests": {"max_ongoing_requests": 20},
    "dtype": {"dtype": "bfloat16"},
    "device_map": {"device_map": "balanced"},
    "visible": {"cuda_visible_devices": "0,1"},
    "vllm": {"engine": "vllm"},
    "trust": {"trust_remote_code": True},
    "tensor": {"tensor_parallel_size": 2},
    "pipeline": {"pipeline_parallel_size": 2},
    "context": {"context_parallel_size": 2},
    "expert": {"expert_model_parallel_size": 2},
    "nodes": {"num_nodes": 2, "tensor_parallel_size": 2},
    "batch": {"max_batch_size": 4},
    "length": {"inference_max_seq_length": 100},
    "flash": {"enable_flash_decode": True},
    "graphs": {"enable_cuda_graphs": True},
    "legacy": {"legacy_ckpt": True},
    "tensorrt": {"engine": "tensorrt-llm", "max_input_len": 100, "max_output_len": 20},
}


@pytest.fixture(autouse=True)
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogs are files, and are read anew for each verdict."""
    monkeypatch.setattr(parsers, "scripts", SCRIPTS)
    for module in (generations, flags):
        monkeypatch.setattr(module, "catalog", CATALOG)


def deployment(
    *verify: VerifyCase, server: dict[str, Any] | None = None, **options: Any
) -> Deployment:
    return Deployment.model_validate(
        {
            "name": "llama",
            "backend": BACKEND.name,
            "checkpoints": {"model": str(FOLDER.path)},
            "options": options,
            "server": server or {},
            "verify": verify,
        }
    )


def plan(
    *verify: VerifyCase,
    model: Checkpoint = FOLDER,
    server: dict[str, Any] | None = None,
    **options: Any,
) -> Plan:
    made = deployment(*verify, server=server, **options)
    return BACKEND.plan(made, {"model": model}, samples.GPU_HOST, ToolFacts())


def service(made: Plan) -> ServiceSpec:
    return next(step.service for step in made.steps if isinstance(step, ServiceStep))


def checks(
    model: Checkpoint = FOLDER, server: dict[str, Any] | None = None, **options: Any
) -> dict[str, Verdict]:
    made = deployment(server=server, **options)
    found = BACKEND.checks(made, {"model": model}, samples.GPU_HOST, ToolFacts())
    return {verdict.check: verdict for verdict in sorted(found, key=lambda v: WORST.index(v.level))}


def failing(found: dict[str, Verdict]) -> set[str]:
    return {name for name, verdict in found.items() if verdict.level is Level.FAIL}


# ---------------------------------------------------------------------------- command lines


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("generation", WITH_SCRIPTS)
@pytest.mark.parametrize("model", [FOLDER, NEMO2, MEGATRON], ids=["folder", "nemo2", "megatron"])
def test_a_planned_command_line_is_accepted_or_a_verdict_says_so(
    model: Checkpoint, generation: str, option: str
) -> None:
    """Argparse itself judges the words, with the options that this generation's script has."""
    options = {"form": "script", "generation": generation, **OPTIONS[option]}
    bound = RayOptions.model_validate(options)
    script = ray_words.script_of(bound, model)
    told = failing(checks(model, **options))
    parser = parsers.known(script, generation)
    if parser is None:
        assert "route-generation" in told
        return
    argv = ray_words.arguments(deployment(**options), bound, model)
    # The port is known when the run starts.
    argv = [word.replace("${http_port}", "8000") for word in argv]
    agreed(parser, argv, told)


@pytest.mark.parametrize(
    ("kind", "form", "row", "name"),
    [
        (kind, form, row, name)
        for kind in ("folder", "megatron")
        for form in ("application", "script")
        for row, options in OPTIONS.items()
        for name in options
        # What an application does not serve is refused before.
        if form == "script" or (kind == "folder" and row != "tensorrt")
    ],
)
def test_an_option_changes_what_runs_or_is_told_to_do_nothing(
    kind: str, form: str, row: str, name: str
) -> None:
    """Several options of a row go together: what one of them does is not hidden by the others."""
    model = {"folder": FOLDER, "megatron": MEGATRON}[kind]
    usual: dict[str, Any] = {"form": form}
    if name != "engine" and "engine" in OPTIONS[row]:
        usual["engine"] = OPTIONS[row]["engine"]
    changed = {**usual, name: OPTIONS[row][name]}
    before, after = (
        ray_words.follower(deployment(**given), RayOptions.model_validate(given), model)
        for given in (usual, changed)
    )
    made = deployment(**changed)
    found = BACKEND.checks(made, {"model": model}, samples.GPU_HOST, ToolFacts())
    assert before != after or any(
        verdict.option == f"options.{name}" and verdict.level is not Level.PASS for verdict in found
    )


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"node_cpus": 4}, "node_cpus"),
        ({"gcs_port": 0}, "gcs_port"),
        ({"cluster": "head", "head": "http://far:8265"}, "head"),
        ({"cluster": "head", "gcs": "far:6379"}, "gcs"),
        ({"cluster": "join", "gcs": "far:6379", "dashboard_port": 0}, "dashboard_port"),
        ({"generation": "ed-0.3"}, "generation"),
    ],
)
def test_an_option_of_another_way_to_a_cluster_is_told_to_do_nothing(
    options: dict[str, Any], name: str
) -> None:
    found = BACKEND.checks(deployment(**options), {"model": FOLDER}, samples.GPU_HOST, ToolFacts())
    (told,) = [v for v in found if v.option == f"options.{name}"]
    assert told.level is Level.WARN and "does nothing" in told.summary


@pytest.mark.parametrize("generation", [name for name in ORDER if name not in WITH_SCRIPTS])
def test_a_generation_before_ray_is_refused(generation: str) -> None:
    assert "route-generation" in failing(checks(form="script", generation=generation))


def test_tensorrt_llm_is_gone_since_0_5_with_what_to_take() -> None:
    options = {"form": "script", "engine": "tensorrt-llm", "generation": "ed-0.5"}
    told = checks(**options)["route-generation"]
    assert told.level is Level.FAIL and "0.4" in told.figure and "vllm" in told.fix


def test_the_gpus_of_all_replicas_are_the_total_that_upstream_divides() -> None:
    options = {"form": "script", "tensor_parallel_size": 2, "num_replicas": 3}
    argv = service(plan(model=MEGATRON, **options)).process.argv
    assert {"--num_gpus=6", "--num_replicas=3", "--tensor_model_parallel_size=2"} <= set(argv)


def test_the_first_generation_is_told_the_gpus_of_one_node() -> None:
    options = {"form": "script", "generation": "ed-0.1", "tensor_parallel_size": 4, "num_nodes": 2}
    argv = service(plan(model=NEMO2, **options)).process.argv
    assert {"--num_gpus=2", "--num_nodes=2"} <= set(argv)


@pytest.mark.parametrize(
    ("kind", "generation", "fails"),
    [
        (Format.NEMO2, "ed-0.3", False),
        (Format.NEMO2, "ed-0.4", True),
        (Format.MEGATRON, "ed-0.1", True),
        (Format.MEGATRON, "ed-main", False),
    ],
)
def test_a_generation_reads_its_own_kinds_of_checkpoints(
    kind: Format, generation: str, fails: bool
) -> None:
    model = samples.nemo_language(format=kind)
    told = failing(checks(model, form="script", generation=generation))
    assert ("ray-format" in told) == fails


# ---------------------------------------------------------------------------- the plan


def test_an_existing_cluster_needs_nothing_of_this_machine_but_a_python() -> None:
    made = plan(head="http://127.0.0.1:9999", token_env="MY_RAY_TOKEN")
    spec = service(made)
    assert made.environments == () and spec.process.runtime == "host"
    assert "--head=http://127.0.0.1:9999" in spec.process.argv
    assert spec.process.secrets == ("MY_RAY_TOKEN",)
    assert spec.kind == "openai" and spec.models == ("llama",)


def test_a_port_of_a_cluster_need_not_be_free_here() -> None:
    spec = service(plan(server={"http_port": 8123}))
    assert spec.http_url == "http://127.0.0.1:8123" and "--port=8123" in spec.process.argv
    assert plan(server={"http_port": 8123}).variables == ()
    assert "--port=${http_port}" in service(plan(server={"http_port": 0})).process.argv


def test_a_head_runs_in_the_environment_that_replicas_import_from() -> None:
    made = plan(cluster="head", server={"expose": True}, node_address="10.0.0.1", node_cpus=2)
    spec = service(made)
    assert spec.process.runtime == "environment:inframework"
    assert {"--cluster=head", "--node-address=10.0.0.1", "--node-cpus=2"} <= set(spec.process.argv)
    assert not any(word.startswith("--head=") for word in spec.process.argv)


def test_an_environment_of_the_operators_needs_ray_for_a_cluster_alone() -> None:
    (of_ray,) = plan(cluster="head", server={"expose": True}, node_address="10.0.0.1").environments
    assert set(of_ray.imports) - set(environment("inframework").imports) == {"ray"}


def test_a_node_that_joins_submits_nothing_and_verifies_nothing() -> None:
    made = plan(cluster="join", gcs="10.0.0.1:6379", token_file="/t", server={"expose": True})
    argv = service(made).process.argv
    assert {"--cluster=join", "--gcs=10.0.0.1:6379", "--token-file=/t"} <= set(argv)
    assert "--" not in argv and service(made).models == ()
    assert not any(isinstance(step, VerifyStep) for step in made.steps)


def test_requests_go_to_upstreams_paths_and_an_error_in_words_is_no_answer() -> None:
    case = VerifyCase(text="What is the color of a banana?", expect="yellow")
    step = plan(case).steps[-1]
    assert isinstance(step, VerifyStep)
    (asked,) = step.success
    assert isinstance(asked, TextAnswered)
    assert asked.path == "/v1/chat/completions/" and asked.equals == "yellow"
    assert asked.never == "An error occurred:"


def test_the_plan_says_whose_code_it_is() -> None:
    assert "tritondeck's own job over nemo_deploy's HFRayDeployable" in plan().notes[0]
    assert "deploy_ray_hf.py" in plan(form="script").notes[0]


def test_no_token_stands_in_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_RAY_TOKEN", "0123456789abcdef")
    made = plan(token_env="MY_RAY_TOKEN")
    assert "0123456789abcdef" not in made.model_dump_json()


def test_code_of_the_checkpoint_is_off_unless_asked_for() -> None:
    assert "--trust-remote-code" not in service(plan()).process.argv
    assert "--trust-remote-code" in service(plan(trust_remote_code=True)).process.argv
    risky = replace(FOLDER, risks=(Risk("remote-code", Severity.DANGER, "runs its own code"),))
    assert checks(risky)["remote-code"].level is Level.WARN


# ---------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize("cluster", ["head", "join"])
def test_a_node_of_ray_listens_everywhere_and_needs_the_word(cluster: str) -> None:
    options = {"cluster": cluster, "gcs": "10.0.0.1:6379", "token_file": "/t"}
    assert "ray-ports" in failing(checks(**options))
    assert checks(server={"expose": True}, **options)["ray-ports"].level is Level.WARN


def test_a_node_joins_with_a_token() -> None:
    options = {"cluster": "join", "gcs": "10.0.0.1:6379", "server": {"expose": True}}
    assert failing(checks(**options)) == {"ray-token"}
    assert failing(checks(**options, token_env="T")) == set()


def test_serve_on_the_loopback_of_another_machine_is_refused() -> None:
    far = {"head": "http://10.0.0.1:8265", "token_env": "T"}
    assert failing(checks(**far)) == {"ray-reach"}
    open_ = {"address": "0.0.0.0", "expose": True}
    assert failing(checks(**far, server=open_)) == set()
    assert service(plan(**far, server=open_)).http_url == "http://10.0.0.1:8000"


def test_a_head_without_a_token_is_told() -> None:
    assert checks()["ray-token"].level is Level.WARN
    assert "ray-token" not in checks(token_file="/t")


@pytest.mark.parametrize(
    ("model", "options", "check"),
    [
        (MEGATRON, {"form": "application"}, "ray-form"),
        (MEGATRON, {"form": "script", "engine": "vllm"}, "ray-form"),
        (samples.nemo_language(), {"form": "script"}, "ray-form"),
        (FOLDER, {"tensor_parallel_size": 2}, "ray-layout"),
        (FOLDER, {"num_gpus_per_replica": 1.5}, "ray-layout"),
        (
            FOLDER,
            {"form": "script", "engine": "tensorrt-llm", "tensor_parallel_size": 2},
            "ray-layout",
        ),
        (FOLDER, {"form": "script", "generation": "nothing"}, "route-generation"),
    ],
)
def test_what_cannot_work_is_refused_before_the_start(
    model: Checkpoint, options: dict[str, Any], check: str
) -> None:
    told = checks(model, **options)[check]
    assert told.level is Level.FAIL and told.fix and told.option


def test_upstreams_way_of_stopping_is_told() -> None:
    assert "ray-stop" in checks(form="script")
    assert "ray-stop" not in checks()


def test_a_cluster_of_this_machine_alone_needs_its_gpu() -> None:
    made = deployment(cluster="head", server={"expose": True})
    found = BACKEND.checks(made, {"model": FOLDER}, samples.HOST, ToolFacts())
    assert "gpu" in {v.check for v in found if v.level is Level.FAIL}
    estimate = BACKEND.memory(made, {"model": FOLDER}, samples.HOST)
    assert estimate and estimate.host_serve > 2 << 30


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"token_env": "A", "token_file": "/b"}, "not both"),
        ({"cluster": "join"}, "gcs"),
        ({"form": "script", "device": "cpu"}, "form = application"),
        ({"engine": "tensorrt-llm"}, "form = script"),
        ({"device": "cpu", "engine": "vllm"}, "engine = pytorch"),
        ({"head": "http://user:word@host:1"}, "pattern"),
        ({"head": "http://[::1"}, "IPv6"),
        ({"head": "http://host:99999"}, "[Pp]ort out of range"),
        ({"gcs": "-x:1;"}, "pattern"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RayOptions.model_validate(options)


@pytest.mark.parametrize(
    ("model", "form"),
    [(FOLDER, "application"), (MEGATRON, "script"), (NEMO2, "script")],
)
def test_what_is_suggested_is_what_loads_the_checkpoint(model: Checkpoint, form: str) -> None:
    options = BACKEND.suggest({"model": model}, samples.GPU_HOST)
    assert options.form == form
    assert failing(checks(model, **options.model_dump())) == set()


def test_the_prompt_form_takes_conversations() -> None:
    form = BACKEND.prompts(
        Endpoint("http://127.0.0.1:1", kind="openai"), ModelMetadata("llama", (), "openai", (), ())
    )
    assert form is not None
    request = form.request({"prompt": "Hello"})
    assert isinstance(request, TextRequest) and request.model == "llama"
    assert request.never == "An error occurred:"
