"""lowrank: vectors in fewer dimensions, by principal components or truncated SVD.

Fit: the eigenvectors A, (d, c), of the c largest eigenvalues of sum_i w_i (x_i - m)(x_i - m)^T. Apply: y = (x - m) A.
Invert: x' = y A^T + m. No other c axes have a smaller sum_i w_i |x_i - x'_i|^2 (Eckart and Young 1936).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from embshrink.errors import StepError
from embshrink.methods.base import ColumnStep, Context, State, param, resolved
from embshrink.numerics.arrays import stable_product
from embshrink.numerics.linalg import column_means, eigen, gram, project
from embshrink.storage.arrays import AnyArray, DoubleArray, FloatArray, Layout
from embshrink.storage.disk_rows import Matrix


@dataclass(frozen=True)
class LowRank(ColumnStep):
    """Project vectors to fewer dimensions: principal components or truncated SVD.

    Each vector is stored as its coordinates along `dims` axes. With `center` the
    axes are the principal components; without it the result is the truncated
    singular value decomposition, whose n x dims and dims x d factors are the two
    small layers of Acharya et al. No other choice of `dims` axes has a smaller
    squared error. Use it before a bits step, if the last dimensions hold little
    variance. Alone it loses much, because word vectors have a flat spectrum.

    Give one of `dims`, `keep` and `energy`. How many dimensions `energy` needs
    depends on the values: a plan counts all columns, and the stored step names the
    number found as `dims`.

    Notes
    -----
    Acharya, Goel, Metallinou and Dhillon, "Online Embedding Compression for Text Classification
    using Low Rank Matrix Factorization" (AAAI 2019). Their share p of the parameters is n d p /
    (n + d) dimensions. `keep` differs: it is a share of the dimensions, which is nearly the same if n is far above d.
    """

    by_blocks: ClassVar[bool] = True
    source: ClassVar[str] = "Acharya et al. 2019; Eckart & Young 1936"

    dims: int | None = param(None, "number of dimensions to keep", low=1)
    keep: float | None = param(None, "dimensions to keep as a share of the columns; 0.5 by default", low=0.0,
                               high=1.0)
    energy: float | None = param(None, "keep as many dimensions as hold this share of the variance", low=0.0,
                                 high=1.0)
    center: bool = param(True, "subtract the mean vector first and store it")
    weighted: bool = param(False, "weight each vector by the frequency of its words")

    @property
    def weighs(self) -> bool:
        return self.weighted

    def resolve(self, n: int, d: int) -> LowRank:
        choices = {"dims": self.dims, "keep": self.keep, "energy": self.energy}
        given = [name for name, value in choices.items() if value is not None]
        if len(given) > 1:
            raise StepError(f"lowrank takes one of dims, keep and energy, not {' and '.join(given)}",
                            hint="Give one of them.")
        if self.dims is not None and self.dims > d:
            raise StepError("lowrank cannot keep more dimensions than the vectors have", expected=f"dims <= {d}",
                            found=self.dims, hint="Lower dims.")
        if self.dims is not None or self.energy is not None:
            return self
        keep = 0.5 if self.keep is None else self.keep
        return replace(self, dims=max(1, int(keep * d + 0.5)), keep=None)

    def plan(self, n: int, d: int) -> tuple[int, Layout]:
        c = d if self.dims is None else self.dims
        layout: Layout = {"basis": (np.dtype(np.float32), (c, d))}
        if self.center:
            layout["mean"] = (np.dtype(np.float32), (d,))
        return c, layout

    def fit(self, matrix: Matrix, context: Context) -> State:
        weights = context.weights if self.weighted else None
        mean = column_means(matrix, weights).astype(np.float32) if self.center else None
        values, axes = eigen(gram(matrix, weights, mean))
        state: dict[str, AnyArray] = {
            "basis": np.ascontiguousarray(axes[:, : self._dims_for(values)].T, dtype=np.float32)}
        if mean is not None:
            state["mean"] = mean
        return state

    def _dims_for(self, values: DoubleArray) -> int:
        """Return `dims`, or how many of the largest eigenvalues hold the share `energy` of the sum of all."""
        if self.dims is not None:
            return self.dims
        held = np.cumsum(np.maximum(values, 0))
        return 1 + int(np.searchsorted(held[:-1], resolved(self.energy) * held[-1] * (1 - 1e-12)))

    def fitted(self, state: State) -> LowRank:
        return replace(self, dims=len(state["basis"]), energy=None)

    def apply(self, matrix: Matrix, state: State) -> Matrix:
        mean = np.asarray(state["mean"], np.float32) if self.center else None
        return project(matrix, np.asarray(state["basis"], np.float32).T, mean)

    def invert(self, matrix: FloatArray, state: State) -> FloatArray:
        vectors = stable_product(matrix, np.asarray(state["basis"], np.float32))
        return vectors + np.asarray(state["mean"], np.float32) if self.center else vectors
