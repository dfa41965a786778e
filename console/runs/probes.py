"""Success probes: data in the plan, judged here. Each returns what it found or raises why not."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from console.facts import DeckError, Endpoint
from console.keeper import Exit
from console.planning.plan import (
    ExitCode,
    FileExists,
    Inference,
    JsonFile,
    LogMarker,
    Probe,
    TextAnswered,
    UrlReady,
)
from console.runs import saved
from console.runs.context import Context
from console.text import clean, human_bytes, redact

_MISSING = object()
_LINE_CAP = 1 << 20


def judge(context: Context, probe: Probe, ended: Exit | None, endpoint: Endpoint | None) -> str:
    """Judge one probe; what it found in words (may be empty). Raises `DeckError` when not met."""
    if isinstance(probe, ExitCode):
        return _exit_code(probe, ended)
    if isinstance(probe, FileExists):
        return _file(context.path(probe.path), probe)
    if isinstance(probe, JsonFile):
        return _json(context.path(probe.path), probe)
    if isinstance(probe, LogMarker):
        return _log(context.log, probe)
    if isinstance(probe, UrlReady):
        return url_ready(context, probe, endpoint)
    if isinstance(probe, TextAnswered):
        return _text(context, probe, endpoint)
    return _inference(context, probe, endpoint)


def _exit_code(probe: ExitCode, ended: Exit | None) -> str:
    if ended is None or ended.code != probe.code:
        raise DeckError(ended.words if ended else "there was no process whose exit code counts")
    return ""


def _file(path: Path, probe: FileExists) -> str:
    if not path.is_file():
        raise DeckError(f"{clean(path.name)} was not made", why=f"no file {clean(str(path))}")
    size = path.stat().st_size
    if size < probe.min_bytes:
        raise DeckError(
            f"{clean(path.name)} is too small",
            why=f"{human_bytes(size)}, at least {human_bytes(probe.min_bytes)} expected",
        )
    return ""


def _json(path: Path, probe: JsonFile) -> str:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise DeckError(f"{clean(path.name)} was not made", why=error.strerror or "") from error
    except ValueError as error:
        raise DeckError(f"{clean(path.name)} is not JSON", why=clean(str(error))) from error
    words = []
    for key, wanted in probe.expect.items():
        found = _lookup(value, key)
        shown = _shown(found)
        rule, met = _rule(found, wanted)
        if not met:
            raise DeckError(f"{key} is {shown}", why=f"expected {rule}, in {clean(path.name)}")
        words.append(f"{key} {shown}" + (f" ({rule})" if isinstance(wanted, dict) else ""))
    return ", ".join(words)


def _lookup(value: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        if not isinstance(value, dict) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _shown(found: Any) -> str:
    if found is _MISSING:
        return "nothing"
    return f"{found:.3g}" if isinstance(found, float) else clean(json.dumps(found))[:100]


def _rule(found: Any, wanted: Any) -> tuple[str, bool]:
    if not isinstance(wanted, dict) or not wanted.keys() <= {"min", "max"}:
        return json.dumps(wanted), found is not _MISSING and found == wanted
    words, met = [], isinstance(found, int | float) and not isinstance(found, bool)
    for name, sign in (("min", "≥"), ("max", "≤")):
        if name in wanted:
            words.append(f"{sign} {wanted[name]:g}")
            # Written so that a NaN meets neither.
            met = met and (found >= wanted[name] if name == "min" else found <= wanted[name])
    return " and ".join(words), met


def _log(log: Path, probe: LogMarker) -> str:
    pattern = re.compile(probe.pattern)
    hit = ""
    if log.is_file():
        with log.open("rb") as stream:
            while line := stream.readline(_LINE_CAP):
                text = line.decode(errors="replace").rstrip("\r\n")
                if pattern.search(text):
                    hit = redact(clean(text))
                    break
    if probe.absent and hit:
        raise DeckError(hit[:300], why="its log must not say this")
    if not probe.absent and not hit:
        raise DeckError(
            "its log does not say that it succeeded", why=f"no line matches {clean(probe.pattern)}"
        )
    return ""


def url_ready(
    context: Context,
    probe: UrlReady,
    endpoint: Endpoint | None,
    alive: Callable[[], None] | None = None,
) -> str:
    """Wait until a URL answers; `alive` is asked between tries and raises when it cannot any more."""
    from console.triton.plain_http import NoAnswer, request

    url = context.expand(probe.url)
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    place = f"{parts.scheme}://{parts.netloc}"
    at = replace(endpoint, url=place) if endpoint else Endpoint(place)
    token = bool(at.token_file or at.token_env)
    until = time.monotonic() + probe.timeout
    while True:
        # Asked before the try: the last one comes when the time is over, however long it stood still.
        over = time.monotonic() >= until
        context.check()
        try:
            answer = request(at, path, token=token, timeout=2.0)
            if answer.status == probe.status:
                return ""
            problem = f"it answers {answer.status} {answer.words[:200]}".rstrip()
        except NoAnswer as error:
            problem = str(error)
        if alive:
            alive()
        if over:
            raise DeckError(
                f"{clean(url)} was not ready within {probe.timeout:g} s",
                why=problem,
                fix="read its log; a larger model or a busy machine may need more time",
            )
        time.sleep(0.1)


def _inference(context: Context, probe: Inference, endpoint: Endpoint | None) -> str:
    from console.triton.inference import infer
    from console.triton.verify import judge as judge_answer

    if endpoint is None:
        raise DeckError("there is no service to send this request to")
    wanted = saved.request(context, probe)
    answer = context.patiently(lambda: infer(endpoint, wanted, timeout=probe.timeout))
    words = saved.words(answer, probe)
    context.say(f"{probe.title}: {words} ({answer.latency * 1000:.0f} ms)")
    if differs := judge_answer(answer, saved.expected(probe, context.path)):
        raise DeckError(f"{probe.title}: the answer is not the expected one", why=differs)
    return words


def _text(context: Context, probe: TextAnswered, endpoint: Endpoint | None) -> str:
    from console.triton.plain_http import request

    if endpoint is None:
        raise DeckError("there is no service to send this request to")
    started = time.monotonic()
    answer = context.patiently(
        lambda: request(
            endpoint, probe.path, method="POST", payload=probe.body, timeout=probe.timeout
        )
    )
    if not answer.ok:
        raise DeckError(
            f"{probe.title}: the request was refused",
            why=f"HTTP {answer.status} {answer.words[:500]}".rstrip(),
            raw=answer.words,
        )
    text = _text_at(answer.json(), probe)
    took = (time.monotonic() - started) * 1000
    context.say(f"{probe.title}: {redact(text)[:200]} ({took:.0f} ms)")
    wanted = probe.equals.strip()
    if probe.never and text.startswith(probe.never):
        raise DeckError(f"{probe.title}: the answer is an error", why=redact(text)[:500])
    if (wanted and text != wanted) or not text:
        raise DeckError(
            f"{probe.title}: the answer is not the expected one",
            why=f"it is {text[:200]!r}, expected {wanted!r}" if wanted else "it is empty",
        )
    return text[:80]


def _text_at(told: Any, probe: TextAnswered) -> str:
    """The text that an answer holds at the probe's place, cleaned, without the spaces around."""
    value = told
    for part in probe.answer.split("."):
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (LookupError, TypeError, ValueError):
            raise DeckError(
                f"{probe.title}: the answer has no {clean(probe.answer)}",
                raw=clean(json.dumps(told)[:2000]),
            ) from None
    return clean(str(value), multiline=True).strip()


def figures(found: Mapping[str, str]) -> str:
    """What is worth showing of all probes of a step."""
    return "; ".join(words for words in found.values() if words)
