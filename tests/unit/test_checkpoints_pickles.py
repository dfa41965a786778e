"""What a pickle would do is found from its opcodes; nothing is ever loaded."""

from __future__ import annotations

import io
import pickle
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import checkpoint_files as files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.checkpoints import pickles
from console.checkpoints.model import Checkpoint, Severity
from console.checkpoints.read import read


def scanned(content: bytes) -> pickles.Scan:
    return pickles.scan_pickle(content, time.thread_time() + 10)


def severities(scan: pickles.Scan) -> dict[str, Severity]:
    return {r.code: r.severity for r in pickles.risks(scan)}


class Runs:
    """Pickles to a call of `os.system`."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, (self._command,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_command_is_found_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    tripwire = tmp_path / "ran"
    content = pickle.dumps({"w": Runs(f"touch {tripwire}")}, protocol)
    scan = scanned(content)
    assert any(name.endswith(" system") for name in scan.unsafe)
    assert severities(scan)["pickle-code"] is Severity.DANGER
    assert not tripwire.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_are_safe(protocol: int) -> None:
    scan = scanned(pickle.dumps(OrderedDict(a=[1, "x", b"y", {1.5}]), protocol))
    assert scan.unsafe == ()
    assert severities(scan) == {}


def test_a_name_from_the_stack_is_not_believed() -> None:
    """Strings of a harmless name pushed and popped again, over those of a harmful one."""
    push = b"\x8c\x02os\x8c\x06system"
    decoy = b"\x8c\x0bcollections\x8c\x0bOrderedDict"
    content = b"\x80\x04" + push + decoy + b"00" + b"\x93" + b"."
    assert severities(scanned(content)) == {"pickle-code": Severity.DANGER}


def test_a_name_from_the_memo_is_followed() -> None:
    content = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940" + b"0" + b"h\x00h\x01\x93."
    assert scanned(content).unsafe == ("os system",)


def test_other_classes_are_a_warning() -> None:
    scan = scanned(b"\x80\x02cacme.training\nState\n)\x81.")
    assert severities(scan) == {"pickle-classes": Severity.WARN}


def test_names_are_cleaned_in_the_risk() -> None:
    scan = scanned(b"\x80\x04\x8c\x05\x1b]0;x\x8c\x03\x1b[m\x93.")
    assert all("\x1b" not in r.summary for r in pickles.risks(scan))


def test_the_allow_list_matches_whole_names() -> None:
    for name in ("torch._utils\nos.system", "torch.storage\n_load_from_bytes", "builtins\neval"):
        assert scanned(f"\x80\x02c{name}\n.".encode("latin-1")).unsafe


def test_the_legacy_form_of_several_pickles_is_walked_to_its_end() -> None:
    values = [pickles.MAGIC, 1001, {}, Runs("true"), []]
    parts = [pickle.dumps(value, 2) for value in values]
    scan = scanned(b"".join([*parts, b"raw tensor bytes"]))
    assert scan.unsafe
    assert (scan.pickles, scan.whole) == (5, True)


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_legacy_file_that_is_padded_over_the_cap_is_unseen(protocol: int) -> None:
    """The harmful pickle is the fourth, behind more bytes than are scanned."""
    parts = [pickle.dumps(v, protocol) for v in (pickles.MAGIC, 1001, {})]
    content = b"".join(parts) + b"\x80\x02" + pickle.dumps("x" * 50_000, 2)[2:-1]
    assert severities(scanned(content)) == {"pickle-unseen": Severity.WARN}


def test_damage_is_said_and_not_passed_over() -> None:
    assert severities(scanned(b"\x80\x02}\xff\xff")) == {"pickle-unseen": Severity.WARN}


def test_the_time_is_limited() -> None:
    content = b"\x80\x02" + b"N0" * 300_000 + b"N."
    assert pickles.scan_pickle(content, time.thread_time() + 600).whole
    assert not pickles.scan_pickle(content, time.thread_time() + 0.05).whole


def test_a_small_pickle_is_walked_when_the_time_is_over_already() -> None:
    scan = pickles.scan_pickle(pickle.dumps(Runs("true"), 2), time.thread_time() - 1)
    assert (scan.whole, bool(scan.unsafe)) == (True, True)


def test_waiting_for_a_turn_on_a_busy_machine_takes_nothing_from_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pickles, "SECONDS", 0.1)
    until = pickles.deadline()
    time.sleep(0.15)  # what a wait for the processor looks like: the clock goes on, the thread not
    assert pickles.scan_pickle(b"\x80\x02" + b"N0" * 2000 + b"N.", until).whole


def bin_folder(tmp_path: Path, content: bytes) -> Checkpoint:
    folder = files.write_hugging_face(tmp_path / "hf")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    return read(folder)


def test_a_torch_file_gives_dtype_and_parameters(tmp_path: Path) -> None:
    checkpoint = bin_folder(tmp_path, files.torch_zip(tensors=4096))
    assert (checkpoint.dtype, checkpoint.parameters) == ("bf16", 2048)
    assert {r.code for r in checkpoint.risks} >= {"pickle-weights"}
    assert "pickle-code" not in {r.code for r in checkpoint.risks}


def test_a_command_in_a_torch_file_is_a_danger(tmp_path: Path) -> None:
    tripwire = tmp_path / "ran"
    content = files.torch_zip(pickle.dumps(Runs(f"touch {tripwire}"), 2))
    codes = {r.code: r.severity for r in bin_folder(tmp_path, content).risks}
    assert codes["pickle-code"] is Severity.DANGER
    assert not tripwire.exists()


def test_a_command_inside_a_nemo_archive_is_a_danger(tmp_path: Path) -> None:
    path = tmp_path / "m.nemo"
    weights = files.torch_zip(pickle.dumps(Runs("true"), 2))
    path.write_bytes(files.nemo_bytes(weights=weights))
    assert "pickle-code" in {r.code for r in read(path).risks}


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + bytes(300 << 20))
    before = time.thread_time()
    checkpoint = bin_folder(tmp_path, out.getvalue())
    assert time.thread_time() - before < 3
    assert "pickle-unseen" in {r.code for r in checkpoint.risks}


def test_a_script_archive_is_said_to_carry_code(tmp_path: Path) -> None:
    out = io.BytesIO(files.torch_zip())
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("archive/code/__torch__.py", b"def forward(): ...")
    codes = {r.code for r in bin_folder(tmp_path, out.getvalue()).risks}
    assert "torchscript" in codes


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"PK\x03\x04"]))
def test_any_bytes_end_in_a_scan(content: bytes, start: bytes) -> None:
    source = _Bytes(start + content)
    pickles.scan(source, 0, source.size, pickles.deadline())


class _Bytes:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size: int = len(content)

    def read(self, offset: int, count: int) -> bytes:
        return self._content[offset : offset + count]
