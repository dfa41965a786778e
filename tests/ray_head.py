"""A head's dashboard that gives Ray's recorded answers, and keeps what it was asked.

`tests/assets/ray-2.60.json` holds answers of a real cluster; what changes by requests (the job, the
application, its replicas) is put together from them. Where the job's command line names a port, the
application answers there, with the paths of Export-Deploy's Ray classes.
"""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

RECORDED = json.loads((Path(__file__).parent / "assets" / "ray-2.60.json").read_text())
APPLICATION = "facts"


class Head:
    """What the cluster would know. Its attributes are the test's to change."""

    def __init__(self, token: str = "") -> None:
        self.token = token
        self.asked: list[tuple[str, str, bytes]] = []
        self.job = "missing"
        self.metadata: dict[str, str] = {}
        self.submission = ""
        self.packages: dict[str, bytes] = {}
        self.replicas = 1
        self.scalable = True
        self.fails = ""
        """What ends the constructor of every replica that is asked for."""
        self.deployed = False
        self.log = "the job's first line\n"
        self.nodes = 2
        self.url = ""
        self.says = "yellow"
        self.unwell = False
        self.proxy: ThreadingHTTPServer | None = None

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if "/api/packages/" in path:
            name = path.rpartition("/")[2]
            if method == "PUT":
                self.packages[name] = body
            return (200, "") if name in self.packages else recorded("package-missing")
        if path == "/api/version":
            return recorded("version")
        if path.startswith("/nodes"):
            status, told = recorded("nodes")
            told["data"]["summary"] = told["data"]["summary"][: self.nodes]
            return status, told
        if path == "/api/serve/applications/":
            return self._serve()
        if path.endswith("/scale"):
            if not self.scalable:
                return 412, {"error": "Cannot update replicas for deployment 'model'"}
            self.replicas = json.loads(body)["target_num_replicas"]
            return recorded("scaled")
        return self._jobs(method, path, body)

    def _serve(self) -> tuple[int, Any]:
        if self.unwell:
            return 503, "Failed to get a response from the controller."
        if not self.deployed:
            return recorded("serve-none")
        status, told = recorded("serve-two")
        one = told["applications"][APPLICATION]["deployments"]["model"]
        one["target_num_replicas"] = self.replicas
        one["replicas"] = one["replicas"][: self.replicas]
        if self.fails and self.replicas > 1:
            # The words of ray 2.60, serve/_private/application_state.py and deployment_state.py.
            told["applications"][APPLICATION] |= {
                "status": "DEPLOY_FAILED",
                "message": "Failed to update the deployments ['model'].",
            }
            one["message"] = (
                f"The deployment failed to start 6 times in a row. Error:\n{self.fails}"
            )
            one["status"], one["replicas"] = "DEPLOY_FAILED", one["replicas"][:1]
        return status, told

    def _jobs(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if method == "POST" and path == "/api/jobs/":
            self.job, self.deployed = "running", True
            told = json.loads(body)
            self.metadata, self.submission = told["metadata"], told["submission_id"]
            if port := re.search(r"--port=(\d+)", told["entrypoint"]):
                self.proxy = started(self.application, int(port[1]))
            return recorded("job-submitted")
        if path == "/api/jobs/":
            mine = {"metadata": self.metadata, "submission_id": self.submission}
            return 200, [] if self.job == "missing" else [recorded(f"job-{self.job}")[1] | mine]
        if path.endswith("/stop"):
            self.job, self.deployed = "stopped", False
            self.close()
            return recorded("job-stop")
        if path.endswith("/logs"):
            return 200, {"logs": self.log}
        if method == "DELETE":
            self.job = "missing"
            return recorded("job-deleted")
        status, told = recorded(f"job-{self.job}")
        return status, {**told, "metadata": self.metadata} if isinstance(told, dict) else told

    def application(self, method: str, path: str, body: bytes, token: str) -> tuple[int, Any]:
        """What the served model answers; without a slash at the end its paths redirect."""
        if path == "/v1/health":
            return 200, {"status": "healthy"}
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": APPLICATION, "object": "model"}]}
        if path == "/v1/chat/completions":
            return 307, f"{path}/"
        if path != "/v1/chat/completions/":
            return 404, {"detail": "Not Found"}
        self.asked.append((method, path, body))
        message = {"role": "assistant", "content": self.says}
        return 200, {"choices": [{"message": message, "index": 0, "finish_reason": "stop"}]}

    def dashboard(self, method: str, path: str, body: bytes, token: str) -> tuple[int, Any]:
        self.asked.append((method, path, body))
        if self.token and token != f"Bearer {self.token}":
            return recorded("no-token")
        return self.answer(method, path, body)

    def close(self) -> None:
        """End the application's own server."""
        if self.proxy is not None:
            self.proxy.shutdown()
            self.proxy.server_close()
            self.proxy = None

    def requests(self, method: str, path: str) -> list[bytes]:
        """Bodies of what was asked."""
        return [body for kind, place, body in self.asked if (kind, place) == (method, path)]


def recorded(name: str) -> tuple[int, Any]:
    status, told = RECORDED[name]
    return status, copy.deepcopy(told)


def started(
    answer: Callable[[str, str, bytes, str], tuple[int, Any]], port: int = 0
) -> ThreadingHTTPServer:
    """A server at a port of loopback, on a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = self.headers.get("Authorization") or ""
            status, told = answer(self.command, self.path, body, token)
            content = (told if isinstance(told, str) else json.dumps(told)).encode()
            self.send_response(status)
            if status == 307:
                self.send_header("Location", f"http://elsewhere.invalid{told}")
                content = b""
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = _do

        def log_message(self, *words: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@contextmanager
def served(head: Head) -> Iterator[Head]:
    """`head` at a free port of loopback; its address is `Head.url`."""
    server = started(head.dashboard)
    head.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield head
    finally:
        head.close()
        server.shutdown()
        server.server_close()
