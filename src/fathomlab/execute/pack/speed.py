"""Latency and throughput of trained networks on the processor: in fp32, in evaluation mode, with one thread.

A network is measured alone, also if it was trained in a pack or on another device. The result of a trial is not affected: the
networks are copies, and random generators are restored.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor, nn

from fathomlab.base.generators import seeded
from fathomlab.base.user_code import describe_error
from fathomlab.engine.opaque import saved_tensors, structure
from fathomlab.engine.torch_model import plain_module
from fathomlab.engine.training import PackTrainer
from fathomlab.models.architecture import Architecture
from fathomlab.store.records import Speed

BATCH = 64
FEWEST, MOST = 5, 50  # passes of one image
SECONDS = 0.05  # for the passes of one image, and for those of a batch, of all networks of a pack
LONGEST_BATCH = 10.0  # s; the batch of a slower network is smaller


def pack_speeds(training: PackTrainer, slots: Sequence[int], warn: Callable[[str], None]) -> dict[int, Speed]:
    """Measure the networks of the replicas in `slots`. Replicas with equal networks share one measurement.

    Args:
        training: The pack after training.
        slots: Replicas that did not diverge.
        warn: Takes one line if the module of a plugin cannot be measured; its replicas then have no speed.
    """
    groups: dict[Architecture, list[int]] = {}
    for slot in slots:
        network = replace(training.recipes[slot].architecture, init="")  # it does not change the network
        groups.setdefault(network, []).append(slot)
    speeds: dict[int, Speed] = {}
    for members in groups.values():
        try:
            with seeded(0):
                speed = measure_speed(_module(training, members[0]), _images(training), SECONDS / len(groups))
        except Exception as error:
            if training.recipes[members[0]].architecture.opaque is None:
                raise
            warn(f"speed not measured: {describe_error(error)}")
            continue
        speeds |= dict.fromkeys(members, speed)
    return speeds


@torch.no_grad()
def measure_speed(module: nn.Module, images: Tensor, seconds: float = SECONDS) -> Speed:
    """Time a network with one thread. The number of threads is restored.

    Args:
        module: The network on the CPU, in evaluation mode.
        images: Normalized images, (64, c, h, w). Slow networks get fewer of them at once.
        seconds: Time for the passes of one image, and for those of a batch. There are at least five and at most 50 of one image,
            and at least one of a batch.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        module(images[:1])  # allocates memory and chooses kernels
        single = sorted(_times(lambda: module(images[:1]), seconds, FEWEST))
        batch = len(images)
        while batch > 1 and batch * median(single) > LONGEST_BATCH:
            batch //= 2
        together = _times(lambda: module(images[:batch]), seconds, 1)
    finally:
        torch.set_num_threads(threads)
    return Speed(median(single), single[-(-95 * len(single) // 100) - 1], batch / median(together), batch)


def _times(call: Callable[[], object], seconds: float, fewest: int) -> list[float]:
    """Times of repeated calls (s)."""
    times: list[float] = []
    while len(times) < fewest or (len(times) < MOST and sum(times) < seconds):
        started = time.perf_counter()
        call()
        times.append(max(time.perf_counter() - started, 1e-9))  # of a clock that is too coarse
    return times


def _module(training: PackTrainer, slot: int) -> nn.Module:
    """A copy of the network of one replica with the weights after the last epoch, on the CPU."""
    state, architecture = training.state, training.recipes[slot].architecture
    tensors: Mapping[str, Tensor] = {
        name: _float32(tensor.detach()[slot].cpu()) for name, tensor in {**state.params, **state.buffers}.items()
    }
    if architecture.opaque is not None:
        tensors = saved_tensors(structure(architecture.opaque), tensors)
    return plain_module(architecture, tensors, "fp32")


def _images(training: PackTrainer) -> Tensor:
    """The first 64 test images, repeated if there are fewer."""
    data = training.data
    rows = torch.arange(BATCH, device=data.test_images.device) % len(data.test_images)
    return _float32(data.normalize(data.test_images[rows]).cpu())


def _float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
