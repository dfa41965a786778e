"""What PyTorch says, what the exported graphs and the served sources say, and whether it is the same.

A part of the export worker: runs in the `nemo` environment beside `nemo_to_onnx.py`, imports nothing
of tritondeck, Python 3.10 syntax.
"""

import importlib.util
import random
from pathlib import Path

from nemo_archive import Refused
from nemo_model import head

COMPARED_SECONDS = 30
STRETCH = "\u2581"


def load_sources(folder, names=("sound", "features", "decoding")):
    """The modules that are served, from the model's version folder, by name."""
    loaded = {}
    for name in names:
        spec = importlib.util.spec_from_file_location(
            "served_" + name, str(folder / (name + ".py"))
        )
        loaded[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded[name])
    return loaded


def sounds(paths, sound, rate, longest):
    """Batches of float32 rows at `rate` Hz: each given WAV alone, then three of unequal length.

    A sound counts with its first COMPARED_SECONDS, and never with more than `longest` seconds, which
    is all that the graph takes at once. Without a WAV: two seconds of seeded tones and noise.
    """
    import numpy as np

    rows = []
    for path in paths:
        try:
            samples, found = sound.decode_wav(Path(path).read_bytes())
        except (OSError, ValueError) as error:
            raise Refused("cannot use the sound %s: %s" % (path, error)) from error
        limit = int(min(COMPARED_SECONDS, longest) * rate)
        rows.append(sound.resample(samples, found, rate)[:limit])
    rows = [row for row in rows if len(row) >= rate // 10]
    if not rows:
        rng = np.random.default_rng(20)
        at = np.arange(2 * rate) / rate
        tones = sum(np.sin(2 * np.pi * f * at * (1 + 0.2 * at)) for f in (180, 420, 900, 2100))
        made = 0.1 * tones * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * at))
        rows.append((made + 0.01 * rng.standard_normal(len(at))).astype(np.float32))
    batches = [[row] for row in rows]
    trio = [rows[0], rows[len(rows) // 2][: len(rows[len(rows) // 2]) * 7 // 10]]
    trio.append(rows[-1][: max(rate // 4, len(rows[-1]) * 4 // 10)])
    return [*batches, trio]


def batched(model, samples):
    """The samples as a padded tensor [B, N] with their lengths [B], on the model's device."""
    import torch

    lengths = torch.tensor([len(row) for row in samples], device=model.device)
    signal = torch.zeros(len(samples), int(lengths.max()), device=model.device)
    for row, values in zip(signal, samples):  # noqa: B905
        row[: len(values)] = torch.from_numpy(values)
    return signal, lengths


def array(tensor):
    return tensor.float().cpu().numpy()


class Figures:
    """The largest differences, and whether decisions were equal."""

    def __init__(self):
        self.found = {
            "max_abs_diff": 0.0,
            "frontend_max_abs_diff": 0.0,
            "decisions_equal": True,
        }

    def differ(self, name, ours, theirs):
        import numpy as np

        # NaN must not pass for a small difference.
        gap = float(np.nan_to_num(np.abs(ours - theirs), nan=np.inf).max(initial=0.0))
        self.found[name] = max(self.found[name], gap)

    def same(self, equal):
        self.found["decisions_equal"] &= bool(equal)


# ------------------------------------------------------------------------------ text


class Spoken:
    """What PyTorch says of recordings, before the export rewrites the modules."""

    def __init__(self, model, decoder, batches, masked, one=None):
        """`one`: the only language of a fork's transducer, and how it is searched."""
        import torch

        self.decoder, self.model = decoder, model
        tokenizer = getattr(model, "tokenizer", None)
        self.tokenizers = getattr(tokenizer, "tokenizers_dict", {})
        self.single, self.search = None, None
        if one is not None:
            self.single, self.search = self.tokenizers[one[0]], one[1]
            self.tokenizers = {}
        # In a head of several languages, each row is asked in each of them; in an aggregate one
        # also in none.
        self.languages = [*([] if masked else [""]), *self.tokenizers]
        if decoder == "rnnt":
            # NeMo's own search has no way to keep to one language.
            self.languages = [""]
        with torch.inference_mode():
            self.cases = [self._case(samples) for samples in batches]

    def _case(self, samples):
        model = self.model
        signal, lengths = batched(model, samples)
        features, frames = model.preprocessor(input_signal=signal, length=lengths)
        encoded, steps = model.encoder(audio_signal=features, length=frames)[:2]
        case = {
            "samples": samples,
            "features": array(features),
            "frames": frames.cpu().numpy(),
            "steps": steps.cpu().numpy(),
        }
        if self.decoder == "rnnt":
            case["values"] = array(encoded)
            if self.search is not None:
                rows = zip(encoded, steps)  # noqa: B905
                case["ids"] = {"": [searched(model, row, int(n), self.search) for row, n in rows]}
                case["texts"] = {"": [self.text(row) for row in case["ids"][""]]}
                return case
            (found,) = model.decoding.decoding(encoder_output=encoded, encoded_lengths=steps)
            ids = [[int(i) for i in hypothesis.y_sequence] for hypothesis in found]
            case["ids"] = {"": ids}
        else:
            logprobs = head(model)[0](encoder_output=encoded)
            case["values"] = array(logprobs)
            case["ids"] = {name: self._best(logprobs, steps, name) for name in self.languages}
        case["texts"] = {
            name: [self.text(row) for row in rows] for name, rows in case["ids"].items()
        }
        if self.decoder == "ctc" and not self.tokenizers:
            found = head(model)[1].ctc_decoder_predictions_tensor(logprobs, decoder_lengths=steps)
            case["texts"][""] = [getattr(item, "text", item) for item in found]
        return case

    def _best(self, logprobs, steps, language):
        """Ids of the best path of each row, repeats and blanks left out."""
        import torch

        blank = logprobs.shape[-1] - 1
        if language:
            names = list(self.tokenizers)
            sizes = [len(self.tokenizers[name].vocab) for name in names]
            start = sum(sizes[: names.index(language)])
            kept = [*range(start, start + sizes[names.index(language)]), blank]
            best = torch.tensor(kept, device=logprobs.device)[logprobs[..., kept].argmax(-1)]
        else:
            best = logprobs.argmax(-1)
        rows = [torch.unique_consecutive(row[:n]).tolist() for row, n in zip(best, steps)]  # noqa: B905
        return [[i for i in row if i != blank] for row in rows]

    def text(self, ids):
        """What the checkpoint's tokenizer makes of token ids. NeMo itself has no text for those of
        several languages; there, each stretch of one language is read by its own tokenizer."""
        if self.single is not None:
            return self.single.ids_to_text(ids)
        if not self.tokenizers:
            decoding = self.model.decoding if self.decoder == "rnnt" else head(self.model)[1]
            # A space before a punctuation mark is dropped.
            return decoding.decode_tokens_to_str_with_strip_punctuation(ids)
        whole, text, last = self.model.tokenizer, "", None
        stretches = []
        for index in ids:
            name, local = whole.langs_by_token_id[index], whole.offset_token_ids_by_token_id[index]
            if name != last:
                stretches.append((self.tokenizers[name], []))
            stretches[-1][1].append(local)
            last = name
        for tokenizer, local in stretches:
            begins = tokenizer.ids_to_tokens(local[:1])[0].startswith(STRETCH)
            text += (" " if text and begins else "") + tokenizer.ids_to_text(local)
        return text


def searched(model, encoded, steps, search):
    """Ids that PyTorch's own modules say of one recording, one step at a time. NeMo's search knows no
    joint network of one language. `encoded` is [D, T]."""
    import torch

    frames, ids = encoded[:, :steps].T[None], []
    last, state = search["start"], None
    for step in range(steps):
        for _ in range(search["max_symbols"]):
            told = torch.tensor([[last]], device=frames.device)
            predicted, fresh = model.decoder.predict(told, state, add_sos=False, batch_size=1)
            scores = model.joint.joint(frames[:, step : step + 1], predicted)
            best = int(scores[0, 0, 0].argmax())
            if best == search["blank"]:
                break
            ids.append(best)
            last, state = best + search["offset"], fresh
    return ids


def run_text(session, features, lengths):
    names = [output.name for output in session.get_outputs()]
    return session.run(names, {"audio_signal": features, "length": lengths})


def compare_text(sessions, reference, folder, sources):
    """ONNX Runtime against PyTorch on the same input, and the served text path against NeMo's."""
    import numpy as np

    mel = sources["features"].load_frontend(str(folder / "frontend.npz"))
    decoding = sources["decoding"]
    vocabulary = decoding.load_vocabulary(str(folder / "vocabulary.json"))
    search = None
    if reference.decoder == "rnnt":
        search = sources["transducer"].Transducer(
            str(folder / "transducer.json"), sessions["decoder_joint.onnx"]
        )
    figures, texts, different = Figures(), [], []
    for case in reference.cases:
        values, steps = run_text(
            sessions["model.onnx"], case["features"], case["frames"].astype(np.int64)
        )
        figures.same(np.array_equal(steps, case["steps"]))
        compare_values(figures, values, case, search)
        batch, lengths = served_features(mel, case, figures)
        values, steps = run_text(sessions["model.onnx"], batch, lengths)
        for language, wanted in case["texts"].items():
            columns = [vocabulary.columns(language)] * len(values)
            if search is not None:
                tokens = search(values, steps, columns)
            else:
                rows = zip(values, steps, columns)  # noqa: B905
                tokens = [decoding.greedy(r, int(n), vocabulary.blank, c) for r, n, c in rows]
            for row, expected in zip(tokens, wanted):  # noqa: B905
                texts.append(vocabulary.text([token[0] for token in row]))
                if texts[-1] != expected:
                    different.append([texts[-1], expected])
    found = figures.found
    found.update(text_equal=not different, texts=texts, texts_different=different)
    found.update(joined_equal(vocabulary, reference))
    return found


def compare_values(figures, values, case, search):
    """The graph's values against PyTorch's over the steps that count, and the decisions on them."""
    import numpy as np

    for row, expected, count in zip(values, case["values"], case["steps"]):  # noqa: B905
        if search is not None:  # [D, T]
            figures.differ("max_abs_diff", row[:, :count], expected[:, :count])
            continue
        row, expected = row[:count], expected[:count]
        figures.differ("max_abs_diff", row, expected)
        figures.same(np.array_equal(row.argmax(-1), expected.argmax(-1)))
    if search is not None:
        tokens = search(values, case["steps"], [None] * len(values))
        figures.same([[token[0] for token in row] for row in tokens] == case["ids"][""])


def served_features(frontend, case, figures):
    """The batch as the server makes it: features [B, F, frames] and frame counts [B]."""
    import numpy as np

    ours = [frontend(samples) for samples in case["samples"]]
    lengths = np.array([item.shape[1] for item in ours], np.int64)
    batch = np.zeros((len(ours), ours[0].shape[0], lengths.max()), np.float32)
    for index, item in enumerate(ours):
        batch[index, :, : item.shape[1]] = item
        theirs = case["features"][index][:, : item.shape[1]]
        figures.differ("frontend_max_abs_diff", item, theirs)
    return batch, lengths


def joined_equal(vocabulary, reference, count=300):
    """Whether our piece joiner equals the checkpoint's tokenizer on seeded random id sequences."""
    rng = random.Random(7)
    wrong = []
    for _ in range(count):
        ids = [rng.randrange(vocabulary.blank) for _ in range(rng.randint(1, 12))]
        if vocabulary.text(ids) != reference.text(ids):
            wrong.append([ids, vocabulary.text(ids), reference.text(ids)])
    return {"vocabulary_equal": not wrong, "vocabulary_different": wrong[:3]}


# ------------------------------------------------------------------------------ labels


class Labelled:
    """What PyTorch says of each recording alone: these models pool over time, so that padding
    changes the answer."""

    def __init__(self, model, decoder, batches):
        import torch

        self.cases = []
        with torch.inference_mode():
            for samples in (row for batch in batches for row in batch):
                signal, lengths = batched(model, [samples])
                features, _ = model.preprocessor(input_signal=signal, length=lengths)
                found = model.forward(input_signal=signal, input_signal_length=lengths)
                logits, embeddings = found if isinstance(found, tuple) else (found, None)
                case = {"samples": samples, "features": array(features)[0]}
                case["logits"] = array(logits)[0]
                if decoder == "speaker":
                    case["embs"] = array(embeddings)[0]
                self.cases.append(case)


def compare_labels(sessions, reference, folder, sources, frames):
    """The served path (our features, the graph) against NeMo's own, recording by recording."""
    import numpy as np

    frontend = sources["features"].load_frontend(str(folder / "frontend.npz"))
    session, figures = sessions["model.onnx"], Figures()
    names = [output.name for output in session.get_outputs()]
    for case in reference.cases:
        features, length = frontend.padded(case["samples"])
        figures.differ("frontend_max_abs_diff", features, case["features"])
        features, length = sources["features"].fitted(features, length, frames)
        feed = {"audio_signal": features[None], "length": np.array([length], np.int64)}
        found = dict(zip(names, session.run(names, feed)))  # noqa: B905
        for name in names:
            figures.differ("max_abs_diff", found[name][0], case[name])
        figures.same(found["logits"][0].argmax() == case["logits"].argmax())
    return {**figures.found, "compared": len(reference.cases)}


# ------------------------------------------------------------------------------ verdict


def judge(figures, tolerance):
    """Raise `Refused` naming the figure that is past its bound."""
    if not figures["max_abs_diff"] <= tolerance:  # also true for NaN
        raise Refused(
            "ONNX Runtime differs from PyTorch by %.3g, tolerance %.3g"
            % (figures["max_abs_diff"], tolerance)
        )
    if not figures["decisions_equal"]:
        raise Refused("ONNX Runtime and PyTorch decide differently on the same input")
    if not figures.get("vocabulary_equal", True):
        ids, ours, theirs = figures["vocabulary_different"][0]
        raise Refused("ids %s read %r with our joiner, %r with NeMo" % (ids, ours, theirs))
    if not figures.get("text_equal", True):
        ours, theirs = figures["texts_different"][0]
        raise Refused("the served path reads %r, NeMo %r" % (ours, theirs))
