"""The main job: read, shrink, write, verify, and say what was lost; and what it would make, before any work."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypedDict

import numpy as np

from embshrink.compression.counts import looks_alphabetical, read_counts, weights_of
from embshrink.compression.job import Job, Made, PlannedFile
from embshrink.compression.ngrams import unseen_cosine
from embshrink.compression.rate_control import Aim, meet
from embshrink.compression.report import Loss, Report, group_parts, measure_loss, write_remap
from embshrink.compression.source import Source, SourceTable, open_table
from embshrink.compression.suggestions import suggest
from embshrink.embeddings.file import open_file
from embshrink.embeddings.table import VectorTable
from embshrink.embeddings.word_vectors import WordVectors
from embshrink.errors import ShapeError, StepError, TargetError
from embshrink.formats import ReadOptions
from embshrink.methods import registry
from embshrink.methods.base import Step
from embshrink.methods.pipeline import Shrunk
from embshrink.methods.prune import Prune
from embshrink.methods.registry import Steps
from embshrink.numerics.progress import Progress, no_progress
from embshrink.storage.atomic import check_target
from embshrink.storage.container import write_container
from embshrink.storage.disk_rows import Spool, peak_memory
from embshrink.vocabulary.words import Words, to_bytes

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from embshrink.compression.pareto import ParetoPoint
    from embshrink.storage.arrays import DoubleArray, FloatArray, IntArray

CHECKED_ROWS, CHECKS = 1000, 16
VOCABULARIES = ("auto", "packed", "plain")
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")


Counts: TypeAlias = "str | os.PathLike[str] | Mapping[str, float] | Mapping[bytes, float] | None"


class Settings(TypedDict, total=False):
    """What `prune` and `quantize` pass on to `compress`, where it is documented."""

    seed: int
    counts: Counts
    keep_words: Iterable[str | bytes]
    remap: str | os.PathLike[str] | None
    ngrams: Steps
    vocabulary: str
    keep_order: bool
    max_memory: int | None
    force: bool
    options: ReadOptions | None
    measure: bool
    progress: Progress


class Aims(Settings, total=False):
    """The settings, and the aims of which one may be given."""

    bits: float | None
    size: int | None
    max_error: float | None
    min_cosine: float | None
    min_overlap: float | None


def default_target(source: Source) -> str:
    """Return the name of the file that a source is compressed to if none is given: its own, with ``.ems``.

    Raises
    ------
    TargetError
        If the source has no name, or would be written onto itself.
    """
    if not isinstance(source, (str, os.PathLike)) or source == "-":
        raise TargetError("the source has no name to make one of", hint="Name a target.")
    base = os.fspath(source)
    for ending in COMPRESSED:
        base = base.removesuffix(ending)
    target = os.path.splitext(base)[0] + ".ems"
    if os.path.abspath(target) == os.path.abspath(source):
        raise TargetError("the source would be written onto itself", path=target, hint="Name a target.")
    return target


def prune(
    source: Source, target: str | os.PathLike[str] | None = None, *, keep: int | None = None,
    min_similarity: float = -1.0, norms: bool = False, select: str = "frequency", weighted: bool = False,
    **settings: Unpack[Settings],
) -> Report:
    """Keep the vectors of some words; each other word shares the nearest kept one.

    Parameters
    ----------
    source : str, os.PathLike or WordVectors
    target : str or os.PathLike, optional
        `source`'s name with ``.ems`` by default.
    keep : int, optional
        Vectors to keep; a tenth, at least 20,000, by default.
    min_similarity : float
        Drop a removed word whose nearest kept word has a lower cosine.
    norms : bool
        Keep each word's own length (2 bytes a word).
    select : {"frequency", "facility"}
        Keep the most frequent words, or those that stand best for all.
    weighted : bool
        With facility: count each word by its frequency.
    **settings
        As for `compress`.

    Returns
    -------
    Report

    Raises
    ------
    SourceError, StepError, ShapeError, TargetError
        As `compress`.
    """
    step = registry.make("prune", keep=keep, min_similarity=min_similarity, norms=norms, select=select,
                         weighted=weighted)
    return compress(source, default_target(source) if target is None else target, [step], **settings)


def quantize(
    source: Source, target: str | os.PathLike[str] | None = None, *, method: str | None = None,
    parameters: Mapping[str, object] | Iterable[str] | None = None, **settings: Unpack[Aims],
) -> Report:
    """Store vectors in fewer bits: about 2 a number, or as few as an aim allows.

    Parameters
    ----------
    source : str, os.PathLike or WordVectors
    target : str or os.PathLike, optional
        `source`'s name with ``.ems`` by default.
    method : str, optional
        A bits method; `ecq` by default, and `rq` where that loses less.
    parameters : mapping of str to object, str, or iterable of str, optional
        Of the method: ``{"subspaces": 25}``, ``"subspaces=25"``, or ``["subspaces=25"]``; None stands for a default.
    **settings
        As for `compress`, the aims among them.

    Returns
    -------
    Report

    Raises
    ------
    SourceError, StepError, ShapeError, TargetError
        As `compress`; StepError also if the method is not a bits method.
    """
    name = method or "ecq"
    if registry.method(name).axis != "bits":
        given = source if isinstance(source, str) else "SOURCE"
        raise StepError(f"{name} is not a bits method", hint=f"Use: embshrink compress {given} TARGET {name}")
    pairs = _pairs(parameters)
    step = registry.parse(f"{name}:{','.join(pairs)}" if pairs else name)
    return compress(source, default_target(source) if target is None else target, [step],
                    choose=method is None and not pairs, **settings)


def _pairs(parameters: Mapping[str, object] | Iterable[str] | None) -> list[str]:
    """Return a method's parameters as ``key=value``."""
    if isinstance(parameters, Mapping):
        return [f"{key}={str(value).lower() if isinstance(value, bool) else value}"
                for key, value in parameters.items() if value is not None]
    return [parameters] if isinstance(parameters, str) else list(parameters or ())


def compress(  # noqa: PLR0913 - all settings of the main job, by name
    source: Source, target: str | os.PathLike[str], steps: Steps, *, seed: int = 0, bits: float | None = None,
    size: int | None = None, max_error: float | None = None, min_cosine: float | None = None,
    min_overlap: float | None = None, counts: Counts = None,
    keep_words: Iterable[str | bytes] = (), remap: str | os.PathLike[str] | None = None, ngrams: Steps = "same",
    vocabulary: str = "auto", keep_order: bool = False, choose: bool = False, max_memory: int | None = None,
    force: bool = False, options: ReadOptions | None = None, measure: bool = True, progress: Progress = no_progress,
) -> Report:
    """Shrink word vectors into an ``.ems`` file.

    Parameters
    ----------
    source : str, os.PathLike or WordVectors
        A word2vec, GloVe or fastText text file, a word2vec binary, a fastText model, compressed or not, ``-`` for
        standard input; or an ``.ems`` file.
    target : str or os.PathLike
        Appears whole, verified, or not at all.
    steps : str, step, or list of these
        For instance ``["prune:keep=50000", "pq:subspaces=25"]``. With no steps, codes of a finalfusion or navec
        file are kept one to one, as is all of an ``.ems`` file, and of other sources every number.
    seed : int
        Same input, steps and seed give the same bytes, at any number of threads.
    bits : float, optional
        Set the bits step to spend at most so many bits a word on vectors, every table counted.
    size : int, optional
        Set the bits step so that the whole file takes at most so many bytes.
    max_error, min_cosine, min_overlap : float, optional
        Set the bits step to what just reaches so small a relative error, or so large a mean cosine, or neighbour
        overlap at 10. Of these and `bits` and `size` one may be given.
    counts : str, os.PathLike or mapping, optional
        How often each word is used: a file of ``word count`` lines, or a mapping. Without, words are taken to be
        in order of frequency, and Zipf's law gives the rest.
    keep_words : iterable of str or bytes
        Words whose own vectors a row step must keep.
    remap : str or os.PathLike, optional
        Write which word answers with whose vector: JSON if the name ends in ``.json``, else tab-separated.
    ngrams : {"same", "drop"} or list of str or step
        What to do with the n-grams of a fastText model, from which unseen words get their vectors: the same column
        and bits steps as to words, none are kept, or steps of their own. A first step ``prune:keep=N`` keeps the N
        with the largest uses times length, and does not map the rest to them.
    vocabulary : {"auto", "packed", "plain"}
        How words are stored. Packed ones take a sixth; a word's id then changes within its rank's power of two.
        Plain where that is smaller. "auto" packs them from 10,000 words on.
    keep_order : bool
        Keep every word's id, with packed words too.
    choose : bool
        Below a bit a number, take `rq` in place of the bits step where that loses less.
    max_memory : int, optional
        Bytes of memory that the process may take, 256 MiB or more. A table that is too large for that is kept in a
        temporary file beside the target, and so are its codes; work goes block by block, and the bytes written are
        the same. For text, word2vec, fastText models and ``.ems`` files, and for steps that work so: `cast`, `ecq`,
        `pq`, `rq`, `scalar`, `iiq`, `magnitude:scope=row`, `lowrank`, `prune`; others are refused where the table
        does not fit.
    force : bool
        Replace existing outputs.
    options : embshrink.ReadOptions, optional
    measure : bool
        Say what was lost; takes a second or more on large tables.
    progress : callable
        ``progress(stage, done, total)``.

    Returns
    -------
    Report

    Raises
    ------
    SourceError, StepError, ShapeError, TargetError
        Nothing is written then, and an existing target is as it was.
    """
    listed = registry.as_steps(steps)
    if not isinstance(ngrams, str):
        ngrams = registry.as_steps(ngrams)
    aim = Aim.one_of(bits=bits, size=size, max_error=max_error, min_cosine=min_cosine, min_overlap=min_overlap)
    if vocabulary not in VOCABULARIES:
        raise StepError(f"words cannot be stored as {vocabulary!r}", expected=" or ".join(VOCABULARIES))
    for path in (target, remap):
        if path is not None:
            check_target(path, force)
    if max_memory is not None:
        spool = Spool(max_memory, os.path.dirname(os.path.realpath(target)))
        options = dataclasses.replace(options or ReadOptions(), spool=spool)
    clock = _Clock()
    table = open_table(source, options, ngrams=ngrams != "drop", progress=progress)
    clock.lap("read")
    warnings = list(table.warnings)
    if not len(table.words) and any(step.axis == "rows" for step in listed):
        warnings.append("row steps are left out: there are no words, only n-grams, and those keep their rows")
    protected = _protected_ids(table, keep_words, warnings)
    weights, counts_source = _weights(table, counts, listed, warnings)
    job = Job(table, seed, ngrams, vocabulary, keep_order, progress, protected, weights, counts_source)
    made = job.run(listed) if aim is None else meet(aim, listed, job, choose)
    clock.lap("shrink")
    report = _write(made, job, target, remap, force, warnings)
    _describe_source(report, source, table, options)
    _warn_if_all_kept(listed, table, made, warnings)
    clock.lap("write and verify")
    ids, report.suggestions = made.ids, suggest(job, listed, made, size=report.target_bytes)
    del made  # its codes are in the file now
    _read_back(report, table, ids, measure=measure, sparing=max_memory is not None, progress=progress)
    clock.lap("measure")
    report.seconds, report.peak_memory = clock.laps, peak_memory()
    if max_memory is not None and report.peak_memory is not None and report.peak_memory > max_memory:
        warnings.append(f"the process took up to {report.peak_memory:,} bytes of memory, more than the "
                        f"{max_memory:,} allowed")
    return report


def plan(
    source: Source, steps: Steps = "ecq", *, seed: int = 0, options: ReadOptions | None = None,
    progress: Progress = no_progress,
) -> PlannedFile:
    """Return what a file would take, section by section, before any work.

    Parameters
    ----------
    source : str, os.PathLike or WordVectors
    steps : str, step, or list of these
        `ecq`, which is what `quantize` does, by default.
    seed : int
    options : ReadOptions, optional
    progress : callable
        ``progress(stage, done, total)``.

    Returns
    -------
    PlannedFile

    Raises
    ------
    SourceError
        If the source cannot be read.
    StepError, ShapeError
        If a step is wrong, or the steps do not fit the table.
    """
    planned = Job(open_table(source, options, progress=progress), seed, progress=progress).plan(steps)
    if options is not None and options.limit is not None:  # bytes of rows that were not read are no measure
        planned.source_bytes = None
    return planned


def pareto(
    source: Source, *, seed: int = 0, options: ReadOptions | None = None, progress: Progress = no_progress
) -> list[ParetoPoint]:
    """Try every bits method at several sizes on a sample of a source's words, and say which settings are best.

    Parameters
    ----------
    source : str, os.PathLike or WordVectors
    seed : int
    options : ReadOptions, optional
    progress : callable
        ``progress(stage, done, total)``.

    Returns
    -------
    list of ParetoPoint
        From small to large.

    Raises
    ------
    SourceError
        If the source cannot be read.
    """
    from embshrink.compression.pareto import pareto_front

    return pareto_front(Job(open_table(source, options, progress=progress), seed), progress=progress)


def _write(
    made: Made, job: Job, target: str | os.PathLike[str], remap: str | os.PathLike[str] | None, force: bool,
    warnings: list[str],
) -> Report:
    """Write a file, and the remap if one is asked for; return what is known before the file is measured."""
    if remap is not None and made.full_map.owners is None:
        raise StepError("there is no remap to report: centroids belong to no word",
                        hint="A remap comes from prune or dedupe without kmeans.")
    table = job.table
    job.progress("writing", 0, 1)
    check = functools.partial(_verify, stored=made.stored, words=made.words, progress=job.progress)
    total = write_container(target, made.header.as_dict(), made.sections, force=force, check=check)
    if remap is not None:
        write_remap(remap, table, made.full_map, force=force)
    header, words = made.header, len(made.ids)
    steps = header.subwords.steps if not words and header.subwords is not None else header.steps
    return Report(target=os.fspath(target), steps=steps, words=words, rows=header.rows, dim=header.dim,
                  dropped=len(table.words) - words, source_bytes=table.source_bytes, target_bytes=total, parts={},
                  bits_per_word=0.0, warnings=warnings, notes=made.notes,
                  shared=words - header.rows if header.owned else words)


def _describe_source(report: Report, source: Source, table: SourceTable, options: ReadOptions | None) -> None:
    """Fill in what a report says of the source."""
    report.whole_source = options is None or options.limit is None
    if not isinstance(source, WordVectors):
        report.source, report.source_format = os.fspath(source), str(table.source.get("format"))


def _read_back(
    report: Report, table: SourceTable, ids: IntArray, *, measure: bool, sparing: bool, progress: Progress
) -> None:
    """Fill in what a report says of the file that was written: what it lost, if that is asked for, and its parts."""
    with open_file(report.target, VectorTable, sparing=sparing) as written:
        report.loss = _loss(written, table, ids, progress) if measure else None
        info = written.info()
    report.parts, report.bits_per_word = group_parts(info["sections"], report.target_bytes), info["bits_per_word"]
    if report.lossless:
        report.suggestions = [one for one in report.suggestions if one.goal == "smaller"]


def _warn_if_all_kept(steps: Sequence[Step], table: SourceTable, made: Made, warnings: list[str]) -> None:
    """Warn where prune kept the vectors of all words."""
    count = len(table.words)
    if count and len(made.ids) == made.header.rows == count and any(isinstance(step, Prune) for step in steps):
        warnings.append(f"all {count:,} words were kept, so nothing was pruned; give a smaller keep "
                        "(command line: --keep)")


def _loss(written: VectorTable, table: SourceTable, ids: IntArray, progress: Progress) -> Loss:
    """Return what was lost: of words, or where there are none of the rows of n-grams by bucket."""
    loss: Loss = {}
    if len(table.words):
        common = (np.argsort(ids), np.sort(ids)) if len(ids) else None
        loss = measure_loss(written, table.embeddings, common=common, progress=progress)
    elif table.ngrams is not None and written.subwords is not None:
        before, after = table.ngrams, written.subwords
        loss = measure_loss(
            _by_bucket(after.ids(), after.rows.decode_ids, written.vector_size),
            _by_bucket(before.ids, before.matrix.__getitem__, written.vector_size), progress=progress)
    if table.ngrams is not None and written.subwords is not None:
        loss["unseen_cosine"] = unseen_cosine(table.ngrams, written.subwords, table.words)
    return loss


def _by_bucket(ids: IntArray, decode: Callable[[IntArray], FloatArray], dim: int) -> VectorTable:
    """Return a table of n-grams' rows, each under its bucket's number."""
    return VectorTable(Words(map(str, ids.tolist())), decode, dim, None, len(ids))


class _Clock:
    """How long each stage took, in seconds."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 3)
        self._last = now


def _protected_ids(table: SourceTable, keep_words: Iterable[str | bytes], warnings: list[str]) -> IntArray:
    words = list(dict.fromkeys(to_bytes(word) for word in keep_words))
    ids = [table.words.find(word) for word in words]
    missing = [word.decode("utf-8", "replace") for word, index in zip(words, ids) if index < 0]
    if missing:
        warnings.append(f"{len(missing):,} of {len(words):,} words to keep are not in the source: "
                        f"{', '.join(missing[:10])}{', ...' if len(missing) > 10 else ''}")
    return np.array([index for index in ids if index >= 0], dtype=np.int64)


def _weights(
    table: SourceTable, counts: Counts, steps: Sequence[Step],
    warnings: list[str],
) -> tuple[DoubleArray | None, dict[str, object] | None]:
    """Return weights of the words, or None, and where they are from; warn where the words' order says nothing."""
    if counts is None:
        if any(step.weighs for step in steps) and looks_alphabetical(table.words):
            warnings.append("the words come in alphabetical order, which does not say how frequent they are: "
                            "give a file of counts (--counts FILE)")
        return None, None
    source: dict[str, object] = {"name": "a mapping"}
    if not isinstance(counts, Mapping):
        read, where = read_counts(counts)
        weights, missing = weights_of(table.words, read)
        source.update(where)
    else:
        weights, missing = weights_of(table.words, counts)
    if missing:
        warnings.append(f"{missing:,} of {len(weights):,} words have no count, and count as 1")
    return weights, source


def _verify(path: str, stored: Shrunk, words: Words, progress: Progress) -> None:
    """Reopen what was written, check all of it, and compare some rows with memory, bit for bit."""
    progress("writing", 1, 1)
    progress("verifying", 0, 1)

    def report(stage: str, done: int, total: int | None, /) -> None:
        progress("verifying", done, total)

    with open_file(path, VectorTable, verify="full", sparing=True, progress=report) as table:
        count = stored.row_map.count
        rows = np.unique(np.linspace(0, count - 1, min(CHECKED_ROWS, count)).astype(np.int64))
        same = table.words.equals(words.raw) and all(  # a few at a time: their codes lie far apart
            np.array_equal(table.decode_rows(some), stored.decode(some)) for some in np.array_split(rows, CHECKS))
        if not same:
            raise ShapeError("the file does not read back as it was written", path=path,
                             hint="This is a fault of embshrink or of the machine's memory; please report it.")
    progress("verifying", 1, 1)
