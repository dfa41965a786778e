"""NeMo's own script for vLLM, generation by generation: ``deploy_vllm_triton.py`` through PyTriton.

Until Export-Deploy 0.1 it takes a .nemo file and exports it; from 0.2 on a folder that vLLM reads. It
ends with code 0 when it fails, so only a real answer is a proof.
"""

from __future__ import annotations

from backends.language.common import FAILED, cases
from backends.language.vllm_options import VllmOptions
from backends.language.vllm_plan import CHECKER, OFFLINE, QUIET, compared, notes
from backends.sources import WORKERS
from backends.steps import image_step, verify_step, workers_step
from backends.upstream import generations, parsers
from backends.upstream.container import (
    FLAGS,
    HOME,
    HTTP,
    IMAGE,
    PLANNED,
    SCRATCH,
    compare_step,
    container,
    planned,
    published,
)
from console.checkpoints.model import Checkpoint, Format
from console.planning.deployment import Deployment
from console.planning.plan import (
    Command,
    ImageSpec,
    Plan,
    ServiceSpec,
    ServiceStep,
    Step,
    TextAnswered,
    UrlReady,
)
from console.planning.variables import Variable, literal
from console.prompts import Names, Style
from console.triton.options import reachable

SCRIPT = "scripts/deploy/nlp/deploy_vllm_triton.py"
ROUTE = "nemo-vllm"
EXPORTING = "ed-0.1"
"""The last generation that exports a .nemo file for vLLM."""
EARLY = Names(prompt="prompts", text="outputs", stream="", length="max_output_len")
LATE = Names(prompt="prompts", text="sentences", stream="", length="max_tokens")
"""What the served model calls its tensors, until 0.1 and from 0.2 on."""
STOP_TIMEOUT = 60.0
MODEL_TYPES = ("llama", "mistral", "mixtral", "starcoder2", "gemma")
"""Families that the exporting generations know."""


def image_of(options: VllmOptions) -> str:
    """The named image, or the one of the chosen generation, or the newest that is known."""
    if options.image:
        return options.image
    known = generations.catalog().generations
    if options.generation:
        return next(iter(generations.generation(options.generation).images), "")
    return [image for entry in known.values() for image in entry.images][-1]


def generation_of(options: VllmOptions) -> str:
    """The generation that is chosen, or that the image's tag promises.

    Raises `UsageError` for a name that is unknown and for an image that tells none.
    """
    return generations.chosen(options.generation, image_of(options))


def exports(generation: str) -> bool:
    """Whether this generation's script exports a .nemo file first."""
    order = list(generations.catalog().generations)
    return order.index(generation) <= order.index(EXPORTING)


def names(generation: str) -> Names:
    return EARLY if exports(generation) else LATE


def arguments(
    name: str, options: VllmOptions, checkpoint: Checkpoint, generation: str
) -> list[str]:
    """The words behind the script (templates). Options that a generation lacks are left in, so that
    the comparison with the script names them."""
    words = [
        f"--triton_model_name={literal(name)}",
        f"--triton_port={HTTP}",
        "--triton_http_address=0.0.0.0",
        f"--tensor_parallelism_size={options.tensor_parallel_size}",
        f"--gpu_memory_utilization={options.gpu_memory_utilization:g}",
    ]
    early = exports(generation)
    words += _early(options, checkpoint) if early else _late(checkpoint, generation)
    given: tuple[tuple[str, object, object], ...] = (
        ("--dtype", options.dtype, "auto"),
        ("--max_batch_size", options.max_num_seqs, 0),
        ("--quantization", options.quantization, ""),
        ("--max_model_len", options.max_model_len, 0),
        ("--pipeline_parallelism_size", options.pipeline_parallel_size, 1),
        ("--max_num_batched_tokens", options.max_num_batched_tokens, 0),
        ("--kv_cache_dtype", options.kv_cache_dtype, "auto"),
        ("--load_format", options.load_format, "auto"),
        ("--cpu_offload_gb", f"{options.cpu_offload_gb:g}", "0"),
        ("--seed", options.seed, 0),
    )
    words += [f"{flag}={value}" for flag, value, default in given if value != default]
    switches = (
        ("--enforce_eager", options.enforce_eager),
        ("--trust_remote_code", options.trust_remote_code),
    )
    words += [flag for flag, wanted in switches if wanted]
    if options.lora_modules:
        adapters = (module.partition("=")[2] for module in options.lora_modules)
        words += ["--lora_ckpt", *map(literal, adapters)]
    return words


def _early(options: VllmOptions, checkpoint: Checkpoint) -> list[str]:
    family = checkpoint.language.family.lower() if checkpoint.language else ""
    words = ["--nemo_checkpoint", literal(str(checkpoint.path))]
    if family in MODEL_TYPES:
        words.append(f"--model_type={family}")
    return [*words, f"--triton_model_repository={SCRATCH}/model"]


def _late(checkpoint: Checkpoint, generation: str) -> list[str]:
    words = ["--model_path_id", literal(str(checkpoint.path))]
    parser = parsers.known(SCRIPT, generation)
    if parser is not None and parser.find("--model_format") is not None:
        # Its default is the other one.
        hugging = checkpoint.format is Format.HUGGING_FACE
        words.append(f"--model_format={'hf' if hugging else 'megatron_bridge'}")
    return words


def _python(generation: str) -> str:
    """24.12 keeps vLLM in an environment of its own inside the image."""
    return "/opt/venv/bin/python" if generation == "nemo-24.12" else "python3"


def _command(
    deployment: Deployment,
    options: VllmOptions,
    checkpoint: Checkpoint,
    argv: tuple[str, ...],
    *,
    serving: bool,
) -> Command:
    server = deployment.server
    adapters = (literal(module.partition("=")[2]) for module in options.lora_modules)
    env = QUIET | ({} if options.hf_token else OFFLINE) | HOME
    return Command(
        argv=argv,
        runtime=f"image:{IMAGE}",
        env=env,
        secrets=(options.hf_token,) if options.hf_token and serving else (),
        container=container(
            server,
            (WORKERS, literal(str(checkpoint.path)), *adapters),
            gpus=serving,
            ports=published(server) if serving else (),
        ),
    )


def service(
    deployment: Deployment, options: VllmOptions, checkpoint: Checkpoint, generation: str
) -> ServiceSpec:
    """The script in its container; PyTriton keeps model control to itself."""
    server = deployment.server
    address = literal(reachable(server.address))
    script = f"{generations.generation(generation).root}/{SCRIPT}"
    words = arguments(deployment.served_name, options, checkpoint, generation)
    argv = (_python(generation), script, *words)
    return ServiceSpec(
        name="vllm-nemo",
        launcher="container",
        command=_command(deployment, options, checkpoint, argv, serving=True),
        http_url=f"http://{address}:${{http_port}}",
        grpc_url=f"{address}:${{grpc_port}}",
        metrics_url=f"http://{address}:${{metrics_port}}/metrics",
        manage=False,
        repository="${work}",
        stop_timeout=STOP_TIMEOUT,
        models=(deployment.served_name,),
        restart=server.restart,
        restart_limit=server.restart_limit,
        probe_seconds=server.probe_seconds,
    )


def questions(deployment: Deployment, generation: str) -> tuple[TextAnswered, ...]:
    """The verify cases with the tensors of this generation's model.

    The likeliest token is upstream's own default, so nothing else is sent.
    """
    called = names(generation)
    found = []
    for asked in cases(deployment, deployment.served_name, Style.COMPLETION):
        body = {called.prompt: asked.body["prompt"], called.length: asked.body["max_tokens"]}
        path = f"/v2/models/{deployment.served_name}/generate"
        changed = {"path": path, "body": body, "answer": called.text, "never": FAILED}
        found.append(asked.model_copy(update=changed))
    return tuple(found)


def plan(deployment: Deployment, options: VllmOptions, checkpoint: Checkpoint) -> Plan:
    """Raises `UsageError` where the image does not tell its generation."""
    generation = generation_of(options)
    entry = generations.generation(generation)
    image = ImageSpec(name=IMAGE, reference=image_of(options), title="NeMo")
    spec = service(deployment, options, checkpoint, generation)
    timeout = max(1800.0, deployment.server.load_timeout)
    model = literal(deployment.served_name)
    steps: list[Step] = [
        image_step(image),
        *_compare(deployment, options, checkpoint, generation),
        ServiceStep(
            id="service",
            title="start NeMo's script",
            why="its exit code says nothing: the model must be ready and answer",
            service=spec,
            success=(UrlReady(url=f"{spec.http_url}/v2/models/{model}/ready", timeout=timeout),),
        ),
        verify_step(spec, questions(deployment, generation)),
    ]
    server = deployment.server
    ports = (
        ("http", server.http_port),
        ("grpc", server.grpc_port),
        ("metrics", server.metrics_port),
    )
    return Plan(
        deployment=deployment.name,
        backend="vllm",
        variables=tuple(
            Variable(name=f"{n}_port", kind="port", default=str(p), help=f"Triton's {n} port")
            for n, p in ports
        ),
        images=(image,),
        engine=server.engine,
        steps=tuple(steps),
        notes=(
            f"{entry.title}: {SCRIPT}, as read in {entry.ref}",
            *entry.notes,
            *notes(options, checkpoint),
        ),
    )


def _compare(
    deployment: Deployment, options: VllmOptions, checkpoint: Checkpoint, generation: str
) -> tuple[Step, ...]:
    """Our workers, and the script in the image and its vLLM looked at by them."""
    words = arguments(deployment.served_name, options, checkpoint, generation)
    argv = (
        *("python3", f"{WORKERS}/check_flags.py", f"--plan={PLANNED}"),
        *(f"--result={FLAGS}", "--script"),
        *(f"{generations.generation(generation).root}/{SCRIPT}", "--", *words),
    )
    why = "the script of ours that reads upstream's, and what it expects"
    return (
        workers_step(why, ("check_flags", "check_vllm"), (planned(SCRIPT, generation),)),
        compare_step(_command(deployment, options, checkpoint, argv, serving=False)),
        # Some images come without vLLM, and the script then ends with code 0.
        compared(
            _command(
                deployment,
                options,
                checkpoint,
                (_python(generation), CHECKER, "--"),
                serving=False,
            )
        ),
    )
