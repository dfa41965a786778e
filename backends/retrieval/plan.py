"""The steps of the retrieval route.

environments → workers → repository (configurations, sources) → export (compared with PyTorch) →
service → load (which opens the store) → verify → switch.
"""

from __future__ import annotations

from backends.base import require
from backends.doors.retrieval import RetrievalDoor, sentence, towers
from backends.environments import environment
from backends.onnx_checks import triton_backends
from backends.retrieval import export
from backends.retrieval.options import RetrievalOptions
from backends.retrieval.repository import repository_files
from backends.retrieval.requests import verification
from backends.retrieval.work import ENVIRONMENT, EXPORTER, Work
from backends.sources import WORKERS, worker
from console.checkpoints.model import Checkpoint
from console.facts import ToolFacts
from console.planning.deployment import Deployment
from console.planning.plan import (
    Command,
    EnvironmentSpec,
    EnvironmentStep,
    FileSpec,
    ImageSpec,
    ImageStep,
    LoadStep,
    Plan,
    ServiceStep,
    Step,
    SwitchStep,
    UrlReady,
    VerifyStep,
    WriteStep,
    join,
)
from console.planning.variables import THE_VERSION
from console.triton.launchers import launcher

Checkpoints = dict[str, Checkpoint]
ROOM = "retrieval"
IMAGE_PACKAGES = ("numpy", "pillow", "tokenizers", "psycopg", "pgvector", "qdrant-client")
WHY = {
    EXPORTER: "exports the towers, apart from the console's own packages",
    ENVIRONMENT: "decodes images, makes tokens and speaks with the store",
    "embedded": "runs Triton, apart from the console's own",
}


def work_of(
    deployment: Deployment, options: RetrievalOptions, checkpoints: Checkpoints, tools: ToolFacts
) -> Work:
    """What the steps need to know. Raises `UsageError` for checkpoints that are not accepted."""
    pair = checkpoints["model"]
    require(RetrievalDoor().accepts(checkpoints), "clip-retrieval", pair)
    found = towers(pair)
    assert found is not None, "an accepted checkpoint has towers"
    encoder = checkpoints.get("sentence")
    native = options.form == "onnxruntime" or (
        options.form == "auto" and "onnxruntime" in triton_backends(deployment, tools)
    )
    form = "onnxruntime" if native else "python"
    return Work(deployment, options, pair, found, encoder, sentence(encoder), form)


def environments_of(deployment: Deployment) -> tuple[str, ...]:
    """Names of the managed environments."""
    return tuple(dict.fromkeys((EXPORTER, ENVIRONMENT, *launcher(deployment).environments)))


def plan(
    deployment: Deployment, options: RetrievalOptions, checkpoints: Checkpoints, tools: ToolFacts
) -> Plan:
    """The plan. Raises `UsageError` for checkpoints that are not accepted and wrong verify cases."""
    work = work_of(deployment, options, checkpoints, tools)
    start = launcher(deployment)
    if not work.builds:
        return Plan(
            deployment=deployment.name,
            backend="clip-retrieval",
            variables=start.variables(deployment),
            steps=tuple(_serving(work)),
            notes=("the server is somebody else's: nothing is built or loaded there",),
        )
    environments = [environment(name, deployment) for name in environments_of(deployment)]
    images = start.images(deployment, requirements(work, tools))
    steps: list[Step] = [_environment_step(spec) for spec in environments]
    steps += [_image_step(image) for image in images]
    workers = [*export.worker_files(), worker("retrieval_store"), *_room()]
    if start.worker:
        workers.append(worker(start.worker))
    steps.append(_write("workers", "workers", "the scripts that run in the environments", workers))
    steps.append(
        _write(
            "repository",
            "model repository",
            "front models, towers, ensembles and the match model, with their tensors",
            repository_files(work),
        )
    )
    steps += export.export_steps(work)
    steps += _serving(work)
    return Plan(
        deployment=deployment.name,
        backend="clip-retrieval",
        variables=(*start.variables(deployment), THE_VERSION),
        environments=tuple(environments),
        images=images,
        engine=deployment.server.engine,
        steps=tuple(steps),
        notes=_notes(work),
    )


def requirements(work: Work, tools: ToolFacts) -> tuple[str, ...]:
    """What the python models import and an image lacks, as the lock pins it."""
    if work.deployment.server.launcher != "container":
        return ()
    pinned = {
        line.partition("==")[0].lower(): line for line in environment(ENVIRONMENT).requirements
    }
    wanted = {name: pinned[name] for name in (*IMAGE_PACKAGES, "psycopg-binary")}
    if work.form == "python":
        runtime = "onnxruntime-gpu" if work.options.device == "cuda" else "onnxruntime"
        wanted[runtime] = runtime
    there = tools.server_packages if tools.server_packages is not None else {"numpy": ""}
    return tuple(line for name, line in wanted.items() if name not in there)


def _notes(work: Work) -> tuple[str, ...]:
    where = work.options.store_url or "a server of its own in the work folder"
    runs = "Triton's onnxruntime backend" if work.form == "onnxruntime" else "our python model"
    notes = [
        f"the towers run in {runs}",
        f"the store is {work.options.store}, {where}; "
        f"fill it with: tritondeck store fill {work.deployment.name} FOLDER",
    ]
    if not any(case.expect for case in work.deployment.verify):
        notes.append("no [[verify]] case says what is right: the plan proves an answer")
    return tuple(notes)


def _room() -> tuple[FileSpec, ...]:
    """The sources that the export compares with PyTorch, beside its script."""
    from backends.sources import model_files

    return model_files("retrieval", ("pixels", "tokens"), join(WORKERS, ROOM))[:-1]


def _environment_step(spec: EnvironmentSpec) -> EnvironmentStep:
    return EnvironmentStep(
        id=f"environment-{spec.name}",
        title=f"environment: {spec.title}",
        why=f"the Python environment that {WHY.get(spec.name, 'runs Triton')}",
        environment=spec.name,
    )


def _image_step(image: ImageSpec) -> ImageStep:
    return ImageStep(
        id=f"image-{image.name}",
        title=f"image: {image.title}",
        why="the image that the server runs in, with the packages that our models import",
        image=image.name,
    )


def _write(
    step: str, title: str, why: str, files: tuple[FileSpec, ...] | list[FileSpec]
) -> WriteStep:
    return WriteStep(
        id=step,
        title=title,
        why=why,
        files=tuple(files),
        outputs=tuple(file.path for file in files),
    )


def _serving(work: Work) -> list[Step]:
    """Start the server, load its models, verify an answer."""
    deployment, models = work.deployment, work.models
    start = launcher(deployment)
    service = start.service(deployment, models, join(WORKERS, f"{start.worker}.py"))
    if service.command is not None and work.options.store_password_env:
        secrets = (*service.command.secrets, work.options.store_password_env)
        command = service.command.model_copy(update={"secrets": secrets})
        service = service.model_copy(update={"command": command})
    explicit = deployment.server.control == "explicit"
    if not explicit and work.builds:
        service = service.model_copy(update={"version": "${version}"})
    timeout = 60.0 if explicit else 60.0 + deployment.server.load_timeout * len(models)
    ready = tuple(UrlReady(url=f"{service.http_url}/v2/models/{name}/ready") for name in models)
    steps: list[Step] = [
        ServiceStep(
            id="service",
            title="attach to Triton" if service.command is None else "start Triton",
            why="the server starts empty; live is not yet ready",
            service=service,
            success=(UrlReady(url=f"{service.http_url}/v2/health/live", timeout=timeout),),
        )
    ]
    if explicit and work.builds:
        steps.append(
            LoadStep(
                id="load",
                title="load the models",
                why="one request for each model; the last one opens the store",
                service=service.name,
                models=models,
                version="${version}",
                model_timeout=deployment.server.load_timeout,
                success=ready,
            )
        )
    asked = work.builds or deployment.verify
    steps.append(
        VerifyStep(
            id="verify",
            title="verify",
            why="a model serves only when a real request has the right answer",
            service=service.name,
            success=verification(work) if asked else ready[-1:],
        )
    )
    if work.builds:
        steps.append(
            SwitchStep(
                id="switch",
                title="let it answer",
                why="requests go to the verified version; an older one stays on disk for a rollback",
                service=service.name,
                models=models,
                version="${version}",
                model_timeout=deployment.server.load_timeout,
            )
        )
    return steps


def store_command(deployment: Deployment, options: RetrievalOptions, version: int) -> Command:
    """The worker on the store of the models of `version`; a verb and its flags follow.

    ``${repository}`` is where the models are, which is another deployment's folder where they joined
    its server.
    """
    name = deployment.served_name
    sentence_model = f"{name}_sentence_embed" if "sentence" in deployment.checkpoints else ""
    return Command(
        argv=(
            "${env_retrieval}/bin/python",
            "-B",
            join(WORKERS, "retrieval_store.py"),
            f"--model-folder={join('${repository}', name, str(version))}",
            f"--image-model={name}_image_embed",
            f"--text-model={name}_text_embed",
            f"--sentence-model={sentence_model}",
            f"--batch={min(options.max_batch_size, 32)}",
            "--failures=${work}/store-failures.jsonl",
        ),
        runtime=f"environment:{ENVIRONMENT}",
        secrets=(options.store_password_env,) if options.store_password_env else (),
    )
