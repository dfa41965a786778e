"""What the monitor watches: every server that may answer, and whose process is whose."""

from __future__ import annotations

from pathlib import Path

import pytest

from console import settings
from console.desk.live import Known
from console.facts import Endpoint
from console.services.model import ServiceState, ServiceView
from console.services.store import ServiceStore


@pytest.mark.parametrize("state", ["starting", "running", "restarting", "stopping"])
def test_a_server_is_watched_as_long_as_it_may_answer_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    endpoint = Endpoint(url="http://127.0.0.1:9")
    served = ServiceView(
        "scorer-1", "scorer", "embedded", ServiceState(state),
        tmp_path, tmp_path, endpoint, tmp_path, (),
    )  # fmt: skip
    monkeypatch.setattr(ServiceStore, "views", lambda self: (served,))
    known = Known(settings.load({"TRITONDECK_HOME": str(tmp_path)}), lambda mark: None)
    known.look()
    assert [target.name for target in known.targets] == ["scorer-1"]
