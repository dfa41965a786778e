"""`scale`: an application on a Ray cluster, its nodes and its replicas."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from console.text import human_bytes, human_seconds
from console.verbs import common, output, progress

if TYPE_CHECKING:
    from console.desk.desk import Desk
    from console.desk.scaling import ClusterNode, ClusterView


def scale(args: argparse.Namespace) -> int:
    on = common.desk(args)
    wanted: int | None = args.replicas
    found = on.cluster(args.name) if wanted is None else _scaled(on, args.name, wanted)
    if args.json:
        output.emit("cluster", found)
    else:
        _table(args.name, found)
    return 0


def _scaled(on: Desk, name: str, replicas: int) -> ClusterView:
    return on.scale(name, replicas, progress.noting())


def _table(name: str, found: ClusterView) -> None:
    counts = {node.address: 0 for node in found.nodes}
    for replica in found.replicas:
        if replica.state == "RUNNING":
            counts[replica.node] = counts.get(replica.node, 0) + 1
    output.table(
        ("NODE", "STATE", "CPUS", "GPUS", "CPU", "GPU", "MEMORY", "REPLICAS"),
        [_row(node, counts[node.address]) for node in found.nodes],
    )
    waiting = [one for one in found.replicas if one.state != "RUNNING"]
    for one in waiting:
        output.say(f"replica {one.id}: {one.state} on {one.node or 'no node yet'}")
    running = len(found.replicas) - len(waiting)
    words = f"{name} {found.status}: {running} of {found.target} replicas run"
    output.say(f"{words}: {found.message}" if found.message else words)
    if found.old:
        output.say(f"this was seen {human_seconds(found.age)} ago; nothing newer is known")


def _row(node: ClusterNode, replicas: int) -> tuple[str, ...]:
    used = [f"{one:.0f} %" for one in node.gpu_percent if one is not None]
    memory = f"{human_bytes(node.memory_used)} of {human_bytes(node.memory_total)}"
    return (
        f"{node.address} (head)" if node.head else node.address,
        node.state,
        f"{node.cpus:g}",
        f"{node.gpus:g}",
        "-" if node.cpu_percent is None else f"{node.cpu_percent:.0f} %",
        ", ".join(used) or "-",
        memory if node.memory_total else "-",
        str(replicas),
    )
