"""Least-squares adversarial losses, and the replay of examples that were hard to complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adaptive_scan.generators.adversarial_settings import check_replay

Example = tuple[Tensor, ...]


def discriminator_losses(scores_of_micrographs: Sequence[Tensor], scores_of_completions: Sequence[Tensor]) -> Tensor:
    """What discriminators minimise, L = 1/N sum_i D_i(G)² + (D_i(I) - 1)²: they say 1 of micrographs, 0 of completions.

    Equation 4 of the partial-STEM paper (Ede and Beanland 2020, doi:10.1038/s41598-020-65261-0) with one discriminator
    of each of N sizes.

    Args:
        scores_of_micrographs: D_i(I), for each size a tensor of shape (n_scans,).
        scores_of_completions: D_i(G), likewise.

    Returns:
        Losses, shape (n_scans,).

    Example:
        >>> discriminator_losses([torch.tensor([1.0, 0.5])], [torch.tensor([0.0, 0.5])])
        tensor([0.0000, 0.5000])
    """
    real, completed = torch.stack(tuple(scores_of_micrographs)), torch.stack(tuple(scores_of_completions))
    return (completed.square() + (real - 1).square()).mean(dim=0)


def adversarial_losses(scores_of_completions: Sequence[Tensor]) -> Tensor:
    """What the generator minimises against discriminators, L = 1/N sum_i (D_i(G) - 1)²: they shall say 1.

    Equation 5 of the partial-STEM paper, where the bracket is misprinted as D_i(G - 1)².

    Args:
        scores_of_completions: D_i(G), for each of N sizes a tensor of shape (n_scans,).

    Returns:
        Losses, shape (n_scans,).

    Example:
        >>> adversarial_losses([torch.tensor([1.0, 0.5]), torch.tensor([0.0, 0.5])])
        tensor([0.5000, 0.2500])
    """
    return (torch.stack(tuple(scores_of_completions)) - 1).square().mean(dim=0)


def replace_known(completions: Tensor, micrographs: Tensor, partial_scans: Tensor) -> Tensor:
    """Completions whose measured pixels are the micrograph's, so that they neither count nor get a gradient.

    The supersampling paper (arXiv 1910.10467, section II) replaces "inputted output pixels with their target values so
    they do not contribute to the loss function".

    Args:
        completions: Completed pictures, shape (n_scans, 1, S, S).
        micrographs: What is put in, same shape.
        partial_scans: Measured values and masks, shape (n_scans, 2, S, S).

    Returns:
        Pictures, shape (n_scans, 1, S, S).

    Example:
        >>> partial_scans = torch.tensor([[[[0.5, 0.0]], [[1.0, 0.0]]]])
        >>> replace_known(torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2), partial_scans)
        tensor([[[[1., 0.]]]])
    """
    return torch.where(partial_scans[:, 1:] > 0, micrographs, completions)


class ExperienceReplay:
    """Keeps examples with losses in the top share, and puts them in place of new ones by chance.

    The partial-STEM paper (supplement, "Experience replay") damps the oscillations of discriminators so: of 50 kept
    examples, "we only replayed examples with losses in the top 20%. Training examples had a 20% chance to be sampled
    from the replay". An example is what a scan is trained from, and is completed anew when it is replayed. The paper
    leaves open over which losses the share is taken and which example gives way. Here an example is kept if its
    loss reaches the quantile 1 - ``top_share`` of those of the last ``size / top_share`` new examples, itself
    among them, so that about as many examples are kept as the share says however losses drift; and the oldest
    kept example gives way. Replayed examples are not kept again. They lie in main memory.

    Args:
        size: Number of examples kept.
        top_share: Share of new examples that are kept, those of the greatest losses.
        chance: Chance of each example of a batch to be a replayed one.

    Raises:
        ValueError: If ``size`` is below 1 or a share is outside (0, 1] or [0, 1).

    Example:
        >>> replay = ExperienceReplay(size=4, top_share=0.5, chance=0.5)
        >>> replay.keep((torch.tensor([10.0, 20.0, 30.0, 40.0]),), torch.tensor([3.0, 1.0, 4.0, 2.0]))
        >>> [example[0].item() for example in replay.examples]
        [10.0, 30.0]
    """

    def __init__(self, size: int = 50, *, top_share: float = 0.2, chance: float = 0.2) -> None:
        check_replay(size, top_share, chance)
        self.size = size
        self.top_share = top_share
        self.chance = chance
        self._window = max(1, round(size / top_share))
        self._examples: list[Example] = []
        self._recent = torch.zeros(0)

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def examples(self) -> tuple[Example, ...]:
        """The kept examples, oldest first."""
        return tuple(self._examples)

    def draw(self, n_scans: int, generator: torch.Generator) -> Tensor:
        """Draw which scans of a batch are replayed ones.

        Args:
            n_scans: Scans in the batch.
            generator: Source of the choice, a generator on the CPU.

        Returns:
            For each scan the place of a kept example, or -1 for none, int64, shape (n_scans,). Nothing is replayed
            while nothing is kept, but as many numbers are drawn.
        """
        replayed = torch.rand(n_scans, generator=generator) < self.chance
        # a fraction of the length, so that what is drawn does not depend on the length
        places = (torch.rand(n_scans, generator=generator) * len(self)).long().clamp(max=max(len(self) - 1, 0))
        return torch.where(replayed, places, -1) if self._examples else torch.full((n_scans,), -1)

    def replace(self, batch: Example, places: Tensor) -> Example:
        """A batch with kept examples put in.

        Args:
            batch: Tensors of shape (n_scans, ...).
            places: From ``draw``, shape (n_scans,).

        Returns:
            The same, or new tensors where an example was put in.
        """
        scans = (places >= 0).nonzero()[:, 0].tolist()
        if not scans:
            return batch
        mixed = tuple(part.clone() for part in batch)
        for scan in scans:
            for part, kept in zip(mixed, self._examples[int(places[scan])], strict=True):
                part[scan] = kept.to(part.device)
        return mixed

    def keep(self, batch: Example, losses: Tensor) -> None:
        """Keep the examples of a batch whose losses are among the greatest of late.

        Args:
            batch: Tensors of shape (n_scans, ...) of new examples.
            losses: Their losses, shape (n_scans,).
        """
        known = losses.detach().float().cpu()
        self._recent = torch.cat((self._recent, known))[-max(self._window, len(known)) :]
        if not len(known):
            return
        least = torch.quantile(self._recent, 1 - self.top_share)
        self._recent = self._recent[-self._window :]
        for scan in (known >= least).nonzero()[:, 0].tolist():
            self._examples.append(tuple(part[scan].detach().to("cpu", copy=True) for part in batch))
        self._examples = self._examples[-self.size :]

    def state_dict(self) -> dict[str, Any]:
        """The kept examples and the recent losses, tensors that ``adaptive_scan.trees.write_tree`` writes."""
        parts = [torch.stack(part) for part in zip(*self._examples, strict=True)]
        return {"examples": parts, "recent": self._recent}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; a longer replay's oldest examples are left out."""
        self._examples = list(zip(*(part.unbind() for part in state["examples"]), strict=True))[-self.size :]
        self._recent = state["recent"][-self._window :]
