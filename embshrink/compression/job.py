"""A table with the settings of a run; the result of a run, and the plan of one."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

import embshrink
from embshrink.compression.counts import looks_alphabetical
from embshrink.compression.ngrams import NgramTable
from embshrink.compression.report import Loss, measure_loss
from embshrink.compression.source import SourceTable, open_table
from embshrink.embeddings.protocols import LookupTable
from embshrink.embeddings.table import VectorTable
from embshrink.embeddings.word_vectors import WordVectors
from embshrink.evaluation.neighbour_sample import NeighbourSample, queries_of, sample_neighbours
from embshrink.methods import pipeline, registry
from embshrink.methods.base import Codec, QualityGoal, Step, SteppedCodec
from embshrink.methods.prune import Prune
from embshrink.methods.registry import Steps
from embshrink.methods.row_map import RowMap
from embshrink.numerics.progress import Progress, no_progress
from embshrink.storage.arrays import AnyArray, DoubleArray, FloatArray, IntArray, Layout, StoredArray, layout_bytes
from embshrink.storage.container import plan_container
from embshrink.storage.header import Header, SubwordsHeader
from embshrink.vocabulary.id_order import EXACT
from embshrink.vocabulary.ngram_rows import encode_ids, plan_ids
from embshrink.vocabulary.words import Words, encode_plain, plan_plain

MANY_WORDS = 10_000  # "auto" packs this many words and more: fewer take little of a file, and plain is faster
COMPARED = 2048  # words whose vectors are compared, to predict other overlaps
NEIGHBOURS = 10  # of each word that count in the overlap


class StoredWords(NamedTuple):
    """How words are stored: their ids in the source by their id in the file, the encoding, and its sections."""

    ids: IntArray
    vocabulary: str
    sections: dict[str, AnyArray]


@dataclass
class Made:
    """The result of a run of steps, ready to be written.

    Parameters
    ----------
    stored : Shrunk
        Codes and state of the vectors.
    full_map : RowMap
        Map from all words of the source to rows; -1 for a word that was dropped.
    words : Words
        The words in the order in which they are stored.
    ids : numpy.ndarray of int64, shape (len(words),)
        The id of each of these words in the source.
    header : Header
        Header of the file.
    sections : dict of str to array
        Sections of the file.
    notes : dict of str to float
        Measurements of the steps, for the report.
    loss : Loss, optional
        What was lost, once it was measured.
    """

    stored: pipeline.Shrunk
    full_map: RowMap
    words: Words
    ids: IntArray
    header: Header
    sections: dict[str, StoredArray]
    notes: dict[str, float]
    loss: Loss | None = None

    @property
    def nbytes(self) -> int:
        """Size of the whole file in bytes."""
        layout = {name: (part.dtype, part.shape) for name, part in self.sections.items()}
        return plan_container(self.header.as_dict(), layout)[0]

    @property
    def bits_per_word(self) -> float:
        """Bits per word of the vectors, including all tables; bits per n-gram if there are no words."""
        kinds: tuple[str, ...] = ("map.", "columns.", "state.", "codes.")
        count = len(self.words)
        if not count:
            kinds = tuple(f"ngrams.{kind}" for kind in kinds)
            count = 0 if self.header.subwords is None else self.header.subwords.present
        taken = sum(part.nbytes for name, part in self.sections.items() if name.startswith(kinds))
        return 8 * taken / max(count, 1)

    @property
    def table(self) -> VectorTable:
        """The words and their vectors as they will be read from the file."""
        stored = self.stored
        row_map = None if stored.row_map.is_identity else stored.row_map
        return VectorTable(self.words, stored.decode, stored.dim, row_map, stored.row_map.count,
                           owned=stored.row_map.owners is not None, stored=stored)


@dataclass
class PlannedFile:
    """Planned size of a file: the result of `embshrink.plan`.

    Attributes
    ----------
    steps : list of str
        The steps with all parameters filled in.
    bytes : int
        Size of the whole file. It is an upper limit for steps that may drop or merge words or rows: `dedupe`, and
        `prune` with `min_similarity`.
    sections : dict of str to int
        Bytes of each section, including padding.
    bits_per_word : float
        Bits per word of the vectors, including all tables that decoding needs.
    source_bytes : int or None
        Size of the source in bytes; None for vectors in memory.
    remarks : list of str
        Without steps: how the size was found.
    """

    steps: list[str]
    bytes: int
    sections: dict[str, int]
    bits_per_word: float
    source_bytes: int | None = None
    remarks: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """Return all attributes but `source_bytes` as a dict that can be written as JSON."""
        return {"steps": self.steps, "bytes": self.bytes, "sections": self.sections,
                "bits_per_word": self.bits_per_word, "remarks": self.remarks}


@dataclass
class Job:
    """A table with the settings of a run.

    Parameters
    ----------
    table : SourceTable
        The vectors.
    seed, ngrams, vocabulary, order, progress
        As for `embshrink.compress`.
    protected : numpy.ndarray of int64
        Ids of words that must keep their own vectors in row steps.
    weights : numpy.ndarray of float64, shape (n,), optional
        Frequency of each word; by default from Zipf's law and the rank.
    counts_source : mapping, optional
        Source of the weights, for the header.
    """

    table: SourceTable
    seed: int = 0
    ngrams: Steps = "same"
    vocabulary: str = "auto"
    order: str = EXACT
    progress: Progress = no_progress
    protected: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    weights: DoubleArray | None = None
    counts_source: Mapping[str, object] | None = None
    _laid_out: tuple[IntArray, StoredWords] | None = field(default=None, init=False, repr=False)
    _neighbours: NeighbourSample | None = field(default=None, init=False, repr=False)

    def lay_out(self, kept: IntArray, movable: bool = True) -> StoredWords:
        """Return how the words with the ids `kept` are stored; the last result is cached.

        The order of words is kept if rows cannot be moved with their words.
        """
        if self._laid_out is None or not np.array_equal(self._laid_out[0], kept):
            self._laid_out = kept, self._encode_words(kept, movable)
        return self._laid_out[1]

    def _encode_words(self, kept: IntArray, movable: bool) -> StoredWords:
        table = self.table
        words = table.words if len(kept) == len(table.words) else table.words.take(kept)
        words = words.in_memory()
        longest = int(np.diff(words.bounds).max(initial=0))
        plain_bytes = layout_bytes(plan_plain(len(words), len(words.text), longest))
        if self.vocabulary == "packed" or (self.vocabulary == "auto" and len(words) >= MANY_WORDS):
            from embshrink.vocabulary.packed import encode_packed

            self.progress("packing words", 0, 1)
            exact = self.order == EXACT
            order, sections = encode_packed(words, exact)
            self.progress("packing words", 1, 1)
            if not (movable or exact or np.array_equal(order, np.arange(len(order)))):
                exact, sections = True, encode_packed(words)[1]
            if sections is not None and sum(part.nbytes for part in sections.values()) <= plain_bytes:
                return StoredWords(kept if exact else kept[order], "packed", sections)
        return StoredWords(kept, "plain", encode_plain(words))

    def neighbours(self, count: int) -> NeighbourSample:
        """Return random words of the table with at least `count` nearest neighbours; the last result is cached."""
        if self._neighbours is None or self._neighbours.nearest.shape[1] < min(count, len(self._neighbours.ids) - 1):
            n, table = len(self.table.words), self.table.embeddings
            self._neighbours = sample_neighbours(
                table, np.arange(n), queries=queries_of(n, table.vector_size), count=count,
                progress=lambda stage, done, total: self.progress("neighbours of the source", done, total))
        return self._neighbours

    def run(self, steps: Sequence[Step], goal: QualityGoal | None = None) -> Made:
        """Run steps on the table and return the result.

        Parameters
        ----------
        steps : sequence of Step
        goal : QualityGoal, optional
            As for `embshrink.methods.pipeline.shrink`.
        """
        table, own = self.table, word_steps(self.table, steps)
        notes: dict[str, float] = {}
        if own or table.stored is None:
            stored, full_map = pipeline.shrink(
                table.matrix, own, row_map=table.row_map, weights=self.weights, protected=self.protected,
                seed=self.seed, progress=self.progress, notes=notes, order_words=lambda kept: self.lay_out(kept).ids,
                goal=goal, name_word=self._name_word)
            laid_out = self.lay_out(full_map.kept())
            if goal is not None:  # it set the step of the words; n-grams get the same
                steps = [*steps[:-1], _with_step_of(steps[-1], stored.codec)]
        else:  # without steps, the codes of the source are kept
            stored, full_map = table.stored, table.stored.row_map
            laid_out = self.lay_out(full_map.kept(), movable=False)
        header = self._header(stored.steps, len(laid_out.ids), stored.row_map.count,
                              stored.row_map.owners is not None, laid_out.vocabulary)
        sections: dict[str, StoredArray] = {
            **{f"words.{name}": part for name, part in laid_out.sections.items()}, **stored.sections()}
        if table.ngrams is not None:
            subwords, parts = self._shrink_ngrams(*ngram_steps(table.ngrams, steps, self.ngrams))
            header = dataclasses.replace(header, subwords=subwords)
            sections.update(parts)
        return Made(stored, full_map, table.words.take(laid_out.ids), laid_out.ids, header, sections, notes)

    def _name_word(self, index: int) -> str:
        """Return the name of a word and its row in messages."""
        return f"row {index} ({self.table.words[index]!r})"

    def _shrink_ngrams(
        self, table: NgramTable, steps: Sequence[Step]
    ) -> tuple[SubwordsHeader, dict[str, StoredArray]]:
        """Return the part of the header about n-grams, and their sections."""
        stored = table.stored
        if steps or stored is None:
            stored, _ = pipeline.shrink(
                table.matrix, steps, weights=np.maximum(table.uses, 1), seed=self.seed,
                progress=lambda stage, done, total: self.progress(f"n-grams: {stage}", done, total))
        parts = {**encode_ids(table.ids, table.hashing.bucket), **stored.sections()}
        header = subwords_header(table, stored.steps, stored.row_map.count, stored.row_map.owners is not None)
        return header, {f"ngrams.{name}": part for name, part in parts.items()}

    def _header(self, steps: Sequence[Step], words: int, rows: int, owned: bool, vocabulary: str) -> Header:
        protected = None
        if len(self.protected):
            ids = np.sort(self.protected).astype("<u8").tobytes()
            protected = {"words": len(self.protected), "sha256": hashlib.sha256(ids).hexdigest()}
        return Header(
            dim=self.table.matrix.shape[1], words=words, rows=rows, owned=owned, vocabulary=vocabulary,
            steps=[registry.format(step) for step in steps], seed=self.seed, source=self.table.source,
            writer=f"embshrink {embshrink.__version__}", counts=self.counts_source, protected=protected)

    def plan(self, steps: Steps) -> PlannedFile:
        """Return the size of the file that steps would make; only the words are encoded for that.

        Parameters
        ----------
        steps : str, step, or list of these
            As for `embshrink.compress`.

        Returns
        -------
        PlannedFile
            Size of the file and of its sections.
        """
        table, n, listed = self.table, len(self.table.words), registry.as_steps(steps)
        planned = _plan(table, n, word_steps(table, listed), table.row_map)
        shown = planned.steps
        laid_out = self.lay_out(np.arange(n))
        sections: Layout = {f"words.{name}": (part.dtype, part.shape) for name, part in laid_out.sections.items()}
        sections.update(planned.sections)
        header = dataclasses.replace(
            self._header(planned.steps, n, planned.rows, planned.owned, laid_out.vocabulary), counts=None,
            protected=None)
        if table.ngrams is not None:
            kept, own_steps = ngram_steps(table.ngrams, listed, self.ngrams)
            own = _plan(kept, len(kept.ids), own_steps)
            shown = shown if n else own.steps
            header = dataclasses.replace(header, subwords=subwords_header(kept, own.steps, own.rows, own.owned))
            parts = {**plan_ids(kept.hashing.bucket), **own.sections}
            sections.update({f"ngrams.{name}": part for name, part in parts.items()})
        total, sizes = plan_container(header.as_dict(), sections)
        return PlannedFile([registry.format(step) for step in shown], total, sizes,
                           8 * planned.nbytes / n if n else 0.0, table.source_bytes)

    def sample(self, count: int) -> Job:
        """Return a job on a sample of `count` words at even distances, without n-grams; each has a row of its own."""
        table = self.table
        firsts = np.sort(np.unique(table.row_map.rows, return_index=True)[1])
        ids = firsts[np.unique(np.linspace(0, len(firsts) - 1, count).astype(np.int64))]
        part = WordVectors.checked(table.words.take(ids), table.embeddings.decode_ids(ids), {}, [])
        return Job(open_table(part), self.seed, "drop", "plain",
                   weights=None if self.weights is None else self.weights[ids])

    def before_and_after(self, made: Made, ids: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return vectors (s, d) of the source and of a result, of at most `COMPARED` of some words."""
        ids = ids[np.unique(np.linspace(0, len(ids) - 1, min(len(ids), COMPARED)).astype(np.int64))]
        return self.table.embeddings.decode_ids(ids), made.stored.decode(made.full_map.rows[ids])

    def loss(self, made: Made) -> Loss:
        """Return the loss of a result; see `measure_loss`."""
        if made.loss is None:
            made.loss = self.loss_of(made.table, made.ids)
        return made.loss

    def loss_of(self, table: LookupTable, ids: IntArray) -> Loss:
        """Return the loss of a table whose words have these ids in the source, (n,) int64; see `measure_loss`."""
        common = (np.argsort(ids), np.sort(ids)) if len(ids) else None
        sample = self.neighbours(NEIGHBOURS) if 1 < len(ids) == len(self.table.words) else None
        return measure_loss(table, self.table.embeddings, common=common, weights=self._frequencies(), sample=sample,
                            progress=self.progress)

    def _frequencies(self) -> DoubleArray | None:
        """Return the frequency of each word; None if none are given and the words are not in order of frequency."""
        if self.weights is not None or looks_alphabetical(self.table.words):
            return self.weights
        return pipeline.zipf_weights(len(self.table.words))


def _with_step_of(codec: Step, fitted: Codec) -> Step:
    """Return a codec with the quantization step that fitting found; the codec itself if it has none."""
    if not (isinstance(codec, SteppedCodec) and isinstance(fitted, SteppedCodec)) or fitted.step is None:
        return codec
    return codec.with_step(fitted.step)


def _plan(
    table: SourceTable | NgramTable, n: int, steps: Sequence[Step], row_map: RowMap | None = None
) -> pipeline.Planned:
    """Return the plan of steps for n words or n-grams; without steps, the codes of the source are kept."""
    stored = table.stored
    if steps or stored is None:
        return pipeline.plan(n, table.matrix.shape[1], steps, row_map=row_map)
    sections: Layout = {name: (part.dtype, part.shape) for name, part in stored.sections().items()}
    return pipeline.Planned(stored.steps, stored.row_map.count, stored.dim, stored.row_map.owners is not None,
                            sections)


def word_steps(table: SourceTable, steps: Sequence[Step]) -> Sequence[Step]:
    """Return the steps for words: none if there are only n-grams, which have steps of their own."""
    return steps if len(table.words) else []


def ngram_steps(table: NgramTable, steps: Sequence[Step], ngrams: Steps) -> tuple[NgramTable, Sequence[Step]]:
    """Return the n-grams that are kept, and the steps for their rows.

    Parameters
    ----------
    table : NgramTable
        All n-grams.
    steps : sequence of Step
        The steps for words.
    ngrams : {"same"}, or str, step, or list of these
        As for `embshrink.compress`.
    """
    if ngrams == "same":
        return table, [step for step in steps if step.axis != "rows"]
    own = registry.as_steps(ngrams)
    if own and isinstance(own[0], Prune):
        n, dim = table.matrix.shape
        kept, _ = own[0].resolve(n, dim).plan(n, dim)
        return table.most_useful(kept), own[1:]
    return table, own


def subwords_header(table: NgramTable, steps: Sequence[Step], rows: int, owned: bool) -> SubwordsHeader:
    """Return the part of the header about n-grams whose rows were stored by these steps."""
    return SubwordsHeader.of({
        **table.hashing.as_header(), "present": len(table.ids), "missing": table.missing, "rows": rows,
        "owned": owned, "steps": [registry.format(step) for step in steps]})
