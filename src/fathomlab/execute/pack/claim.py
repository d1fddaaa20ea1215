"""Claims the trials of a job before a worker trains them."""

import errno
import shutil
from contextlib import AbstractContextManager, nullcontext, suppress

from fathomlab.prepare.jobs import Job
from fathomlab.store.leases import Lease
from fathomlab.store.records import TERMINAL_STATUSES
from fathomlab.store.trial_files import trial_status

DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EFBIG}
DISK_ERRNOS |= {errno.ESTALE, errno.ETIMEDOUT}  # of network file systems


class NotClaimedError(Exception):
    """The lease of a job could not be written."""


def claim(job: Job, node: str) -> AbstractContextManager[Lease | None]:
    """A lease for the trials of a job without a result; none if only one host trains into the store.

    Raises:
        LeaseHeldError: If another process trains one of them.
        NotClaimedError: If the store cannot be written.
    """
    if not job.leases:
        return nullcontext()
    try:
        return Lease(job.root, unfinished(job), node, job.expired)
    except OSError as error:
        raise NotClaimedError(unwritable(job, error)) from error


def unfinished(job: Job) -> list[str]:
    """The trials of a job without a result."""
    return [trial for trial in job.hashes if trial_status(job.root, trial) not in TERMINAL_STATUSES]


def unwritable(job: Job, error: OSError) -> str:
    """Why results cannot be written."""
    file = f" ({error.filename})" if error.filename else ""
    free = ""
    with suppress(OSError):
        free = f" ({shutil.disk_usage(job.root).free / 1e6:.1f} MB free)"
    return f"{job.root}: cannot write results: {error.strerror or error}{file}{free}"
