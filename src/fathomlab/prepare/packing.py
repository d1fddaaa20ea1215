"""Groups trials that can be trained as one tensor program."""

from collections.abc import Callable, Sequence

from fathomlab.base.errors import UserError
from fathomlab.base.packing import signature
from fathomlab.plan import Plan, Trial
from fathomlab.prepare import cost, gpus, machine
from fathomlab.store.inventory import Inventory

MIN_WORKER_SECONDS = 20.0  # shorter work is not worth the start of another process


def worker_count(requested: str | int, packs_to_run: int, device: str = "cpu") -> int:
    """Number of workers for `--workers`: a number, or `auto` for one per GPU, or per core if the CPU trains.

    Args:
        requested: The value of `--workers`.
        packs_to_run: Number of packs; `auto` starts no more workers.
        device: The value of `--device`.

    Raises:
        UserError: If the value is neither.
    """
    if str(requested) == "auto":
        return max(1, min(gpus.gpu_count(device) or machine.cores(), packs_to_run))
    if not str(requested).isdecimal() or int(requested) < 1:
        raise UserError("invalid-option", f"--workers must be auto or a number >= 1, got {requested!r}.")
    return int(requested)


def form_packs(
    plan: Plan,
    trials: Sequence[Trial],
    inventory: Inventory,
    device: str,
    workers: int,
    queued: Sequence[tuple[str, ...]] = (),
) -> list[list[Trial]]:
    """Group trials of one signature and generation, as many as memory and the kind of network allow, or as `run.pack` says.

    Interrupted trials resume in their original pack, so that their results stay bit-identical. So do those of `queued` packs,
    for which a cluster has jobs already.
    """
    forced = plan.loaded.run.pack
    resumable, new = resumable_packs(inventory, trials, queued, by_checkpoint=not forced)

    def key(trial: Trial) -> object:
        checkpoint = inventory.checkpoint(trial)
        step = forced and (checkpoint.step if checkpoint else 0)
        return signature(trial.recipe), trial.probes, generation(trial), step

    def max_size(trial: Trial) -> int:
        return forced if forced and trial.recipe.architecture.packable else cost.max_pack_size(trial, device, workers)

    packs = group_into_packs(new, key, max_size)
    packs = packs if forced else _balance_packs(packs, workers - len(resumable), device)
    order = {trial.hash: index for index, trial in enumerate(trials)}
    return sorted(resumable + packs, key=lambda pack: min(order.get(trial.hash, len(order)) for trial in pack))


def generation(trial: Trial) -> int:
    """Length of the longest chain of parents; 0 without parents.

    A pack starts when all parents of its trials are trained. With one generation per pack, no pack waits for itself, or for a
    pack that waits for it.
    """
    return max((1 + generation(parent) for _, parent in trial.parents), default=0)


def resumable_packs(
    inventory: Inventory,
    trials: Sequence[Trial],
    queued: Sequence[tuple[str, ...]] = (),
    by_checkpoint: bool = True,
) -> tuple[list[list[Trial]], list[Trial]]:
    """Return the complete packs of the trials that have a checkpoint or are `queued`, and the other trials.

    A pack may contain trials that have finished since. They keep their slots, so that the results of the others stay the same.
    """
    packs_of = {trial: pack for pack in queued for trial in pack}
    packs: list[list[Trial]] = []
    new, packed = list[Trial](), set[str]()
    for trial in trials:
        if trial.hash in packed:
            continue
        checkpoint = inventory.checkpoint(trial) if by_checkpoint else None
        members = checkpoint.members if checkpoint else ()  # none in a checkpoint of another schema
        members = packs_of.get(trial.hash, members)
        entries = [inventory.trials.get(member) for member in members]
        pack = [entry.trial for entry in entries if entry is not None and entry.trial is not None]
        if not pack or len(pack) < len(members) or packed & set(members):
            new.append(trial)
            continue
        packs.append(pack)
        packed |= set(members)
    return packs, new


def group_into_packs(
    trials: Sequence[Trial], key: Callable[[Trial], object], max_size: Callable[[Trial], int]
) -> list[list[Trial]]:
    """Group trials of equal key, in the order given; `max_size` bounds the replicas of a pack."""
    groups: dict[object, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(key(trial), []).append(trial)
    packs: list[list[Trial]] = []
    for group in groups.values():
        count = -(-len(group) // max(1, max_size(group[0])))
        size = -(-len(group) // count)
        packs += [group[start : start + size] for start in range(0, len(group), size)]
    return packs


def _balance_packs(packs: list[list[Trial]], workers: int, device: str) -> list[list[Trial]]:
    """The packs; the longest is split while workers would be idle and half of it is worth starting one."""
    while len(packs) < workers:
        longest = max(packs, key=lambda pack: cost.divisible_seconds(pack, device) * (len(pack) > 1), default=[])
        if len(longest) < 2 or cost.divisible_seconds(longest, device) < MIN_WORKER_SECONDS:
            break
        half = -(-len(longest) // 2)
        index = packs.index(longest)
        packs = [*packs[:index], longest[:half], longest[half:], *packs[index + 1 :]]
    return packs
