"""lowrank: vectors in fewer dimensions, by principal components or truncated SVD.

Fit: the eigenvectors A, (d, c), of the c largest eigenvalues of sum_i w_i (x_i - m)(x_i - m)^T. Apply: y = (x - m) A.
Invert: x' = y A^T + m. That leaves the least sum_i w_i |x_i - x'_i|^2 of all c axes (Eckart and Young 1936).
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
    """Keep each vector's coordinates along the `dims` axes on which vectors differ most.

    With `center` these are the principal components; without it, the truncated singular value
    decomposition, whose n x dims and dims x d factors are the paper's two small layers. No
    other dims axes leave a smaller squared error. Word vectors have a flat spectrum, so alone this
    loses much; before a bits step it pays.

    `energy` depends on the values: before the work a plan reckons with all d columns, and after
    it the step that is stored says how many dims it took.

    Notes
    -----
    Acharya, Goel, Metallinou and Dhillon, "Online Embedding Compression for Text Classification
    using Low Rank Matrix Factorization" (AAAI 2019). Their share p of the parameters is n d p /
    (n + d) dims; for n far above d that is the share of the dims, which is what `keep` counts.
    """

    by_blocks: ClassVar[bool] = True
    source: ClassVar[str] = "Acharya et al. 2019; Eckart & Young 1936"

    dims: int | None = param(None, "how many numbers a vector to keep", low=1)
    keep: float | None = param(None, "the same as a share of the columns; half by default", low=0.0, high=1.0)
    energy: float | None = param(None, "the same as the share of variance that stays", low=0.0, high=1.0)
    center: bool = param(True, "measure from the mean vector, which is stored")
    weighted: bool = param(False, "count each vector by its words' frequency")

    @property
    def weighs(self) -> bool:
        return self.weighted

    def resolve(self, n: int, d: int) -> LowRank:
        choices = {"dims": self.dims, "keep": self.keep, "energy": self.energy}
        given = [name for name, value in choices.items() if value is not None]
        if len(given) > 1:
            raise StepError(f"lowrank takes one of dims, keep and energy, not {' and '.join(given)}")
        if self.dims is not None and self.dims > d:
            raise StepError("lowrank cannot keep more numbers than a vector has", expected=f"dims <= {d}",
                            found=self.dims)
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
        """Return `dims`; or how few eigenvalues, the largest first, hold the share `energy` of their sum."""
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
