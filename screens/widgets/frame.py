"""The two lines at the top of every screen: who and where we are, and the guided path."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from console.telemetry.sample import GpuSample, Sample
from console.text import human_bytes
from screens.flow import Flow, Stage
from screens.phrase import Phrase, Role, join, say
from screens.states import bar


class HeaderLine(Widget):
    """Product, host, GPU strip where the screen is live, clock to the minute."""

    DEFAULT_CSS = "HeaderLine { height: 1; padding: 0 1; }"

    def __init__(self, hostname: str, clock: Callable[[], float]) -> None:
        super().__init__()
        self._hostname = hostname
        self._clock = clock
        self._strip = Phrase()
        self._minute = ""

    def on_mount(self) -> None:
        self._tick()
        # Looking every second is free: nothing is drawn until the minute changes.
        self.set_interval(1.0, self._tick)

    def _tick(self) -> None:
        minute = time.strftime("%H:%M", time.localtime(self._clock()))
        if minute != self._minute:
            self._minute = minute
            self.refresh()

    def show(self, sample: Sample) -> None:
        """Draw the strip of a sample, if it differs from what is there."""
        strip = gpu_strip(sample)
        if strip != self._strip:
            self._strip = strip
            self.refresh()

    def render(self) -> Content:
        width = self.size.width
        left = join(say("tritondeck", "accent"), say(self._hostname, "strong"), between=" · ")
        room = width - left.width - len(self._minute) - 4
        strip = self._strip.fit(room) if self._strip.width > room else self._strip
        gap = width - left.width - strip.width - len(self._minute) - 2
        space = say(" " * max(1, gap))
        return (left + space + strip + say("  ") + say(self._minute, "dim")).content()


def gpu_strip(sample: Sample) -> Phrase:
    """A bar and a figure per GPU; host memory in words where there is none."""
    if not sample.gpus:
        used = f"{human_bytes(sample.host_used)} of {human_bytes(sample.host_total)}"
        return join(say(f"host {used}", "dim"), say("no GPU", "dim"), between=" · ")
    return join(*(_gpu(gpu) for gpu in sample.gpus), between="   ")


def _gpu(gpu: GpuSample) -> Phrase:
    if gpu.memory_used is None or not gpu.memory_total:
        return say(f"{gpu.index} ? {gpu.problem or 'no figure'}", "warn")
    fraction = gpu.memory_used / gpu.memory_total
    role: Role = "bad" if fraction > 0.95 else "warn" if fraction > 0.8 else "ok"
    figure = f"{gpu.memory_used / 2**30:.0f}/{gpu.memory_total / 2**30:.0f} GiB"
    return join(say(gpu.index, "dim"), say(bar(fraction, 8), role), say(figure), between=" ")


class StepLine(Widget):
    """1 Checkpoint ─ 2 Route ─ … 7 Try: where you are, and how far you may jump."""

    DEFAULT_CSS = "StepLine { height: 1; padding: 0 1; }"

    class Chosen(Message):
        """A step was clicked."""

        def __init__(self, stage: Stage) -> None:
            super().__init__()
            self.stage = stage

    def __init__(self, stage: Stage, flow: Flow) -> None:
        super().__init__()
        self._stage = stage
        self._flow = flow

    def show(self, stage: Stage, flow: Flow) -> None:
        if (stage, flow) != (self._stage, self._flow):
            self._stage, self._flow = stage, flow
            self.refresh()

    def _words(self) -> list[tuple[Stage, Phrase]]:
        words = []
        for stage in list(Stage)[1:]:
            if stage is self._stage:
                words.append((stage, say(f"{stage.value} {stage.title}", "accent")))
            elif self._flow.reaches(stage):
                words.append((stage, say(f"{stage.value} {stage.title}")))
            else:
                words.append((stage, say(f"{stage.value} {stage.title}", "dim")))
        return words

    def _between(self) -> str:
        longest = sum(word.width for _, word in self._words())
        return " ─ " if longest + 18 <= self.size.width else " "

    def render(self) -> Content:
        line = join(*(word for _, word in self._words()), between=self._between())
        name = self._flow.name or (self._flow.deployment.name if self._flow.deployment else "")
        room = self.size.width - line.width - 3
        if name and room >= 8:
            line = line + say(name, "strong").fit(room + 3, right=True)
        return line.content()

    def on_click(self, event: events.Click) -> None:
        position = 1
        for stage, word in self._words():
            if position <= event.x < position + word.width:
                self.post_message(self.Chosen(stage))
                return
            position += word.width + len(self._between())
