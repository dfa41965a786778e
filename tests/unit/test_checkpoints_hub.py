"""Hub ids: what is one, what is known of it, and the steps that fetch it."""

from __future__ import annotations

from pathlib import Path

import checkpoint_files as files
import pytest

from backends import hub as steps
from console.checkpoints import hub
from console.checkpoints.model import Checkpoint, Format, HubRef
from console.checkpoints.read import read
from console.facts import Level, UsageError
from console.planning.deployment import Deployment, loads
from console.planning.plan import CommandStep, ImageSpec, Plan

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("hub:acme/llama", HubRef("hugging-face", "acme/llama")),
        ("hub:gpt2", HubRef("hugging-face", "gpt2")),
        ("hub:acme/llama-3.1@v1.0", HubRef("hugging-face", "acme/llama-3.1", "v1.0")),
        (f"hub:acme/llama@{COMMIT}", HubRef("hugging-face", "acme/llama", COMMIT)),
        ("ngc:nvidia/nemo/stt:1.0", HubRef("ngc", "nvidia/nemo/stt", "1.0")),
        ("ngc:nvidia/stt", HubRef("ngc", "nvidia/stt")),
        ("nemo:QuartzNet15x5Base-En", HubRef("nemo", "QuartzNet15x5Base-En")),
    ],
)
def test_an_id_is_taken_apart_and_written_back(text: str, ref: HubRef) -> None:
    assert hub.parse(text) == ref
    assert hub.words(ref) == text


@pytest.mark.parametrize(
    "text",
    ["hub:", "hub:../x", "hub:a/b/c", "hub:a/../b", "hub:-a/b", "hub:a/b@-x", "hub:a/b@x/../y",
     "hub:a--b/c", "hub:a b", "ngc:x", "ngc:a/b/c/d:1", "ngc:a/b:$(x)", "hub:a/b\n"],
)  # fmt: skip
def test_a_wrong_id_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no hub id"):
        hub.parse(text)


@pytest.mark.parametrize("text", ["model.nemo", "/a/hub:b", "hubs:a/b", "./hub:a/b"])
def test_a_path_is_no_id(text: str) -> None:
    assert hub.parse(text) is None


def test_before_the_fetch_only_the_name_is_known() -> None:
    found = read(Path("hub:acme/llama"))
    assert (found.format, found.parameters, found.language) == (Format.HUB, None, None)
    assert {r.code for r in found.risks} == {"not-fetched", "unpinned"}
    assert "unpinned" not in {r.code for r in read(Path(f"hub:acme/llama@{COMMIT}")).risks}


def cached(tmp_path: Path, branch: str = "main") -> Path:
    folder = tmp_path / "cache" / "models--acme--llama"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / branch).write_text(COMMIT)
    (folder / "snapshots").mkdir()
    return files.write_hugging_face(folder / "snapshots" / COMMIT)


@pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
def test_what_lies_in_the_cache_is_read(tmp_path: Path, revision: str) -> None:
    folder = cached(tmp_path)
    found = read(Path(f"hub:acme/llama{revision}"))
    assert (found.path, found.model_class) == (folder, "LlamaForCausalLM")
    assert found.hub == hub.parse(f"hub:acme/llama{revision}")


def test_a_half_fetched_snapshot_is_not_there(tmp_path: Path) -> None:
    (cached(tmp_path) / "model.safetensors").unlink()
    assert read(Path("hub:acme/llama")).format is Format.HUB


def test_a_reference_that_leaves_the_cache_is_not_followed(tmp_path: Path) -> None:
    cached(tmp_path)
    (tmp_path / "cache" / "models--acme--llama" / "refs" / "main").write_text("../../../etc")
    assert read(Path("hub:acme/llama")).format is Format.HUB


# ------------------------------------------------------------------------------------ steps


def deployment(checkpoint: str) -> Deployment:
    return Deployment(name="t", backend="onnx", checkpoints={"model": checkpoint})


def test_the_plan_fetches_before_it_builds() -> None:
    text = "hub:acme/llama@v1"
    checkpoints = {"model": read(Path(text))}
    plan = steps.fetching(deployment(text), checkpoints)
    assert [step.id for step in plan.steps] == ["environment-hub", "fetch-worker", "fetch-model"]
    step = plan.step("fetch-model")
    assert isinstance(step, CommandStep)
    assert {"--repository=acme/llama", "--revision=v1"} <= set(step.command.argv)
    assert step.command.secrets == ("HF_TOKEN", "HF_TOKEN_PATH")
    assert "--link=${work}/fetched/model" in step.command.argv


def test_a_local_checkpoint_needs_no_fetch(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "a$b.nemo", Format.NEMO, "")
    plan = steps.fetching(deployment("x"), {"model": checkpoint})
    assert (plan.steps, plan.environments) == ((), ())


def test_ngc_is_fetched_by_its_own_program() -> None:
    text = "ngc:nvidia/nemo/stt_en:1.0"
    (step,) = steps.fetching(deployment(text), {"model": read(Path(text))}).steps
    assert isinstance(step, CommandStep)
    assert step.command.argv[:4] == ("ngc", "registry", "model", "download-version")
    assert step.command.argv[-1] == "nvidia/nemo/stt_en:1.0"
    assert step.outputs == ("${work}/fetched/model/stt_en_v1.0",)


def test_what_nemo_lists_is_fetched_in_its_environment() -> None:
    text = "nemo:stt_en_conformer_ctc_small"
    plan = steps.fetching(deployment(text), {"model": read(Path(text))})
    assert [spec.name for spec in plan.environments] == ["nemo"]
    step = plan.step("fetch-model")
    assert isinstance(step, CommandStep)
    assert step.command.runtime == "environment:nemo"
    assert "--name=stt_en_conformer_ctc_small" in step.command.argv


def test_a_second_plan_fetches_the_commit_that_it_was_made_from(tmp_path: Path) -> None:
    cached(tmp_path)
    step = steps.fetching(deployment("x"), {"model": read(Path("hub:acme/llama"))}).steps[-1]
    assert isinstance(step, CommandStep)
    assert f"--revision={COMMIT}" in step.command.argv


def test_a_steps_environment_is_made_once_when_fetch_and_route_need_it() -> None:
    text = "nemo:stt_en_conformer_ctc_small"
    fetch = steps.fetching(deployment(text), {"model": read(Path(text))})
    route = Plan(
        deployment="t",
        backend="onnx",
        environments=fetch.environments,
        images=(ImageSpec(name="server", reference="a:1"),),
        engine="podman",
        steps=(fetch.steps[0],),
        notes=("of the route",),
    )
    joined = steps.before(route, fetch)
    assert (joined.images, joined.engine) == (route.images, "podman")
    assert joined.steps == fetch.steps
    assert (joined.environments, joined.notes) == (fetch.environments, route.notes)


# ------------------------------------------------------------------------------ what was fetched


def test_a_report_of_another_id_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "model.nemo"
    file.write_bytes(b"x")
    (tmp_path / "model.json").write_text(f'{{"name": "right", "file": "{file}"}}')
    assert hub.fetched(HubRef("nemo", "right"), tmp_path, "model") == file
    assert hub.fetched(HubRef("nemo", "wrong"), tmp_path, "model") is None
    file.unlink()
    assert hub.fetched(HubRef("nemo", "right"), tmp_path, "model") is None


@pytest.mark.parametrize("report", ["", "[]", "{", '{"file": 3}'])
def test_a_damaged_report_means_that_it_is_fetched_again(tmp_path: Path, report: str) -> None:
    (tmp_path / "model.json").write_text(report)
    assert hub.fetched(HubRef("nemo", "x"), tmp_path, "model") is None


def verdict(text: str) -> tuple[Level, str]:
    (found,) = steps.checks({"model": read(Path(text))})
    return found.level, f"{found.summary} {found.fix}"


def test_without_the_ngc_program_the_check_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    level, words = verdict("ngc:nvidia/nemo/stt:1.0")
    assert level is Level.FAIL
    assert "not on the PATH" in words
    (tmp_path / "ngc").write_text("#!/bin/sh\n")
    (tmp_path / "ngc").chmod(0o755)
    level, words = verdict("ngc:nvidia/nemo/stt:1.0")
    assert level is Level.UNKNOWN
    assert "not been tried" in words


def test_a_nemo_name_with_an_owner_is_sent_to_its_hub() -> None:
    with pytest.raises(UsageError) as caught:
        hub.parse("nemo:nvidia/parakeet")
    assert "hub:owner/name" in caught.value.fix


def test_whether_nemo_lists_a_name_is_not_known_before() -> None:
    level, words = verdict("nemo:stt_en")
    assert level is Level.UNKNOWN
    assert "if its lists have that name" in words
    assert [r.code for r in read(Path("nemo:stt_en")).risks] == ["not-fetched"]


def test_an_ngc_id_without_version_is_refused() -> None:
    assert verdict("ngc:nvidia/nemo/stt")[0] is Level.FAIL


def test_the_check_says_whose_token_is_used_and_never_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "without a token" in verdict("hub:acme/llama")[1]
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").write_text("hf_secretsecretsecret")
    assert "token of hf auth login" in verdict("hub:acme/llama")[1]
    monkeypatch.setenv("HF_TOKEN_PATH", "~nobody-of-that-name/token")
    assert "without a token" in verdict("hub:acme/llama")[1]
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    level, words = verdict("hub:acme/llama")
    assert level is Level.PASS
    assert "token of HF_TOKEN" in words
    assert "hf_secret" not in words


def test_offline_fails_unless_it_is_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert verdict("hub:acme/llama")[0] is Level.FAIL
    cached(tmp_path)
    assert verdict("hub:acme/llama")[0] is Level.PASS


def test_a_deployment_file_keeps_hub_ids_as_they_are(tmp_path: Path) -> None:
    for text in ("hub:acme/llama", "ngc:nvidia/nemo/stt:1.0", "nemo:stt_en"):
        content = f'name = "t"\nbackend = "onnx"\n[checkpoints]\nmodel = "{text}"\n'
        assert loads(content, tmp_path / "t.toml").checkpoints["model"] == text
