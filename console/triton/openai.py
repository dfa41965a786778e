"""What an OpenAI-type server (vLLM's own, Ray Serve, NeMo's front) says about itself."""

from __future__ import annotations

from console.facts import DeckError, Endpoint
from console.text import clean
from console.triton.plain_http import request

HEALTH_PATHS = ("/health", "/v1/health")
"""vLLM's and NeMo's; each answers 404 at the other's."""


def models(endpoint: Endpoint, timeout: float = 5.0) -> tuple[str, ...]:
    """Names that ``GET /v1/models`` lists. `DeckError` when the server has no such list."""
    answer = request(endpoint, "/v1/models", token=_has_token(endpoint), timeout=timeout)
    if not answer.ok:
        raise DeckError(
            f"{clean(endpoint.url)} lists no models",
            why=f"HTTP {answer.status} {answer.words[:200]}".rstrip(),
        )
    told = answer.json()
    listed = told.get("data") if isinstance(told, dict) else None
    if not isinstance(listed, list):
        raise DeckError(f"{clean(endpoint.url)} lists no models", why="the answer has no data")
    return tuple(clean(str(entry.get("id", ""))) for entry in listed if isinstance(entry, dict))


def healthy(endpoint: Endpoint, timeout: float = 5.0) -> bool:
    """Whether the server says that it is well. Raises `NoAnswer` when nothing listens."""
    return any(
        request(endpoint, path, token=_has_token(endpoint), timeout=timeout).ok
        for path in HEALTH_PATHS
    )


def _has_token(endpoint: Endpoint) -> bool:
    return endpoint.token_file is not None
