"""`doctor`: what this machine can do."""

from __future__ import annotations

import argparse

from console.verbs import common, output
from console.verbs.deploy import show_report


def doctor(args: argparse.Namespace) -> int:
    report = common.desk(args).doctor()
    if args.json:
        output.emit("checks", report.verdicts, blocks=report.blocks, elapsed=report.elapsed)
    else:
        show_report(report)
    return 3 if report.blocks else 0
