"""`services`, `ps` and `stop`."""

from __future__ import annotations

import argparse
import os

from console.text import human_seconds
from console.verbs import common, output, progress


def listed(args: argparse.Namespace) -> int:
    on = common.desk(args)
    found = on.services()
    forwarding = {view.id: on.forwarding(view.endpoint) for view in found if view.living}
    life = {view.id: on.lifecycle(view.id) for view in found if view.living}
    if args.json:
        output.emit(
            "services", found, forwarding=forwarding, lifecycle=life, attached=on.attached()
        )
        return 0
    output.table(
        ("SERVICE", "DEPLOYMENT", "STATE", "PID", "UP", "URL"),
        [
            (
                view.id,
                view.deployment,
                life[view.id].phase.value if view.id in life else view.state.value,
                str(view.pid or "-"),
                human_seconds(view.uptime) if view.uptime is not None else "-",
                view.reason if view.reason and not view.living else view.endpoint.url,
            )
            for view in found
        ],
    )
    for server in on.attached():
        allowed = "load and unload allowed" if server.control else "watched only"
        output.say(f"{server.name}: attached, {server.url} ({server.kind}, {allowed})")
    for service, now in life.items():
        output.say(f"{service}: {now.words}")
    came_by_ssh = "SSH_CONNECTION" in os.environ
    for service, command in forwarding.items():
        if command and came_by_ssh:
            output.say(f"{service} from your own machine: {command}")
    return 0


def stop(args: argparse.Namespace) -> int:
    view = common.desk(args).stop(args.name, progress.noting())
    if args.json:
        output.emit("service", view)
    else:
        left = "" if view.endpoint.ours else ": no longer attached, the server goes on"
        output.say(f"{view.deployment} {view.state.value}{left}")
    return 0
