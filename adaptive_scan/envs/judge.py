"""Completing partial scans and measuring how far the completions are from their targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from adaptive_scan.micrographs import blur_target

if TYPE_CHECKING:
    from adaptive_scan.generators import Completer


class Judgement(NamedTuple):
    """What a completer made of partial scans, and how good it is.

    Attributes:
        completion: Completions, float32, shape (n_scans, 1, S, S).
        target: Targets, float32, shape (n_scans, 1, S, S).
        loss: 10 mean((completion - target)^2), float64, shape (n_scans,).
        rmse: Root-mean-square error on the [0, 1] scale, float64, shape (n_scans,).
    """

    completion: np.ndarray
    target: np.ndarray
    loss: np.ndarray
    rmse: np.ndarray


class Judge:
    """A completer and the target that it is judged by.

    Args:
        completer: Name of a classical completer, or a callable on tensors, (n_scans, 2, S, S) -> (n_scans, 1, S, S).
            A network is called on its own device and in evaluation mode.
        blur_targets: Whether the target is the blurred crop (5x5 Gaussian, sigma 2.5 px) or the crop itself.

    Raises:
        SettingError: If the completer's name is unknown.

    Example:
        >>> judge = Judge("nearest", blur_targets=False)
        >>> scan = np.ones((1, 2, 8, 8), dtype=np.float32)
        >>> judge(scan, np.zeros((1, 8, 8), dtype=np.float32)).loss
        array([10.])
    """

    def __init__(self, completer: str | Completer, *, blur_targets: bool = True) -> None:
        self.completer: Completer
        if isinstance(completer, str):
            # Loads torch, which the dynamics alone do not need.
            from adaptive_scan.generators import make_completer

            self.completer = make_completer(completer)
        else:
            self.completer = completer
        self.blur_targets = blur_targets

    def complete(self, partial_scans: np.ndarray) -> np.ndarray:
        """Complete partial scans, shape (n_scans, 2, S, S), in one call; see `adaptive_scan.generators.complete`.

        Returns:
            Completions, float32, shape (n_scans, 1, S, S).

        Raises:
            ValueError: If the completer returns another shape, or values that are not finite.
        """
        from adaptive_scan.generators import complete

        return complete(self.completer, partial_scans)

    def __call__(self, partial_scans: np.ndarray, crops: np.ndarray) -> Judgement:
        """Complete partial scans and compare them with their crops.

        Args:
            partial_scans: float32, shape (n_scans, 2, S, S).
            crops: The true crops, float32, shape (n_scans, S, S).

        Returns:
            The judgement, in the order of the scans.
        """
        completion = self.complete(partial_scans)
        target = (blur_target(crops) if self.blur_targets else crops.copy())[:, None]
        mean_square = np.square(completion - target).mean(axis=(1, 2, 3), dtype=np.float64)
        return Judgement(completion, target, 10.0 * mean_square, 0.5 * np.sqrt(mean_square))

    @property
    def predicts_errors(self) -> bool:
        """Whether the completer predicts its own error, by a method ``predicted_rmse`` of partial scans."""
        return callable(getattr(self.completer, "predicted_rmse", None))

    def predicted_rmse(self, partial_scans: np.ndarray) -> np.ndarray:
        """Root-mean-square errors that the completer predicts for its own completions, without seeing the crops.

        Args:
            partial_scans: float32, shape (n_scans, 2, S, S).

        Returns:
            RMSE on the [0, 1] scale, float64, shape (n_scans,).

        Raises:
            AttributeError: If the completer predicts no errors.
            ValueError: If it returns another shape.
        """
        import torch

        from adaptive_scan.generators.completion import device_of, evaluating

        with evaluating(self.completer), torch.no_grad():
            predict = self.completer.predicted_rmse  # type: ignore[attr-defined]
            predicted = predict(torch.from_numpy(partial_scans).to(device_of(self.completer)))
        if tuple(predicted.shape) != (len(partial_scans),):
            found = tuple(predicted.shape)
            raise ValueError(f"predicted_rmse returned shape {found}; expected ({len(partial_scans)},)")
        return np.array(predicted.detach().cpu().numpy(), dtype=np.float64)
