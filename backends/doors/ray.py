"""What the Ray Serve route takes."""

from __future__ import annotations

from typing import ClassVar

from backends.doors.language import InFrameworkDoor


class RayServeDoor(InFrameworkDoor):
    """What PyTorch runs, on a cluster."""

    name: ClassVar[str] = "ray-serve"
    title: ClassVar[str] = "Ray Serve: language models on a cluster of machines"
    runs: ClassVar[str] = "Ray Serve"
