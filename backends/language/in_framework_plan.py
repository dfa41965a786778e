"""The steps of the in-framework route: environment or image → PyTriton → a right answer."""

from __future__ import annotations

from backends.environments import environment
from backends.language import in_framework_script as upstream
from backends.language.common import FAILED, cases, language, style_of
from backends.language.in_framework_options import InFrameworkOptions
from backends.sources import WORKERS
from backends.steps import environment_step, image_step, verify_step, workers_step
from backends.upstream import generations
from backends.upstream.container import GRPC, HOME, IMAGE, METRICS, PORTS, container, published
from console.checkpoints.model import Checkpoint
from console.planning.deployment import Deployment
from console.planning.language_memory import Layout, Need, need
from console.planning.plan import (
    Command,
    EnvironmentSpec,
    ImageSpec,
    Plan,
    ServiceSpec,
    ServiceStep,
    Step,
    TextAnswered,
    UrlReady,
    join,
)
from console.planning.variables import Variable, literal
from console.prompts import Style
from console.triton.options import reachable, shm_prefix

ENVIRONMENT = "inframework"
STOP_TIMEOUT = 40.0
"""Seconds from SIGTERM to SIGKILL; Triton waits up to 10 for requests in flight."""
QUIET = {
    # What is served is on this disk: nothing is to be looked up elsewhere.
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}


def environments(
    deployment: Deployment, options: InFrameworkOptions
) -> tuple[EnvironmentSpec, ...]:
    return (environment(ENVIRONMENT, deployment),) if options.form == "worker" else ()


def layout_of(options: InFrameworkOptions) -> Layout:
    return Layout(options.tensor_parallel_size, options.pipeline_parallel_size, options.num_nodes)


def need_of(options: InFrameworkOptions, checkpoint: Checkpoint) -> Need | None:
    """What each GPU needs; None where the checkpoint does not tell its geometry."""
    facts = language(checkpoint)
    if facts is None:
        return None
    dtype: str = "" if options.dtype == "auto" else options.dtype
    return need(facts, layout_of(options), weights=dtype, counted=checkpoint.parameters)


def plan(deployment: Deployment, options: InFrameworkOptions, checkpoint: Checkpoint) -> Plan:
    if options.form == "worker":
        return _worker_plan(deployment, options, checkpoint)
    return _script_plan(deployment, options, checkpoint)


# ---------------------------------------------------------------------------- our worker


def worker_words(
    deployment: Deployment, options: InFrameworkOptions, checkpoint: Checkpoint
) -> tuple[str, ...]:
    """The command line of our worker (templates)."""
    words = [
        "${env_inframework}/bin/python",
        join(WORKERS, "in_framework.py"),
        f"--model={literal(str(checkpoint.path))}",
        f"--name={literal(deployment.served_name)}",
        f"--device={options.device}",
        f"--dtype={options.dtype}",
        f"--max-batch-size={options.max_batch_size}",
        f"--address={literal(deployment.server.address)}",
        "--port=${http_port}",
        "--triton-port=${triton_port}",
        "--grpc-port=${grpc_port}",
        "--metrics-port=${metrics_port}",
        f"--shm-prefix={shm_prefix(deployment)}",
    ]
    if options.device == "cuda" and options.device_map:
        words.append(f"--device-map={options.device_map}")
    if options.trust_remote_code:
        words.append("--trust-remote-code")
    if options.debug_mode or deployment.server.log_verbose:
        words.append("--verbose")
    return tuple(words)


def worker_service(
    deployment: Deployment, options: InFrameworkOptions, checkpoint: Checkpoint
) -> ServiceSpec:
    """Front and Triton as one service; the front is what is asked."""
    server = deployment.server
    address = literal(reachable(server.address))
    env = dict(QUIET)
    if options.device == "cuda":
        env |= server.visible_gpus
    return ServiceSpec(
        name="in-framework",
        kind="openai",
        launcher="local",
        command=Command(
            argv=worker_words(deployment, options, checkpoint),
            runtime=f"environment:{ENVIRONMENT}",
            env=env,
        ),
        http_url=f"http://{address}:${{http_port}}",
        grpc_url=f"{address}:${{grpc_port}}",
        metrics_url=f"http://{address}:${{metrics_port}}/metrics",
        more_urls=(f"http://{address}:${{triton_port}}",),
        repository="${work}",
        shm_prefix=shm_prefix(deployment),
        stop_timeout=STOP_TIMEOUT,
        models=(deployment.served_name,),
        restart=server.restart,
        restart_limit=server.restart_limit,
        probe_seconds=server.probe_seconds,
    )


def _worker_plan(
    deployment: Deployment, options: InFrameworkOptions, checkpoint: Checkpoint
) -> Plan:
    specs = environments(deployment, options)
    spec = worker_service(deployment, options, checkpoint)
    timeout = max(600.0, deployment.server.load_timeout)
    steps: list[Step] = [
        environment_step(specs[0], "Export-Deploy, PyTriton and PyTorch fit no other environment"),
        workers_step(
            "tritondeck's own worker over nemo_deploy: the wheel carries no script",
            ("in_framework", "in_framework_front", "triton_server"),
        ),
        ServiceStep(
            id="service",
            title="start PyTriton",
            why="the model is loaded by PyTorch, then Triton and the OpenAI-compatible front start",
            service=spec,
            success=(UrlReady(url=f"{spec.http_url}/v1/health", timeout=timeout),),
        ),
        verify_step(spec, cases(deployment, deployment.served_name, style_of(checkpoint))),
    ]
    notes = [
        "tritondeck's own worker over nemo_deploy's classes, in place of upstream's script",
        "the OpenAI-compatible front is tritondeck's own, and asks Triton for every answer",
    ]
    return Plan(
        deployment=deployment.name,
        backend="in-framework",
        variables=_ports(deployment, options, "of the OpenAI-compatible front", "of Triton's HTTP"),
        environments=specs,
        steps=tuple(steps),
        notes=tuple(notes),
    )


def _ports(
    deployment: Deployment, options: InFrameworkOptions, http: str, other: str
) -> tuple[Variable, ...]:
    server = deployment.server
    return tuple(
        Variable(name=f"{name}_port", kind="port", default=str(number), help=f"port {words}")
        for name, number, words in (
            ("http", server.http_port, http),
            ("grpc", server.grpc_port, "of Triton's gRPC"),
            ("metrics", server.metrics_port, "of Triton's figures"),
            ("triton", options.triton_port, other),
        )
        if words
    )


def _nodes(options: InFrameworkOptions) -> tuple[Variable, ...]:
    """Which of several machines this one is, and where the first one is."""
    if options.num_nodes == 1:
        return ()
    first = literal(options.master_address)
    return (
        Variable(name="node_rank", kind="path", default="0", help="number of this node"),
        Variable(name="master_addr", kind="path", default=first, help="where the first node is"),
    )


# ---------------------------------------------------------------------------- upstream's script


def script_words(
    deployment: Deployment, options: InFrameworkOptions, checkpoint: Checkpoint, generation: str
) -> tuple[str, ...]:
    """The command line in the container: torchrun where one process a GPU is wanted."""
    root = generations.generation(generation).root
    script = f"{root}/{upstream.script_of(checkpoint)}"
    count = upstream.ranks(options, checkpoint, generation)
    address = deployment.server.address if options.num_nodes > 1 else "0.0.0.0"
    words = upstream.arguments(deployment.served_name, options, checkpoint, generation, address)
    return (*_start(options, count), script, *words)


def _start(options: InFrameworkOptions, count: int) -> tuple[str, ...]:
    """What starts `count` processes: on several nodes it is run once on each."""
    if options.num_nodes > 1:
        return (
            "torchrun",
            f"--nnodes={options.num_nodes}",
            f"--nproc-per-node={count // options.num_nodes}",
            "--node-rank=${node_rank}",
            "--master-addr=${master_addr}",
            f"--master-port={options.master_port}",
        )
    return ("torchrun", "--standalone", f"--nproc-per-node={count}") if count > 1 else ("python3",)


def _script_service(
    deployment: Deployment, options: InFrameworkOptions, checkpoint: Checkpoint, generation: str
) -> ServiceSpec:
    server = deployment.server
    address = literal(reachable(server.address))
    front = upstream.has_front(checkpoint, generation)
    inside = (*PORTS, *((("triton", upstream.OPENAI),) if front else ()))
    several = options.num_nodes > 1
    # gRPC and metrics have PyTriton's own ports, which no flag changes.
    grpc, metrics = (str(GRPC), str(METRICS)) if several else ("${grpc_port}", "${metrics_port}")
    return ServiceSpec(
        name="in-framework",
        launcher="container",
        command=Command(
            argv=script_words(deployment, options, checkpoint, generation),
            nodes=options.num_nodes,
            runtime=f"image:{IMAGE}",
            env=QUIET | HOME,
            container=container(
                server,
                (literal(str(checkpoint.path)),),
                gpus=True,
                ports=() if several else published(server, inside),
                # Processes of several machines meet at ports that they choose themselves.
                network="host" if several else "",
                workdir=generations.generation(generation).root,
            ),
        ),
        http_url=f"http://{address}:${{http_port}}",
        grpc_url=f"{address}:{grpc}",
        metrics_url=f"http://{address}:{metrics}/metrics",
        more_urls=(f"http://{address}:${{triton_port}}",) if front else (),
        manage=False,  # PyTriton keeps model control to itself
        repository="${work}",
        stop_timeout=STOP_TIMEOUT,
        models=(deployment.served_name,),
        restart=server.restart,
        restart_limit=server.restart_limit,
        probe_seconds=server.probe_seconds,
    )


def _script_plan(
    deployment: Deployment, options: InFrameworkOptions, checkpoint: Checkpoint
) -> Plan:
    generation = upstream.generation_of(options)
    entry = generations.generation(generation)
    image = ImageSpec(name=IMAGE, reference=options.image, title="NeMo")
    spec = _script_service(deployment, options, checkpoint, generation)
    model = literal(deployment.served_name)
    timeout = max(900.0, deployment.server.load_timeout)
    ready = [UrlReady(url=f"{spec.http_url}/v2/models/{model}/ready", timeout=timeout)]
    ready += [UrlReady(url=f"{url}/v1/health", timeout=timeout) for url in spec.more_urls]
    why = "the script's exit code says nothing: the model must be ready and answer"
    steps: list[Step] = [
        image_step(image),
        ServiceStep(
            id="service", title="start the script", why=why, service=spec, success=tuple(ready)
        ),
        verify_step(spec, tensors(deployment)),
    ]
    other = "of NeMo's OpenAI-compatible front" if spec.more_urls else ""
    said = f"{entry.title}: {upstream.script_of(checkpoint)}, as read in {entry.ref}"
    return Plan(
        deployment=deployment.name,
        backend="in-framework",
        variables=(*_ports(deployment, options, "of Triton's HTTP", other), *_nodes(options)),
        images=(image,),
        engine=deployment.server.engine,
        steps=tuple(steps),
        notes=(said, *entry.notes),
    )


def tensors(deployment: Deployment) -> tuple[TextAnswered, ...]:
    """The verify cases for upstream's model: prompts and max_length in, sentences out.

    Its own defaults take the likeliest token, so nothing else is sent.
    """
    found = []
    for asked in cases(deployment, deployment.served_name, Style.COMPLETION):
        body = {"prompts": asked.body["prompt"], "max_length": asked.body["max_tokens"]}
        path = f"/v2/models/{deployment.served_name}/generate"
        changed = {"path": path, "body": body, "answer": "sentences", "never": FAILED}
        found.append(asked.model_copy(update=changed))
    return tuple(found)
