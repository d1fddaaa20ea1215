"""What follows an error of a pack: what is recorded, what is trained again, and whether the CUDA device still works."""

import gc
from dataclasses import dataclass, replace

import torch

from fathomlab.base.errors import UserError
from fathomlab.base.user_code import describe_error
from fathomlab.execute.pack.devices import choose_device
from fathomlab.execute.pack.inputs import load_dataset
from fathomlab.prepare.jobs import Job
from fathomlab.store.records import TERMINAL_STATUSES
from fathomlab.store.trial_files import trial_status

# Libraries below torch report it in words, as does torch if an error happens outside of its allocator.
OUT_OF_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


@dataclass(frozen=True)
class Problem:
    """An error of a pack, without its traceback: that would keep the pack in memory.

    Attributes:
        cause: The error in words.
        out_of_memory: Whether the memory of the CUDA device ran out.
    """

    cause: str
    out_of_memory: bool = False


def describe_problem(error: BaseException) -> Problem:
    """Describe an error of a pack."""
    cause = str(error) if isinstance(error, UserError) else describe_error(error)
    return Problem(cause, _is_out_of_memory(error))


def cause_of_trial(problem: Problem) -> str:
    """The cause that is recorded for a trial which failed alone."""
    if not problem.out_of_memory:
        return problem.cause
    remedy = "Decrease data.batch_size. If several workers share the GPU, use run.pack=1 or fewer workers."
    return f"the CUDA device has too little memory for this trial alone. {remedy} ({problem.cause})"


def halving_warning(job: Job) -> str:
    """What the user reads when a pack is halved."""
    trials = len(job.trials)
    names = ", ".join(trial.hash[:12] for trial in job.trials[:3]) + (", ..." if trials > 3 else "")
    larger = -(-trials // 2)
    return (
        f"CUDA out of memory in a pack of {trials} trials ({names}). Training it as two packs of {larger} and "
        f"{trials - larger}. Use run.pack={larger} to avoid this."
    )


def parts(job: Job, size: int) -> list[Job]:
    """Divide a job into jobs of at most `size` trials, without those whose trials are all finished.

    Finished trials count, so that a repetition of the same error divides the pack in the same way.
    """
    trials = [job.trials[start : start + size] for start in range(0, len(job.trials), size)]
    return [
        replace(job, trials=group, seconds=job.seconds * len(group) / len(job.trials))
        for group in trials
        if any(trial_status(job.root, trial.hash) not in TERMINAL_STATUSES for trial in group)
    ]


def release_memory(job: Job, problem: Problem) -> None:
    """Free the memory of a pack that has ended with an error, and check that the CUDA device still works.

    Raises:
        UserError: If it does not. Every later operation of this process would fail, so only a new process can continue.
    """
    gc.collect()  # a pack refers to itself
    if problem.out_of_memory:
        load_dataset.cache_clear()
    try:
        device = choose_device(job.device)
    except UserError:  # there is none: that is the problem
        return
    if device.type != "cuda" or not torch.cuda.is_initialized():
        return
    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    except RuntimeError as error:
        lines = str(error).splitlines() or [type(error).__name__]
        text = f"The CUDA device does not work any more in this process: {lines[0]} (after: {problem.cause})."
        raise UserError("cuda-broken", f"{text} Run the same command again, with run.executor=local.") from None


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether CUDA memory ran out, also if code of a plugin or the cleanup after this error raised another one."""
    current: BaseException | None = error
    seen = set[int]()
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        text = current.args[0] if isinstance(current, RuntimeError) and current.args else ""
        known = isinstance(text, str) and any(phrase in text for phrase in OUT_OF_MEMORY)
        if known or isinstance(current, torch.OutOfMemoryError):
            return True
        current = current.__cause__ or current.__context__
    return False
