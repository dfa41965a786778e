"""The steps of the TensorRT route.

environments and images → workers → repository → graph (copied, checked, a request made up) → precision
(ModelOpt, where it is reached by the graph) → build (trtexec, one plan for each kind of GPU) → header
(against the server's TensorRT) → server → load → a real answer. The form ``onnxruntime`` is the same
without build and header: the graph stands where the plan would.
"""

from __future__ import annotations

from typing import Any

from backends.environments import environment
from backends.onnx_graph import graph_step
from backends.onnx_plan import (
    choose_form,
    environment_why,
    image_why,
    observing,
    repository_step,
    requirements,
    workers,
)
from backends.onnx_repository import config_files, repository_files, settings_of
from backends.onnx_serving import serving_steps
from backends.onnx_work import SIGNATURE, Work
from backends.sources import version_folder
from backends.steps import environment_step, image_step
from backends.trt import shapes
from backends.trt.argv import CACHES, Build, command, rewrites
from backends.trt.catalog import catalog
from backends.trt.options import TensorrtOptions
from backends.trt.work import (
    FOLDER,
    GRAPH,
    HEADER_WORKER,
    PLAN_REPORT,
    PRECISION_REPORT,
    PRECISION_WORKER,
    REWRITTEN,
    Target,
    build_version,
    builds,
    graph_options,
    image_of,
    seated,
    served,
    server_version,
    targets,
    work_of,
)
from console.checkpoints.model import Checkpoint
from console.facts import Host, ToolFacts
from console.planning.deployment import Deployment
from console.planning.plan import (
    Command,
    CommandStep,
    Container,
    ExitCode,
    FileExists,
    FileSpec,
    ImageSpec,
    InputFile,
    JsonFile,
    LogMarker,
    Mount,
    Plan,
    Probe,
    ProgressRule,
    ServiceStep,
    Step,
    join,
)
from console.planning.variables import THE_VERSION, literal
from console.triton import releases
from console.triton.container import IMAGE
from console.triton.launchers import launcher
from console.triton.repository import Instances, model_config, to_text

BUILD_IMAGE = "tensorrt"
PLATFORM = "tensorrt_plan"


def environments_of(deployment: Deployment, options: TensorrtOptions) -> tuple[str, ...]:
    """Names of the managed environments: the graph is opened in ``embedded`` and rewritten in
    ``modelopt``."""
    version = build_version(deployment, options)
    wanted = ("embedded", *(("modelopt",) if rewrites(options, version) else ()))
    return tuple(dict.fromkeys((*wanted, *launcher(deployment).environments)))


def plan(
    deployment: Deployment,
    options: TensorrtOptions,
    checkpoint: Checkpoint,
    host: Host,
    tools: ToolFacts,
) -> Plan:
    """The plan. Raises `UsageError` for shapes that no plan can be built with, and for verify cases
    that do not fit the graph."""
    assert checkpoint.graph is not None, "accepted checkpoints have a graph"
    deployment = seated(deployment, options)
    form, note = "tensorrt", "the plan runs in Triton's tensorrt backend"
    if options.form == "onnxruntime":
        form, note = choose_form(deployment, graph_options(options), tools)
    else:
        shapes.require(checkpoint.graph, options)
    work = work_of(deployment, options, checkpoint, form)
    if not work.builds:
        return observing(work)
    start = launcher(deployment)
    specs = [environment(name, deployment) for name in environments_of(deployment, options)]
    servers = start.images(deployment, requirements(work, tools))
    images = (*servers, *_build_images(options))
    steps: list[Step] = [environment_step(s, environment_why(s)) for s in specs]
    steps += [image_step(image, image_why(image)) for image in servers]
    steps += [
        image_step(image, "the image that the plan is built in, loaded or pulled once")
        for image in _build_images(options)
    ]
    steps += [_workers(work, options, start.worker), _repository(work, options, host)]
    steps += [graph_step(work), *_precision(work, options)]
    if form == "tensorrt":
        steps += _builds(work, options, host)
        steps.append(_header(work, options, host))
    steps += _serving(work, options)
    return Plan(
        deployment=deployment.name,
        backend="tensorrt",
        variables=(*start.variables(deployment), THE_VERSION),
        environments=tuple(specs),
        images=images,
        engine=deployment.server.engine,
        steps=tuple(steps),
        notes=(note, *_notes(work, options)),
    )


def _build_images(options: TensorrtOptions) -> tuple[ImageSpec, ...]:
    if options.form != "tensorrt" or not options.build_image:
        return ()
    reference = releases.reference(options.build_image)
    return (ImageSpec(name=BUILD_IMAGE, title=reference, reference=reference),)


def _rewritten(work: Work, options: TensorrtOptions) -> bool:
    return rewrites(options, build_version(work.deployment, options))


def _workers(work: Work, options: TensorrtOptions, server: str) -> Step:
    names = [server] if server else []
    names += ["modelopt_precision"] if _rewritten(work, options) else []
    names += ["tensorrt_header"] if work.form == "tensorrt" else []
    return workers(work, *names)


# ------------------------------------------------------------------------------------ repository


def _repository(work: Work, options: TensorrtOptions, host: Host) -> Step:
    files = _config(work, options, host) if work.form == "tensorrt" else repository_files(work)
    return repository_step(files)


def _config(work: Work, options: TensorrtOptions, host: Host) -> tuple[FileSpec, ...]:
    graph = served(work.graph, build_version(work.deployment, options))
    # Triton gives a plan GPUs by itself; it refuses the word on a machine that has none.
    settings = settings_of(work) | {"instances": Instances(options.instance_count, "auto")}
    config = model_config(work.name, graph.inputs, graph.outputs, backend="tensorrt", **settings)
    config.platform = PLATFORM
    for target in targets(work.deployment, options, host):
        if target.capability:
            config.cc_model_filenames[target.capability] = target.file
    return config_files(work, work.name, to_text(config))


# ------------------------------------------------------------------------------------ precision


def _precision(work: Work, options: TensorrtOptions) -> list[Step]:
    if not _rewritten(work, options):
        return []
    into = REWRITTEN if work.form == "tensorrt" else version_folder(work.name)
    argv = ["${env_modelopt}/bin/python", PRECISION_WORKER, "--graph", join(GRAPH, "model.onnx")]
    for name in work.graph.external_data:
        argv += ["--sidecar", literal(name)]
    argv += ["--into", into, "--signature", SIGNATURE, "--report", PRECISION_REPORT]
    argv += ["--precision", options.precision, "--limit", f"{options.limit:g}"]
    if options.precision == "int8":
        argv += ["--method", options.calibration_method, "--rest", options.rest]
        usual = shapes.profile(work.graph, options).usual
        for spec in shapes.written(usual):
            argv += ["--shape", literal(spec)]
    calibration = literal(options.calibration)
    argv += ["--calibration", calibration] if calibration else []
    for pattern in options.keep_nodes:
        argv += [f"--keep={literal(pattern)}"]
    inputs = [join(GRAPH, "model.onnx"), PRECISION_WORKER, SIGNATURE]
    inputs += [calibration] if calibration else []
    outputs = (join(into, "model.onnx"), PRECISION_REPORT)
    expect: dict[str, Any] = {"precision": options.precision}
    if options.precision != "bf16":
        expect |= {"compared": True, "relative": {"max": options.limit}}
    return [
        CommandStep(
            id="precision",
            title=f"rewrite the graph for {options.precision}",
            why="ModelOpt sets the types in the graph; both graphs then run on the same inputs",
            inputs=tuple(InputFile(path=path) for path in inputs),
            outputs=outputs,
            success=(
                ExitCode(),
                *(FileExists(path=path) for path in outputs),
                JsonFile(path=PRECISION_REPORT, expect=expect),
            ),
            command=Command(
                argv=tuple(argv), runtime="environment:modelopt", env={"CUDA_VISIBLE_DEVICES": ""}
            ),
        )
    ]


# ------------------------------------------------------------------------------------ build


def _builds(work: Work, options: TensorrtOptions, host: Host) -> list[Step]:
    deployment = work.deployment
    found = targets(deployment, options, host)
    made = builds(deployment, options, work.graph, work.name, host)
    return [
        _build(work, options, target, build, alone=len(found) == 1)
        for target, build in zip(found, made, strict=True)
    ]


def _build(
    work: Work, options: TensorrtOptions, target: Target, build: Build, *, alone: bool
) -> Step:
    kind = f" for compute capability {target.capability}" if target.capability else ""
    data = catalog()
    success: list[Probe] = [ExitCode(), FileExists(path=build.plan, min_bytes=28)]
    if options.builder == "trtexec":
        success.append(LogMarker(pattern=data.passed))
    inputs = [InputFile(path=build.graph)]
    if build.calibration_cache:
        inputs.append(InputFile(path=build.calibration_cache))
    return CommandStep(
        id="build" if alone else f"build-cc{target.capability.replace('.', '-')}",
        title=f"build the plan{kind}",
        why="TensorRT times kernels on this very GPU: this takes minutes, and all of the GPU",
        inputs=tuple(inputs),
        outputs=(build.plan,),
        success=tuple(success),
        timeout=60.0 * options.build_minutes,
        command=_command(work, options, build),
        progress=ProgressRule(pattern=data.progress),
    )


def _command(work: Work, options: TensorrtOptions, build: Build) -> Command:
    deployment = work.deployment
    words = command(options, build_version(deployment, options), build)
    image = image_of(deployment, options)
    env = _seen(options, build, "" if image else deployment.server.gpus)
    if not image:
        return Command(argv=words, env=env)
    # The timing cache stands beside the folders of the versions and is written to.
    writes = [CACHES if options.timing_cache else FOLDER, version_folder(work.name)]
    mounts = [Mount(source=path, target=path) for path in writes]
    if cache := build.calibration_cache:
        mounts.append(Mount(source=cache, target=cache, read_only=True))
    return Command(
        argv=words,
        runtime=f"image:{BUILD_IMAGE if options.build_image else IMAGE}",
        env={"HOME": "/tmp"} | env,
        container=Container(
            mounts=tuple(mounts),
            gpus=deployment.server.gpus or "all",
            shm_size=deployment.server.shm_size,
            memory=deployment.server.memory,
            workdir="/tmp",
        ),
    )


def _seen(options: TensorrtOptions, build: Build, gpus: str) -> dict[str, str]:
    """Variables that make the builder's GPUs those of the server, in NVML's order: CUDA itself counts
    the fastest first. `gpus`: the server's, where no container holds the others back."""
    names = gpus.split(",") if gpus not in ("", "all") else []
    env = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if options.builder == "polygraphy" and (names or build.device):
        # It has no flag for the device.
        env["CUDA_VISIBLE_DEVICES"] = literal(names[build.device]) if names else str(build.device)
    elif names:
        env["CUDA_VISIBLE_DEVICES"] = literal(gpus)
    return env


def _header(work: Work, options: TensorrtOptions, host: Host) -> Step:
    deployment = work.deployment
    plans = [b.plan for b in builds(deployment, options, work.graph, work.name, host)]
    argv = ["${env_embedded}/bin/python", HEADER_WORKER, "--report", PLAN_REPORT]
    for path in plans:
        argv += ["--plan", path]
    wanted = server_version(deployment) or build_version(deployment, options)
    argv += ["--wanted", wanted] if wanted else []
    argv += ["--compatible"] if options.version_compatible else []
    return CommandStep(
        id="header",
        title="read the plan's header",
        why="a plan loads with the TensorRT that built it; a server says so only when it loads it",
        inputs=tuple(InputFile(path=path) for path in (*plans, HEADER_WORKER)),
        outputs=(PLAN_REPORT,),
        success=(ExitCode(), FileExists(path=PLAN_REPORT)),
        command=Command(argv=tuple(argv), runtime="environment:embedded"),
    )


# ------------------------------------------------------------------------------------ serving


def _serving(work: Work, options: TensorrtOptions) -> list[Step]:
    """The graph route's steps; a server of version-compatible plans is told that it may load them."""
    steps = serving_steps(work)
    if work.form != "tensorrt" or not options.version_compatible:
        return steps
    return [_compatible(step) if isinstance(step, ServiceStep) else step for step in steps]


def _compatible(step: ServiceStep) -> ServiceStep:
    service = step.service
    if service.command is None:
        return step
    more = "--backend-config=tensorrt,version-compatible=true"
    given = service.command.model_copy(update={"argv": (*service.command.argv, more)})
    return step.model_copy(update={"service": service.model_copy(update={"command": given})})


def _notes(work: Work, options: TensorrtOptions) -> tuple[str, ...]:
    notes = []
    if work.form != "tensorrt":
        notes.append("no plan is built: ONNX Runtime serves the graph under the same name")
    if _rewritten(work, options):
        kind = "quantises" if options.precision == "int8" else "casts"
        notes.append(f"ModelOpt {kind} the graph for {options.precision}, on the CPU")
        if not options.calibration:
            notes.append("what the graph was seen with is made up: its accuracy is not known")
    if not work.deployment.verify:
        notes.append("no [[verify]] case is given: the plan proves an answer, not the right one")
    return tuple(notes)
