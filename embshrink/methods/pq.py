"""pq: product quantization. Vectors are cut into short parts, and each part is replaced by the nearest centroid."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from embshrink.errors import FormatError, StepError
from embshrink.methods.base import Codec, SmallCodes, expect_planned, param, rows_at_once
from embshrink.numerics import kmeans as clustering
from embshrink.numerics.arrays import stable_product
from embshrink.numerics.linalg import eigen, gram, project
from embshrink.numerics.parallel import map_blocks, one_blas_thread

POINTS_PER_CENTROID = 256
LEAST_SAMPLE = 65_536
OPQ_ROUNDS = 30
BLOCK = 4096


@dataclass(frozen=True)
class PQ(Codec):
    """Cut each vector into `subspaces` parts and store, for each part, which centroid is nearest.

    With ``normalize=columns`` all columns count alike, whatever their spread; the spreads are stored.

    Parts may be of unequal length (the first ones are longer by one), so any dim will do. A
    code takes 4 bits up to 16 centroids, 8 up to 256, else 16.

    Notes
    -----
    Jegou, Douze and Schmid, TPAMI 33 (2011). ``rotate="pca"`` is the parametric solution of Ge, He,
    Ke and Sun, "Optimized Product Quantization" (TPAMI 36, 2014, section 3.3): principal axes dealt
    out so that the parts' variance products are balanced. ``rotate="opq"`` is their non-parametric
    solution (section 3.2), begun there. The word-vector literature knows pq as basis embedding
    (Shi and Yu, Interspeech 2018): their code scales columns to one norm before clustering and, as it trains on,
    never back; here ``normalize="columns"`` does and stores the scales.
    """

    by_blocks: ClassVar[bool] = True
    source: ClassVar[str] = "Jégou et al. 2011; OPQ: Ge et al. 2014; basis embedding: Shi & Yu 2018"

    subspaces: int | None = param(None, "parts a vector is cut into; half the columns by default", low=1)
    centroids: int = param(256, "centroids a part; a code takes 4, 8 or 16 bits", low=1, high=65_536)
    rotate: str = param("none", "turn the space first", choices=("none", "pca", "opq"))
    normalize: str = param("none", "columns: bring columns to one spread first", choices=("none", "columns"))
    iterations: int = param(25, "k-means rounds at most", low=1, high=1000)
    sample: int | None = param(None, "rows to train on; 256 a centroid, at least 65,536, by default", low=1)

    def resolve(self, n, d):
        subspaces = max(1, d // 2) if self.subspaces is None else self.subspaces
        if subspaces > d:
            raise StepError("pq cannot cut a vector into more parts than it has numbers",
                            expected=f"subspaces <= {d}", found=subspaces)
        centroids = min(self.centroids, n)
        sample = self.sample or max(LEAST_SAMPLE, POINTS_PER_CENTROID * centroids)
        return replace(self, subspaces=subspaces, centroids=centroids, sample=max(centroids, min(sample, n)))

    def with_bits(self, bits, c):
        width = self._code_bits()
        subspaces = min(c, int(bits // width))
        if subspaces < 1:
            raise StepError("pq cannot spend so few bits a word", expected=f">= {width}", found=bits)
        return replace(self, subspaces=subspaces)

    def _code_bits(self):
        return 4 if self.centroids <= 16 else 8 if self.centroids <= 256 else 16

    def plan(self, n, c):
        bits = self._code_bits()
        codes = {4: (np.uint8, -(-self.subspaces // 2)), 8: (np.uint8, self.subspaces),
                 16: (np.uint16, self.subspaces)}
        dtype, width = codes[bits]
        plan = {"state.codebook": (np.dtype(np.float32), (self.centroids, c))}
        if self.rotate != "none":
            plan["state.rotation"] = (np.dtype(np.float32), (c, c))
        if self.normalize == "columns":
            plan["state.scale"] = (np.dtype(np.float32), (c,))
        return {**plan, "codes.codes": (np.dtype(dtype), (n, width))}

    def _bounds(self, c):
        """Return where each part begins and ends: lengths differ by one at most, longer parts first."""
        width, longer = divmod(c, self.subspaces)
        starts = [m * width + min(m, longer) for m in range(self.subspaces + 1)]
        return list(zip(starts, starts[1:]))

    def fit(self, matrix, context):
        n, c = matrix.shape
        rows = np.sort(context.rng.choice(n, self.sample, replace=False))
        sample, state = matrix[rows], {}
        if self.normalize == "columns":
            spread = np.sqrt(np.square(sample, dtype=np.float64).mean(axis=0))
            state["scale"] = np.where(spread > 0, spread, 1).astype(np.float32)
            sample = sample / state["scale"]
        if self.rotate != "none":
            axes = _balanced_axes(sample, self._bounds(c))
            state["rotation"] = np.ascontiguousarray(axes.T)  # as decoding needs it
            sample = sample @ axes
        state["codebook"] = self._train(sample, "k-means++", context)
        if self.rotate == "opq":
            whole = sample @ state["rotation"]
            state.update(self._optimise_rotation(whole, state, context))
        return state

    def _train(self, sample, start, context):
        """Return the codebook of each part's k-means, begun by k-means++ or at the codebook `start`."""
        bounds = self._bounds(sample.shape[1])
        codebook = np.empty((self.centroids, sample.shape[1]), np.float32)
        seeds = context.rng.integers(2**63, size=len(bounds))

        def train(first, last):
            for m in range(first, last):
                part = slice(*bounds[m])
                codebook[:, part], _ = clustering.kmeans(
                    sample[:, part], self.centroids, np.random.default_rng(seeds[m]),
                    init=start if isinstance(start, str) else start[:, part], iterations=self.iterations)

        done = 0

        def report(count):
            nonlocal done
            done += count
            context.progress("training pq", done, len(bounds))

        map_blocks(train, len(bounds), 1, report)
        return codebook

    def _optimise_rotation(self, sample, state, context):
        """Alternate between rounding to the codebook and turning the space towards what it is rounded to."""
        bounds = self._bounds(sample.shape[1])
        rotation, codebook = state["rotation"].T, state["codebook"].copy()
        for done in range(OPQ_ROUNDS):
            turned = project(sample, rotation)
            rounded = np.empty(sample.shape[::-1], np.float32)

            def improve(first, last, turned=turned, rounded=rounded):
                for m in range(first, last):
                    part = slice(*bounds[m])
                    codebook[:, part], labels = clustering.lloyd_round(turned[:, part], codebook[:, part])
                    for column in range(*bounds[m]):
                        rounded[column] = codebook[labels, column]

            map_blocks(improve, len(bounds), 1)
            rotation = _closest_rotation(sample, rounded)
            context.progress("training opq", done + 1, OPQ_ROUNDS)
        codebook = self._train(project(sample, rotation), codebook, context)
        return {"rotation": np.ascontiguousarray(rotation.T), "codebook": codebook}

    def encode(self, matrix, state, context):
        n, c = matrix.shape
        bounds, codebook = self._bounds(c), state["codebook"]
        labels = np.empty((n, self.subspaces), np.uint8 if self.centroids <= 256 else np.uint16)
        size = rows_at_once(c)
        for start in range(0, n, size):
            block = matrix[start : start + size]
            if "scale" in state:
                block = block / state["scale"]
            if "rotation" in state:
                block = block @ state["rotation"].T

            def label(first, last, block=block, start=start):
                for m in range(first, last):
                    part = slice(*bounds[m])
                    labels[start : start + size, m] = clustering.nearest_centroids(block[:, part], codebook[:, part])

            map_blocks(label, len(bounds), 1)
            context.progress("encoding", min(start + size, n), n)
        return {"codes": pack_nibbles(labels) if self._code_bits() == 4 else labels}

    def decoder(self, codes, state):
        """Return what decodes rows as `decode` does, with the codebook laid out once."""
        return _Decoder(self, codes, state).decode

    def decode(self, codes, state, rows):
        return _Decoder(self, codes, state).decode(rows)

    def labels(self, packed):
        """Return the codes of rows as they are stored, one a column: (n, subspaces)."""
        return unpack_nibbles(packed, self.subspaces) if self._code_bits() == 4 else packed

    def scores(self, codes, state, query):
        """Return the dot product of a vector and every decoded row, by table: one look-up a part."""
        query = query * state["scale"] if "scale" in state else query
        if "rotation" in state:
            query = state["rotation"] @ query
        labels = self.labels(np.asarray(codes["codes"]))
        total = np.zeros(len(labels), np.float32)
        for m, (start, stop) in enumerate(self._bounds(len(query))):
            total += (state["codebook"][:, start:stop] @ query[start:stop])[labels[:, m]]
        return total

    def small_codes(self, codes, state):
        if self._code_bits() > 8:
            return None
        book = np.zeros((1 << self._code_bits(), state["codebook"].shape[1]), np.float32)
        book[: self.centroids] = state["codebook"]
        turn = state["rotation"].astype(np.float64) if "rotation" in state else None
        if "scale" in state:  # decoding multiplies in float32, and so does this where nothing comes between
            book, turn = (book * state["scale"], None) if turn is None else (book, turn * state["scale"])

        def labels(rows):
            return self.labels(codes["codes"][rows])

        finish = None if turn is None else functools.partial(_finish, state=state)
        return SmallCodes(labels, np.array([start for start, _ in self._bounds(book.shape[1])]), book, turn, finish)

    def check(self, codes, state, n, c):
        if self.subspaces is None or not 1 <= self.subspaces <= c:
            raise FormatError("pq has an impossible number of subspaces", expected=f"1 to {c}", found=self.subspaces)
        expect_planned(self.plan(n, c), codes, state)

    def check_codes(self, codes, state):
        labels = self.labels(np.asarray(codes["codes"]))
        if labels.size and int(labels.max()) >= len(state["codebook"]):
            raise FormatError("a code names a centroid that is not there", expected=f"< {len(state['codebook'])}",
                              found=int(labels.max()))


class _Decoder:
    """Codes and what they stand for, ready to decode rows."""

    def __init__(self, codec, codes, state):
        self._codec, self._codes, self._state = codec, codes["codes"], state
        codebook, m = state["codebook"], codec.subspaces
        self._dtype, self._parts = codebook.dtype, []
        width, longer = divmod(codebook.shape[1], m)
        for first, last, size in ((0, longer, width + 1), (longer, m, width)):
            if first < last:
                start = first * (width + 1)
                numbers = np.ascontiguousarray(codebook[:, start : start + (last - first) * size])
                parts = numbers.view(np.dtype((np.void, numbers.itemsize * size)))  # copied whole, not by numbers
                self._parts.append((slice(first, last), np.arange(last - first), parts))

    def decode(self, rows):
        """Return rows (k,) as (k, c) float32."""
        labels = self._codec.labels(self._codes[rows])
        found = [parts[labels[:, own], places].view(self._dtype) for own, places, parts in self._parts]
        return _finish(found[0] if len(found) == 1 else np.concatenate(found, axis=1), self._state)


def _finish(decoded, state):
    """Return rows, (k, c) float32, turned and scaled back."""
    if "rotation" in state:
        decoded = stable_product(decoded, state["rotation"])
    return decoded * state["scale"] if "scale" in state else decoded


def pack_nibbles(labels):
    """Pack (n, m) values below 16 into (n, ceil(m / 2)) bytes: the first half low, the second half high."""
    half = -(-labels.shape[1] // 2)
    packed = labels[:, :half].copy()
    packed[:, : labels.shape[1] - half] |= labels[:, half:] << 4
    return packed


def unpack_nibbles(packed, m):
    """Return the (n, m) values that `pack_nibbles` packed."""
    half = packed.shape[1]
    return np.concatenate([packed & 15, packed[:, : m - half] >> 4], axis=1)


def _closest_rotation(sample, rounded):
    """Return the rotation, (c, c), that brings the rows of `sample`, (n, c), closest to columns of `rounded`."""

    def products(start, stop):
        return sample[start:stop].astype(np.float64).T @ rounded[:, start:stop].T.astype(np.float64)

    total = sum(map_blocks(products, len(sample), BLOCK))
    with one_blas_thread():
        left, _, right = np.linalg.svd(total)
    return (left @ right).astype(np.float32)


def _balanced_axes(sample, bounds):
    """Return the principal axes of `sample`, (c, c), dealt to parts so that their variance products are level."""
    values, vectors = eigen(gram(sample, mean=sample.mean(axis=0, dtype=np.float64)))
    logs = np.log(np.maximum(values, values[0] * 1e-9 + 1e-300))
    room = [stop - start for start, stop in bounds]
    parts = [[] for _ in bounds]
    product = np.zeros(len(bounds))
    for axis, value in enumerate(logs - logs.min()):
        free = [m for m in range(len(bounds)) if len(parts[m]) < room[m]]
        m = min(free, key=lambda m: (product[m], room[m], m))  # the largest to the short parts
        parts[m].append(axis)
        product[m] += value
    return np.ascontiguousarray(vectors[:, [axis for part in parts for axis in part]], dtype=np.float32)
