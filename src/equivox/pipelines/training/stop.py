"""Stopping a run by a signal: the step ends, the state is saved, and the run can be resumed."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class TrainingStopped(Exception):  # noqa: N818 - it is no error
    """The run was asked to stop and has saved its state.

    Attributes:
        signal_number: Which signal asked for it; the exit code is 128 more.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class StopSignals:
    """Notes SIGTERM and SIGINT while its block runs; a second SIGINT interrupts at once.

    Outside the main thread, where Python takes no handlers, it notes nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
