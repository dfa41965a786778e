"""Checkpoints and exported folders of NeMo's multimodal models, told apart without loading them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import checkpoint_files as files
import pytest
import yaml

from backends.doors.multimodal import PERCEPTION, kind_of
from backends.nemo_multimodal import NemoMultimodalBackend
from console.checkpoints import multimodal
from console.checkpoints.model import Format
from console.checkpoints.read import read
from console.facts import Level, UsageError
from tests.contract.samples import HOST

BACKEND = NemoMultimodalBackend()
NEVA = "nemo.collections.multimodal.models.multimodal_llm.neva.neva_model.MegatronNevaModel"
SPEECH = "nemo.collections.multimodal.speech_llm.models.modular_models.ModularAudioGPTModel"
LITA = {"use_lita": True, "mm_mlp_adapter_type": "mlp2x_gelu", "llm": {"model_type": "llama_2"}}
VITA = {"use_lita": True, "mm_mlp_adapter_type": "mlp_downsample", "llm": {"model_type": "vita"}}


def exported(folder: Path, encoder: str = "visual_engine", **built: Any) -> Path:
    """What NeMo's exporter leaves: an engine of the language model beside one of the encoder."""
    (folder / "llm_engine").mkdir(parents=True)
    files.write_engine(folder / "llm_engine" / "trtllm_engine")
    (folder / encoder).mkdir()
    (folder / encoder / multimodal.ENCODERS[encoder]).write_bytes(files.plan_bytes())
    (folder / encoder / "config.json").write_text(json.dumps({"builder_config": built}))
    return folder


def perception(folder: Path, **config: Any) -> Path:
    folder.mkdir()
    (folder / "model_weights.ckpt").write_bytes(files.torch_zip())
    parts = {"preprocessor": {"sample_rate": 16000}, "encoder": {"n_layers": 2}}
    (folder / "model_config.yaml").write_text(
        yaml.safe_dump(parts | {"modality_adapter": {"n_layers": 1}} | config)
    )
    return folder


@pytest.mark.parametrize(
    ("target", "config", "kind"),
    [
        (NEVA, {}, "neva"),
        (NEVA, {"mm_cfg": {"mm_mlp_adapter_type": "linear"}, "data": {"media_type": "video"}},
         "video-neva"),
        (NEVA, {"mm_cfg": LITA, "data": {"media_type": "video"}}, "lita"),
        (NEVA, {"mm_cfg": VITA, "data": {"media_type": "video"}}, "vita"),
        (NEVA, {"mm_cfg": {"mm_mlp_adapter_type": "mlp_downsample"}}, "vila"),
        (SPEECH, {}, "salm"),
    ],
)  # fmt: skip
def test_models_of_one_class_are_told_apart_by_their_configuration(
    tmp_path: Path, target: str, config: dict[str, Any], kind: str
) -> None:
    path = files.write_megatron_nemo(tmp_path / "m.nemo", ["mp_rank_00"], target=target, **config)
    found = read(path)
    assert found.language and found.language.multimodal == kind == kind_of(found)
    assert BACKEND.accepts({"model": found}).level is Level.PASS


@pytest.mark.parametrize("kind", ["neva", "vita"])
def test_an_exported_folder_says_what_it_was_exported_from(tmp_path: Path, kind: str) -> None:
    found = read(exported(tmp_path / "e", model_type=kind, precision="bfloat16"))
    assert (found.format, found.path) == (Format.TRTLLM_ENGINE, tmp_path / "e")
    assert found.title == f"Multimodal TensorRT engines · {kind}"
    assert kind_of(found) == kind and found.engine
    assert dict(found.details)["encoder"].endswith("bfloat16")
    made = BACKEND.suggest({"model": found}, HOST).model_dump()
    assert (made["mode"], made["num_gpus"], made["model_type"]) == ("load", 2, kind)


def test_exported_sound_is_salm(tmp_path: Path) -> None:
    found = read(exported(tmp_path / "e", "perception_engine"))
    assert kind_of(found) == "salm" and found.task == "sound-text"


@pytest.mark.parametrize(
    "gone", ["llm_engine/trtllm_engine/config.json", "visual_engine/visual_encoder.engine"]
)
def test_an_unfinished_export_is_said_so(tmp_path: Path, gone: str) -> None:
    folder = exported(tmp_path / "e", model_type="neva")
    (folder / gone).unlink()
    with pytest.raises(UsageError, match="unfinished export"):
        read(folder)


def test_the_sound_part_of_salm_is_a_folder(tmp_path: Path) -> None:
    found = read(perception(tmp_path / "speech_perception"))
    assert found.model_class == PERCEPTION and kind_of(found) == "salm"
    assert dict(found.details)["sampled at"] == "16000 Hz"
    assert "pickle-weights" in {risk.code for risk in found.risks}


def test_another_unpacked_checkpoint_is_to_be_packed_again(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unpacked NeMo checkpoint"):
        read(perception(tmp_path / "asr", modality_adapter=None))
    (tmp_path / "asr" / "model_config.yaml").write_text("a: [")
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "asr")
