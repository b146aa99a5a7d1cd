"""The report of a run: what was written, and what was lost."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, TypedDict, TypeVar

import numpy as np

from embshrink.errors import TargetError
from embshrink.methods.row_map import RowMap
from embshrink.numerics.arrays import cosines_of, unit_rows
from embshrink.numerics.progress import Progress, no_progress
from embshrink.storage.atomic import atomic_write

if TYPE_CHECKING:
    from embshrink.compression.source import SourceTable
    from embshrink.embeddings.protocols import LookupTable
    from embshrink.evaluation.neighbour_sample import NeighbourSample
    from embshrink.storage.arrays import DoubleArray, IntArray

T = TypeVar("T")
Moved: TypeAlias = "tuple[str, str | None, float | None]"  # a word, the word whose vector it shares, and their cosine

PARTS = 100  # units of progress for each stage of measuring
EQUAL = 1 - 1e-6  # cosine of vectors that differ by no more than rounding


class Loss(TypedDict, total=False):
    """Loss between two tables, over the words that both have; None where a value is not defined.

    ``weighted_error`` is the relative error with each word weighted by its frequency.
    ``unseen_cosine`` is present if the file has n-grams: the mean cosine of word vectors made of n-grams alone.
    """

    relative_error: float | None
    weighted_error: float | None
    mean_cosine: float
    cosine_p1: float
    overlap_at_10: float | None
    overlap_se: float | None
    unseen_cosine: float | None


@dataclass
class Suggestion:
    """Steps that lose less, or make a smaller file, than the steps of a run.

    Parameters
    ----------
    goal : {"better", "smaller"}
        Less loss, or a smaller file.
    steps : list of str, or None
        Steps for `compress`, with the same source and settings. None for none: with `min_overlap`.
    bytes : int
        Estimated size of the whole file.
    min_overlap : float, optional
        The aim `min_overlap` for `compress`.
    """

    goal: str
    steps: list[str] | None
    bytes: int
    min_overlap: float | None = None


@dataclass
class Report:
    """Result of `compress`, `quantize` and `prune`: what was written, and what was lost.

    Attributes
    ----------
    target : str
        Path of the output file.
    steps : list of str
        The steps that ran, with all parameters filled in.
    words, rows, dim : int
        Number of words, number of stored rows, and dimension of the vectors.
    dropped : int
        Number of words of the source that the target does not have.
    source_bytes, target_bytes : int
        Size of the source as given (None for vectors in memory), and size of the whole output file.
    parts : dict of str to int
        Bytes of the parts of the target: words, row map, codebooks, codes and so on.
    bits_per_word : float
        Bits per word of the vectors, including all tables that decoding needs, but not the text of the words.
    loss : dict or None
        ``relative_error``, ``weighted_error`` (the same with words weighted by their counts, or by Zipf's law of
        their rank; None for words in alphabetical order), ``mean_cosine``, ``cosine_p1`` (1st percentile),
        ``overlap_at_10`` and its standard error ``overlap_se`` against the source; with n-grams also
        ``unseen_cosine``, the mean cosine of word vectors made of n-grams alone. None if the loss was not measured.
    seconds : dict of str to float
        Seconds of each stage.
    warnings : list of str
        Warnings of the reader and of the run.
    notes : dict of str to float
        Measurements of the steps, such as the isotropy before and after `iiq`.
    peak_memory : int or None
        Peak memory of the process in bytes, libraries included; None if the system does not report it.
    source, source_format : str or None
        Path and format of the source; None for vectors in memory.
    whole_source : bool
        Whether all rows of the source were read; False with ``limit``.
    shared : int
        Number of words without their own vector: they share that of another word, or a centroid.
    suggestions : list of Suggestion
        At most one ``better`` and one ``smaller`` suggestion.
    remarks : list of str
        What was decided because no steps and no aim were given, as sentences.
    """

    target: str
    steps: list[str]
    words: int
    rows: int
    dim: int
    dropped: int
    source_bytes: int | None
    target_bytes: int
    parts: dict[str, int]
    bits_per_word: float
    loss: Loss | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)
    peak_memory: int | None = None
    source: str | None = None
    source_format: str | None = None
    whole_source: bool = True
    shared: int = 0
    suggestions: list[Suggestion] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        """``source_bytes / target_bytes``; None if the size of the source is unknown, or not all of it was read."""
        return self.source_bytes / self.target_bytes if self.source_bytes and self.whole_source else None

    @property
    def lossless(self) -> bool:
        """Whether the loss was measured and all vectors are equal to the source's; words may have been dropped."""
        loss = self.loss or {}
        unseen = loss.get("unseen_cosine")
        return loss.get("relative_error") == 0 and (unseen is None or unseen > EQUAL)

    def as_dict(self) -> dict[str, object]:
        """Return all attributes and ``ratio`` as a dict that can be written as JSON."""
        return {**dataclasses.asdict(self), "ratio": self.ratio}

    @property
    def relative_error(self) -> float | None:
        """``loss["relative_error"]``; None if the loss was not measured or is not defined."""
        return None if self.loss is None else self.loss.get("relative_error")

    @property
    def weighted_error(self) -> float | None:
        """``loss["weighted_error"]``; None if the loss was not measured or is not defined."""
        return None if self.loss is None else self.loss.get("weighted_error")

    @property
    def mean_cosine(self) -> float | None:
        """``loss["mean_cosine"]``; None if the loss was not measured."""
        return None if self.loss is None else self.loss.get("mean_cosine")

    @property
    def overlap_at_10(self) -> float | None:
        """``loss["overlap_at_10"]``; None if the loss was not measured or is not defined."""
        return None if self.loss is None else self.loss.get("overlap_at_10")


def group_parts(sections: Mapping[str, int], total: int) -> dict[str, int]:
    """Return the bytes of each kind of section, such as words or codes, and of the rest of the file."""
    kinds = {"words": 0, "row map": 0, "codebooks": 0, "codes": 0}
    prefix = {"words": "words", "map": "row map", "columns": "codebooks", "state": "codebooks", "codes": "codes",
              "ngrams": "n-grams"}
    for name, size in sections.items():
        kind = prefix.get(name.split(".")[0], "other")
        kinds[kind] = kinds.get(kind, 0) + size
    return {**kinds, "header, checksums, padding": total - sum(kinds.values())}


def measure_loss(
    emb: LookupTable, baseline: LookupTable, *, common: tuple[IntArray, IntArray] | None = None,
    weights: DoubleArray | None = None, sample: NeighbourSample | None = None, progress: Progress = no_progress,
) -> Loss:
    """Return the loss between two tables over the words that both have, as a dict.

    Parameters
    ----------
    emb, baseline : LookupTable
    common : tuple of numpy.ndarray, optional
        As for `embshrink.evaluation.loss.reconstruction`.
    weights : numpy.ndarray of float64, optional
        As for `embshrink.evaluation.loss.reconstruction`.
    sample : NeighbourSample, optional
        As for `embshrink.evaluation.loss.neighbour_overlap`.
    """
    from embshrink.evaluation.loss import neighbour_overlap, reconstruction
    from embshrink.evaluation.neighbour_sample import queries_of

    stages = {"reconstruction": 0, "neighbours": 1, "neighbours of the baseline": 2}

    def report(stage: str, done: int, total: int | None, /) -> None:
        share = round(PARTS * done / total) if total else 0
        progress("measuring", stages[stage] * PARTS + share, len(stages) * PARTS)

    report("reconstruction", 0, None)
    similar = reconstruction(emb, baseline, common=common, weights=weights, progress=report)
    overlap = error = None  # a single vector has no neighbours
    if similar.words > 1 and (sample is None or len(sample.ids) > 1):
        found = neighbour_overlap(emb, baseline, queries=queries_of(similar.words, emb.vector_size), common=common,
                                  sample=sample, progress=report)
        overlap, error = found.overlap, found.standard_error
    progress("measuring", len(stages) * PARTS, len(stages) * PARTS)
    return {
        "relative_error": similar.relative_error, "weighted_error": similar.weighted_error,
        "mean_cosine": similar.mean_cosine, "cosine_p1": similar.cosine_p1, "overlap_at_10": overlap,
        "overlap_se": error,
    }


def write_remap(
    path: str | os.PathLike[str], table: SourceTable, full_map: RowMap, before: Callable[[], T], *,
    force: bool = False,
) -> T:
    """Write a list of the words without their own vector, the word whose vector each one shares, and their cosine.

    Parameters
    ----------
    path : str or os.PathLike
        JSON (a list of objects) if it ends in ``.json``; else tab-separated with a header line. Tabs, line ends and
        backslashes inside words are escaped there as in JSON.
    table : SourceTable
        The source.
    full_map : RowMap
        Map of all words of the table to rows, with owners.
    before : callable
        Writes the file that the list belongs to. It is called when the list is on disk, and before the list gets its
        name: if it raises, there is no list, and if the list cannot be written, it is not called.
    force : bool, default False
        Replace an existing file.

    Returns
    -------
    object
        The result of `before`.
    """
    results: list[T] = []
    parts = _json_list if os.fspath(path).endswith(".json") else _tsv_list
    try:
        with atomic_write(path, force=force, check=lambda _: results.append(before())) as file:
            for part in parts(_moved_words(table, full_map)):
                file.write(part)
    except TargetError as error:
        if not results:
            raise
        raise TargetError(error.problem, path=path, hint="Only this list is missing: the .ems file was written."
                          ) from error
    return results[0]


def _json_list(entries: Iterable[Moved]) -> Iterator[bytes]:
    """Yield the parts of a list of objects."""
    separator = "[\n"
    for entry in entries:
        yield (separator + json.dumps(dict(zip(("word", "kept", "similarity"), entry)), indent=0)).encode("ascii")
        separator = ",\n"
    yield b"[]" if separator == "[\n" else b"\n]"


def _tsv_list(entries: Iterable[Moved]) -> Iterator[bytes]:
    """Yield lines, with a header line first."""
    yield b"word\tkept\tsimilarity\n"
    for word, kept, cosine in entries:
        line = f"{_tsv(word)}\t{_tsv(kept or '')}\t{'' if cosine is None else format(cosine, '.6f')}\n"
        yield line.encode("utf-8", "surrogateescape")


def _moved_words(table: SourceTable, full_map: RowMap) -> Iterator[Moved]:
    """Yield each word without its own vector, the word whose vector it shares (None: dropped), and their cosine."""
    if full_map.owners is None:
        raise TypeError("a remap lists words, and centroids belong to no word")
    moved = np.flatnonzero(full_map.rows != np.arange(len(full_map.rows)))
    moved = moved[(full_map.rows[moved] < 0) | (full_map.owners[np.maximum(full_map.rows[moved], 0)] != moved)]
    for start in range(0, len(moved), 65_536):
        ids = moved[start : start + 65_536]
        rows = full_map.rows[ids]
        owners = full_map.owners[np.maximum(rows, 0)]
        cosines = cosines_of(*(unit_rows(table.embeddings.decode_ids(some)) for some in (ids, owners)))
        for index, owner, cosine, row in zip(ids.tolist(), owners.tolist(), cosines.tolist(), rows.tolist()):
            if row < 0:
                yield table.words[index], None, None
            else:
                yield table.words[index], table.words[owner], round(cosine, 6)


def _tsv(text: str) -> str:
    for plain, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(plain, escaped)
    return text
