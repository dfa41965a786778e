"""The ONNX route's decisions: what it takes, which form it serves, what it checks."""

from __future__ import annotations

import dataclasses
import json
import wave
from pathlib import Path

import pytest
from pydantic import ValidationError

from backends.onnx import OnnxBackend
from backends.onnx_checks import wav_seconds
from backends.onnx_options import OnnxOptions
from backends.speech import SpeechForm
from console.checkpoints.model import Checkpoint, Format
from console.facts import (
    DeckError,
    Endpoint,
    EnvironmentFacts,
    InferenceAnswer,
    Level,
    ModelMetadata,
    TensorAnswer,
    ToolFacts,
    UsageError,
)
from console.planning.deployment import Deployment, ServerSection, VerifyCase
from console.planning.plan import (
    CommandStep,
    ImageStep,
    Inference,
    JsonFile,
    LoadStep,
    Plan,
    ServiceStep,
)
from console.triton.repository import from_text
from tests.contract import samples

BACKEND = OnnxBackend()
WITH_ORT = ToolFacts(triton_backends=frozenset({"python", "onnxruntime"}))


def deployment(checkpoint, verify=(), server=None, **options) -> Deployment:
    return Deployment(
        name="sample",
        backend="onnx",
        checkpoints={"model": str(checkpoint.path)},
        options=options,
        verify=verify,
        server=server or ServerSection(),
    )


def plan(checkpoint, tools=None, **kwargs):
    made = deployment(checkpoint, **kwargs)
    return BACKEND.plan(made, {"model": checkpoint}, samples.HOST, tools or ToolFacts())


def checks(checkpoint, host=samples.HOST, tools=None, **kwargs):
    made = deployment(checkpoint, **kwargs)
    found = BACKEND.checks(made, {"model": checkpoint}, host, tools or ToolFacts())
    return {verdict.check: verdict for verdict in found}


def configurations(made):
    return {
        Path(file.path.replace("/${version}", "")).parent.name: from_text(file.text)
        for file in made.step("repository").files
        if file.path.endswith("config.pbtxt")
    }


# ---------------------------------------------------------------------------- accepts


@pytest.mark.parametrize(
    ("checkpoint", "why"),
    [
        (samples.speech("aed"), "Canary"),
        (samples.speech("unknown"), "unknown kind"),
        (samples.speech(tokenizer=""), "tokenizer"),
        (samples.speech(vocabulary_size=0), "vocabulary"),
        (samples.language(), "not a NeMo speech archive"),
        (samples.graph(dtype="BF16"), "BF16"),
        (dataclasses.replace(samples.speech(), speech=None), "only speech models"),
        (
            dataclasses.replace(
                samples.speech(), config={"preprocessor": {"_target_": "a.AudioToMFCCPreprocessor"}}
            ),
            "MFCC",
        ),
    ],
)
def test_what_the_route_does_not_take_is_refused_with_the_reason(checkpoint, why):
    verdict = BACKEND.accepts({"model": checkpoint})
    assert verdict.level is Level.FAIL and why in verdict.summary and verdict.fix
    with pytest.raises(UsageError, match="does not take"):
        plan(checkpoint)


def test_of_a_checkpoint_that_is_not_here_yet_nothing_is_promised_or_planned():
    named = Checkpoint(path=Path("hub:a/b"), format=Format.HUB, title="Hugging Face model · a/b")
    verdict = BACKEND.accepts({"model": named})
    assert verdict.level is Level.UNKNOWN and "shows when it is fetched" in verdict.summary
    assert BACKEND.suggest({"model": named}, samples.HOST) == OnnxOptions()
    with pytest.raises(UsageError, match="does not take"):
        plan(named)


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("nemo.collections.nlp.models.language_modeling.megatron_gpt_model.GPT", "TensorRT-LLM"),
        ("nemo.collections.tts.models.HifiGanModel", "give the .onnx file"),
    ],
)
def test_a_model_that_is_no_speech_recognition_is_sent_to_its_route(target, route):
    other = dataclasses.replace(samples.speech(), speech=None, config={"target": target})
    verdict = BACKEND.accepts({"model": other})
    assert verdict.level is Level.FAIL and route in verdict.fix


# ---------------------------------------------------------------------------- heads, languages


def test_a_hybrid_is_served_through_ctc_unless_its_transducer_is_asked_for():
    hybrid = samples.speech("hybrid")
    for options, head in (({}, "ctc"), ({"decoder": "rnnt"}, "rnnt")):
        made = plan(hybrid, **options)
        export = made.step("export")
        assert isinstance(export, CommandStep)
        assert export.command.argv[export.command.argv.index("--decoder") + 1] == head
        searched = any(path.endswith("decoder_joint.onnx") for path in export.outputs)
        assert searched == (head == "rnnt")


@pytest.mark.parametrize(("kind", "asked"), [("ctc", "rnnt"), ("rnnt", "ctc")])
def test_a_head_that_the_checkpoint_has_not_is_refused(kind, asked):
    assert checks(samples.speech(kind), decoder=asked)["onnx-decoder"].level is Level.FAIL
    with pytest.raises(UsageError, match=f"no {asked} decoder"):
        plan(samples.speech(kind), decoder=asked)


def test_a_transducer_runs_in_our_python_model_whatever_the_server_has():
    made = plan(samples.speech("rnnt"), WITH_ORT)
    assert [c.backend for c in configurations(made).values()] == ["python"]
    verdict = checks(samples.speech("rnnt"), tools=WITH_ORT, form="onnxruntime")["onnx-decoder"]
    assert verdict.level is Level.FAIL and 'form = "auto"' in verdict.fix


def test_a_checkpoint_of_several_languages_gets_an_optional_language_input():
    (config,) = configurations(plan(samples.ALL["aggregate"])).values()
    (lang,) = (tensor for tensor in config.input if tensor.name == "LANG")
    assert lang.optional and config.parameters["languages"].string_value == "hi,ta"
    assert config.parameters["language_needed"].string_value == "false"
    (config,) = configurations(plan(samples.speech())).values()
    assert "LANG" not in [tensor.name for tensor in config.input]


def test_a_forks_checkpoint_needs_a_language_unless_the_deployment_names_one():
    (config,) = configurations(plan(samples.fork())).values()
    assert config.parameters["language_needed"].string_value == "true"
    (config,) = configurations(plan(samples.fork(), language="ta")).values()
    assert config.parameters["language_needed"].string_value == "false"
    assert checks(samples.fork(), language="xx")["onnx-language"].level is Level.FAIL


def test_a_forks_checkpoint_warns_with_the_keys_that_are_dropped():
    found = checks(samples.fork())
    assert found["onnx-fork"].level is Level.WARN
    assert "decoder.multisoftmax" in found["onnx-fork"].figure
    assert checks(samples.fork(), decoder="rnnt")["onnx-decoder"].level is Level.FAIL


def test_a_forks_transducer_is_exported_for_one_language():
    assert "onnx-decoder" not in checks(samples.fork(), decoder="rnnt", language="ta")
    made = plan(samples.fork(), decoder="rnnt", language="ta")
    argv = made.step("export").command.argv
    assert argv[argv.index("--language") + 1] == "ta"
    assert "--masked" not in argv
    (config,) = configurations(made).values()
    assert "LANG" not in {tensor.name for tensor in config.input}


def test_a_streaming_checkpoint_is_said_to_be_served_offline():
    made = plan(samples.speech(streaming=True))
    assert any("served offline" in note for note in made.notes)


@pytest.mark.parametrize(("kind", "embedding"), [("classification", False), ("speaker", True)])
def test_a_classifier_answers_with_labels_and_a_speaker_model_with_an_embedding(kind, embedding):
    (config,) = configurations(plan(samples.speech(kind, ""))).values()
    names = {tensor.name for tensor in config.output}
    assert {"LABEL", "SCORE", "RANKING", "SCORES", "SECONDS"} <= names
    assert ("EMBEDDING" in names) == embedding


@pytest.mark.parametrize(
    ("checkpoint", "name", "options"),
    [
        (samples.graph(), "opset", {"opset": 15}),
        (samples.graph(), "word_times", {"word_times": True}),
        (samples.graph(), "verbose", {"form": "onnxruntime", "verbose": True}),
        (samples.graph(), "max_queue_delay_us", {"dynamic_batching": False, "max_queue_delay_us": 9}),
        (samples.speech(), "max_symbols", {"max_symbols": 5}),
        (samples.speech(), "unit_embedding", {"unit_embedding": False}),
        (samples.speech("speaker", ""), "long_audio", {"long_audio": "chunk"}),
        (samples.speech("classification", ""), "decoder", {"decoder": "rnnt"}),
    ],
)  # fmt: skip
def test_an_option_that_reaches_nothing_is_told(checkpoint, name, options):
    made = deployment(checkpoint, **options)
    found = BACKEND.checks(made, {"model": checkpoint}, samples.HOST, ToolFacts())
    (told,) = [v for v in found if v.option == f"options.{name}" and "does nothing" in v.summary]
    assert told.level is Level.WARN


def test_a_verify_case_says_its_language_or_its_label():
    case = VerifyCase(input="a.wav", expect="x", fields={"lang": "hi"})
    probe = plan(samples.fork(), verify=(case,)).step("verify").success[0]
    assert [(t.name, t.values) for t in probe.inputs if t.name == "LANG"] == [("LANG", ("hi",))]
    case = VerifyCase(input="a.wav", expect="stop")
    probe = plan(samples.speech("classification", ""), verify=(case,)).step("verify").success[0]
    assert probe.expect[0].output == "LABEL" and probe.expect[0].equals == ("stop",)


def test_a_missing_checkpoint_is_said():
    assert "no checkpoint" in BACKEND.accepts({}).summary


# ---------------------------------------------------------------------------- form


def test_without_the_onnxruntime_backend_our_python_model_runs_the_graph():
    made = plan(samples.speech())
    assert [c.backend for c in configurations(made).values()] == ["python"]
    assert "no onnxruntime backend" in made.notes[0]


def test_with_the_onnxruntime_backend_the_same_plan_gives_the_graph_to_it():
    made = plan(samples.speech(), WITH_ORT)
    configs = configurations(made)
    acoustic = configs["sample_acoustic"]
    assert (acoustic.platform, acoustic.backend) == ("onnxruntime_onnx", "onnxruntime")
    assert configs["sample"].parameters["acoustic_model"].string_value == "sample_acoustic"
    assert "the server has it" in made.notes[0]
    load = made.step("load")
    assert isinstance(load, LoadStep) and load.models == ("sample_acoustic", "sample")


def test_both_forms_have_the_same_inputs_and_outputs():
    python, remote = (
        configurations(plan(samples.speech(), tools))["sample"] for tools in (None, WITH_ORT)
    )
    assert list(python.input) == list(remote.input)
    assert list(python.output) == list(remote.output)


def test_the_form_that_is_asked_for_wins_over_what_the_server_has():
    made = plan(samples.graph(), WITH_ORT, form="python")
    assert [c.backend for c in configurations(made).values()] == ["python"]
    made = plan(samples.graph(), form="onnxruntime")
    assert [c.platform for c in configurations(made).values()] == ["onnxruntime_onnx"]
    assert checks(samples.graph(), form="onnxruntime")["onnx-form"].level is Level.FAIL


def test_the_predicted_signature_is_what_the_export_is_held_to():
    made = plan(samples.speech("hybrid"))
    written = {Path(f.path).name: f.text for f in made.step("workers").files}
    predicted = json.loads(written["signature.json"])
    assert predicted["outputs"][0] == {"name": "logprobs", "dtype": "FP32", "shape": [-1, -1, 129]}
    export = made.step("export")
    assert isinstance(export, CommandStep)
    (judged,) = (probe for probe in export.success if isinstance(probe, JsonFile))
    assert judged.expect["max_abs_diff"] == {"max": 1e-4}


# ---------------------------------------------------------------------------- options


def test_batching_options_reach_the_configuration():
    (config,) = configurations(
        plan(
            samples.graph(),
            max_batch_size=16,
            max_queue_delay_us=500,
            preferred_batch_sizes=[4, 8],
            instance_count=3,
        )
    ).values()
    assert config.max_batch_size == 16
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 8]
    assert config.instance_group[0].count == 3


def test_a_preferred_batch_past_the_largest_is_an_error():
    with pytest.raises(ValidationError, match="past max_batch_size"):
        OnnxOptions(max_batch_size=4, preferred_batch_sizes=(8,))


def test_without_a_batch_dimension_speech_takes_bare_tensors():
    made = plan(samples.speech(), max_batch_size=0)
    (config,) = configurations(made).values()
    assert config.max_batch_size == 0 and not config.HasField("dynamic_batching")
    (probe,) = made.step("verify").success
    assert isinstance(probe, Inference) and probe.inputs[0].shape == (1,)


def test_a_graph_that_cannot_be_batched_is_suggested_without_a_batch():
    fixed = {"model": samples.graph(1, 3, 8, 8)}
    assert BACKEND.suggest(fixed, samples.HOST).max_batch_size == 0
    verdict = checks(samples.graph(1, 3, 8, 8), max_batch_size=8)["onnx-batch"]
    assert verdict.level is Level.FAIL and "[1, 3, 8, 8]" in verdict.figure


def test_control_none_has_no_load_step_and_waits_for_the_loads():
    made = plan(samples.graph(), server=ServerSection(control="none", load_timeout=300))
    assert "load" not in {step.id for step in made.steps}
    service = made.step("service")
    assert isinstance(service, ServiceStep) and service.success[0].timeout >= 300


def served_in(tools: ToolFacts | None = None) -> Plan:
    server = ServerSection(launcher="container", image="24.10-py3")
    return plan(samples.graph(), tools, server=server)


def test_an_image_without_the_onnxruntime_backend_gets_our_python_model_and_its_packages():
    asked = ToolFacts(triton_backends=frozenset({"python"}), server_packages={"numpy": "1.26.4"})
    made = served_in(asked)
    assert [(image.name, image.requirements) for image in made.images] == [
        ("base", ()),
        ("server", ("onnxruntime",)),
    ]
    assert [step.id for step in made.steps if isinstance(step, ImageStep)] == [
        "image-base",
        "image-server",
    ]
    whole = dataclasses.replace(asked, server_packages={"numpy": "1", "onnxruntime": "1"})
    assert [image.requirements for image in served_in(whole).images] == [()]


def test_before_an_image_was_asked_the_release_table_says_what_it_has():
    made = served_in()
    assert "the server has it" in made.notes[0]
    assert [image.reference for image in made.images] == ["nvcr.io/nvidia/tritonserver:24.10-py3"]


def test_a_server_that_is_only_observed_gets_no_model_and_no_load():
    server = ServerSection(launcher="attach", url="http://127.0.0.1:1")
    made = plan(samples.graph(), server=server)
    assert [step.id for step in made.steps] == ["service", "verify"]
    assert not made.environments
    managed = server.model_copy(update={"manage": True, "repository": "/models"})
    assert "load" in [step.id for step in plan(samples.graph(), server=managed).steps]


def test_memory_grows_with_the_checkpoint_and_its_instances():
    small, large = samples.speech(), dataclasses.replace(samples.speech(), size=1 << 30)
    one = BACKEND.memory(deployment(small), {"model": small}, samples.HOST)
    big = BACKEND.memory(deployment(large), {"model": large}, samples.HOST)
    two = BACKEND.memory(deployment(large, instance_count=2), {"model": large}, samples.HOST)
    assert one and big and two
    assert one.host_build < big.host_build and one.disk < big.disk
    assert big.host_serve < two.host_serve


# ---------------------------------------------------------------------------- checks


def test_a_gpu_is_checked_only_when_it_is_asked_for():
    assert checks(samples.graph())["onnx-device"].level is Level.PASS
    missing = checks(samples.graph(), device="cuda")["onnx-device"]
    assert missing.level is Level.FAIL and "no NVIDIA driver" in missing.figure
    assert (
        checks(samples.graph(), samples.GPU_HOST, device="cuda")["onnx-device"].level is Level.PASS
    )


def test_a_gpu_without_its_onnx_runtime_is_a_failure():
    cpu = EnvironmentFacts("embedded", Path("/e/bin/python"), "3.11", {"onnxruntime": "1.31.1"})
    tools = ToolFacts(environments={"embedded": cpu})
    verdict = checks(samples.graph(), samples.GPU_HOST, tools, device="cuda")["onnx-device"]
    assert verdict.level is Level.FAIL and "1.31.1" in verdict.figure


def test_a_graph_newer_than_the_runtime_is_a_failure():
    graph = samples.graph()
    newer = dataclasses.replace(graph, graph=dataclasses.replace(graph.graph, ir_version=14))
    assert checks(newer)["onnx-version"].level is Level.FAIL


def sound(path: Path, seconds: float) -> VerifyCase:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(1000)
        file.writeframes(bytes(int(seconds * 1000)))
    return VerifyCase(input=str(path), expect="one")


def test_a_verify_sound_past_the_longest_is_found_before_the_export(tmp_path):
    case = sound(tmp_path / "long.wav", 250)
    verdict = checks(samples.speech(), verify=(case,))["onnx-audio-length"]
    assert verdict.level is Level.FAIL
    assert verdict.figure == "250.0 s, longest 200 s"
    chunked = checks(samples.speech(), verify=(case,), long_audio="chunk")["onnx-audio-length"]
    assert chunked.level is Level.PASS


def test_a_sound_that_was_written_through_a_pipe_is_as_long_as_its_file(tmp_path):
    file = Path(sound(tmp_path / "piped.wav", 100.0).input)
    head = file.read_bytes()
    file.write_bytes(head[:40] + b"\xff" * 4 + head[44:])
    assert wav_seconds(file) == pytest.approx(100.0, rel=0.01)


def test_a_chunk_longer_than_the_model_takes_is_a_failure():
    short = samples.speech(max_seconds=16.0)
    verdict = checks(short, long_audio="chunk", chunk_seconds=20)["onnx-audio-length"]
    assert verdict.level is Level.FAIL and "16" in verdict.fix
    suggested = BACKEND.suggest({"model": short}, samples.HOST).chunk_seconds
    assert suggested <= 16


def test_a_missing_verify_file_is_a_failure(tmp_path):
    case = VerifyCase(input=str(tmp_path / "none.wav"))
    assert checks(samples.speech(), verify=(case,))["verify-file"].level is Level.FAIL


# ---------------------------------------------------------------------------- requests


def test_a_verify_sound_must_give_exactly_its_words(tmp_path):
    case = sound(tmp_path / "a.wav", 1)
    (probe,) = plan(samples.speech(), verify=(case,)).step("verify").success
    assert isinstance(probe, Inference)
    assert probe.expect[0].equals == ("one",) and probe.inputs[0].file == case.input


@pytest.mark.parametrize(
    "case",
    [
        VerifyCase(text="hello"),
        VerifyCase(input="/a.wav", fields={"language": "en"}),
        VerifyCase(input="/a.wav", fields={"word_times": "perhaps"}),
    ],
)
def test_a_verify_case_that_does_not_fit_speech_is_an_error(case):
    with pytest.raises(UsageError, match=r"verify\[0\]"):
        plan(samples.speech(), verify=(case,))


@pytest.mark.parametrize(
    "case",
    [
        VerifyCase(text="hello"),
        VerifyCase(input="/does/not/exist.npy"),
        VerifyCase(fields={"x": "not json"}),
        VerifyCase(fields={"x": "[[1, 2], [3]]"}),
        VerifyCase(fields={"nothing": "[1]"}),
        VerifyCase(fields={"x": "[[1, 2, 3, 4]]"}, expect="one"),
    ],
)
def test_a_verify_case_that_does_not_fit_a_graph_is_an_error(case):
    with pytest.raises(UsageError, match=r"verify\[0\]"):
        plan(samples.graph(), verify=(case,))


def test_values_in_a_verify_case_become_a_tensor():
    case = VerifyCase(fields={"x": "[[1, 2, 3, 4]]"}, expect="[1, 2, 3, 4]")
    (probe,) = plan(samples.graph(), verify=(case,)).step("verify").success
    assert isinstance(probe, Inference)
    assert probe.inputs[0].shape == (1, 4) and probe.inputs[0].values == (1, 2, 3, 4)
    assert probe.expect[0].near == (1.0, 2.0, 3.0, 4.0)


def form(**parameters: str) -> SpeechForm:
    metadata = ModelMetadata(
        "asr", ("1",), "python", (), (), 8, {"tritondeck_adapter": "speech-text", **parameters}
    )
    found = BACKEND.prompts(Endpoint("http://127.0.0.1:8000"), metadata)
    assert isinstance(found, SpeechForm)
    return found


def test_the_form_says_how_long_a_sound_may_be():
    assert "at most 40 s" in form(max_seconds="40", long_audio="refuse").fields[0].help
    assert "at most" not in form(max_seconds="40", long_audio="chunk").fields[0].help


@pytest.mark.parametrize("values", [{}, {"sound": ""}, {"sound": "/does/not/exist.wav"}])
def test_a_form_without_a_sound_is_an_error_that_names_the_field(values):
    with pytest.raises(DeckError, match="sound:"):
        form().request(values)


def test_an_answer_is_shown_without_what_a_terminal_would_act_on():
    word = {"word": "o\x1b[2Jne", "start": 0.5, "end": 0.75, "confidence": 0.987}
    outputs = (
        TensorAnswer("TEXT", "BYTES", (1, 1), ("o\x1b[2Jne",)),
        TensorAnswer("WORDS", "BYTES", (1, 1), (json.dumps([word]),)),
    )
    shown = form().answer(InferenceAnswer("asr", "1", outputs, 0.1))
    assert shown.splitlines() == ["one", "    0.50 – 0.75 s  one  99%"]


@pytest.mark.parametrize("words", ["not json", '[{"word": "x"}]', "[1]", "null"])
def test_word_times_that_cannot_be_read_do_not_hide_the_text(words):
    outputs = (
        TensorAnswer("TEXT", "BYTES", (1,), ("one",)),
        TensorAnswer("WORDS", "BYTES", (1,), (words,)),
    )
    shown = form().answer(InferenceAnswer("asr", "1", outputs, 0.1))
    assert shown.splitlines()[0] == "one" and "could not be read" in shown


def test_an_opset_that_the_serving_runtime_does_not_know_fails_before_the_run():
    graph = samples.graph()
    newer = dataclasses.replace(graph, graph=dataclasses.replace(graph.graph, opset=27))
    found = checks(newer)["onnx-version"]
    assert found.level is Level.FAIL
    assert "newest: opset 26" in found.figure
    assert "1.31.1" in found.source


@pytest.mark.parametrize(
    ("installed", "level"),
    [("1.31.1", Level.PASS), ("1.40.0", Level.PASS), ("1.12.0", Level.UNKNOWN)],
)
def test_the_runtime_that_is_installed_decides(installed, level):
    facts = EnvironmentFacts("embedded", Path("/e/bin/python"), "3.11", {"onnxruntime": installed})
    tools = ToolFacts(environments={"embedded": facts})
    assert checks(samples.graph(), tools=tools)["onnx-version"].level is level


def test_the_symbols_of_a_step_are_an_option_of_the_transducer_alone():
    argv = plan(samples.speech(decoder="hybrid"), max_symbols=3).step("export").command.argv
    assert "--max-symbols" not in argv
    step = plan(samples.speech(decoder="hybrid"), decoder="rnnt", max_symbols=3).step("export")
    assert step.command.argv[step.command.argv.index("--max-symbols") + 1] == "3"
