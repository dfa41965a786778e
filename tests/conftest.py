"""What every test shares."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from console.desk import plan, tools
from tests import nvml

# A property is right or wrong; how long one example takes depends on who else uses the machine.
settings.register_profile("tritondeck", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tritondeck")


def pytest_configure() -> None:
    # A suite that a shell began in the background ignores these, and so would what it starts.
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _asked_anew() -> None:
    """What a server, an engine or a file told another test a moment ago is no answer to this one."""
    for kept in (tools._SERVERS, plan._READ):
        kept._told.clear()


@pytest.fixture(scope="session")
def fakenvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the pretend driver's ``libnvidia-ml.so.1``."""
    return nvml.build(tmp_path_factory.mktemp("fakenvml"))


def untested(config: pytest.Config) -> list[str]:
    """Tests that were skipped or may fail, a whole module among them; no failure is told of them."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    stats = reporter.stats if reporter else {}
    return [
        report.nodeid
        for outcome in ("skipped", "xfailed", "xpassed")
        for report in stats.get(outcome, [])
    ]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skipped test has tested nothing: the session fails."""
    if untested(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for test in untested(config):
        terminalreporter.write_line(f"FAILED {test} - a test must not be skipped")
