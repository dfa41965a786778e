"""What every step of the ONNX route needs to know, and where its files stand."""

from __future__ import annotations

from dataclasses import dataclass

from backends import speech
from backends.onnx_options import OnnxOptions
from backends.sources import WORKERS, model_folder
from console.checkpoints.model import Checkpoint, Format, GraphFacts
from console.planning.deployment import Deployment
from console.planning.plan import join

REPORT = "${work}/export/${version}/report.json"
SAMPLES = "${work}/export/${version}/samples"
SIGNATURE = join(WORKERS, "signature.json")
SHARED_SOURCES = ("sound", "features", "graphs")
TEXT_SOURCES = (*SHARED_SOURCES, "decoding", "transducer")


SAME_RUNTIME = 1e-3
"""What two versions of ONNX Runtime may make of one graph, as a part of an output's 2-norm."""


@dataclass(frozen=True, slots=True)
class Work:
    """What every step needs to know."""

    deployment: Deployment
    options: OnnxOptions
    checkpoint: Checkpoint
    form: str
    """``onnxruntime``, ``python`` or, where the graph is only built from, ``tensorrt``"""
    staged: str = ""
    """Template: where a graph is put that is not served as it is; empty: its version folder."""
    sampled: GraphFacts | None = None
    """The types and sizes of requests, where these are not the graph's own."""
    tolerance: float = SAME_RUNTIME
    """How far a made-up request's answer may be from what ONNX Runtime makes of the graph, as a part of
    its 2-norm; 0: it is not compared."""

    @property
    def name(self) -> str:
        return self.deployment.served_name

    @property
    def folder(self) -> str:
        return model_folder(self.name)

    @property
    def exported(self) -> bool:
        return self.checkpoint.format is Format.NEMO

    @property
    def head(self) -> speech.Head:
        """The head of a speech checkpoint that is served."""
        return speech.head(self.checkpoint, self.options.decoder)

    @property
    def text(self) -> bool:
        return self.head in speech.TEXT_HEADS

    @property
    def sources(self) -> tuple[str, ...]:
        return TEXT_SOURCES if self.text else SHARED_SOURCES

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that a request can choose among."""
        spoken = self.checkpoint.speech
        return spoken.languages if spoken is not None and self.text and not self.language else ()

    @property
    def language(self) -> str:
        """The one language that a transducer of the fork is exported for; empty for every other."""
        one = self.head == "rnnt" and speech.is_fork(self.checkpoint)
        return self.options.language if one else ""

    @property
    def masked(self) -> bool:
        """Whether the head means something only within one language."""
        return bool(self.languages) and speech.is_fork(self.checkpoint)

    @property
    def builds(self) -> bool:
        """Whether a model is made and loaded; not for a server that is only observed."""
        server = self.deployment.server
        return server.launcher != "attach" or server.manage

    @property
    def has_python_model(self) -> bool:
        return self.exported or self.form == "python"

    @property
    def batching(self) -> bool:
        return self.options.max_batch_size > 0

    @property
    def graph_model(self) -> str:
        """The model whose version folder holds ``model.onnx``."""
        return (
            f"{self.name}_acoustic" if self.exported and self.form == "onnxruntime" else self.name
        )

    @property
    def graph(self) -> GraphFacts:
        if self.exported:
            assert self.head == "ctc", "other heads have no graph of their own in the server"
            return speech.acoustic_graph(self.checkpoint, self.options.opset)
        assert self.checkpoint.graph is not None, "accepted checkpoints have a graph"
        return self.checkpoint.graph

    @property
    def request_graph(self) -> GraphFacts:
        """What requests to the served model look like."""
        return self.sampled or self.graph
