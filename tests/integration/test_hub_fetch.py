"""Fetching a model: the real worker with the real `huggingface_hub` against a hub of our own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from backends import hub as steps
from backends.sources import worker
from console.checkpoints.model import Format
from console.checkpoints.read import read
from console.planning.deployment import Deployment, EnvironmentChoice
from console.planning.plan import CommandStep
from console.planning.variables import expand
from console.runs.model import StepState
from console.runs.store import RunStore
from tests.integration.hub_server import COMMIT, Hub, Repository
from tests.processes import ended, settings_at
from tests.support import managed

ROOT = Path(__file__).parents[2]
WEIGHTS = bytes(range(256)) * 16_384  # 4 MiB
CONFIG = json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}).encode()
TOKEN = "hf_integrationtestsecret0123"

pytestmark = pytest.mark.integration


def safetensors() -> bytes:
    header = {"w": {"dtype": "F32", "shape": [1024, 1024], "data_offsets": [0, len(WEIGHTS)]}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + WEIGHTS


def llama(**more: object) -> Repository:
    files = {"config.json": CONFIG, "model.safetensors": safetensors(), "tokenizer.json": b"{}"}
    return Repository(files, **more)  # type: ignore[arg-type]


@dataclass
class Bench:
    """Runs the fetch step of a plan as a runner would: its worker, its argv, its environment."""

    folder: Path
    environment: Path

    @property
    def cache(self) -> Path:
        return self.folder / "home" / "hub"

    @property
    def link(self) -> Path:
        return self.folder / "fetched" / "model"

    def partial_size(self) -> int:
        """Bytes of the large file that have reached the disk (a cache names a blob by its digest)."""
        digest = hashlib.sha256(safetensors()).hexdigest()
        partial = self.cache / "models--acme--llama" / "blobs" / f"{digest}.tritondeck-partial"
        return partial.stat().st_size if partial.exists() else 0

    def argv(self, checkpoint: str) -> list[str]:
        deployment = Deployment(name="t", backend="onnx", checkpoints={"model": checkpoint})
        checkpoints = {"model": read(Path(checkpoint))}
        plan = steps.fetching(deployment, checkpoints)
        step = plan.steps[-1]
        assert isinstance(step, CommandStep)
        spec = worker("fetch_hub")
        values = {"work": str(self.folder)}
        script = Path(expand(spec.path, values))
        script.parent.mkdir(exist_ok=True)
        script.write_text(spec.text)
        words = [expand(word, values) for word in step.command.argv]
        return [str(self.environment / "bin" / words[0]), *words[1:]]

    def environ(self, hub: Hub, **more: str) -> dict[str, str]:
        return {
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "HF_HOME": str(self.folder / "home"),
            "HF_ENDPOINT": hub.url,
            "PYTHONUNBUFFERED": "1",
            **more,
        }

    def run(self, hub: Hub, checkpoint: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(checkpoint),
            env=self.environ(hub, **more),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


@pytest.fixture(scope="session")
def hub_environment() -> Path:
    return managed("hub")


@pytest.fixture
def bench(tmp_path: Path, hub_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    return Bench(tmp_path, hub_environment)


def test_a_model_is_fetched_with_progress_and_a_report(bench: Bench) -> None:
    with Hub(llama=llama()) as hub:
        done = bench.run(hub, "hub:acme/llama")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[tritondeck] progress 1.000 fetched acme/llama" in done.stdout
    report = json.loads((bench.folder / "fetched" / "model.json").read_text())
    assert report["verified"] is True
    assert (report["commit"], report["files"]) == (COMMIT, 3)
    assert (bench.link / "model.safetensors").read_bytes() == safetensors()
    assert read(bench.link).model_class == "LlamaForCausalLM"


def test_what_was_fetched_is_known_by_its_id(bench: Bench) -> None:
    assert read(Path("hub:acme/llama")).format is Format.HUB
    with Hub(llama=llama()) as hub:
        bench.run(hub, "hub:acme/llama")
    found = read(Path("hub:acme/llama"))
    assert (found.format, found.parameters) == (Format.HUGGING_FACE, 1 << 20)
    assert found.hub is not None
    assert found.hub.name == "acme/llama"


def test_a_second_fetch_transfers_no_weights(bench: Bench) -> None:
    with Hub(llama=llama()) as hub:
        bench.run(hub, "hub:acme/llama")
        hub.requests.clear()
        assert bench.run(hub, "hub:acme/llama").returncode == 0
        assert hub.large_gets() == []


def test_a_broken_connection_is_taken_up_where_it_broke(bench: Bench) -> None:
    with Hub(llama=llama()) as hub:
        hub.cut_after = 3 << 20
        done = bench.run(hub, "hub:acme/llama")
        assert done.returncode == 0, done.stdout + done.stderr
        ranges = [r[2] for r in hub.large_gets()]
    assert ranges == ["", f"bytes={3 << 20}-"]
    assert (bench.link / "model.safetensors").read_bytes() == safetensors()


def test_a_killed_fetch_goes_on_in_the_next_run(bench: Bench) -> None:
    with Hub(llama=llama()) as hub:
        hub.stall_after = 1 << 20
        process = subprocess.Popen(
            bench.argv("hub:acme/llama"),
            env=bench.environ(hub),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not (kept := bench.partial_size()):
            assert time.monotonic() < deadline, hub.requests
            time.sleep(0.02)
        process.kill()
        process.wait()
        kept = bench.partial_size()
        hub.stall_after = None
        hub.requests.clear()
        assert bench.run(hub, "hub:acme/llama").returncode == 0
        (request,) = hub.large_gets()
    assert request[2] == f"bytes={kept}-"
    assert 0 < kept <= 1 << 20
    assert (bench.link / "model.safetensors").read_bytes() == safetensors()


def test_a_wrong_checksum_is_refused_and_removed(bench: Bench) -> None:
    bad = llama(claimed={"model.safetensors": "a" * 64})
    with Hub(llama=bad) as hub:
        done = bench.run(hub, "hub:acme/llama")
    assert done.returncode == 1
    assert "model.safetensors has the wrong checksum (SHA-256)" in done.stdout
    assert not bench.link.exists()
    assert not [p for p in bench.cache.rglob("*") if p.is_file() and p.stat().st_size > 1 << 20]


def test_a_damaged_file_in_the_cache_is_refused(bench: Bench) -> None:
    with Hub(llama=llama()) as hub:
        bench.run(hub, "hub:acme/llama")
        blob = (bench.link / "model.safetensors").resolve()
        blob.write_bytes(b"x" + blob.read_bytes()[1:])
        done = bench.run(hub, "hub:acme/llama")
    assert done.returncode == 1
    assert f"remove {blob}" in done.stdout


def test_a_gated_model_says_where_to_accept_its_terms(bench: Bench) -> None:
    with Hub(llama=llama(gated=True)) as hub:
        done = bench.run(hub, "hub:acme/llama")
        assert f"acme/llama is gated: accept its terms at {hub.url}/acme/llama" in done.stdout
    assert done.returncode == 1


def test_an_unknown_model_and_revision_are_told_apart(bench: Bench) -> None:
    with Hub(llama=llama()) as hub:
        unknown = bench.run(hub, "hub:acme/nothing")
        revision = bench.run(hub, "hub:acme/llama@v9")
    assert "the hub has no model acme/nothing, or it is private" in unknown.stdout
    assert "acme/llama has no revision v9" in revision.stdout


def test_the_token_goes_to_the_hub_alone_and_is_never_printed(bench: Bench) -> None:
    with Hub(llama=llama(token=TOKEN)) as hub:
        done = bench.run(hub, "hub:acme/llama", HF_TOKEN=TOKEN)
        assert done.returncode == 0, done.stdout
        assert all(r[3] == "" for r in hub.large_gets())
    assert TOKEN not in done.stdout + done.stderr


def test_the_token_of_hf_auth_login_is_found(bench: Bench) -> None:
    (bench.folder / "home").mkdir()
    (bench.folder / "home" / "token").write_text(TOKEN)
    with Hub(llama=llama(token=TOKEN)) as hub:
        assert bench.run(hub, "hub:acme/llama").returncode == 0


def test_pickles_stay_away_where_there_are_safetensors(bench: Bench) -> None:
    repository = llama()
    repository.files["pytorch_model.bin"] = b"\x80\x02" * 2048
    repository.files["original/consolidated.00.pth"] = b"\x80\x02" * 2048
    with Hub(llama=repository) as hub:
        done = bench.run(hub, "hub:acme/llama")
    assert "2 file(s) of other forms are left out" in done.stdout
    assert {p.name for p in bench.link.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }


def test_the_one_nemo_file_of_a_repository_is_the_checkpoint(bench: Bench) -> None:
    digits = (ROOT / "examples" / "digits" / "digits.nemo").read_bytes()
    with Hub(digits=Repository({"README.md": b"hello", "digits.nemo": digits})) as hub:
        done = bench.run(hub, "hub:acme/digits")
    assert done.returncode == 0, done.stdout + done.stderr
    assert read(Path("hub:acme/digits")).model_class == "EncDecCTCModelBPE"


def test_a_file_name_that_leaves_the_model_is_refused(bench: Bench) -> None:
    with Hub(evil=Repository({"../../escape.txt": b"x"})) as hub:
        done = bench.run(hub, "hub:acme/evil")
    assert done.returncode == 1
    assert "outside the model" in done.stdout


def test_a_hub_that_does_not_answer_is_told_in_words(bench: Bench) -> None:
    with Hub() as hub:
        pass
    done = bench.run(hub, "hub:acme/llama")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stdout + done.stderr


def test_a_run_fetches_once_with_the_token_by_name(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps under the real runner, in an environment that the deployment names."""
    deployment = Deployment(
        name="t",
        backend="onnx",
        checkpoints={"model": "hub:acme/llama"},
        environments={"hub": EnvironmentChoice(use=str(bench.environment))},
    )
    plan = steps.fetching(deployment, {"model": read(Path("hub:acme/llama"))})
    store = RunStore(settings_at(bench.folder / "deck"))
    with Hub(llama=llama(token=TOKEN)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        states = []
        for _ in range(2):
            run_id = store.create(plan, "")
            store.start(run_id)
            view = ended(store, run_id, 60)
            states.append(view.steps[-1].state)
            log = store.log_file(run_id, "fetch-model")
            if len(states) == 1:
                assert "fetched acme/llama" in log.read_text()
    assert states == [StepState.DONE, StepState.SKIPPED]
    kept = [p for p in (bench.folder / "deck").rglob("*") if p.is_file()]
    assert kept
    assert not [p for p in kept if TOKEN.encode() in p.read_bytes()]
