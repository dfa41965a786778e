"""What can be said of a Ray Serve deployment before anything is asked of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from backends.language import ray_words
from backends.language.common import code_checks
from backends.language.ray_options import RayOptions
from backends.upstream import flags, generations
from console.checkpoints.model import Checkpoint, Format
from console.facts import Level, UsageError, Verdict
from console.planning.deployment import Deployment
from console.planning.server import LOOPBACK
from console.text import clean

TAKEN = {
    Format.NEMO2: ("ed-0.1", "ed-0.3"),
    Format.MEGATRON: ("ed-0.2", "ed-main"),
}
"""Format to the first and the last generation whose script loads it."""
_HUGGING_FACE = frozenset({"dtype", "device_map", "max_ongoing_requests"})
_MEGATRON = frozenset(
    {
        "context_parallel_size", "expert_model_parallel_size", "inference_max_seq_length",
        "enable_flash_decode", "enable_cuda_graphs", "legacy_ckpt",
    }
)  # fmt: skip
_TENSORRT_LLM = frozenset({"max_input_len", "max_output_len"})
_SHARE, _BATCH = "num_gpus_per_replica", "max_batch_size"
_FOREIGN = {
    ray_words.HUGGING_FACE: _MEGATRON | _TENSORRT_LLM | {_BATCH},
    ray_words.MEGATRON: _HUGGING_FACE | _TENSORRT_LLM | {_SHARE},
    ray_words.TENSORRT_LLM: _HUGGING_FACE | _MEGATRON,
}
"""Script to the options that neither it nor, in its place, our own job is told."""
_HEAD = ("gcs_port", "dashboard_port")
_NODE = ("node_address", "node_cpus", "node_gpus")


def checks(
    deployment: Deployment, options: RayOptions, checkpoint: Checkpoint
) -> Iterator[Verdict]:
    """Form, generation and flags, sizes of a replica, what listens where, token, paths, code."""
    yield from _ports(deployment, options)
    yield from _elsewhere(options)
    if options.cluster == "join":
        return
    yield from _form(options, checkpoint)
    if options.form == "script":
        yield from _generation(deployment, options, checkpoint)
        yield from _ending(options)
    yield from _unused(options, checkpoint)
    yield from _layout(options, checkpoint)
    yield from _reach(deployment, options)
    yield from _token(options)
    yield from _paths(options, checkpoint)
    yield from code_checks(checkpoint, options.trust_remote_code, where=" on every node")


def _form(options: RayOptions, checkpoint: Checkpoint) -> Iterator[Verdict]:
    hugging_face = checkpoint.format is Format.HUGGING_FACE
    if options.form == "application" and not hugging_face:
        yield Verdict(
            "ray-form",
            Level.FAIL,
            "tritondeck's own job serves Hugging Face folders",
            clean(checkpoint.title),
            "nemo_deploy.llm.hf_deployable_ray",
            "set form = script",
            "options.form",
        )
    elif options.engine == "vllm" and not hugging_face:
        yield Verdict(
            "ray-form",
            Level.FAIL,
            "vLLM reads Hugging Face folders",
            clean(checkpoint.title),
            ray_words.HUGGING_FACE,
            "set engine = pytorch",
            "options.engine",
        )
    elif checkpoint.format is Format.NEMO and options.engine != "tensorrt-llm":
        yield Verdict(
            "ray-form",
            Level.FAIL,
            "no Ray script loads a NeMo 1 checkpoint but the one for TensorRT-LLM",
            clean(checkpoint.title),
            ray_words.MEGATRON,
            "set engine = tensorrt-llm, or convert the checkpoint to NeMo 2",
            "options.engine",
        )


def _generation(
    deployment: Deployment, options: RayOptions, checkpoint: Checkpoint
) -> Iterator[Verdict]:
    """Whether the nodes' generation has the route, takes the format and every planned flag."""
    name = options.generation
    try:
        entry = generations.generation(name)
    except UsageError as error:
        yield generations.undecided(error)
        return
    script = ray_words.script_of(options, checkpoint)
    yield generations.verdict(ray_words.ROUTES[script], name)
    span = TAKEN.get(checkpoint.format)
    if script == ray_words.MEGATRON and span:
        fix = "export it to Hugging Face format"
        option = "options.generation"
        yield generations.reads("ray-format", checkpoint.title, name, span, fix=fix, option=option)
    words = ray_words.arguments(deployment, options, checkpoint)
    yield from flags.compare_known(words, script, name)
    if script != ray_words.MEGATRON and not options.cuda_visible_devices:
        yield Verdict(
            "ray-gpus",
            Level.WARN,
            "the script sets CUDA_VISIBLE_DEVICES for every replica, whatever Ray gives it",
            "0,1" if name == "ed-0.1" or script == ray_words.TENSORRT_LLM else "0",
            entry.ref,
            "name the GPUs of a node, or take form = application",
            "options.cuda_visible_devices",
        )


def _elsewhere(options: RayOptions) -> Iterator[Verdict]:
    """Options of another way to a cluster than the chosen one."""
    if options.cluster == "existing":
        yield from flags.unused(options, (*_HEAD, *_NODE), "no node of Ray is started here")
    else:
        yield from flags.unused(options, ["head"], "it is for cluster = existing")
    if options.cluster == "join":
        yield from flags.unused(options, _HEAD, "the head has ports of its own")
    else:
        yield from flags.unused(options, ["gcs"], "it is for cluster = join")


def _unused(options: RayOptions, checkpoint: Checkpoint) -> Iterator[Verdict]:
    """Options that the job is not told."""
    script = ray_words.script_of(options, checkpoint)
    own = options.form == "application"
    name = "tritondeck's own job" if own else script.rpartition("/")[2]
    yield from flags.unused(options, sorted(_FOREIGN[script]), f"{name} does not take it")
    if own:
        yield from flags.unused(options, ["generation"], "it is for form = script")
        why = "Ray itself gives a replica its GPUs"
        yield from flags.unused(options, ["cuda_visible_devices"], why)
        if options.engine == "vllm":
            why = "tritondeck's own job does not pass it on to vLLM"
            yield from flags.unused(options, ["dtype", "device_map"], why)


def _ending(options: RayOptions) -> Iterator[Verdict]:
    yield Verdict(
        "ray-stop",
        Level.WARN,
        "when upstream's script is stopped it ends every Serve application of the cluster",
        source="DeployRay._stop calls serve.shutdown()",
        fix="give it a cluster of its own, or take form = application",
        option="options.form",
    )


def _layout(options: RayOptions, checkpoint: Checkpoint) -> Iterator[Verdict]:
    """What one replica takes, and whether it can be placed at all."""
    each = ray_words.gpus(options, checkpoint)
    if options.engine == "tensorrt-llm":
        wanted = options.tensor_parallel_size * options.pipeline_parallel_size
        if wanted != each:
            yield Verdict(
                "ray-layout",
                Level.FAIL,
                f"a replica of {wanted} ranks is given {each:g} GPUs",
                "tensor × pipeline parallel size",
                ray_words.TENSORRT_LLM,
                f"set num_gpus_per_replica = {wanted}",
                "options.num_gpus_per_replica",
            )
            return
    elif options.tensor_parallel_size * options.pipeline_parallel_size > 1 and not _megatron(
        options, checkpoint
    ):
        yield Verdict(
            "ray-layout",
            Level.FAIL,
            "the Ray class for Hugging Face folders has no parallel sizes: a device map spreads layers",
            source=ray_words.HUGGING_FACE,
            fix="set parallel sizes of 1 and num_gpus_per_replica to the GPUs of one node",
            option="options.tensor_parallel_size"
            if options.tensor_parallel_size > 1
            else "options.pipeline_parallel_size",
        )
        return
    if each > 1 and each != int(each):
        yield Verdict(
            "ray-layout",
            Level.FAIL,
            "Ray gives whole GPUs, or a part of one",
            f"{each:g}",
            "Ray's own rule for num_gpus",
            f"set num_gpus_per_replica = {int(each)}",
            "options.num_gpus_per_replica",
        )
        return
    gpus, cpus = each * options.num_replicas, options.num_cpus_per_replica * options.num_replicas
    yield Verdict(
        "ray-layout",
        Level.PASS,
        f"{options.num_replicas} replicas take {gpus:g} GPUs and {cpus:g} CPUs of the cluster",
        f"{each:g} GPUs and {options.num_cpus_per_replica:g} CPUs each",
        "tensor × pipeline × context parallel size"
        if _megatron(options, checkpoint)
        else "num_gpus_per_replica",
    )


def _megatron(options: RayOptions, checkpoint: Checkpoint) -> bool:
    return ray_words.script_of(options, checkpoint) == ray_words.MEGATRON


def _ports(deployment: Deployment, options: RayOptions) -> Iterator[Verdict]:
    """Ray's own ports of a node that is started here."""
    if options.cluster == "existing":
        return
    meant = deployment.server.expose
    yield Verdict(
        "ray-ports",
        Level.WARN if meant else Level.FAIL,
        "Ray's own processes listen on every interface of this machine, whatever address is given",
        "whoever has the token may run code here",
        "Ray 2.60, seen",
        "keep the cluster's network private" if meant else "set server.expose = true to mean it",
        "server.expose",
    )
    if options.cluster == "join" and not (options.token_env or options.token_file):
        yield Verdict(
            "ray-token",
            Level.FAIL,
            "a node joins with the cluster's token, and none is named",
            source="Ray's token authentication, on by default since 2.60",
            fix="set token_file (or token_env); a head of tritondeck has it in its work folder",
            option="options.token_file",
        )


def _host(options: RayOptions) -> str:
    return urlsplit(options.head).hostname or ""


def _reach(deployment: Deployment, options: RayOptions) -> Iterator[Verdict]:
    """Whether a request from here gets to Serve's proxy on the head."""
    far = options.cluster == "existing" and _host(options) not in LOOPBACK
    if far and deployment.server.address in LOOPBACK:
        yield Verdict(
            "ray-reach",
            Level.FAIL,
            "Serve would listen on the loopback of each node, and the head is another machine",
            clean(_host(options)),
            "server.address",
            "run tritondeck on the head, or set server.address = 0.0.0.0 and server.expose",
            "server.address",
        )


def _token(options: RayOptions) -> Iterator[Verdict]:
    if options.cluster != "existing" or options.token_env or options.token_file:
        return
    far = _host(options) not in LOOPBACK
    yield Verdict(
        "ray-token",
        Level.WARN,
        "no token is named: whoever reaches such a head runs code on every node"
        if far
        else "no token is named: the head must be one that asks for none",
        clean(options.head),
        "Ray's token authentication, on by default since 2.60",
        "set token_env or token_file",
        "options.token_env",
    )


def _paths(options: RayOptions, checkpoint: Checkpoint) -> Iterator[Verdict]:
    if options.cluster == "head" and options.num_nodes == 1:
        return
    yield Verdict(
        "ray-paths",
        Level.WARN,
        "every node that gets a replica reads the checkpoint at the same path",
        clean(str(checkpoint.path)),
        "Ray moves no checkpoint",
        "keep it on a file system that all nodes share, or copy it to each",
    )
