"""One server over several GPUs: one ``tritonserver`` a rank under mpirun, as TensorRT-LLM wants it.

The first rank answers. The others load the models at once and then belong to the first; a load
request would reach that one alone, so model control is ``none`` for it and the deployment says so.
Source: triton_backend/scripts/launch_triton_server.py of TensorRT-LLM.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from console.planning.variables import literal
from console.triton import options as common
from console.triton.options import HERE, Places

if TYPE_CHECKING:
    from console.planning.deployment import Deployment


def argv(ranks: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """``mpirun -n 1 RANK0… : -n 1 RANK1…``, one process a rank."""
    words = ["mpirun", "--allow-run-as-root"]
    for number, rank in enumerate(ranks):
        words += [":"] if number else []
        words += ["-n", "1", *rank]
    return tuple(words)


def options(
    deployment: Deployment, models: Sequence[str], rank: int, places: Places = HERE
) -> tuple[str, ...]:
    """The options of one rank; all but the first load the models as they start."""
    words = list(common.options(deployment, places, rank))
    if rank:
        words.remove(f"--model-control-mode={deployment.server.control}")
        words.append("--model-control-mode=explicit")
        words += [f"--load-model={literal(model)}" for model in models]
    return tuple(words)
