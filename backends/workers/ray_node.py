"""Ray's own processes on this machine: a head, or a node that joins one.

Standard library only; imports nothing of tritondeck; `ray_rest.py` lies beside it. ``ray start`` stays
in the foreground as a child. ``ray stop`` is never called: it ends every Ray of a host.
"""

from __future__ import annotations

import http.server
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from ray_rest import EX_SOFTWARE, CannotServe, Ray, Unreachable

NODE_START = 90.0
NODE_STOP = 5.0
NODE_DRAIN = 35.0


def say(text):
    print(text, flush=True)


class Node:
    """Ray's own processes on this machine, as a child that stays in the foreground."""

    def __init__(self, given, token):
        self.given, self.token = given, token
        self.process = self.reader = None
        self.scratch = self.error = ""

    def words(self):
        """``ray start …``; nothing secret stands in it."""
        given = self.given
        words = [given.ray, "start", "--block", "--disable-usage-stats", "--log-style=record"]
        words += [f"--temp-dir={self.scratch}"]
        if given.cluster == "head":
            words += ["--head", f"--port={given.gcs_port}", "--include-dashboard=true"]
            words += ["--dashboard-host=127.0.0.1", f"--dashboard-port={given.dashboard_port}"]
        else:
            words += [f"--address={given.gcs}"]
            words += [f"--dashboard-agent-listen-port={given.agent_port}"]
        if given.node_address:
            words.append(f"--node-ip-address={given.node_address}")
        if given.node_cpus:
            words.append(f"--num-cpus={given.node_cpus}")
        if given.node_gpus >= 0:
            words.append(f"--num-gpus={given.node_gpus}")
        return words

    def start(self):
        """Start it, with free ports where 0 is given."""
        given = self.given
        for name in ("gcs_port", "dashboard_port", "agent_port"):
            setattr(given, name, getattr(given, name) or free_port())
        # Sockets lie in it, and their paths have room for 107 characters.
        self.scratch = tempfile.mkdtemp(prefix="tdray-")
        env = {**os.environ, "RAY_DISABLE_DOCKER_CPU_WARNING": "1"}
        if self.token:
            env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        words = self.words()
        say(shlex.join(words))
        # A session of its own: the application goes first, so it must not get this one's SIGTERM.
        self.process = subprocess.Popen(
            words,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        self.reader = threading.Thread(target=self.copy, daemon=True)
        self.reader.start()

    def copy(self):
        """Its words into our log; the last one that tells an error is why it ended."""
        for line in self.process.stdout:
            say(line.rstrip())
            if "Error" in line and not line.startswith(" "):
                self.error = line.strip()[:500]

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def require_alive(self):
        if not self.alive():
            self.reader.join(2)
            why = self.error or f"exit code {self.process.returncode}"
            raise CannotServe(
                f"Ray's own processes ended: {why}", "read the log above it", EX_SOFTWARE
            )

    def stop(self):
        """End it; what it leaves is ended by whoever keeps this process."""
        if self.alive():
            self.process.terminate()
            try:
                # A node of somebody's cluster lets its replicas finish first, 30 seconds at most.
                self.process.wait(NODE_DRAIN if self.given.cluster == "join" else NODE_STOP)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        end_group(self.scratch)
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def end_group(scratch):
    """End the processes that name our own folder on their command line: Ray's daemons."""
    if not scratch:
        return
    until = time.monotonic() + NODE_STOP
    number = signal.SIGTERM
    while left := [pid for pid in own_processes() if names(pid, scratch)]:
        if time.monotonic() > until:
            number = signal.SIGKILL
        if time.monotonic() > until + 5:
            return
        for pid in left:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass  # it has just ended
        time.sleep(0.2)


def own_processes():
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]


def names(pid, word):
    try:
        return pid != os.getpid() and word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False  # it has ended, or is somebody else's


def until_answers(ray, node):
    """Wait for the dashboard of a head that has just been started."""
    until = time.monotonic() + NODE_START
    while True:
        node.require_alive()
        try:
            ray.version()
            return
        except Unreachable:
            if time.monotonic() > until:
                raise
        time.sleep(0.3)


class Health(http.server.BaseHTTPRequestHandler):
    """``GET /v1/health``: what the node's own agent says of it."""

    agent: Ray | None = None

    def do_GET(self):
        well = self.path == "/v1/health" and healthy(self.agent)
        listed = self.path == "/v1/models"
        told = (
            {"object": "list", "data": []} if listed else {"status": "ok" if well else "not ready"}
        )
        body = json.dumps(told).encode()
        self.send_response(200 if well or listed else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        """Nothing for each request."""


def healthy(agent):
    try:
        status, text = agent.call("GET", "/api/local_raylet_healthz", timeout=3.0)
    except CannotServe:
        return False
    return status == 200 and "success" in text
