"""What the executor slurm would submit, as text for people. Needs submitit, but not Slurm."""

from collections.abc import Sequence

from fathomlab.base.labels import count
from fathomlab.config.slurm import SlurmOptions
from fathomlab.execute.executors.setting import Setting
from fathomlab.execute.executors.slurm_files import FOLDER, SCRIPTS
from fathomlab.execute.executors.slurm_queue import script
from fathomlab.execute.round import duration
from fathomlab.execute.worker_process import SETTINGS
from fathomlab.prepare import cost
from fathomlab.prepare.jobs import Job

ENVIRONMENT = {**SETTINGS, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
MAX_ARRAY = 1000  # elements; Slurm's default MaxArraySize is 1001


def preview(jobs: Sequence[Job], setting: Setting) -> str:
    """What would be submitted first: jobs whose parents are trained."""
    options = setting.run.slurm
    if not jobs:
        return "nothing to submit"
    waiting = {trial for job in jobs for trial in job.hashes}
    first = [job for job in jobs if not waiting & {parent.hash for trial in job.trials for _, parent in trial.parents}]
    size = min(len(first), MAX_ARRAY)
    scripts = setting.root.absolute() / FOLDER / "SUBMISSION" / SCRIPTS
    limit = f", at most {options.array_parallelism} at the same time" if options.array_parallelism else ""
    arrays = count(-(-len(first) // MAX_ARRAY), "job array")
    later = (
        f"; {count(len(jobs) - len(first), 'pack')} when their parents are trained" if len(first) < len(jobs) else ""
    )
    lines = [f"{arrays} with {count(len(first), 'pack')}{limit}{later}", ""]
    lines += [script(options, scripts, ENVIRONMENT, size).strip(), ""]
    seconds = [cost.estimate(job.trials, None, 1).seconds for job in jobs]
    lines += [
        f"pack {index}: {count(len(job.trials), 'trial')}, about {duration(time_needed)}"
        for index, (job, time_needed) in enumerate(zip(jobs, seconds, strict=True))
    ]
    return "\n".join([*lines, *_warnings(options, seconds)])


def _warnings(options: SlurmOptions, seconds: Sequence[float]) -> list[str]:
    """What may go wrong with these options."""
    warnings: list[str] = []
    longer = sum(60 * options.time - options.signal_delay_s < needed for needed in seconds)
    if longer:
        text = (
            f"{count(longer, 'pack')} may need more than the time limit of {options.time} min and return to the queue"
        )
        warnings.append(f"warning: {text}. Set run.slurm.time.")
    if options.memory is None:
        warnings.append("warning: run.slurm.memory is not set; the cluster's default may be too small.")
    return warnings
