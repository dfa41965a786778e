"""What can be said of one model that several machines share."""

from __future__ import annotations

from collections.abc import Iterator

from backends.language import in_framework_script as upstream
from backends.language.in_framework_options import InFrameworkOptions
from backends.upstream import generations
from console.checkpoints.model import Checkpoint, Format
from console.facts import Level, Verdict
from console.planning.deployment import Deployment
from console.text import clean

CHECK = "in-framework-nodes"


def checks(
    deployment: Deployment, options: InFrameworkOptions, checkpoint: Checkpoint
) -> Iterator[Verdict]:
    """Whether upstream has it, what listens where, and who starts the other nodes."""
    if options.num_nodes == 1:
        return
    if checkpoint.format is Format.HUGGING_FACE and not options.tp_plan:
        yield Verdict(
            CHECK,
            Level.FAIL,
            "a Hugging Face model is one process, which spreads layers over one machine's GPUs",
            clean(checkpoint.title),
            upstream.HUGGING_FACE,
            'set tp_plan = "auto" and device_map = "", or take the backend ray-serve or vllm',
            "options.num_nodes",
        )
        return
    name = upstream.generation_of(options)
    if name in upstream.SELF_STARTING:
        yield Verdict(
            CHECK,
            Level.FAIL,
            "this generation starts the processes of its node itself",
            generations.generation(name).title,
            generations.generation(name).ref,
            "take Export-Deploy 0.1 or later, or one node",
            "options.num_nodes",
        )
        return
    count = upstream.ranks(options, checkpoint, name)
    if count % options.num_nodes:
        yield Verdict(
            CHECK,
            Level.FAIL,
            f"{count} processes cannot be shared evenly by {options.num_nodes} nodes",
            "a Hugging Face model has one for each of tensor_parallel_size",
            upstream.HUGGING_FACE,
            "set tensor_parallel_size to a multiple of num_nodes",
            "options.tensor_parallel_size",
        )
        return
    open_ = deployment.server.expose
    yield Verdict(
        CHECK,
        Level.WARN if open_ else Level.FAIL,
        "on each node run this plan's script with NODE_RANK=1, 2, …, or render it for Slurm; "
        "the processes, gRPC and metrics listen on the network of the nodes",
        f"{options.num_nodes} nodes of {count // options.num_nodes} processes",
        f"torchrun --master-addr={clean(options.master_address)}",
        "keep that network private" if open_ else "set server.expose = true to mean it",
        "" if open_ else "server.expose",
    )
