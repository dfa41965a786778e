"""Packages of another environment for a python model: the server's own has no Pillow, tokenizer or driver."""

import sys
from pathlib import Path


def use(environment):
    """Let this process import what is installed in `environment`; an empty name changes nothing.

    It comes first on the path: NumPy is loaded already and is the same release there, and a driver
    must not meet an older protobuf of the server's. Raises `RuntimeError` for another Python's.
    """
    if not environment:
        return
    python = "python%d.%d" % sys.version_info[:2]
    folder = Path(environment, "lib", python, "site-packages")
    if not folder.is_dir():
        raise RuntimeError(
            "%s holds no packages for %s, which runs the server's models" % (environment, python)
        )
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
