"""Progress of a run in a notebook: one display that is replaced, without widgets."""

import sys
import time
from typing import TYPE_CHECKING, Any

from fathomlab.base.inline import mimebundle
from fathomlab.base.libraries import library
from fathomlab.execute.events import EpochDone, Event, Finished, FleetChanged, Note, Started, Warned

if TYPE_CHECKING:
    from fathomlab.execute.round import ProgressState

MIN_SECONDS = 0.2  # between two updates
MAX_RUNNING = 12
FREQUENT = (Started, EpochDone, Finished, FleetChanged)  # tiny trials end faster than a display is replaced


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook. IPython is not imported."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class NotebookDisplay:
    """The display of one run.

    Attributes:
        notes: Messages of the run.
    """

    def __init__(self, state: "ProgressState"):
        """Show `state` now and when events arrive."""
        self._state = state
        self._handle: Any = None
        self._shown = float("-inf")
        self.notes: list[str] = []
        self._show()

    def report(self, event: Event) -> None:
        """Show an event that `state` already contains."""
        if isinstance(event, Note | Warned):
            self.notes.append(f"{event.event}: {event.text}")
        if not isinstance(event, FREQUENT) or time.monotonic() > self._shown + MIN_SECONDS:
            self._show()

    def close(self) -> None:
        """Show the final state."""
        self._show()

    def _show(self) -> None:
        display = library("IPython.display").display
        self._shown = time.monotonic()
        bundle = mimebundle(
            self._state.summary(), ["running", "epoch", "validation accuracy (%)"], self._rows(), self._messages()
        )
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def _messages(self) -> list[str]:
        fleet = [self._state.fleet.text()] if self._state.fleet is not None else []
        return [*fleet, *([self._state.effect] if self._state.effect else []), *self.notes[-8:]]

    def _rows(self) -> list[list[str]]:
        state = self._state
        return [
            [state.label(trial), state.epoch(trial, len(values)), f"{100 * values[-1]:.2f}" if values else ""]
            for trial, values in list(state.running.items())[:MAX_RUNNING]
        ]
