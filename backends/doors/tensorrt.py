"""What the TensorRT route takes: any ONNX graph of plain tensors."""

from __future__ import annotations

from typing import ClassVar

from backends.door import Checkpoints, Door
from backends.doors import onnx
from console.checkpoints.model import Format
from console.facts import Level, Verdict
from console.text import clean


class TensorrtDoor(Door):
    """An ONNX graph; a plan that is built already does not tell its tensors."""

    name: ClassVar[str] = "tensorrt"
    title: ClassVar[str] = "TensorRT: a plan built from any ONNX graph"

    def accepts(self, checkpoints: Checkpoints) -> Verdict:
        checkpoint = checkpoints.get("model")
        if checkpoint is None or checkpoint.format in (Format.ONNX, Format.HUB):
            return onnx.accepts(checkpoint)
        if checkpoint.format is Format.TENSORRT:
            return Verdict(
                onnx.ROUTE,
                Level.FAIL,
                f"{clean(checkpoint.path.name)} is a plan already, which does not tell its tensors",
                fix="give the ONNX graph that it was built from",
            )
        return Verdict(
            onnx.ROUTE,
            Level.FAIL,
            f"{clean(checkpoint.title)}: TensorRT plans are built from ONNX graphs",
            fix="export the model to ONNX with its own tools; speech archives take the backend onnx",
        )
