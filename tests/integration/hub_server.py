"""A small hub on this machine: the endpoints of Hugging Face that `huggingface_hub` asks, over real
HTTP, with LFS redirects to a store under another host name, ranges, tokens and broken connections."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """One model. Files above 1 kB are large ones (LFS), as weights are on the real hub."""

    files: dict[str, bytes]
    token: str = ""
    """Needed to see it; without it the answer is that there is none."""
    gated: bool = False
    claimed: dict[str, str] = field(default_factory=dict)
    """File to a wrong SHA-256 that the hub tells of it."""

    def sha256(self, name: str) -> str:
        return self.claimed.get(name) or hashlib.sha256(self.files[name]).hexdigest()

    def large(self, name: str) -> bool:
        return len(self.files[name]) > 1024

    def sibling(self, name: str) -> dict[str, Any]:
        content = self.files[name]
        said: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git_id(content)}
        if self.large(name):
            said["lfs"] = {"sha256": self.sha256(name), "size": len(content), "pointerSize": 130}
        return said


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub:
    """The server; a context manager. `requests` are (method, path, Range, Authorization)."""

    def __init__(self, **repositories: Repository) -> None:
        self.repositories = {f"acme/{name}": r for name, r in repositories.items()}
        self.requests: list[tuple[str, str, str, str]] = []
        self.cut_after: int | None = None
        """Bytes of a large file after which the connection breaks."""
        self.stall_after: int | None = None
        """Bytes of a large file after which nothing more comes until the server ends."""
        self.open = threading.Event()
        """While it is not set, no request is answered."""
        self.open.set()
        self.over = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def store(self) -> str:
        """Where large files lie: another origin, as the real hub's is."""
        return f"http://localhost:{self.port}"

    def large_gets(self) -> list[tuple[str, str, str, str]]:
        return [r for r in self.requests if r[0] == "GET" and r[1].startswith("/store/")]

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.hub.requests.append(
            (
                self.command,
                path,
                self.headers.get("Range", ""),
                self.headers.get("Authorization", ""),
            )
        )
        parts = path.strip("/").split("/")
        if parts[0] == "store":
            self._large("/".join(parts[1:3]), "/".join(parts[3:]))
        elif parts[:2] == ["api", "models"]:
            self._model("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main")
        elif "resolve" in parts:
            self._resolve("/".join(parts[:2]), "/".join(parts[4:]))
        else:
            self._send(404, b"")

    def _allowed(self, name: str) -> Repository | None:
        self.server.hub.open.wait(60)
        found = self.server.hub.repositories.get(name)
        asked = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if found is None or (found.token and asked != found.token):
            self._send(401, b"{}", **{"X-Error-Code": "RepoNotFound"})
            return None
        return found

    def _model(self, name: str, revision: str) -> None:
        found = self._allowed(name)
        if found is None:
            return
        if revision not in ("main", COMMIT):
            self._send(404, b"{}", **{"X-Error-Code": "RevisionNotFound"})
            return
        if found.gated:
            self._send(403, b"{}", **{"X-Error-Code": "GatedRepo"})
            return
        said = {
            "_id": "1",
            "id": name,
            "sha": COMMIT,
            "siblings": [found.sibling(f) for f in found.files],
        }
        self._send(200, json.dumps(said).encode(), **{"Content-Type": "application/json"})

    def _resolve(self, name: str, file: str) -> None:
        found = self._allowed(name)
        if found is None:
            return
        if file not in found.files:
            self._send(404, b"", **{"X-Error-Code": "EntryNotFound"})
            return
        headers = {"X-Repo-Commit": COMMIT}
        content = found.files[file]
        if found.large(file):
            headers |= {
                "X-Linked-Etag": f'"{found.sha256(file)}"',
                "X-Linked-Size": str(len(content)),
                "Location": f"{self.server.hub.store}/store/{name}/{file}",
            }
            self._send(302, b"", **headers)
        else:
            self._send(200, content, **headers, ETag=f'"{git_id(content)}"')

    def _large(self, name: str, file: str) -> None:
        content = self.server.hub.repositories[name].files[file]
        start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        rest = content[start:]
        status = 206 if "Range" in self.headers else 200
        stall = self.server.hub.stall_after
        cut = self.server.hub.cut_after if stall is None else stall
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        if cut is not None and len(rest) > cut:
            self._head(status, len(rest), **headers)
            self.wfile.write(rest[:cut])
            self.wfile.flush()
            if stall is not None:
                self.server.hub.over.wait(60)
            self.close_connection = True
            return
        self._send(status, rest, **headers)

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self._head(status, len(body), **headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
