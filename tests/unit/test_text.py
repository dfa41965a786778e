"""The one door for foreign text: nothing that a terminal acts on, and no secret, comes through."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.text import LINE_CAP, MASK, clean, human_bytes, human_seconds, redact

FOREIGN = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"]),
        st.sampled_from("\x1b\x9b\x9d\x90\x07\x9c[]\\Pm;0\r\n\t"),
    )
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("\x1b[1;31mred\x1b[0m", "red", id="CSI colour"),
        pytest.param("a\x1b[2Jb\x1b[10;10Hc", "abc", id="CSI clear and move"),
        pytest.param("a\x1b[?1049hb", "ab", id="CSI private mode"),
        pytest.param("a\x9b31mb", "ab", id="8-bit CSI"),
        pytest.param("a\x1b]0;title\x07b", "ab", id="OSC 0 title, BEL"),
        pytest.param("a\x1b]0;title\x1b\\b", "ab", id="OSC 0 title, ST"),
        pytest.param("a\x1b]52;c;cm0gLXJm\x07b", "ab", id="OSC 52 clipboard"),
        pytest.param("\x1b]8;;http://evil/\x1b\\here\x1b]8;;\x1b\\", "here", id="OSC 8 link"),
        pytest.param("a\x9d0;title\x9cb", "ab", id="8-bit OSC and ST"),
        pytest.param("a\x1bP1$r0m\x1b\\b", "ab", id="DCS"),
        pytest.param("a\x90q#0\x9cb", "ab", id="8-bit DCS"),
        pytest.param("a\x1b_Gf=100;AAAA\x1b\\b", "ab", id="APC"),
        pytest.param("a\x9fG\x9cb", "ab", id="8-bit APC"),
        pytest.param("a\x1b^secret\x1b\\b", "ab", id="PM"),
        pytest.param("a\x9esecret\x9cb", "ab", id="8-bit PM"),
        pytest.param("a\x1bXsecret\x1b\\b", "ab", id="SOS"),
        pytest.param("a\x98secret\x9cb", "ab", id="8-bit SOS"),
        pytest.param("a\x1bcb\x1b(0c", "abc", id="reset and character set"),
        pytest.param("a\x1b]0;no end", "a", id="unterminated OSC"),
        pytest.param("a\x1b[31", "a", id="unterminated CSI"),
        pytest.param("a\x1b", "a", id="lone ESC"),
        pytest.param("a\x1b]0;x\x1b[31mb", "ab", id="OSC cut off by another sequence"),
        pytest.param("a\x1b\x1b[31mb", "ab", id="ESC before a sequence"),
        pytest.param("a\x00\x07\x08\x0b\x0c\x0e\x7fb", "ab", id="C0 and DEL"),
        pytest.param("a\x85\x84\x9cb", "ab", id="C1"),
        pytest.param("\ud800x\udfff", "\ufffdx\ufffd", id="lone surrogates"),
        pytest.param("a\u2028b\u2029c", "a b c", id="line separators"),
        pytest.param("Überprüfung äö 日本 ✓", "Überprüfung äö 日本 ✓", id="ordinary text stays"),
    ],
)
def test_what_a_terminal_would_act_on_is_gone(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize(
    "code", [0x202E, 0x2066, 0x200F, 0x061C, 0x200B, 0x200D, 0x2060, 0x206E, 0xFEFF, 0xE0041]
)
def test_characters_that_hide_or_reorder_are_made_visible(code: int) -> None:
    assert clean(f"a{chr(code)}b") == f"a<U+{code:04X}>b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10%\r55%\r100%", "100%"),
        ("100%\r", "100%"),
        ("line\r\n", "line "),
        ("\r\r", ""),
        ("10%\r\x1b[K55%", "55%"),
    ],
)
def test_a_carriage_return_keeps_what_follows_it(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_one_line_is_one_line() -> None:
    assert clean("a\nb\tc") == "a b c"


def test_lines_and_tabs_stay_where_asked_for() -> None:
    assert clean("1%\r2%\na\tb\r\n\x1b]0;x\nc", multiline=True) == "2%\na\tb\n\nc"


@pytest.mark.parametrize("letter", ["x", "ä"])
def test_a_long_line_is_cut_and_says_by_how_much(letter: str) -> None:
    assert clean(letter * LINE_CAP) == letter * LINE_CAP
    assert clean(letter * (LINE_CAP + 5)) == letter * LINE_CAP + "… (+5)"
    assert clean(f"{letter * 12}\nab", multiline=True, cap=10) == f"{letter * 10}… (+2)\nab"


@given(FOREIGN, st.booleans())
def test_no_control_comes_through(text: str, multiline: bool) -> None:
    allowed = "\n\t" if multiline else ""
    for character in clean(text, multiline=multiline):
        if character not in allowed:
            assert unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"}, character
            assert unicodedata.bidirectional(character) not in {
                *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
            }


@given(FOREIGN, st.booleans())
def test_cleaning_twice_changes_nothing(text: str, multiline: bool) -> None:
    once = clean(text, multiline=multiline)
    assert clean(once, multiline=multiline) == once


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("HF_TOKEN=hf_" + "aB3" * 11, f"HF_TOKEN={MASK}", id="Hugging Face"),
        pytest.param("key nvapi-" + "x_-9" * 10 + " end", f"key {MASK} end", id="NGC"),
        pytest.param("AKIAIOSFODNN7EXAMPLE", MASK, id="AWS key id"),
        pytest.param(
            "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            f"aws_secret_access_key = {MASK}",
            id="AWS secret",
        ),
        pytest.param("ghp_" + "a1B2" * 9, MASK, id="GitHub"),
        pytest.param("github_pat_" + "a1B2_" * 12, MASK, id="GitHub fine-grained"),
        pytest.param("Authorization: Bearer abc.DEF-123", f"Authorization: Bearer {MASK}", id="Bearer"),
        pytest.param("authorization: bearer  abc.DEF-123", f"authorization: bearer  {MASK}", id="bearer"),
        pytest.param("Authorization: Basic dXNlcjpwYXNz", f"Authorization: Basic {MASK}", id="Basic"),
        pytest.param(
            "https://user:p%40ss@host/simple", f"https://{MASK}@host/simple", id="URL with password"
        ),
        pytest.param("https://ghtoken123@host/x.git", f"https://{MASK}@host/x.git", id="URL with token"),
        pytest.param("http://host/?token=abcdef12&x=1", f"http://host/?token={MASK}&x=1", id="query"),
        pytest.param('{"password": "hunter22"}', f'{{"password": "{MASK}"}}', id="JSON"),
        pytest.param("ftp://me:pass@host/x", f"ftp://{MASK}@host/x", id="other scheme"),
        pytest.param("https://u:p@ss@host/", f"https://{MASK}@host/", id="URL with a bare @"),
        pytest.param("password: hunter22", f"password: {MASK}", id="YAML"),
        pytest.param("tool --token abcdef123 x", f"tool --token {MASK} x", id="argument"),
        pytest.param("--api-key=abcdef123", f"--api-key={MASK}", id="option"),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_is_masked(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "https://host:8000/v2/models/digits",
        "user@host",
        "tokenizer=bpe tokens: 1024",
        "token_file: /home/me/token",
        "hf_hub_download",
        "Loading sk-learn model 12:30:01",
        '"eos_token": "<|endoftext|>"',
        "tritondeck --token-file /home/me/token",
        "git+ssh://git@host/x.git",
    ],
)
def test_ordinary_text_is_not_masked(text: str) -> None:
    assert redact(text) == text


def test_known_secrets_are_masked_wherever_they_are() -> None:
    assert redact("a-topsecret-b topsecret-longer", ["topsecret", "topsecret-longer"]) == (
        f"a-{MASK}-b {MASK}"
    )


def test_a_secret_too_short_to_be_one_masks_nothing() -> None:
    assert redact("a test of tests", ["test"]) == "a test of tests"


@given(st.text(max_size=60))
def test_redacting_twice_changes_nothing(text: str) -> None:
    assert redact(redact(f"password={text}")) == redact(f"password={text}")


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (4.05 * 2**20, "4.05 MiB"),
        (88.4 * 2**20, "88.4 MiB"),
        (141 * 2**30, "141 GiB"),
        (-2048, "-2.00 KiB"),
        (2**20 - 1, "1.00 MiB"),
        (10 * 2**20 - 1, "10.0 MiB"),
        (3000 * 2**50, "3000 PiB"),
    ],
)
def test_bytes_in_words(count: float, shown: str) -> None:
    assert human_bytes(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 ms"),
        (0.0384, "38 ms"),
        (0.9996, "1.0 s"),
        (3.14, "3.1 s"),
        (59.97, "1 min"),
        (680, "11 min 20 s"),
        (7500, "2 h 5 min"),
        (3600, "1 h"),
        (172800, "2 d"),
        (180000, "2 d 2 h"),
        (-3.14, "-3.1 s"),
    ],
)
def test_seconds_in_words(seconds: float, shown: str) -> None:
    assert human_seconds(seconds) == shown
