"""Whatever bytes a file holds, reading ends in a `Checkpoint` or a `UsageError`."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile
from pathlib import Path

import checkpoint_files as files
from hypothesis import given, settings
from hypothesis import strategies as st

from console.checkpoints.browse import browse
from console.checkpoints.read import read
from console.checkpoints.scan import scan
from console.checkpoints.source import FileSource
from console.checkpoints.tarwalk import TarDamage, members
from console.facts import UsageError

GOOD = files.nemo_bytes()
ONNX = files.onnx_model().SerializeToString()
SUFFIXES = st.sampled_from([".nemo", ".qnemo", ".onnx", ".safetensors", ""])
QUICK = settings(max_examples=150, deadline=None)


def read_bytes(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"m{suffix}"
        path.write_bytes(content)
        try:
            checkpoint = read(path)
        except UsageError as error:
            assert error.title
            assert "\n" not in str(error)
        else:
            assert checkpoint.title
        assert len(browse(Path(folder))) <= 1
        assert path.read_bytes() == content


@st.composite
def mutated(draw: st.DrawFn, original: bytes) -> bytes:
    """Some bytes changed, cut or doubled; mostly in the headers."""
    content = bytearray(original)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(content) - 1))
        if draw(st.booleans()):
            at = at // 512 * 512 + draw(st.sampled_from([0, 100, 124, 135, 148, 156, 157, 345]))
        content[at : at + 1] = draw(st.binary(min_size=0, max_size=3))
        if len(content) < 2:
            break
    return bytes(content[: draw(st.integers(1, len(content) + 1))] or b"\0")


def resummed(content: bytes) -> bytes:
    """The first header's checksum made right again, so that the walk goes on past it."""
    block = bytearray(content[:512])
    if len(block) < 512:
        return content
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + content[512:]


@QUICK
@given(st.binary(max_size=2000), SUFFIXES)
def test_random_bytes(content: bytes, suffix: str) -> None:
    read_bytes(content, suffix)


@QUICK
@given(mutated(GOOD), SUFFIXES)
def test_mutated_archives(content: bytes, suffix: str) -> None:
    read_bytes(content, suffix)


@QUICK
@given(mutated(GOOD))
def test_mutated_archives_with_a_right_checksum(content: bytes) -> None:
    read_bytes(resummed(content), ".nemo")


@QUICK
@given(mutated(gzip.compress(GOOD, mtime=0)))
def test_mutated_gzip_archives(content: bytes) -> None:
    read_bytes(content, ".nemo")


@QUICK
@given(mutated(ONNX))
def test_mutated_graphs(content: bytes) -> None:
    read_bytes(content, ".onnx")


@QUICK
@given(st.binary(max_size=400))
def test_any_configuration(text: bytes) -> None:
    read_bytes(files.nemo_bytes(text), ".nemo")


@QUICK
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["encoder", "decoder", "joint", "aux_ctc", "preprocessor", "tokenizer", "langs",
                 "vocabulary", "labels", "_target_", "target", "num_classes", "features",
                 "subsampling_factor", "window_stride", "pos_emb_max_len", "sample_rate"]
            ),
            inner,
            max_size=5,
        ),
        max_leaves=25,
    )
)  # fmt: skip
def test_configurations_of_any_shape(value: object) -> None:
    config = files.speech_config()
    config.update(value if isinstance(value, dict) else {"decoder": value})
    read_bytes(files.nemo_bytes(config), ".nemo")


_KEYS = [
    "architectures", "model_type", "architecture", "pretrained_config", "build_config", "mapping",
    "quantization", "quantization_config", "config_groups", "kv_cache_scheme", "text_config",
    "vision_config", "rope_scaling", "rope_parameters", "rope_type", "num_hidden_layers", "n_layer",
    "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "world_size", "tp_size",
    "config", "_target_", "model", "tokenizer", "params_dtype", "window_size", "fp8", "precision",
    "tensor_model_parallel_size", "peft_type", "target_modules", "r", "plugin_config", "version",
    "objects", "root", "key", "items", "bits", "quant_method", "quant_algo", "moe", "auto_map",
]  # fmt: skip
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**60) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=5)
    ),
    max_leaves=25,
)


@QUICK
@given(
    st.dictionaries(st.sampled_from(_KEYS), _ANY, max_size=8),
    st.sampled_from(
        [
            ("config.json", "model.safetensors"),
            ("config.json", "rank0.safetensors"),
            ("config.json", "rank0.engine"),
            ("adapter_config.json",),
            ("run_config.yaml", "common.pt", "metadata.json"),
            ("context/model.yaml", "weights/metadata.json"),
            ("context/io.json", "weights/adapter_metadata.json"),
        ]
    ),
)
def test_folders_with_configurations_of_any_shape(
    config: dict[str, object], names: tuple[str, ...]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "m"
        for file in names:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            said = file.endswith((".json", ".yaml"))
            (folder / file).write_text(json.dumps(config) if said else "")
        try:
            assert read(folder).title
        except UsageError as error:
            assert error.title
            assert "\n" not in str(error)
        assert len(list(scan(Path(name)))) <= 1


NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=160
)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE])
FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


@QUICK
@given(st.lists(st.tuples(NAMES, KINDS, st.integers(0, 1500)), min_size=1, max_size=5), FORMATS)
def test_names_and_offsets_are_those_that_tarfile_sees(
    entries: list[tuple[str, bytes, int]], form: int
) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=form) as archive:
        for name, kind, size in entries:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, size if kind == tarfile.REGTYPE else 0
            try:
                archive.addfile(info, io.BytesIO(bytes(info.size)))
            except ValueError:  # USTAR has no room for that name
                continue
    compare(out.getvalue())


@QUICK
@given(mutated(GOOD))
def test_a_mutated_archive_that_is_understood_is_understood_as_tarfile_does(
    content: bytes,
) -> None:
    compare(resummed(content))


def compare(content: bytes) -> None:
    """Our members are tarfile's. Ours may refuse more (damage in the middle, oddities), not less."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            ours = [(m.name, m.offset) for m in members(FileSource(file.fileno(), len(content)))]
        except TarDamage:
            return
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            assert ours == [(m.name.rstrip("/"), m.offset_data) for m in archive]
