"""What several test folders share: the real managed environments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from backends.environments import environment
from console import settings
from console.runtimes.environments import Environments


def managed(name: str) -> Path:
    """The folder of the managed environment `name` (``nemo``, ``embedded``), made when it is not
    there by the console's own means, in the operator's cache folder: later runs find it.

    ``TRITONDECK_TEST_NEMO`` and ``TRITONDECK_TEST_EMBEDDED`` name existing ones instead.
    """
    given = os.environ.get(f"TRITONDECK_TEST_{name.upper()}")
    spec = environment(name)
    if given:
        spec = spec.model_copy(update={"existing": given})
    environments = Environments(settings.load(cache_environ()))
    if not given and not environments.ready(spec):
        folder = environments.folder(spec)
        creation = environments.creation(spec, folder.parent / f".{folder.name}.job.json")
        print(f"\ncreating the environment {name} in {folder}", file=sys.stderr)
        done = subprocess.run(
            creation.argv,
            env=creation.env,
            cwd=creation.cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:]
    why = environments.why_not(spec)
    assert not why, f"the environment {name}: {why}"
    return environments.folder(spec)


def cache_environ() -> dict[str, str]:
    """This process's environment as `settings.load` takes it, without a test's TRITONDECK_HOME:
    gigabytes are shared between tests, state never is."""
    return {k: v for k, v in os.environ.items() if k != "TRITONDECK_HOME"}
