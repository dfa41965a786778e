"""Language models in every form: geometry, parallel sizes, quantisation, what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import checkpoint_files as files
import pytest

from console.checkpoints.model import Checkpoint, Format, LanguageFacts, Severity
from console.checkpoints.read import read
from console.facts import UsageError


def codes(checkpoint: Checkpoint, severity: Severity = Severity.DANGER) -> set[str]:
    return {r.code for r in checkpoint.risks if r.severity is severity}


def language(path: Path) -> LanguageFacts:
    facts = read(path).language
    assert facts is not None
    return facts


# ------------------------------------------------------------------------------------ NeMo 1


def test_a_nemo_1_language_model_tells_its_geometry(tmp_path: Path) -> None:
    path = files.write_megatron_nemo(tmp_path / "gpt.nemo", ["mp_rank_00", "mp_rank_01"])
    checkpoint = read(path)
    facts = checkpoint.language
    assert facts is not None
    assert (facts.family, facts.layers, facts.hidden_size, facts.heads) == ("gpt", 24, 1024, 16)
    assert (facts.kv_heads, facts.head_dim, facts.intermediate_size) == (4, 64, 4096)
    assert (facts.tensor_parallel, facts.pipeline_parallel, facts.world_size) == (2, 1, 2)
    assert (facts.max_positions, facts.rope_theta, facts.tokenizer) == (2048, 1e4, "sentencepiece")
    assert facts.cache_elements == 2 * 24 * 4 * 64
    assert (checkpoint.dtype, checkpoint.task) == ("bf16", "text-generation")
    assert not facts.parallel_fixed
    assert not codes(checkpoint)


def test_a_gzip_language_model_is_read_too(tmp_path: Path) -> None:
    import gzip

    plain = files.write_megatron_nemo(tmp_path / "gpt.nemo", ["mp_rank_00"])
    plain.write_bytes(gzip.compress(plain.read_bytes()))
    assert language(plain).layers == 24
    assert ("members", "unknown until the build unpacks it") in read(plain).details
    assert "missing-ranks" not in codes(read(plain))


@pytest.mark.parametrize(
    ("folders", "tensor", "pipeline", "missing"),
    [
        (["mp_rank_00"], 1, 1, False),
        (["mp_rank_00"], 2, 1, True),
        (["tp_rank_00_pp_rank_000", "tp_rank_00_pp_rank_001"], 1, 2, False),
        (["tp_rank_00_pp_rank_000", "tp_rank_01_pp_rank_000"], 2, 2, True),
    ],
)
def test_missing_rank_folders_are_a_danger(
    tmp_path: Path, folders: list[str], tensor: int, pipeline: int, missing: bool
) -> None:
    path = files.write_megatron_nemo(
        tmp_path / "gpt.nemo",
        folders,
        tensor_model_parallel_size=tensor,
        pipeline_model_parallel_size=pipeline,
    )
    assert ("missing-ranks" in codes(read(path))) is missing


def test_sharded_weights_are_named_with_their_form(tmp_path: Path) -> None:
    import yaml

    path = tmp_path / "gpt.nemo"
    path.write_bytes(
        files.tar_bytes(
            [
                ("./model_config.yaml", yaml.safe_dump(files.megatron_config()).encode()),
                ("./model_weights/metadata.json", b'{"sharded_backend": "zarr"}'),
                ("./model_weights/model.weight/0.0", bytes(100)),
            ]
        )
    )
    assert ("weights", "sharded, zarr") in read(path).details
    assert not codes(read(path))


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("multimodal.models.multimodal_llm.neva.neva_model.MegatronNevaModel", "neva"),
        ("multimodal.models.vision_language_foundation.clip.MegatronCLIPModel", "clip"),
    ],
)
def test_a_multimodal_nemo_is_recognised(tmp_path: Path, target: str, kind: str) -> None:
    path = files.write_megatron_nemo(
        tmp_path / "mm.nemo", ["mp_rank_00", "mp_rank_01"], target=f"nemo.collections.{target}"
    )
    checkpoint = read(path)
    assert checkpoint.title.startswith("NeMo 1 multimodal model")
    assert checkpoint.language is not None
    assert checkpoint.language.multimodal == kind


def test_an_fp8_trained_model_says_so(tmp_path: Path) -> None:
    path = files.write_megatron_nemo(tmp_path / "m.nemo", ["mp_rank_00", "mp_rank_01"], fp8=True)
    assert language(path).quantisation == "fp8"


# ------------------------------------------------------------------------------------ NeMo 2.0


def test_a_nemo_2_folder_called_nemo_tells_its_geometry(tmp_path: Path) -> None:
    checkpoint = read(files.write_nemo2(tmp_path / "llama.nemo"))
    facts = checkpoint.language
    assert facts is not None
    assert (facts.family, facts.layers, facts.kv_heads, facts.head_dim) == ("llama", 32, 8, 128)
    assert (facts.tensor_parallel, facts.pipeline_parallel) == (2, 2)
    assert (facts.dtype, facts.tokenizer, facts.rope_theta) == ("bf16", "hugging-face", 5e5)
    assert ("weights", "sharded, torch_dist") in checkpoint.details
    assert not codes(checkpoint)


def test_a_nemo_2_graph_gives_the_class_as_data(tmp_path: Path) -> None:
    """Checkpoints from before `model.yaml` have only fiddle's graph."""
    folder = files.write_nemo2(tmp_path / "m")
    (folder / "context" / "model.yaml").unlink()
    graph = {
        "root": {"type": "ref", "key": "trainer_context_1"},
        "objects": {
            "trainer_context_1": {"items": [["Attr('model')", {"type": "ref", "key": "m_1"}]]},
            "m_1": {
                "type": {"module": "nemo.collections.llm.gpt.model.gemma", "name": "GemmaModel"}
            },
        },
    }
    (folder / "context" / "io.json").write_text(json.dumps(graph))
    checkpoint = read(folder)
    assert checkpoint.model_class == "GemmaModel"
    assert ("graph", "context/io.json (never resolved)") in checkpoint.details


@pytest.mark.parametrize("graph", ["[]", "{}", '{"root": 1, "objects": []}', "{", "1"])
def test_a_graph_of_another_form_is_no_crash(tmp_path: Path, graph: str) -> None:
    folder = files.write_nemo2(tmp_path / "m")
    (folder / "context" / "model.yaml").unlink()
    (folder / "context" / "io.json").write_text(graph)
    try:
        assert read(folder).model_class == ""
    except UsageError as error:
        assert "\n" not in str(error)


def test_a_foreign_nemo_2_target_is_a_danger(tmp_path: Path) -> None:
    folder = files.write_nemo2(tmp_path / "m")
    (folder / "context" / "model.yaml").write_text("_target_: os.system\nconfig: {}\n")
    assert "foreign-target" in codes(read(folder))


def test_a_nemo_2_adapter_is_no_model(tmp_path: Path) -> None:
    folder = files.write_nemo2(tmp_path / "m")
    said = {"peft": {"_target_": "nemo.collections.llm.peft.lora.LoRA"}, "model_ckpt_path": "base"}
    (folder / "weights" / "adapter_metadata.json").write_text(json.dumps(said))
    checkpoint = read(folder)
    assert checkpoint.adapter is not None
    assert (checkpoint.adapter.kind, checkpoint.adapter.base) == ("lora", "base")
    assert "adapter-alone" in codes(checkpoint, Severity.WARN)


def test_modelopt_state_and_hugging_face_weights_are_told(tmp_path: Path) -> None:
    folder = files.write_nemo2(tmp_path / "m")
    (folder / "weights" / "modelopt_state").mkdir()
    (folder / "hf_weights").mkdir()
    held = {value for label, value in read(folder).details if label == "holds"}
    assert len(held) == 2


def test_private_weights_of_a_folder_are_noted(tmp_path: Path) -> None:
    folder = files.write_nemo2(tmp_path / "m")
    (folder / "weights" / "__0_0.distcp").chmod(0o600)
    assert "private-file" in codes(read(folder), Severity.NOTE)


# ------------------------------------------------------------------------------------ TensorRT-LLM


def test_a_tensorrt_llm_checkpoint_has_fixed_parallel_sizes(tmp_path: Path) -> None:
    checkpoint = read(files.write_trtllm(tmp_path / "ckpt"))
    facts = checkpoint.language
    assert facts is not None
    assert checkpoint.format is Format.TRTLLM_CHECKPOINT
    assert (facts.tensor_parallel, facts.world_size, facts.parallel_fixed) == (2, 2, True)
    assert (facts.quantisation, facts.kv_quantisation) == ("fp8", "fp8")
    assert ("fixed tensor parallel", "2") in checkpoint.details
    assert not codes(checkpoint)


@pytest.mark.parametrize("kept", [0, 1])
def test_rank_files_are_counted_against_the_world(tmp_path: Path, kept: int) -> None:
    folder = files.write_trtllm(tmp_path / "ckpt")
    (folder / f"rank{1 - kept}.safetensors").unlink()
    (risk,) = [r for r in read(folder).risks if r.code == "missing-ranks"]
    assert f"rank{1 - kept}.safetensors" in risk.summary


def test_a_world_that_its_sizes_do_not_make_is_a_danger(tmp_path: Path) -> None:
    mapping = {"world_size": 4, "tp_size": 2, "pp_size": 1}
    folder = files.write_trtllm(tmp_path / "ckpt", ranks=4, mapping=mapping)
    assert codes(read(folder)) == {"world-size"}


def test_a_qnemo_archive_counts_its_ranks(tmp_path: Path) -> None:
    path = tmp_path / "m.qnemo"
    config = json.dumps(files.trtllm_config()).encode()
    path.write_bytes(files.tar_bytes([("./config.json", config), ("./rank0.safetensors", b"x")]))
    checkpoint = read(path)
    assert checkpoint.format is Format.QNEMO
    assert "missing-ranks" in codes(checkpoint)


def test_an_engine_tells_what_it_was_built_for(tmp_path: Path) -> None:
    checkpoint = read(files.write_engine(tmp_path / "engine"))
    engine = checkpoint.engine
    assert checkpoint.format is Format.TRTLLM_ENGINE
    assert engine is not None
    assert (engine.version, engine.tensorrt, engine.ranks) == ("0.13.0", "10.3.0.26", 2)
    assert (engine.max_batch_size, engine.max_seq_len, engine.max_num_tokens) == (8, 2048, 8192)
    assert engine.paged_kv_cache is True
    assert not codes(checkpoint)
    bound = next(r for r in checkpoint.risks if r.code == "bound-to-version")
    assert "TensorRT-LLM 0.13.0 and TensorRT 10.3.0.26" in bound.summary


def test_an_engine_without_its_first_rank_is_still_one(tmp_path: Path) -> None:
    folder = files.write_engine(tmp_path / "engine")
    (folder / "rank0.engine").unlink()
    assert "missing-ranks" in codes(read(folder))


def test_a_plan_s_version_is_in_its_header(tmp_path: Path) -> None:
    path = tmp_path / "model.plan"
    path.write_bytes(files.plan_bytes((8, 6, 1, 6)))
    checkpoint = read(path)
    assert (checkpoint.format, checkpoint.title) == (
        Format.TENSORRT,
        "TensorRT plan · TensorRT 8.6.1.6",
    )


def test_a_truncated_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.plan"
    path.write_bytes(files.plan_bytes()[:20])
    with pytest.raises(UsageError, match="truncated TensorRT plan"):
        read(path)


# ------------------------------------------------------------------------------------ Megatron


def iteration(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "common.pt").write_bytes(files.torch_zip())
    (folder / "metadata.json").write_text('{"sharded_backend": "torch_dist"}')
    (folder / "__0_0.distcp").write_bytes(bytes(64))
    return folder


def test_a_megatron_iteration_is_recognised(tmp_path: Path) -> None:
    checkpoint = read(iteration(tmp_path / "iter_0000100"))
    assert checkpoint.format is Format.MEGATRON
    assert checkpoint.title == "Megatron checkpoint · iteration 100"
    assert "no-configuration" in codes(checkpoint, Severity.NOTE)


def test_a_run_folder_is_its_latest_iteration(tmp_path: Path) -> None:
    for name in ("iter_0000100", "iter_0000200"):
        iteration(tmp_path / name)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("200")
    assert read(tmp_path).path.name == "iter_0000200"
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("300")
    with pytest.raises(UsageError, match="latest iteration"):
        read(tmp_path)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("../../etc")
    with pytest.raises(UsageError, match="names no iteration"):
        read(tmp_path)


def test_a_bridge_configuration_gives_the_geometry(tmp_path: Path) -> None:
    folder = iteration(tmp_path / "iter_0000000")
    (folder / "run_config.yaml").write_text(
        "model:\n  _target_: megatron.bridge.models.llama.llama_provider.Llama31ModelProvider8B\n"
        "  num_layers: 32\n  hidden_size: 4096\n  num_attention_heads: 32\n"
        "  num_query_groups: 8\n  bf16: true\n  tensor_model_parallel_size: 4\n"
    )
    facts = language(folder)
    assert (facts.family, facts.layers, facts.tensor_parallel, facts.dtype) == (
        "llama",
        32,
        4,
        "bf16",
    )


def test_rank_folders_give_the_saved_parallel_sizes(tmp_path: Path) -> None:
    folder = tmp_path / "iter_0000001"
    for name in ("mp_rank_00_000", "mp_rank_01_000", "mp_rank_00_001", "mp_rank_01_001"):
        (folder / name).mkdir(parents=True)
        (folder / name / "model_optim_rng.pt").write_bytes(files.torch_zip())
    facts = language(folder)
    assert (facts.tensor_parallel, facts.pipeline_parallel) == (2, 2)


# ------------------------------------------------------------------------------------ Hugging Face


@pytest.mark.parametrize(
    ("changes", "kv_heads", "head_dim"),
    [
        ({"num_attention_heads": 8, "hidden_size": 64, "num_key_value_heads": 2}, 2, 8),
        ({"num_attention_heads": 8, "hidden_size": 64}, 8, 8),
        ({"num_attention_heads": 8, "hidden_size": 64, "head_dim": 32}, 8, 32),
        ({"n_head": 8, "hidden_size": 64, "multi_query": True}, 1, 8),
    ],
)
def test_attention_geometry(
    tmp_path: Path, changes: dict[str, Any], kv_heads: int, head_dim: int
) -> None:
    facts = language(files.write_hugging_face(tmp_path / "hf", **changes))
    assert (facts.kv_heads, facts.head_dim) == (kv_heads, head_dim)


def test_the_old_names_of_gpt_2_are_known(tmp_path: Path) -> None:
    facts = language(
        files.write_hugging_face(
            tmp_path / "hf",
            hidden_size=None,
            num_hidden_layers=None,
            n_layer=12,
            n_embd=768,
            n_head=12,
            n_positions=1024,
        )
    )
    assert (facts.layers, facts.hidden_size, facts.heads, facts.max_positions) == (
        12,
        768,
        12,
        1024,
    )


@pytest.mark.parametrize(
    ("said", "quantisation", "kv"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq int4", ""),
        ({"quant_method": "awq", "bits": 4}, "awq int4", ""),
        ({"quant_method": "fp8"}, "fp8", ""),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes int4", ""),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, "fp8", "fp8"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
                "kv_cache_scheme": {"num_bits": 8, "type": "float"},
            },
            "compressed-tensors fp8",
            "fp8",
        ),
    ],
)  # fmt: skip
def test_quantisation_is_named(
    tmp_path: Path, said: dict[str, Any], quantisation: str, kv: str
) -> None:
    checkpoint = read(files.write_hugging_face(tmp_path / "hf", quantization_config=said))
    assert checkpoint.language is not None
    assert (checkpoint.language.quantisation, checkpoint.language.kv_quantisation) == (
        quantisation,
        kv,
    )
    assert checkpoint.dtype == quantisation


def test_a_multimodal_model_keeps_its_text_model_s_geometry(tmp_path: Path) -> None:
    folder = files.write_hugging_face(
        tmp_path / "hf",
        model_type="llava",
        vision_config={"hidden_size": 1024},
        text_config={"num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32},
    )
    checkpoint = read(folder)
    assert checkpoint.task == "image-text"
    assert checkpoint.language is not None
    assert (checkpoint.language.layers, checkpoint.language.multimodal) == (32, "llava")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("tokenizer.json", "hugging-face"), ("tokenizer.model", "sentencepiece"), ("vocab.txt", "wordpiece")],
)  # fmt: skip
def test_the_tokenizer_s_kind_comes_from_its_files(tmp_path: Path, name: str, kind: str) -> None:
    folder = files.write_hugging_face(tmp_path / "hf")
    assert "no-tokenizer" in codes(read(folder), Severity.WARN)
    (folder / name).write_text("{}")
    assert language(folder).tokenizer == kind
    assert "no-tokenizer" not in codes(read(folder), Severity.WARN)


def test_rope_scaling_and_experts(tmp_path: Path) -> None:
    facts = language(
        files.write_hugging_face(
            tmp_path / "hf",
            rope_theta=500000.0,
            rope_scaling={"rope_type": "llama3"},
            num_local_experts=8,
            num_experts_per_tok=2,
        )
    )
    assert (facts.rope_theta, facts.rope_scaling) == (5e5, "llama3")
    assert (facts.experts, facts.experts_per_token) == (8, 2)


def test_missing_pickled_shards_are_named(tmp_path: Path) -> None:
    folder = files.write_hugging_face(tmp_path / "hf")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match="incomplete"):
        read(folder)


def test_an_index_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    folder = files.write_hugging_face(tmp_path / "hf")
    index = {"weight_map": {"a": "../../etc/passwd"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match="outside its folder"):
        read(folder)


def test_an_adapter_names_its_base(tmp_path: Path) -> None:
    said = {"peft_type": "LORA", "base_model_name_or_path": "acme/base", "r": 16,
            "target_modules": ["q_proj", "v_proj"]}  # fmt: skip
    (tmp_path / "adapter_config.json").write_text(json.dumps(said))
    content = files.safetensors_bytes({"a": ("F32", [4, 8])})
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    checkpoint = read(tmp_path)
    adapter = checkpoint.adapter
    assert checkpoint.format is Format.ADAPTER
    assert adapter is not None
    assert (adapter.kind, adapter.base, adapter.rank) == ("lora", "acme/base", 16)
    assert checkpoint.parameters == 32


def test_a_lightning_checkpoint_is_told_plainly(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(files.torch_zip())
    with pytest.raises(UsageError, match="training checkpoint") as caught:
        read(path)
    assert "save_to" in caught.value.fix
