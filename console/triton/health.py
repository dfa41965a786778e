"""What a Triton server says about itself, over plain HTTP (no tritonclient import)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model as the repository index and the ready endpoint tell it.

    `state` is Triton's word (``LOADING``, ``READY``, ``UNLOADING``, ``UNAVAILABLE``) or empty when
    the server lists the model without one; `ready` is the model-ready endpoint's answer.
    """

    name: str
    version: str
    state: str
    reason: str
    ready: bool


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """Live, ready and model-ready are three facts, and none of them means serving."""

    live: bool
    ready: bool
    models: tuple[ModelState, ...]
    version: str = ""
    problem: str = ""
    """Why a figure is missing, in words (no answer, 403 without the token)."""
