"""Events as plain lines, for pipes and logs."""

import math

from fathomlab.base.labels import count
from fathomlab.execute.events import Effect, EpochDone, Event, Failed, Finished, FleetChanged, Note, Planned, Warned
from fathomlab.execute.round import ProgressState, duration

EVERY_SECONDS = 30.0  # between two lines about epochs, and between two about the effect


class PlainLines:
    """The lines of a run."""

    def __init__(self, state: ProgressState):
        """Lines about events that `state` already contains."""
        self._state = state
        self._last_line = state.clock.tick()
        self._last_effect = self._last_fleet = -math.inf
        self._fleet_line: FleetChanged | None = None

    def line(self, event: Event) -> str:
        """The event as a line of text; `""` if it is not worth one."""
        match event:
            case Planned():
                return self._planned(event)
            case Note() | Warned():
                return f"{event.event}: {event.text}"
            case Finished() | Failed():
                return self._finished(event)
            case EpochDone():
                return self._epoch(event)
            case Effect():
                return self._effect(event)
            case FleetChanged():
                return self._fleet(event)
            case _:
                return ""

    def _planned(self, event: Planned) -> str:
        state, trials = self._state, count(event.trials, "trial")
        if not state.total:
            return f"{trials}: all cached"
        text = f"{trials}: {event.cached} cached, {state.total} to train"
        text += f" in {count(event.packs, 'pack')} on {count(state.workers, 'worker')}"
        seconds = state.seconds_left()
        return text if seconds is None else f"{text}, about {duration(seconds)} (based on similar trials)"

    def _finished(self, event: Finished | Failed) -> str:
        state = self._state
        self._last_line = state.clock.tick()
        accuracy = event.metrics.get("test/accuracy") if isinstance(event, Finished) else None
        outcome = f"test accuracy {100 * accuracy:.2f}%" if accuracy is not None else f"{event.status}: {event.cause}"
        details = ", ".join(filter(None, [f"{event.seconds:.1f} s", state.remaining()]))
        return f"[{state.done}/{state.total}] {state.label(event.trial)}: {outcome} ({details})"

    def _epoch(self, event: EpochDone) -> str:
        state, now = self._state, self._state.clock.tick()
        if now - self._last_line <= EVERY_SECONDS:
            return ""
        self._last_line = now
        accuracy = event.metrics["val/accuracy"]
        percentage = 100 * (math.nan if accuracy is None else accuracy)
        text = f"{state.label(event.trial)}: epoch {state.epoch(event.trial, event.epoch)}, validation accuracy {percentage:.2f}%"
        return ", ".join(filter(None, [text, state.remaining()]))

    def _fleet(self, event: FleetChanged) -> str:
        """At once if workers came, went, or were lost; other changes like epochs."""
        now, last = self._state.clock.tick(), self._fleet_line
        same = last is not None and (last.nodes, last.workers, last.lost) == (event.nodes, event.workers, event.lost)
        if same and now - self._last_fleet <= EVERY_SECONDS:
            return ""
        self._last_fleet, self._fleet_line = now, event
        return ", ".join(filter(None, [event.text(), self._state.remaining()]))

    def _effect(self, event: Effect) -> str:
        """Not after the last trial: verdicts follow."""
        state, now = self._state, self._state.clock.tick()
        if now - self._last_effect <= EVERY_SECONDS or state.done >= state.total:
            return ""
        self._last_effect = now
        return event.text
