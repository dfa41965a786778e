"""Facts of `.nemo` archives, and what their member lists give away."""

from __future__ import annotations

import tarfile
import time
from pathlib import Path
from typing import Any

import checkpoint_files as files
import pytest

from console.checkpoints.model import Checkpoint, Format, Severity
from console.checkpoints.read import read
from console.facts import UsageError

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.nemo"


def codes(checkpoint: Checkpoint, severity: Severity = Severity.DANGER) -> set[str]:
    return {r.code for r in checkpoint.risks if r.severity is severity}


def speech(tmp_path: Path, **changes: Any) -> Any:
    return read(files.write_nemo(tmp_path / "m.nemo", **changes)).speech


def test_a_real_checkpoint_tells_what_serving_needs() -> None:
    checkpoint = read(DIGITS)
    assert checkpoint.format is Format.NEMO
    assert checkpoint.title == "NeMo speech model · Conformer CTC"
    assert checkpoint.model_class == "EncDecCTCModelBPE"
    assert checkpoint.task == "speech-to-text"
    assert checkpoint.nemo_version == "2.7.3"
    spoken = checkpoint.speech
    assert spoken is not None
    assert (spoken.sample_rate, spoken.features, spoken.decoder) == (16000, 80, "ctc")
    assert (spoken.vocabulary_size, spoken.tokenizer) == (11, "bpe")
    assert spoken.max_seconds == pytest.approx(40.0)
    assert not codes(checkpoint)


def test_longest_audio_is_rows_times_subsampling_times_stride(tmp_path: Path) -> None:
    encoder = files.speech_config()["encoder"] | {"subsampling_factor": 8}
    assert speech(tmp_path, encoder=encoder).max_seconds == pytest.approx(400.0)


def test_a_convolutional_encoder_shortens_time_by_its_strides(tmp_path: Path) -> None:
    encoder = {
        "_target_": "x.ConvASREncoder",
        "jasper": [{"stride": [2]}, {"stride": [1]}, {"stride": [2]}],
    }
    spoken = speech(tmp_path, encoder=encoder)
    assert (spoken.subsampling_factor, spoken.max_seconds) == (4, None)


def test_local_attention_has_no_longest_audio(tmp_path: Path) -> None:
    encoder = files.speech_config()["encoder"] | {"self_attention_model": "rel_pos_local_attn"}
    assert speech(tmp_path, encoder=encoder).max_seconds is None


@pytest.mark.parametrize(
    ("changes", "decoder"),
    [
        ({"joint": {"num_classes": 3}}, "rnnt"),
        ({"joint": {}, "aux_ctc": {"decoder": {"vocabulary": ["x"]}}}, "hybrid"),
        ({"transf_decoder": {}}, "aed"),
        ({"decoder": {"_target_": "x.ConvASRDecoderClassification"}}, "classification"),
        ({"decoder": {"_target_": "x.SpeakerDecoder"}}, "speaker"),
        ({"decoder": {"_target_": "x.Unheard"}, "target": "nemo.collections.asr.Y"}, "unknown"),
    ],
)
def test_decoder_kind_comes_from_the_sections(
    tmp_path: Path, changes: dict[str, Any], decoder: str
) -> None:
    assert speech(tmp_path, **changes).decoder == decoder


def test_languages_of_an_aggregate_tokenizer(tmp_path: Path) -> None:
    spoken = speech(tmp_path, tokenizer={"type": "agg", "langs": {"hi": {}, "ta": {}}})
    assert (spoken.tokenizer, spoken.languages) == ("agg", ("hi", "ta"))


def test_chunked_attention_is_streaming(tmp_path: Path) -> None:
    encoder = files.speech_config()["encoder"] | {"att_context_style": "chunked_limited"}
    assert speech(tmp_path, encoder=encoder).streaming


def test_values_of_the_wrong_type_fall_back(tmp_path: Path) -> None:
    spoken = speech(
        tmp_path, sample_rate=True, tokenizer=[1], decoder="x", preprocessor={"window_stride": "no"}
    )
    assert (spoken.sample_rate, spoken.window_stride, spoken.tokenizer) == (16000, 0.01, "")


def test_a_gzip_archive_is_read_without_its_member_list(tmp_path: Path) -> None:
    checkpoint = read(files.write_gzip_nemo(tmp_path / "old.nemo"))
    assert checkpoint.model_class == "EncDecCTCModelBPE"
    assert checkpoint.parameters is None
    assert "members-unknown" in codes(checkpoint, Severity.NOTE)


def test_a_language_model_is_recognised_as_one(tmp_path: Path) -> None:
    target = "nemo.collections.nlp.models.language_modeling.megatron_gpt_model.MegatronGPTModel"
    config = {"target": target, "precision": "bf16", "tensor_model_parallel_size": 2}
    path = tmp_path / "gpt.nemo"
    path.write_bytes(files.nemo_bytes(config))
    checkpoint = read(path)
    assert checkpoint.title == "NeMo 1 language model · MegatronGPTModel"
    assert (checkpoint.task, checkpoint.dtype) == ("text-generation", "bf16")
    assert checkpoint.speech is None
    assert ("saved tensor parallel", "2") in checkpoint.details


@pytest.mark.parametrize("target", ["os.system", "nemo.collections", "nemo.collections.x;y", ""])
def test_a_foreign_target_is_a_danger(tmp_path: Path, target: str) -> None:
    assert "foreign-target" in codes(read(files.write_nemo(tmp_path / "m.nemo", target=target)))


def test_a_foreign_inner_target_is_a_danger(tmp_path: Path) -> None:
    path = files.write_nemo(tmp_path / "m.nemo", optim=[{"deep": {"_target_": "os.system"}}])
    assert "foreign-inner-target" in codes(read(path))


def with_member(path: Path, name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Path:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    path.write_bytes(files.tar_bytes([("./model_config.yaml", _config())], extra=[info]))
    return path


def _config() -> bytes:
    import yaml

    return yaml.safe_dump(files.speech_config()).encode()


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("./model_config.yaml", tarfile.REGTYPE, "duplicate-members"),
        ("model_config.yaml", tarfile.REGTYPE, "duplicate-members"),
        ("././model_config.yaml", tarfile.REGTYPE, "duplicate-members"),
        ("../../.bashrc", tarfile.REGTYPE, "escaping-members"),
        ("a/../../b", tarfile.REGTYPE, "escaping-members"),
        ("/etc/passwd", tarfile.REGTYPE, "absolute-members"),
        ("./link", tarfile.SYMTYPE, "link-members"),
        ("./link", tarfile.LNKTYPE, "link-members"),
        ("./pipe", tarfile.FIFOTYPE, "device-members"),
        ("./disk", tarfile.BLKTYPE, "device-members"),
    ],
)
def test_a_hostile_member_is_a_danger(tmp_path: Path, name: str, kind: bytes, code: str) -> None:
    assert codes(read(with_member(tmp_path / "m.nemo", name, kind, "/etc"))) == {code}


def test_a_private_file_is_noted(tmp_path: Path) -> None:
    path = files.write_nemo(tmp_path / "m.nemo")
    path.chmod(0o600)
    assert "private-file" in codes(read(path), Severity.NOTE)
    path.chmod(0o644)
    assert "private-file" not in codes(read(path), Severity.NOTE)


def test_member_names_are_cleaned(tmp_path: Path) -> None:
    checkpoint = read(with_member(tmp_path / "m.nemo", "../\x1b]0;title\x07x"))
    assert all("\x1b" not in r.summary for r in checkpoint.risks)


@pytest.mark.parametrize("cut", [100, 600, 1700, 3000, 6000])
def test_a_truncated_archive_is_one_sentence(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "m.nemo"
    path.write_bytes(files.nemo_bytes()[:cut])
    with pytest.raises(UsageError) as caught:
        read(path)
    assert str(path) in caught.value.title
    assert "\n" not in str(caught.value)


def test_a_truncated_gzip_archive_is_one_sentence(tmp_path: Path) -> None:
    path = files.write_gzip_nemo(tmp_path / "m.nemo")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UsageError, match="truncated or damaged"):
        read(path)


def test_a_gzip_bomb_costs_little(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "bomb.nemo"
    path.write_bytes(gzip.compress(files.tar_bytes([("./zeros", bytes(200_000_000))]), 1))
    before = time.thread_time()
    with pytest.raises(UsageError, match="without a model_config"):
        read(path)
    assert time.thread_time() - before < 1.0


def test_a_hundred_gigabytes_are_not_read(tmp_path: Path) -> None:
    path = files.write_sparse_nemo(tmp_path / "big.nemo", 1, 100 << 30)
    read(path)
    before = time.thread_time()
    checkpoint = read(path)
    assert time.thread_time() - before < 0.1
    assert checkpoint.size > 100 << 30
    assert checkpoint.speech is not None


def test_a_configuration_after_the_weights_is_found(tmp_path: Path) -> None:
    path = files.write_sparse_nemo(tmp_path / "late.nemo", 16, 16 << 30, config_last=True)
    assert read(path).model_class == "EncDecCTCModelBPE"


def test_an_archive_without_configuration_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m.nemo"
    path.write_bytes(files.tar_bytes([("./a", b"x")]))
    with pytest.raises(UsageError, match=r"without a model_config\.yaml"):
        read(path)


def test_a_long_name_block_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.nemo"
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 50 << 30
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(60 << 30)
    with pytest.raises(UsageError, match="name block"):
        read(path)


def test_a_negative_size_does_not_loop(tmp_path: Path) -> None:
    content = bytearray(files.nemo_bytes())
    content[124:136] = b"\xff" * 11 + b"\x00"
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    path = tmp_path / "m.nemo"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="negative size"):
        read(path)
