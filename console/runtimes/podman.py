"""Podman: no daemon; each container has a small process (conmon) that holds it."""

from __future__ import annotations

import json
import os

from console.runtimes.engine import Engine, EngineFacts, unreachable
from console.text import clean


class Podman(Engine):
    name = "podman"

    def facts(self) -> EngineFacts:
        done = self.ask("info", "--format", "json", timeout=20)
        if done.code:
            raise unreachable(done.err)
        raw = json.loads(done.out)
        host = raw["host"]
        runtime = (host.get("ociRuntime") or {}).get("name", "")
        return EngineFacts(
            version=clean(str((raw.get("version") or {}).get("Version", ""))),
            rootless=bool((host.get("security") or {}).get("rootless")),
            cpus=int(host.get("cpus") or 0),
            memory=int(host.get("memTotal") or 0),
            host=clean(str(host.get("hostname", ""))),
            runtimes=(clean(str(runtime)),),
            data=clean(str((raw.get("store") or {}).get("graphRoot", ""))),
        )

    def caller_words(self, facts: EngineFacts) -> tuple[str, ...]:
        words = ("--user", f"{os.getuid()}:{os.getgid()}")
        # Without this the caller's files belong to another user inside.
        return (*words, "--userns", "keep-id") if facts.rootless else words

    @property
    def log_words(self) -> tuple[str, ...]:
        return ("--log-driver", "k8s-file", "--log-opt", "max-size=64mb")
