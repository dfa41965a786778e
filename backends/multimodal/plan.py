"""The steps of the multimodal route: place → flags → parts of SALM → engines → PyTriton → an answer."""

from __future__ import annotations

from backends.language.common import memory_figure
from backends.multimodal import form, words
from backends.multimodal.checks import need_of, title
from backends.multimodal.words import Call
from backends.sources import WORKERS
from backends.upstream import generations, mm_api, place_plan
from backends.upstream.container import SCRATCH
from backends.upstream.place import catalog_root
from console.planning.plan import (
    CommandStep,
    ExitCode,
    FileExists,
    InputFile,
    Plan,
    Step,
    join,
)
from console.planning.variables import literal

SERVICE = "nemo-multimodal"
MEDIA = f"{SCRATCH}/media"


def plan(call: Call) -> Plan:
    """Raises `UsageError` where the place is an environment that nobody named."""
    specs, images = place_plan.needed(call)
    flags = call.argv() if call.script and not call.hydra else ()
    steps: list[Step] = [
        place_plan.ready(specs, images),
        place_plan.workers(call, ("nemo_trtllm", "nemo_media")),
        place_plan.compared(call, flags),
    ]
    steps += [_separate(call)] if call.separated else []
    steps += [_merge(call)] if call.merged else []
    steps += _engines(call) if call.options.mode == "export" else _serving(call)
    wanted = need_of(call)
    return Plan(
        deployment=call.deployment.name,
        backend="nemo-multimodal",
        variables=place_plan.ports(call),
        environments=specs,
        images=images,
        engine=call.deployment.server.engine,
        steps=tuple(steps),
        notes=(
            f"{title(call)}: model type {call.kind_name or 'neva'}, modality {call.modality}",
            *place_plan.notes(call),
            *((memory_figure(wanted),) if wanted else ()),
        ),
    )


def _script(call: Call, route: str) -> str:
    root = catalog_root(call.options, call.generation)
    return literal(f"{root}/{generations.catalog().routes[route].script}")


def _separate(call: Call) -> CommandStep:
    argv = [place_plan.python(call), _script(call, words.EXTRACT_ROUTE)]
    argv += ["--model_file_path", literal(str(call.checkpoint.path)), "--output_dir", words.PARTS]
    parts = [join(call.part("perception"), "model_weights.ckpt"), call.part("llm.nemo")]
    parts += [call.lora] if call.merged and not call.options.lora_file else []
    return CommandStep(
        id="separate",
        title="take SALM apart",
        why="the sound part, the LoRA and the language model are exported each by itself",
        command=place_plan.command(call, argv, gpus=True, writes=(words.PARTS,)),
        inputs=(InputFile(path=literal(str(call.checkpoint.path))),),
        outputs=tuple(parts),
        success=(ExitCode(), *(FileExists(path=path) for path in parts)),
        timeout=4 * 3600.0,
    )


def _merge(call: Call) -> CommandStep:
    given = {
        "trainer.accelerator": "gpu",
        "gpt_model_file": words.quoted(call.base or call.visual),
        "lora_model_path": words.quoted(call.lora),
        "merged_model_path": words.quoted(call.spoken),
    }
    argv = [place_plan.python(call), _script(call, words.MERGE_ROUTE)]
    argv += [f"{key}={value}" for key, value in given.items()]
    return CommandStep(
        id="merge",
        title="merge the LoRA",
        why="the engine is built from one language model, with what the adapter changes in it",
        command=place_plan.command(call, argv, gpus=True, writes=(words.PARTS,)),
        inputs=(InputFile(path=call.base or call.visual), InputFile(path=call.lora)),
        outputs=(call.spoken,),
        success=(ExitCode(), FileExists(path=call.spoken)),
        timeout=4 * 3600.0,
    )


def _upstream(call: Call) -> list[str]:
    paths = {"--checkpoint": call.visual}
    return place_plan.upstream(call, paths | ({"--language": call.spoken} if call.spoken else {}))


def _parts(call: Call) -> tuple[str, ...]:
    return (words.PARTS,) if call.separated or call.merged else ()


def _engines(call: Call) -> list[Step]:
    reads = dict.fromkeys([call.visual, *([call.spoken] if call.spoken else [])])
    return place_plan.engine_steps(
        call,
        _upstream(call),
        reads,
        call.options.num_gpus,
        writes=_parts(call),
        encoder=call.kind.encoder,
    )


# ---------------------------------------------------------------------------- the server


def _serving(call: Call) -> list[Step]:
    spec = place_plan.service(call, SERVICE, _upstream(call), writes=_parts(call))
    why = "engines are built where there are none yet, then PyTriton serves them"
    cases = tuple(enumerate(form.cases(call.deployment, call.options.max_output_len)))
    asked = (
        form.saved(call.deployment, call.kind, call.kind_name, case, f"{MEDIA}/{number}")
        for number, case in cases
    )
    return [
        *(_media(call, number, case) for number, case in cases),
        *place_plan.served_steps(call, spec, ("engines", why), asked),
    ]


def _media(call: Call, number: int, case: form.Case) -> CommandStep:
    """One for each request: its picture, video or sound as the tensors that upstream would send."""
    folder = f"{MEDIA}/{number}"
    argv = [place_plan.python(call), f"{WORKERS}/nemo_media.py"]
    argv += ["--client", mm_api.module("client", call.generation)]
    argv += ["--type", call.kind_name or "neva", "--media", call.kind.media, "--out", folder]
    argv += ["--input", literal(case.file)] if case.file else []
    files = tuple(f"{folder}/{name}.npy" for name in form.media_names(call.kind))
    return CommandStep(
        id=f"media-{number}",
        title="read the media" if case.file else "make up media",
        why="the request that proves the model is made by NeMo's own client",
        command=place_plan.command(call, argv),
        inputs=(InputFile(path=literal(case.file)),) if case.file else (),
        outputs=files,
        success=(ExitCode(), *(FileExists(path=file) for file in files)),
        timeout=600.0,
    )
