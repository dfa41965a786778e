"""The live script of a deployment that is being configured: shown, copied, paged, saved."""

from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from textual import on, work
from textual.message import Message

from console.facts import DeckError
from console.planning.deployment import Deployment
from screens import outside
from screens.base import DeckScreen
from screens.phrase import Phrase, join, say
from screens.widgets.textview import TextView, fold
from screens.widgets.words import Words


class Scripted(Message):
    """The script, or why there is none yet."""

    def __init__(self, script: str, problem: DeckError | None = None) -> None:
        super().__init__()
        self.script = script
        self.problem = problem


class Saved(Message):
    """The deployment file was written."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path


class ScriptScreen(DeckScreen):
    """What can be done with the script and the file of a deployment that is being configured."""

    text = ""
    """The script as it was rendered last, or why there is none."""
    pending: dict[str, Any]
    """Changed fields that do not make a valid deployment yet."""
    invalid = False
    """Whether one of them never will: the script is that of the last valid ones."""

    def title_script(self, *words: Phrase) -> None:
        self.query_one("#script-title", Words).show(join(*words))

    @work(thread=True, exclusive=True, exit_on_error=False, group="script")
    def render_script(self, deployment: Deployment) -> None:
        try:
            self.tell(Scripted(self.desk.script(deployment)))
        except DeckError as error:
            # Shown in the script's own place: an option is being typed, a modal would interrupt.
            self.tell(Scripted("", error))

    @on(Scripted)
    def _scripted(self, message: Scripted) -> None:
        if message.problem is not None:
            self.text = f"# no script yet: {message.problem.title}\n# {message.problem.why}\n# {message.problem.fix}"
            self.query_one(TextView).show(self.text)
            self.title_script(say("Script", "strong"), say("none yet", "warn"))
            return
        if not self.invalid:
            self.title_script(
                say("Script", "strong"),
                say(f"{message.script.count(chr(10))} lines, carried files folded", "dim"),
            )
        self.text = message.script
        self.query_one(TextView).show(fold(message.script))

    def action_copy(self) -> None:
        self.show_copy("The deployment as a shell script", ("script", self.text))

    def action_outside(self) -> None:
        with NamedTemporaryFile("w", suffix=".sh", encoding="utf-8") as file:
            file.write(self.text)
            file.flush()
            self.open_outside(outside.pager, Path(file.name))

    def action_save(self) -> None:
        if self.flow.deployment is not None and not self.pending:
            self._save(self.flow.deployment)

    @work(thread=True, exclusive=True, exit_on_error=False, group="save")
    def _save(self, deployment: Deployment) -> None:
        self.tell(Saved(str(self.desk.save(deployment))))

    @on(Saved)
    def _saved(self, message: Saved) -> None:
        self.notify(f"saved {message.path}", markup=False, timeout=4)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return not (action == "save" and self.context.readonly)
