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
from backends.sources import WORKERS
from backends.steps import (
    environment_step,
    image_step,
    model_ready,
    switch_step,
    triton,
    triton_steps,
    verify_step,
    workers_step,
    write_step,
)
from console.checkpoints.model import Checkpoint
from console.facts import ToolFacts
from console.planning.deployment import Deployment
from console.planning.plan import (
    Command,
    FileSpec,
    Plan,
    Step,
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
    steps: list[Step] = [
        environment_step(spec, f"the Python environment that {WHY.get(spec.name, 'runs Triton')}")
        for spec in environments
    ]
    why = "the image that the server runs in, with the packages that our models import"
    steps += [image_step(image, why) for image in images]
    why = "the scripts that run in the environments"
    files = (*export.worker_files(), *_room())
    steps.append(workers_step(why, ("retrieval_store", start.worker), files))
    why = "front models, towers, ensembles and the match model, with their tensors"
    steps.append(write_step("repository", "model repository", why, repository_files(work)))
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


def _serving(work: Work) -> list[Step]:
    """Start the server, load its models, verify an answer."""
    deployment = work.deployment
    service = triton(deployment, work.models)
    if service.command is not None and work.options.store_password_env:
        secrets = (*service.command.secrets, work.options.store_password_env)
        command = service.command.model_copy(update={"secrets": secrets})
        service = service.model_copy(update={"command": command})
    load = ("load the models", "one request for each model; the last one opens the store")
    steps = triton_steps(deployment, service, load, versioned=True, loads=work.builds)
    asked = work.builds or deployment.verify
    there = (model_ready(service, work.models[-1], 30),)
    steps.append(verify_step(service, verification(work) if asked else there))
    return [*steps, switch_step(deployment, service)] if work.builds else steps


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
