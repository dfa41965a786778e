"""What every step of the retrieval route needs to know: names, folders, spaces."""

from __future__ import annotations

from dataclasses import dataclass

from backends.doors.retrieval import Sentence, Towers
from backends.retrieval.options import RetrievalOptions
from console.checkpoints.model import Checkpoint
from console.planning.deployment import Deployment

ENVIRONMENT = "retrieval"
EXPORTER = "nemo"
"""The environment that has PyTorch, transformers and ONNX Runtime together."""
STORE = "${work}/store"
PAIR, SENTENCE = "pair.json", "sentence.json"
"""Reports of the exports, in the match model's version folder."""


@dataclass(frozen=True, slots=True)
class Work:
    """One deployment of this route."""

    deployment: Deployment
    options: RetrievalOptions
    pair: Checkpoint
    towers: Towers
    encoder: Checkpoint | None
    sentence: Sentence | None
    form: str
    """Of the towers: ``onnxruntime`` or ``python``"""

    @property
    def name(self) -> str:
        """The match model, which is what the deployment serves."""
        return self.deployment.served_name

    def model(self, part: str) -> str:
        """Name of one of the models behind it: ``pixels``, ``vision``, ``image_embed`` …"""
        return f"{self.name}_{part}"

    @property
    def models(self) -> tuple[str, ...]:
        """All models, those that others call first."""
        parts = ["pixels", "vision", "image_embed", "tokens", "text", "text_embed"]
        if self.sentence is not None:
            parts += ["sentence_tokens", "sentence", "sentence_embed"]
        return (*map(self.model, parts), self.name)

    @property
    def builds(self) -> bool:
        """Whether models are made and loaded; not for a server that is only observed."""
        server = self.deployment.server
        return server.launcher != "attach" or server.manage

    @property
    def packages(self) -> str:
        """Template: the environment whose packages the python models import; empty in an image, which
        has them itself."""
        return "" if self.deployment.server.launcher == "container" else "${env_retrieval}"

    @property
    def text_searches(self) -> str:
        """What a text searches by itself."""
        chosen = self.options.text_searches
        if chosen != "auto":
            return chosen
        return "sentence" if self.sentence is not None else "image"
