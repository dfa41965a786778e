"""What the two TensorRT-LLM routes have in common: the server, and how a model lies on its GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from backends.base import Backend, Checkpoints, require
from backends.language import trtllm_plan
from backends.language.common import spread
from backends.language.trtllm_options import EngineOptions, LlmapiOptions
from console.facts import UsageError
from console.planning.deployment import Deployment, ServerSection
from console.planning.parallelism import Spread
from console.planning.plan import EnvironmentSpec


class TrtllmBackend(Backend):
    """A route whose models need a Triton that has TensorRT-LLM."""

    Options: ClassVar[type[EngineOptions] | type[LlmapiOptions]]

    def seat(self, server: ServerSection, options: Mapping[str, Any]) -> ServerSection:
        """An image that has TensorRT-LLM in the place of the embedded server, which has none."""
        return trtllm_plan.seat(server)

    def needs(self, deployment: Deployment) -> tuple[EnvironmentSpec, ...]:
        return ()

    def spread(self, deployment: Deployment, checkpoints: Checkpoints) -> Spread | None:
        """Weights first; the cache takes its fraction of what they leave."""
        options, checkpoint = self.Options.of(deployment), checkpoints["model"]
        return spread(
            checkpoint,
            trtllm_plan.layout_of(options, checkpoint),
            trtllm_plan.need_of(options, checkpoint),
            fraction=options.kv_cache_fraction,
            length=options.max_seq_len,
        )

    def _seated(self, deployment: Deployment, checkpoints: Checkpoints) -> Deployment:
        """The deployment with its server settled. Raises `UsageError` for checkpoints that the route
        does not take, and for a server of somebody else's: nothing can be built for it from here."""
        require(self.accepts(checkpoints), self.name, checkpoints["model"])
        if deployment.server.launcher == "attach":
            raise UsageError(
                "TensorRT-LLM models are not built for an attached server",
                why="an engine and a model.yaml belong to the server's own versions and files",
                fix='launcher = "container"',
            )
        return trtllm_plan.seated(deployment)
