"""The steps of the ONNX route.

environments → workers → repository (configuration and sources) → graph (export or copy, compared and
checked) → service → load → verify. The configuration is written before the graph exists, from the
signature that the checkpoint's facts predict; the graph step fails when the real one differs.
"""

from __future__ import annotations

from backends import speech
from backends.base import require
from backends.doors.onnx import accepts
from backends.environments import environment
from backends.onnx_checks import triton_backends
from backends.onnx_graph import graph_step, worker_files
from backends.onnx_options import OnnxOptions
from backends.onnx_repository import repository_files
from backends.onnx_serving import serving_steps
from backends.onnx_work import Work
from backends.steps import environment_step, image_step, workers_step, write_step
from console.checkpoints.model import Checkpoint
from console.facts import ToolFacts
from console.planning.deployment import Deployment
from console.planning.plan import (
    EnvironmentSpec,
    FileSpec,
    ImageSpec,
    Plan,
    Step,
    WriteStep,
)
from console.planning.variables import THE_VERSION
from console.triton.launchers import launcher


def plan(
    deployment: Deployment, options: OnnxOptions, checkpoint: Checkpoint, tools: ToolFacts
) -> Plan:
    """The plan. Raises `UsageError` for a checkpoint that is not accepted, and for verify cases that
    do not fit the model."""
    require(accepts(checkpoint), "onnx", checkpoint)
    form, note = choose_form(deployment, options, tools)
    if checkpoint.speech is not None and speech.head(checkpoint, options.decoder) != "ctc":
        form, note = (
            "python",
            "our python model runs the graph in ONNX Runtime, with what is around it",
        )
    work = Work(deployment, options, checkpoint, form)
    if not work.builds:
        return observing(work)
    start = launcher(deployment)
    environments = [
        environment(name, deployment) for name in environments_of(deployment, work.exported)
    ]
    images = start.images(deployment, requirements(work, tools))
    steps: list[Step] = [environment_step(s, environment_why(s)) for s in environments]
    steps += [image_step(image, image_why(image)) for image in images]
    steps += [
        workers(work, start.worker),
        repository_step(repository_files(work)),
        graph_step(work),
    ]
    steps += serving_steps(work)
    return Plan(
        deployment=deployment.name,
        backend="onnx",
        variables=(*start.variables(deployment), THE_VERSION),
        environments=tuple(environments),
        images=images,
        engine=deployment.server.engine,
        steps=tuple(steps),
        notes=(note, *_notes(work)),
    )


def environments_of(deployment: Deployment, exported: bool) -> tuple[str, ...]:
    """Names of the managed environments: NeMo's exports, ``embedded`` checks a graph or serves."""
    builds = ("nemo",) if exported else ("embedded",)
    return tuple(dict.fromkeys((*builds, *launcher(deployment).environments)))


def requirements(work: Work, tools: ToolFacts) -> tuple[str, ...]:
    """What the python models import and the server's own Python lacks (in an image only).

    Before an image was asked it is taken to have NumPy, as every one of NVIDIA's has, and no more.
    """
    if work.deployment.server.launcher != "container":
        return ()
    wanted = {"numpy": "numpy<2"} if work.has_python_model else {}
    if work.form == "python":
        runtime = "onnxruntime-gpu" if work.options.device == "cuda" else "onnxruntime"
        wanted[runtime] = runtime
    there = tools.server_packages if tools.server_packages is not None else {"numpy": ""}
    return tuple(line for name, line in wanted.items() if name not in there)


def observing(work: Work) -> Plan:
    """For a server that is only observed: nothing is built; its model is asked."""
    return Plan(
        deployment=work.deployment.name,
        backend="onnx",
        variables=launcher(work.deployment).variables(work.deployment),
        steps=tuple(serving_steps(work)),
        notes=("the server is somebody else's: nothing is built or loaded there",),
    )


def choose_form(deployment: Deployment, options: OnnxOptions, tools: ToolFacts) -> tuple[str, str]:
    """The serving form, and the sentence that says why."""
    there = triton_backends(deployment, tools)
    if options.form == "onnxruntime" or (options.form == "auto" and "onnxruntime" in there):
        reason = "as asked" if options.form == "onnxruntime" else "the server has it"
        return "onnxruntime", f"the graph runs in Triton's onnxruntime backend: {reason}"
    reason = "as asked" if options.form == "python" else "this server has no onnxruntime backend"
    return "python", f"our python model runs the graph in ONNX Runtime: {reason}"


def _notes(work: Work) -> tuple[str, ...]:
    notes = []
    if work.exported:
        spoken = work.checkpoint.speech
        assert spoken is not None, "only speech checkpoints are exported"
        if spoken.decoder == "hybrid":
            through = "CTC head" if work.head == "ctc" else "transducer (decoder = rnnt)"
            notes.append(f"the hybrid checkpoint is served through its {through}")
        if spoken.streaming:
            notes.append(
                "the checkpoint can stream (cache-aware), but is served offline: "
                "whole recordings in, no partial answers"
            )
        if work.languages:
            notes.append(_language_note(work))
        elif work.language:
            notes.append(f"this transducer hears {work.language} alone")
        longest = speech.longest_seconds(work.checkpoint)
        action = (
            f"longer ones are cut into chunks of at most {work.options.chunk_seconds:g} s"
            if work.options.long_audio == "chunk"
            else "longer ones are refused"
        )
        notes.append(f"recordings of up to {longest:g} s are recognised whole; {action}")
    if not work.deployment.verify:
        notes.append("no [[verify]] case is given: the plan proves an answer, not the right one")
    return tuple(notes)


def _language_note(work: Work) -> str:
    known = ", ".join(work.languages)
    default = work.options.language
    if default:
        return f"LANG chooses among {known}; a request without it is in {default}"
    if work.masked and len(work.languages) > 1:
        return f"every request names its language in LANG: {known}"
    return f"LANG keeps an answer to one language ({known}); without it any is heard"


def environment_why(spec: EnvironmentSpec) -> str:
    does = {"nemo": "exports the checkpoint", "modelopt": "rewrites the graph"}
    what = does.get(spec.name, "opens the graph, or runs Triton")
    return f"the Python environment that {what}, apart from the console's own"


def image_why(image: ImageSpec) -> str:
    if image.requirements:
        return "the packages that our python model imports, on top of the image"
    return "the image that the server runs in, loaded or pulled once"


def workers(work: Work, *names: str) -> WriteStep:
    why = "the scripts that run in the environments, and what they expect"
    return workers_step(why, names, worker_files(work))


def repository_step(files: tuple[FileSpec, ...]) -> WriteStep:
    why = "config.pbtxt says which tensors the model takes and answers, and how it is run"
    return write_step("repository", "model repository", why, files)
