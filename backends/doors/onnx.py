"""What the ONNX route takes: NeMo speech models (text, labels, speakers), and any ONNX graph."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from backends.door import Checkpoints, Door
from console.checkpoints.model import Checkpoint, Format, SpeechFacts
from console.facts import Level, Verdict
from console.text import clean

ROUTE = "route"
FRONT_END = "AudioToMelSpectrogramPreprocessor"
UNSERVED_TYPES = frozenset({"UNKNOWN", "BF16"})

COSINES = "AudioToMFCCPreprocessor"
AED = (
    "an attention decoder (Canary) cannot be exported by NeMo",
    "use a CTC, transducer or hybrid checkpoint, or serve it in NeMo itself",
)


class OnnxDoor(Door):
    """Whether the graph of a checkpoint can be made (or is there) and served."""

    name: ClassVar[str] = "onnx"
    title: ClassVar[str] = "ONNX: speech checkpoints (text, labels, speakers), and any ONNX graph"

    def accepts(self, checkpoints: Checkpoints) -> Verdict:
        return accepts(checkpoints.get("model"))


def accepts(checkpoint: Checkpoint | None) -> Verdict:
    """The route's verdict on one checkpoint: why not, and what would do."""
    if checkpoint is None:
        return _refused("no checkpoint is given", "name one under [checkpoints] model")
    if checkpoint.format is Format.NEMO:
        return _accepts_nemo(checkpoint)
    if checkpoint.format is Format.ONNX and checkpoint.graph is not None:
        return _accepts_graph(checkpoint)
    if checkpoint.format is Format.HUB:
        return Verdict(
            ROUTE,
            Level.UNKNOWN,
            "what it holds shows when it is fetched, which a deployment does first; a .nemo of a "
            "speech model or an .onnx graph is taken",
        )
    return _refused(
        f"{clean(checkpoint.title)}: not a NeMo speech archive and not an ONNX graph",
        "export the model to ONNX with its own tools, or choose a route for this format",
    )


def _accepts_nemo(checkpoint: Checkpoint) -> Verdict:
    spoken = checkpoint.speech
    if spoken is None:
        return _refused(*_not_speech(checkpoint))
    if spoken.decoder == "aed":
        return _refused(*AED)
    if spoken.decoder in ("classification", "speaker"):
        what = "a sound's class" if spoken.decoder == "classification" else "a voice's embedding"
        problem = _front_end(checkpoint, spoken)
        fix = "use a checkpoint with log-mel or MFCC features and a listed number of classes"
        return _refused(problem, fix) if problem else Verdict(ROUTE, Level.PASS, f"sound to {what}")
    if spoken.decoder not in ("ctc", "rnnt", "hybrid"):
        return _refused("its decoder is of an unknown kind", "use a CTC or hybrid checkpoint")
    if spoken.tokenizer not in ("bpe", "wpe", "char", "agg", "multilingual"):
        return _refused(
            f"the tokenizer {clean(spoken.tokenizer) or 'is not named, and'} is not known",
            "use a checkpoint with a bpe, wpe, agg or character tokenizer",
        )
    if problem := _front_end(checkpoint, spoken):
        return _refused(problem, "use a checkpoint with log-mel features and a listed vocabulary")
    through = {"hybrid": "its CTC head (or its transducer)", "rnnt": "its transducer"}.get(
        spoken.decoder, "CTC"
    )
    return Verdict(ROUTE, Level.PASS, f"speech to text through {through}")


def _not_speech(checkpoint: Checkpoint) -> tuple[str, str]:
    """Why a .nemo that is no speech recognition or classification is refused, and what would do."""
    name = clean(checkpoint.title)
    if checkpoint.language is not None or ".nlp." in str(checkpoint.config.get("target")):
        return (
            f"{name}: a language model is not served from an ONNX graph here",
            "choose a route for language models (vLLM or TensorRT-LLM); NeMo 1 archives are "
            "converted to Hugging Face format first",
        )
    if ".tts." in str(checkpoint.config.get("target")):
        return (
            f"{name}: speech synthesis needs text front ends that this route does not have",
            "export it with model.export() in NeMo and give the .onnx file: tensors in, sound out",
        )
    return (
        f"{name}: only speech models are exported from .nemo here",
        "export it with model.export() in NeMo, where it has one, and give the .onnx file",
    )


def _front_end(checkpoint: Checkpoint, spoken: SpeechFacts) -> str:
    """What about the features or the vocabulary cannot be served; empty when nothing."""
    preprocessor = checkpoint.config.get("preprocessor")
    if isinstance(preprocessor, dict):
        kind = str(preprocessor.get("_target_", FRONT_END)).rpartition(".")[2]
        labels = spoken.decoder in ("classification", "speaker")
        if kind != FRONT_END and not (labels and kind == COSINES):
            return f"its features come from {clean(kind)}, not from {FRONT_END}"
        if preprocessor.get("frame_splicing", 1) != 1:
            return "its features are spliced frames"
    if not spoken.vocabulary_size:
        return "its configuration does not list the vocabulary (or the classes)"
    return ""


def _accepts_graph(checkpoint: Checkpoint) -> Verdict:
    graph = checkpoint.graph
    assert graph is not None
    if not graph.inputs:
        return _refused("the graph has no inputs", "Triton serves models that take something")
    for name in graph.external_data:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            return _refused(
                f"the graph refers to data outside its own folder: {clean(name, cap=80)}",
                "save it again with its data beside it, or do not use a graph from who wrote this",
            )
    for tensor in (*graph.inputs, *graph.outputs):
        if tensor.dtype in UNSERVED_TYPES:
            return _refused(
                f"{clean(tensor.name)} is of type {clean(tensor.dtype)}, which is not served",
                "add a Cast to a plain tensor type to the graph",
            )
    return Verdict(
        ROUTE, Level.PASS, f"an ONNX graph with {len(graph.inputs)} input(s), opset {graph.opset}"
    )


def _refused(summary: str, fix: str) -> Verdict:
    return Verdict(ROUTE, Level.FAIL, summary, fix=fix)
