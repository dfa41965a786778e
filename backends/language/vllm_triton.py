"""Triton's vLLM backend: a model repository for a server that has it, and the steps to serve it.

The model is two files: ``config.pbtxt`` with the backend's name, and ``model.json`` with arguments of
vLLM's engine. An argument that the engine does not know ends the load, so only those are written that
differ from its defaults or decide what is served. Tensors come from the backend itself.
"""

from __future__ import annotations

import json

from backends.language.common import cases
from backends.language.vllm_options import VllmOptions
from backends.language.vllm_plan import (
    CACHES,
    CHECKER,
    OFFLINE,
    QUIET,
    answers,
    compared,
    notes,
    workers,
)
from backends.sources import WORKERS
from backends.steps import image_step, triton, triton_steps, verify_step, write_step
from backends.upstream.vllm_arguments import of_image
from console.checkpoints.model import Checkpoint
from console.planning.deployment import Deployment
from console.planning.plan import (
    Command,
    CommandStep,
    Container,
    FileSpec,
    Mount,
    Plan,
    ServiceSpec,
    Step,
    VerifyStep,
    join,
)
from console.planning.variables import literal
from console.prompts import Names, Style
from console.triton.container import IMAGE
from console.triton.launchers import launcher
from console.triton.repository import Instances, model_config, to_text

REPOSITORY = "${repository}"
NAMES = Names(sampling="sampling_parameters", without_prompt="exclude_input_in_output")
"""What the backend calls the parts of a request (24.07 to 26.07)."""


def version_of(deployment: Deployment) -> str:
    """vLLM's version in the image that the deployment names; empty where nothing tells."""
    server = deployment.server
    if server.launcher != "container":
        return ""
    return of_image(server.image)


def engine_arguments(options: VllmOptions, checkpoint: Checkpoint) -> dict[str, object]:
    """``model.json``: what decides the model, and what differs from vLLM's defaults."""
    given: dict[str, object] = {
        "model": str(checkpoint.path),
        "tensor_parallel_size": options.tensor_parallel_size,
        "gpu_memory_utilization": options.gpu_memory_utilization,
    }
    usual: tuple[tuple[str, object, object], ...] = (
        ("pipeline_parallel_size", options.pipeline_parallel_size, 1),
        ("dtype", options.dtype, "auto"),
        ("seed", options.seed, 0),
        ("load_format", options.load_format, "auto"),
        ("quantization", options.quantization, ""),
        ("max_model_len", options.max_model_len, 0),
        ("max_num_seqs", options.max_num_seqs, 0),
        ("max_num_batched_tokens", options.max_num_batched_tokens, 0),
        ("kv_cache_dtype", options.kv_cache_dtype, "auto"),
        ("cpu_offload_gb", options.cpu_offload_gb, 0.0),
        ("enforce_eager", options.enforce_eager, False),
        ("moe_backend", options.moe_backend, ""),
        ("trust_remote_code", options.trust_remote_code, False),
        ("enable_lora", options.enable_lora, False),
    )
    given |= {name: value for name, value, default in usual if value != default}
    if options.enable_lora:
        given["max_lora_rank"] = options.max_lora_rank
    return given


def files(
    deployment: Deployment, options: VllmOptions, checkpoint: Checkpoint
) -> tuple[FileSpec, ...]:
    """The repository. One instance of kind MODEL: the engine takes its GPUs itself."""
    name = deployment.served_name
    config = model_config(name, (), (), backend="vllm", instances=Instances(1, "model"))
    made = [
        FileSpec(path=join(REPOSITORY, name, "config.pbtxt"), text=to_text(config)),
        _json(join(REPOSITORY, name, "1", "model.json"), engine_arguments(options, checkpoint)),
    ]
    if options.lora_modules:
        adapters = dict(module.split("=", 1) for module in options.lora_modules)
        made.append(_json(join(REPOSITORY, name, "1", "multi_lora.json"), adapters))
    return tuple(made)


def _json(path: str, value: dict[str, object] | dict[str, str]) -> FileSpec:
    return FileSpec(path=path, text=json.dumps(value, indent=2) + "\n")


def _reads(options: VllmOptions, checkpoint: Checkpoint) -> tuple[Mount, ...]:
    adapters = (module.partition("=")[2] for module in options.lora_modules)
    paths = dict.fromkeys([str(checkpoint.path), *adapters])
    return tuple(Mount(source=literal(p), target=literal(p), read_only=True) for p in paths)


def service(deployment: Deployment, options: VllmOptions, checkpoint: Checkpoint) -> ServiceSpec:
    """The launcher's server, which reads the checkpoint at its own path."""
    spec = triton(deployment, (deployment.served_name,))
    given = spec.process
    env = dict(QUIET) | ({} if options.hf_token else OFFLINE)
    secrets = (options.hf_token,) if options.hf_token else ()
    # The backend itself says which tensors its model has: by version, and that it is decoupled.
    argv = tuple(word for word in given.argv if word != "--disable-auto-complete-config")
    changed: dict[str, object] = {"argv": argv, "secrets": (*given.secrets, *secrets)}
    if deployment.server.launcher == "local":
        # The backend finds vLLM in the first Python on PATH: this machine's own, not a managed one.
        changed |= {"argv": ("python3", *argv[1:]), "runtime": "host"}
    if given.container is not None:
        mounts = (*given.container.mounts, *_reads(options, checkpoint))
        changed["container"] = given.container.model_copy(
            update={"mounts": mounts, "read_only": False, "tmpfs": ()}
        )
        env |= CACHES
    changed["env"] = given.env | env
    return spec.model_copy(update={"command": given.model_copy(update=changed)})


def plan(deployment: Deployment, options: VllmOptions, checkpoint: Checkpoint) -> Plan:
    """The plan with Triton's vLLM backend."""
    start = launcher(deployment)
    images = start.images(deployment, ())
    steps: list[Step] = [
        image_step(image, "Triton with its vLLM backend, of versions that belong together")
        for image in images
    ]
    steps += [
        workers(start.worker, "check_vllm"),
        write_step(
            "repository",
            "model repository",
            "config.pbtxt names the backend, model.json has the arguments of vLLM's engine",
            files(deployment, options, checkpoint),
        ),
        _compare(deployment),
        *_serving(deployment, options, checkpoint),
    ]
    return Plan(
        deployment=deployment.name,
        backend="vllm",
        variables=start.variables(deployment),
        images=images,
        engine=deployment.server.engine,
        steps=tuple(steps),
        notes=notes(options, checkpoint),
    )


def _compare(deployment: Deployment) -> CommandStep:
    """The keys of model.json against the vLLM that the server's Python has."""
    file = join(REPOSITORY, deployment.served_name, "1", "model.json")
    if deployment.server.launcher != "container":
        return compared(Command(argv=("python3", CHECKER, f"--keys={file}")))
    mounts = tuple(Mount(source=p, target=p, read_only=True) for p in (WORKERS, REPOSITORY))
    return compared(
        Command(
            argv=("python3", CHECKER, f"--keys={file}"),
            runtime=f"image:{IMAGE}",
            container=Container(mounts=mounts),
        )
    )


def _serving(
    deployment: Deployment, options: VllmOptions, checkpoint: Checkpoint
) -> tuple[Step, ...]:
    spec = service(deployment, options, checkpoint)
    load = ("load the model", "weights are loaded, kernels compiled and the cache laid out")
    steps = triton_steps(deployment, spec, load, patience=600.0)
    if answers(options, checkpoint):
        steps.append(asked(deployment, spec))
    return tuple(steps)


def asked(deployment: Deployment, spec: ServiceSpec) -> VerifyStep:
    """The deployment's questions, through Triton's generate extension."""
    return verify_step(spec, cases(deployment, deployment.served_name, Style.GENERATE, NAMES))
