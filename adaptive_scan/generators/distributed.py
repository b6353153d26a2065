"""Training on several processes or machines: who has which share of a batch, and what all of them must agree on.

Every process draws the whole batch from the same seed and keeps its share, so that several processes make the updates
that one would make. Gradients are averaged by one sum over all processes after the backward pass and not by a wrapper
around the network: parts of a network may then be called on their own, and several networks trained in turn.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from adaptive_scan.errors import SettingError
from adaptive_scan.generators.normalisation import SharedBatchNorm2d
from adaptive_scan.trees import tree_from_bytes, tree_to_bytes


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; alone, all its methods leave things as they are.

    Attributes:
        rank: Its number, from 0.
        n_processes: How many there are.
        local_rank: Its number on its own machine.

    Example:
        >>> Processes(rank=1, n_processes=4).share
        slice(1, None, 4)
    """

    rank: int = 0
    n_processes: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """Places of the scans of a batch that are this process's."""
        return slice(self.rank, None, self.n_processes)

    def check_batch_size(self, batch_size: int) -> None:
        """Refuse a batch that cannot be shared out evenly: means over unequal shares would weigh scans unequally.

        Raises:
            ValueError: If it cannot.
        """
        if batch_size % self.n_processes:
            raise SettingError(f"batch_size: got {batch_size}; expected a multiple of the {self.n_processes} processes")

    def gather(self, own: Tensor) -> Tensor:
        """Put the shares of all processes together in the order of the whole batch.

        Args:
            own: What belongs to this process's scans, shape (n_share, ...), without gradients.

        Returns:
            The same for the whole batch, shape (n_share * n_processes, ...).
        """
        if self.n_processes == 1:
            return own
        parts = [torch.empty_like(own) for _ in range(self.n_processes)]
        dist.all_gather(parts, own.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by its mean over the processes; parameters without a gradient must lack it on all."""
        self._average([parameter.grad for parameter in parameters if parameter.grad is not None])

    def average_buffers(self, network: nn.Module) -> None:
        """Replace each floating-point buffer by its mean over the processes, such as running means of statistics."""
        self._average([buffer for buffer in network.buffers() if buffer.is_floating_point()])

    @torch.no_grad()
    def _average(self, tensors: list[Tensor]) -> None:
        if self.n_processes == 1 or not tensors:
            return
        # One message for all costs far less than one for each.
        together = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(together)
        together /= self.n_processes
        parts = together.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    @torch.no_grad()
    def copy_from_first(self, network: nn.Module) -> None:
        """Give a network the weights that the first process has, where other machines round otherwise."""
        if self.n_processes > 1:
            for tensor in itertools.chain(network.parameters(), network.buffers()):
                dist.broadcast(tensor.data, src=0)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.n_processes == 1:
            return flag
        flags = torch.tensor([float(flag)], device=_message_device())
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return bool(flags.item())

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.n_processes > 1:
            dist.barrier()

    def from_first(self, tree: Any) -> Any:
        """A tree of numbers, strings and arrays as the first process has it; what others hand in is not used.

        It travels as `adaptive_scan.trees` writes it, without pickle.
        """
        if self.n_processes == 1:
            return tree
        device = _message_device()
        data = tree_to_bytes(tree) if self.is_first else b""
        size = torch.tensor([len(data)], device=device)
        dist.broadcast(size, src=0)
        buffer = bytearray(data) if self.is_first else bytearray(int(size.item()))
        message = torch.frombuffer(buffer, dtype=torch.uint8).to(device)
        dist.broadcast(message, src=0)
        return tree if self.is_first else tree_from_bytes(message.cpu().numpy().tobytes())


ALONE = Processes()
"""The only process of a training."""


class _SharedStatistics(SharedBatchNorm2d):
    """Batch normalisation over all processes whose state is that of ``nn.BatchNorm2d``."""

    get_extra_state = nn.Module.get_extra_state
    set_extra_state = nn.Module.set_extra_state


def share_batch_statistics(network: nn.Module) -> int:
    """Let the batch normalisations of a network take their statistics over all processes, on any device.

    Only ``nn.BatchNorm2d`` itself is replaced; parameters, running statistics and the network's state stay.

    Args:
        network: The network; changed.

    Returns:
        Number of normalisations that were replaced.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        >>> names = set(network.state_dict())
        >>> share_batch_statistics(network), set(network.state_dict()) == names
        (1, True)
    """
    n_replaced = 0
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                shared = _SharedStatistics(child.num_features, eps=child.eps, momentum=child.momentum or 0.1)
                shared.__dict__.update(child.__dict__)
                setattr(module, name, shared)
                n_replaced += 1
    return n_replaced


def is_launched() -> bool:
    """Whether ``torchrun`` started this process as one of several.

    Example:
        >>> is_launched()
        False
    """
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@contextlib.contextmanager
def joined_processes(*, cuda: bool = False) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, for the time of the block; `ALONE` without it.

    Args:
        cuda: Whether networks are on CUDA devices, one for each process: nccl carries the messages then, else gloo.

    Yields:
        This process among all.
    """
    if not is_launched():
        yield ALONE
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if cuda:
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), local_rank)
    finally:
        leave_processes()


def leave_processes() -> None:
    """Leave the others, if that has not happened yet; what follows is for this process alone."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _message_device() -> torch.device:
    """Where tensors of messages must be: nccl carries those on CUDA devices only."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
