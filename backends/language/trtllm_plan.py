"""The steps of the two TensorRT-LLM routes.

Engine: image → repository → look at the place → convert → build → server of one process a GPU → load →
a real answer; with a draft model both are converted and built.
LLM API: image → repository → look at the place, take its python model → server → load → a real answer.

Everything runs where the server does: in the deployment's image, or on this machine with a local
installation. An engine loads with the very versions that built it and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from backends.doors.language import BUILT, READY
from backends.language import trtllm_llmapi_repository, trtllm_repository
from backends.language.common import cases, language, memory_figure
from backends.language.trtllm_argv import Call, Part, build, convert, draft_of
from backends.language.trtllm_catalog import catalog, default_image, image_of
from backends.language.trtllm_options import (
    CALIBRATED,
    EngineOptions,
    LlmapiOptions,
    TrtllmOptions,
)
from backends.language.trtllm_repository import Stages
from backends.sources import WORKERS
from backends.steps import image_step, triton, triton_steps, verify_step, workers_step, write_step
from console.checkpoints.model import Checkpoint, Format
from console.planning.deployment import Deployment, ServerSection
from console.planning.language_memory import Layout, Need, need
from console.planning.plan import (
    Command,
    CommandStep,
    Container,
    ExitCode,
    FileExists,
    FileSpec,
    InputFile,
    JsonFile,
    Mount,
    Plan,
    ProgressRule,
    ServiceSpec,
    Step,
    join,
)
from console.planning.variables import literal
from console.prompts import Names, Style
from console.text import clean
from console.triton.container import IMAGE
from console.triton.launchers import launcher

EMBEDDED = "${env_embedded}/bin/python"
KEY = "${work}/engine-key"
PLANNED = "trtllm-planned.json"
BUILD, PLUGINS = "commands/build.py", "plugin/plugin.py:cli_plugin_args"
"""Where the package declares the options of ``trtllm-build``, and names those of its plugins."""
BOUND = ("tensorrt-llm-version", "tensorrt-version", "gpu-architecture", "parallel-sizes")
"""What an engine is bound to beside checkpoint and command line; ``workers/trtllm_place.py`` asks."""
LLMAPI = "/app/all_models/llmapi/tensorrt_llm/1"
CACHES = {"HOME": "/tmp", "HF_HOME": "/tmp/huggingface"}
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
BUILD_LINES = (
    r"(?P<message>Serializing engine to \S+|Engine generation completed in [\d.]+ seconds"
    r"|Total time of building all engines: [\d:]+)"
)
CONVERT_LINES = (
    r"(?P<message>Total time of converting checkpoints: [\d:]+|\[TensorRT-LLM\].*version.*)"
)


def version_of(deployment: Deployment, options: TrtllmOptions) -> str:
    """TensorRT-LLM's version: what the operator says, else the image's; empty when neither tells."""
    if options.tensorrt_llm:
        return options.tensorrt_llm
    image = image_of(deployment)
    return image.tensorrt_llm if image else ""


def layout_of(options: TrtllmOptions, checkpoint: Checkpoint) -> Layout:
    """Parallel sizes: those that the checkpoint fixes, else the options'."""
    facts = checkpoint.language
    if checkpoint.format in READY | BUILT and facts is not None:
        return Layout(facts.tensor_parallel, facts.pipeline_parallel)
    return options.layout


def need_of(options: EngineOptions | LlmapiOptions, checkpoint: Checkpoint) -> Need | None:
    """What each GPU needs; None where the checkpoint does not tell its geometry."""
    facts = language(checkpoint)
    if facts is None:
        return None
    quantised = options.quantization if isinstance(options, EngineOptions) else "none"
    weights = {"none": "", "smoothquant": "int8"}.get(quantised, quantised)
    plain = "fp16" if facts.dtype in ("fp32", "float32") else facts.dtype
    if options.dtype != "auto":
        plain = options.dtype
    return need(
        facts,
        layout_of(options, checkpoint),
        weights=weights or facts.quantisation or plain,
        cache="" if options.kv_cache_dtype == "auto" else options.kv_cache_dtype,
        step_tokens=options.max_num_tokens,
        counted=checkpoint.parameters,
    )


def seat(server: ServerSection) -> ServerSection:
    """A server that can have TensorRT-LLM: an image with it where the embedded one, or no image, is
    named."""
    changed: dict[str, object] = {"launcher": "container"} if server.launcher == "embedded" else {}
    if changed or server.launcher == "container":
        changed |= {} if server.image else {"image": default_image()}
        changed |= {} if server.gpus else {"gpus": "all"}
    return server.model_copy(update=changed)


def seated(deployment: Deployment) -> Deployment:
    return deployment.model_copy(update={"server": seat(deployment.server)})


def settled(deployment: Deployment, ranks: int) -> Deployment:
    """`deployment` with one process a rank, and no model control where a load request would reach
    one of several."""
    control = "none" if ranks > 1 else deployment.server.control
    server = deployment.server.model_copy(update={"ranks": ranks, "control": control})
    return deployment.model_copy(update={"server": server})


# ------------------------------------------------------------------------------------ where it runs


def command(
    deployment: Deployment,
    argv: Iterable[str],
    *,
    reads: Iterable[str],
    writes: Iterable[str],
    env: dict[str, str],
) -> Command:
    """`argv` where the server runs; in an image, `reads` and `writes` (templates) are mounted at
    their own paths."""
    if deployment.server.launcher != "container":
        return Command(argv=tuple(argv), env=env)
    mounts = [Mount(source=path, target=path, read_only=True) for path in dict.fromkeys(reads)]
    mounts += [Mount(source=path, target=path, create=True) for path in writes]
    return Command(
        argv=tuple(argv),
        runtime=f"image:{IMAGE}",
        env=CACHES | env,
        container=Container(
            mounts=tuple(mounts),
            gpus=deployment.server.gpus or "all",
            workdir="${work}",
            shm_size=deployment.server.shm_size,
            memory=deployment.server.memory,
            ulimits=("memlock=-1", "stack=67108864"),
            # It compiles and caches beneath its home.
            read_only=False,
        ),
    )


def service(
    deployment: Deployment, loaded: tuple[str, ...], models: tuple[str, ...], reads: Iterable[str]
) -> ServiceSpec:
    """The launcher's server, which sees `reads` at their own paths; every rank but the first loads
    `loaded`."""
    spec = triton(deployment, loaded)
    given = spec.process
    if given.container is not None:
        more = (Mount(source=p, target=p, read_only=True) for p in dict.fromkeys(reads))
        container = given.container.model_copy(
            update={"mounts": (*given.container.mounts, *more), "read_only": False}
        )
        given = given.model_copy(
            update={"container": container, "env": given.env | CACHES | OFFLINE}
        )
    else:
        # TensorRT-LLM lives in this machine's own Python, and the server's python models with it.
        argv = tuple("python3" if word == EMBEDDED else word for word in given.argv)
        env = given.env | OFFLINE
        given = given.model_copy(update={"argv": argv, "runtime": "host", "env": env})
    return spec.model_copy(update={"command": given, "models": models})


# ------------------------------------------------------------------------------------ engine


def parts_of(
    options: EngineOptions, checkpoint: Checkpoint, draft: Checkpoint | None
) -> tuple[Part, ...]:
    """The engines that are built: the model's, and the draft model's behind it."""
    model = Part(options, checkpoint, drafted=draft is not None)
    return (model, draft_of(options, draft)) if draft else (model,)


def engine_plan(deployment: Deployment, parts: tuple[Part, ...]) -> Plan:
    """The plan of the engine route; the first of `parts` is the model that answers."""
    layout = layout_of(parts[0].options, parts[0].checkpoint)
    world = layout.tensor * layout.pipeline
    deployment = settled(deployment, world)
    version = version_of(deployment, parts[0].options)
    stages = Stages(deployment.served_name, len(parts) > 1)
    seen = [
        (part.checkpoint, part.converted if part.checkpoint.format is Format.QNEMO else "")
        for part in parts
    ]
    tokenizer = trtllm_repository.tokenizer_folder(parts[0])
    inside = tokenizer == trtllm_repository.TOKENIZER
    steps: list[Step] = [_place(deployment, parts[0].options, seen, layout, tokenizer=inside)]
    for part in parts:
        convert_call, build_call = convert(part, version), build(part, version)
        if convert_call:
            steps.append(_flags(deployment, part, convert_call, "flags"))
        if build_call:
            steps.append(_flags(deployment, part, build_call, "build-flags"))
        if convert_call:
            steps.append(_convert(deployment, part, convert_call, world))
        if build_call:
            steps.append(_build(deployment, part, build_call, world))
    reads = [part.engine for part in parts] + ([tokenizer] if tokenizer else [])
    return _finished(
        "trtllm-engine",
        deployment,
        steps,
        trtllm_repository.engine_files(stages, parts, version),
        service(deployment, stages.engines, stages.every, reads),
        trtllm_repository.ENGINE_NAMES,
        _notes(parts, world),
        version,
    )


def _place(
    deployment: Deployment,
    options: TrtllmOptions,
    seen: Sequence[tuple[Checkpoint, str]],
    layout: Layout,
    *,
    tokenizer: bool = False,
    copy: tuple[str, str] | None = None,
) -> CommandStep:
    """What is really installed where the server runs. An engine is bound to these facts beside its
    command line; a file each, so that the build's own reason for running again names the one that
    changed. `seen` are the checkpoints, each with the folder that an archive is unpacked to, `tokenizer`
    is whether the first holds its own; `copy` is the folder of the image's python model, and where it
    goes."""
    argv = ["python3", join(WORKERS, "trtllm_place.py"), "--facts", KEY]
    paths = [literal(str(checkpoint.path)) for checkpoint, _ in seen]
    unpacked = [(path, folder) for path, (_, folder) in zip(paths, seen, strict=True) if folder]
    for path in paths:
        argv += ["--checkpoint", path]
    for path, folder in unpacked:
        argv += ["--unpack", path, folder]
    argv += ["--tokenizer", paths[0], trtllm_repository.TOKENIZER] if tokenizer else []
    expected = version_of(deployment, options)
    argv += ["--expect", expected] if expected else []
    argv += ["--sizes", f"tensor {layout.tensor}, pipeline {layout.pipeline}"]
    argv += ["--copy", *copy] if copy else []
    made = [join(KEY, name) for name in BOUND]
    made += [f"{folder}/config.json" for _, folder in unpacked]
    made += [trtllm_repository.TOKENIZER] if tokenizer else []
    made += [join(copy[1], "model.py")] if copy else []
    return CommandStep(
        id="place",
        title="look at the installed TensorRT-LLM",
        why="the python model belongs to the TensorRT-LLM that it runs on"
        if copy
        else "an engine of other versions, another GPU or other sizes is built again",
        command=command(
            deployment,
            argv,
            reads=[*paths, *((copy[0],) if copy and copy[0] != LLMAPI else ())],
            writes=("${work}", *((copy[1],) if copy else ())),
            env={},
        ),
        outputs=tuple(made),
        success=(ExitCode(), *(FileExists(path=path) for path in made)),
        timeout=600.0,
        always=True,
    )


def _flags(deployment: Deployment, part: Part, call: Call, step: str) -> CommandStep:
    """The planned words against the program that is really there."""
    result = f"{KEY}/{step}{part.suffix}.json"
    reads = [literal(part.options.examples)] if part.options.examples else []
    argv = ["python3", join(WORKERS, "check_flags.py"), "--plan", join(WORKERS, PLANNED)]
    argv += [
        "--result",
        result,
        "--script",
        BUILD if call.program == "trtllm-build" else call.head[-1],
    ]
    if call.program == "trtllm-build":
        argv += ["--package", "tensorrt_llm", "--listed", PLUGINS]
    return CommandStep(
        id=f"{step}{part.suffix}",
        title=f"compare the flags of {call.program}",
        why="a flag that the installed program does not know is found before the weights are read",
        command=command(
            deployment, [*argv, "--", *call.words], reads=reads, writes=("${work}",), env={}
        ),
        success=(ExitCode(), JsonFile(path=result, expect={"failures": 0})),
        timeout=600.0,
        always=True,
    )


def _convert(deployment: Deployment, part: Part, call: Call, world: int) -> CommandStep:
    options, model = part.options, literal(str(part.checkpoint.path))
    # What is calibrated takes samples, which the script fetches where no folder of them is named.
    calibrated = options.quantization in {*CALIBRATED, "smoothquant"}
    calibrated = calibrated or options.kv_cache_dtype == "int8"
    reads = [model] + ([literal(options.examples)] if options.examples else [])
    if options.calib_dataset.startswith("/"):
        reads.append(literal(options.calib_dataset))
    ranks = tuple(f"{part.converted}/rank{rank}.safetensors" for rank in range(world))
    return CommandStep(
        id=f"convert{part.suffix}",
        title=_of(part, "convert the checkpoint"),
        why="TensorRT-LLM's own layout of the weights, cut for each rank",
        command=command(
            deployment,
            call.argv,
            reads=reads,
            writes=("${work}",),
            env={} if calibrated else OFFLINE,
        ),
        progress=ProgressRule(pattern=CONVERT_LINES),
        inputs=(InputFile(path=model),),
        outputs=(f"{part.converted}/config.json", *ranks),
        success=(
            ExitCode(),
            JsonFile(path=f"{part.converted}/config.json", expect={"mapping.world_size": world}),
            *(FileExists(path=path) for path in ranks),
        ),
    )


def _of(part: Part, title: str) -> str:
    return title if part.name == "model" else f"{title} of the {part.name} model"


def _build(deployment: Deployment, part: Part, call: Call, world: int) -> CommandStep:
    ready = part.checkpoint.format in READY
    source = literal(str(part.checkpoint.path)) if ready else part.converted
    ranks = tuple(f"{part.engine}/rank{rank}.engine" for rank in range(world))
    return CommandStep(
        id=f"build{part.suffix}",
        title=_of(part, "build the engine"),
        why="kernels are chosen on this very GPU: this takes minutes, and much host memory",
        command=command(
            deployment,
            call.argv,
            reads=(source,) if ready else (),
            writes=("${work}",),
            env=OFFLINE,
        ),
        progress=ProgressRule(pattern=BUILD_LINES),
        inputs=(InputFile(path=source), *(InputFile(path=join(KEY, key)) for key in BOUND)),
        outputs=(f"{part.engine}/config.json", *ranks),
        success=(
            ExitCode(),
            JsonFile(
                path=f"{part.engine}/config.json",
                expect={"pretrained_config.mapping.world_size": world},
            ),
            *(FileExists(path=path) for path in ranks),
        ),
    )


def _notes(parts: tuple[Part, ...], world: int) -> tuple[str, ...]:
    notes = []
    if parts[0].checkpoint.format in BUILT:
        notes.append("the engine is built already: it is served from where it lies")
    if world > 1:
        notes.append(
            f"one server of {world} processes under mpirun, one for each GPU; it loads its models as "
            "it starts"
        )
    for part in parts:
        wanted = need_of(part.options, part.checkpoint)
        if wanted is not None:
            notes.append(_of(part, memory_figure(wanted)))
    left = sum(parameter.left for parameter in catalog().parameters.values())
    notes.append(f"{left} parameters of the engine's model are left to its own defaults")
    return tuple(notes)


# ------------------------------------------------------------------------------------ LLM API


def llmapi_plan(deployment: Deployment, options: LlmapiOptions, checkpoint: Checkpoint) -> Plan:
    """The plan of the LLM API. Its model starts its own processes for further GPUs: the server is
    one."""
    deployment = settled(deployment, 1)
    name = deployment.served_name
    source = literal(options.python_model) or LLMAPI
    copy = (source, join(trtllm_repository.REPOSITORY, name, "1"))
    place = _place(deployment, options, ((checkpoint, ""),), options.layout, copy=copy)
    files = trtllm_llmapi_repository.llmapi_files(name, options, checkpoint)
    spec = service(deployment, (name,), (name,), (literal(str(checkpoint.path)),))
    wanted = need_of(options, checkpoint)
    notes = (memory_figure(wanted),) if wanted else ()
    return _finished(
        "trtllm-llmapi",
        deployment,
        [place],
        files,
        spec,
        trtllm_llmapi_repository.LLMAPI_NAMES,
        notes,
        version_of(deployment, options),
    )


# ------------------------------------------------------------------------------------ both


def _finished(
    backend: str,
    deployment: Deployment,
    made: list[Step],
    files: tuple[FileSpec, ...],
    spec: ServiceSpec,
    names: Names,
    notes: tuple[str, ...],
    version: str,
) -> Plan:
    start = launcher(deployment)
    images = start.images(deployment, ())
    planned = {"generation": f"TensorRT-LLM {clean(version) or 'unknown'}"}
    expected = FileSpec(path=join(WORKERS, PLANNED), text=json.dumps(planned) + "\n")
    steps: list[Step] = [
        image_step(image, "TensorRT-LLM and the server, of versions that belong together")
        for image in images
    ]
    why = "what looks at the place, starts the server and reads its token"
    steps.append(workers_step(why, (start.worker, "trtllm_place", "check_flags"), (expected,)))
    why = "config.pbtxt says which tensors each model takes and answers, and how it is run"
    steps.append(write_step("repository", "model repository", why, files))
    steps += made
    steps += triton_steps(deployment, spec, ("load the models", "the weights go to the GPU now"))
    asked = cases(deployment, deployment.served_name, Style.GENERATE, names)
    steps.append(verify_step(spec, asked))
    return Plan(
        deployment=deployment.name,
        backend=backend,
        variables=start.variables(deployment),
        images=images,
        engine=deployment.server.engine,
        steps=tuple(steps),
        notes=notes,
    )
