"""Labelled ads that a deployed model is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from demand.ads import REQUEST_REQUIRED, TARGET
from demand.batch import cleaned, complete, counted, ignored, places
from demand.errors import AdsFileError
from demand.ingestion.reading import read_ads


@dataclass(frozen=True)
class LabelledAds:
    """The ads that are sent.

    Parameters
    ----------
    frame
        Typed ads with their target, shape (n, 18), n >= 1.
    data_md5
        Of the bytes of their file.
    warnings
        What was flawed in the file, one line each.
    """

    frame: pd.DataFrame
    data_md5: str
    warnings: tuple[str, ...]


def labelled_ads(path: Path, rows: int, seed: int, max_file_gb: float = 8.0) -> LabelledAds:
    """Read labelled ads and draw some of them, in the order of the file.

    Cells that the schema does not allow count as missing; ads without a target, a title
    or a category are left out; both are counted in warnings.

    Raises
    ------
    AdsFileError
        See :func:`demand.ingestion.reading.read_ads`; or no ad is left.
    """
    loaded = read_ads(path, labelled=True, max_file_gb=max_file_gb)
    ads, warnings = cleaned(loaded)
    usable = complete(ads, (*REQUEST_REQUIRED, TARGET))
    lacking = np.flatnonzero(~usable)
    if lacking.size:
        warnings.append(
            f"{counted(lacking.size, 'ad')} without {', '.join(REQUEST_REQUIRED)} or {TARGET} "
            f"left out: {places(loaded, lacking.tolist())}"
        )
    if not usable.any():
        raise AdsFileError(f"{path} has no ad with {', '.join(REQUEST_REQUIRED)} and {TARGET}")
    chosen = np.flatnonzero(usable)
    if chosen.size > rows:
        # Files are often sorted, by time or by seller, so the first rows would be no fair part.
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, rows, replace=False))
    frame = ads.iloc[chosen].reset_index(drop=True)
    return LabelledAds(frame, loaded.md5, (*ignored(loaded), *warnings))
