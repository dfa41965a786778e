"""Shell scripts as tests run them, and the text of a server that a recorder in upstream's place becomes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ANSWERS = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer({})

    def do_POST(self):
        self.answer(answered(self.headers, self.rfile.read(int(self.headers["Content-Length"] or 0))))
"""
"""Goes into a script that imports json and has ``answered(headers, body)``, the document of a POST."""


def clean(script: str) -> None:
    """shellcheck finds nothing in it."""
    checker = shutil.which("shellcheck")
    assert checker, "shellcheck is missing; scripts/system-packages installs it"
    told = subprocess.run([checker, "-"], input=script, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (0, "")


def run(
    folder: Path, script: str, *, timeout: float = 300.0, **environ: str
) -> subprocess.CompletedProcess[str]:
    """A clean script, run by bash in `folder` as its home with PATH and `environ` alone."""
    clean(script)
    file = folder / "script.sh"
    file.write_text(script, encoding="utf-8")
    return subprocess.run(
        ["bash", str(file)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)} | environ,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
