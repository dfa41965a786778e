"""What is no `.nemo`: other formats, broken files, and data that attacks its parser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import checkpoint_files as files
import onnx
import pytest
from onnx import TensorProto, helper

from console.checkpoints import data
from console.checkpoints.model import Format, Severity
from console.checkpoints.read import read
from console.facts import TensorSpec, UsageError


def refused(path: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", "web page"),
        (b"\n  <html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "Git LFS pointer"),
        (b"PK\x03\x04rest", "PyTorch or zip archive"),
        (b"\x80\x02cos\nsystem\n.", "pickle"),
        (b"hello", "not a checkpoint that is known"),
        (b"\x1f\x8b\x08garbage", "truncated or damaged"),
    ],
)
def test_what_is_no_checkpoint_is_named_with_a_next_step(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "model.nemo"
    path.write_bytes(content)
    error = refused(path)
    assert words in error.title
    assert error.fix


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "there is no" in refused(tmp_path / "nowhere.nemo").title


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nemo")
    assert "neither a file nor a folder" in refused(tmp_path / "pipe.nemo").title


def test_a_name_with_a_nul_is_refused() -> None:
    assert refused(Path("a\0b"))


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    tripwire = tmp_path / "ran"
    pickle = f"cos\nsystem\n(S'touch {tripwire}'\ntR.".encode()
    for name in ("a.nemo", "pytorch_model.bin"):
        (tmp_path / name).write_bytes(b"\x80\x02" + pickle)
        refused(tmp_path / name)
    path = tmp_path / "b.nemo"
    path.write_bytes(files.nemo_bytes(weights=pickle))
    read(path)
    assert not tripwire.exists()


def test_reading_changes_nothing_on_disk(tmp_path: Path) -> None:
    path = files.write_nemo(tmp_path / "m.nemo")
    files.write_hugging_face(tmp_path / "hf")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    read(path)
    read(tmp_path / "hf")
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


# ------------------------------------------------------------------------------------ YAML


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b"- " * 100_000,
        b"? " * 100_000,
        b"a: !!python/object/apply:os.system ['true']",
        b"a: !!timestamp x",
        b"a: !!bool x",
        b"a: !!int ''",
        b"a: 2001-99-99",
        b"a: " + b"1" * 5000,
        b"a: &a [*a]",
        b"a: &a {x: 1}\nb:\n  <<: *a",
        b"- a\n- b",
        b"a: b\n---\nc: d",
        b"a: \xff\xfe",
        b"\0",
    ],
    ids=range(15),
)
def test_bad_yaml_is_refused_in_one_line(text: bytes) -> None:
    with pytest.raises(data.BadData) as caught:
        data.load_yaml(text)
    assert "\n" not in str(caught.value)


def test_an_alias_bomb_is_refused() -> None:
    levels = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    levels += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(data.BadData, match="million"):
        data.load_yaml("\n".join(levels).encode())


def test_ordinary_aliases_are_fine() -> None:
    assert data.load_yaml(b"a: &x [1, 2]\nb: *x\nc: 'R&D * 2'") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": "R&D * 2",
    }


def test_the_environment_is_not_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert data.load_yaml(b"a: ${oc.env:HF_TOKEN}") == {"a": "${oc.env:HF_TOKEN}"}


def test_deep_json_is_refused() -> None:
    with pytest.raises(data.BadData):
        data.load_json(b'{"a":' * 100_000)


# ------------------------------------------------------------------------------------ Hugging Face


def test_a_hugging_face_folder_is_read_from_headers(tmp_path: Path) -> None:
    checkpoint = read(files.write_hugging_face(tmp_path / "hf"))
    assert checkpoint.format is Format.HUGGING_FACE
    assert checkpoint.model_class == "LlamaForCausalLM"
    assert (checkpoint.task, checkpoint.parameters, checkpoint.dtype) == (
        "text-generation",
        40,
        "fp32",
    )
    assert ("layers", "2") in checkpoint.details


def test_its_own_code_is_a_danger(tmp_path: Path) -> None:
    folder = files.write_hugging_face(tmp_path / "hf", auto_map={"AutoModel": "evil.Model"})
    (folder / "evil.py").write_text("raise SystemExit")
    risk = next(r for r in read(folder).risks if r.code == "remote-code")
    assert risk.severity is Severity.DANGER
    assert "evil.py" in risk.summary


def test_pickled_weights_are_a_warning(tmp_path: Path) -> None:
    folder = files.write_hugging_face(tmp_path / "hf")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pickle-weights" in {r.code for r in read(folder).risks}


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = files.write_hugging_face(tmp_path / "hf")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00002" in refused(folder).why


def test_a_truncated_safetensors_file_is_refused(tmp_path: Path) -> None:
    folder = files.write_hugging_face(tmp_path / "hf")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert "truncated" in refused(folder).title


@pytest.mark.parametrize("length", [2**63, 2**40, 17 << 20])
def test_an_absurd_header_length_is_refused(tmp_path: Path, length: int) -> None:
    folder = files.write_hugging_face(tmp_path / "hf")
    with (folder / "model.safetensors").open("wb") as file:
        file.write(length.to_bytes(8, "little") + b'{"')
        file.truncate(32 << 20)
    refused(folder)


def test_a_config_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"version": 3}')
    assert "not a Hugging Face one" in refused(tmp_path).title


# ------------------------------------------------------------------------------------ NeMo 2, qnemo


def test_a_nemo_2_folder_is_recognised_by_its_two_folders(tmp_path: Path) -> None:
    folder = tmp_path / "llama.nemo"
    (folder / "weights").mkdir(parents=True)
    (folder / "context").mkdir()
    (folder / "context" / "model.yaml").write_text(
        "_target_: nemo.collections.llm.gpt.model.llama.LlamaModel\n"
        "config:\n  num_layers: 32\n  params_dtype: {_target_: torch.bfloat16}\n"
    )
    checkpoint = read(folder)
    assert (checkpoint.format, checkpoint.model_class) == (Format.NEMO2, "LlamaModel")
    assert (checkpoint.task, checkpoint.dtype) == ("text-generation", "bf16")
    assert ("layers", "32") in checkpoint.details


@pytest.mark.parametrize("as_tar", [True, False])
def test_a_qnemo_is_recognised_as_file_and_folder(tmp_path: Path, as_tar: bool) -> None:
    config = {"architecture": "LlamaForCausalLM", "quantization": {"quant_algo": "FP8"}}
    text = json.dumps(config).encode()
    path = tmp_path / "m.qnemo"
    if as_tar:
        path.write_bytes(files.tar_bytes([("./config.json", text), ("./rank0.safetensors", b"")]))
    else:
        path.mkdir()
        (path / "config.json").write_bytes(text)
        (path / "rank0.safetensors").write_bytes(b"")
    checkpoint = read(path)
    assert (checkpoint.format, checkpoint.dtype) == (Format.QNEMO, "FP8")
    assert checkpoint.model_class == "LlamaForCausalLM"


# ------------------------------------------------------------------------------------ ONNX


def test_an_onnx_signature_is_the_graph_s_own(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save_model(files.onnx_model(), path)
    checkpoint = read(path)
    graph = checkpoint.graph
    assert graph is not None
    assert graph.inputs == (TensorSpec("x", "FP32", (-1, 3, 4, 8)),)
    assert graph.outputs == (TensorSpec("y", "FP32", (-1, 3, 4, 8)),)
    assert (graph.opset, graph.ir_version, graph.producer) == (17, 8, "tests")
    assert (checkpoint.parameters, checkpoint.dtype, checkpoint.task) == (8, "fp32", "image")


def test_every_onnx_type_has_its_triton_name(tmp_path: Path) -> None:
    kinds = {
        TensorProto.INT64: "INT64", TensorProto.STRING: "BYTES", TensorProto.BOOL: "BOOL",
        TensorProto.FLOAT16: "FP16", TensorProto.BFLOAT16: "BF16", TensorProto.DOUBLE: "FP64",
    }  # fmt: skip
    values = [helper.make_tensor_value_info(f"i{k}", k, [1]) for k in kinds]
    graph = helper.make_graph([], "g", values, values[:1])
    path = tmp_path / "m.onnx"
    onnx.save_model(helper.make_model(graph), path)
    facts = read(path).graph
    assert facts is not None
    assert [i.dtype for i in facts.inputs] == list(kinds.values())


def test_weights_listed_as_inputs_are_no_inputs(tmp_path: Path) -> None:
    """Before IR 4 every initialiser had to be declared as an input too."""
    model = files.onnx_model()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [8]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    facts = read(tmp_path / "m.onnx").graph
    assert facts is not None
    assert [i.name for i in facts.inputs] == ["x"]


def test_external_data_of_a_constant_are_found(tmp_path: Path) -> None:
    constant = TensorProto(dims=[1], data_type=TensorProto.FLOAT)
    constant.data_location = TensorProto.EXTERNAL
    entry = constant.external_data.add()
    entry.key, entry.value = "location", "Constant_1_attr__value"
    model = files.onnx_model()
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=constant))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert [r.code for r in read(tmp_path / "m.onnx").risks] == ["missing-data"]


def save_external(path: Path) -> None:
    onnx.save_model(
        files.onnx_model(512), path, save_as_external_data=True, location="w.data", size_threshold=0
    )


def test_external_data_are_listed_and_weighed(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save_external(path)
    checkpoint = read(path)
    assert checkpoint.graph is not None
    assert checkpoint.graph.external_data == ("w.data",)
    assert checkpoint.size == path.stat().st_size + 2048
    assert not checkpoint.risks


@pytest.mark.parametrize("left", [None, 100])
def test_missing_or_short_external_data_are_a_danger(tmp_path: Path, left: int | None) -> None:
    save_external(tmp_path / "m.onnx")
    sidecar = tmp_path / "w.data"
    if left is None:
        sidecar.unlink()
    else:
        os.truncate(sidecar, left)
    assert [r.code for r in read(tmp_path / "m.onnx").risks] == ["missing-data"]


@pytest.mark.parametrize("location", ["../w.data", "/etc/passwd"])
def test_external_data_elsewhere_are_a_danger(tmp_path: Path, location: str) -> None:
    model = files.onnx_model()
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert [r.code for r in read(tmp_path / "m.onnx").risks] == ["escaping-data"]


def test_a_folder_with_one_graph_is_that_graph(tmp_path: Path) -> None:
    onnx.save_model(files.onnx_model(), tmp_path / "model.onnx")
    assert read(tmp_path).path == tmp_path / "model.onnx"


def test_a_config_beside_a_lone_graph_leaves_it_the_graph(tmp_path: Path) -> None:
    folder = files.write_hugging_face(tmp_path / "exported")
    (folder / "model.safetensors").unlink()
    onnx.save_model(files.onnx_model(), folder / "model.onnx")
    assert read(folder).format is Format.ONNX


def test_a_folder_with_two_graphs_asks_which(tmp_path: Path) -> None:
    for name in ("encoder.onnx", "decoder.onnx"):
        onnx.save_model(files.onnx_model(), tmp_path / name)
    assert "decoder.onnx" in refused(tmp_path).why


def test_a_truncated_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(files.onnx_model().SerializeToString()[:-40])
    assert "truncated" in refused(path).title


def test_a_huge_graph_file_is_not_read_whole(tmp_path: Path) -> None:
    """3 GB of initialiser between the graph's small fields (a sparse file)."""
    model = files.onnx_model()
    weights = 3 << 30
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    start = TensorProto(name="big", data_type=TensorProto.FLOAT, dims=[weights // 4])
    tensor = start.SerializeToString() + _field(9, weights)  # raw_data, its bytes follow
    initialiser = _field(5, len(tensor) + weights) + tensor
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.write(model.SerializeToString())
        file.write(_field(7, len(initialiser) + weights + len(graph)) + initialiser)
        file.seek(weights, 1)
        file.write(graph)
    script = (
        "import resource, sys; from pathlib import Path; from console.checkpoints.read import read\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "c = read(Path(sys.argv[1])); print(c.graph.inputs[0].name, c.graph.opset)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["x", "17"], done.stderr


def _field(number: int, length: int) -> bytes:
    """The head of a length-delimited protobuf field."""
    out = bytearray([number << 3 | 2])
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(out) + bytes([length])
