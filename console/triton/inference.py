"""Ask a model for its metadata and send it requests. `tritonclient` is imported only to send."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from console.facts import (
    DeckError,
    Endpoint,
    InferenceAnswer,
    InferenceRequest,
    ModelMetadata,
    TensorAnswer,
    TensorSpec,
    TensorValue,
    UsageError,
)
from console.text import clean, human_seconds, redact
from console.triton.plain_http import (
    NoAnswer,
    Response,
    model_path,
    refusal,
    request,
    tls,
    token_headers,
)

if TYPE_CHECKING:
    import numpy as np

_INTEGERS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
DTYPES = ("BOOL", *_INTEGERS, "FP16", "FP32", "FP64", "BF16", "BYTES")
"""Triton's wire names of element types."""

_NUMPY = {
    "BOOL": "bool",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BF16": "float32",
    **{name: name.lower() for name in _INTEGERS},
}


def numpy_name(dtype: str) -> str:
    """NumPy's name of a wire type; BF16 travels as float32 here. `UsageError` for another."""
    try:
        return _NUMPY[dtype]
    except KeyError:
        raise UsageError(f"no numeric tensor type {clean(dtype)}") from None


# ---------------------------------------------------------------------------- metadata


def metadata(endpoint: Endpoint, model: str, timeout: float = 10.0) -> ModelMetadata:
    """Inputs, outputs and configuration of a loaded model, by two plain HTTP requests.

    Raises `UsageError` for a model that is not served, `DeckError` when the server says otherwise.
    """
    told = _ask(endpoint, model_path(model), model, timeout)
    config = _ask(endpoint, model_path(model) + "/config", model, timeout)
    optional = {i["name"] for i in config.get("input", ()) if i.get("optional")}
    parameters = {
        clean(str(key)): clean(str(value.get("string_value", "")))
        for key, value in config.get("parameters", {}).items()
    }
    return ModelMetadata(
        name=clean(str(told.get("name", model))),
        versions=tuple(clean(str(v)) for v in told.get("versions", ())),
        platform=clean(str(told.get("platform") or config.get("backend", ""))),
        inputs=tuple(_spec(entry, optional) for entry in told.get("inputs", ())),
        outputs=tuple(_spec(entry, ()) for entry in told.get("outputs", ())),
        max_batch_size=int(config.get("max_batch_size", 0)),
        parameters=parameters,
    )


def _spec(entry: Mapping[str, Any], optional: Any) -> TensorSpec:
    name = str(entry.get("name", ""))
    shape = tuple(int(d) for d in entry.get("shape", ()))
    return TensorSpec(clean(name), clean(str(entry.get("datatype", ""))), shape, name in optional)


def _ask(endpoint: Endpoint, path: str, model: str, timeout: float) -> Mapping[str, Any]:
    response = request(endpoint, path, token=True, timeout=timeout)
    if not response.ok:
        raise _refused(response, model)
    told = response.json()
    if not isinstance(told, dict):
        raise DeckError(f"{path} answered something else than an object")
    return told


def _refused(response: Response, model: str) -> DeckError:
    general = refusal(response, "to describe a model")
    if general is not None:
        return general
    return _server_error(response.words, str(response.status), model)


# ---------------------------------------------------------------------------- inference


def infer(endpoint: Endpoint, request_: InferenceRequest, timeout: float = 60.0) -> InferenceAnswer:
    """Send one request over HTTP with binary tensors and read the whole answer.

    The client is closed at once: an idle connection would delay the server's stop. Raises
    `UsageError` for tensors that cannot be built or that the model does not take (in the server's
    words), `DeckError` for everything else that the server says, `NoAnswer` when it says nothing.
    """
    import tritonclient.http as http_client
    from tritonclient.utils import InferenceServerException

    arrays = {value.name: array(value) for value in request_.inputs}
    inputs = []
    for value in request_.inputs:
        given = arrays[value.name]
        tensor = http_client.InferInput(value.name, list(given.shape), value.dtype)
        tensor.set_data_from_numpy(given, binary_data=True)
        inputs.append(tensor)
    outputs = [http_client.InferRequestedOutput(name) for name in request_.outputs] or None
    client = _client(http_client, endpoint, timeout)
    started = time.perf_counter()
    try:
        result = client.infer(
            request_.model,
            inputs,
            model_version=request_.version,
            outputs=outputs,
            headers=_headers(endpoint),
            parameters=dict(request_.parameters) or None,
        )
        latency = time.perf_counter() - started
        return _answer(result, request_, latency)
    except InferenceServerException as error:
        raise _server_error(
            str(error.message()), str(error.status() or ""), request_.model
        ) from error
    except ConnectionRefusedError as error:
        raise NoAnswer(
            f"nothing listens at {clean(redact(endpoint.url))}",
            why="the connection was refused",
            fix="start the server, or see its log if it ended",
        ) from error
    except (OSError, EOFError, http.client.HTTPException) as error:
        raise NoAnswer(
            f"no answer from {clean(redact(endpoint.url))}",
            why=clean(str(error)) or f"after {human_seconds(time.perf_counter() - started)}",
        ) from error
    finally:
        client.close()


def _headers(endpoint: Endpoint) -> dict[str, str] | None:
    """The token for a server of somebody else's; ours wants none for inference."""
    return None if endpoint.ours else token_headers(endpoint) or None


def _client(http_client: Any, endpoint: Endpoint, timeout: float) -> Any:
    """A client for the endpoint; tritonclient wants its URL without the scheme."""
    url = endpoint.url
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(f"{clean(redact(url))} is not a server address", fix="http://HOST:PORT")
    return http_client.InferenceServerClient(
        parts.netloc + parts.path.rstrip("/"),
        ssl=parts.scheme == "https",
        ssl_context_factory=_trusting(endpoint) if parts.scheme == "https" else None,
        connection_timeout=min(timeout, 10.0),
        network_timeout=timeout,
    )


def _trusting(endpoint: Endpoint) -> Any:
    """Makes tritonclient's own kind of TLS context, with the endpoint's certificates."""
    import gevent.ssl

    tls(endpoint)  # says in words what is wrong with the file
    place = str(endpoint.ca_file) if endpoint.ca_file else None

    def make(cafile: str | None = None) -> Any:
        return gevent.ssl.create_default_context(cafile=place)

    return make


def array(value: TensorValue) -> np.ndarray[Any, Any]:
    """The tensor of a request as NumPy sees it; BYTES as an object array of bytes.

    Raises `UsageError` that names the input: unreadable file, wrong dtype, values that do not fill
    the shape.
    """
    import numpy as np

    name = clean(value.name)
    if value.dtype == "BYTES":
        items = [_file_bytes(value)] if value.file is not None else _byte_items(value)
        built = np.empty(len(items), dtype=object)
        built[:] = items
    elif value.file is not None:
        built = load_npy(value.file, name)
        wanted = np.dtype(numpy_name(value.dtype))
        if built.dtype != wanted:
            raise UsageError(
                f"{name} is {value.dtype}, but {clean(str(value.file))} holds {built.dtype}",
                fix=f"save it with array.astype(numpy.{wanted})",
            )
    else:
        try:
            built = np.array(value.values or (), dtype=numpy_name(value.dtype))
        except (ValueError, TypeError, OverflowError) as error:
            raise UsageError(f"{name}: not {value.dtype} values", why=clean(str(error))) from error
    if value.file is not None and -1 in value.shape and fits(built.shape, value.shape):
        return np.ascontiguousarray(built)
    try:
        return np.ascontiguousarray(built).reshape(value.shape)
    except ValueError as error:
        raise UsageError(
            f"{name}: {built.size} values do not fill the shape {list(value.shape)}"
        ) from error


def fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether `shape` is one of those that `wanted` allows; -1 there stands for any size."""
    pairs = zip(shape, wanted, strict=False)
    return len(shape) == len(wanted) and all(w in (-1, s) for s, w in pairs)


def load_npy(path: Any, name: str) -> np.ndarray[Any, Any]:
    """Read an ``.npy`` file without pickles; `UsageError` naming the input."""
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(
            f"{name}: cannot read {clean(str(path))}",
            why=clean(str(error)),
            fix="give an .npy file",
        ) from error
    if not isinstance(loaded, np.ndarray):
        raise UsageError(
            f"{name}: {clean(str(path))} holds several arrays", fix="give an .npy file"
        )
    return loaded


def _file_bytes(value: TensorValue) -> bytes:
    assert value.file is not None
    try:
        return value.file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{clean(value.name)}: cannot read {clean(str(value.file))}",
            why=error.strerror or str(error),
        ) from error


def _byte_items(value: TensorValue) -> list[bytes]:
    return [v if isinstance(v, bytes) else str(v).encode() for v in value.values or ()]


def _answer(result: Any, asked: InferenceRequest, latency: float) -> InferenceAnswer:
    told = result.get_response()
    outputs = []
    for entry in told.get("outputs", ()):
        name, dtype = entry["name"], entry["datatype"]
        tensor = result.as_numpy(name)
        flat = [] if tensor is None else tensor.reshape(-1).tolist()
        if dtype == "BYTES":
            flat = [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in flat]
        shape = tuple(int(d) for d in entry["shape"])
        outputs.append(TensorAnswer(clean(name), dtype, shape, tuple(flat)))
    version = clean(str(told.get("model_version", asked.version)))
    return InferenceAnswer(
        clean(str(told.get("model_name", asked.model))), version, tuple(outputs), latency
    )


def _server_error(words: str, status: str, model: str) -> DeckError:
    """The server's words as an error: what the request did wrong is the operator's (exit code 2)."""
    said = redact(clean(words.strip(), multiline=True))
    name = clean(model)
    first, _, rest = said.partition("\n")
    raw = said if rest else ""
    if "Request for unknown model" in said or status == "404":
        return UsageError(
            f"the server does not serve model {name}", why=first, fix="load it first", raw=raw
        )
    if "is not healthy" in said:
        return DeckError(
            f"the process of model {name} has died",
            why=first,
            fix="unload and load the model again; see the server's log for why it ended",
            raw=raw,
        )
    if "output tensor shape does not match size of output" in said:
        return DeckError(
            f"model {name} ran with a NumPy that this server cannot read",
            why=first,
            fix="its environment needs NumPy below 2",
            raw=raw,
        )
    if "decoupled" in said:
        return DeckError(
            f"model {name} streams its answers",
            why=first,
            fix="ask it through generate_stream or gRPC",
            raw=raw,
        )
    kind = UsageError if status == "400" else DeckError
    return kind(f"model {name} refused the request", why=first, raw=raw)
