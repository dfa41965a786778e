"""The script as it is shown: what runs, without the files that it carries."""

from __future__ import annotations

from screens.widgets.textview import fold

SCRIPT = """set -eu
cat > worker.py <<'END'
import os
print(os.getcwd())
END
python3 worker.py
"""


def test_a_here_document_is_one_line_and_the_commands_stay() -> None:
    assert fold(SCRIPT).splitlines() == [
        "set -eu",
        "cat > worker.py <<'END'  … 2 lines",
        "python3 worker.py",
    ]


def test_a_script_without_here_documents_is_unchanged() -> None:
    assert fold("a\nb # << not one\n") == "a\nb # << not one\n"
