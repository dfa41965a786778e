"""`Telemetry`: the figures of this machine for the whole application, each as often as it is cheap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from console.telemetry.reading import Reading

INTERVALS = (0.25, 10.0)
"""Seconds between two fast looks: least and most."""


class Telemetry:
    """One object an application. `reading` never waits for a driver.

    `owners` answers pid to run or service id for the root processes of ours; `folders` answers the
    folders whose disks matter. Both are called from threads of this object every few seconds.
    """

    def __init__(
        self,
        interval: float = 1.0,
        owners: Callable[[], Mapping[int, str]] = dict,
        folders: Callable[[], Iterable[Path]] = tuple,
    ) -> None:
        self.interval = interval
        self._owners = owners
        self._folders = folders

    def start(self) -> None:
        """Begin to sample on threads of its own; again after `close` too."""
        raise NotImplementedError

    def close(self) -> None:
        """End the threads. `reading` then answers the last figures."""
        raise NotImplementedError

    def reading(self) -> Reading:
        """The newest figures of every class, put together (some microseconds)."""
        raise NotImplementedError

    def wait(self, since: Reading | None = None, timeout: float = 10.0) -> Reading | None:
        """Block until a reading newer than `since` is there; None after `timeout` or `close`."""
        raise NotImplementedError

    def survey(self, seconds: float = 0.2) -> Reading:
        """One whole reading without threads, rates over `seconds`: for a command that asks once.

        Blocks for `seconds` and 50 ms a GPU.
        """
        raise NotImplementedError
