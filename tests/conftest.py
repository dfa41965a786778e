"""What every test shares."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tests import nvml

# A property is right or wrong; how long one example takes depends on who else uses the machine.
settings.register_profile("tritondeck", deadline=None)
settings.load_profile("tritondeck")


@pytest.fixture(scope="session")
def fakenvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the pretend driver's ``libnvidia-ml.so.1``."""
    return nvml.build(tmp_path_factory.mktemp("fakenvml"))


def skipped_integration(config: pytest.Config) -> list[str]:
    """Tests against the real thing that were skipped, a whole module among them."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    return [
        report.nodeid
        for report in skipped
        if report.nodeid.startswith("tests/integration/") or "integration" in report.keywords
    ]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skipped integration test has tested nothing: the session fails."""
    if skipped_integration(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for test in skipped_integration(config):
        terminalreporter.write_line(f"FAILED {test} - an integration test must not be skipped")
