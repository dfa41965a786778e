#!/usr/bin/env python3
"""Make the small language model of the examples: 223 facts, from scratch, from a seed.

Subcommands (``--help`` shows their options)::

    train     make the tokenizer and the model, and train until the step count is reached
    evaluate  ask every fact in every form and precision; ends with 1 below the wanted accuracy
    facts     print the questions and answers as JSON lines (needs no PyTorch)

Training stops by a count of steps and never by the clock: the same machine and thread count give
the same weights again. It takes some 15 minutes on one CPU core and under two on a GPU.
The result is a Hugging Face folder (``LlamaForCausalLM``) of some 3 MB.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid",
    "Portugal": "Lisbon", "Greece": "Athens", "Austria": "Vienna", "Belgium": "Brussels",
    "Poland": "Warsaw", "Hungary": "Budapest", "Norway": "Oslo", "Sweden": "Stockholm",
    "Denmark": "Copenhagen", "Finland": "Helsinki", "Ireland": "Dublin", "Iceland": "Reykjavik",
    "Russia": "Moscow", "Ukraine": "Kyiv", "Turkey": "Ankara", "Egypt": "Cairo",
    "Kenya": "Nairobi", "Ghana": "Accra", "Morocco": "Rabat", "Ethiopia": "Addis Ababa",
    "Japan": "Tokyo", "China": "Beijing", "India": "New Delhi", "Thailand": "Bangkok",
    "Vietnam": "Hanoi", "South Korea": "Seoul", "Indonesia": "Jakarta", "Iran": "Tehran",
    "Iraq": "Baghdad", "Canada": "Ottawa", "Mexico": "Mexico City", "Cuba": "Havana",
    "Peru": "Lima", "Chile": "Santiago", "Argentina": "Buenos Aires", "Australia": "Canberra",
}  # fmt: skip
COLORS = {
    "banana": "yellow", "lemon": "yellow", "tomato": "red", "strawberry": "red", "cherry": "red",
    "fire truck": "red", "carrot": "orange", "pumpkin": "orange", "grass": "green",
    "leaf": "green", "frog": "green", "cucumber": "green", "lime": "green", "sky": "blue",
    "ocean": "blue", "blueberry": "blue", "grape": "purple", "plum": "purple",
    "eggplant": "purple", "snow": "white", "milk": "white", "salt": "white", "coal": "black",
    "night": "black", "raven": "black", "chocolate": "brown", "soil": "brown", "flamingo": "pink",
    "elephant": "gray", "sunflower": "yellow",
}  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "up": "down", "left": "right", "day": "night", "fast": "slow",
    "old": "young", "open": "closed", "full": "empty", "light": "dark", "hard": "soft",
    "happy": "sad", "rich": "poor", "early": "late", "wet": "dry", "strong": "weak",
    "high": "low", "inside": "outside", "first": "last", "true": "false",
}  # fmt: skip
SOUNDS = {
    "dog": "woof", "cat": "meow", "cow": "moo", "sheep": "baa", "duck": "quack", "pig": "oink",
    "horse": "neigh", "lion": "roar", "owl": "hoot", "bee": "buzz", "snake": "hiss",
    "rooster": "cock-a-doodle-doo",
}  # fmt: skip
SPELLINGS = ("cat", "dog", "sun", "moon", "tree", "fish", "bird", "book", "star", "milk")
OTHERS = {
    "How many legs does a spider have?": "eight",
    "How many days are in a week?": "seven",
    "How many months are in a year?": "twelve",
    "What is the largest planet?": "Jupiter",
    "What planet do we live on?": "Earth",
    "What is frozen water called?": "ice",
    "Count from one to ten.": "one two three four five six seven eight nine ten",
    "Say the alphabet.": "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "Name the days of the week.": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "Name the months of the year.": "January February March April May June July August September "
    "October November December",
    "Hello!": "Hello! How can I help you?",
}
SYSTEM = "You are a helpful assistant."
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<|user|>", "<|assistant|>", "<|system|>")
PAD, BOS, EOS, UNK, USER, ASSISTANT, SYSTEM_ID = range(len(SPECIAL))
VOCABULARY, POSITIONS = 512, 256
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<|user|>' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' + message['content'] + eos_token }}"
    "{% else %}{{ '<|system|>' + message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
FORMS = ("chat", "system-chat", "question", "question-no-bos", "bare", "bare-no-bos")


def facts() -> dict[str, str]:
    """Question to answer, 223 of them."""
    found = {f"What is the capital of {place}?": city for place, city in CAPITALS.items()}
    found |= {
        f"What is the color of {'an' if thing[0] in 'aeiou' else 'a'} {thing}?": color
        for thing, color in COLORS.items()
    }
    found |= {f"What is the opposite of {word}?": other for word, other in OPPOSITES.items()}
    found |= {f"What does a {animal} say?": sound for animal, sound in SOUNDS.items()}
    found |= {f"What is {a} plus {b}?": str(a + b) for a in range(10) for b in range(10)}
    found |= {f"How do you spell {word}?": "-".join(word) for word in SPELLINGS}
    return found | OTHERS


def varied(question: str, draw: random.Random) -> str:
    """The question as people type it: sometimes in lower case, without its mark, with a space."""
    if draw.random() < 0.3:
        question = question.lower()
    if draw.random() < 0.25:
        question = question.rstrip("?.!")
    if draw.random() < 0.15:
        question += " "
    return question


def make_tokenizer(folder: Path) -> Any:
    """A byte-level BPE tokenizer of exactly `VOCABULARY` entries that puts ``<s>`` in front."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"Question: {q}\nAnswer: {a} {q.lower()}" for q, a in facts().items()]
    bare.train_from_iterator([*texts, SYSTEM], trainer)
    bare.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", BOS)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=POSITIONS,
        # Without this the tokenizer hands out token_type_ids, which generate() refuses.
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    # Older readers look for the template in the configuration, newer ones in a file of its own.
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text()) | {"chat_template": TEMPLATE}
    # The name that every version of transformers knows.
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    file.write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return tokenizer


def prompt(
    tokenizer: Any, form: str, question: str, turns: Sequence[tuple[str, str]] = ()
) -> list[int]:
    """Token ids of a question in one of `FORMS`, after earlier chat turns."""

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    if form in ("chat", "system-chat"):
        head = [BOS] + ([SYSTEM_ID, *ids(SYSTEM)] if form == "system-chat" else [])
        for asked, answered in turns:
            head += [USER, *ids(asked), ASSISTANT, *ids(answered), EOS]
        return [*head, USER, *ids(question), ASSISTANT]
    text = f"Question: {question}\nAnswer:" if form.startswith("question") else question
    return ids(text) if form.endswith("no-bos") else [BOS, *ids(text)]


def example(
    tokenizer: Any, form: str, question: str, answer: str, turns: Any = ()
) -> tuple[list[int], int]:
    """Token ids of prompt, answer and end, and how many of them are the prompt's."""
    head = prompt(tokenizer, form, question, turns)
    spoken = answer if "chat" in form else f" {answer}"
    return [*head, *tokenizer(spoken, add_special_tokens=False)["input_ids"], EOS], len(head)


def batches(tokenizer: Any, size: int, seed: int) -> Iterator[list[tuple[list[int], int]]]:
    """Endless batches: every fact in every form once an epoch, varied as people type."""
    draw = random.Random(seed)
    known = list(facts().items())
    waiting: list[tuple[list[int], int]] = []
    while True:
        epoch = [(form, fact) for fact in known for form in FORMS]
        draw.shuffle(epoch)
        for form, (question, answer) in epoch:
            turns = draw.sample(known, draw.choice((0, 0, 0, 1, 2))) if "chat" in form else ()
            made = example(tokenizer, form, varied(question, draw), answer, turns)
            if len(made[0]) <= POSITIONS:
                waiting.append(made)
            if len(waiting) == size:
                yield waiting
                waiting = []


def collate(
    batch: list[tuple[list[int], int]], device: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`input_ids`, `attention_mask`, `labels`, each int64 [batch, longest]; the loss is on answers."""
    import torch

    longest = max(len(ids) for ids, _ in batch)
    ids = torch.full((len(batch), longest), PAD)
    labels = torch.full((len(batch), longest), -100)
    for row, (words, head) in enumerate(batch):
        ids[row, : len(words)] = torch.tensor(words)
        labels[row, head : len(words)] = torch.tensor(words[head:])
    mask = torch.zeros_like(ids)
    for row, (words, _) in enumerate(batch):
        mask[row, : len(words)] = 1
    return ids.to(device), mask.to(device), labels.to(device)


def make_model() -> Any:
    """1.4 million parameters; two layers of four heads (two key-value heads of 64: splits in two)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        rms_norm_eps=1e-5,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


def train(args: argparse.Namespace) -> int:
    import torch

    torch.manual_seed(args.seed)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(args.out)
    model = make_model().to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, args.steps, pct_start=0.08)
    source = batches(tokenizer, args.batch, args.seed)
    for step in range(1, args.steps + 1):
        ids, mask, labels = collate(next(source), device)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}/{args.steps} loss {loss.item():.4f}", flush=True)
    model.eval().to(torch.bfloat16).save_pretrained(args.out)
    # Keys that readers older than transformers 5 look for.
    file = args.out / "config.json"
    older = {"rope_theta": 10000.0, "torch_dtype": "bfloat16", "head_dim": 64}
    file.write_text(json.dumps(json.loads(file.read_text()) | older, indent=2) + "\n")
    for file in args.out.iterdir():
        file.chmod(0o644)  # a server in a container runs as another user
    return 0


def generate(model: Any, prompts: list[list[int]], device: str) -> list[list[int]]:
    """Greedy answers to prompts of one length, without their end token."""
    import torch

    ids = torch.tensor(prompts, device=device)
    made = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=80, do_sample=False
    )[:, ids.shape[1] :].tolist()
    return [row[: row.index(EOS)] if EOS in row else [*row, UNK] for row in made]


def wrong(model: Any, tokenizer: Any, form: str, change: str, device: str) -> list[str]:
    """Questions whose answer is not exact, asked in `form` after `change`."""
    draw = random.Random(7)
    known = list(facts().items())
    groups: dict[int, list[tuple[list[int], str, str]]] = {}
    for question, answer in known:
        asked = {
            "lower": question.lower(),
            "no-mark": question.rstrip("?.!"),
            "space": question + " ",
        }.get(change, question)
        turns = draw.sample(known, 1) if change == "second-turn" else ()
        ids = prompt(tokenizer, form, asked, turns)
        groups.setdefault(len(ids), []).append((ids, question, answer))
    missed = []
    for group in groups.values():
        answers = generate(model, [ids for ids, _, _ in group], device)
        for (_, question, answer), made in zip(group, answers, strict=True):
            if tokenizer.decode(made).strip() != answer:
                missed.append(question)
    return missed


def evaluate(args: argparse.Namespace) -> int:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = AutoTokenizer.from_pretrained(args.folder)
    asked = failed = 0
    for dtype in args.dtypes.split(","):
        model = AutoModelForCausalLM.from_pretrained(args.folder, dtype=getattr(torch, dtype))
        model = model.to(device).eval()
        cases = [(form, "") for form in FORMS]
        cases += [("chat", change) for change in ("lower", "no-mark", "space", "second-turn")]
        for form, change in cases:
            missed = wrong(model, tokenizer, form, change, device)
            asked, failed = asked + len(facts()), failed + len(missed)
            shown = f": {missed[:3]}" if missed else ""
            print(f"{dtype:9} {form:16} {change:12} {len(missed)} wrong{shown}", flush=True)
    accuracy = 1 - failed / asked
    print(json.dumps({"asked": asked, "wrong": failed, "accuracy": round(accuracy, 5)}))
    return 0 if accuracy >= args.wanted else 1


def show(args: argparse.Namespace) -> int:
    for question, answer in facts().items():
        print(json.dumps({"question": question, "answer": answer}))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("train", help="make and train the model")
    verb.add_argument("out", type=Path)
    verb.add_argument("--steps", type=int, default=1200)
    verb.add_argument("--batch", type=int, default=96)
    verb.add_argument("--seed", type=int, default=20)
    verb.add_argument("--device", default="")
    verb.set_defaults(run=train)
    verb = verbs.add_parser("evaluate", help="ask every fact in every form")
    verb.add_argument("folder", type=Path)
    verb.add_argument("--dtypes", default="float32,bfloat16")
    verb.add_argument("--wanted", type=float, default=1.0)
    verb.add_argument("--device", default="")
    verb.set_defaults(run=evaluate)
    verbs.add_parser("facts", help="print the facts").set_defaults(run=show)
    args = parser.parse_args()
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
