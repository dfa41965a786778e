"""This machine, its samples, disks and ports: real ones."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from console.telemetry import ports
from console.telemetry.disk import disk_space
from console.telemetry.host import host
from console.telemetry.memory import Memory, memory
from console.telemetry.ports import PortHolder, holder, holders
from console.telemetry.sampler import Sampler, tree_rss


def test_host_facts_agree_with_the_system() -> None:
    facts = host()
    assert facts.hostname == os.uname().nodename
    assert facts.machine == os.uname().machine
    assert facts.memory_total == memory().total
    assert 0 < facts.memory_available <= facts.memory_total
    assert facts.cpus == len(os.sched_getaffinity(0))
    assert facts.python == ".".join(map(str, sys.version_info[:3]))
    assert facts.glibc is None or facts.glibc > (2, 0)
    assert facts.shm_free <= facts.shm_total
    assert bool(facts.gpus) or bool(facts.gpu_note)


def control_files(folder: Path, limit: str, used: int, cache: int) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\nactive_file 7\n")
    return folder


def test_a_container_s_limit_counts_and_its_page_cache_does_not(tmp_path: Path) -> None:
    found = memory(control_files(tmp_path, str(100 << 20), 60 << 20, 20 << 20))
    assert found == Memory(100 << 20, 60 << 20)


@pytest.mark.parametrize("limit", ["max", str(1 << 60)])
def test_no_limit_is_the_machine_s_memory(tmp_path: Path, limit: str) -> None:
    found = memory(control_files(tmp_path, limit, 1, 0))
    assert found.total == psutil.virtual_memory().total


def test_without_control_files_it_is_the_machine_s_memory(tmp_path: Path) -> None:
    assert memory(tmp_path).total == psutil.virtual_memory().total


def test_a_sample_counts_load_since_the_one_before() -> None:
    sampler = Sampler()
    before = os.times().user
    while os.times().user - before < 0.1:
        sum(range(1000))
    sample = sampler.sample()
    assert 0 < sample.cpu_percent <= 100
    assert 0 < sample.host_used < sample.host_total
    assert sample.tree_rss is None


def test_a_tree_counts_its_children() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()  # the child is up
        alone = psutil.Process(parent.pid).memory_info().rss
        whole = tree_rss(parent.pid)
        parent.communicate(b"\n")
    assert whole is not None
    assert whole > alone
    assert tree_rss(parent.pid) is None


def test_free_space_is_that_of_the_nearest_parent(tmp_path: Path) -> None:
    space = disk_space(tmp_path / "not" / "yet")
    here = os.statvfs(tmp_path)
    assert space.total == here.f_blocks * here.f_frsize
    assert space.device == tmp_path.stat().st_dev
    assert space.writable


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_taken_port_names_its_process(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    found = holder(port)
    assert found is not None
    assert (found.port, found.pid) == (port, os.getpid())
    assert found.name == psutil.Process().name()
    assert not found.ours
    assert found.words.startswith(f"{found.name} (pid {os.getpid()})")


def test_a_process_of_ours_is_told_apart(listener: socket.socket) -> None:
    found = holder(listener.getsockname()[1], ours=[os.getpid()])
    assert found is not None
    assert found.ours


def test_a_closed_port_is_free(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    assert holder(port) is None


def test_a_listener_on_every_address_takes_the_loopback_port_too() -> None:
    with socket.create_server(("", 0)) as server:
        assert holder(server.getsockname()[1]) is not None


def test_a_port_shared_by_reuseport_is_taken() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert holder(server.getsockname()[1]) is not None


def test_a_port_that_is_bound_and_not_listening_is_taken() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        assert holder(server.getsockname()[1]) is not None


def test_port_zero_is_always_free() -> None:
    assert holders([0]) == {0: None}


def test_a_holder_that_we_may_not_see_is_another_user_s(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ordinary user sees the sockets of others without their pid."""
    real = psutil.net_connections
    monkeypatch.setattr(
        ports.psutil,
        "net_connections",
        lambda kind: [c._replace(pid=None) for c in real(kind)],
    )
    found = holder(listener.getsockname()[1])
    assert found == PortHolder(listener.getsockname()[1])
    assert found.words == "a process of another user"


def test_an_address_that_is_not_here_is_a_reason() -> None:
    found = holder(8000, "192.0.2.1")
    assert found is not None
    assert found.words == "no interface of this host has that address"
