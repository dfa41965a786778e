"""Every other served form of a speech checkpoint: exported by real NeMo, answered by a real Triton."""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from onnx_work import DIGITS, ROOT, build, deployment, plan_of, report

from backends.registry import get
from console.checkpoints.read import read
from console.facts import DeckError, InferenceRequest, TensorValue
from console.planning.deployment import VerifyCase
from console.triton import control, inference

pytestmark = pytest.mark.integration

MAKER = ROOT / "tests" / "assets" / "make_speech_checkpoints.py"
SOUNDS = tuple(DIGITS / "wavs" / f"digits_{n}.wav" for n in (1, 2, 3))
FAST = ("transducer_bpe", "indic_fork", "speaker", "commands")
SLOW = ("tdt_bpe", "hybrid_agg", "hybrid_bpe")


class Forms:
    """A running server; models are exported and loaded when they are first asked for."""

    def __init__(self, server, nemo: Path, folder: Path) -> None:
        self.server, self.nemo, self.folder = server, nemo, folder
        self.plans: dict[str, object] = {}

    def made(self, name: str) -> Path:
        if not (self.folder / f"{name}.nemo").exists():
            names = FAST if name in FAST else SLOW
            sounds = [word for path in SOUNDS for word in ("--sound", str(path))]
            done = subprocess.run(
                [str(self.nemo / "bin" / "python"), str(MAKER), str(self.folder), *names, *sounds],
                cwd=self.folder,
                env={"PATH": os.defpath, "HOME": str(self.folder), "HF_HUB_OFFLINE": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout[-3000:]
        return self.folder / f"{name}.nemo"

    def nemo_says(self, name: str) -> list:
        return json.loads((self.folder / f"{name}.json").read_text())

    def values(self, name: str) -> dict[str, str]:
        work = self.server.folder / f"work-{name}"
        work.mkdir(exist_ok=True)
        return self.server.values | {"work": str(work), "env_nemo": str(self.nemo)}

    def serve(self, name: str, **options: object):
        model = name + "".join(f"_{value}" for value in options.values())
        if model not in self.plans:
            checkpoint = read(self.made(name))
            said = {"lang": "hi"} if name == "indic_fork" and "language" not in options else {}
            cases = tuple(VerifyCase(input=str(path), fields=said) for path in SOUNDS)
            made = deployment(checkpoint, model, verify=cases, **options)
            self.plans[model] = plan_of(checkpoint, made)
            build(self.plans[model], self.values(model))
            control.load(self.server.endpoint, model)
        return model

    def ask(self, model: str, paths=SOUNDS, **texts: str) -> dict[str, tuple]:
        shape = (len(paths), 1)
        sounds = tuple(path.read_bytes() for path in paths)
        inputs = [TensorValue("WAV", "BYTES", shape, values=sounds)]
        for name, value in texts.items():
            inputs.append(TensorValue(name, "BYTES", shape, values=(value,) * len(paths)))
        answer = inference.infer(self.server.endpoint, InferenceRequest(model, tuple(inputs)))
        return {tensor.name: tensor.values for tensor in answer.outputs}


@pytest.fixture(scope="module")
def forms(make_module_server, nemo_environment, tmp_path_factory):
    server = make_module_server()
    server.start()
    return Forms(server, nemo_environment, tmp_path_factory.mktemp("forms"))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("transducer_bpe", {}, marks=pytest.mark.slow),
        pytest.param("tdt_bpe", {}, marks=pytest.mark.slow),
        pytest.param("hybrid_bpe", {"decoder": "rnnt"}, marks=pytest.mark.slow),
    ],
)
def test_a_transducer_reads_a_batch_of_unequal_recordings_as_nemo_does(forms, name, options):
    model = forms.serve(name, **options)
    heard = forms.ask(model)
    assert list(heard["TEXT"]) == forms.nemo_says(name)
    assert len(set(heard["TEXT"])) == 3, "equal texts compare little"
    assert [forms.ask(model, [path])["TEXT"][0] for path in SOUNDS] == list(heard["TEXT"])
    assert all(0 < score <= 1 for score in heard["CONFIDENCE"])


@pytest.mark.slow
def test_the_symbols_at_one_step_are_bounded_in_the_export_and_in_the_server(forms):
    model = forms.serve("transducer_bpe", max_symbols=1)
    # The export has compared the bounded search with NeMo's own, bounded alike.
    assert report(forms.values(model))["text_equal"]
    (search,) = forms.server.folder.rglob(f"{model}/*/transducer.json")
    assert json.loads(search.read_text())["max_symbols"] == 1
    free = forms.ask(forms.serve("transducer_bpe"))["TEXT"]
    bounded = forms.ask(model)["TEXT"]
    assert all(len(short) <= len(long) for short, long in zip(bounded, free, strict=True))


def test_a_forks_checkpoint_reads_each_language_with_its_own_columns(forms):
    model = forms.serve("indic_fork")
    found = report(forms.values(model))
    assert found["dropped_keys"] == [
        "encoder.of_a_later_fork",
        "decoder.multisoftmax",
        "joint.language_keys",
        "joint.multilingual",
        "aux_ctc.decoder.multisoftmax",
    ]
    assert found["text_equal"] and found["max_abs_diff"] <= 1e-4
    # Each sound in hi, then in ta: what PyTorch's best path in those columns reads.
    for at, path in enumerate(SOUNDS):
        hindi, tamil = (forms.ask(model, [path], LANG=name)["TEXT"][0] for name in ("hi", "ta"))
        assert [hindi, tamil] == found["texts"][2 * at : 2 * at + 2]
        assert all("\u0900" <= letter <= "\u097f" or letter == " " for letter in hindi)
        assert all("\u0b80" <= letter <= "\u0bff" or letter == " " for letter in tamil)


@pytest.mark.parametrize("language", ["hi", pytest.param("ta", marks=pytest.mark.slow)])
def test_a_forks_transducer_is_served_for_the_language_that_is_named(forms, language):
    model = forms.serve("indic_fork", decoder="rnnt", language=language)
    said = report(forms.values(model))
    assert said["text_equal"] and said["decisions_equal"]
    heard = list(forms.ask(model)["TEXT"])
    assert heard == said["texts"][: len(heard)]
    assert any(heard), "nothing heard compares nothing"


@pytest.mark.parametrize(
    ("said", "words"), [({}, "needs LANG"), ({"LANG": "xx"}, "none of hi, ta")]
)
def test_a_language_that_is_missing_or_unknown_is_refused_in_words(forms, said, words):
    model = forms.serve("indic_fork")
    with pytest.raises(DeckError) as caught:
        forms.ask(model, SOUNDS[:1], **said)
    assert words in f"{caught.value} {caught.value.raw}"


def test_the_form_of_several_languages_asks_for_one(forms):
    model = forms.serve("indic_fork")
    metadata = inference.metadata(forms.server.endpoint, model)
    form = get("onnx").prompts(forms.server.endpoint, metadata)
    (field,) = (field for field in form.fields if field.name == "lang")
    assert field.kind == "choice" and field.choices == ("hi", "ta") and field.required
    request = form.request({"sound": str(SOUNDS[0]), "lang": "ta"})
    shown = form.answer(inference.infer(forms.server.endpoint, request))
    assert shown.splitlines()[0] == report(forms.values(model))["texts"][1]


@pytest.mark.slow
def test_an_aggregate_checkpoint_hears_any_language_or_the_one_that_is_named(forms):
    model = forms.serve("hybrid_agg")
    texts = report(forms.values(model))["texts"]
    for at, path in enumerate(SOUNDS):
        wishes = ({}, {"LANG": "hi"}, {"LANG": "ta"})
        heard = [forms.ask(model, [path], **said)["TEXT"][0] for said in wishes]
        assert heard == texts[3 * at : 3 * at + 3]


def test_a_classifier_answers_with_nemos_label_and_probability(forms):
    heard = forms.ask(forms.serve("commands"))
    for at, said in enumerate(forms.nemo_says("commands")):
        scores = np.exp(said["logits"]) / np.exp(said["logits"]).sum()
        np.testing.assert_allclose(heard["SCORES"][4 * at : 4 * at + 4], scores, atol=1e-5)
        best = ["yes", "no", "stop", "go"][int(scores.argmax())]
        assert heard["LABEL"][at] == best
        assert json.loads(heard["RANKING"][at])[0]["label"] == best


def test_a_speaker_model_answers_with_nemos_embedding_of_length_one(forms):
    heard = forms.ask(forms.serve("speaker"))
    for at, said in enumerate(forms.nemo_says("speaker")):
        theirs = np.array(said["embedding"])
        ours = np.array(heard["EMBEDDING"][24 * at : 24 * at + 24])
        np.testing.assert_allclose(ours, theirs / np.linalg.norm(theirs), atol=1e-5)


def test_two_voices_are_compared_by_the_form(forms):
    model = forms.serve("speaker")
    metadata = inference.metadata(forms.server.endpoint, model)
    form = get("onnx").prompts(forms.server.endpoint, metadata)
    request = form.request({"sound": str(SOUNDS[0]), "other": str(SOUNDS[1])})
    shown = form.answer(inference.infer(forms.server.endpoint, request)).splitlines()
    first, second = (np.array(said["embedding"]) for said in forms.nemo_says("speaker")[:2])
    cosine = first @ second / (np.linalg.norm(first) * np.linalg.norm(second))
    assert shown[-1].startswith("cosine of the two voices: ")
    assert math.isclose(float(shown[-1].split()[-1]), cosine, abs_tol=1e-3)
    assert "embedding of 24 numbers, norm 1.000" in shown[-2]


def test_a_recording_too_short_for_a_frame_is_refused_in_words(forms):
    model = forms.serve("commands")
    inputs = (
        TensorValue("SAMPLES", "FP32", (1, 100), values=(0.0,) * 100),
        TensorValue("RATE", "INT32", (1, 1), values=(16000,)),
    )
    with pytest.raises(DeckError) as caught:
        inference.infer(forms.server.endpoint, InferenceRequest(model, inputs))
    assert "too few for a frame" in f"{caught.value} {caught.value.raw}"
