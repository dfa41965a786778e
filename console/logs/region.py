"""`Region`: a part of a log whose rows are known by number, for all lines or those of a level."""

from __future__ import annotations

from collections.abc import Sequence

from console.logs.counts import Counts
from console.logs.file import BLOCK, LINE_BYTES, LogFile, Row
from console.logs.levels import Level, Tally, level


class Region:
    """Rows around the block `anchor`: `back` and `forward` make more of the file known.

    With a `least` level only lines of that level and above are rows.
    """

    def __init__(self, file: LogFile, anchor: int, least: Level = Level.VERBOSE) -> None:
        self.file = file
        self.least = least
        self.counts = Counts(anchor)

    @property
    def whole(self) -> bool:
        """Whether all lines before are known, so that line numbers are settled."""
        return self.counts.first == 0

    def back(self, blocks: int) -> None:
        """Count the lines of blocks before the known ones."""
        first = self.counts.first
        self.counts.prepend(
            self.file.count(b) for b in range(first - 1, max(-1, first - 1 - blocks), -1)
        )

    def forward(self, blocks: int) -> bool:
        """Count the lines of the next blocks; True when the end of the file is reached."""
        last = self.counts.last
        end = min(self.file.blocks, last + blocks)
        if last < end:
            self.counts.set_from(last, (self.file.count(b) for b in range(last, end)))
        return end >= self.file.blocks

    def recount(self, size: int) -> None:
        """Count anew what a file of `size` bytes had not settled: its last line may have grown."""
        block = max(self.counts.anchor, min(self.counts.last, unsettled(size)))
        self.counts.set_from(block, (self.file.count(b) for b in range(block, self.counts.last)))

    def take(self, first: int, tallies: Sequence[Tally], *, backwards: bool) -> None:
        """Counts of a level from tallies of blocks: before the known ones, or from `first` on."""
        if backwards:
            self.counts.prepend(self._shown(first - n, t) for n, t in enumerate(tallies))
        else:
            self.counts.set_from(first, [self._shown(first + n, t) for n, t in enumerate(tallies)])

    def _shown(self, block: int, tally: Tally) -> int:
        lines = self.file.count(block) if self.least is Level.INFO else 0
        return tally.shown(lines, self.least)

    def rows(self, first: int, count: int) -> list[Row]:
        """Up to `count` rows from number `first` on, as far as they are known."""
        first = max(first, self.counts.start)
        count = min(count, self.counts.end - first)
        if count <= 0:
            return []
        block, place = self.counts.locate(first)
        found: list[Row] = []
        while len(found) < count and block < self.counts.last:
            found += self._in(block)[place:]
            block, place = block + 1, 0
        return found[:count]

    def _in(self, block: int) -> list[Row]:
        rows = self.file.lines(block)
        if self.least is Level.VERBOSE:
            return rows
        return [row for row in rows if level(row.data) >= self.least]

    def covers(self, offset: int) -> bool:
        """Whether the row of a byte is known."""
        return self.counts.first <= offset // BLOCK < self.counts.last

    def row_of(self, offset: int) -> int:
        """Number of the row that begins at `offset`, or of the next one."""
        block = offset // BLOCK
        before = sum(1 for row in self._in(block) if row.offset < offset)
        return self.counts.at(block) + before


def unsettled(size: int) -> int:
    """The first block whose lines may change while a file of `size` bytes grows."""
    return max(0, size - LINE_BYTES - 1) // BLOCK
