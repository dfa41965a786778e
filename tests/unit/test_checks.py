"""Verdicts as pure functions of what was measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from console.facts import Gpu, Host, Level, Verdict
from console.planning.checks import SpaceNeed, checks
from console.planning.deployment import Deployment
from console.telemetry.disk import DiskSpace
from console.telemetry.ports import PortHolder

GIB = 1 << 30
HOST = Host(
    hostname="box",
    system="Debian GNU/Linux 12 (bookworm)",
    kernel="6.1",
    machine="x86_64",
    glibc=(2, 36),
    cpus=8,
    memory_total=64 * GIB,
    memory_available=32 * GIB,
    shm_total=32 * GIB,
    shm_free=32 * GIB,
    python="3.11.7",
)
FREE = {8000: None, 8001: None, 8002: None}


@dataclass(frozen=True)
class Memory:
    host_build: int = 0
    host_serve: int = 0
    gpu_serve: tuple[int, ...] = ()
    source: str = "measured"


def deployment(**server: Any) -> Deployment:
    return Deployment.model_validate(
        {"name": "d", "backend": "onnx", "checkpoints": {"model": "/m"}, "server": server}
    )


def verdict(
    name: str, host: Host = HOST, server: dict[str, Any] | None = None, **what: Any
) -> Verdict:
    what.setdefault("holders", FREE)
    found = checks(deployment(**(server or {})), host, **what)
    (match,) = [v for v in found if v.check == name]
    if match.level in {Level.FAIL, Level.WARN}:
        assert match.fix, match
    return match


def test_a_healthy_host_passes_everything() -> None:
    found = checks(deployment(), HOST, holders=FREE, memory=Memory(GIB, GIB))
    assert {v.level for v in found} == {Level.PASS}
    assert len({v.check for v in found}) == len(found)


def test_a_taken_port_names_its_holder_and_the_key_to_change() -> None:
    holders = {**FREE, 8001: PortHolder(8001, 4711, "tritonserver", "ann")}
    found = verdict("port-grpc", holders=holders)
    assert found.level is Level.FAIL
    assert found.summary == "grpc port 8001 is taken by tritonserver (pid 4711) of ann"
    assert (found.option, found.figure) == ("server.grpc_port", "8001")
    assert verdict("port-http", holders=holders).level is Level.PASS


def test_a_server_of_ours_may_be_stopped() -> None:
    holders = {**FREE, 8000: PortHolder(8000, 1, "tritonserver", "me", ours=True)}
    assert "tritondeck stop" in verdict("port-http", holders=holders).fix


def test_a_holder_nobody_sees_still_fails() -> None:
    found = verdict("port-http", holders={**FREE, 8000: PortHolder(8000)})
    assert found.level is Level.FAIL
    assert "a process of another user" in found.summary


def test_a_port_nobody_looked_at_is_unknown() -> None:
    assert verdict("port-http", holders={}).level is Level.UNKNOWN


def test_port_zero_needs_no_look() -> None:
    assert verdict("port-http", server={"http_port": 0}, holders={}).level is Level.PASS


def test_attaching_takes_no_port_and_needs_no_platform() -> None:
    found = checks(deployment(launcher="attach"), replace(HOST, glibc=None), holders={})
    assert not {v.check for v in found} & {"port-http", "glibc", "shm", "embedded-python"}


def test_exposure_is_said_with_its_address() -> None:
    found = verdict("exposure", server={"address": "0.0.0.0", "expose": True})
    assert (found.level, found.option) == (Level.FAIL, "server.address")
    assert "0.0.0.0" in found.summary
    assert verdict("exposure").level is Level.PASS


def space(name: str, free: int, needed: int, device: int = 1, writable: bool = True) -> SpaceNeed:
    return SpaceNeed(name, DiskSpace(Path("/x") / name, free, 100 * GIB, device, writable), needed)


@pytest.mark.parametrize(
    ("free", "level"), [(1, Level.FAIL), (4, Level.FAIL), (6, Level.WARN), (7, Level.PASS)]
)
def test_disk_space_is_compared_with_the_need(free: int, level: Level) -> None:
    found = verdict("disk-state", spaces=[space("state", free * GIB, 5 * GIB)])
    assert found.level is level
    assert "5.00 GiB needed" in found.figure


def test_folders_on_one_file_system_share_its_space() -> None:
    both = [space("state", 6 * GIB, 3 * GIB), space("cache", 6 * GIB, 4 * GIB)]
    assert verdict("disk-state", spaces=both).level is Level.FAIL
    apart = [both[0], space("cache", 6 * GIB, 4 * GIB, device=2)]
    assert verdict("disk-state", spaces=apart).level is Level.PASS


def test_a_folder_that_cannot_be_written_fails() -> None:
    found = verdict("disk-state", spaces=[space("state", 9 * GIB, 1, writable=False)])
    assert found.level is Level.FAIL


@pytest.mark.parametrize(
    ("build", "serve", "level"),
    [
        (80, 1, Level.FAIL),
        (1, 40, Level.FAIL),
        (30, 1, Level.WARN),
        (20, 1, Level.PASS),
        (0, 0, Level.UNKNOWN),
    ],
)
def test_host_memory_is_the_larger_of_building_and_serving(
    build: int, serve: int, level: Level
) -> None:
    found = verdict("host-memory", memory=Memory(build * GIB, serve * GIB))
    assert found.level is level
    assert "32.0 GiB available of 64.0 GiB" in found.figure


def gpu(index: int, used: int) -> Gpu:
    return Gpu(index, f"GPU-{index}", "NVIDIA H200", 140 * GIB, used * GIB, GIB)


def test_gpu_memory_counts_the_tightest_gpu_without_its_reserve() -> None:
    host = replace(HOST, gpus=(gpu(0, 0), gpu(1, 100)))
    found = verdict("gpu-memory", host, memory=Memory(gpu_serve=(30 * GIB, 39 * GIB)))
    assert (found.level, found.figure) == (Level.WARN, "GPU 1: 39.0 GiB free, 39.0 GiB needed")
    found = verdict("gpu-memory", host, memory=Memory(gpu_serve=(30 * GIB, 40 * GIB)))
    assert found.level is Level.FAIL


def test_missing_gpus_say_why() -> None:
    host = replace(HOST, gpu_note="no NVIDIA driver on this host")
    found = verdict("gpu-memory", host, memory=Memory(gpu_serve=(GIB,)))
    assert found.level is Level.FAIL
    assert "no NVIDIA driver" in found.summary


def test_a_deployment_on_the_processor_has_no_gpu_verdict() -> None:
    assert "gpu-memory" not in {v.check for v in checks(deployment(), HOST, holders=FREE)}


@pytest.mark.parametrize(
    ("free_mib", "stubs", "level"),
    [(3, 4, Level.FAIL), (4, 4, Level.WARN), (63, 4, Level.WARN), (64, 4, Level.PASS)],
)
def test_shared_memory_is_a_mebibyte_an_instance(free_mib: int, stubs: int, level: Level) -> None:
    found = verdict("shm", replace(HOST, shm_free=free_mib << 20), stubs=stubs)
    assert found.level is level
    assert f"{stubs}.00 MiB needed for {stubs} instance(s)" in found.figure


@pytest.mark.parametrize(
    ("check", "changes", "python", "level"),
    [
        ("glibc", {"glibc": (2, 34)}, "", Level.FAIL),
        ("glibc", {"glibc": None}, "", Level.FAIL),
        ("glibc", {"glibc": (2, 35)}, "", Level.PASS),
        ("machine", {"machine": "riscv64"}, "", Level.FAIL),
        ("machine", {"machine": "aarch64"}, "", Level.PASS),
        ("embedded-python", {"python": "3.13.1"}, "", Level.FAIL),
        ("embedded-python", {"python": "3.13.1"}, "3.12.4", Level.PASS),
        ("embedded-python", {}, "3.7.9", Level.FAIL),
        ("embedded-python", {}, "what", Level.FAIL),
    ],
)
def test_the_embedded_server_s_platform(
    check: str, changes: dict[str, Any], python: str, level: Level
) -> None:
    assert verdict(check, replace(HOST, **changes), python=python).level is level


def test_a_read_only_console_fails_first() -> None:
    found = checks(deployment(), HOST, holders=FREE, readonly=True)
    assert (found[0].check, found[0].level) == ("readonly", Level.FAIL)
