"""`Watching`: a screen that looks at a monitor source, from opening it to closing it."""

from __future__ import annotations

from textual import on, work
from textual.message import Message

from console.desk.monitor import MonitorSource
from screens.base import DeckScreen
from screens.flow import Flow, ScreenContext
from screens.monitoring.ticker import Frame, Ticker, Wanted


class Watching(DeckScreen):
    """Draws a frame a tick. Without a `source` it opens a live one, and closes that in the end."""

    class Opened(Message):
        """The source is there."""

        def __init__(self, source: MonitorSource) -> None:
            super().__init__()
            self.source = source

    class Ticked(Message):
        """One look."""

        def __init__(self, frame: Frame) -> None:
            super().__init__()
            self.frame = frame

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, Watching.Ticked)

    def __init__(
        self, context: ScreenContext, flow: Flow, source: MonitorSource | None = None
    ) -> None:
        super().__init__(context, flow)
        self._given = source
        self._source = source
        self._ticker: Ticker | None = None
        self._frame: Frame | None = None
        self._last = "devices"
        """The list that has the cursor, or had it last."""

    def draw(self) -> None:
        """Show the newest frame."""
        raise NotImplementedError

    def wanted(self) -> Wanted:
        """The curves that there is room for."""
        raise NotImplementedError

    def on_mount(self) -> None:
        if self._source is not None:
            self._begin(self._source)
        else:
            self._open()

    @work(thread=True, exclusive=True, exit_on_error=False, group="open")
    def _open(self) -> None:
        source = self.desk.monitor()
        if self.is_attached:
            self.tell(self.Opened(source))
        else:
            source.close()

    @on(Opened)
    def _opened(self, message: Opened) -> None:
        self._begin(message.source)

    def _begin(self, source: MonitorSource) -> None:
        self._source = source
        self.set_class(not source.live, "-replay")
        self._ticker = Ticker(source, self._hand_on, self._look_failed)
        self._ticker.want(self.wanted())
        self._ticker.start()

    def _hand_on(self, frame: Frame) -> None:
        if self.is_running:
            self.post_message(self.Ticked(frame))

    def _look_failed(self, error: BaseException) -> None:
        if self.is_running:
            self.app.call_from_thread(self.failed, error, "monitor")

    @on(Ticked)
    def _ticked(self, message: Ticked) -> None:
        self._frame = message.frame
        if self.is_current:
            self.draw()

    def on_screen_resume(self) -> None:
        self.draw()

    def on_unmount(self) -> None:
        if self._ticker is not None:
            self._ticker.close()
        if self._source is not None and self._given is None:
            self._source.close()
