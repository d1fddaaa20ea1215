"""Where the time of a run goes: exclusive accounts, kept by replacing functions while real packs are trained."""

import inspect
import io
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr
from types import FunctionType
from typing import Any
from unittest import mock

from benchmarks.in_subprocess import references
from benchmarks.setting import images
from fathomlab import api
from fathomlab.data.table import DatasetArrays
from fathomlab.engine import loop
from fathomlab.execute.pack import pack as pack  # with everything that it calls, before names are replaced
from fathomlab.execute.pack.checkpointer import Checkpointer
from fathomlab.execute.progress import progress_reporter
from fathomlab.probes import PROBES
from fathomlab.store.directory import TrialFolder

TRAIN, TEST = 60_000, 10_000
# Where a function is defined -> the account of its time, for those that the modules of `execute` call by name.
HOMES = {
    "fathomlab.store": "store",
    "fathomlab.prepare.machine": "store",
    "fathomlab.engine.evaluation": "evaluation",
    "fathomlab.probes.outcome": "evaluation",
}


class Accounts:
    """Seconds by account. Time inside a nested account is not counted in the one around it.

    What comes before `first` is entered and has no account of its own is `preparing`, afterwards it is `rest`.
    """

    def __init__(self, first: str, clock: Callable[[], float] = time.perf_counter):
        """Start the clock."""
        self.seconds: dict[str, float] = defaultdict(float)
        self._open, self._first, self._clock, self._since = ["preparing"], first, clock, clock()
        self._worker: threading.Thread | None = None

    @contextmanager
    def account(self, name: str) -> Iterator[None]:
        """Charge what happens inside to `name`; what other threads do meanwhile is charged to whoever waits for them."""
        if not self._works():
            yield
            return
        self._charge()
        if name == self._first:
            self._open = ["rest" if open_name == "preparing" else open_name for open_name in self._open]
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def _works(self) -> bool:
        """Whether this is the thread that works: the first one besides the main thread, which trains, while it lives."""
        thread = threading.current_thread()
        if self._worker is None and thread is not threading.main_thread():
            self._worker = thread
        trains = self._worker is not None and self._worker.is_alive()
        return thread is (self._worker if trains else threading.main_thread())

    def charged(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, its time charged to `name`."""

        def timed(*arguments: Any, **options: Any) -> Any:
            with self.account(name):
                return function(*arguments, **options)

        return timed

    def iterated(self, name: str, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """The generator `function`, the time of each of its steps charged to `name`."""

        def timed(*arguments: Any, **options: Any) -> Iterator[Any]:
            running = function(*arguments, **options)
            while True:
                with self.account(name):
                    item = next(running, running)
                if item is running:
                    return
                yield item

        return timed

    def shown(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, a context that hands out a function, the time of that function charged to `name`."""

        @contextmanager
        def timed(*arguments: Any, **options: Any) -> Iterator[Callable[..., Any]]:
            with function(*arguments, **options) as handed_out:
                yield self.charged(name, handed_out)

        return timed

    def closed(self) -> dict[str, float]:
        """The seconds of all accounts up to now."""
        self._charge()
        return dict(self.seconds)

    def _charge(self) -> None:
        now = self._clock()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now


def train(shape: Mapping[str, Any], seeds: int, epochs: int, probe: str | None) -> dict[str, float]:
    """Seconds by account of one pack of MLPs on 48,000 of MNIST's images, through `api.run` into a store of its own.

    The images are the bundled sample, repeated to MNIST's size. Accounts: preparing, training, evaluation, probes, store,
    progress, and the rest of what `run` does.
    """
    measured: dict[str, Any] = {"analyze_gradients": True} if probe == "gradients" else {}
    if probe not in (None, "gradients"):
        measured = {"probes": [probe]}
    source = {
        "data": {"name": "mnist", "validation_split": 20},
        "model": {"type": "MLP", "params": dict(shape)},
        "training": {"epochs": epochs, "scheduler": "CosineAnnealingLR"},
        "experiment": {"seeds": seeds, **measured},
    }
    plan, split = api.load(source), _repeated()
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()), ExitStack() as stack:
        stack.enter_context(mock.patch("fathomlab.execute.pack.inputs.load_shared", return_value=split))
        stack.enter_context(mock.patch("fathomlab.data.download_dataset"))
        accounts = Accounts("training")
        _replace(accounts, stack)
        summary = api.run(plan, runs=folder, device="cpu", workers=1, progress="plain").summary
        found = accounts.closed()
    if summary.failed or summary.trained != seeds:
        raise SystemExit(f"the pack did not finish: {summary}")
    return found


def _replace(accounts: Accounts, stack: ExitStack) -> None:
    """Charge what is called by name in the modules of `execute`, what keeps trials, probes, progress and report."""
    replaced = list(_called(accounts))
    if not any(own is loop.train for _, _, own, _ in replaced):
        raise SystemExit(
            "no module of fathomlab.execute calls the training loop by its name: its time cannot be charged"
        )
    for module, attribute, _, timed in replaced:
        stack.enter_context(mock.patch.object(module, attribute, timed))
    shown = (
        (api.write_reports, accounts.charged("report", api.write_reports)),
        (progress_reporter, accounts.shown("progress", progress_reporter)),
    )
    for own, timed in shown:
        for module, attribute in references(own):
            stack.enter_context(mock.patch.object(module, attribute, timed))
    for keeper in (TrialFolder, Checkpointer):
        for name, value in list(vars(keeper).items()):
            if isinstance(value, FunctionType):
                stack.enter_context(mock.patch.object(keeper, name, accounts.charged("store", value)))
    for probe in PROBES.values():
        stack.enter_context(mock.patch.object(probe, "measure", accounts.charged("probes", probe.measure)))


def _called(accounts: Accounts) -> Iterator[tuple[Any, str, Any, Any]]:
    """Module of `execute`, name, function and what replaces it, for what is imported there and has an account."""
    modules = [(name, module) for name, module in sorted(sys.modules.items()) if name.startswith("fathomlab.execute.")]
    for name, module in modules:
        for attribute, value in list(vars(module).items()):
            if not isinstance(value, FunctionType) or value.__module__ == name:
                continue
            home = next((home for home in HOMES if value.__module__.startswith(home)), None)
            if value is loop.train:
                yield module, attribute, value, accounts.iterated("training", value)
            elif home:
                iterates = inspect.isgeneratorfunction(value)
                timed = accounts.iterated if iterates else accounts.charged
                yield module, attribute, value, timed(HOMES[home], value)


def _repeated() -> DatasetArrays:
    """The bundled sample in MNIST's size."""
    pixels, labels = images(TRAIN)
    return DatasetArrays(pixels, labels, pixels[:TEST], labels[:TEST])
