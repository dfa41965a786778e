"""The three palettes. One accent for focus, one colour each for success, warning and danger."""

from __future__ import annotations

from dataclasses import dataclass

from textual.theme import Theme


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one theme; everything else follows from them."""

    background: str
    foreground: str
    strong: str
    dim: str
    panel: str
    line: str
    cursor: tuple[str, str]
    """Foreground and background of the row that has the cursor."""
    accent: str
    second: str
    success: str
    warning: str
    error: str

    def theme(self, name: str, *, dark: bool) -> Theme:
        """The Textual theme, with our own variables: text-dim, text-strong, line."""
        bars = dict.fromkeys(
            (
                "scrollbar-background",
                "scrollbar-background-hover",
                "scrollbar-background-active",
                "scrollbar-corner-color",
                "footer-background",
                "input-cursor-foreground",
            ),
            self.background,
        )
        return Theme(
            name=name,
            primary=self.accent,
            secondary=self.second,
            accent=self.accent,
            foreground=self.foreground,
            background=self.background,
            surface=self.background,
            panel=self.panel,
            success=self.success,
            warning=self.warning,
            error=self.error,
            dark=dark,
            variables={
                **bars,
                "text-dim": self.dim,
                "text-strong": self.strong,
                "line": self.line,
                "footer-key-foreground": self.accent,
                "footer-description-foreground": self.dim,
                "block-cursor-foreground": self.cursor[0],
                "block-cursor-background": self.cursor[1],
                "block-cursor-text-style": "bold",
                "block-cursor-blurred-foreground": self.foreground,
                "block-cursor-blurred-background": self.panel,
                "input-cursor-background": self.foreground,
                "scrollbar": self.line,
                "scrollbar-hover": self.dim,
                "scrollbar-active": self.accent,
            },
        )


_DARK = Palette(
    background="#11151a",
    foreground="#d5dbe3",
    strong="#f2f5f8",
    dim="#8a95a3",
    panel="#1b222b",
    line="#313b47",
    cursor=("#f2f5f8", "#254049"),
    accent="#7cc4b8",
    second="#8fa9c9",
    success="#93c47d",
    warning="#e3b565",
    error="#ea7f84",
)

_LIGHT = Palette(
    background="#fbfaf7",
    foreground="#25303b",
    strong="#0b1116",
    dim="#5f6a76",
    panel="#efede6",
    line="#d0cbbe",
    cursor=("#0b1116", "#cbe3dd"),
    accent="#0f6e62",
    second="#33557d",
    success="#2f6f1f",
    warning="#8a5a00",
    error="#b3252e",
)

_MONO = Palette(
    background="#000000",
    foreground="#d0d0d0",
    strong="#ffffff",
    dim="#9a9a9a",
    panel="#262626",
    line="#4a4a4a",
    cursor=("#000000", "#ffffff"),
    accent="#ffffff",
    second="#d0d0d0",
    success="#ffffff",
    warning="#ffffff",
    error="#ffffff",
)

PALETTES: dict[str, tuple[Palette, bool]] = {
    "dark": (_DARK, True),
    "light": (_LIGHT, False),
    "mono": (_MONO, True),
}
"""By the name that settings and theme files use; whether it is a dark one."""

THEMES: tuple[Theme, ...] = tuple(
    palette.theme(f"tritondeck-{name}", dark=dark) for name, (palette, dark) in PALETTES.items()
)
