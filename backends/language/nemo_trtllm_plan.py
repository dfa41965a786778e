"""The steps of the NeMo TensorRT-LLM route: image → flags compared → engine → PyTriton → an answer."""

from __future__ import annotations

import json

from backends.language import nemo_trtllm_form as form
from backends.language import nemo_trtllm_words as words
from backends.language.common import memory_figure
from backends.language.nemo_trtllm_checks import need_of
from backends.language.nemo_trtllm_words import Call
from backends.sources import worker
from backends.upstream import parsers
from console.facts import UsageError
from console.planning.deployment import Deployment
from console.planning.plan import (
    Command,
    CommandStep,
    Container,
    EnvironmentSpec,
    EnvironmentStep,
    ExitCode,
    FileSpec,
    ImageSpec,
    ImageStep,
    InputFile,
    JsonFile,
    LogMarker,
    Mount,
    Plan,
    PublishedPort,
    ServiceSpec,
    ServiceStep,
    Step,
    UrlReady,
    VerifyStep,
    WriteStep,
)
from console.planning.variables import Variable, literal

IMAGE = "nemo"
SERVICE = "nemo-trtllm"
WORKERS = "${work}/workers"
SCRATCH = "${work}/scratch"
FLAGS, ARGUMENTS, PLANNED = "flags.json", "arguments.json", "planned.json"
BUILD_HOURS = 6.0
"""A 70B model takes hours to convert and compile; nothing waits for ever."""
STOP_TIMEOUT = 60.0
"""PyTriton passes the signal on, and its tritonserver needs a few seconds more."""


def environments(deployment: Deployment, place: str) -> tuple[EnvironmentSpec, ...]:
    """The operator's environment; none where they named none (a check says so)."""
    wish = deployment.environments.get(words.ENVIRONMENT)
    if place == "container" or not (wish and wish.use):
        return ()
    spec = EnvironmentSpec(
        name=words.ENVIRONMENT,
        title="NeMo with TensorRT-LLM",
        requirements=(),
        existing=wish.use,
        imports=("tensorrt_llm", "pytriton"),
    )
    return (spec,)


def plan(call: Call) -> Plan:
    """Raises `UsageError` where the place is an environment that nobody named."""
    specs = environments(call.deployment, call.options.place)
    if not call.inside and not specs:
        raise UsageError(
            "the environment with NeMo and TensorRT-LLM is not named",
            fix=f"[environments.{words.ENVIRONMENT}] use = its folder",
        )
    image = words.image_of(call.options, call.generation)
    if call.inside and not image:
        raise UsageError(f"no image of {call.generation} is known", fix="name one in options.image")
    images = (ImageSpec(name=IMAGE, reference=image, title="NeMo"),) if call.inside else ()
    steps: list[Step] = [_ready(call), _workers(call), _flags(call)]
    if call.options.mode == "export":
        steps += [_export(call), _proof(call)]
    else:
        steps += _serving(call)
    wanted = need_of(call)
    return Plan(
        deployment=call.deployment.name,
        backend="nemo-tensorrt-llm",
        variables=() if call.options.mode == "export" else _ports(call),
        environments=specs,
        images=images,
        engine=call.deployment.server.engine,
        steps=tuple(steps),
        notes=(*_notes(call), *((memory_figure(wanted),) if wanted else ())),
    )


def _notes(call: Call) -> tuple[str, ...]:
    how = call.script or "NeMo's Python classes, by a worker of ours"
    notes = [f"planned for {call.generation}, through {how}"]
    if call.options.mode != "export":
        notes.append("upstream ends with code 0 when it fails: a real answer is the proof")
        notes.append("PyTriton lets nobody else load or unload models")
    return tuple(notes)


def _ports(call: Call) -> tuple[Variable, ...]:
    server = call.deployment.server
    given = [
        ("http", server.http_port),
        ("grpc", server.grpc_port),
        ("metrics", server.metrics_port),
    ]
    return tuple(
        Variable(name=f"{name}_port", kind="port", default=str(port), help=f"{name} port")
        for name, port in (given if call.inside else given[: 1 + _chooses_grpc(call)])
    )


def _chooses_grpc(call: Call) -> bool:
    """Whether the gRPC port can be chosen without a container: through the classes, since 25.02."""
    return not call.script and bool(call.arguments()[0]["grpc_port"])


# ---------------------------------------------------------------------------- before the build


def _ready(call: Call) -> Step:
    if call.inside:
        return ImageStep(
            id="image-nemo",
            title="image: NeMo",
            why="NeMo with TensorRT-LLM, loaded or pulled once",
            image=IMAGE,
        )
    return EnvironmentStep(
        id=f"environment-{words.ENVIRONMENT}",
        title="environment: NeMo with TensorRT-LLM",
        why="yours, used as it is",
        environment=words.ENVIRONMENT,
    )


def _workers(call: Call) -> WriteStep:
    predicted = parsers.known(call.script, call.generation) if call.script else None
    options = predicted.options if predicted else ()
    planned = {
        "script": call.script,
        "generation": call.generation,
        "defaults": {o.name: o.default for o in options if not o.switch},
    }
    files = [worker("check_flags"), worker("nemo_trtllm")]
    files.append(_json(PLANNED, planned))
    if not call.script:
        files.append(_json(ARGUMENTS, call.arguments()[0]))
    return WriteStep(
        id="workers",
        title="workers",
        why="the scripts of ours that run beside upstream's, and what they expect",
        files=tuple(files),
        outputs=tuple(file.path for file in files),
    )


def _json(name: str, document: object) -> FileSpec:
    return FileSpec(path=f"{WORKERS}/{name}", text=json.dumps(document, indent=1) + "\n")


def _flags(call: Call) -> CommandStep:
    argv = [_python(call), f"{WORKERS}/check_flags.py", f"--plan={WORKERS}/{PLANNED}"]
    argv.append(f"--result={SCRATCH}/{FLAGS}")
    if call.options.mode != "load":
        argv.append(f"--folder={call.folder}")
    argv += [f"--script={literal(call.installed)}"] if call.script else []
    argv += ["--", *call.argv()] if call.script else []
    return CommandStep(
        id="flags",
        title="compare the flags",
        why="a flag that the installed script does not know is found before the build, not after",
        command=_command(call, argv),
        success=(ExitCode(), JsonFile(path=f"{SCRATCH}/{FLAGS}", expect={"failures": 0})),
        timeout=600.0,
        always=True,
    )


# ---------------------------------------------------------------------------- the build


def upstream(call: Call) -> list[str]:
    """Upstream's script with its words, or our worker over its classes."""
    if call.script:
        return [_python(call), literal(call.installed), *call.argv()]
    words_ = [_python(call), f"{WORKERS}/nemo_trtllm.py", "run", "--mode", call.options.mode]
    words_ += ["--arguments", f"{WORKERS}/{ARGUMENTS}", "--engine", call.engine]
    if call.options.mode != "load":
        words_ += ["--checkpoint", literal(str(call.checkpoint.path))]
    if call.options.mode != "export":
        grpc = "${grpc_port}" if not call.inside and _chooses_grpc(call) else str(words.GRPC)
        words_ += ["--http-port", call.http, "--grpc-port", grpc]
    return words_


def _export(call: Call) -> CommandStep:
    return CommandStep(
        id="export",
        title="build the engine",
        why="weights are converted and compiled for these GPUs; this takes minutes to hours",
        command=_command(call, upstream(call), gpus=True),
        inputs=tuple(InputFile(path=path) for path in words.reads(call)),
        outputs=(call.engine,),
        success=(ExitCode(), LogMarker(pattern=r"An error has occurred|^Traceback", absent=True)),
        timeout=BUILD_HOURS * 3600,
    )


def _proof(call: Call) -> CommandStep:
    result = f"{SCRATCH}/engine.json"
    ranks = call.options.layout.world
    argv = [_python(call), f"{WORKERS}/nemo_trtllm.py", "prove", "--engine", call.engine]
    argv += ["--ranks", str(ranks), "--result", result]
    return CommandStep(
        id="engine",
        title="prove the engine",
        why="an exit code says nothing: there must be an engine for every rank",
        command=_command(call, argv),
        success=(ExitCode(), JsonFile(path=result, expect={"engines": {"min": ranks}})),
        timeout=600.0,
        always=True,
    )


# ---------------------------------------------------------------------------- the server


def _serving(call: Call) -> list[Step]:
    model = call.deployment.served_name
    spec = service(call)
    hours = BUILD_HOURS * 3600 if call.options.mode == "serve" else 1800.0
    return [
        ServiceStep(
            id="service",
            title="build and serve" if call.options.mode == "serve" else "serve the engine",
            why="the engine is built where there is none yet, then PyTriton serves it",
            service=spec,
            success=(
                UrlReady(
                    url=f"{spec.http_url}/v2/models/{literal(model)}/ready",
                    timeout=max(hours, call.deployment.server.load_timeout),
                ),
            ),
        ),
        VerifyStep(
            id="verify",
            title="verify",
            why="a model serves only when a real request has the right answer",
            service=spec.name,
            success=form.cases(call.deployment, call.generation, call.options.max_output_len),
        ),
    ]


def service(call: Call) -> ServiceSpec:
    """PyTriton's server, reachable on loopback only."""
    server = call.deployment.server
    address = literal(server.address)
    if call.inside:
        grpc, metrics = "${grpc_port}", "${metrics_port}"
    else:
        grpc = "${grpc_port}" if _chooses_grpc(call) else str(words.GRPC)
        metrics = str(words.METRICS)
    return ServiceSpec(
        name=SERVICE,
        launcher="container" if call.inside else "local",
        command=_command(call, upstream(call), gpus=True, ports=True),
        http_url=f"http://{address}:${{http_port}}",
        grpc_url=f"{address}:{grpc}",
        metrics_url=f"http://{address}:{metrics}/metrics",
        manage=False,
        repository=call.engine,
        stop_timeout=STOP_TIMEOUT,
        models=(call.deployment.served_name,),
        restart=server.restart,
        restart_limit=server.restart_limit,
    )


def _python(call: Call) -> str:
    name = words.ENVIRONMENT.replace("-", "_")
    return "python3" if call.inside else f"${{env_{name}}}/bin/python"


def _command(call: Call, argv: list[str], *, gpus: bool = False, ports: bool = False) -> Command:
    """A command at the place; looks nothing up outside unless a token is named for it."""
    token = call.options.hf_token
    env = {} if token else {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    secrets = (token,) if token and gpus else ()
    server = call.deployment.server
    if not call.inside:
        if gpus and server.gpus and server.gpus != "all":
            env["CUDA_VISIBLE_DEVICES"] = server.gpus
        return Command(
            argv=tuple(argv), runtime=f"environment:{words.ENVIRONMENT}", env=env, secrets=secrets
        )
    # Checkpoints are unpacked and PyTriton's workspace is made beneath these: on disk, not in memory.
    env |= {"HOME": SCRATCH, "TMPDIR": SCRATCH}
    address = literal(server.address)
    inner = ((words.HTTP, "http"), (words.GRPC, "grpc"), (words.METRICS, "metrics"))
    published = tuple(
        PublishedPort(host=f"${{{name}_port}}", container=port, address=address)
        for port, name in inner
    )
    container = Container(
        mounts=_mounts(call),
        ports=published if ports else (),
        gpus=(server.gpus or "all") if gpus else "",
        # Upstream asks for 4 GB: its processes pass tensors through shared memory.
        shm_size=server.shm_size if "shm_size" in server.model_fields_set else "4g",
        memory=server.memory,
        ulimits=("memlock=-1", "stack=67108864"),
        read_only=False,
    )
    return Command(
        argv=tuple(argv), runtime=f"image:{IMAGE}", env=env, secrets=secrets, container=container
    )


def _mounts(call: Call) -> tuple[Mount, ...]:
    """What is read and written, each at its own path."""
    read = dict.fromkeys([WORKERS, *words.reads(call)])
    if call.options.scripts_root:
        read[literal(call.options.scripts_root)] = None
    written = [SCRATCH, *([] if call.options.mode == "load" else [call.folder])]
    return (
        *(Mount(source=path, target=path, read_only=True) for path in read),
        *(Mount(source=path, target=path, create=True) for path in written),
    )
