"""Targets and losses of recurrent deterministic policy gradients, as pure functions of tensors.

Time alignment, for an episode of ``n_steps`` actions::

    observation   o_0   o_1   o_2  ...  o_T        T + 1 of them
    action             a_0   a_1  ...  a_T-1       a_t is chosen at o_t
    reward             r_0   r_1  ...  r_T-1       r_t follows a_t
    memory input  (o_0, 0) (o_1, a_0) ... (o_T, a_T-1)

so index t of the actions, rewards and masks belongs to observation t, and the bootstrap value of step t is that of
t + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` where ``mask`` is 1: padding counts neither in the sum nor in the denominator.

    Example:
        >>> masked_mean(torch.tensor([[2.0, 4.0, 99.0]]), torch.tensor([[1.0, 1.0, 0.0]]))
        tensor(3.)
    """
    return torch.where(mask > 0, values, 0).sum() / mask.sum()


def n_step_targets(
    rewards: Tensor, next_values: Tensor, lengths: Tensor, terminated: Tensor, *, gamma: float, n_steps: int = 1
) -> Tensor:
    """n-step targets of whole episodes.

    y_t = sum_{k=0}^{m-1} gamma^k r_{t+k} + gamma^m v_{t+m},  m = min(n_steps, length - t),

    where the value at the end of an episode counts only if a time limit cut it: with ``n_steps=1`` this is the target
    of RDPG (Heess et al. 2015, arXiv:1512.04455, algorithm 1), with ``n_steps`` at least the length the Monte Carlo
    return.

    Args:
        rewards: r_t, shape (n_episodes, n_steps), anything behind the length of an episode.
        next_values: v_{t+1} = Q'(o_{t+1}, pi(o_{t+1})), shape (n_episodes, n_steps).
        lengths: True number of steps of each episode, shape (n_episodes,).
        terminated: Whether the episode ended by itself (True) or by a time limit (False), shape (n_episodes,).
        gamma: Discount per step.
        n_steps: Rewards summed before bootstrapping, at least 1.

    Returns:
        Targets, shape (n_episodes, n_steps); zero behind the length.

    Raises:
        ValueError: If ``n_steps`` is less than 1.

    Example:
        >>> r, v = torch.tensor([[1.0, 1.0]]), torch.tensor([[10.0, 20.0]])
        >>> n_step_targets(r, v, torch.tensor([2]), torch.tensor([True]), gamma=0.5)
        tensor([[6., 1.]])
        >>> n_step_targets(r, v, torch.tensor([2]), torch.tensor([False]), gamma=0.5, n_steps=2)
        tensor([[ 6.5000, 11.0000]])
    """
    if n_steps < 1:
        raise ValueError(f"n_steps: got {n_steps}; expected at least 1")
    n_time = rewards.shape[1]
    last = (lengths - 1)[:, None]
    time = torch.arange(n_time, device=rewards.device)[None, :]
    inside = time <= last
    final = time == last
    rewards = torch.where(inside, rewards, 0)
    next_values = torch.where(inside & ~(final & terminated[:, None]), next_values, 0)

    targets = rewards + gamma * next_values
    for _ in range(min(n_steps, n_time) - 1):
        # Each pass looks one step further: the target of t is r_t plus the shorter target of t + 1.
        following = torch.nn.functional.pad(targets[:, 1:], (0, 1))
        targets = torch.where(final, rewards + gamma * next_values, rewards + gamma * following)
    return torch.where(inside, targets, 0)


def critic_loss(q_values: tuple[Tensor, ...], targets: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum over critics of the mean squared error to the targets (Fujimoto et al. 2018, algorithm 1).

    With importance weights w_i of the episodes, sum_i w_i sum_t m_it (q_it - y_it)^2 / sum_it m_it for each critic
    (Schaul et al. 2016, arXiv:1511.05952, algorithm 1): the weights scale errors and leave the step count alone.

    Args:
        q_values: One tensor (n_episodes, n_steps) for each critic.
        targets: Shape (n_episodes, n_steps).
        mask: 1 where the step took place, shape (n_episodes, n_steps).
        weights: Shape (n_episodes,); None weighs all alike.

    Example:
        >>> q, y, mask = torch.tensor([[3.0], [1.0]]), torch.zeros(2, 1), torch.ones(2, 1)
        >>> critic_loss((q,), y, mask), critic_loss((q,), y, mask, torch.tensor([1.0, 0.5]))
        (tensor(5.), tensor(4.7500))
    """
    errors = [(q - targets) ** 2 for q in q_values]
    if weights is not None:
        errors = [weights[:, None] * error for error in errors]
    return torch.stack([masked_mean(error, mask) for error in errors]).sum()


def actor_loss(live_q_values: Tensor, mask: Tensor) -> Tensor:
    """Minus the mean value of the live actions; its gradient is the deterministic policy gradient."""
    return -masked_mean(live_q_values, mask)


def saturation(before_tanh: Tensor, mask: Tensor) -> Tensor:
    """Mean squared excess of an actor's outputs over 1.5 before the tanh, which there passes 18 % of a gradient.

    sum_i max(|x_i| - 1.5, 0)^2 of each step's components x_i, averaged over the steps that took place.

    Args:
        before_tanh: Shape (n_episodes, n_steps, action_size).
        mask: 1 where the step took place, shape (n_episodes, n_steps).

    Example:
        >>> saturation(torch.tensor([[[-2.5], [1.0]]]), torch.ones(1, 2))
        tensor(0.5000)
    """
    return masked_mean(torch.relu(before_tanh.abs() - 1.5).square().sum(dim=-1), mask)
