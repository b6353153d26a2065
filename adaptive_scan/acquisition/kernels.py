"""The loops along a path in numba, each from one position to the next with what a scan remembers.

Arrays of one number for each position may have a single row or a single column, for numbers that all scans or all
positions share. Every scan is one pass in order, so a path in pieces gives the bits of the path in one.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_FLYBACK_TURN = 0.75 * math.pi


@njit(cache=True, nogil=True)
def arrival_times(starts: np.ndarray, dwell: np.ndarray, n_positions: int) -> np.ndarray:
    """When each position is read [s], t_i = t_{i-1} + dwell_i.

    Args:
        starts: When each scan read its last position [s], shape (n_scans,).
        dwell: Dwell times [s], shape (1 or n_scans, 1 or n_positions).
        n_positions: Number of positions.

    Returns:
        float64, shape (n_scans, n_positions).

    Example:
        >>> arrival_times(np.array([0.0, 4.0]), np.array([[1.0]]), 3).tolist()
        [[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]]
    """
    times = np.empty((len(starts), n_positions))
    for scan in range(len(starts)):
        time = starts[scan]
        for i in range(n_positions):
            time += dwell[min(scan, dwell.shape[0] - 1), min(i, dwell.shape[1] - 1)]
            times[scan, i] = time
    return times


@njit(cache=True, nogil=True)
def recur(factors: np.ndarray, series: np.ndarray, last: np.ndarray) -> None:
    """The linear recurrence y_i = f_i y_{i-1} + b_i, in place of b.

    Args:
        factors: f, float64 or complex128, shape (1 or n_scans, 1 or n_positions).
        series: b, overwritten with y, shape (n_scans, n_positions, n_channels).
        last: y before the first position, overwritten with that at the last one, shape (n_scans, n_channels).

    Example:
        >>> series, last = np.ones((1, 3, 1)), np.zeros((1, 1))
        >>> recur(np.array([[0.5]]), series, last)
        >>> series[0, :, 0].tolist(), last.tolist()
        ([1.0, 1.5, 1.75], [[1.75]])
    """
    n_scans, n_positions, n_channels = series.shape
    for scan in range(n_scans):
        row = min(scan, factors.shape[0] - 1)
        for channel in range(n_channels):
            y = last[scan, channel]
            for i in range(n_positions):
                y = factors[row, min(i, factors.shape[1] - 1)] * y + series[scan, i, channel]
                series[scan, i, channel] = y
            last[scan, channel] = y


@njit(cache=True, nogil=True)
def follow(
    positions: np.ndarray,
    steering: np.ndarray,
    time_constant: float,
    dwell: np.ndarray,
    commands: np.ndarray,
    errors: np.ndarray,
    speeds: np.ndarray,
) -> None:
    """The answer of a linear deflector to a command that runs straight from each position to the next.

    With p the answer and c the command, whose speed v is constant within a dwell, h = p - c + tau v obeys the
    homogeneous equation there, and (h, h') moves on by its transition matrix.

    Args:
        positions: Commands c [px], overwritten with the answers p, shape (n_scans, n_positions, 2).
        steering: Transition matrices of (h, h') in the dwell times, shape (1 or n_scans, 1 or n_positions, 2, 2).
        time_constant: Lag tau behind a straight line at constant speed [s].
        dwell: Dwell times [s], shape (1 or n_scans, 1 or n_positions).
        commands: Last command [px] of each scan, shape (n_scans, 2); updated, as are the next two.
        errors: p - c at the last position [px], shape (n_scans, 2).
        speeds: p' at the last position [px/s], shape (n_scans, 2).
    """
    for scan in range(positions.shape[0]):
        row = min(scan, dwell.shape[0] - 1)
        for i in range(positions.shape[1]):
            column = min(i, dwell.shape[1] - 1)
            matrix = steering[row, column]
            for axis in range(2):
                command = positions[scan, i, axis]
                speed = (command - commands[scan, axis]) / dwell[row, column]
                h, rate = errors[scan, axis] + time_constant * speed, speeds[scan, axis] - speed
                error = matrix[0, 0] * h + matrix[0, 1] * rate - time_constant * speed
                speeds[scan, axis] = matrix[1, 0] * h + matrix[1, 1] * rate + speed
                commands[scan, axis], errors[scan, axis] = command, error
                positions[scan, i, axis] = command + error


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"})
def smear(
    intensities: np.ndarray, lags: np.ndarray, width: float, past: np.ndarray, past_times: np.ndarray, n_taps: int
) -> None:
    """The weighted mean of the last values, w(u) = 1 / (1 + (u / width)^2) with u the time since each.

    Args:
        intensities: Overwritten, shape (n_scans, n_positions).
        lags: Times between readings [s], shape (1 or n_scans, 1 or n_positions).
        width: Time at which the weight is half [s].
        past: Values of the positions before, the oldest first, shape (n_scans, n_taps - 1); updated.
        past_times: Their times relative to the last one [s], shape (n_scans, n_taps - 1); updated.
        n_taps: Number of values that are averaged.
    """
    n_scans, n_positions = intensities.shape
    n_past = n_taps - 1
    values, times = np.empty(n_past + n_positions), np.empty(n_past + n_positions)
    for scan in range(n_scans):
        row = min(scan, lags.shape[0] - 1)
        values[:n_past], times[:n_past] = past[scan], past_times[scan]
        values[n_past:] = intensities[scan]
        for i in range(n_positions):
            # Times stay relative to the reading, so that the sums do not depend on how long the scan has run.
            lag = lags[row, min(i, lags.shape[1] - 1)]
            for j in range(i, i + n_past):
                times[j] -= lag
            times[i + n_past] = 0.0
            total, weights = 0.0, 0.0
            for j in range(i, i + n_taps):
                u = times[j] / width
                weight = 1.0 / (1.0 + u * u)
                total += weight * values[j]
                weights += weight
            intensities[scan, i] = total / weights
        past[scan], past_times[scan] = values[n_positions:], times[n_positions:]


@njit(cache=True, nogil=True)
def drop_out(
    intensities: np.ndarray,
    numbers: np.ndarray,
    probability: float,
    end_probability: float,
    factors: tuple[float, float],
    memory: np.ndarray,
) -> None:
    """Replace the readings of stretches of a path by a factor times the mean intensity of the stretch so far.

    Args:
        intensities: Overwritten, shape (n_scans, n_positions).
        numbers: Uniform numbers, shape (n_scans, n_positions, 3).
        probability: Of a stretch to begin at a position.
        end_probability: Of a stretch to end after a position.
        factors: Lowest and highest factor.
        memory: Of each scan, number of positions in the present stretch (0 for none), sum of their intensities,
            and factor, float64, shape (n_scans, 3); updated.
    """
    low, high = factors
    for scan in range(intensities.shape[0]):
        count, total, factor = memory[scan]
        for i in range(intensities.shape[1]):
            if count == 0.0 and numbers[scan, i, 0] < probability:
                total, factor, count = 0.0, low + (high - low) * numbers[scan, i, 1], 1.0
            elif count > 0.0:
                count += 1.0
            if count > 0.0:
                total += intensities[scan, i]
                intensities[scan, i] = factor * total / count
                if numbers[scan, i, 2] < end_probability:
                    count = 0.0
        memory[scan, 0], memory[scan, 1], memory[scan, 2] = count, total, factor


@njit(cache=True, nogil=True)
def survey_paths(
    paths: np.ndarray, dwell: np.ndarray, longest_step: float, sharp_turn: float
) -> tuple[np.ndarray, np.ndarray]:
    """Count what scans wait for, and find their sharpest turn and largest acceleration.

    Args:
        paths: Positions [px], float64, shape (n_scans, n_positions, 2).
        dwell: Dwell times [s], shape (1 or n_scans, 1 or n_positions).
        longest_step: Longest move that is no jump [px].
        sharp_turn: Largest turn between steps that is not counted [rad].

    Returns:
        Numbers of flybacks, other jumps and sharp turns, float64, shape (n_scans, 3); and largest turn [rad] and
        acceleration [px/s^2], shape (n_scans, 2).
    """
    n_scans, n_positions = paths.shape[:2]
    counts, largest = np.zeros((n_scans, 3)), np.zeros((n_scans, 2))
    for scan in range(n_scans):
        row, after_step = min(scan, dwell.shape[0] - 1), False
        last_move, last_velocity, last_time = (0.0, 0.0), (0.0, 0.0), 0.0
        for i in range(1, n_positions):
            time = dwell[row, min(i, dwell.shape[1] - 1)]
            move = (paths[scan, i, 0] - paths[scan, i - 1, 0], paths[scan, i, 1] - paths[scan, i - 1, 1])
            velocity = (move[0] / time, move[1] / time)
            if i > 1:
                change = math.hypot(velocity[0] - last_velocity[0], velocity[1] - last_velocity[1])
                largest[scan, 1] = max(largest[scan, 1], 2.0 * change / (last_time + time))
            last_velocity, last_time = velocity, time
            length = math.hypot(move[0], move[1])
            if length == 0.0:
                continue
            cross, along = (
                last_move[0] * move[1] - last_move[1] * move[0],
                last_move[0] * move[0] + last_move[1] * move[1],
            )
            turn = abs(math.atan2(cross, along))
            largest[scan, 0] = max(largest[scan, 0], turn)
            is_step = length <= longest_step
            if not is_step:
                counts[scan, 0 if after_step and turn > _FLYBACK_TURN else 1] += 1.0
            elif after_step and turn > sharp_turn:
                counts[scan, 2] += 1.0
            last_move, after_step = move, is_step
    return counts, largest


def oscillator(rate: float, damping: float, dwell: np.ndarray) -> np.ndarray:
    """Transition matrices of (h, h') with h'' + 2 zeta w h' + w^2 h = 0.

    Args:
        rate: Natural angular frequency w [1/s].
        damping: Damping ratio zeta.
        dwell: Times [s].

    Returns:
        float64, shape (*dwell.shape, 2, 2).

    Example:
        >>> oscillator(np.pi, 0.0, np.array(1.0))[0].round(12).tolist()
        [-1.0, 0.0]
    """
    decay, split = damping * rate, rate * np.sqrt(complex(damping**2 - 1.0))
    slow, fast = np.exp((split - decay) * dwell), np.exp((-split - decay) * dwell)
    even = ((slow + fast) / 2.0).real
    # Near critical damping the difference quotient has lost its digits, and its limit has them.
    nearly_critical = abs(split) * dwell < 1e-4
    quotient = ((slow - fast) / (2.0 * (split if split else 1.0))).real
    odd = np.where(nearly_critical, dwell * np.exp(-decay * dwell), quotient)
    rows = [even + decay * odd, odd], [-(rate**2) * odd, even - decay * odd]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
