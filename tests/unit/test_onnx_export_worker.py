"""The export worker's own guards: archives, versions, verdicts, publishing (no NeMo needed)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import sys
import tarfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

WORKERS = Path(__file__).parents[2] / "backends" / "workers"


sys.path.insert(0, str(WORKERS))  # as Python does for the script that it runs


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"worker_{name}", WORKERS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


worker = load("nemo_to_onnx")
sound = worker.load_sources(WORKERS.parent / "models" / "speech")["sound"]
CONFIG = b"target: nemo.collections.asr.models.EncDecCTCModelBPE\n"


def archive(path: Path, *members: tuple[str, bytes] | tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


GOOD = (("./model_config.yaml", CONFIG), ("./model_weights.ckpt", b"weights"))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_ordinary_archive_gives_its_configuration(tmp_path, mode):
    found = worker.check_archive(archive(tmp_path / "a.nemo", *GOOD, mode=mode))
    assert found["target"] == "nemo.collections.asr.models.EncDecCTCModelBPE"


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ((*GOOD, ("model_config.yaml", b"target: os.system\n")), "two members"),
        ((*GOOD, ("../../escape.txt", b"x")), "unsafe member name"),
        ((*GOOD, ("/etc/cron.d/x", b"x")), "unsafe member name"),
        ((*GOOD, special("./link", tarfile.SYMTYPE, "/etc/passwd")), "link or device"),
        ((*GOOD, special("./hard", tarfile.LNKTYPE, "./model_weights.ckpt")), "link or device"),
        ((*GOOD, special("./pipe", tarfile.FIFOTYPE)), "link or device"),
        ((("./model_config.yaml", b"target: os.system\n"), GOOD[1]), "no class of nemo"),
        ((("./model_config.yaml", b"- a list\n"), GOOD[1]), "no class of nemo"),
        ((("./model_config.yaml", b"target: x\n" + b"#" * (5 << 20)), GOOD[1]), "bytes"),
        ((GOOD[0],), "lacks"),
        ((GOOD[1],), "lacks"),
    ],
)
def test_an_archive_that_could_deceive_the_loader_is_refused(tmp_path, members, words):
    with pytest.raises(worker.Refused, match=words):
        worker.check_archive(archive(tmp_path / "a.nemo", *members))


def test_a_truncated_download_is_refused_in_words(tmp_path):
    whole = archive(tmp_path / "a.nemo", GOOD[0], (GOOD[1][0], b"w" * 100_000))
    whole.write_bytes(whole.read_bytes()[:20_000])
    with pytest.raises(worker.Refused, match="download it again"):
        worker.check_archive(whole)


def test_a_page_saved_in_place_of_the_file_is_refused(tmp_path):
    (tmp_path / "a.nemo").write_text("<html>404</html>")
    with pytest.raises(worker.Refused, match="not a whole"):
        worker.check_archive(tmp_path / "a.nemo")


def test_a_nemo_that_unpickles_weights_is_refused(monkeypatch):
    versions = {"nemo_toolkit": "2.6.0rc0"}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: versions.get(name, "1.0"))
    with pytest.raises(worker.Refused, match=r"2\.6\.2 or newer"):
        worker.check_versions()
    versions["nemo_toolkit"] = "2.6.2"
    assert worker.check_versions()["nemo_toolkit"] == "2.6.2"


FIGURES = {
    "max_abs_diff": 1e-6,
    "decisions_equal": True,
    "vocabulary_equal": True,
    "vocabulary_different": [],
    "text_equal": True,
    "texts_different": [],
}


def test_a_graph_within_tolerance_is_accepted():
    worker.judge(FIGURES, 1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_abs_diff": 2e-4}, "differs from PyTorch by 0.0002"),
        ({"max_abs_diff": float("nan")}, "differs from PyTorch by nan"),
        ({"decisions_equal": False}, "decide differently"),
        (
            {"vocabulary_equal": False, "vocabulary_different": [[[1], "a", "b"]]},
            "'a' with our joiner",
        ),
        ({"text_equal": False, "texts_different": [["one", "two"]]}, "reads 'one', NeMo 'two'"),
    ],
)
def test_any_difference_stops_the_export_and_is_named(changes, words):
    with pytest.raises(worker.Refused, match=words):
        worker.judge(FIGURES | changes, 1e-4)


def test_publishing_replaces_what_was_there_and_removes_a_stale_sidecar(tmp_path):
    place = tmp_path / "model" / "1"
    place.mkdir(parents=True)
    (place / "model.onnx").write_text("old")
    (place / "model.onnx.data").write_text("stale")
    (tmp_path / "new").write_text("new")
    worker.publish([(tmp_path / "new", place / "model.onnx")], [place / "model.onnx.data"])
    assert {p.name: p.read_text() for p in place.iterdir()} == {"model.onnx": "new"}


def test_a_report_is_whole_and_private(tmp_path):
    path = tmp_path / "export" / "report.json"
    worker.write_json(path, {"text": "⁇"})
    assert json.loads(path.read_text()) == {"text": "⁇"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["report.json"]


def sound_file(path: Path, seconds: float) -> str:
    samples = np.random.default_rng(3).uniform(-1, 1, int(seconds * 8000))
    worker.write_wav(path, samples, 8000)
    return str(path)


def test_a_long_sound_is_compared_only_as_far_as_the_graph_takes(tmp_path):
    *alone, trio = worker.sounds([sound_file(tmp_path / "a.wav", 20)], sound, 16000, 12.5)
    assert [[len(row) for row in batch] for batch in alone] == [[200_000]]
    assert [len(row) for row in trio] == [200_000, 140_000, 80_000]


def test_without_a_sound_the_comparison_makes_its_own():
    first, trio = worker.sounds([], sound, 16000, 40)
    assert len(first[0]) == 32_000 and len(trio) == 3
    assert worker.sounds([], sound, 16000, 40)[0][0].tolist() == first[0].tolist()


def test_a_sound_that_cannot_be_read_is_refused_by_name(tmp_path):
    (tmp_path / "a.wav").write_text("no sound")
    with pytest.raises(worker.Refused, match=r"a\.wav: WAV holds no RIFF"):
        worker.sounds([str(tmp_path / "a.wav")], sound, 16000, 40)


@pytest.mark.parametrize("name", ["nemo_to_onnx", "onnx_to_repository", "towers_to_onnx"])
def test_a_full_disk_is_told_in_words(tmp_path, monkeypatch, capsys, name):
    made, folder = load(name), tmp_path / "1"

    def full(*given):
        raise OSError(28, "No space left on device", "model.onnx")

    monkeypatch.setattr(made, "run", full)
    monkeypatch.setattr(
        made, "arguments", lambda argv: SimpleNamespace(into=folder, graph_folder=folder)
    )
    assert made.main([]) == 1
    assert "[tritondeck] error: [Errno 28] No space left on device" in capsys.readouterr().err
    assert not list(tmp_path.glob("1/.*"))


def test_calibration_data_that_was_cut_off_is_refused(tmp_path):
    made, file = load("modelopt_precision"), tmp_path / "calibration.npz"
    np.savez(file, x=np.ones((8, 4), np.float32))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(made.Refused, match="cannot read the calibration data"):
        made.calibration(SimpleNamespace(calibration=file), [{"name": "x"}])


@pytest.mark.parametrize(
    "name",
    ["nemo_to_onnx", "nemo_archive", "nemo_model", "nemo_compare", "onnx_to_repository"],
)
def test_a_worker_is_imported_without_any_package(name):
    """Module level imports are the standard library's: a missing package is told in words later."""
    source = (WORKERS / f"{name}.py").read_text()
    compile(source, name, "exec")
    top = [line for line in source.splitlines() if line.startswith(("import ", "from "))]
    foreign = ("torch", "nemo", "numpy", "onnx", "yaml", "console", "backends")
    assert not [line for line in top if line.split()[1].split(".")[0] in foreign]
