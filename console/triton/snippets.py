"""A request as something to paste: a curl command for a POSIX shell, or a Python program."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from console.facts import Endpoint, InferenceRequest, TensorValue, UsageError
from console.text import clean
from console.triton import inference
from console.triton.plain_http import model_path

VALUES_CAP = 4096
"""Elements that are written into a snippet as numbers; larger tensors are read from their file."""


def curl(endpoint: Endpoint, request: InferenceRequest) -> str:
    """The request for a POSIX shell (sh, bash, dash, zsh) with curl.

    Values stand in it as JSON. A tensor from a file is sent as it is, by the binary tensor extension:
    a JSON header, whose length the header line ``Inference-Header-Content-Length`` gives, then the
    raw tensors; the element of a BYTES tensor has its length before it, 4 bytes little-endian. Raises
    `UsageError` for tensors that are neither small nor in a file.
    """
    url = endpoint.url.rstrip("/") + model_path(request.model, request.version) + "/infer"
    if not any(value.file is not None for value in request.inputs):
        body = json.dumps(_body(request, [_inline(value) for value in request.inputs]))
        return (
            f"curl -sS {shlex.quote(url)} \\\n"
            "  -H 'Content-Type: application/json' \\\n"
            f"  -d {shlex.quote(body)}"
        )
    return _binary_curl(url, request)


def _body(request: InferenceRequest, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    body: dict[str, Any] = {"inputs": inputs}
    if request.parameters:
        body["parameters"] = dict(request.parameters)
    if request.outputs:
        body["outputs"] = [{"name": name} for name in request.outputs]
    return body


def _described(value: TensorValue) -> dict[str, Any]:
    return {"name": value.name, "shape": list(value.shape), "datatype": value.dtype}


def _inline(value: TensorValue) -> dict[str, Any]:
    return {**_described(value), "data": _values(value)}


def _values(value: TensorValue) -> list[Any]:
    """Flat JSON values; `UsageError` for those that JSON or the protocol cannot carry."""
    values = list(value.values or ())
    name = clean(value.name)
    if len(values) > VALUES_CAP:
        raise UsageError(f"{name} has {len(values)} values", fix="give it as an .npy file")
    if value.dtype in ("FP16", "BF16"):
        raise UsageError(
            f"{name}: {value.dtype} values cannot be written as JSON", fix="give it as an .npy file"
        )
    if any(isinstance(v, bytes) for v in values):
        raise UsageError(f"{name} holds bytes", fix="give it as a file")
    return values


def _binary_curl(url: str, request: InferenceRequest) -> str:
    """Tensors from files go through a pipe; their sizes are taken when the command runs."""
    sizes: list[str] = []
    parts: list[str] = []
    inputs: list[dict[str, Any]] = []
    for number, value in enumerate(request.inputs, 1):
        if value.file is None:
            inputs.append(_inline(value))
            continue
        file = shlex.quote(str(value.file.absolute()))
        if value.dtype == "BYTES":
            size = f"size{number}"
            sizes.append(f'file{number}={file}\n{size}=$(($(wc -c < "$file{number}")))')
            parts.append(f'length "${size}"; cat "$file{number}"')
            shown = f"@@$(({size} + 4))@@"
        else:
            count = _npy_bytes(value)
            parts.append(f"tail -c {count} {file}")
            shown = f"@@{count}@@"
        inputs.append({**_described(value), "parameters": {"binary_data_size": shown}})
    header = _shell_json(_body(request, inputs))
    lines = [f"# {clean(request.model)}: JSON header, then each file as a raw tensor", *sizes]
    if any(value.file is not None and value.dtype == "BYTES" for value in request.inputs):
        # `printf` writes the four bytes of a length, the lowest first.
        lines.append(
            "length() { printf \"$(printf '\\\\%03o\\\\%03o\\\\%03o\\\\%03o' $(($1 & 255)) "
            '$(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)))"; }'
        )
    lines += [
        f"header={header}",
        "{ printf '%s' \"$header\"; " + "; ".join(parts) + "; } |",
        f"curl -sS {shlex.quote(url)} \\",
        '  -H "Inference-Header-Content-Length: ${#header}" \\',
        "  -H 'Content-Type: application/octet-stream' --data-binary @-",
    ]
    return "\n".join(lines)


def _shell_json(body: dict[str, Any]) -> str:
    """JSON as one shell word in which ``"@@…@@"`` is arithmetic for the shell.

    Pure ASCII (`json.dumps` escapes the rest), so that ``${#header}`` counts bytes in every locale.
    """
    words = json.dumps(body).replace('"@@', "@@").replace('@@"', "@@").split("@@")
    return "".join(w if i % 2 else shlex.quote(w) for i, w in enumerate(words))


def _npy_bytes(value: TensorValue) -> int:
    """Size of the raw tensor at the end of an ``.npy`` file that can be sent as it is."""
    import numpy as np

    assert value.file is not None
    stored = inference.load_npy(value.file, clean(value.name))
    wanted = np.dtype(inference.numpy_name(value.dtype)).newbyteorder("<")
    usable = stored.flags.c_contiguous and stored.dtype == wanted and value.dtype != "BF16"
    if not usable:
        raise UsageError(
            f"{clean(value.name)}: {clean(str(value.file))} is not a row-major {value.dtype} array",
            fix=f"save it with numpy.ascontiguousarray(array, '{wanted.str}')",
        )
    return int(stored.nbytes)


# ---------------------------------------------------------------------------- Python


def python(endpoint: Endpoint, request: InferenceRequest) -> str:
    """The request as a program that needs ``pip install 'tritonclient[http]'`` and prints the answer."""
    address = urlsplit(endpoint.url if "://" in endpoint.url else f"http://{endpoint.url}")
    ssl = ", ssl=True" if address.scheme == "https" else ""
    paths = any(value.file is not None and value.dtype == "BYTES" for value in request.inputs)
    lines = ["from pathlib import Path", ""] if paths else []
    lines += ["import numpy as np", "import tritonclient.http as triton", "", "inputs = []"]
    for value in request.inputs:
        lines += [
            f"tensor = triton.InferInput({value.name!r}, {list(value.shape)}, {value.dtype!r})",
            f"tensor.set_data_from_numpy({_expression(value)})",
            "inputs.append(tensor)",
        ]
    call = f"client.infer({request.model!r}, inputs"
    if request.version:
        call += f", model_version={request.version!r}"
    if request.outputs:
        names = ", ".join(f"triton.InferRequestedOutput({n!r})" for n in request.outputs)
        call += f", outputs=[{names}]"
    if request.parameters:
        call += f", parameters={dict(request.parameters)!r}"
    lines += [
        "",
        f"with triton.InferenceServerClient({address.netloc!r}{ssl}) as client:",
        f"    result = {call})",
        'for output in result.get_response()["outputs"]:',
        '    values = result.as_numpy(output["name"])',
        '    if output["datatype"] == "BYTES":',
        '        values = [item.decode(errors="replace") for item in values.flat]',
        '    print(output["name"], values)',
    ]
    return "\n".join(lines) + "\n"


def _expression(value: TensorValue) -> str:
    shape = tuple(value.shape)
    if value.file is not None:
        place = str(Path(value.file).absolute())
        if value.dtype == "BYTES":
            return f"np.array([Path({place!r}).read_bytes()], dtype=object).reshape({shape})"
        return f"np.load({place!r}).reshape({shape})"
    values = list(value.values or ())
    if len(values) > VALUES_CAP:
        raise UsageError(
            f"{clean(value.name)} has {len(values)} values", fix="give it as an .npy file"
        )
    if value.dtype == "BYTES":
        items = [v if isinstance(v, bytes) else str(v).encode() for v in values]
        return f"np.array({items!r}, dtype=object).reshape({shape})"
    if any(isinstance(v, float) and v - v != 0 for v in values):  # inf and nan have no literal
        words = [f"float({str(v)!r})" if v - v != 0 else repr(v) for v in values]
        listed = "[" + ", ".join(words) + "]"
    else:
        listed = repr(values)
    return f'np.array({listed}, dtype="{inference.numpy_name(value.dtype)}").reshape({shape})'
