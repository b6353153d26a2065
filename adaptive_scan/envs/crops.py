"""Where the environment's crops come from: the caller's arrays or dataset, or a pool of procedural ones."""

from __future__ import annotations

from functools import cache

import numpy as np

from adaptive_scan.errors import SettingError
from adaptive_scan.micrographs import ArrayCrops, CropSource, MicrographCrops, MicrographDataset
from adaptive_scan.specimens import procedural_crops

N_DEFAULT_CROPS = 256
_DEFAULT_SEED = 20260


@cache
def default_crops(image_size: int) -> ArrayCrops:
    """The pool of procedural crops that environments without crops of their own share, made once per process.

    Args:
        image_size: Side S of the crops [px].

    Returns:
        `N_DEFAULT_CROPS` crops, always the same ones.

    Example:
        >>> default_crops(16).crops.shape
        (256, 16, 16)
    """
    crops, _ = procedural_crops(N_DEFAULT_CROPS, image_size, np.random.default_rng(_DEFAULT_SEED))
    return ArrayCrops(crops)


def as_crop_source(crops: np.ndarray | CropSource | MicrographDataset | None, image_size: int) -> CropSource:
    """The source of crops that an environment's ``crops`` argument names.

    Args:
        crops: Crops, shape (n_crops, S, S); a crop source; micrographs, of which random crops are taken; or None for
            the procedural pool.
        image_size: Side S of the field [px], which the crops must have.

    Returns:
        The source, with crops of side ``image_size``.

    Raises:
        TypeError: If ``crops`` is none of these.
        SettingError: If the crops have another size than the field.

    Example:
        >>> as_crop_source(np.zeros((3, 16, 16), dtype=np.float32), 16).crop_size
        16
    """
    if crops is None:
        return default_crops(image_size)
    if isinstance(crops, np.ndarray):
        source: CropSource = ArrayCrops(crops)
    elif isinstance(crops, MicrographDataset):
        source = MicrographCrops(crops, image_size)
    elif all(hasattr(crops, name) for name in ("draw", "take", "crop_size", "id_width")):
        source = crops
    else:
        raise TypeError(f"crops: got a {type(crops).__name__}; expected an array (n_crops, S, S) or a crop source")
    if source.crop_size != image_size:
        raise SettingError(f"crops: got {source.crop_size} px wide; expected the geometry's {image_size} px")
    return source
