"""Use case: how the model of a deployment is spread over the GPUs of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.desk import options
from console.desk import plan as planning
from console.facts import UsageError
from console.planning.parallelism import ParallelismView, Spread, seen, view
from console.settings import Settings

if TYPE_CHECKING:
    from console.planning.deployment import Deployment
    from console.planning.language_memory import Layout

SIZES = ("tensor_parallel_size", "pipeline_parallel_size")


def parallelism(settings: Settings, deployment: Deployment) -> ParallelismView | None:
    """None for a route without parallel sizes, and while nothing is known of the checkpoint.

    Starts nothing and asks no server; NVML alone is asked. Raises `UsageError` for checkpoints that
    cannot be read and for wrong options.
    """
    chosen = options.backend(deployment.backend)
    if not set(SIZES) <= set(chosen.Options.model_fields) or planning.missing(deployment):
        return None
    found = {
        role: planning.checkpoint(settings, deployment, role) for role in deployment.checkpoints
    }

    def spread(changes: dict[str, int]) -> Spread | None:
        changed = deployment.model_copy(update={"options": {**deployment.options, **changes}})
        values = options.bound(changed).model_dump(mode="json", exclude_none=True)
        return chosen.spread(changed.model_copy(update={"options": values}), found)

    def other(layout: Layout) -> Spread | None:
        try:
            return spread(dict(zip(SIZES, (layout.tensor, layout.pipeline), strict=True)))
        except UsageError:
            return None  # the route's own rules refuse these sizes, which nobody has asked for

    mine = spread({})
    if mine is None:
        return None
    return view(mine, seen(planning.host().gpus, deployment.server.gpus), other)
