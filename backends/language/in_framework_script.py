"""Upstream's in-framework scripts: the command line of each generation, and where they listen.

NeMo and Megatron checkpoints go to ``deploy_inframework_triton.py``, Hugging Face folders to
``deploy_inframework_hf_triton.py``. Both serve tensors through PyTriton, at a port of choice; gRPC and
metrics have PyTriton's defaults, which no flag changes.
"""

from __future__ import annotations

from backends.language.in_framework_options import InFrameworkOptions
from backends.upstream import generations
from backends.upstream.container import HTTP
from console.checkpoints.model import Checkpoint, Format
from console.planning.variables import literal

HUGGING_FACE = "scripts/deploy/nlp/deploy_inframework_hf_triton.py"
MEGATRON = "scripts/deploy/nlp/deploy_inframework_triton.py"
OPENAI = 8080
"""Port of the front inside the container."""
WORDS_WITH_COUNTS = ("nemo-25.02", "nemo-25.04", "nemo-25.07", "ed-0.1", "ed-0.2")
"""Generations that need ``--num_gpus`` and ``--num_nodes`` together: with one alone, 0.1 multiplies
None. Before them there are no parallel sizes, after them both do nothing."""
SELF_STARTING = ("nemo-24.07", "nemo-24.09", "nemo-24.12", "nemo-25.02", "nemo-25.04", "nemo-25.07")
"""Generations whose Trainer takes the GPUs; the later ones are started once a GPU."""
_VALUES = (
    ("context_parallel_size", 1),
    ("expert_model_parallel_size", 1),
    ("expert_tensor_parallel_size", 1),
    ("inference_max_seq_length", 0),
    ("micro_batch_size", 0),
    ("num_layers_in_first_pipeline_stage", 0),
    ("num_layers_in_last_pipeline_stage", 0),
    ("model_type", ""),
)
_SWITCHES = (
    "sequence_parallel",
    "account_for_embedding_in_pipeline_split",
    "account_for_loss_in_pipeline_split",
    "enable_flash_decode",
    "enable_cuda_graphs",
    "legacy_ckpt",
    "legacy_model_format",
    "debug_mode",
)


def generation_of(options: InFrameworkOptions) -> str:
    """The generation that is chosen, or that the image's tag promises.

    Raises `UsageError` for a name that is unknown and for an image that tells none.
    """
    return generations.chosen(options.generation, options.image)


def script_of(checkpoint: Checkpoint) -> str:
    """Path of the script in the checkout that the image carries."""
    return HUGGING_FACE if checkpoint.format is Format.HUGGING_FACE else MEGATRON


def route_of(checkpoint: Checkpoint) -> str:
    """Name of the route in the catalog of generations."""
    return "in-framework-hf" if checkpoint.format is Format.HUGGING_FACE else "in-framework"


def has_front(checkpoint: Checkpoint, generation: str) -> bool:
    """Whether the script starts NeMo's OpenAI-compatible front itself (``--server_port``)."""
    from backends.upstream.parsers import known

    parser = known(script_of(checkpoint), generation)
    return parser is not None and parser.find("--server_port") is not None


def ranks(options: InFrameworkOptions, checkpoint: Checkpoint, generation: str) -> int:
    """Processes that torchrun starts; 1 where the script takes its GPUs itself."""
    if checkpoint.format is Format.HUGGING_FACE:
        return options.tensor_parallel_size if options.tp_plan else 1
    return 1 if generation in SELF_STARTING else options.ranks


def arguments(
    name: str,
    options: InFrameworkOptions,
    checkpoint: Checkpoint,
    generation: str,
    address: str = "0.0.0.0",
) -> list[str]:
    """The words behind the script (templates). Options of other generations are left in, so that
    the comparison with the script names them. Several nodes share the host's network, so the ports
    are the plan's and `address` is where they are; else both are the container's own."""
    several = options.num_nodes > 1
    words = [
        f"--triton_model_name={literal(name)}",
        "--triton_port=${http_port}" if several else f"--triton_port={HTTP}",
        f"--triton_http_address={literal(address)}",
        f"--max_batch_size={options.max_batch_size}",
    ]
    if checkpoint.format is Format.HUGGING_FACE:
        return [*words, *_hugging_face(options, checkpoint)]
    if has_front(checkpoint, generation):
        port = "${triton_port}" if several else str(OPENAI)
        words += [f"--server_port={port}", f"--server_address={literal(address)}"]
    return [*words, *_megatron(options, checkpoint, generation)]


def _hugging_face(options: InFrameworkOptions, checkpoint: Checkpoint) -> list[str]:
    words = [f"--hf_model_id_path={literal(str(checkpoint.path))}"]
    if options.dtype != "auto":
        words.append(f"--torch_dtype={options.dtype}")
    for flag, value in (("--device_map", options.device_map), ("--tp_plan", options.tp_plan)):
        if value:
            words.append(f"{flag}={value}")
    for flag, wanted in (
        ("--trust_remote_code", options.trust_remote_code),
        ("--debug_mode", options.debug_mode),
    ):
        if wanted:
            words.append(flag)
    return words


def _megatron(options: InFrameworkOptions, checkpoint: Checkpoint, generation: str) -> list[str]:
    path = literal(str(checkpoint.path))
    if checkpoint.format is Format.MEGATRON:
        words = [f"--megatron_checkpoint={path}"]
        if generation in ("ed-0.2", "ed-0.3"):
            words.append("--model_format=megatron")
    else:
        words = [f"--nemo_checkpoint={path}"]
    if generation in WORDS_WITH_COUNTS:
        words.append(f"--num_gpus={options.ranks // options.num_nodes}")
        words.append(f"--num_nodes={options.num_nodes}")
    elif generation in SELF_STARTING:
        words.append(f"--num_gpus={options.ranks}")
    # Their long names changed with 0.3; the short ones did not.
    if options.tensor_parallel_size > 1:
        words += ["-tps", str(options.tensor_parallel_size)]
    if options.pipeline_parallel_size > 1:
        words += ["-pps", str(options.pipeline_parallel_size)]
    words += [
        f"--{name}={getattr(options, name)}"
        for name, default in _VALUES
        if getattr(options, name) != default
    ]
    return words + [f"--{name}" for name in _SWITCHES if getattr(options, name)]
