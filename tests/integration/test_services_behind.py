"""A deployment with a server behind the one that people ask, with real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.services.model import ServiceState
from console.services.store import ServiceStore
from tests.integration.test_services import live, settings, spec, store, values

__all__ = ["settings", "store"]
BOTH = frozenset({"vllm", "triton"})

pytestmark = pytest.mark.integration


@pytest.fixture
def pair(store: ServiceStore, tmp_path: Path) -> tuple[str, str]:
    """The server behind, and the one in front, which was started after it."""
    given = values(tmp_path)
    behind = store.start(spec(name="vllm"), given, "facts", beside=BOTH)
    live(store, behind)
    front = store.start(spec(), given, "facts", beside=BOTH)
    live(store, front)
    return behind, front


def states(store: ServiceStore, *ids: str) -> list[ServiceState]:
    return [store.view(one).state for one in ids]


def test_the_name_stands_for_the_one_in_front(store: ServiceStore, pair: tuple[str, str]) -> None:
    assert store.view("facts").id == pair[1]


def test_both_are_adopted_by_the_next_start(
    store: ServiceStore, pair: tuple[str, str], tmp_path: Path
) -> None:
    for one in pair:
        store.mark_ready(one)
    given = values(tmp_path)
    assert store.start(spec(name="vllm"), given, "facts", beside=BOTH) == pair[0]
    assert store.start(spec(), given, "facts", beside=BOTH) == pair[1]


def test_a_changed_one_is_replaced_and_the_other_stays(
    store: ServiceStore, pair: tuple[str, str], tmp_path: Path
) -> None:
    changed = spec(name="vllm", stop_timeout=4.0)
    new = store.start(changed, values(tmp_path), "facts", beside=BOTH)
    assert new not in pair
    assert states(store, *pair)[0] is ServiceState.STOPPED
    assert states(store, *pair)[1] in (ServiceState.STARTING, ServiceState.RUNNING)


def test_a_plan_with_one_server_leaves_none_behind(
    store: ServiceStore, pair: tuple[str, str], tmp_path: Path
) -> None:
    store.start(spec(), values(tmp_path), "facts", beside=frozenset({"triton"}))
    assert states(store, pair[0]) == [ServiceState.STOPPED]


@pytest.mark.parametrize("by_name", [True, False])
def test_the_one_behind_ends_with_the_one_in_front(
    store: ServiceStore, pair: tuple[str, str], by_name: bool
) -> None:
    ended = store.stop("facts" if by_name else pair[1])
    assert ended.id == pair[1]
    assert states(store, *pair) == [ServiceState.STOPPED] * 2


def test_the_one_behind_can_be_stopped_alone(store: ServiceStore, pair: tuple[str, str]) -> None:
    store.stop(pair[0])
    assert states(store, pair[0]) == [ServiceState.STOPPED]
    assert states(store, pair[1])[0] in (ServiceState.STARTING, ServiceState.RUNNING)
