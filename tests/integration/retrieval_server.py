"""A PostgreSQL that somebody else runs: on TCP, with a password. In the environment `retrieval`.

``FOLDER ENVIRONMENT PORT PASSWORD``; runs until it is told to end.
"""

from __future__ import annotations

import sys
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "backends" / "models" / "retrieval"


def main() -> None:
    sys.path.insert(0, str(SOURCES))
    import private

    folder, environment, port, password = Path(sys.argv[1]), *sys.argv[2:5]
    programs, data, file = private.binaries(environment), folder / "data", folder / "password"
    file.write_text(password)
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", "keeper", f"--pwfile={file}"]
    initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    assert private._run(initdb, cwd=str(folder)).wait() == 0
    argv = [str(programs / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", port, "-k", ""]
    # It ends with this process.
    sys.exit(private._run(argv, cwd=str(data)).wait())


if __name__ == "__main__":
    main()
