"""ASCII in place of our glyphs, for terminals that say that they show nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_ASCII = dict(
    zip(
        "●◐○✓✕▲▸▶▾▼▣□·…–—─━│┃╵▏▎▍▌▐▔▁×µ→←↑↓⏎↵⌫⌦⇥≥≤“”‘’«»°▮▯▂▃▄▅▆▇█",
        "*o.+x!>>vv#_.~---=||'|||||'_xu><^v<<<>>><\"\"''<>o#-.-:=+*#",
        strict=True,
    )
)


def plain(text: str) -> str:
    """`text` in ASCII, each character as wide as it was."""
    if text.isascii():
        return text
    return "".join(c if c.isascii() else _ASCII.get(c, "?" * cell_len(c)) for c in text)


def ascii_only(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the operator's locale names a character set other than UTF-8.

    Python itself sets ``LC_CTYPE=C.UTF-8`` where the locale is C (PEP 538), so that value says
    nothing. With no locale named at all a terminal of today is taken to show UTF-8.
    """
    ctype = environ.get("LC_CTYPE", "")
    named = (environ.get("LC_ALL"), "" if ctype == "C.UTF-8" else ctype, environ.get("LANG"))
    locale = next((value for value in named if value), "")
    return bool(locale) and "utf" not in locale.casefold()


class AsciiFilter(LineFilter):
    """The last filter before the terminal where only ASCII is shown."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment
            if segment.control or segment.text.isascii()
            else Segment(plain(segment.text), segment.style)
            for segment in segments
        ]
