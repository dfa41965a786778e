"""The one door for text that we did not write: logs, file names, metadata, server answers.

`clean` makes a string safe for a terminal, `redact` removes secrets. Every room calls these two
before foreign text is shown, saved in a message or put into an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LINE_CAP = 8192
"""Characters of one line that are kept; a longer one is cut and says so."""

# Escape sequences go whole (their payload may be a window title or a clipboard write); an
# unterminated string sequence swallows the rest of the line, as a terminal would.
_SEQUENCE = re.compile(
    r"""
      (?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?             # CSI
    | (?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])       # OSC, DCS, SOS, PM, APC …
      [^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?       # … up to BEL or ST
    | \x1b[ -/]*[0-~]?                              # every other escape
    """,
    re.VERBOSE,
)
# Bidirectional controls reorder what a reader sees; zero-width characters hide in names.
_INVISIBLE = [
    *range(0x200B, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2065),
    *range(0x2066, 0x2070),
    *range(0xE0000, 0xE0080),  # tags: a whole sentence may be written in them
    0x061C,
    0xFEFF,
]
_CONTROLS = dict.fromkeys((*range(32), 127, *range(128, 160)))
_MULTILINE = {
    **{c: text for c, text in _CONTROLS.items() if c not in (0x09, 0x0A)},
    **{c: f"<U+{c:04X}>" for c in _INVISIBLE},
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),
    0x2028: " ",
    0x2029: " ",
}
_ONE_LINE = {**_MULTILINE, 0x09: " ", 0x0A: " "}

_SECRETS = re.compile(
    r"""
      \bhf_[A-Za-z0-9]{16,}                                  # Hugging Face
    | \bnvapi-[A-Za-z0-9_-]{16,}                             # NGC
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b                          # AWS key id
    | \bgh[pousr]_[A-Za-z0-9]{20,}                           # GitHub
    | \bgithub_pat_[A-Za-z0-9_]{20,}
    | \bsk-[A-Za-z0-9_-]{20,}                                # OpenAI and look-alikes
    | (?P<kept>
          (?i:https?://) (?=[^\s/?\#]+@)                     # a URL's user, and its password
        | :// (?=[^\s/?\#@:]+:[^\s/?\#]+@)                   # other schemes: not a user alone
      ) [^\s/?\#]+ (?=@)
    | (?i:(?P<scheme>\bbearer\s+|\bauthorization:\s*\w+\s+))[A-Za-z0-9._~+/=-]{8,}
    | (?i:(?P<name>
          (?:api[_-]?key|password|passwd|secret|secret[_-]access[_-]key)["']?\s*[=:]\s*["']?
        | token[=:]["']? | \btoken["']\s*:\s*["']
        | --(?:api-key|password|secret|token)\s+
      ))[^\s&'",;]{6,}
    """,
    re.VERBOSE,
)
MASK = "‹secret›"


def clean(text: str, *, multiline: bool = False, cap: int = LINE_CAP) -> str:
    """Return `text` without anything that a terminal would act on.

    Escape sequences (CSI, OSC, DCS, APC, PM, SOS, also unterminated and 8-bit ones), C0, DEL and
    C1 are dropped; bidirectional and zero-width controls are made visible as ``<U+202E>``; lone
    surrogates become U+FFFD. A carriage return keeps what follows it, as a progress bar means it.
    With `multiline`, newlines and tabs stay and `cap` counts per line; otherwise both become a space.
    """
    if text.isascii() and text.isprintable():
        return text if len(text) <= cap else text[:cap] + f"… (+{len(text) - cap})"
    text = _SEQUENCE.sub("", text).replace("\r\n", "\n")
    if multiline:
        return "\n".join(_clean_line(line, _MULTILINE, cap) for line in text.split("\n"))
    return _clean_line(text, _ONE_LINE, cap)


def _clean_line(line: str, table: dict[int, str | None], cap: int) -> str:
    if "\r" in line:
        line = next((part for part in reversed(line.split("\r")) if part), "")
    line = line.translate(table)
    return line if len(line) <= cap else line[:cap] + f"… (+{len(line) - cap})"


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Replace known secret values and everything shaped like one by `MASK`.

    `secrets` are exact values that the caller knows (the token of this launch, the value of
    HF_TOKEN); values under six characters are ignored, they would mask ordinary words.
    """
    for secret in sorted((s for s in secrets if len(s) >= 6), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return _SECRETS.sub(_masked, text)


def _masked(match: re.Match[str]) -> str:
    return (match["kept"] or match["scheme"] or match["name"] or "") + MASK


def human_bytes(count: float) -> str:
    """Bytes with one binary unit and at most two significant decimals: ``4.05 MiB``, ``141 GiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        size = abs(value)
        digits = 0 if unit == "B" or size >= 99.95 else 1 if size >= 9.995 else 2
        if round(size, digits) < 1024 or unit == "PiB":
            return f"{value:.{digits}f} {unit}"
        value /= 1024
    raise AssertionError("the last unit returns")


def human_seconds(seconds: float) -> str:
    """A duration as people say it: ``38 ms``, ``3.1 s``, ``11 min 20 s``, ``2 h 5 min``, ``2 d``."""
    if seconds < 0:
        return "-" + human_seconds(-seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
