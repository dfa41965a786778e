"""The figures of a monitor as Prometheus text, on the loopback and only when asked for.

Prometheus' own client would be a dependency of the console for twenty lines of text format.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from console.desk.monitor import MonitorSource, MonitorView
from console.facts import Refused
from console.triton import series

TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LABELS = {
    "host": (),
    "gpu": ("gpu",),
    "tree": ("owner",),
    "server": ("server",),
    "model": ("server", "model"),
}


def text(view: MonitorView) -> str:
    """Every series as a gauge ``tritondeck_KIND_FIGURE``."""
    if view.reading is None:
        return ""
    lines: dict[str, list[str]] = {}
    for name, value in series.values(view.reading, view.servers).items():
        if value is None:
            continue
        kind, _, rest = name.partition("/")
        *which, figure = rest.split("/")
        words = [f'{k}="{_quoted(v)}"' for k, v in zip(_LABELS[kind], which, strict=True)]
        labels = "{" + ",".join(words) + "}" if words else ""
        lines.setdefault(f"tritondeck_{kind}_{figure}", []).append(f"{labels} {value:.12g}")
    for server in view.servers:
        labels = f'{{server="{_quoted(server.name)}"}}'
        for figure, state in (("live", server.live), ("ready", server.ready)):
            name = f"tritondeck_server_{figure}"
            lines.setdefault(name, []).append(f"{labels} {int(state)}")
    return "".join(
        f"# TYPE {name} gauge\n" + "".join(f"{name}{line}\n" for line in found)
        for name, found in lines.items()
    )


def _quoted(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


@contextmanager
def serve(source: MonitorSource, port: int) -> Iterator[int]:
    """Answer ``GET /metrics`` on 127.0.0.1; the port. Raises `Refused` when it is taken."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def do_GET(self) -> None:
            found = self.path.partition("?")[0] == "/metrics"
            body = text(source.snapshot()).encode() if found else b"see /metrics\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            """Nothing: standard error is the operator's."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Refused(
            f"port {port} cannot be used", why=reason, fix="0 takes a free one"
        ) from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="prometheus", daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
