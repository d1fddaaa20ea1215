"""Makes a command train with leases, as on a network file system, and with short times.

`python -m tests.faults.lease_setup OPTIONS COMMAND...` runs a command; OPTIONS is JSON with the arguments of `apply`.
"""

import json
import sys
from dataclasses import replace

# A stopped process is taken over after this time (s). The time between two renewals is much shorter.
EXPIRY = 1.5
NEVER = 3600.0


def apply(expiry: float = EXPIRY, boot: str = "") -> None:
    """Change fathomlab in this process.

    Args:
        expiry: Time after which a lease that nobody renews expires (s).
        boot: Pretend that this is another machine; `""` for this one.
    """
    from fathomlab.execute import coordinator, experiment, job_queue
    from fathomlab.store import lease_files, leases

    experiment.locks_hold = lambda root: False
    leases.EXPIRY_SECONDS, leases.HEARTBEAT_SECONDS, leases.LONGEST_LOOK = expiry, 0.1, max(0.5, expiry / 4)
    job_queue.POLL_SECONDS = coordinator.POLL_SECONDS = 0.1
    if boot:
        process = lease_files.this_process
        for module in (lease_files, leases):
            setattr(module, "this_process", lambda: replace(process(), boot=boot, host=boot))  # noqa: B010


if __name__ == "__main__":
    from fathomlab.cli import main

    apply(**json.loads(sys.argv[1]))
    main(sys.argv[2:])
