"""`Counts`: how many rows begin in each block of a file, known from one place outwards."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable


class Counts:
    """Rows by block, growing in both directions from the block `anchor`.

    Rows are numbered from the anchor: 0 is the first row that begins in it, those before are
    negative. A number therefore never changes, however much of the file becomes known. Eight bytes
    a block are held: 2 GB of 64 KiB blocks cost 256 kB.
    """

    def __init__(self, anchor: int) -> None:
        self.anchor = anchor
        self._before: array[int] = array("Q")
        self._after: array[int] = array("Q")

    @property
    def first(self) -> int:
        """The first block that is known."""
        return self.anchor - len(self._before)

    @property
    def last(self) -> int:
        """The block after the last one that is known."""
        return self.anchor + len(self._after)

    @property
    def start(self) -> int:
        """Number of the first known row; 0 or less."""
        return -self._before[-1] if self._before else 0

    @property
    def end(self) -> int:
        """The number after the last known row."""
        return self._after[-1] if self._after else 0

    def prepend(self, counts: Iterable[int]) -> None:
        """Counts of the blocks before the first known one, the nearest first."""
        total = -self.start
        for count in counts:
            total += count
            self._before.append(total)

    def set_from(self, block: int, counts: Iterable[int]) -> None:
        """Counts of `block` and those after it, in place of what was known of them."""
        del self._after[max(0, block - self.anchor) :]
        total = self.end
        for count in counts:
            total += count
            self._after.append(total)

    def at(self, block: int) -> int:
        """Number of the first row that begins in a known block or after it."""
        ahead = block - self.anchor
        if ahead == 0:
            return 0
        return self._after[ahead - 1] if ahead > 0 else -self._before[-ahead - 1]

    def locate(self, row: int) -> tuple[int, int]:
        """The block that a known row begins in, and its place among that block's rows."""
        if row >= 0:
            block = self.anchor + bisect_right(self._after, row)
        else:
            block = self.anchor - 1 - bisect_left(self._before, -row)
        return block, row - self.at(block)
