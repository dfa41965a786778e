"""`services`, `ps` and `stop`."""

from __future__ import annotations

import argparse

from console.text import human_seconds
from console.verbs import common, output, progress


def listed(args: argparse.Namespace) -> int:
    on = common.desk(args)
    found = on.services()
    forwarding = {view.id: on.forwarding(view.endpoint) for view in found if view.pid}
    if args.json:
        output.emit("services", found, forwarding=forwarding)
        return 0
    output.table(
        ("SERVICE", "DEPLOYMENT", "STATE", "PID", "UP", "URL"),
        [
            (
                view.id,
                view.deployment,
                view.state.value,
                str(view.pid or "-"),
                human_seconds(view.uptime) if view.uptime is not None else "-",
                view.reason if view.reason and not view.pid else view.endpoint.url,
            )
            for view in found
        ],
    )
    for service, command in forwarding.items():
        if command:
            output.say(f"{service} from your own machine: {command}")
    return 0


def stop(args: argparse.Namespace) -> int:
    view = common.desk(args).stop(args.name, progress.noting())
    if args.json:
        output.emit("service", view)
    else:
        output.say(f"{view.deployment} {view.state.value}")
    return 0
