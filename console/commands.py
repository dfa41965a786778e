"""The command palette: "area: verb", only what applies now.

The entries are the bindings that are active on the screen below, so that a key and its command can
never drift apart, and nothing is offered that would be refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from textual.command import DiscoveryHit, Hit, Hits, Provider

from screens.base import DeckScreen


class DeckCommands(Provider):
    """Commands of the screen that the palette was opened on, then those of the whole console."""

    async def discover(self) -> Hits:
        for name, call, help_text in self._commands():
            yield DiscoveryHit(name, call, help=help_text)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for name, call, help_text in self._commands():
            if (score := matcher.match(name)) > 0:
                yield Hit(score, matcher.highlight(name), call, help=help_text)

    def _commands(self) -> Iterator[tuple[str, Any, str]]:
        screen = self.screen
        if isinstance(screen, DeckScreen):
            yield from self._bound(screen)
            yield from screen.commands()
        for theme in getattr(self.app, "theme_names", ()):
            if theme != self.app.theme:
                yield f"theme: {theme.removeprefix('tritondeck-')}", partial(self._theme, theme), ""

    def _bound(self, screen: DeckScreen) -> Iterator[tuple[str, Any, str]]:
        # Textual's own keys of the app (quit, copy) are not commands of ours.
        seen = {"command_palette", "quit", "help_quit", "screen.back"}
        for active in screen.active_bindings.values():
            binding = active.binding
            # What the app does is the same under every key of it.
            node = self.app if binding.action.startswith("app.") else active.node
            name = f"{id(node)} {binding.action}"
            if not active.enabled or binding.action in seen or name in seen or not binding.id:
                continue
            seen.add(name)
            own = active.node in (screen, self.app)
            if not own and binding.id.startswith(_MOVES):
                continue
            if binding.action.startswith("stage("):
                if not screen.flow.reaches(_stage(binding.action)):
                    continue
                seen.add(binding.action)
                words = f"go: {binding.key.rpartition('+')[2]} {binding.description}"
            else:
                part = binding.id if "." in binding.id else active.node.id or binding.id
                words = f"{_area(part, screen, own)}: {binding.description.lower()}"
            yield words, partial(self.app.run_action, binding.action, active.node), binding.tooltip

    def _theme(self, name: str) -> None:
        self.app.theme = name


_MOVES = ("list.", "go.", "field.")
"""Keys of a focused list or field that only move the cursor or take what was typed."""


def _area(name: str, screen: DeckScreen, own: bool) -> str:
    if name.startswith("go."):
        return "go"
    return screen.AREA if own else name.partition(".")[0]


def _stage(action: str) -> Any:
    from screens.flow import Stage

    return Stage(int(action.removeprefix("stage(").removesuffix(")")))
