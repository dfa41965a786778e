"""Steps that every route over upstream's code shares: the place, the workers, compared flags, the server."""

from __future__ import annotations

import json
from collections.abc import Iterable

from backends.sources import WORKERS
from backends.steps import environment_step, image_step, model_ready, verify_step, workers_step
from backends.upstream import container, place
from backends.upstream.place import Call
from console.facts import UsageError
from console.planning.deployment import Deployment
from console.planning.plan import (
    Command,
    CommandStep,
    EnvironmentSpec,
    ExitCode,
    FileSpec,
    ImageSpec,
    InputFile,
    JsonFile,
    LogMarker,
    Probe,
    ServiceSpec,
    ServiceStep,
    Step,
    WriteStep,
)
from console.planning.variables import Variable, literal
from console.triton.options import reachable

ARGUMENTS = "arguments.json"
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
    named = ImageSpec(name=container.IMAGE, reference=image, title="NeMo")
    return specs, (named,) if call.inside else ()


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


def ready(specs: tuple[EnvironmentSpec, ...], images: tuple[ImageSpec, ...]) -> Step:
    """The image is there, or the environment: one of those `needed`."""
    if images:
        return image_step(images[0], "NeMo with TensorRT-LLM, loaded or pulled once")
    return environment_step(specs[0], "yours, used as it is")


def workers(call: Call, names: Iterable[str]) -> WriteStep:
    """Our workers `names` and what they expect, beside upstream's scripts."""
    more = [container.planned(call.script, call.generation)]
    if not call.script:
        text = json.dumps(call.arguments()[0], indent=1) + "\n"
        more.append(FileSpec(path=f"{WORKERS}/{ARGUMENTS}", text=text))
    why = "the scripts of ours that run beside upstream's, and what they expect"
    return workers_step(why, ("check_flags", *names), more)


def compared(call: Call, flags: Iterable[str]) -> CommandStep:
    """The installed script takes the flags among the planned words, and the folder is ours."""
    argv = [python(call), f"{WORKERS}/check_flags.py", f"--plan={container.PLANNED}"]
    argv.append(f"--result={container.FLAGS}")
    if call.options.mode != "load":
        argv.append(f"--folder={call.folder}")
    argv += [f"--script={literal(call.installed)}"] if call.script else []
    argv += ["--", *flags] if call.script else []
    return container.compare_step(command(call, argv))


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
        grpc = "${grpc_port}" if not call.inside and chooses_grpc(call) else str(container.GRPC)
        words += ["--http-port", call.http, "--grpc-port", grpc]
    return words


def service(call: Call, name: str, argv: list[str], writes: Iterable[str] = ()) -> ServiceSpec:
    """PyTriton's server, reachable on loopback only."""
    server = call.deployment.server
    address = literal(reachable(server.address))
    if call.inside:
        grpc, metrics = "${grpc_port}", "${metrics_port}"
    else:
        grpc = "${grpc_port}" if chooses_grpc(call) else str(container.GRPC)
        metrics = str(container.METRICS)
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
        probe_seconds=server.probe_seconds,
    )


def engine_steps(
    call: Call,
    argv: list[str],
    reads: Iterable[str],
    ranks: int,
    *,
    writes: Iterable[str] = (),
    encoder: str = "",
) -> list[Step]:
    """Build for `ranks` GPUs by `argv` from the files `reads` (templates), and look at what came out:
    an engine for each rank, and the `encoder`'s where there is one."""
    engines = "engines" if encoder else "engine"
    what = "encoder and language model are" if encoder else "weights are converted and"
    must = "one of the encoder, and one for every rank" if encoder else "an engine for every rank"
    result = f"{container.SCRATCH}/engine.json"
    proof = [python(call), f"{WORKERS}/nemo_trtllm.py", "prove", "--engine", call.engine]
    proof += ["--encoder", encoder] if encoder else []
    proof += ["--ranks", str(ranks), "--result", result]
    return [
        CommandStep(
            id="export",
            title=f"build the {engines}",
            why=f"{what} compiled for these GPUs; this takes minutes to hours",
            command=command(call, argv, gpus=True, writes=writes),
            inputs=tuple(InputFile(path=path) for path in reads),
            outputs=(call.engine,),
            success=(
                ExitCode(),
                LogMarker(pattern=r"An error has occurred|^Traceback", absent=True),
            ),
            timeout=BUILD_HOURS * 3600,
        ),
        CommandStep(
            id="engine",
            title=f"prove the {engines}",
            why=f"an exit code says nothing: there must be {must}",
            command=command(call, proof),
            success=(ExitCode(), JsonFile(path=result, expect={"engines": {"min": ranks}})),
            timeout=600.0,
            always=True,
        ),
    ]


def served_steps(
    call: Call, spec: ServiceSpec, engines: tuple[str, str], success: Iterable[Probe]
) -> list[Step]:
    """PyTriton's server, and the answers that prove it. `engines`: what is served, in a word, and why."""
    build = call.options.mode == "serve"
    seconds = BUILD_HOURS * 3600 if build else 1800.0
    ready = model_ready(
        spec, call.deployment.served_name, max(seconds, call.deployment.server.load_timeout)
    )
    return [
        ServiceStep(
            id="service",
            title="build and serve" if build else f"serve the {engines[0]}",
            why=engines[1],
            service=spec,
            success=(ready,),
        ),
        verify_step(spec, success),
    ]


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
        if gpus:
            env |= server.visible_gpus
        return Command(
            argv=tuple(argv), runtime=f"environment:{place.ENVIRONMENT}", env=env, secrets=secrets
        )
    reads = [WORKERS, *call.reads()]
    if call.options.scripts_root:
        reads.append(literal(call.options.scripts_root))
    made = [] if call.options.mode == "load" else [call.folder]
    ports = container.published(server) if publish else ()
    return Command(
        argv=tuple(argv),
        runtime=f"image:{container.IMAGE}",
        env=env | container.HOME,
        secrets=secrets,
        container=container.container(server, reads, (*made, *writes), gpus=gpus, ports=ports),
    )
