"""Docker: a daemon that root runs, or one of the user's own (rootless)."""

from __future__ import annotations

import json
import os

from console.runtimes.engine import Engine, EngineFacts, unreachable
from console.text import clean


class Docker(Engine):
    name = "docker"

    def facts(self) -> EngineFacts:
        done = self.ask("info", "--format", "{{json .}}", timeout=20)
        raw = json.loads(done.out or "{}")
        # `info` ends with 0 and tells its errors inside when the daemon does not answer (20.10).
        errors = "\n".join(raw.get("ServerErrors") or ())
        if errors or not raw.get("ServerVersion"):
            raise unreachable(errors or done.err)
        return EngineFacts(
            version=clean(str(raw["ServerVersion"])),
            rootless=any("name=rootless" in word for word in raw.get("SecurityOptions") or ()),
            cpus=int(raw.get("NCPU") or 0),
            memory=int(raw.get("MemTotal") or 0),
            host=clean(str(raw.get("Name", ""))),
            runtimes=tuple(sorted(raw.get("Runtimes") or {})),
            data=clean(str(raw.get("DockerRootDir", ""))),
        )

    def caller_words(self, facts: EngineFacts) -> tuple[str, ...]:
        # In a rootless engine the container's root is the caller.
        caller = "0:0" if facts.rootless else f"{os.getuid()}:{os.getgid()}"
        return ("--user", caller)

    @property
    def log_words(self) -> tuple[str, ...]:
        return ("--log-driver", "json-file", "--log-opt", "max-size=64m", "--log-opt", "max-file=2")
