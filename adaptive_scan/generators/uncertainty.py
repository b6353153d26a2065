"""How wrong a completion is, pixel by pixel, predicted beside it: an error head for any completer, or an ensemble.

The head is trained after its completer and apart from it, on completions that it cannot change. So the completions
stay what they were, classical completers can have one as well, and one can be added to a generator that
is already in use. What it learns is the root-mean-square error of a pixel given what it sees: the Gaussian negative
log-likelihood is least at sigma^2 = E[error^2], whatever the distribution of the errors is.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_scan.errors import SettingError
from adaptive_scan.generators.checks import checked_scans
from adaptive_scan.generators.completers import Completer
from adaptive_scan.generators.distance import distance_to_measured
from adaptive_scan.generators.files import FORMAT_VERSION, GeneratorFileError, _read, _write
from adaptive_scan.generators.infill import pull_push_infill

ERROR_HEADER = "adaptive_scan.error_head"
_EXPECTED = "a file of an error head"
_DISTANCE_SCALE = 4.0  # [px]; half of the range of the scaled distance lies below it
_STRIDE = 4
_N_SEEN = 6
_SMALLEST_WEIGHT = 1e-6  # keeps 0/0 at 0 where nothing was measured
_LOWEST, _HIGHEST, _FIRST = math.log(1e-3), math.log(2.0), math.log(0.2)  # of log sigma, in units of the completion


def _slope(pictures: Tensor) -> Tensor:
    """Length of the gradient [1/px] by central differences, shape (N, 1, S, S)."""
    padded = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    along_rows = 0.5 * (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1])
    along_columns = 0.5 * (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2])
    return torch.sqrt(along_rows.square() + along_columns.square())


class ErrorHead(nn.Module):
    """A small network that predicts the logarithm of each pixel's error, log sigma.

    It sees six pictures: the measured values, the mask, the completion, the distance r to the nearest measured pixel
    as r / (r + 4 px), the length of the completion's gradient, and the completion less the pull-push infill, which is
    a second opinion on the same measurements. It has two resolutions. The means over all pixels and over the measured
    ones tell each pixel what the scan as a whole is like; without the second, few measurements would be lost among
    many guesses. No layer is normalised, since errors grow with the contrast of a picture. A sigmoid keeps sigma
    within [0.001, 2], the range of errors on [-1, 1]; it starts at 0.2 everywhere.

    Args:
        n_channels: Channels of the finer level, at least 1; the coarser one has twice as many.

    Attributes:
        config: Constructor keywords that rebuild the network.

    Raises:
        ValueError: If ``n_channels`` is below 1, and in ``forward`` if the shapes do not fit.

    Example:
        >>> head = ErrorHead(n_channels=4)
        >>> head(torch.zeros(3, 2, 10, 10), torch.zeros(3, 1, 10, 10)).exp().unique()
        tensor([0.2000], grad_fn=<Unique2Backward0>)
    """

    def __init__(self, *, n_channels: int = 16) -> None:
        super().__init__()
        if n_channels < 1:
            raise SettingError(f"n_channels: got {n_channels}; expected at least 1")
        self.config: dict[str, Any] = {"n_channels": n_channels}
        self.fine = nn.Conv2d(4 * _N_SEEN, n_channels, 3, padding=1)
        self.down = nn.Conv2d(n_channels, 2 * n_channels, 2, stride=2)
        self.level = nn.Linear(4 * n_channels, 2 * n_channels)
        self.first = nn.Conv2d(2 * n_channels, 2 * n_channels, 3, padding=1)
        self.second = nn.Conv2d(2 * n_channels, 2 * n_channels, 3, padding=1)
        self.up = nn.Conv2d(2 * n_channels, n_channels, 1)
        self.merge = nn.Conv2d(n_channels, n_channels, 3, padding=1)
        self.last = nn.Conv2d(n_channels, 4, 3, padding=1)
        share = (_FIRST - _LOWEST) / (_HIGHEST - _LOWEST)
        nn.init.zeros_(self.last.weight)
        nn.init.constant_(self.last.bias, math.log(share / (1.0 - share)))  # type: ignore[arg-type]

    def forward(self, partial_scans: Tensor, completions: Tensor) -> Tensor:
        """Predict log sigma, shape (n_scans, 1, S, S), in units of the completions.

        Args:
            partial_scans: Measured values and masks, shape (n_scans, 2, S, S), of any side S.
            completions: What a completer made of them, shape (n_scans, 1, S, S).

        Returns:
            Natural logarithm of the predicted standard deviation of each pixel's error.
        """
        seen = _seen(partial_scans, completions)
        height, width = seen.shape[-2:]
        seen = F.pad(seen, (0, -width % _STRIDE, 0, -height % _STRIDE), mode="replicate")
        fine = F.relu(self.fine(F.pixel_unshuffle(seen, 2)))
        coarse = F.relu(self.down(fine))
        coarse = coarse + F.relu(self.level(_means(coarse, seen[:, 1:2])))[:, :, None, None]
        coarse = F.relu(coarse + self.second(F.relu(self.first(coarse))))
        features = F.relu(self.merge(fine + F.interpolate(self.up(coarse), scale_factor=2, mode="nearest")))
        raw = F.pixel_shuffle(self.last(features), 2)[..., :height, :width]
        return _LOWEST + (_HIGHEST - _LOWEST) * torch.sigmoid(raw)


def _means(features: Tensor, masks: Tensor) -> Tensor:
    """Means of coarse features (N, C, s, s) over all pixels and over the measured ones, shape (N, 2 C)."""
    weights = F.avg_pool2d(masks, _STRIDE)
    measured = (features * weights).sum(dim=(2, 3)) / weights.sum(dim=(2, 3)).clamp(min=_SMALLEST_WEIGHT)
    return torch.cat((features.mean(dim=(2, 3)), measured), dim=1)


def _seen(partial_scans: Tensor, completions: Tensor) -> Tensor:
    """The pictures that the head looks at, shape (N, 6, S, S)."""
    shape, completed = tuple(partial_scans.shape), tuple(completions.shape)
    partial_scans = checked_scans(partial_scans, 1)
    if completed != (shape[0], 1, *shape[2:]):
        raise ValueError(f"completions have shape {completed}; expected {(shape[0], 1, *shape[2:])}")
    distance = distance_to_measured(partial_scans[:, 1])[:, None]
    disagreement = completions - pull_push_infill(partial_scans)
    scaled = (distance / (distance + _DISTANCE_SCALE)).to(completions)
    return torch.cat((partial_scans, completions, scaled, _slope(completions), disagreement), dim=1)


def make_error_head(*, seed: int, n_channels: int = 16) -> ErrorHead:
    """A head whose first weights come from a seed and leave the global random state as it was.

    Args:
        seed: Seed of the weights.
        n_channels: Channels of the finer level.

    Returns:
        The head, on the CPU.

    Example:
        >>> first, second = (make_error_head(seed=3, n_channels=4) for _ in range(2))
        >>> torch.equal(first.fine.weight, second.fine.weight)
        True
    """
    with torch.random.fork_rng(devices=[]):  # initialisers of torch.nn draw from the global state only
        torch.manual_seed(seed)
        return ErrorHead(n_channels=n_channels)


def beta_nll(errors: Tensor, log_sigmas: Tensor, *, beta: float = 0.5) -> Tensor:
    """Gaussian negative log-likelihood of errors, each pixel weighted by a power of its own variance.

    L = mean of w (log sigma + error² / (2 sigma²)) with w = stopgrad(sigma^(2 beta)) (Seitzer et al. 2022,
    arXiv 2203.09168), up to a constant. beta = 0 is the likelihood itself; a larger one gives more say to the pixels
    whose errors are large, which decide a scan's RMSE. The gradient is 0 at sigma² = error² for any beta.

    Args:
        errors: Completion minus target, shape (n_scans, 1, S, S).
        log_sigmas: Logarithms of the predicted standard deviations, same shape.
        beta: Power of the variance.

    Returns:
        Losses, shape (n_scans,).

    Example:
        >>> beta_nll(torch.full((1, 1, 2, 2), 2.0), torch.zeros(1, 1, 2, 2))
        tensor([2.])
    """
    likelihood = log_sigmas + 0.5 * errors.square() * torch.exp(-2.0 * log_sigmas)
    weights = torch.exp(2.0 * beta * log_sigmas).detach()
    return (weights * likelihood).flatten(1).mean(dim=1)


@dataclass(frozen=True)
class ErrorTraining:
    """Settings of the training of an error head.

    Attributes:
        n_updates: Number of updates.
        learning_rate: Adam's learning rate at the start; it falls along half a cosine to a hundredth of it.
        beta: Power of the variance that weights a pixel, see `beta_nll`.
        n_channels: Channels of the head's finer level.
        seed: Seed of the head's first weights.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> ErrorTraining(n_updates=100).beta
        0.5
    """

    n_updates: int = 1_000
    learning_rate: float = 3e-3
    beta: float = 0.5
    n_channels: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_updates", "learning_rate", "n_channels"):
            if not getattr(self, name) > 0:
                raise SettingError(f"{name}: got {getattr(self, name)}; expected more than 0")
        if not 0.0 <= self.beta <= 1.0:
            raise SettingError(f"beta: got {self.beta}; expected between 0 and 1")
        if self.seed < 0:
            raise SettingError(f"seed: got {self.seed}; expected 0 or more")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of an update, after ``step`` others."""
        progress = step / max(self.n_updates - 1, 1)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * progress)))


def train_error_head(
    completer: Completer,
    draw_batch: Callable[[], tuple[Tensor, Tensor]],
    settings: ErrorTraining | None = None,
    *,
    device: torch.device | str = "cpu",
    on_update: Callable[[int, Tensor], object] | None = None,
) -> ErrorHead:
    """Train an error head on the errors that a completer makes.

    The completer is called in evaluation mode and without gradients, and is left as it was.

    Args:
        completer: Completes the scans; a network on ``device``.
        draw_batch: Gives partial scans (n_scans, 2, S, S) and targets (n_scans, 1, S, S), new ones at each call. They
            should be such as the completer will meet, scans that are not yet complete among them where a
            scan is to stop early.
        settings: Everything else.
        device: Where the head learns.
        on_update: Called after each update with its number and the losses.

    Returns:
        The head, in evaluation mode.

    Raises:
        FloatingPointError: If a loss is not finite.

    Example:
        >>> from adaptive_scan.generators import NearestCompleter
        >>> scans, targets = torch.rand(4, 2, 8, 8), torch.zeros(4, 1, 8, 8)
        >>> head = train_error_head(NearestCompleter(), lambda: (scans, targets), ErrorTraining(n_updates=2))
        >>> head.training
        False
    """
    settings = ErrorTraining() if settings is None else settings
    head = make_error_head(seed=settings.seed, n_channels=settings.n_channels).to(device)
    optimiser = torch.optim.Adam(head.parameters(), lr=settings.learning_rate)
    with _evaluating(completer):
        for step in range(settings.n_updates):
            scans, targets = (batch.to(device) for batch in draw_batch())
            with torch.no_grad():
                completions = completer(scans)
            losses = beta_nll(completions - targets, head(scans, completions), beta=settings.beta)
            if not torch.isfinite(losses).all():
                raise FloatingPointError(f"a loss of update {step + 1} is not finite; expected finite losses")
            optimiser.param_groups[0]["lr"] = settings.learning_rate_at(step)
            optimiser.zero_grad(set_to_none=True)
            losses.mean().backward()
            optimiser.step()
            if on_update is not None:
                on_update(step + 1, losses.detach())
    return head.eval()


@contextmanager
def _evaluating(completer: Completer) -> Iterator[None]:
    """The completer in evaluation mode, and each of its modules back in its own afterwards."""
    modules = list(completer.modules()) if isinstance(completer, nn.Module) else []
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


class PredictingCompleter(nn.Module):
    """What completers that predict their own error have in common; see the two below.

    Attributes:
        scale: Calibration factor on the predicted errors, above 0; `fit_scale` gives it.

    Raises:
        ValueError: If the factor is not positive and finite.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        if not 0.0 < scale < math.inf:
            raise SettingError(f"scale: got {scale}; expected a positive, finite factor")
        self.scale = float(scale)

    def with_error(self, partial_scans: Tensor) -> tuple[Tensor, Tensor]:
        """Complete partial scans and predict how wrong each pixel is.

        Args:
            partial_scans: Measured values and masks, shape (n_scans, 2, S, S).

        Returns:
            Completions, and predicted standard deviations of their errors in the same units ([-1, 1], so an error of
            the whole range is 2), both of shape (n_scans, 1, S, S).
        """
        raise NotImplementedError

    def predicted_rmse(self, partial_scans: Tensor) -> Tensor:
        """Predicted root-mean-square error of each completion, sqrt(mean sigma²) / 2.

        Args:
            partial_scans: Measured values and masks, shape (n_scans, 2, S, S).

        Returns:
            RMSE on [0, 1], shape (n_scans,).
        """
        return scan_rmse(self.with_error(partial_scans)[1])


def scan_rmse(errors: Tensor) -> Tensor:
    """Root-mean-square of each scan's errors on [0, 1], half of that on [-1, 1].

    Args:
        errors: Errors, or predicted standard deviations of them, shape (n_scans, 1, S, S).

    Returns:
        RMSE, shape (n_scans,).

    Example:
        >>> scan_rmse(torch.full((1, 1, 4, 4), 0.5))
        tensor([0.2500])
    """
    return 0.5 * errors.square().flatten(1).mean(dim=1).sqrt()


class CompleterWithError(PredictingCompleter):
    """A completer and the error head that was trained for it; called, it is the completer.

    Args:
        completer: A generator or a classical completer.
        head: Trained on the completer's errors.
        scale: Calibration factor on the predicted errors.

    Example:
        >>> from adaptive_scan.generators import NearestCompleter
        >>> completer = CompleterWithError(NearestCompleter(), ErrorHead(n_channels=4))
        >>> completions, errors = completer.with_error(torch.ones(3, 2, 8, 8))
        >>> completions.shape == errors.shape
        True
        >>> completer.predicted_rmse(torch.ones(3, 2, 8, 8)).detach()
        tensor([0.1000, 0.1000, 0.1000])
    """

    def __init__(self, completer: Completer, head: ErrorHead, scale: float = 1.0) -> None:
        super().__init__(scale)
        self.completer = completer
        self.head = head

    def forward(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        return self.completer(partial_scans)

    def with_error(self, partial_scans: Tensor) -> tuple[Tensor, Tensor]:
        """Complete partial scans and predict how wrong each pixel is; see `PredictingCompleter.with_error`."""
        completions = self.completer(partial_scans)
        return completions, self.scale * torch.exp(self.head(partial_scans, completions.detach()))

    def scaled(self, factor: float) -> CompleterWithError:
        """The same completer and head, with all predicted errors times a factor."""
        return CompleterWithError(self.completer, self.head, self.scale * factor)


class EnsembleCompleter(PredictingCompleter):
    """Several completers: their mean completes, and the standard deviation between them predicts its error.

    The deviation has n - 1 in its denominator (ddof = 1). It knows of what the members disagree about and not of what
    all get wrong alike, so it needs a calibration factor, and one for the mean's own error rather than
    a member's. Where all members agree it is 0. Needs no training of its own, and n times the time of a completion.

    Args:
        completers: At least two.
        scale: Calibration factor on the predicted errors.

    Raises:
        ValueError: If there are fewer than two completers.

    Example:
        >>> def zeros(partial_scans): return torch.zeros_like(partial_scans[:, :1])
        >>> def ones(partial_scans): return torch.ones_like(partial_scans[:, :1])
        >>> completions, errors = EnsembleCompleter([zeros, ones]).with_error(torch.zeros(1, 2, 4, 4))
        >>> completions.unique(), errors.unique()
        (tensor([0.5000]), tensor([0.7071]))
    """

    def __init__(self, completers: Sequence[Completer], scale: float = 1.0) -> None:
        super().__init__(scale)
        if len(completers) < 2:
            raise SettingError(f"completers: got {len(completers)}; expected at least 2, whose deviation is the error")
        self.completers = tuple(completers)
        # Those that are networks move between devices and modes with the ensemble.
        self.networks = nn.ModuleList(member for member in completers if isinstance(member, nn.Module))

    def forward(self, partial_scans: Tensor) -> Tensor:
        """Complete partial scans, shape (n_scans, 2, S, S), to pictures, shape (n_scans, 1, S, S)."""
        return self._members(partial_scans).mean(dim=0)

    def with_error(self, partial_scans: Tensor) -> tuple[Tensor, Tensor]:
        """Complete partial scans and predict how wrong each pixel is; see `PredictingCompleter.with_error`."""
        members = self._members(partial_scans)
        return members.mean(dim=0), self.scale * members.std(dim=0, correction=1)

    def scaled(self, factor: float) -> EnsembleCompleter:
        """The same completers, with all predicted errors times a factor."""
        return EnsembleCompleter(self.completers, self.scale * factor)

    def _members(self, partial_scans: Tensor) -> Tensor:
        """Completions of each member, shape (n_members, n_scans, 1, S, S)."""
        return torch.stack([completer(partial_scans) for completer in self.completers])


def fit_scale(predicted_rmse: Tensor, rmse: Tensor) -> float:
    """Factor by which predicted errors are right on the whole, sqrt(sum of rmse² / sum of predicted rmse²).

    It makes the predicted mean square error over all scans equal to the true one, which is what a threshold on the
    predicted RMSE relies on. The factor of greatest likelihood, the root mean square of error / sigma (Laves et al.
    2021, arXiv 2104.12376), is ruled by the few pixels that were thought nearly free of error; for an ensemble, whose
    deviation may be 0, it does not exist.

    Args:
        predicted_rmse: Predicted for each calibration scan, shape (n_scans,), all of one side.
        rmse: True ones, same shape and units.

    Returns:
        The factor.

    Raises:
        ValueError: If the shapes differ, or the sums give no positive factor.

    Example:
        >>> fit_scale(torch.tensor([0.1, 0.2]), torch.tensor([0.2, 0.4]))
        2.0
    """
    if predicted_rmse.shape != rmse.shape or not len(rmse):
        found = f"{tuple(predicted_rmse.shape)} and {tuple(rmse.shape)}"
        raise ValueError(f"predicted and true errors have shapes {found}; expected the same, of at least one scan")
    predicted, true = (float(errors.double().square().sum()) for errors in (predicted_rmse, rmse))
    if not (0.0 < predicted < math.inf and 0.0 < true < math.inf):
        found = f"{predicted} and {true}"
        raise SettingError(f"predicted and true square errors sum up to {found}; expected positive, finite sums")
    return math.sqrt(true / predicted)


def completer_fingerprint(completer: Completer) -> str:
    """What tells completers apart: a hash of a network's class, configuration and weights, or a plain one's settings.

    Args:
        completer: A network, or an object whose settings are attributes of plain types or completers, or a function.

    Returns:
        SHA-256 in hexadecimal digits; that of a completer without weights stands for its class and settings, that of a
        function for its name alone.

    Example:
        >>> from adaptive_scan.generators import LinearCompleter, NearestCompleter
        >>> completer_fingerprint(LinearCompleter()) == completer_fingerprint(NearestCompleter())
        False
    """
    digest = hashlib.sha256()
    named = completer if hasattr(completer, "__qualname__") else type(completer)
    digest.update(repr((named.__qualname__, _settings(completer))).encode())
    if isinstance(completer, nn.Module):
        for name, tensor in sorted(completer.state_dict().items()):
            values = tensor.detach().cpu().contiguous()
            digest.update(repr((name, str(values.dtype), tuple(values.shape))).encode())
            digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _settings(completer: Completer) -> list[tuple[str, Any]]:
    """What decides a completer besides its weights: a network's configuration, or attributes of plain types."""
    if isinstance(completer, nn.Module):
        return sorted(getattr(completer, "config", {}).items())
    settings: list[tuple[str, Any]] = []
    for name, value in sorted(getattr(completer, "__dict__", {}).items()):
        if isinstance(value, bool | int | float | str):
            settings.append((name, value))
        elif callable(value):
            settings.append((name, completer_fingerprint(value)))
    return settings


def save_error_head(
    completer: CompleterWithError, path: str | os.PathLike[str], *, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write an error head with its scale: safetensors and a JSON header that names the completer it belongs to.

    The header is {format_version, config, scale, completer, metadata}, where ``completer`` is the completer's
    `completer_fingerprint`; the completer itself is not written. The file appears by rename.

    Args:
        completer: Completer, head and scale.
        path: File to write; missing folders are made.
        metadata: Anything JSON can hold, kept with the head.

    Example:
        >>> import tempfile
        >>> from adaptive_scan.generators import NearestCompleter
        >>> folder = tempfile.TemporaryDirectory()
        >>> file = f"{folder.name}/uncertainty.safetensors"
        >>> save_error_head(CompleterWithError(NearestCompleter(), ErrorHead(), 1.25), file)
        >>> load_error_head(file, NearestCompleter()).scale
        1.25
        >>> folder.cleanup()
    """
    header = {
        "format_version": FORMAT_VERSION,
        "config": completer.head.config,
        "scale": completer.scale,
        "completer": completer_fingerprint(completer.completer),
        "metadata": dict(metadata or {}),
    }
    _write(Path(path), ERROR_HEADER, header, completer.head.state_dict())


def load_error_head(
    path: str | os.PathLike[str], completer: Completer, device: torch.device | str = "cpu"
) -> CompleterWithError:
    """Read what `save_error_head` wrote, for the completer that it was written for.

    Args:
        path: The file.
        completer: The same completer again.
        device: Where the head goes; a network should be there already.

    Returns:
        Completer, head (in evaluation mode) and scale.

    Raises:
        GeneratorFileError: If the file is missing, truncated or foreign, or was written for another completer.
    """
    path = Path(path)
    header, tensors = _read(path, ERROR_HEADER, _EXPECTED)
    wanted = completer_fingerprint(completer)
    found = header.get("completer")
    if found != wanted:
        given = type(completer).__name__
        expected = f"that of the {given} given, with the hash {wanted[:12]}"
        raise GeneratorFileError(path, f"an error head of a completer with the hash {str(found)[:12]}", expected)
    try:
        head = ErrorHead(**header.get("config", {}))
        head.load_state_dict(tensors)
        return CompleterWithError(completer, head.to(device).eval(), header["scale"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise GeneratorFileError(path, f"an error head that cannot be rebuilt ({error!r})", _EXPECTED) from error
