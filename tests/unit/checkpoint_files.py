"""Makes checkpoints of every kind for the tests: small, real in their form, without weights."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

ASR = "nemo.collections.asr.models.ctc_bpe_models.EncDecCTCModelBPE"


def speech_config(**changes: Any) -> dict[str, Any]:
    """A CTC model's configuration; `changes` replace top-level keys (None removes one)."""
    config: dict[str, Any] = {
        "sample_rate": 16000,
        "tokenizer": {"type": "bpe", "model_path": "nemo:abc_tokenizer.model"},
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
            "features": 80,
            "window_stride": 0.01,
        },
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConformerEncoder",
            "feat_in": 80,
            "subsampling": "striding",
            "subsampling_factor": 4,
            "pos_emb_max_len": 5000,
        },
        "decoder": {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
            "num_classes": 3,
            "vocabulary": ["a", "b", "c"],
        },
        "target": ASR,
        "nemo_version": "2.7.3",
        **changes,
    }
    return {k: v for k, v in config.items() if v is not None}


def tar_bytes(members: Iterable[tuple[str, bytes]], extra: Iterable[tarfile.TarInfo] = ()) -> bytes:
    """An uncompressed archive as NeMo writes it; `extra` are members without content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return out.getvalue()


def nemo_bytes(
    config: Mapping[str, Any] | bytes | None = None, weights: bytes = b"w" * 4096
) -> bytes:
    text = (
        config if isinstance(config, bytes) else yaml.safe_dump(config or speech_config()).encode()
    )
    return tar_bytes(
        [
            ("./abc_tokenizer.model", b"pieces"),
            ("./model_config.yaml", text),
            ("./model_weights.ckpt", weights),
        ]
    )


def write_nemo(path: Path, **changes: Any) -> Path:
    path.write_bytes(nemo_bytes(speech_config(**changes)))
    return path


def write_gzip_nemo(path: Path, weights: bytes = b"w" * 4096) -> Path:
    path.write_bytes(gzip.compress(nemo_bytes(weights=weights), mtime=0))
    return path


def write_sparse_nemo(path: Path, shards: int, size: int, *, config_last: bool = False) -> Path:
    """`size` bytes of weights that take no room on disk."""
    config = yaml.safe_dump(speech_config()).encode()
    with path.open("wb") as file:

        def add(name: str, content: bytes | None, count: int) -> None:
            info = tarfile.TarInfo(name)
            info.size = count
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            if content is None:
                file.seek(-(-count // 512) * 512, 1)
            else:
                file.write(content + bytes(-count % 512))

        if not config_last:
            add("./model_config.yaml", config, len(config))
        for shard in range(shards):
            name = "./model_weights.ckpt" if shards == 1 else f"./model_weights/{shard}.distcp"
            add(name, None, size // shards)
        if config_last:
            add("./model_config.yaml", config, len(config))
        file.write(bytes(1024))
    return path


def safetensors_bytes(tensors: Mapping[str, tuple[str, list[int]]], bytes_each: int = 4) -> bytes:
    header: dict[str, Any] = {}
    end = 0
    for name, (dtype, shape) in tensors.items():
        count = bytes_each
        for n in shape:
            count *= n
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + count]}
        end += count
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end)


def write_hugging_face(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "torch_dtype": "float32",
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config))
    content = safetensors_bytes({"a": ("F32", [4, 8]), "b": ("F32", [8])})
    (folder / "model.safetensors").write_bytes(content)
    return folder


def onnx_model(weights: int = 8) -> onnx.ModelProto:
    """``y = x + w``: x FP32 [batch, 3, 4, w], one initialiser."""
    tensor = numpy_helper.from_array(np.full(weights, 0.5, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "adder",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 4, weights])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3, 4, weights])],
        [tensor],
    )
    return helper.make_model(
        graph, producer_name="tests", opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


GPT = "nemo.collections.nlp.models.language_modeling.megatron_gpt_model.MegatronGPTModel"


def megatron_config(**changes: Any) -> dict[str, Any]:
    """A NeMo 1 language model's flat configuration."""
    return {
        "target": GPT,
        "nemo_version": "1.23.0",
        "precision": "bf16",
        "num_layers": 24,
        "hidden_size": 1024,
        "ffn_hidden_size": 4096,
        "num_attention_heads": 16,
        "num_query_groups": 4,
        "encoder_seq_length": 2048,
        "max_position_embeddings": 2048,
        "position_embedding_type": "rope",
        "tensor_model_parallel_size": 2,
        "pipeline_model_parallel_size": 1,
        "tokenizer": {"library": "sentencepiece", "model": "nemo:tok.model"},
        **changes,
    }


def write_megatron_nemo(path: Path, folders: Iterable[str], **changes: Any) -> Path:
    """A language model whose weights lie in rank folders (or ``model_weights`` when sharded)."""
    config = yaml.safe_dump(megatron_config(**changes)).encode()
    members = [("./model_config.yaml", config)]
    members += [(f"./{folder}/model_weights.ckpt", torch_zip()) for folder in folders]
    path.write_bytes(tar_bytes(members))
    return path


def torch_zip(pickled: bytes = b"", tensors: int = 4096) -> bytes:
    """A file as `torch.save` writes it: a stored zip with `data.pkl` and one tensor's bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickled or tensor_pickle())
        archive.writestr("archive/data/0", bytes(tensors))
        archive.writestr("archive/version", b"3\n")
    return out.getvalue()


def tensor_pickle(storage: str = "BFloat16Storage") -> bytes:
    """The opcodes that name what every saved state dict names, and nothing else."""
    return b"\x80\x02" + b"".join(
        f"c{module}\n{name}\n0".encode()
        for module, name in (
            ("collections", "OrderedDict"),
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch", storage),
        )
    ) + b"}."  # fmt: skip


def write_nemo2(folder: Path, **config: Any) -> Path:
    """A NeMo 2.0 folder of a Llama model; `config` replaces keys of its ``config`` section."""
    (folder / "weights").mkdir(parents=True)
    (folder / "context").mkdir()
    said = {
        "_target_": "nemo.collections.llm.gpt.model.llama.LlamaModel",
        "config": {
            "_target_": "nemo.collections.llm.gpt.model.llama.Llama31Config8B",
            "num_layers": 32,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_query_groups": 8,
            "seq_length": 8192,
            "rotary_base": 500000,
            "tensor_model_parallel_size": 2,
            "pipeline_model_parallel_size": 2,
            "params_dtype": {"_target_": "torch.bfloat16", "_call_": False},
            **config,
        },
        "tokenizer": {"_target_": "nemo.collections.common.tokenizers.AutoTokenizer"},
    }
    (folder / "context" / "model.yaml").write_text(yaml.safe_dump(said))
    (folder / "weights" / "metadata.json").write_text('{"sharded_backend": "torch_dist"}')
    (folder / "weights" / "__0_0.distcp").write_bytes(bytes(64))
    return folder


def trtllm_config(**changes: Any) -> dict[str, Any]:
    return {
        "architecture": "LlamaForCausalLM",
        "dtype": "bfloat16",
        "vocab_size": 128256,
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "mapping": {"world_size": 2, "tp_size": 2, "pp_size": 1},
        "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"},
        **changes,
    }


def write_trtllm(folder: Path, ranks: int = 2, **changes: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(trtllm_config(**changes)))
    for rank in range(ranks):
        (folder / f"rank{rank}.safetensors").write_bytes(b"")
    return folder


def plan_bytes(version: tuple[int, int, int, int] = (10, 3, 0, 26)) -> bytes:
    """A TensorRT plan's header and some body."""
    return b"ftrt" + (0).to_bytes(4, "little") + bytes(16) + bytes(version) + bytes(512)


def write_engine(folder: Path, ranks: int = 2) -> Path:
    folder.mkdir()
    built = {
        "max_batch_size": 8,
        "max_input_len": 1024,
        "max_seq_len": 2048,
        "max_num_tokens": 8192,
        "max_beam_width": 1,
        "plugin_config": {"paged_kv_cache": True},
    }
    said = {"version": "0.13.0", "pretrained_config": trtllm_config(), "build_config": built}
    (folder / "config.json").write_text(json.dumps(said))
    for rank in range(ranks):
        (folder / f"rank{rank}.engine").write_bytes(plan_bytes())
    return folder
