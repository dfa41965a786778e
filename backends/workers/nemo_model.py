"""A NeMo speech model: restored, asked for what serving needs, and written as ONNX graphs.

A part of the export worker: runs in the `nemo` environment beside `nemo_to_onnx.py`, imports nothing
of tritondeck, Python 3.10 syntax.
"""

import logging
import shutil
import traceback
import warnings

from nemo_archive import (
    Refused,
    check_archive,
    check_weights,
    is_fork,
    main_line,
    progress,
    saved_weights,
)

MASK_FRAMES = 60000  # 600 s at 10 ms: length table of convolutional encoders
PROBED_FRAMES = 800


def restore(path, device, decoder, language=""):
    """The checkpoint as a NeMo model in eval mode on `device`, and the configuration keys that were
    dropped. `decoder` is the head that is wanted: ``ctc``, ``rnnt``, ``classification``, ``speaker``;
    `language` the one whose joint network a fork's transducer gets.
    """
    # Said on every import, about tools that this worker does not use.
    warnings.filterwarnings("ignore", message="Couldn't find ffmpeg")
    logging.getLogger("nv_one_logger").setLevel(logging.ERROR)
    import torch
    from nemo.core import ModelPT

    if device == "cuda" and not torch.cuda.is_available():
        raise Refused("device is cuda, but PyTorch sees no GPU here: set device to cpu")
    progress(0.30, "restoring the checkpoint")
    # TF32 convolutions differ from ONNX Runtime by more than any tolerance worth having.
    torch.backends.cudnn.allow_tf32 = False
    config, dropped, changes = check_archive(path), [], {}
    if is_fork(config):
        from omegaconf import OmegaConf

        import_collections(config)
        dropped = main_line(config)
        progress(0.32, "a fork's checkpoint; dropped: %s" % (", ".join(dropped) or "nothing"))
        changes = {"override_config_path": OmegaConf.create(config), "strict": False}
    try:
        model = ModelPT.restore_from(str(path), map_location=torch.device(device), **changes)
    # NeMo ends with a misleading error of some class ("Can't instantiate abstract class ModelPT") when
    # the real one was logged before; both are in the log, the sentence says where to look.
    except Exception as error:
        traceback.print_exc()
        raise Refused(
            'NeMo does not restore the checkpoint (%s: %s); where the log says "Model instantiation '
            'failed", that block has the cause' % (type(error).__name__, str(error).split("\n")[0])
        ) from error
    model.eval()
    choose_head(model, decoder)
    if changes:
        saved = saved_weights(path)
        exported = ("encoder.", "ctc_decoder." if hasattr(model, "ctc_decoder") else "decoder.")
        if decoder == "rnnt":
            if not language:
                raise Refused("a fork's transducer is exported for one language: name it")
            keep_language(model, saved, language)
            exported = ("encoder.", "decoder.", "joint.enc.", "joint.pred.")
        check_weights(model, saved, exported)
    featurizer = model.preprocessor.featurizer
    featurizer.pad_to = 0
    featurizer.dither = 0.0
    return model, dropped


def keep_language(model, saved, language):
    """Give the joint network the last layer of one language, which the fork keeps for each."""
    import torch

    joint = model.joint
    name = "joint.joint_net.%d.%s" % (len(joint.joint_net) - 1, language)
    if name + ".weight" not in saved:
        raise Refused("the checkpoint has no joint network for the language %s" % language)
    weight, bias = saved[name + ".weight"], saved[name + ".bias"]
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    joint.joint_net[-1] = layer.to(model.device).eval()
    joint._num_classes, joint._vocab_size = weight.shape[0], weight.shape[0] - 1


def import_collections(config):
    """Import the module of the checkpoint's class, whose targets are looked at next."""
    import importlib

    importlib.import_module(str(config["target"]).rpartition(".")[0])


def choose_head(model, decoder):
    """Refuse a head that the model has not; tell hybrids which one is exported."""
    name = type(model).__name__
    hybrid = hasattr(model, "ctc_decoder")
    if decoder == "ctc" and hasattr(model, "joint") and not hybrid:
        raise Refused("%s is a transducer without a CTC head" % name)
    if decoder == "rnnt":
        if not hasattr(model, "joint"):
            raise Refused("%s has no transducer" % name)
        if not hasattr(model.decoder, "pred_rnn_layers"):
            raise Refused("the prediction network %s has no state" % type(model.decoder).__name__)
    if hybrid:
        model.set_export_config({"decoder_type": decoder})


def greedy_search(model, most):
    """Let the reference search greedily whatever the checkpoint is configured for, with at most
    `most` symbols at one step (0: as the checkpoint says)."""
    from omegaconf import open_dict

    decoding = model.cfg.decoding
    if decoding.get("strategy") in ("greedy", "greedy_batch") and not most:
        return
    with open_dict(decoding):
        if decoding.get("strategy") not in ("greedy", "greedy_batch"):
            decoding.strategy = "greedy_batch"
        if most:
            decoding.greedy = {**(decoding.get("greedy") or {}), "max_symbols": most}
    model.change_decoding_strategy(decoding)


def head(model):
    """The CTC head and its decoding, of CTC and hybrid models."""
    if hasattr(model, "ctc_decoder"):
        return model.ctc_decoder, model.ctc_decoding
    return model.decoder, model.decoding


def timing(model):
    """Sample rate in Hz and samples from one frame to the next."""
    featurizer = model.preprocessor.featurizer
    spectrogram = getattr(featurizer, "MelSpectrogram", featurizer)
    return featurizer.sample_rate, spectrogram.hop_length


def features(model):
    """Features of one frame."""
    return getattr(model.encoder, "_feat_in", None) or model.cfg.encoder.feat_in


def subsampling(model):
    """Frames that become one step: one long silent input tells it of the whole encoder."""
    import torch

    probe = torch.zeros(1, features(model), PROBED_FRAMES, device=model.device)
    count = torch.tensor([PROBED_FRAMES], device=model.device)
    with torch.inference_mode():
        steps = model.encoder(audio_signal=probe, length=count)[1]
    return round(PROBED_FRAMES / int(steps[0]))


# ------------------------------------------------------------------------------ front end


def save_frontend(model, path):
    """Save filterbank, window and parameters of the front end as one .npz."""
    import numpy as np
    import torch

    featurizer = model.preprocessor.featurizer
    if hasattr(featurizer, "dct_mat"):
        return save_cosines(featurizer, path)
    normalize, mean, std = featurizer.normalize, [], []
    if isinstance(normalize, str):
        kind = normalize if normalize in ("per_feature", "all_features") else "none"
    elif normalize and "fixed_mean" in normalize and "fixed_std" in normalize:
        kind, mean, std = "fixed", list(normalize["fixed_mean"]), list(normalize["fixed_std"])
    else:
        kind = "none"
    window = featurizer.window
    width = featurizer.win_length
    guard = featurizer.log_zero_guard_value_fn(torch.zeros(1))
    return np.savez(
        path,
        sample_rate=featurizer.sample_rate,
        n_fft=featurizer.n_fft,
        hop_length=featurizer.hop_length,
        window=np.ones(width, np.float32) if window is None else window.float().cpu().numpy(),
        filterbank=featurizer.fb[0].float().cpu().numpy(),
        preemphasis=0.0 if featurizer.preemph is None else featurizer.preemph,
        mag_power=featurizer.mag_power,
        log=bool(featurizer.log),
        log_zero_guard_type=featurizer.log_zero_guard_type,
        log_zero_guard_value=float(guard),
        normalize=kind,
        fixed_mean=np.array(mean, np.float32),
        fixed_std=np.array(std, np.float32),
        exact_pad=bool(featurizer.exact_pad),
    )


def save_cosines(featurizer, path):
    """Save filterbank, window and cosine matrix of an MFCC front end as one .npz."""
    import numpy as np

    spectrogram = featurizer.MelSpectrogram
    if featurizer.top_db != 80.0 or spectrogram.power != 2.0:
        raise Refused("an MFCC front end with another power or range than NeMo's is not known")
    np.savez(
        path,
        sample_rate=featurizer.sample_rate,
        n_fft=spectrogram.n_fft,
        hop_length=spectrogram.hop_length,
        window=spectrogram.spectrogram.window.float().cpu().numpy(),
        filterbank=spectrogram.mel_scale.fb.t().float().cpu().numpy(),
        cosines=featurizer.dct_mat.t().float().cpu().numpy(),
        log=bool(featurizer.log_mels),
    )


# ------------------------------------------------------------------------------ vocabulary


def vocabulary(model, decoder, seconds_per_step, masked, language=""):
    """The pieces and the rules that join them, as `decoding.load_vocabulary` reads them. `masked`:
    the head means something only within one language. `language`: the head is of that one alone."""
    if decoder == "rnnt":
        pieces, outputs = list(model.joint.vocabulary), model.joint.num_classes_with_blank
        outputs -= model.joint.num_extra_outputs
        decoding = model.decoding
    else:
        found, decoding = head(model)
        pieces, outputs = list(found.vocabulary), found.num_classes_with_blank
    tokenizer = getattr(model, "tokenizer", None)
    if language:
        saved = one(tokenizer.tokenizers_dict[language], (), seconds_per_step, ())
    elif hasattr(tokenizer, "tokenizers_dict"):
        parts = [one(part, (), seconds_per_step, ()) for part in tokenizer.tokenizers_dict.values()]
        saved = {
            "languages": list(tokenizer.tokenizers_dict),
            "parts": parts,
            "masked": masked,
            "seconds_per_step": seconds_per_step,
            "blank": sum(part["blank"] for part in parts),
        }
    else:
        saved = one(tokenizer, pieces, seconds_per_step, decoding.supported_punctuation or ())
    if saved["blank"] + 1 != outputs:
        raise Refused(
            "the tokenizer has %d pieces, the head %d outputs" % (saved["blank"], outputs)
        )
    return saved


def one(tokenizer, pieces, seconds_per_step, punctuation):
    """One vocabulary: pieces, joining rules, and the number of pieces, which is the blank's id."""
    saved = {
        "kind": "char",
        "pieces": [str(piece) for piece in pieces],
        "seconds_per_step": seconds_per_step,
        "unknown": [],
        "unknown_text": "",
        "control": [],
        "byte": [],
        "strip_first": False,
        "strip_all": False,
        "punctuation": sorted(punctuation),
    }
    processor = getattr(tokenizer, "tokenizer", None)
    if hasattr(processor, "id_to_piece"):
        saved.update(sentencepiece_rules(processor))
    elif tokenizer is not None:
        saved["kind"] = "wpe"
        saved["pieces"] = tokenizer.ids_to_tokens(list(range(len(pieces) or len(tokenizer.vocab))))
    saved["blank"] = len(saved["pieces"])
    return saved


def sentencepiece_rules(processor):
    """Pieces and joining rules of a SentencePiece model, as its own processor answers.

    (The package's protobuf module needs a newer protobuf than NeMo allows.)
    """
    ids = range(processor.get_piece_size())
    pieces = [processor.id_to_piece(i) for i in ids]
    unknown = [i for i in ids if processor.is_unknown(i)]
    boundary = "\u2581"
    words = [i for i in ids if pieces[i].startswith(boundary) and len(pieces[i]) > 1]
    bare = [i for i in ids if pieces[i] == boundary]
    return {
        "kind": "bpe",
        "pieces": pieces,
        "unknown": unknown,
        "unknown_text": processor.decode(unknown[:1]) if unknown else "",
        "control": [i for i in ids if processor.is_control(i)],
        "byte": [i for i in ids if processor.is_byte(i)],
        "strip_first": bool(words) and not processor.decode(words[:1]).startswith(" "),
        "strip_all": bool(words and bare)
        and not processor.decode([bare[0], words[0]]).startswith(" "),
    }


def search(model, language=""):
    """How the transducer is searched, as `transducer.Transducer` reads it."""
    decoding = model.decoding
    durations = list(getattr(decoding, "durations", None) or ())
    if len(durations) != model.joint.num_extra_outputs:
        raise Refused(
            "the joint network has %d outputs for durations, the decoding %d durations"
            % (model.joint.num_extra_outputs, len(durations))
        )
    extra = {}
    if language:
        # The prediction network has the pieces of all languages in a row, and nothing said last.
        sizes = {name: len(t.vocab) for name, t in model.tokenizer.tokenizers_dict.items()}
        before = list(sizes)[: list(sizes).index(language)]
        extra = {"offset": sum(sizes[name] for name in before), "start": sum(sizes.values())}
    return {
        **extra,
        "blank": model.joint.num_classes_with_blank - 1 - len(durations),
        # 10 is what NeMo itself puts for a checkpoint that does not say.
        "max_symbols": getattr(decoding.decoding, "max_symbols", None) or 10,
        "durations": [int(duration) for duration in durations],
        "state": [model.decoder.pred_rnn_layers, model.decoder.pred_hidden],
    }


def labels(model):
    """Names of the classes, and what the head's outputs are."""
    count = model.decoder._num_classes if hasattr(model.decoder, "_num_classes") else None
    names = [str(name) for name in (model.cfg.get("labels") or ())]
    count = count or model.cfg.decoder.num_classes
    if len(names) != count:
        names = ["class %d" % index for index in range(count)]
    crop = getattr(model, "crop_or_pad", None)
    return {
        "labels": names,
        "scores": "cosine" if getattr(model.decoder, "angular", False) else "probability",
        "frames": 0 if crop is None else int(crop.audio_length),
    }


# ------------------------------------------------------------------------------ the graph


def keep_masks(model):
    """NeMo turns convolution masks off for export; then padding leaks into a batch. They are kept
    instead, with a length table that is long enough for every recording."""
    if hasattr(model.encoder, "update_max_sequence_length"):
        model.encoder.update_max_sequence_length(MASK_FRAMES, model.device)
        model.encoder._prepare_for_export = lambda **_: None


def export_graphs(model, decoder, folder, opset, verbose):
    """Write the graphs into the empty `folder`. Returns their paths by the name they are served as."""
    keep_masks(model)
    with warnings.catch_warnings():
        if not verbose:
            warnings.simplefilter("ignore")  # the tracer's remarks on shapes that are meant
        if decoder == "rnnt":
            model.export(str(folder / "model.onnx"), onnx_opset_version=opset)
            return {
                "model.onnx": folder / "encoder-model.onnx",
                "decoder_joint.onnx": folder / "decoder_joint-model.onnx",
            }
        return {"model.onnx": export_one(model, decoder, folder, opset)}


def export_one(model, decoder, folder, opset):
    """Write ``model.onnx``: a CTC head with the encoded lengths as second output, or the logits (and
    embeddings) of a classifier."""
    import torch

    base = type(model)
    outputs = {
        "ctc": ["logprobs", "encoded_lengths"],
        "classification": ["logits"],
        "speaker": ["logits", "embs"],
    }[decoder]

    class WithLengths(base):
        """NeMo's graphs drop the lengths, which a padded batch needs."""

        @property
        def output_names(self):
            return outputs

        @property
        def disabled_deployment_input_names(self):
            return set()

        def forward_for_export(self, audio_signal, length):
            run = getattr(self.encoder, "forward_for_export", self.encoder.forward)
            encoded, steps = run(audio_signal=audio_signal, length=length)[:2]
            decode = getattr(self.output_module, "forward_for_export", self.output_module.forward)
            if decoder == "ctc":
                return decode(encoder_output=encoded), steps.to(torch.int64)
            return decode(encoder_output=encoded, length=steps)

    model.__class__ = WithLengths
    axes = {"audio_signal": {0: "batch", 2: "frames"}, "length": {0: "batch"}}
    axes.update({name: {0: "batch"} for name in outputs})
    if decoder == "ctc":
        axes["logprobs"] = {0: "batch", 1: "steps"}
    path = folder / "model.onnx"
    example = (
        torch.randn(2, features(model), 256, device=model.device),
        torch.tensor([256, 200], device=model.device),
    )
    model.export(str(path), input_example=example, onnx_opset_version=opset, dynamic_axes=axes)
    return path


def consolidate(source, target, threshold, name="model.onnx"):
    """Move the graph to the folder `target` as `name`, weights in one sidecar when they are large.

    PyTorch writes one file a tensor next to a graph above 2 GB. Returns the graph's path.
    """
    import onnx
    from onnx.external_data_helper import uses_external_data

    size = sum(file.stat().st_size for file in source.parent.iterdir())
    graph = onnx.load(str(source), load_external_data=False)
    external = any(uses_external_data(tensor) for tensor in graph.graph.initializer)
    path = target / name
    if not external and size <= threshold:
        shutil.move(str(source), str(path))
        return path
    whole = onnx.load(str(source))
    onnx.save_model(
        whole,
        str(path),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=name + ".data",
        size_threshold=1024,
    )
    return path


def signature(path):
    """Inputs and outputs of the graph: name, Triton type, shape with -1 for dynamic."""
    import onnx

    types = {1: "FP32", 6: "INT32", 7: "INT64", 10: "FP16", 11: "FP64"}
    graph = onnx.load(str(path), load_external_data=False).graph

    def tensors(values):
        found = []
        for value in values:
            tensor = value.type.tensor_type
            shape = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
            kind = types.get(tensor.elem_type, str(tensor.elem_type))
            found.append({"name": value.name, "dtype": kind, "shape": shape})
        return found

    return {"inputs": tensors(graph.input), "outputs": tensors(graph.output)}
