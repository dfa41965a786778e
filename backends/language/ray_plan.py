"""The steps of the Ray Serve route: workers → job on the cluster → a right answer."""

from __future__ import annotations

from urllib.parse import urlsplit

from backends.environments import environment
from backends.language import ray_words
from backends.language.common import FAILED, cases, style_of
from backends.language.ray_options import RayOptions
from backends.steps import environment_step, verify_step, workers_step
from backends.upstream import generations
from console.checkpoints.model import Checkpoint
from console.planning.deployment import Deployment
from console.planning.plan import (
    Command,
    EnvironmentSpec,
    Plan,
    ServiceSpec,
    ServiceStep,
    Step,
    TextAnswered,
    UrlReady,
)
from console.planning.server import LOOPBACK
from console.planning.variables import Variable, literal
from console.triton.options import reachable

ENVIRONMENT = "inframework"
"""It has Ray and Export-Deploy beside PyTriton: a node that is started here needs nothing else."""
STOP_TIMEOUT = 90.0
"""Seconds from SIGTERM to SIGKILL: the job has 30 to end, its application 30, a node 10."""


def environments(deployment: Deployment, options: RayOptions) -> tuple[EnvironmentSpec, ...]:
    if options.cluster == "existing":
        return ()
    spec = environment(ENVIRONMENT, deployment)
    return (spec.model_copy(update={"imports": (*spec.imports, "ray")}),)


def serve_host(deployment: Deployment, options: RayOptions) -> str:
    """Where Serve's proxy is asked: the head's own machine."""
    address = deployment.server.address
    if options.cluster == "existing" and address not in LOOPBACK:
        address = urlsplit(options.head).hostname or address
    return reachable(address)


def service(deployment: Deployment, options: RayOptions, checkpoint: Checkpoint) -> ServiceSpec:
    """The process that keeps the application on the cluster; what is asked is Serve's proxy."""
    server = deployment.server
    own, port = options.cluster != "existing", ray_words.port(deployment, options)
    return ServiceSpec(
        name="ray",
        kind="openai",
        launcher="local",
        command=Command(
            argv=tuple(ray_words.follower(deployment, options, checkpoint)),
            runtime=f"environment:{ENVIRONMENT}" if own else "host",
            env={"RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1"},
            secrets=(options.token_env,) if options.token_env else (),
        ),
        http_url=f"http://{literal(serve_host(deployment, options))}:{port}",
        repository="${work}",
        stop_timeout=STOP_TIMEOUT,
        models=() if options.cluster == "join" else (deployment.served_name,),
        restart=server.restart,
        restart_limit=server.restart_limit,
        probe_seconds=server.probe_seconds,
    )


def plan(deployment: Deployment, options: RayOptions, checkpoint: Checkpoint) -> Plan:
    specs = environments(deployment, options)
    spec = service(deployment, options, checkpoint)
    join = options.cluster == "join"
    own = options.form == "application" and not join
    names = ("ray_serve", "ray_rest", "ray_node", *((ray_words.APPLICATION,) if own else ()))
    timeout = max(900.0, deployment.server.load_timeout)
    steps: list[Step] = [
        environment_step(
            found, "a node of the cluster runs here, with the packages that its replicas import"
        )
        for found in specs
    ]
    steps += [
        workers_step(
            "what submits the job and follows it, and the job itself where it is tritondeck's own",
            names,
        ),
        ServiceStep(
            id="service",
            title="join the cluster" if join else "serve on the cluster",
            why="Ray's own processes start, and the node is known to the head"
            if join
            else "the job is submitted, replicas are placed on nodes, and each loads the model",
            service=spec,
            success=(UrlReady(url=f"{spec.http_url}/v1/health", timeout=timeout),),
        ),
    ]
    if not join:
        steps.append(verify_step(spec, requests(deployment, checkpoint)))
    return Plan(
        deployment=deployment.name,
        backend="ray-serve",
        variables=_ports(deployment, options),
        environments=specs,
        steps=tuple(steps),
        notes=notes(options, checkpoint),
    )


def _ports(deployment: Deployment, options: RayOptions) -> tuple[Variable, ...]:
    if "http_port" not in ray_words.port(deployment, options):
        return ()
    join = options.cluster == "join"
    words = "port of the node's health" if join else "port of Serve's HTTP proxies"
    number = str(deployment.server.http_port)
    return (Variable(name="http_port", kind="port", default=number, help=words),)


def requests(deployment: Deployment, checkpoint: Checkpoint) -> tuple[TextAnswered, ...]:
    """The verify cases at upstream's paths, which end in a slash: without it they redirect."""
    found = cases(deployment, deployment.served_name, style_of(checkpoint))
    return tuple(
        asked.model_copy(update={"path": f"{asked.path}/", "never": FAILED}) for asked in found
    )


def notes(options: RayOptions, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Which code it is, and what its answers are worth."""
    if options.cluster == "join":
        return ("this machine becomes a node; the cluster's head decides what runs on it",)
    upstream = (
        "Export-Deploy's Ray classes count words as tokens, and always take the likeliest token"
    )
    if options.form == "application":
        ours = "tritondeck's own job over nemo_deploy's HFRayDeployable, in place of the script"
        return (ours, upstream)
    entry = generations.generation(options.generation)
    script = ray_words.script_of(options, checkpoint)
    return (f"{entry.title}: {script}, as read in {entry.ref}", *entry.notes, upstream)
