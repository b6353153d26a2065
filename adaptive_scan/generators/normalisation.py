"""Weight normalisation, running mean-only batch normalisation, and their initialisation from data.

A convolution's weights are w = g v / |v|, one length g and one direction v for each output channel (Salimans and Kingma
2016, arXiv 1602.07868). Its output t loses the mean of its channel, t - mean(t), and nothing else: in training the mean
of the batch, in evaluation a running mean of those. Several processes that train together subtract the mean of
all their batches, so that they compute what one process would with the whole batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.nn.utils.parametrizations import weight_norm

from adaptive_scan.errors import SettingError

_DIRECTION_DEVIATION = 0.05  # of the components of v at the start (Ede and Beanland 2020, supplement)
_SMALLEST = 1e-6  # a channel that is less than this over the whole first batch keeps its scale
_LEAST_VARIATION = 0.05  # of a channel's root mean square; a flat picture varies less, by its edges and rounding


class _SumOverProcesses(torch.autograd.Function):
    """Sum of a tensor over all processes; the gradient is summed likewise, since every process used the sum.

    The library's own differentiable form is deprecated, and its successor is still private.
    """

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total: Tensor = _SumOverProcesses.apply(gradients[0])  # type: ignore[no-untyped-call]
        return total


def _processes_train_together() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def channel_means(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each channel over the batch, the pixels and all processes that train together; differentiable.

    Every process of the group has to call it, as it does when all of them train.

    Args:
        features: Features of this process, shape (n, n_channels, height, width).

    Returns:
        The means, float32, shape (n_channels,), and the number of values that each is the mean of, shape ().

    Example:
        >>> means, count = channel_means(torch.tensor([[[[1.0, 3.0]], [[5.0, 5.0]]]]))
        >>> means.tolist(), count.item()
        ([2.0, 5.0], 2.0)
    """
    count = torch.tensor(float(features.numel() // features.shape[1]), device=features.device)
    if not _processes_train_together():
        return features.mean(dim=(0, 2, 3), dtype=torch.float32), count
    sums = features.sum(dim=(0, 2, 3), dtype=torch.float32)
    totals: Tensor = _SumOverProcesses.apply(torch.cat((sums, count[None])))  # type: ignore[no-untyped-call]
    return totals[:-1] / totals[-1], totals[-1].detach()


class _Freezable(nn.Module):
    """A normalisation that can stop learning its running statistics; its state says whether it has.

    Attributes:
        frozen: Whether training, too, uses the running statistics and leaves them where they are.
    """

    frozen: bool = False

    @property
    def uses_batch(self) -> bool:
        """Whether the next forward pass takes its statistics from the batch."""
        return self.training and not self.frozen

    def get_extra_state(self) -> Tensor:
        """Whether it is frozen, as a tensor, which every kind of file can hold."""
        return torch.tensor(self.frozen)

    def set_extra_state(self, state: Tensor) -> None:
        """Take over what ``get_extra_state`` returned."""
        self.frozen = bool(state)


class MeanOnlyBatchNorm2d(_Freezable):
    """Running mean-only batch normalisation, y = x - mean(x) for each channel (Salimans and Kingma 2016, section 3).

    In training the mean is that of the batch and the gradient passes through it; the running mean then moves by
    ``mean <- decay mean + (1 - decay) mean(x)``. In evaluation, and once frozen, the running mean is subtracted.

    Args:
        n_channels: Number of channels.
        decay: Decay of the running mean, in [0, 1].

    Raises:
        ValueError: If ``decay`` is outside [0, 1].

    Example:
        >>> normalisation = MeanOnlyBatchNorm2d(1, decay=0.75)
        >>> normalisation(torch.tensor([[[[1.0, 3.0]]]])), normalisation.running_mean
        (tensor([[[[-1.,  1.]]]]), tensor([0.5000]))
    """

    running_mean: Tensor

    def __init__(self, n_channels: int, *, decay: float = 0.99) -> None:
        super().__init__()
        if not 0 <= decay <= 1:
            raise SettingError(f"decay: got {decay}; expected a number in [0, 1]")
        self.decay = decay
        self.register_buffer("running_mean", torch.zeros(n_channels))

    def forward(self, features: Tensor) -> Tensor:
        """Subtract the mean of each channel, shape (n, n_channels, height, width)."""
        means = self.running_mean
        if self.uses_batch:
            means, _ = channel_means(features)
            self.running_mean.lerp_(means.detach(), 1 - self.decay)
        return features - means.to(features.dtype)[:, None, None]


class SharedBatchNorm2d(_Freezable, nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes, on any device, that can be frozen.

    One process computes what ``torch.nn.BatchNorm2d`` does. Several compute what one would with the whole batch, on a
    CPU as well, which ``torch.nn.SyncBatchNorm`` does not serve.

    Example:
        >>> features = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
        >>> bool(torch.equal(SharedBatchNorm2d(3)(features), nn.BatchNorm2d(3)(features)))
        True
    """

    def forward(self, features: Tensor) -> Tensor:
        """Normalise features, shape (n, n_channels, height, width)."""
        if not self.uses_batch:
            mean, variance = self.running_mean, self.running_var
            return F.batch_norm(features, mean, variance, self.weight, self.bias, eps=self.eps)
        if not _processes_train_together():
            return super().forward(features)
        means, count = channel_means(features)
        centred = features - means.to(features.dtype)[:, None, None]
        variances, _ = channel_means(centred.float().square())
        self._track(means.detach(), variances.detach() * count / (count - 1))
        scales = (self.weight * (variances + self.eps).rsqrt()).to(features.dtype)
        return centred * scales[:, None, None] + self.bias.to(features.dtype)[:, None, None]

    def _track(self, means: Tensor, variances: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(means, self.momentum)
        self.running_var.lerp_(variances, self.momentum)
        self.num_batches_tracked.add_(1)


class NormalisedConvolution(nn.Module):
    """A convolution without bias, its weights normalised, followed by running mean-only batch normalisation.

    Until `initialise_from_data` sets them, the lengths of the weights are He's, sqrt(2), for which a ReLU keeps
    the mean square of its input.

    Args:
        n_in: Channels in.
        n_out: Channels out.
        side: Side of the kernel [px], odd.
        stride: Step of the kernel [px]; the side of the picture becomes 1 / ``stride`` of what it was.
        transposed: Make it ``stride`` times as large instead, by the transposed convolution.
        normalised: Subtract the means; output convolutions keep theirs.
        deviation: Standard deviation that `initialise_from_data` gives each channel.

    Example:
        >>> NormalisedConvolution(2, 8, stride=2)(torch.zeros(1, 2, 16, 16)).shape
        torch.Size([1, 8, 8, 8])
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        side: int = 3,
        stride: int = 1,
        transposed: bool = False,
        normalised: bool = True,
        deviation: float = 1.0,
    ) -> None:
        super().__init__()
        convolution: nn.Conv2d | nn.ConvTranspose2d
        if transposed:
            convolution = nn.ConvTranspose2d(
                n_in, n_out, side, stride, side // 2, output_padding=stride - 1, bias=False
            )
        else:
            convolution = nn.Conv2d(n_in, n_out, side, stride, side // 2, bias=False)
        nn.init.normal_(convolution.weight, std=_DIRECTION_DEVIATION)
        self.convolution = weight_norm(convolution, dim=1 if transposed else 0)
        self.normalisation = MeanOnlyBatchNorm2d(n_out) if normalised else None
        self.deviation = deviation
        nn.init.constant_(self.lengths, 2.0**0.5)

    @property
    def lengths(self) -> nn.Parameter:
        """The length g of each output channel's weights, as many numbers as channels out."""
        lengths: nn.Parameter = self.convolution.parametrizations.weight.original0
        return lengths

    def forward(self, features: Tensor) -> Tensor:
        """Features, shape (n, n_in, height, width), to pre-activations, shape (n, n_out, ..., ...)."""
        convolved: Tensor = self.convolution(features)
        return convolved if self.normalisation is None else self.normalisation(convolved)

    def _initialise(self, _module: nn.Module, _inputs: tuple[Tensor, ...], convolved: Tensor) -> Tensor:
        """Forward hook of the convolution that sets scale and shift by its output, and returns it scaled."""
        means, count = channel_means(convolved)
        variances, _ = channel_means((convolved - means.to(convolved.dtype)[:, None, None]).float().square())
        sizes = (means.square() + variances).sqrt()
        # few values may deviate by nearly 0 by chance, and layer upon layer of such scales would blow up rounding
        least = sizes * torch.clamp(count.rsqrt(), min=_LEAST_VARIATION)
        deviations = torch.maximum(variances.sqrt(), least)
        scales = torch.where(sizes > _SMALLEST, self.deviation / deviations, torch.ones_like(deviations))
        self.lengths.mul_(scales.view_as(self.lengths))
        if self.normalisation is not None:
            self.normalisation.running_mean.copy_(means * scales)
        return convolved * scales.to(convolved.dtype)[:, None, None]


def initialise_from_data(network: nn.Module, inputs: Tensor) -> int:
    """Data-dependent initialisation (Salimans and Kingma 2016, section 2.1), layer after layer in one forward pass.

    The lengths g of each `NormalisedConvolution` are divided by the standard deviation of its output over ``inputs``,
    and its running mean becomes the mean, so that in evaluation each channel's pre-activation has mean 0 and
    variance 1. Output convolutions, which have no shift, get the variance alone, or the one they were made with. Lest
    a flat or tiny first batch makes weights huge, the deviation of n values counts as no less than their root mean
    square over sqrt(n), or over 20, whichever is more; a channel that is 0 everywhere keeps its scale. When several
    processes train together, all of them have to call it, each with its share of the batch.

    Args:
        network: Any network; its other layers, and a network without such layers, are left as they are.
        inputs: What to call the network with: a first batch of partial scans, shape (n_scans, 2, S, S), or the
            features that an auxiliary trainer takes.

    Returns:
        Number of convolutions in the network that were initialised.

    Example:
        >>> layer = NormalisedConvolution(2, 4)
        >>> batch = torch.randn(8, 2, 6, 6, generator=torch.Generator().manual_seed(0))
        >>> initialise_from_data(layer, batch)
        1
        >>> bool(torch.allclose(layer.eval()(batch).std(dim=(0, 2, 3), correction=0), torch.ones(4)))
        True
    """
    layers = [module for module in network.modules() if isinstance(module, NormalisedConvolution)]
    if not layers:
        return 0
    were_training = [(module, module.training) for module in network.modules()]
    hooks = [layer.convolution.register_forward_hook(layer._initialise) for layer in layers]
    try:
        network.eval()  # so that the running means that were just set are subtracted, and do not move
        with torch.no_grad():
            network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
        for module, was_training in were_training:
            module.training = was_training
    return len(layers)


def freeze_normalisation(network: nn.Module, *, frozen: bool = True) -> int:
    """Stop the running statistics of a network, which from then on it uses in training too.

    The partial STEM paper does so in the second half of training, for stability. The state dict remembers it.

    Args:
        network: Any network; layers that cannot be frozen are left as they are.
        frozen: False sets them free again.

    Returns:
        Number of layers that are frozen, or free, now.

    Example:
        >>> freeze_normalisation(NormalisedConvolution(2, 4))
        1
    """
    layers = [module for module in network.modules() if isinstance(module, _Freezable)]
    for layer in layers:
        layer.frozen = frozen
    return len(layers)
