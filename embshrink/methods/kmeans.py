"""kmeans: words share the centroids of their clusters.

Lloyd's iterations: each row x goes to the cluster of the nearest centroid, argmin_c |x - c|^2, and each centroid
moves to the mean of its rows. ``spherical`` (Dhillon and Modha 2001): rows of length 1, argmax_c x . c, and centroids
are brought to length 1. With ``norms`` a word decodes as |x| c / |c|.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from embshrink.errors import ShapeError
from embshrink.methods.base import Context, RowStep, param, resolved
from embshrink.methods.row_map import RowMap
from embshrink.numerics import kmeans as clustering
from embshrink.numerics.arrays import row_norms, unit_rows
from embshrink.storage.arrays import FloatArray
from embshrink.storage.disk_rows import Matrix


@dataclass(frozen=True)
class KMeans(RowStep):
    """Replace every vector by the centroid of its cluster.

    No word stays exact, and the mean loss is the least of all row steps at equal rows; frequent
    words lose more than under `prune`.

    Notes
    -----
    finalfusion-rust issue 26, variant 3; spherical: Dhillon and Modha, Machine Learning 42 (2001).
    A spherical centroid has length 1; without `norms` it is stored at the mean length of its words.
    """

    owned: ClassVar[bool] = False  # a centroid is no word's own vector
    source: ClassVar[str] = "finalfusion-rust#26 (3); Lloyd 1982; Dhillon & Modha 2001"

    centroids: int | None = param(None, "how many centroids; a twentieth of the rows by default", low=1)
    spherical: bool = param(False, "cluster directions instead of points")
    norms: bool = param(False, "store each word's length (2 bytes a word) and restore it")
    init: str = param("auto", "where to start: auto is k-means++ up to 4,096 centroids, random beyond",
                      choices=("auto", "k-means++", "random"))
    iterations: int = param(15, "at most so many rounds", low=1, high=1000)

    def resolve(self, n: int, d: int) -> KMeans:
        k = max(1, n // 20) if self.centroids is None else self.centroids
        k = min(k, n)
        init = self.init
        if init == "auto":
            init = "k-means++" if k <= clustering.PLUS_PLUS_LIMIT else "random"
        return replace(self, centroids=k, init=init)

    def plan(self, n: int, d: int) -> tuple[int, set[str]]:
        return resolved(self.centroids), {"scale"} if self.norms else set()

    def reduce(self, matrix: Matrix, context: Context) -> tuple[RowMap, Matrix]:
        vectors = np.asarray(matrix, np.float32)
        lengths = row_norms(vectors)
        points = unit_rows(vectors) if self.spherical else vectors
        rows, labels = clustering.kmeans(
            points, resolved(self.centroids), context.rng, init=self.init, iterations=self.iterations,
            spherical=self.spherical, progress=context.progress,
        )
        if self.norms:
            return RowMap(labels, len(rows), scale=_as_float16(lengths)), unit_rows(rows)
        if self.spherical:
            counts = np.bincount(labels, minlength=len(rows))
            mean = np.bincount(labels, lengths, minlength=len(rows)) / np.maximum(counts, 1)
            rows = (rows * mean[:, None]).astype(np.float32)
        return RowMap(labels, len(rows)), rows


def _as_float16(lengths: FloatArray) -> FloatArray:
    """Return lengths as the file will hold them, or raise ShapeError."""
    if lengths.max(initial=0) > np.finfo(np.float16).max:
        raise ShapeError("a vector is too long for its length to be stored in float16",
                         expected="<= 65504", found=float(lengths.max()), hint="Use norms=false.")
    return lengths.astype(np.float16).astype(np.float32)
