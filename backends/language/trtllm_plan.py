"""The steps of the two TensorRT-LLM routes.

Engine: image → convert → build → repository → server of one process a GPU → load → a real answer.
LLM API: image → its python model → repository → server → load → a real answer.

Everything runs where the server does: in the deployment's image, or on this machine with a local
installation. An engine loads with the very versions that built it and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable

from backends.doors.language import BUILT, READY
from backends.language import trtllm_repository as repository
from backends.language.common import cases, language, memory_figure
from backends.language.trtllm_argv import CONVERTED, ENGINE, Call, build, convert
from backends.language.trtllm_catalog import catalog, default_image, image_of
from backends.language.trtllm_options import (
    CALIBRATED,
    EngineOptions,
    LlmapiOptions,
    TrtllmOptions,
)
from backends.sources import WORKERS, worker
from console.checkpoints.model import Checkpoint
from console.planning.deployment import Deployment, ServerSection
from console.planning.language_memory import Layout, Need, need
from console.planning.plan import (
    Command,
    CommandStep,
    Container,
    ExitCode,
    FileExists,
    FileSpec,
    ImageStep,
    InputFile,
    JsonFile,
    LoadStep,
    Mount,
    Plan,
    ProgressRule,
    ServiceSpec,
    ServiceStep,
    Step,
    UrlReady,
    VerifyStep,
    WriteStep,
    join,
)
from console.planning.variables import literal
from console.prompts import Names, Style
from console.text import clean
from console.triton.container import IMAGE
from console.triton.launchers import launcher

KEY = "${work}/engine-key"
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
    start = launcher(deployment)
    spec = start.service(deployment, loaded, join(WORKERS, f"{start.worker}.py"))
    given = spec.process
    if given.container is not None:
        more = (Mount(source=p, target=p, read_only=True) for p in dict.fromkeys(reads))
        container = given.container.model_copy(
            update={"mounts": (*given.container.mounts, *more), "read_only": False}
        )
        given = given.model_copy(
            update={"container": container, "env": given.env | CACHES | OFFLINE}
        )
    return spec.model_copy(update={"command": given, "models": models})


# ------------------------------------------------------------------------------------ engine


def engine_plan(deployment: Deployment, options: EngineOptions, checkpoint: Checkpoint) -> Plan:
    """The plan of the engine route."""
    layout = layout_of(options, checkpoint)
    world = layout.tensor * layout.pipeline
    deployment = settled(deployment, world)
    version = version_of(deployment, options)
    name = deployment.served_name
    steps: list[Step] = []
    convert_call = convert(options, checkpoint, version)
    build_call = build(options, checkpoint, version)
    steps.append(_place(deployment, options, checkpoint, layout))
    if convert_call:
        steps.append(_convert(deployment, options, checkpoint, convert_call, world))
    if build_call:
        steps.append(_build(deployment, checkpoint, build_call, world))
    files = repository.engine_files(name, options, checkpoint, version)
    folder = repository.tokenizer_folder(options, checkpoint)
    reads = [repository.engine_folder(checkpoint)] + ([literal(folder)] if folder else [])
    models = repository.stages(name)
    spec = service(deployment, models[1:2], models, reads)
    return _finished(
        "trtllm-engine",
        deployment,
        steps,
        files,
        spec,
        repository.ENGINE_NAMES,
        _notes(options, checkpoint, world, build_call),
    )


def _convert(
    deployment: Deployment,
    options: EngineOptions,
    checkpoint: Checkpoint,
    call: Call,
    world: int,
) -> CommandStep:
    model = literal(str(checkpoint.path))
    offline = options.quantization not in CALIBRATED and options.quantization != "smoothquant"
    reads = [model] + ([literal(options.examples)] if options.examples else [])
    if options.calib_dataset.startswith("/"):
        reads.append(literal(options.calib_dataset))
    ranks = tuple(f"{CONVERTED}/rank{rank}.safetensors" for rank in range(world))
    return CommandStep(
        id="convert",
        title="convert the checkpoint",
        why="TensorRT-LLM's own layout of the weights, cut for each rank",
        command=command(
            deployment,
            call.argv,
            reads=reads,
            writes=("${work}",),
            env=OFFLINE if offline else {},
        ),
        progress=ProgressRule(pattern=CONVERT_LINES),
        inputs=(InputFile(path=model),),
        outputs=(f"{CONVERTED}/config.json", *ranks),
        success=(
            ExitCode(),
            JsonFile(path=f"{CONVERTED}/config.json", expect={"mapping.world_size": world}),
            *(FileExists(path=path) for path in ranks),
        ),
    )


def _place(
    deployment: Deployment,
    options: TrtllmOptions,
    checkpoint: Checkpoint,
    layout: Layout,
    *,
    copy: tuple[str, str] | None = None,
) -> CommandStep:
    """What is really installed where the server runs. An engine is bound to these facts beside its
    command line; a file each, so that the build's own reason for running again names the one that
    changed."""
    model = literal(str(checkpoint.path))
    argv = ["python3", join(WORKERS, "trtllm_place.py"), "--checkpoint", model, "--facts", KEY]
    expected = version_of(deployment, options)
    argv += ["--expect", expected] if expected else []
    argv += ["--sizes", f"tensor {layout.tensor}, pipeline {layout.pipeline}"]
    argv += ["--copy", *copy] if copy else []
    facts = tuple(join(KEY, name) for name in BOUND)
    made = (join(copy[1], "model.py"),) if copy else ()
    return CommandStep(
        id="place",
        title="look at the installed TensorRT-LLM",
        why="an engine of other versions, another GPU or other sizes is built again"
        if not copy
        else "the python model belongs to the TensorRT-LLM that it runs on",
        command=command(
            deployment,
            argv,
            reads=(model,),
            writes=("${work}", *((copy[1],) if copy else ())),
            env={},
        ),
        outputs=(*facts, *made),
        success=(ExitCode(), *(FileExists(path=path) for path in (*facts, *made))),
        timeout=600.0,
        always=True,
    )


def _build(deployment: Deployment, checkpoint: Checkpoint, call: Call, world: int) -> CommandStep:
    ready = checkpoint.format in READY
    source = literal(str(checkpoint.path)) if ready else CONVERTED
    ranks = tuple(f"{ENGINE}/rank{rank}.engine" for rank in range(world))
    return CommandStep(
        id="build",
        title="build the engine",
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
        outputs=(f"{ENGINE}/config.json", *ranks),
        success=(
            ExitCode(),
            JsonFile(
                path=f"{ENGINE}/config.json",
                expect={"pretrained_config.mapping.world_size": world},
            ),
            *(FileExists(path=path) for path in ranks),
        ),
    )


def _notes(
    options: EngineOptions, checkpoint: Checkpoint, world: int, call: Call | None
) -> tuple[str, ...]:
    notes = []
    if call is None:
        notes.append("the engine is built already: it is served from where it lies")
    if world > 1:
        notes.append(
            f"one server of {world} processes under mpirun, one for each GPU; it loads its models as "
            "it starts"
        )
    wanted = need_of(options, checkpoint)
    if wanted is not None:
        notes.append(memory_figure(wanted))
    left = len(catalog().parameters.defaults)
    notes.append(f"{left} parameters of the engine's model are left to its own defaults")
    return tuple(notes)


# ------------------------------------------------------------------------------------ LLM API


def llmapi_plan(deployment: Deployment, options: LlmapiOptions, checkpoint: Checkpoint) -> Plan:
    """The plan of the LLM API. Its model starts its own processes for further GPUs: the server is
    one."""
    deployment = settled(deployment, 1)
    name = deployment.served_name
    version = join(repository.REPOSITORY, name, "1")
    place = _place(deployment, options, checkpoint, options.layout, copy=(LLMAPI, version))
    files = repository.llmapi_files(name, options, checkpoint)
    spec = service(deployment, (name,), (name,), (literal(str(checkpoint.path)),))
    wanted = need_of(options, checkpoint)
    notes = (memory_figure(wanted),) if wanted else ()
    return _finished(
        "trtllm-llmapi", deployment, [place], files, spec, repository.LLMAPI_NAMES, notes
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
) -> Plan:
    start = launcher(deployment)
    images = start.images(deployment, ())
    carried = [worker(name) for name in (start.worker, "trtllm_place") if name]
    steps: list[Step] = [
        ImageStep(
            id=f"image-{image.name}",
            title=f"image: {clean(image.title)}",
            why="TensorRT-LLM and the server, of versions that belong together",
            image=image.name,
        )
        for image in images
    ]
    why = "what looks at the place, starts the server and reads its token"
    steps.append(_write("workers", "workers", why, tuple(carried)))
    steps.append(_repository(files))
    steps += made
    steps += _serving(deployment, spec, names)
    return Plan(
        deployment=deployment.name,
        backend=backend,
        variables=start.variables(deployment),
        images=images,
        engine=deployment.server.engine,
        steps=tuple(steps),
        notes=notes,
    )


def _repository(files: tuple[FileSpec, ...]) -> WriteStep:
    why = "config.pbtxt says which tensors each model takes and answers, and how it is run"
    return _write("repository", "model repository", why, files)


def _write(step: str, title: str, why: str, files: tuple[FileSpec, ...]) -> WriteStep:
    return WriteStep(
        id=step, title=title, why=why, files=files, outputs=tuple(file.path for file in files)
    )


def _serving(deployment: Deployment, spec: ServiceSpec, names: Names) -> list[Step]:
    server = deployment.server
    explicit = server.control == "explicit"
    wait = 60.0 if explicit else 60.0 + server.load_timeout * len(spec.models)
    ready = tuple(
        UrlReady(url=f"{spec.http_url}/v2/models/{model}/ready", timeout=server.load_timeout)
        for model in spec.models
    )
    live = UrlReady(url=f"{spec.http_url}/v2/health/live", timeout=wait)
    steps: list[Step] = [
        ServiceStep(
            id="service",
            title="start Triton",
            why="one process for each GPU of the engine" if server.ranks > 1 else "it starts empty",
            service=spec,
            success=(live,) if explicit else (live, *ready),
        )
    ]
    if explicit:
        steps.append(
            LoadStep(
                id="load",
                title="load the models",
                why="the weights go to the GPU now",
                service=spec.name,
                models=spec.models,
                model_timeout=server.load_timeout,
                success=ready,
            )
        )
    steps.append(
        VerifyStep(
            id="verify",
            title="verify",
            why="a model serves only when a real request has the right answer",
            service=spec.name,
            success=cases(deployment, deployment.served_name, Style.GENERATE, names),
        )
    )
    return steps
