"""Write tiny NeMo speech checkpoints with random weights (run inside the `nemo` environment).

``make_speech_checkpoints.py FOLDER [NAME…] [--sound WAV…]`` writes FOLDER/NAME.nemo, and FOLDER/NAME.json
with what NeMo says of each sound: ``conformer_bpe``,
``conformer_wpe``, ``quartznet_char``, ``hybrid_bpe`` (FastConformer, RNNT and CTC heads),
``streaming_bpe`` (cache-aware), ``transducer_bpe``, ``tdt_bpe`` (token and duration), ``hybrid_agg`` (two
languages), ``indic_fork`` (the same as AI4Bharat's fork saves it), ``commands`` (MFCC classifier) and
``speaker`` (ECAPA). The weights are seeded, and sharpened so that the best path has words in it.
"""

import argparse
import io
import json
import sys
import tarfile
import tempfile
from pathlib import Path

import sentencepiece
import soundfile
import torch
import yaml
from nemo.collections.asr import models
from omegaconf import OmegaConf

TEXT = (
    "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar "
    "papa quebec romeo sierra tango uniform victor whiskey x-ray yankee zulu, stop. why? it's"
)
WORDS = TEXT.split()


def preprocessor():
    return {
        "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
        "sample_rate": 16000,
        "normalize": "per_feature",
        "window_size": 0.025,
        "window_stride": 0.01,
        "window": "hann",
        "features": 80,
        "n_fft": 512,
        "dither": 0.0,
        "pad_to": 0,
    }


def conformer(fast):
    return {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder",
        "feat_in": 80,
        "feat_out": -1,
        "n_layers": 2,
        "d_model": 32,
        "subsampling": "dw_striding" if fast else "striding",
        "subsampling_factor": 8 if fast else 4,
        "subsampling_conv_channels": 16,
        "ff_expansion_factor": 2,
        "self_attention_model": "rel_pos",
        "n_heads": 4,
        "pos_emb_max_len": 400,
        "conv_kernel_size": 9,
        "dropout": 0.0,
        "dropout_pre_encoder": 0.0,
        "dropout_emb": 0.0,
        "dropout_att": 0.0,
    }


def block(filters, kernel, stride=1, residual=False):
    return {
        "filters": filters,
        "repeat": 1,
        "kernel": [kernel],
        "stride": [stride],
        "dilation": [1],
        "dropout": 0.0,
        "residual": residual,
        "separable": True,
        "se": residual,
        "se_context_size": -1,
    }


def base(encoder):
    return {
        "sample_rate": 16000,
        "log_prediction": False,
        "validation_ds": {
            "manifest_filepath": None,
            "sample_rate": 16000,
            "batch_size": 1,
            "shuffle": False,
            "use_start_end_token": False,
        },
        "preprocessor": preprocessor(),
        "encoder": encoder,
        "decoding": {"strategy": "greedy_batch", "greedy": {}},
    }


def bpe(folder, text=TEXT, size=96):
    """A SentencePiece model with real sub-words and punctuation."""
    corpus, words = folder / "corpus.txt", text.split()
    corpus.write_text("\n".join(" ".join(words[i:] + words[:i]) for i in range(len(words))))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=size,
        model_type="bpe",
        character_coverage=1.0,
        byte_fallback=False,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    (folder / "vocab.txt").write_text("\n".join(p.lstrip("\u2581") or p for p in pieces))
    return {"dir": str(folder), "type": "bpe"}


def wpe(folder):
    singles = sorted(set("".join(WORDS)) - set(" "))
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *singles,
        *(f"##{c}" for c in singles),
    ]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    local_bert(Path.cwd(), vocabulary)
    return {"dir": str(folder), "type": "wpe"}


def local_bert(folder, vocabulary):
    """NeMo asks the Hugging Face hub for ``bert-base-cased`` whatever the vocabulary is; a folder of
    that name in the working folder is taken instead."""
    bert = folder / "bert-base-cased"
    bert.mkdir(exist_ok=True)
    (bert / "config.json").write_text('{"model_type": "bert"}')
    (bert / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    (bert / "vocab.txt").write_text("\n".join(vocabulary) + "\n")


def ctc_decoder(width):
    return {
        "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
        "feat_in": width,
        "num_classes": -1,
        "vocabulary": [],
    }


def transducer():
    return {
        "decoder": {
            "_target_": "nemo.collections.asr.modules.RNNTDecoder",
            "normalization_mode": None,
            "random_state_sampling": False,
            "blank_as_pad": True,
            "prednet": {"pred_hidden": 32, "pred_rnn_layers": 1, "t_max": None, "dropout": 0.0},
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint",
            "log_softmax": None,
            "preserve_memory": False,
            "fuse_loss_wer": False,
            "jointnet": {"joint_hidden": 32, "activation": "relu", "dropout": 0.0},
        },
        "model_defaults": {"enc_hidden": 32, "pred_hidden": 32, "joint_hidden": 32},
        "loss": {"loss_name": "default", "warprnnt_numba_kwargs": {"fastemit_lambda": 0.0}},
    }


def conformer_bpe(folder):
    config = base(conformer(fast=False))
    config.update(tokenizer=bpe(folder), decoder=ctc_decoder(32))
    return models.EncDecCTCModelBPE(OmegaConf.create(config))


def conformer_wpe(folder):
    config = base(conformer(fast=False))
    config.update(tokenizer=wpe(folder), decoder=ctc_decoder(32))
    return models.EncDecCTCModelBPE(OmegaConf.create(config))


def quartznet_char(folder):
    labels = [" ", *sorted("abcdefghijklmnopqrstuvwxyz',.?-")]
    config = base(
        {
            "_target_": "nemo.collections.asr.modules.ConvASREncoder",
            "feat_in": 80,
            "activation": "relu",
            "conv_mask": True,
            "jasper": [block(48, 11, stride=2), block(48, 13, residual=True), block(64, 1)],
        }
    )
    config["labels"] = labels
    config["decoder"] = {**ctc_decoder(64), "num_classes": len(labels), "vocabulary": labels}
    return models.EncDecCTCModel(OmegaConf.create(config))


def hybrid_bpe(folder):
    config = base(conformer(fast=True))
    config.update(tokenizer=bpe(folder), **transducer())
    config["aux_ctc"] = {
        "ctc_loss_weight": 0.3,
        "use_cer": False,
        "ctc_reduction": "mean_batch",
        "decoder": ctc_decoder(32),
        "decoding": {"strategy": "greedy_batch", "greedy": {}},
    }
    return models.EncDecHybridRNNTCTCBPEModel(OmegaConf.create(config))


def streaming_bpe(folder):
    """Cache-aware: limited context, causal convolutions; exported for whole recordings."""
    encoder = conformer(fast=True)
    encoder.update(
        att_context_size=[70, 13],
        att_context_style="chunked_limited",
        causal_downsampling=True,
        conv_context_size="causal",
        conv_norm_type="layer_norm",
    )
    config = base(encoder)
    config.update(tokenizer=bpe(folder), decoder=ctc_decoder(32))
    return models.EncDecCTCModelBPE(OmegaConf.create(config))


def transducer_bpe(folder):
    config = base(conformer(fast=False))
    config.update(tokenizer=bpe(folder), **transducer())
    config["decoding"] = {"strategy": "greedy_batch", "greedy": {"max_symbols": 3}}
    return models.EncDecRNNTBPEModel(OmegaConf.create(config))


def tdt_bpe(folder):
    durations = [0, 1, 2, 4]
    config = base(conformer(fast=False))
    config.update(tokenizer=bpe(folder), **transducer())
    config["joint"]["num_extra_outputs"] = len(durations)
    config["loss"] = {
        "loss_name": "tdt",
        "tdt_kwargs": {"durations": durations, "fastemit_lambda": 0.0, "clamp": -1.0},
    }
    config["decoding"] = {
        "strategy": "greedy_batch",
        "model_type": "tdt",
        "durations": durations,
        "greedy": {"max_symbols": 3},
    }
    return models.EncDecRNNTBPEModel(OmegaConf.create(config))


HINDI = "नमस्ते दुनिया यह एक परीक्षण है जिसमें कुछ शब्द आते हैं और फिर से आते हैं"
TAMIL = "வணக்கம் உலகம் இது ஒரு சோதனை இதில் சில சொற்கள் வருகின்றன மீண்டும் வருகின்றன"


def languages(folder):
    """Two languages with a vocabulary each."""
    found = {}
    for name, text, size in (("hi", HINDI, 56), ("ta", TAMIL, 48)):
        place = folder / name
        place.mkdir()
        found[name] = bpe(place, text, size)
    return {"type": "agg", "langs": found}


def hybrid_agg(folder):
    config = base(conformer(fast=True))
    config.update(tokenizer=languages(folder), **transducer())
    config["aux_ctc"] = {
        "ctc_loss_weight": 0.3,
        "use_cer": False,
        "ctc_reduction": "mean_batch",
        "decoder": ctc_decoder(32),
        "decoding": {"strategy": "greedy_batch", "greedy": {}},
    }
    return models.EncDecHybridRNNTCTCBPEModel(OmegaConf.create(config))


def indic_fork(folder):
    """`hybrid_agg`; `as_the_fork` rewrites the file."""
    return hybrid_agg(folder)


def as_the_fork(path):
    """Rewrite an archive as AI4Bharat's fork of NeMo saves it: its own tokenizer type and keys, a key
    that nobody has heard of, and a joint network whose last layer is one for each language."""
    packed = path.with_suffix(".main-line")
    path.rename(packed)
    with tarfile.open(packed) as old, tarfile.open(path, "w:") as new:
        for member in old.getmembers():
            data = old.extractfile(member).read() if member.isfile() else b""
            if member.name.endswith("model_config.yaml"):
                config = yaml.safe_load(data)
                config["tokenizer"]["type"] = "multilingual"
                config["decoder"]["multisoftmax"] = True
                config["joint"].update(multilingual=True, language_keys=["hi", "ta"])
                config["aux_ctc"]["decoder"]["multisoftmax"] = True
                config["encoder"]["of_a_later_fork"] = 3
                data = yaml.safe_dump(config, allow_unicode=True).encode()
            elif member.name.endswith("model_weights.ckpt"):
                weights = torch.load(io.BytesIO(data), weights_only=True)
                last = [n for n in weights if n.startswith("joint.joint_net.")]
                assert len(last) == 2, last
                for name in last:
                    value, (place, _, part) = weights.pop(name), name.rpartition(".")
                    rows = {"hi": [*range(56), 104], "ta": [*range(56, 104), 104]}
                    for language, kept in rows.items():
                        weights[f"{place}.{language}.{part}"] = value[kept].clone()
                buffer = io.BytesIO()
                torch.save(weights, buffer)
                data = buffer.getvalue()
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    packed.unlink()


def commands(folder):
    """Speech commands: MFCC features, convolutional encoder, four labels."""
    config = {
        "sample_rate": 16000,
        "labels": ["yes", "no", "stop", "go"],
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMFCCPreprocessor",
            "sample_rate": 16000,
            "window_size": 0.025,
            "window_stride": 0.01,
            "window": "hann",
            "n_mels": 64,
            "n_mfcc": 64,
            "n_fft": 512,
        },
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConvASREncoder",
            "feat_in": 64,
            "activation": "relu",
            "conv_mask": True,
            "jasper": [block(32, 11), block(32, 13, residual=True), block(48, 1)],
        },
        "decoder": {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoderClassification",
            "feat_in": 48,
            "num_classes": 4,
            "return_logits": True,
            "pooling_type": "avg",
        },
    }
    return models.EncDecClassificationModel(OmegaConf.create(config))


def speaker(folder):
    """ECAPA: log-mel features, attentive pooling, five speakers."""
    config = {
        "sample_rate": 16000,
        "preprocessor": preprocessor(),
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ECAPAEncoder",
            "feat_in": 80,
            "filters": [32, 32, 32, 32, 96],
            "kernel_sizes": [5, 3, 3, 3, 1],
            "dilations": [1, 1, 1, 1, 1],
            "scale": 8,
        },
        "decoder": {
            "_target_": "nemo.collections.asr.modules.SpeakerDecoder",
            "feat_in": 96,
            "num_classes": 5,
            "pool_mode": "attention",
            "emb_sizes": 24,
        },
        "loss": {
            "_target_": "nemo.collections.asr.losses.angularloss.AngularSoftmaxLoss",
            "scale": 30,
            "margin": 0.2,
        },
    }
    return models.EncDecSpeakerLabelModel(OmegaConf.create(config))


def large_bpe(folder):
    """Past the two gigabytes that one protobuf file may hold."""
    encoder = {**conformer(fast=True), "d_model": 2048, "n_layers": 8, "n_heads": 16}
    config = base(encoder)
    config.update(tokenizer=bpe(folder), decoder=ctc_decoder(2048))
    return models.EncDecCTCModelBPE(OmegaConf.create(config))


def sharpen(model):
    """Make an untrained head decide: large weights, and a blank that does not always win."""
    with torch.no_grad():
        head = getattr(model, "ctc_decoder", model.decoder)
        layers = getattr(head, "decoder_layers", None)
        if layers is not None and hasattr(layers[0], "weight"):
            layers[0].weight.mul_(8.0)
        if hasattr(model, "joint"):
            model.joint.joint_net[-1].weight.mul_(8.0)
            model.decoder.prediction["embed"].weight.mul_(4.0)
            model.joint.enc.weight.mul_(4.0)


MAKERS = {
    maker.__name__: maker
    for maker in (
        conformer_bpe,
        conformer_wpe,
        quartznet_char,
        hybrid_bpe,
        streaming_bpe,
        transducer_bpe,
        tdt_bpe,
        hybrid_agg,
        indic_fork,
        commands,
        speaker,
    )
}


def answers(model, sounds):
    """What NeMo itself says of each 16 kHz WAV file: text, or logits and embedding."""
    if isinstance(model, models.EncDecRNNTModel | models.EncDecCTCModel):
        found = model.transcribe([str(path) for path in sounds], batch_size=len(sounds))
        return [getattr(item, "text", item) for item in found]
    found = []
    for path in sounds:
        samples = torch.from_numpy(soundfile.read(str(path), dtype="float32")[0])[None]
        with torch.inference_mode():
            said = model.forward(
                input_signal=samples, input_signal_length=torch.tensor([samples.shape[1]])
            )
        logits, embedding = said if isinstance(said, tuple) else (said, None)
        entry = {"logits": logits[0].tolist()}
        if embedding is not None:
            entry["embedding"] = embedding[0].tolist()
        found.append(entry)
    return found


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--sound", action="append", default=[], type=Path, help="asked of NeMo")
    options = parser.parse_args(argv)
    target = options.folder
    target.mkdir(parents=True, exist_ok=True)
    for name in options.names or MAKERS:
        torch.manual_seed(11)
        with tempfile.TemporaryDirectory() as folder:
            model = {**MAKERS, "large_bpe": large_bpe}[name](Path(folder))
            sharpen(model)
            model.eval()
            model.save_to(str(target / f"{name}.nemo"))
            # NeMo has no text path for an aggregate tokenizer.
            if options.sound and not name.endswith(("_agg", "_fork")):
                said = answers(model, options.sound)
                (target / f"{name}.json").write_text(json.dumps(said, ensure_ascii=False))
        if name == "indic_fork":
            as_the_fork(target / f"{name}.nemo")
        print(name, (target / f"{name}.nemo").stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1:])
