"""Steps that every route over upstream's code shares: the place, the workers, compared flags, the server."""

from __future__ import annotations

import json
from collections.abc import Iterable

from backends.sources import worker
from backends.upstream import parsers, place
from backends.upstream.place import Call
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
    JsonFile,
    Mount,
    PublishedPort,
    ServiceSpec,
    Step,
    WriteStep,
)
from console.planning.variables import Variable, literal

IMAGE = "nemo"
WORKERS = "${work}/workers"
SCRATCH = "${work}/scratch"
FLAGS, ARGUMENTS, PLANNED = "flags.json", "arguments.json", "planned.json"
BUILD_HOURS = 6.0
"""A 70B model takes hours to convert and compile; nothing waits for ever."""
STOP_TIMEOUT = 60.0
"""PyTriton passes the signal on, and its tritonserver needs a few seconds more."""


def environments(deployment: Deployment, where: str) -> tuple[EnvironmentSpec, ...]:
    """The operator's environment; none where they named none (a check says so)."""
    wish = deployment.environments.get(place.ENVIRONMENT)
    if where == "container" or not (wish and wish.use):
        return ()
    spec = EnvironmentSpec(
        name=place.ENVIRONMENT,
        title="NeMo with TensorRT-LLM",
        requirements=(),
        existing=wish.use,
        imports=("tensorrt_llm", "pytriton"),
    )
    return (spec,)


def needed(call: Call) -> tuple[tuple[EnvironmentSpec, ...], tuple[ImageSpec, ...]]:
    """Environment or image of the place. Raises `UsageError` where neither is known."""
    specs = environments(call.deployment, call.options.place)
    if not call.inside and not specs:
        raise UsageError(
            "the environment with NeMo and TensorRT-LLM is not named",
            fix=f"[environments.{place.ENVIRONMENT}] use = its folder",
        )
    image = place.image_of(call.options, call.generation)
    if call.inside and not image:
        raise UsageError(f"no image of {call.generation} is known", fix="name one in options.image")
    return specs, (ImageSpec(name=IMAGE, reference=image, title="NeMo"),) if call.inside else ()


def notes(call: Call) -> tuple[str, ...]:
    """What is planned for whom, and what upstream does not do."""
    how = call.script or "NeMo's Python classes, by a worker of ours"
    said = [f"planned for {call.generation}, through {how}"]
    if call.options.mode != "export":
        said.append("upstream ends with code 0 when it fails: a real answer is the proof")
        said.append("PyTriton lets nobody else load or unload models")
    return tuple(said)


def ports(call: Call) -> tuple[Variable, ...]:
    """The ports that can be chosen; none for a build alone."""
    if call.options.mode == "export":
        return ()
    server = call.deployment.server
    given = [
        ("http", server.http_port),
        ("grpc", server.grpc_port),
        ("metrics", server.metrics_port),
    ]
    return tuple(
        Variable(name=f"{name}_port", kind="port", default=str(port), help=f"{name} port")
        for name, port in (given if call.inside else given[: 1 + chooses_grpc(call)])
    )


def chooses_grpc(call: Call) -> bool:
    """Whether the gRPC port can be chosen without a container: through the classes, since 25.02."""
    return not call.script and bool(call.arguments()[0]["grpc_port"])


def ready(call: Call) -> Step:
    """The image is there, or the environment."""
    if call.inside:
        return ImageStep(
            id="image-nemo",
            title="image: NeMo",
            why="NeMo with TensorRT-LLM, loaded or pulled once",
            image=IMAGE,
        )
    return EnvironmentStep(
        id=f"environment-{place.ENVIRONMENT}",
        title="environment: NeMo with TensorRT-LLM",
        why="yours, used as it is",
        environment=place.ENVIRONMENT,
    )


def workers(call: Call, names: Iterable[str]) -> WriteStep:
    """Our workers `names` and what they expect, beside upstream's scripts."""
    predicted = parsers.known(call.script, call.generation) if call.script else None
    options = predicted.options if predicted else ()
    planned = {
        "script": call.script,
        "generation": call.generation,
        "defaults": {o.name: o.default for o in options if not o.switch},
    }
    files = [worker("check_flags"), *map(worker, names), _json(PLANNED, planned)]
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


def compared(call: Call, flags: Iterable[str]) -> CommandStep:
    """The installed script takes the flags among the planned words, and the folder is ours."""
    argv = [python(call), f"{WORKERS}/check_flags.py", f"--plan={WORKERS}/{PLANNED}"]
    argv.append(f"--result={SCRATCH}/{FLAGS}")
    if call.options.mode != "load":
        argv.append(f"--folder={call.folder}")
    argv += [f"--script={literal(call.installed)}"] if call.script else []
    argv += ["--", *flags] if call.script else []
    return CommandStep(
        id="flags",
        title="compare the flags",
        why="a flag that the installed script does not know is found before the build, not after",
        command=command(call, argv),
        success=(ExitCode(), JsonFile(path=f"{SCRATCH}/{FLAGS}", expect={"failures": 0})),
        timeout=600.0,
        always=True,
    )


def upstream(call: Call, paths: dict[str, str]) -> list[str]:
    """Upstream's script with its words, or our worker over its classes. `paths`: words of the worker
    that name a checkpoint (templates), left out where an engine is loaded."""
    if call.script:
        return [python(call), literal(call.installed), *call.argv()]
    words = [python(call), f"{WORKERS}/nemo_trtllm.py", "run", "--mode", call.options.mode]
    words += ["--arguments", f"{WORKERS}/{ARGUMENTS}", "--engine", call.engine]
    if call.options.mode != "load":
        words += [word for pair in paths.items() for word in pair]
    if call.options.mode != "export":
        grpc = "${grpc_port}" if not call.inside and chooses_grpc(call) else str(place.GRPC)
        words += ["--http-port", call.http, "--grpc-port", grpc]
    return words


def service(call: Call, name: str, argv: list[str], writes: Iterable[str] = ()) -> ServiceSpec:
    """PyTriton's server, reachable on loopback only."""
    server = call.deployment.server
    address = literal(server.address)
    if call.inside:
        grpc, metrics = "${grpc_port}", "${metrics_port}"
    else:
        grpc = "${grpc_port}" if chooses_grpc(call) else str(place.GRPC)
        metrics = str(place.METRICS)
    return ServiceSpec(
        name=name,
        launcher="container" if call.inside else "local",
        command=command(call, argv, gpus=True, publish=True, writes=writes),
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


def python(call: Call) -> str:
    """The interpreter at the place (template)."""
    name = place.ENVIRONMENT.replace("-", "_")
    return "python3" if call.inside else f"${{env_{name}}}/bin/python"


def command(
    call: Call,
    argv: list[str],
    *,
    gpus: bool = False,
    publish: bool = False,
    writes: Iterable[str] = (),
) -> Command:
    """A command at the place; looks nothing up outside unless a token is named for it. `writes`:
    folders besides the engine's that it makes (templates)."""
    token = call.options.hf_token
    env = call.environment(online=bool(token) and gpus)
    secrets = (token,) if token and gpus else ()
    server = call.deployment.server
    if not call.inside:
        if gpus and server.gpus and server.gpus != "all":
            env["CUDA_VISIBLE_DEVICES"] = server.gpus
        return Command(
            argv=tuple(argv), runtime=f"environment:{place.ENVIRONMENT}", env=env, secrets=secrets
        )
    # Checkpoints are unpacked and PyTriton's workspace is made beneath these: on disk, not in memory.
    env |= {"HOME": SCRATCH, "TMPDIR": SCRATCH}
    address = literal(server.address)
    inner = ((place.HTTP, "http"), (place.GRPC, "grpc"), (place.METRICS, "metrics"))
    published = tuple(
        PublishedPort(host=f"${{{name}_port}}", container=port, address=address)
        for port, name in inner
    )
    container = Container(
        mounts=_mounts(call, writes),
        ports=published if publish else (),
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


def _mounts(call: Call, writes: Iterable[str]) -> tuple[Mount, ...]:
    """What is read and written, each at its own path."""
    read = dict.fromkeys([WORKERS, *call.reads()])
    if call.options.scripts_root:
        read[literal(call.options.scripts_root)] = None
    written = [SCRATCH, *([] if call.options.mode == "load" else [call.folder]), *writes]
    return (
        *(Mount(source=path, target=path, read_only=True) for path in read),
        *(Mount(source=path, target=path, create=True) for path in written),
    )
