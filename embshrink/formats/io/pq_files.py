"""Product quantizers in files of other programs: reads and checks their parts, and converts embeddings to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embshrink.formats.io.cursor import F4, U1, Cursor
from embshrink.formats.io.pq_codes import PQCodes
from embshrink.methods.pq import PQ, unpack_nibbles
from embshrink.storage.arrays import ByteArray, FloatArray, Shape

if TYPE_CHECKING:
    from embshrink.formats.base import ExportedTable

MOST_CENTROIDS = 256
CHECKED = 1 << 24  # codes checked at a time


def read_floats(cursor: Cursor, shape: Shape, what: str) -> FloatArray:
    """Return the next array of float32, in memory, after checking that it is finite."""
    start = cursor.offset
    values = cursor.array(shape, F4, what, mapped=False).astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise cursor.error(f"a number in {what} is not finite", start + 4 * int(bad[0]), expected="a finite number",
                           found=float(values.flat[bad[0]]))
    return values


def read_codes(cursor: Cursor, rows: int, subspaces: int, centroids: int) -> ByteArray:
    """Return codes, shape (rows, subspaces), uint8, after checking that their centroids exist."""
    start = cursor.offset
    codes = cursor.array((rows, subspaces), U1, "the codes")
    size = max(1, CHECKED // subspaces)
    for first in range(0, rows if centroids < MOST_CENTROIDS else 0, size):
        bad = np.flatnonzero(codes[first : first + size] >= centroids)
        if len(bad):
            byte = first * subspaces + int(bad[0])
            raise cursor.error("a code refers to a centroid that does not exist", start + byte,
                               expected=f"0 to {centroids - 1}", found=int(codes.flat[byte]))
    return codes


def check_quantizer(cursor: Cursor, dim: int, subspaces: int, centroids: int, byte: int) -> None:
    """Refuse sizes of a quantizer that contradict each other; `byte` is their offset."""
    cursor.check(1 <= subspaces <= dim and dim % subspaces == 0,
                 "the number of subspaces does not divide the dimension", byte, f"a divisor of {dim}", subspaces)
    cursor.check(1 <= centroids <= MOST_CENTROIDS, "the number of centroids is out of range", byte,
                 f"1 to {MOST_CENTROIDS}", centroids)


# ---------------------------------------------------------------- embeddings as codes


def codes_of_embeddings(embeddings: ExportedTable | None) -> tuple[PQCodes, FloatArray] | None:
    """Return the words' rows as `PQCodes` and the factor of each word; None if pq does not store them as bytes.

    Parameters
    ----------
    embeddings : Embeddings or None

    Returns
    -------
    codes : PQCodes
        The codes of each word, without norms; words that share a row have the same codes.
    scale : numpy.ndarray, shape (n,), float32
        Word vector = scale * row.
    """
    if embeddings is None or embeddings.stored is None:
        return None
    stored = embeddings.stored
    step = stored.codec
    if not isinstance(step, PQ) or stored.columns or step.centroids > MOST_CENTROIDS:
        return None
    subspaces = step.subspaces
    if subspaces is None or stored.dim % subspaces:
        return None
    labels = np.asarray(stored.codes["codes"], np.uint8)
    if step.centroids <= 16:
        labels = unpack_nibbles(labels, subspaces)
    if embeddings.row_map is not None:
        labels = labels[embeddings.row_map]
    # A scale of columns is applied last, so it goes into the projection, or into the codebooks if there is none.
    state = {name: np.asarray(array, np.float32) for name, array in stored.state.items()}
    scale = state.get("scale", np.ones(stored.dim, np.float32))
    codebook, projection = state["codebook"], state.get("rotation")
    if projection is None:
        codebook = codebook * scale
    else:
        projection = np.ascontiguousarray((projection * scale).T)
    codebooks = codebook.reshape(step.centroids, subspaces, -1).transpose(1, 0, 2)
    factor = np.ones(len(embeddings), np.float32) if embeddings.scale is None else embeddings.scale
    return PQCodes(labels, np.ascontiguousarray(codebooks), projection), factor
