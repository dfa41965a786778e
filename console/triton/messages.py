"""Triton's configuration messages without the client that they come with.

`import tritonclient.grpc` loads gRPC and NumPy: 0.3 s and 26 MB for a file of generated messages.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

_NAME = "tritonclient.grpc.model_config_pb2"
_lock = Lock()


def model_config() -> ModuleType:
    """The module `tritonclient.grpc.model_config_pb2`, under that name and loaded once.

    Raises ImportError where there is no tritonclient.
    """
    with _lock:
        if _NAME not in sys.modules:
            sys.modules[_NAME] = _loaded()
    return sys.modules[_NAME]


def _loaded() -> ModuleType:
    package = find_spec("tritonclient")
    if package is None or not package.submodule_search_locations:
        raise ImportError("tritonclient is not installed", name="tritonclient")
    file = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = spec_from_file_location(_NAME, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {file}", name=_NAME)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
