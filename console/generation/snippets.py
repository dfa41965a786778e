"""A text request as something to paste: a curl command, or a Python program without packages."""

from __future__ import annotations

import json
import shlex

from console.facts import Endpoint
from console.generation.client import body, path
from console.prompts import TextRequest


def curl(endpoint: Endpoint, asked: TextRequest) -> str:
    """The request for a POSIX shell; ``-N`` shows a stream as it arrives."""
    url = shlex.quote(endpoint.url.rstrip("/") + path(asked))
    words = f"curl -sS {'-N ' if asked.stream else ''}{url} \\\n"
    words += "  -H 'Content-Type: application/json' \\\n"
    if endpoint.token_file is not None:
        token = f"$(cat {shlex.quote(str(endpoint.token_file))})"
        words += f'  -H "{_authority(endpoint)}: {_bearer(endpoint)}{token}" \\\n'
    return words + f"  -d {shlex.quote(json.dumps(body(asked), ensure_ascii=False))}"


def python(endpoint: Endpoint, asked: TextRequest) -> str:
    """The request as a program of the standard library that prints what comes back."""
    headers = '{"Content-Type": "application/json"'
    imports = ["import json", "import urllib.request"]
    if endpoint.token_file is not None:
        imports.append("from pathlib import Path")
        token = f"Path({str(endpoint.token_file)!r}).read_text().strip()"
        headers += f", {_authority(endpoint)!r}: {_bearer(endpoint)!r} + {token}"
    return "\n".join(
        [
            *imports,
            "",
            f"body = {body(asked)!r}",
            "request = urllib.request.Request(",
            f"    {endpoint.url.rstrip('/') + path(asked)!r},",
            "    data=json.dumps(body).encode(),",
            f"    headers={headers}}},",
            ")",
            "with urllib.request.urlopen(request) as answer:",
            "    for line in answer:",
            '        print(line.decode(errors="replace"), end="", flush=True)',
            "",
        ]
    )


def _authority(endpoint: Endpoint) -> str:
    return "Authorization" if endpoint.kind == "openai" else endpoint.token_header


def _bearer(endpoint: Endpoint) -> str:
    return "Bearer " if endpoint.kind == "openai" else ""
