"""`attach` and `detach`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from console.verbs import common, output


def attach(args: argparse.Namespace) -> int:
    from console.desk.attached import AttachedServer

    header: dict[str, Any] = {"token_header": args.token_header} if args.token_header else {}
    if not header and args.kind == "openai":
        header = {"token_header": "authorization"}
    server = AttachedServer(
        url=args.url.rstrip("/"),
        kind=args.kind,
        metrics_url=args.metrics,
        ca_file=str(Path(args.ca_file).absolute()) if args.ca_file else "",
        token_file=str(Path(args.token_file).absolute()) if args.token_file else "",
        token_env=args.token_env,
        control=args.control,
        name=args.name,
        **header,
    )
    common.desk(args).attach(server)
    if args.json:
        output.emit("attached", server, name=server.name)
    else:
        what = "watched, its models may be loaded" if args.control else "watched"
        output.say(f"{server.name} at {server.url} is {what} from now on")
    return 0


def detach(args: argparse.Namespace) -> int:
    common.desk(args).detach(args.name)
    if args.json:
        output.emit("detached", args.name)
    else:
        output.say(f"{args.name} is watched no more; the server goes on")
    return 0
