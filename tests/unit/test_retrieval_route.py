"""The retrieval route as data: what it takes, plans and asks, and what its sources make of files."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from backends.clip_retrieval import ClipRetrievalBackend
from backends.doors.retrieval import sentence, towers
from backends.retrieval.forms import MatchForm
from backends.retrieval.options import RetrievalOptions
from backends.workers import retrieval_store
from console.checkpoints.model import Checkpoint, Format
from console.facts import (
    InferenceAnswer,
    Level,
    ModelMetadata,
    TensorAnswer,
    ToolFacts,
    UsageError,
)
from console.planning.deployment import Deployment, VerifyCase
from console.planning.plan import LoadStep, Plan, ServiceStep, VerifyStep, WriteStep
from console.triton.repository import from_text
from tests.contract import samples

ROOT = Path(__file__).parents[2]
BACKEND = ClipRetrievalBackend()


def encoder(**config: object) -> Checkpoint:
    """A sentence encoder of the MiniLM family."""
    return dataclasses.replace(
        samples.language(),
        path=Path("/models/minilm"),
        title="Hugging Face model · BertModel",
        config={"model_type": "bert", "hidden_size": 384, "max_position_embeddings": 512} | config,
    )


def deployment(**changes: Any) -> Deployment:
    given = {"name": "pairs", "backend": BACKEND.name, "checkpoints": {"model": "/models/clip"}}
    return Deployment(**(given | changes))


def plan_of(made: Deployment, *encoders: Checkpoint) -> Plan:
    checkpoints = {"model": samples.towers()}
    if encoders:
        checkpoints["sentence"] = encoders[0]
    return BACKEND.plan(made, checkpoints, samples.HOST, ToolFacts())


def verdicts(made: Deployment, tools: ToolFacts | None = None) -> dict[str, Level]:
    found = BACKEND.checks(made, {"model": samples.towers()}, samples.HOST, tools or ToolFacts())
    return {verdict.check: verdict.level for verdict in found}


# ---------------------------------------------------------------------------- what it takes


def test_figures_that_a_configuration_leaves_out_are_the_librarys() -> None:
    bare = dataclasses.replace(
        samples.towers(), config={"model_type": "siglip", "vision_config": {}, "text_config": {}}
    )
    found = towers(bare)
    assert found is not None
    assert (found.dimension, found.size, found.tokens, found.masked) == (768, 224, 64, False)


def test_a_model_that_writes_about_images_is_no_pair_of_towers() -> None:
    llava = dataclasses.replace(
        samples.towers(), config={"model_type": "llava", "vision_config": {}, "text_config": {}}
    )
    assert towers(llava) is None
    assert BACKEND.accepts({"model": llava}).level is Level.FAIL


def test_another_pair_is_known_by_its_projection() -> None:
    other = dataclasses.replace(
        samples.towers(),
        config={
            "model_type": "altclip",
            "projection_dim": 640,
            "vision_config": {"image_size": 336},
            "text_config": {"max_position_embeddings": 40},
        },
    )
    found = towers(other)
    assert found is not None
    assert (found.dimension, found.size, found.tokens, found.masked) == (640, 336, 40, True)


def test_a_sentence_encoder_has_a_space_and_a_length_of_its_own() -> None:
    found = sentence(encoder())
    assert found is not None and (found.dimension, found.tokens) == (384, 256)


def test_a_model_that_is_no_sentence_encoder_is_refused_as_one() -> None:
    verdict = BACKEND.accepts({"model": samples.towers(), "sentence": samples.language()})
    assert verdict.level is Level.FAIL
    assert verdict.option == "checkpoints.sentence"


# ---------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"store_url": "postgresql://me:secret@db/x"}, "no password"),
        ({"store_url": "postgresql://me@db/x?password=secret"}, "no password"),
        ({"store_url": "mysql://db"}, "postgresql://"),
        ({"store_url": "http://db:6333"}, "no address of postgresql"),
        ({"store": "qdrant", "store_url": "postgresql://db/x"}, "no address of qdrant"),
        ({"store_password_env": "A", "store_password_file": "/b"}, "not both"),
        ({"hnsw_m": 40}, "twice"),
        ({"collection": "x; DROP TABLE y"}, "pattern"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RetrievalOptions.model_validate(given)


# ---------------------------------------------------------------------------- plan


def test_models_are_loaded_before_those_that_call_them() -> None:
    plan = plan_of(deployment(checkpoints={"model": "a", "sentence": "b"}), encoder())
    load = next(step for step in plan.steps if isinstance(step, LoadStep))
    assert load.models == (
        *("pairs_pixels", "pairs_vision", "pairs_image_embed"),
        *("pairs_tokens", "pairs_text", "pairs_text_embed"),
        *("pairs_sentence_tokens", "pairs_sentence", "pairs_sentence_embed", "pairs"),
    )


def files(plan: Plan) -> dict[str, str]:
    return {
        file.path: file.text
        for step in plan.steps
        if isinstance(step, WriteStep)
        for file in step.files
    }


def test_a_password_is_named_and_never_written() -> None:
    made = deployment(
        options={
            "store_url": "postgresql://me@db.example/x",
            "store_password_env": "STORE_PASSWORD",
        }
    )
    plan = plan_of(made)
    service = next(step for step in plan.steps if isinstance(step, ServiceStep)).service
    assert service.process.secrets == ("STORE_PASSWORD",)
    settings = json.loads(files(plan)["${repository}/pairs/${version}/store.json"])
    assert settings["password_env"] == "STORE_PASSWORD"
    assert "password" not in settings


def test_a_text_searches_sentences_where_there_is_an_encoder_and_images_elsewhere() -> None:
    place = "${repository}/pairs/${version}/config.pbtxt"
    alone = files(plan_of(deployment()))[place]
    both = files(plan_of(deployment(checkpoints={"model": "a", "sentence": "b"}), encoder()))[place]
    assert 'key: "text_searches"\n  value {\n    string_value: "image"' in alone
    assert 'key: "text_searches"\n  value {\n    string_value: "sentence"' in both


def test_a_family_without_a_mask_gets_none() -> None:
    plan = BACKEND.plan(
        deployment(), {"model": samples.towers("siglip")}, samples.HOST, ToolFacts()
    )
    text = files(plan)["${repository}/pairs_text/${version}/config.pbtxt"]
    assert "input_ids" in text and "attention_mask" not in text


def test_a_verify_case_compares_an_image_with_candidates() -> None:
    case = VerifyCase(input="/x/cat.png", fields={"candidates": "a cat | a dog"}, expect="a cat")
    plan = plan_of(deployment(verify=(case,)))
    (asked,) = next(step for step in plan.steps if isinstance(step, VerifyStep)).success
    tensors = {tensor.name: tensor for tensor in asked.inputs}  # type: ignore[union-attr]
    assert tensors["IMAGE"].file == "/x/cat.png"
    assert json.loads(tensors["CANDIDATES"].values[0]) == ["a cat", "a dog"]  # type: ignore[index]
    assert asked.expect[0].equals == ("a cat",)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "case", [VerifyCase(expect="x"), VerifyCase(text="a", fields={"colour": "red"})]
)
def test_a_verify_case_that_asks_nothing_known_is_refused(case: VerifyCase) -> None:
    with pytest.raises(UsageError, match=r"verify\[0\]"):
        plan_of(deployment(verify=(case,)))


# ---------------------------------------------------------------------------- checks


def test_a_container_does_not_reach_a_private_store() -> None:
    contained = deployment(server={"launcher": "container"})
    assert verdicts(contained)["retrieval-store"] is Level.FAIL
    named = deployment(
        server={"launcher": "container"}, options={"store_url": "postgresql://me@db.example/x"}
    )
    assert verdicts(named)["retrieval-store"] is Level.PASS


def test_a_password_that_is_not_there_is_found_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STORE_PASSWORD", raising=False)
    named = deployment(options={"store_password_env": "STORE_PASSWORD"})
    assert verdicts(named)["retrieval-password"] is Level.FAIL
    nowhere = deployment(options={"store_password_file": "/" + "p" * 300})
    assert verdicts(nowhere)["retrieval-password"] is Level.FAIL
    monkeypatch.setenv("STORE_PASSWORD", "x")
    assert verdicts(named)["retrieval-password"] is Level.PASS
    file = tmp_path / "password"
    file.write_text("x")
    file.chmod(0o644)
    filed = deployment(options={"store_password_file": str(file)})
    assert verdicts(filed)["retrieval-password"] is Level.FAIL
    file.chmod(0o600)
    assert verdicts(filed)["retrieval-password"] is Level.PASS


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("max_queue_delay_us", {"dynamic_batching": False, "max_queue_delay_us": 9}),
        ("verbose", {"form": "onnxruntime", "verbose": True}),
        ("build_memory_mb", {"store": "qdrant", "build_memory_mb": 64}),
        ("ef_search", {"store": "qdrant", "ef_search": 50}),
        ("store_password_env", {"store_password_env": "STORE_PASSWORD"}),
    ],
)
def test_an_option_that_reaches_nothing_is_told(name: str, options: dict[str, Any]) -> None:
    made = deployment(options=options)
    found = BACKEND.checks(made, {"model": samples.towers()}, samples.HOST, ToolFacts())
    (told,) = [v for v in found if v.option == f"options.{name}" and "does nothing" in v.summary]
    assert told.level is Level.WARN


def test_sentences_without_an_encoder_are_refused() -> None:
    asked = deployment(options={"text_searches": "sentence"})
    assert verdicts(asked)["retrieval-spaces"] is Level.FAIL


# ---------------------------------------------------------------------------- the form

METADATA = ModelMetadata("pairs", ("1",), "", (), (), 16, {"top": "5", "sentence_model": ""})


def test_a_form_sends_an_image_or_a_text(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"x")
    request = MatchForm(METADATA).request(
        {"image": str(image), "top": "3", "filter": '{"color": "red"}', "candidates": "a|b"}
    )
    sent = {tensor.name: tensor for tensor in request.inputs}
    assert sent["IMAGE"].file == image
    assert sent["TOP"].values == (3,)
    assert json.loads(sent["FILTER"].values[0]) == {"color": "red"}  # type: ignore[index]
    assert json.loads(sent["CANDIDATES"].values[0]) == ["a", "b"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "give an image or a text"),
        ({"image": "a", "text": "b"}, "give an image or a text"),
        ({"image": "/nowhere.png"}, "image: no such file"),
        ({"image": "~nobody-of-that-name/a.png"}, "image: no such file"),
        ({"text": "a", "top": "many"}, "top: "),
        ({"text": "a", "filter": "[1]"}, "filter: "),
        ({"text": "a", "against": "sentence"}, "against: "),
    ],
)
def test_a_wrong_field_is_named(values: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        MatchForm(METADATA).request(values)


def test_an_answer_is_the_best_caption_and_a_line_a_record() -> None:
    matches = [{"id": "7", "score": 0.5, "document": {"caption": "a \x1b[31mcat"}}]
    outputs = (
        TensorAnswer("BEST", "BYTES", (1, 1), ("a \x1b[31mcat",)),
        TensorAnswer("MATCHES", "BYTES", (1, 1), (json.dumps(matches),)),
    )
    words = MatchForm(METADATA).answer(InferenceAnswer("pairs", "1", outputs, 0.1))
    assert "\x1b" not in words
    first, second = words.splitlines()
    assert first.startswith("a ") and "0.500  7" in second


# ---------------------------------------------------------------------------- sources


@pytest.fixture
def sources() -> Iterator[Any]:
    """Imports a module that runs in another environment and needs nothing but NumPy and Pillow."""
    places = [str(ROOT / "backends" / part) for part in ("models/retrieval", "workers")]
    before = set(sys.modules)
    sys.path[:0] = places

    def load(name: str) -> ModuleType:
        return __import__(name)

    yield load
    sys.path[:2] = []
    for name in set(sys.modules) - before:
        if name in ("pixels", "store", "retrieval_store"):
            del sys.modules[name]


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (255, 0, 0)).save(file, "PNG")
    return file.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A PNG whose header tells another size than its data has."""
    data = png(1, 1)
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


SETTINGS = {
    "resize": {"shortest_edge": 8},
    "resample": 3,
    "crop": {"height": 8, "width": 8},
    "rescale": 1 / 255,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}


@pytest.mark.parametrize("size", [(8, 8), (40, 20), (9, 100), (1, 1)])
def test_pixels_have_the_size_of_the_tower_whatever_the_image(
    sources: Any, size: tuple[int, int]
) -> None:
    pixels = sources("pixels")
    made = pixels.pixels(pixels.decode(png(*size)), SETTINGS)
    assert made.shape == (3, 8, 8)
    assert made[0].min() == 1 and made[1].max() == -1


def test_a_crop_larger_than_the_image_has_black_around(sources: Any) -> None:
    pixels = sources("pixels")
    settings = SETTINGS | {"resize": None, "crop": {"height": 5, "width": 4}, "mean": None}
    made = pixels.pixels(pixels.decode(png(2, 2)), settings)
    assert made.shape == (3, 5, 4)
    assert made[0].sum() == pytest.approx(4)


@pytest.mark.parametrize("data", [b"", b"words in a file named .jpg", png(8, 8)[:40]])
def test_what_is_no_image_is_said_in_words(sources: Any, data: bytes) -> None:
    pixels = sources("pixels")
    with pytest.raises(pixels.BadImage, match="not an image that can be read"):
        pixels.decode(data)


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(sources: Any) -> None:
    pixels = sources("pixels")
    with pytest.raises(pixels.BadImage, match="20000 x 20000 pixels"):
        pixels.decode(claiming(20_000, 20_000))


def test_a_filter_becomes_conditions(sources: Any) -> None:
    store = sources("store")
    wanted = {"color": "red", "year": {"gte": 2000, "lt": 2010}, "shape": ["square", "circle"]}
    assert store.conditions(wanted) == [
        ("color", "eq", "red"),
        ("year", "gte", 2000),
        ("year", "lt", 2010),
        ("shape", "any", ["square", "circle"]),
    ]


@pytest.mark.parametrize(
    "wanted", [[], {"a": None}, {"a": {"like": 1}}, {"a": {"gte": "x"}}, {"a": []}, {"a": [{}]}]
)
def test_a_filter_that_means_nothing_is_refused(sources: Any, wanted: object) -> None:
    store = sources("store")
    with pytest.raises(store.StoreError):
        store.conditions(wanted)


def test_vectors_of_another_model_are_refused(sources: Any) -> None:
    store = sources("store")
    mine = {"image": {"dimension": 4, "fingerprint": "a"}}
    store.agree(mine, mine, "records")
    with pytest.raises(store.StoreError, match="another model"):
        store.agree({"image": {"dimension": 4, "fingerprint": "b"}}, mine, "records")


def test_a_password_file_that_others_read_is_not_read(sources: Any, tmp_path: Path) -> None:
    store = sources("store")
    file = tmp_path / "password"
    file.write_text("secret\n")
    file.chmod(0o644)
    with pytest.raises(store.StoreError, match="chmod 600"):
        store.secret({"password_file": str(file)})
    file.chmod(0o600)
    assert store.secret({"password_file": str(file)}) == "secret"


def test_a_folder_of_images_takes_captions_from_texts_beside_them(
    sources: Any, tmp_path: Path
) -> None:
    worker = sources("retrieval_store")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "cat.png").write_bytes(png(4, 4))
    (tmp_path / "deep" / "cat.txt").write_text("a cat\n")
    (tmp_path / "notes.md").write_text("no record")
    ((line, where, folder),) = worker.sources(tmp_path)
    record = worker.read(line, where, folder, {})
    assert (record["id"], record["caption"]) == ("deep/cat.png", "a cat")
    assert record["document"] == {"image": "deep/cat.png", "caption": "a cat"}


def test_a_record_is_known_by_its_id_and_changed_by_anything_in_it(
    sources: Any, tmp_path: Path
) -> None:
    worker = sources("retrieval_store")
    (tmp_path / "a.png").write_bytes(png(4, 4))

    def read(**record: object) -> dict[str, Any]:
        found: dict[str, Any] = worker.read(json.dumps(record), "x:1", tmp_path, {})
        return found

    first = read(id=7, image="a.png", year=2000)
    assert first["id"] == "7" and first["document"] == {"image": "a.png", "year": 2000}
    assert read(id=7, image="a.png", year=2000)["digest"] == first["digest"]
    assert read(id=7, image="a.png", year=2001)["digest"] != first["digest"]
    (tmp_path / "a.png").write_bytes(png(5, 4))
    assert read(id=7, image="a.png", year=2000)["digest"] != first["digest"]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "{}",
        '{"image": 3}',
        '{"caption": " "}',
        '{"image": "no.png"}',
        '{"caption": "\\u0000"}',
        '{"caption": "half \\ud83d"}',
        '{"caption": "x", "by": "half \\ud83d"}',
        "[" * 100_000,
    ],
)
def test_a_line_that_is_no_record_says_why(sources: Any, tmp_path: Path, line: str) -> None:
    worker = sources("retrieval_store")
    with pytest.raises(worker.BadRecord):
        worker.read(line, "x:1", tmp_path, {})


def test_the_example_is_taken_and_planned() -> None:
    from console.checkpoints.read import read

    checkpoint = read(ROOT / "examples" / "shapes")
    assert checkpoint.format is Format.HUGGING_FACE
    found = towers(checkpoint)
    assert found is not None
    assert (found.dimension, found.size, found.tokens, found.masked) == (64, 64, 16, True)


def drawn(plan: Plan) -> list[str]:
    """The repository as docs/retrieval.md draws it, from the configurations alone."""
    configs = {
        path.split("/")[1]: from_text(text)
        for path, text in files(plan).items()
        if path.endswith("/config.pbtxt")
    }
    lines = []
    for name, config in configs.items():
        if steps := config.ensemble_scheduling.step:
            first, last = steps
            (given,), (made,) = config.input, config.output
            between = ", ".join(sorted(first.output_map))
            lines.append(
                f"{name:20} {given.name} ─▶ {first.model_name} ─ {between} ─▶ {last.model_name} "
                f"─▶ {made.name} {list(made.dims)}"
            )
    match = configs["shapes"]
    asked = [match.parameters[f"{kind}_model"].string_value for kind in ("image", "text")]
    made = ", ".join(output.name for output in match.output)
    lines.append(f"{'shapes':20} IMAGE | TEXT ─▶ {' | '.join(asked)} ─▶ store ─▶ {made}")
    return lines


def test_the_picture_in_the_documents_is_the_real_repository() -> None:
    from console.checkpoints.read import read
    from console.planning.deployment import load

    made = load(ROOT / "examples" / "shapes" / "deployment.toml")
    plan = BACKEND.plan(
        made, {"model": read(ROOT / "examples" / "shapes")}, samples.HOST, ToolFacts()
    )
    page = (ROOT / "docs" / "retrieval.md").read_text(encoding="utf-8")
    for line in drawn(plan):
        assert line in page


# ---------------------------------------------------------------------------- the store's worker


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('{"id": 0, "caption": "x"}', "0"),
        ('{"id": "a", "caption": "x"}', "a"),
        ('{"id": "", "caption": "x"}', "2d711642b726b04401627ca9"),
        ('{"id": null, "caption": "x"}', "2d711642b726b04401627ca9"),
    ],
)
def test_a_record_has_the_id_that_its_line_says_zero_as_well(line: str, name: str) -> None:
    assert retrieval_store.read(line, "list:1", Path(), {})["id"] == name


def test_a_collection_is_emptied_only_for_a_source_that_has_records(tmp_path: Path) -> None:
    class Store:
        def clear(self) -> None:
            raise AssertionError("emptied before the source was looked at")

    words = ["fill", "--model-folder=m", "--replace", f"--failures={tmp_path / 'failures'}"]
    for source in (tmp_path, tmp_path / "missing"):
        options = retrieval_store.arguments([*words, f"--source={source}"])
        with pytest.raises(retrieval_store.Refused):
            retrieval_store.fill(options, Store(), {})
