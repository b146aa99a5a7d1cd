"""kmeans: the words of a cluster share its centroid.

Lloyd's algorithm: each row x is assigned to the cluster of the nearest centroid, argmin_c |x - c|^2, and each
centroid moves to the mean of its rows. ``spherical`` (Dhillon and Modha 2001): rows are scaled to length 1, the
assignment is argmax_c x . c, and centroids are scaled to length 1. With ``norms`` a word decodes as |x| c / |c|.
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

    The words of a cluster share one stored row. At the same number of rows, kmeans
    has the lowest mean error of all row methods. No word keeps its exact vector,
    and frequent words lose more than with `prune`. With `norms` every word keeps
    its own length and takes only the direction from the centroid.

    Notes
    -----
    finalfusion-rust issue 26, variant 3; spherical k-means: Dhillon and Modha, Machine Learning 42 (2001).
    A spherical centroid has length 1; without `norms` it is stored with the mean length of its words.
    """

    owned: ClassVar[bool] = False  # a centroid is not the vector of any word
    source: ClassVar[str] = "finalfusion-rust issue 26, variant 3; Lloyd 1982; Dhillon & Modha 2001"

    centroids: int | None = param(None, "number of centroids; a twentieth of the rows by default", low=1)
    spherical: bool = param(False, "cluster by cosine similarity instead of Euclidean distance")
    norms: bool = param(False, "store the length of each word's vector (2 bytes per word) and restore it")
    init: str = param("auto", "initial centroids; auto: k-means++ up to 4,096 centroids, random rows beyond",
                      choices=("auto", "k-means++", "random"))
    iterations: int = param(15, "maximum number of iterations", low=1, high=1000)

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
    """Return lengths rounded to float16, as the file stores them; raise ShapeError if one is too large."""
    if lengths.max(initial=0) > np.finfo(np.float16).max:
        raise ShapeError("kmeans:norms=true stores lengths as float16, and the length of a vector is too large",
                         expected="<= 65504", found=float(lengths.max()), hint="Use norms=false.")
    return lengths.astype(np.float16).astype(np.float32)
