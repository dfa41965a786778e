"""Progress out of a step's log: the general line that our workers print, and a step's own rule."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from console.planning.plan import ProgressRule
from console.text import clean, redact

GENERAL = re.compile(
    r"^\[tritondeck\] progress (?P<fraction>[0-9]*\.?[0-9]+|-)(?:\s+(?P<message>.*))?$"
)
_CHUNK = 1 << 20


@dataclass
class LogProgress:
    """Reads what was added to a log since the last look. `fraction` is 0…1, None when unknown."""

    path: Path
    rule: ProgressRule | None = None
    fraction: float | None = None
    message: str = ""
    _offset: int = 0
    _rest: bytes = b""
    _pattern: re.Pattern[str] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.rule is not None:
            self._pattern = re.compile(self.rule.pattern)

    def look(self) -> bool:
        """Read on; whether progress was said. A flood of output is looked at from its end."""
        try:
            size = self.path.stat().st_size
            if size <= self._offset:
                return False
            with self.path.open("rb") as stream:
                if size - self._offset > _CHUNK:
                    self._offset, self._rest = size - _CHUNK, b""
                stream.seek(self._offset)
                read = stream.read(_CHUNK)
        except FileNotFoundError:
            return False
        self._offset += len(read)  # which may be more than there was a moment ago
        data = self._rest + read
        *lines, self._rest = re.split(rb"[\r\n]+", data)
        self._rest = self._rest[-_CHUNK:]
        said = [self._take(line.decode(errors="replace")) for line in lines]
        return True in said

    def _take(self, line: str) -> bool:
        if match := GENERAL.match(line):
            said = match["fraction"]
            self.fraction = None if said == "-" else min(1.0, float(said))
            self.message = redact(clean(match["message"] or ""))
            return True
        if self._pattern is None or not (match := self._pattern.search(line)):
            return False
        groups = match.groupdict()
        if (percent := groups.get("fraction")) is not None:
            try:
                self.fraction = min(1.0, max(0.0, float(percent) / 100))
            except ValueError:
                return False
        if (words := groups.get("message")) is not None:
            self.message = redact(clean(words))
        return True
