"""``complete``: pictures sampled along a static scan, completed, and set beside the pictures themselves."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from adaptive_scan.commands.command_options import CompleteConfig
from adaptive_scan.commands.crops import report_skipped
from adaptive_scan.commands.networks import make_device, use_threads
from adaptive_scan.commands.options import is_file
from adaptive_scan.commands.plugins import load_completer, load_sized_generator
from adaptive_scan.commands.run_folder import check_new, find_generator, make_folder, read_crop_size
from adaptive_scan.errors import SettingError
from adaptive_scan.evaluation.metrics import rmse
from adaptive_scan.files import replacing
from adaptive_scan.generators import Completer, TiledCompleter, complete, make_completer
from adaptive_scan.micrographs import MicrographDataset, MicrographError, blur_target, normalise
from adaptive_scan.scans import STATIC_SCANS, partial_scans, sample, static_scan

Picture = NDArray[np.float32]

_DEFAULT_SIZE = 96
_OVERLAP = 8  # the share of a tile that is discarded at each of its edges is one in so many


def complete_pictures(config: CompleteConfig) -> None:
    """Sample pictures, complete the scans, write completions and masks, and print the error of each.

    Each picture is scaled to [-1, 1] as a whole and measured without noise at every position of the scan. Of picture
    NAME, ``NAME_completion.tif`` holds the completion in the picture's own units and ``NAME_mask.tif`` what was
    measured, 1 or 0; both are float32. The error is the root mean square on [0, 1] against the picture after the 5x5
    Gaussian of 2.5 px, as targets of training are blurred.

    Raises:
        SettingError: If the folder has something in it, the completer cannot be used, or a picture is not square.
        FileContentError: If a picture or a generator cannot be read.
    """
    check_new(config.out)
    use_threads(config.n_threads)
    name, completer = _completer(config)
    dataset = MicrographDataset(config.pictures, skip_bad=config.skip_bad)
    numbers = _square(dataset, skip_bad=config.skip_bad)
    folder = make_folder(config.out)
    titles = _titles([dataset.names[number] for number in numbers])
    for number, title in zip(numbers, titles, strict=True):
        try:
            picture = dataset[number]
        except MicrographError:
            if not config.skip_bad:
                raise
            continue
        error = _complete_one(picture, config, completer, number, folder / title)
        print(f"{title}: RMSE {100 * error:.2f} % of the range ({config.scan}, {name})", flush=True)
    report_skipped(dataset.skipped)
    print(f"written: NAME_completion.tif and NAME_mask.tif of each in {folder}")


def _complete_one(picture: Picture, config: CompleteConfig, completer: Completer, number: int, path: Path) -> float:
    """Sample, complete and write a picture; its error."""
    scaled, size = normalise(picture), len(picture)
    n_positions = max(round(config.coverage * size**2), 1)
    rng = np.random.default_rng([config.seed, number])
    positions = static_scan(config.scan, n_positions, size, rng if STATIC_SCANS[config.scan].random else None)[None]
    scans = partial_scans(sample(scaled[None], positions), positions, size)
    completion = complete(completer, scans, name=config.completer)[0, 0]
    _write(_in_units_of(picture, completion), path.with_name(f"{path.name}_completion.tif"))
    _write(scans[0, 1], path.with_name(f"{path.name}_mask.tif"))
    return float(rmse(completion[None], blur_target(scaled)[None])[0])


def _in_units_of(picture: Picture, completion: Picture) -> Picture:
    """A completion on the scale that :func:`~adaptive_scan.micrographs.normalise` took to [-1, 1].

    Example:
        >>> _in_units_of(np.array([[2.0, 4.0]], np.float32), np.array([[-1.0, 0.5]], np.float32)).tolist()
        [[2.0, 3.5]]
    """
    finite = np.where(np.isfinite(picture), picture, 0.0).astype(np.float64)
    low, high = finite.min(), finite.max()
    return np.asarray(low + 0.5 * (completion + 1.0) * (high - low), dtype=np.float32)


def _write(picture: Picture, path: Path) -> None:
    with replacing(path) as temporary:
        tifffile.imwrite(temporary, picture.astype(np.float32), photometric="minisblack", metadata=None)


def _square(dataset: MicrographDataset, *, skip_bad: bool) -> list[int]:
    """Numbers of the pictures that are square.

    Raises:
        SettingError: If one is not, unless such pictures are left out as well, or none is.
    """
    square = []
    for number, (height, width) in enumerate(dataset.shapes):
        if height == width:
            square.append(number)
            continue
        complaint = f"{dataset.files[number]}: got a picture of {height} x {width} px; expected a square one"
        if not skip_bad:
            raise SettingError(complaint)
        print(f"skipped: {complaint}")
    if not square:
        raise SettingError(f"{dataset.root}: got no square picture; expected at least one")
    return square


def _titles(names: list[str]) -> list[str]:
    """What files are called after pictures: without folders and suffix, unless two would be called the same.

    Example:
        >>> _titles(["a/b.tif", "c.tif#3", "d.npy", "d.png"])
        ['a_b', 'c_3', 'd.npy', 'd.png']
    """
    short = [re.sub(r"\.\w+(?=$|#)", "", name) for name in names]
    chosen = [stem if short.count(stem) == 1 else name for stem, name in zip(short, names, strict=True)]
    return [re.sub(r"[/\\#]", "_", name) for name in chosen]


def _completer(config: CompleteConfig) -> tuple[str, Completer]:
    """What completes, and its name.

    Raises:
        SettingError: If it cannot be used.
        GeneratorFileError: If a file is no whole generator.
    """
    device = make_device(config.device)
    file = config.generator
    if config.run is not None:
        file = find_generator(config.run)
    elif config.completer is not None and is_file(config.completer):
        file = Path(config.completer)
    if file is None:
        name = config.completer or "linear"
        return load_completer(name, device=device) if ":" in name else (name, make_completer(name))
    size = config.size or (_DEFAULT_SIZE if config.run is None else read_crop_size(config.run))
    network = load_sized_generator(file, size, device)
    stride = int(getattr(network, "stride", 1))
    return str(file), TiledCompleter(functools.partial(complete, network), size, size // _OVERLAP, stride=stride)
