"""NeMo's container: what a command in it needs beside its words, and the comparison of its flags."""

from __future__ import annotations

import json
from collections.abc import Iterable

from backends.sources import WORKERS
from backends.upstream import parsers
from console.planning.plan import (
    Command,
    CommandStep,
    Container,
    ExitCode,
    FileSpec,
    JsonFile,
    Mount,
    PublishedPort,
)
from console.planning.server import ServerSection
from console.triton.container import PUBLISHED_ON

IMAGE = "nemo"
HTTP, GRPC, METRICS = 8000, 8001, 8002
"""Ports inside a container. PyTriton's gRPC and metrics ports are these everywhere: no flag of a
script reaches them."""
PORTS = (("http", HTTP), ("grpc", GRPC), ("metrics", METRICS))
SCRATCH = "${work}/scratch"
HOME = {"HOME": SCRATCH, "TMPDIR": SCRATCH, "USER": "tritondeck"}
"""Checkpoints are unpacked, PyTriton copies its server and kernels are compiled beneath these: on disk, in
a folder of ours, for the image does not know the user."""
PLANNED, FLAGS = f"{WORKERS}/planned.json", f"{SCRATCH}/flags.json"


def published(
    server: ServerSection, inside: Iterable[tuple[str, int]] = PORTS
) -> tuple[PublishedPort, ...]:
    """The variables ``NAME_port`` at the server's address, for ports inside."""
    address = PUBLISHED_ON.get(server.address, server.address)
    return tuple(
        PublishedPort(host=f"${{{name}_port}}", container=port, address=address)
        for name, port in inside
    )


def container(
    server: ServerSection,
    reads: Iterable[str],
    writes: Iterable[str] = (),
    *,
    gpus: bool,
    ports: tuple[PublishedPort, ...] = (),
    network: str = "",
    workdir: str = "",
) -> Container:
    """`reads` and `writes` (templates) are mounted at their own paths, the scratch folder beside them."""
    return Container(
        mounts=(
            *(Mount(source=path, target=path, read_only=True) for path in dict.fromkeys(reads)),
            *(Mount(source=path, target=path, create=True) for path in (SCRATCH, *writes)),
        ),
        ports=ports,
        network=network,
        gpus=(server.gpus or "all") if gpus else "",
        # Upstream asks for 4 GB: its processes pass tensors through shared memory.
        shm_size=server.shm_size if "shm_size" in server.model_fields_set else "4g",
        memory=server.memory,
        workdir=workdir,
        ulimits=("memlock=-1", "stack=67108864"),
        read_only=False,
    )


def planned(script: str, generation: str) -> FileSpec:
    """What the worker `check_flags` is told of `script` (empty: nothing is called by words)."""
    predicted = parsers.known(script, generation) if script else None
    options = predicted.options if predicted else ()
    document = {
        "script": script,
        "generation": generation,
        "defaults": {o.name: o.default for o in options if not o.switch},
    }
    return FileSpec(path=PLANNED, text=json.dumps(document, indent=1) + "\n")


def compare_step(command: Command) -> CommandStep:
    """The worker `check_flags` (`command`) finds nothing that fails."""
    return CommandStep(
        id="flags",
        title="compare the flags",
        why="a flag that the installed script does not know is found now and not after minutes",
        command=command,
        success=(ExitCode(), JsonFile(path=FLAGS, expect={"failures": 0})),
        timeout=600.0,
        always=True,
    )
