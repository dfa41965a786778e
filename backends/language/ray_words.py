"""The command lines of a job on a Ray cluster: upstream's scripts by generation, and our own.

Hugging Face folders go to ``deploy_ray_hf.py``, NeMo and Megatron checkpoints to
``deploy_ray_inframework.py``, and with TensorRT-LLM to ``deploy_ray_trtllm.py``. Their meanings of
``--num_gpus`` differ: a total over all nodes from Export-Deploy 0.2 on, and with ``--num_nodes`` those
of one node in 0.1.
"""

from __future__ import annotations

from backends.language.ray_options import RayOptions
from backends.sources import WORKERS
from backends.upstream import generations
from console.checkpoints.model import Checkpoint, Format
from console.planning.deployment import Deployment
from console.planning.plan import join
from console.planning.variables import literal

HUGGING_FACE = "scripts/deploy/nlp/deploy_ray_hf.py"
MEGATRON = "scripts/deploy/nlp/deploy_ray_inframework.py"
TENSORRT_LLM = "scripts/deploy/nlp/deploy_ray_trtllm.py"
ROUTES = {
    HUGGING_FACE: "ray-hf",
    MEGATRON: "ray-in-framework",
    TENSORRT_LLM: "ray-tensorrt-llm",
}
APPLICATION = "ray_application"
"""Our own job's file, which Ray carries to the node that runs it."""
_MEGATRON_VALUES = (
    ("tensor_model_parallel_size", "tensor_parallel_size", 1),
    ("pipeline_model_parallel_size", "pipeline_parallel_size", 1),
    ("context_parallel_size", "context_parallel_size", 1),
    ("expert_model_parallel_size", "expert_model_parallel_size", 1),
    ("max_batch_size", "max_batch_size", 0),
    ("inference_max_seq_length", "inference_max_seq_length", 0),
)
_MEGATRON_SWITCHES = ("enable_flash_decode", "enable_cuda_graphs", "legacy_ckpt")
_TENSORRT_VALUES = (
    ("tensor_parallelism_size", "tensor_parallel_size", 1),
    ("pipeline_parallelism_size", "pipeline_parallel_size", 1),
    ("max_batch_size", "max_batch_size", 0),
    ("max_input_len", "max_input_len", 0),
    ("max_output_len", "max_output_len", 0),
)


def script_of(options: RayOptions, checkpoint: Checkpoint) -> str:
    """Path of the script in Export-Deploy's checkout."""
    if options.engine == "tensorrt-llm":
        return TENSORRT_LLM
    return HUGGING_FACE if checkpoint.format is Format.HUGGING_FACE else MEGATRON


def gpus(options: RayOptions, checkpoint: Checkpoint) -> float:
    """GPUs of one replica; 0 on the CPU."""
    if options.device == "cpu":
        return 0.0
    if script_of(options, checkpoint) == MEGATRON:
        return float(options.ranks)
    return options.num_gpus_per_replica


def port(deployment: Deployment, options: RayOptions) -> str:
    """Of Serve's proxies (template). A number that is given for an existing cluster is the cluster's:
    whether it is free here says nothing."""
    fixed = deployment.server.http_port if options.cluster == "existing" else 0
    return str(fixed) if fixed else "${http_port}"


def job(deployment: Deployment, options: RayOptions, checkpoint: Checkpoint) -> list[str]:
    """The job's whole command line (templates)."""
    if options.form == "application":
        return [options.python, f"{APPLICATION}.py", *application(deployment, options, checkpoint)]
    root = generations.generation(options.generation).root
    script = f"{root}/{script_of(options, checkpoint)}"
    return [options.python, script, *arguments(deployment, options, checkpoint)]


def application(deployment: Deployment, options: RayOptions, checkpoint: Checkpoint) -> list[str]:
    """The words behind our own job's file."""
    words = [
        f"--name={literal(deployment.served_name)}",
        f"--model={literal(str(checkpoint.path))}",
        f"--device={options.device}",
        f"--dtype={options.dtype}",
        f"--host={literal(deployment.server.address)}",
        f"--port={port(deployment, options)}",
        f"--replicas={options.num_replicas}",
        f"--cpus={options.num_cpus_per_replica:g}",
        f"--gpus={gpus(options, checkpoint):g}",
        f"--max-ongoing-requests={options.max_ongoing_requests}",
    ]
    if options.device == "cuda":
        words.append(f"--device-map={options.device_map}")
    if options.engine == "vllm":
        words.append("--vllm")
    if options.trust_remote_code:
        words.append("--trust-remote-code")
    return words


def arguments(deployment: Deployment, options: RayOptions, checkpoint: Checkpoint) -> list[str]:
    """The words behind upstream's script. Options of other generations are left in, so that the
    comparison with the script names them."""
    script = script_of(options, checkpoint)
    total = gpus(options, checkpoint) * options.num_replicas
    words = [
        f"--model_id={literal(deployment.served_name)}",
        f"--host={literal(deployment.server.address)}",
        f"--port={port(deployment, options)}",
        f"--num_replicas={options.num_replicas}",
        f"--num_cpus_per_replica={options.num_cpus_per_replica:g}",
    ]
    if options.cuda_visible_devices:
        words.append(f"--cuda_visible_devices={options.cuda_visible_devices}")
    if script == MEGATRON:
        return words + _megatron(options, checkpoint, round(total))
    words.append(f"--num_gpus={max(1, round(total))}")
    words.append(f"--num_gpus_per_replica={options.num_gpus_per_replica:g}")
    path = literal(str(checkpoint.path))
    if script == TENSORRT_LLM:
        return [*words, *_source(checkpoint, path), *_values(options, _TENSORRT_VALUES)]
    return [*words, f"--model_path={path}", *_hugging_face(options)]


def _source(checkpoint: Checkpoint, path: str) -> list[str]:
    hugging_face = checkpoint.format is Format.HUGGING_FACE
    return [f"--hf_model_path={path}" if hugging_face else f"--nemo_checkpoint_path={path}"]


def _hugging_face(options: RayOptions) -> list[str]:
    words = []
    if options.dtype != "auto":
        words.append(f"--torch_dtype={options.dtype}")
    if options.device_map != "auto":
        words.append(f"--device_map={options.device_map}")
    if options.max_ongoing_requests != 10:
        words.append(f"--max_ongoing_requests={options.max_ongoing_requests}")
    if options.engine == "vllm":
        words.append("--use_vllm_backend")
    if options.trust_remote_code:
        words.append("--trust_remote_code")
    return words


def _megatron(options: RayOptions, checkpoint: Checkpoint, total: int) -> list[str]:
    megatron = checkpoint.format is Format.MEGATRON
    flag = "--megatron_checkpoint" if megatron else "--nemo_checkpoint"
    words = [f"{flag}={literal(str(checkpoint.path))}"]
    if options.generation == "ed-0.1":
        # Its total is the product of both.
        words += [f"--num_gpus={total // options.num_nodes}", f"--num_nodes={options.num_nodes}"]
    else:
        words.append(f"--num_gpus={total}")
    words += _values(options, _MEGATRON_VALUES)
    return words + [f"--{name}" for name in _MEGATRON_SWITCHES if getattr(options, name)]


def _values(options: RayOptions, table: tuple[tuple[str, str, int], ...]) -> list[str]:
    return [
        f"--{flag}={getattr(options, name)}"
        for flag, name, default in table
        if getattr(options, name) != default
    ]


def follower(deployment: Deployment, options: RayOptions, checkpoint: Checkpoint) -> list[str]:
    """The command line of the process that submits the job and follows it (templates)."""
    own = options.cluster != "existing"
    python = "${env_inframework}/bin/python" if own else "python3"
    words = [
        python,
        join(WORKERS, "ray_serve.py"),
        f"--cluster={options.cluster}",
        f"--name={literal(deployment.served_name)}",
        "--folder=${work}/ray",
        f"--address={literal(deployment.server.address)}",
        f"--port={port(deployment, options)}",
    ]
    if options.token_env:
        words.append(f"--token-env={options.token_env}")
    if options.token_file:
        words.append(f"--token-file={literal(options.token_file)}")
    words += _node(options) if own else [f"--head={literal(options.head)}"]
    if options.cluster == "join":
        return words
    words.append(f"--nodes={options.num_nodes}")
    words.append(f"--needs={gpus(options, checkpoint):g},{options.num_cpus_per_replica:g}")
    if options.form == "application":
        words.append(f"--package={join(WORKERS, APPLICATION)}.py")
    return [*words, "--", *job(deployment, options, checkpoint)]


def _node(options: RayOptions) -> list[str]:
    words = ["--ray=${env_inframework}/bin/ray"]
    if options.cluster == "join":
        words.append(f"--gcs={literal(options.gcs)}")
    else:
        words += [f"--gcs-port={options.gcs_port}", f"--dashboard-port={options.dashboard_port}"]
    if options.node_address:
        words.append(f"--node-address={options.node_address}")
    if options.node_cpus:
        words.append(f"--node-cpus={options.node_cpus}")
    if options.node_gpus >= 0:
        words.append(f"--node-gpus={options.node_gpus}")
    return words
