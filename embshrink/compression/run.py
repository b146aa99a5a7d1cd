"""The main functions: read a source, run steps, write and verify a file, measure the loss; or plan all of this."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, TypeAlias, TypedDict

import numpy as np

from embshrink.compression.counts import looks_alphabetical, read_counts, weights_of
from embshrink.compression.default import DEFAULT, Outcome, plan_default, run_default
from embshrink.compression.job import Job, Made, PlannedFile
from embshrink.compression.ngrams import unseen_cosine
from embshrink.compression.rate_control import Aim, meet
from embshrink.compression.report import Loss, Report, group_parts, measure_loss, write_remap
from embshrink.compression.source import Source, SourceTable, open_table
from embshrink.compression.suggestions import suggest
from embshrink.embeddings.file import open_file
from embshrink.embeddings.table import VectorTable
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
from embshrink.storage.paths import check_distinct
from embshrink.vocabulary.id_order import APPROXIMATE, EXACT
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
    """Settings that `prune` and `quantize` pass on to `compress`, which documents them."""

    seed: int
    counts: Counts
    keep_words: Iterable[str | bytes]
    remap: str | os.PathLike[str] | None
    ngrams: Steps
    vocabulary: str
    order: str
    keep_order: bool
    max_memory: int | None
    force: bool
    options: ReadOptions | None
    measure: bool
    progress: Progress


class Aims(Settings, total=False):
    """The settings, and the aims, of which at most one can be given."""

    bits: float | None
    size: int | str | None
    max_error: float | None
    min_cosine: float | None
    min_overlap: float | None


def default_target(source: Source) -> str:
    """Return the default target of a source: its path with the ending ``.ems``.

    Raises
    ------
    TargetError
        If the source is not a path, or the target would be the source itself.
    """
    if not isinstance(source, (str, os.PathLike)) or source == "-":
        raise TargetError("a source that is not a path has no default target", hint="Pass the path of a target.")
    base = os.fspath(source)
    for ending in COMPRESSED:
        base = base.removesuffix(ending)
    target = os.path.splitext(base)[0] + ".ems"
    if os.path.abspath(target) == os.path.abspath(source):
        raise TargetError("the default target is the source itself", path=target,
                          hint="Pass the path of another target.")
    return target


def prune(
    source: Source, target: str | os.PathLike[str] | None = None, *, keep: int | None = None,
    min_similarity: float = -1.0, norms: bool = True, select: str = "frequency", weighted: bool = False,
    **settings: Unpack[Settings],
) -> Report:
    """Keep the vectors of some words; every other word shares the nearest vector that is kept.

    Parameters
    ----------
    source : str, os.PathLike, WordVectors, KeyedVectors, dict, DataFrame or tuple
        As for `compress`.
    target : str or os.PathLike, optional
        The ``.ems`` file to write. The path of `source` with the ending ``.ems`` by default.
    keep : int, optional
        Number of vectors to keep. A tenth of the words, at least 20,000, by default.
    min_similarity : float, default -1.0
        Drop a word from the vocabulary if its vector is removed and the cosine to the nearest kept vector is lower.
        The default drops no word.
    norms : bool, default True
        Keep the length of each word's own vector, in 2 bytes per word. The step ``prune`` of `compress` does so only
        with ``norms=true``.
    select : {"frequency", "facility"}, default "frequency"
        Which vectors to keep: those of the most frequent words, or those that represent all words best (facility
        location).
    weighted : bool, default False
        Weight words by frequency; only with ``select="facility"``.
    **settings
        Any keyword of `compress` except the aims and `choose`.

    Returns
    -------
    Report
        What was written, and what was lost.

    Raises
    ------
    SourceError, StepError, ShapeError, TargetError
        As for `compress`. StepError also if a parameter is out of range.

    Examples
    --------
    >>> import embshrink, os, tempfile
    >>> vectors = embshrink.WordVectors(["good", "bad", "great"], [[1.0, 0.1], [-1.0, 0.2], [2.0, 0.3]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = embshrink.prune(vectors, os.path.join(folder, "small.ems"), keep=2)
    ...     with embshrink.load(report.target) as emb:
    ...         emb.alias_of("great")
    'good'
    """
    step = registry.make("prune", keep=keep, min_similarity=min_similarity, norms=norms, select=select,
                         weighted=weighted)
    return compress(source, default_target(source) if target is None else target, [step], **settings)


def quantize(
    source: Source, target: str | os.PathLike[str] | None = None, *, method: str | None = None,
    parameters: Mapping[str, object] | Iterable[str] | None = None, **settings: Unpack[Aims],
) -> Report:
    """Store vectors in fewer bits: as few as keep 8 of 10 nearest neighbours, or as an aim allows.

    Parameters
    ----------
    source : str, os.PathLike, WordVectors, KeyedVectors, dict, DataFrame or tuple
        As for `compress`.
    target : str or os.PathLike, optional
        The ``.ems`` file to write. The path of `source` with the ending ``.ems`` by default.
    method : str, optional
        A bits method, with its own defaults; `embshrink.list_methods` lists them. Without `method` and `parameters`,
        the same as `compress` without steps.
    parameters : mapping of str to object, str, or iterable of str, optional
        Parameters of the method, such as ``{"subspaces": 25}``, ``"subspaces=25"`` or ``["subspaces=25"]``. In a
        mapping, None stands for the default of the method.
    **settings
        Any keyword of `compress` except `choose`, such as the aims `bits`, `size`, `max_error`, `min_cosine` and
        `min_overlap`.

    Returns
    -------
    Report
        What was written, and what was lost.

    Raises
    ------
    SourceError, StepError, ShapeError, TargetError
        As for `compress`. StepError also if `method` is not a bits method.

    Examples
    --------
    >>> import embshrink, os, tempfile
    >>> vectors = embshrink.WordVectors(["good", "bad", "great"], [[1.0, 0.1], [-1.0, 0.2], [2.0, 0.3]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     target = os.path.join(folder, "small.ems")
    ...     embshrink.quantize(vectors, target, method="scalar", parameters={"bits": 4}).steps
    ['scalar:bits=4']
    """
    name, pairs, steps = method or "ecq", _pairs(parameters), None
    if registry.method(name, axis="bits").axis != "bits":
        raise StepError(f"{name} is not a bits method",
                        hint=f'Use compress(source, target, "{name}") (embshrink compress SOURCE TARGET {name}).')
    if method or pairs:
        steps = [registry.parse(f"{name}:{','.join(pairs)}" if pairs else name)]
    return compress(source, default_target(source) if target is None else target, steps, **settings)


def _pairs(parameters: Mapping[str, object] | Iterable[str] | None) -> list[str]:
    """Return the parameters of a method as strings ``key=value``."""
    if isinstance(parameters, Mapping):
        return [f"{key}={str(value).lower() if isinstance(value, bool) else value}"
                for key, value in parameters.items() if value is not None]
    return [parameters] if isinstance(parameters, str) else list(parameters or ())


def compress(  # noqa: PLR0913 - all settings of the main job, by name
    source: Source, target: str | os.PathLike[str], steps: Steps | None = None, *, lossless: bool = False,
    seed: int = 0, bits: float | None = None, size: int | str | None = None, max_error: float | None = None,
    min_cosine: float | None = None, min_overlap: float | None = None, counts: Counts = None,
    keep_words: Iterable[str | bytes] = (), remap: str | os.PathLike[str] | None = None, ngrams: Steps = "same",
    vocabulary: str = "auto", order: str = EXACT, keep_order: bool = False, choose: bool = False,
    max_memory: int | None = None, force: bool = False, options: ReadOptions | None = None, measure: bool = True,
    progress: Progress = no_progress,
) -> Report:
    """Compress word vectors to an ``.ems`` file.

    Parameters
    ----------
    source : str, os.PathLike, WordVectors, KeyedVectors, dict, DataFrame or tuple
        A path of any file that `embshrink.read_vectors` reads, or of an ``.ems`` file; ``"-"`` for standard input; or
        words and vectors in memory, as for `embshrink.as_embeddings`.
    target : str or os.PathLike
        The file to write. It appears complete and verified, or not at all.
    steps : str, step, or list of these, optional
        Row steps, then column steps, then at most one bits step, such as ``["prune:keep=50000", "pq:subspaces=25"]``;
        `embshrink.list_methods` lists them. Without steps, `ecq` writes the smallest file whose neighbour overlap@10
        is at least 0.8, or that meets the aim; see Notes. An empty list is the same as `lossless`.
    lossless : bool, default False
        Keep the vectors as they are: the codes of a finalfusion, navec or ``.ems`` file, and float32 numbers of other
        sources. Without steps and aims only.
    seed : int, default 0
        Seed of all random choices. Equal input, steps and seed give equal bytes, with any number of threads.
    bits : float, optional
        Aim: use at most this many bits per word for vectors, including all tables that decoding needs.
    size : int or str, optional
        Aim: maximum size of the output file, in bytes or as ``"6MB"``.
    max_error : float, optional
        Aim: the smallest file whose relative error is at most this, above 0 and below 1.
    min_cosine : float, optional
        Aim: the smallest file whose mean cosine is at least this, above 0 and below 1.
    min_overlap : float, optional
        Aim: the smallest file whose neighbour overlap@10 is at least this, above 0 and below 1.
    counts : str, os.PathLike or mapping of str or bytes to number, optional
        Frequency of each word: a file with ``word count`` on each line, or a mapping. By default, words are taken to
        be in order of frequency, distributed by Zipf's law.
    keep_words : iterable of str or bytes, optional
        Words that must keep their own vectors in row steps.
    remap : str or os.PathLike, optional
        Write a file that lists each word that lost its own vector, the word whose vector it shares, and their cosine:
        as JSON if the name ends in ``.json``, else tab-separated.
    ngrams : {"same", "drop"}, or str, step, or list of these, default "same"
        How to compress the n-grams of a fastText model, which make vectors of out-of-vocabulary words: with the
        column and bits steps of the words, not at all (they are dropped), or with steps of their own. A first step
        ``prune:keep=N`` keeps the N n-grams with the largest product of uses and length; the others are dropped.
    vocabulary : {"auto", "packed", "plain"}, default "auto"
        How words are stored. Packed words take about a third of the bytes of plain ones. ``"auto"`` packs 10,000
        words and more. Words are stored plain if that is smaller.
    order : {"exact", "approximate"}, default "exact"
        Whether every word keeps its id. With ``"approximate"``, packed words take about 14 bits per word less: the
        first 4,096 words keep their ids, and all others move within an eighth of an octave of ranks, so that of the
        first N words of the source at least 97 % are among the first N.
    keep_order : bool, default False
        The same as ``order="exact"``, for scripts that were written when that was not the default.
    choose : bool, default False
        With the aim `bits` or `size` and less than 0.9 bits per dimension, use `rq` if its error is smaller than that
        of the bits step. With another aim, use `cast` if it meets the aim with a smaller file.
    max_memory : int, optional
        Memory of the process in bytes, at least 256 MiB (``256 << 20``). A larger table and its codes are kept in
        temporary files in the folder of `target` and processed in blocks; the output is the same. Possible with text,
        word2vec, fastText and ``.ems`` files, and the steps `cast`, `ecq`, `pq`, `rq`, `scalar`, `iiq`,
        `magnitude:scope=row`, `rescale`, `lowrank` and `prune`.
    force : bool, default False
        Replace existing outputs.
    options : embshrink.ReadOptions, optional
        How to read the source.
    measure : bool, default True
        Measure what was lost; takes a second or more on large tables.
    progress : callable, optional
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    Report
        What was written, and what was lost.

    Raises
    ------
    SourceError
        If the source or the file of counts cannot be read, or too large a source does not fit into `max_memory`.
    StepError
        If a step is wrong, several aims are given, an aim is out of range, or an aim cannot be met. If steps or an
        aim are given with `lossless`.
    ShapeError
        If a step cannot work on the vectors.
    TargetError
        If a target exists and `force` is False, or writing fails. `SameFileError` if a target is the source, the
        file of counts or the other target.
    EmbshrinkError
        If `max_memory` is too small, or a step cannot work within it.
    TypeError
        If an argument is of a wrong type.

    Notes
    -----
    After an error, nothing is written, and an existing target is unchanged.

    At most one aim can be given; it sets the bits step, which must be the last one. Without steps, this is `ecq`, or
    with `bits` or `size` and less than 0.9 bits per dimension the one of `ecq` and `rq` with the smaller error. With
    another aim, it is float16 if that takes fewer bytes, as in some small tables.

    Without steps and aims, `ecq` takes 2 bits per dimension instead where overlap is not measured or tells little:
    with ``measure=False``, with fewer than 100 distinct vectors, and with n-grams alone. Numbers are stored as
    float16 or float32 if that takes fewer bytes, or if no `ecq` file keeps 8 of 10 neighbours. Codes of the source
    are kept if `ecq` would save less than a tenth of the file. `Report.remarks` says which of these was done.

    The relative error is ``||X - X^||^2 / ||X - mean||^2``; overlap@10 is the share of the ten nearest neighbours
    that stay the same. An aim that is not defined for the vectors is refused: an error if all of them are equal, an
    overlap if there are at most 11 distinct ones.

    Examples
    --------
    >>> import embshrink, os, tempfile
    >>> vectors = embshrink.WordVectors(["good", "bad", "great"], [[1.0, 0.1], [-1.0, 0.2], [2.0, 0.3]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = embshrink.compress(vectors, os.path.join(folder, "small.ems"), ["prune:keep=2", "cast"])
    >>> report.words, report.rows, report.dim, report.steps
    (3, 2, 2, ['prune:keep=2', 'cast'])
    """
    aim = Aim.one_of(bits=bits, size=size, max_error=max_error, min_cosine=min_cosine, min_overlap=min_overlap)
    listed = _asked_steps(steps, lossless, aim)
    if ngrams not in ("same", "drop"):
        ngrams = registry.as_steps(ngrams)
    _check_settings(seed, vocabulary, order, keep_order, counts, keep_words, max_memory)
    _check_paths(source, target, remap, counts, force)
    if max_memory is not None:
        spool = Spool(max_memory, os.path.dirname(os.path.realpath(target)))
        options = dataclasses.replace(options or ReadOptions(), spool=spool)
    clock = _Clock()
    table = open_table(source, options, ngrams=ngrams != "drop", progress=progress)
    clock.lap("read")
    warnings = list(table.warnings)
    if not len(table.words) and any(step.axis == "rows" for step in listed):
        warnings.append("row steps are not run: the source has n-grams and no words, and n-grams keep their rows. "
                        "To keep fewer n-grams, pass ngrams (--ngrams) with prune:keep=N")
    protected = _protected_ids(table, keep_words, warnings)
    weights, counts_source = _weights(table, counts, listed, warnings)
    job = Job(table, seed, ngrams, vocabulary, order, progress, protected, weights, counts_source)
    by_default = steps is None and aim is None and not lossless
    listed, made, remarks, aimed = run_default(job, measure=measure) if by_default else Outcome(
        listed, job.run(listed) if aim is None else meet(aim, listed, job, choose or steps is None), [],
        aim if steps is None else None)
    clock.lap("shrink")
    report = dataclasses.replace(_write(made, job, target, remap, force, warnings), remarks=remarks)
    _describe_source(report, source, table, options)
    _warn_if_all_kept(listed, table, made, warnings)
    clock.lap("write and verify")
    report.suggestions = suggest(job, listed, made, size=report.target_bytes, aim=aimed)
    ids, report.loss = made.ids, made.loss  # an aim has measured it, and the file was compared with it
    del made  # its codes are in the file now
    _read_back(report, job, ids, measure=measure, sparing=max_memory is not None, progress=progress)
    clock.lap("measure")
    report.seconds, report.peak_memory = clock.laps, peak_memory()
    if max_memory is not None and report.peak_memory is not None and report.peak_memory > max_memory:
        warnings.append(f"the process used up to {report.peak_memory:,} bytes of memory, more than max_memory "
                        f"(--max-memory) of {max_memory:,}; the output is complete and correct")
    return report


def _asked_steps(steps: Steps | None, lossless: bool, aim: Aim | None) -> list[Step]:
    """Return the steps to run; raise StepError if `lossless` excludes what is given."""
    if not lossless:
        return [DEFAULT] if steps is None else registry.as_steps(steps)
    listed = registry.as_steps(steps or [])
    if listed or aim is not None:
        found = aim.option if aim is not None else " ".join(map(registry.format, listed))
        raise StepError("lossless (--lossless) excludes steps and aims", found=found,
                        hint="Remove lossless, or remove the steps and the aim.")
    return listed


def _check_paths(
    source: Source, target: str | os.PathLike[str], remap: str | os.PathLike[str] | None, counts: Counts, force: bool
) -> None:
    """Raise TargetError if an output cannot be written, or would overwrite an input even with `force`."""
    check_distinct({"the target": target, "remap (--remap)": remap},
                   {"the source": source, "counts (--counts)": counts})
    for path in (target, remap):
        if path is not None:
            check_target(path, force)


def _check_settings(
    seed: object, vocabulary: object, order: object, keep_order: bool, counts: object, keep_words: object,
    max_memory: object,
) -> None:
    """Raise StepError or TypeError if a setting of `compress` has a wrong value or type, before any work."""
    if not isinstance(seed, Integral) or seed < 0:
        raise StepError(f"seed (--seed) cannot be {seed!r}", expected="a whole number of at least 0")
    if vocabulary not in VOCABULARIES:
        raise StepError(f"vocabulary (--vocabulary) cannot be {vocabulary!r}", expected=" or ".join(VOCABULARIES),
                        hint="Choose one of these.")
    if order not in (EXACT, APPROXIMATE):
        raise StepError(f"order (--order) cannot be {order!r}", expected=f"{EXACT} or {APPROXIMATE}",
                        hint="Choose one of these.")
    if keep_order and order != EXACT:
        raise StepError("keep_order (--keep-order) and order (--order) exclude each other", found=f"order={order!r}",
                        hint="Remove keep_order, or set order to 'exact'.")
    if counts is not None and not isinstance(counts, (str, os.PathLike, Mapping)):
        raise TypeError(f"counts must be a path or a mapping from words to counts, not {type(counts).__name__}")
    if isinstance(keep_words, (str, bytes)):
        raise TypeError(f"keep_words must be a list of words, not one {type(keep_words).__name__}")
    if max_memory is not None and not isinstance(max_memory, Integral):
        raise TypeError(f"max_memory must be a number of bytes, not {type(max_memory).__name__}")


def plan(
    source: Source, steps: Steps | None = None, *, seed: int = 0, options: ReadOptions | None = None,
    progress: Progress = no_progress,
) -> PlannedFile:
    """Compute the size of a file without running steps.

    Without `steps`, the size is an estimate: the default is fitted to a sample of the rows.

    Parameters
    ----------
    source : str, os.PathLike, WordVectors, KeyedVectors, dict, DataFrame or tuple
        As for `compress`. It is read.
    steps : str, step, or list of these, optional
        As for `compress`. An empty list plans a lossless file.
    seed : int, default 0
        As for `compress`.
    options : embshrink.ReadOptions, optional
        How to read the source.
    progress : callable, optional
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    PlannedFile
        Size of the file and of its sections.

    Raises
    ------
    SourceError
        If the source cannot be read.
    StepError, ShapeError
        If a step is wrong, or does not fit the number of words or dimensions.

    Examples
    --------
    >>> import embshrink
    >>> vectors = embshrink.WordVectors(["good", "bad", "great"], [[1.0, 0.1], [-1.0, 0.2], [2.0, 0.3]])
    >>> embshrink.plan(vectors, "cast").bits_per_word
    32.0
    """
    job = Job(open_table(source, options, progress=progress), seed, progress=progress)
    planned = plan_default(job) if steps is None else job.plan(steps)
    if options is not None and options.limit is not None:  # bytes of rows that were not read are no measure
        planned.source_bytes = None
    return planned


def pareto(
    source: Source, *, seed: int = 0, options: ReadOptions | None = None, progress: Progress = no_progress
) -> list[ParetoPoint]:
    """Try every bits method at several sizes on a sample of at most 20,000 words.

    Parameters
    ----------
    source : str, os.PathLike, WordVectors, KeyedVectors, dict, DataFrame or tuple
        As for `compress`.
    seed : int, default 0
        As for `compress`.
    options : embshrink.ReadOptions, optional
        How to read the source.
    progress : callable, optional
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    list of ParetoPoint
        One for each setting, the smallest file first. Those with ``best`` are the Pareto front: no other setting has
        a file as small and an error as small.

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
        raise StepError("remap (--remap) cannot be written: rows are centroids, which belong to no word",
                        hint="Use remap with prune or dedupe and without kmeans.")
    table = job.table
    job.progress("writing", 0, 1)
    check = functools.partial(_verify, stored=made.stored, words=made.words, progress=job.progress)
    write = functools.partial(write_container, target, made.header.as_dict(), made.sections, force=force, check=check)
    total = write() if remap is None else write_remap(remap, table, made.full_map, write, force=force)
    header, words = made.header, len(made.ids)
    steps = header.subwords.steps if not words and header.subwords is not None else header.steps
    return Report(target=os.fspath(target), steps=steps, words=words, rows=header.rows, dim=header.dim,
                  dropped=len(table.words) - words, source_bytes=table.source_bytes, target_bytes=total, parts={},
                  bits_per_word=0.0, warnings=warnings, notes=made.notes,
                  shared=words - header.rows if header.owned else words)


def _describe_source(report: Report, source: Source, table: SourceTable, options: ReadOptions | None) -> None:
    """Fill in what a report says of the source."""
    report.whole_source = options is None or options.limit is None
    if isinstance(source, (str, os.PathLike)):
        report.source, report.source_format = os.fspath(source), str(table.source.get("format"))


def _read_back(
    report: Report, job: Job, ids: IntArray, *, measure: bool, sparing: bool, progress: Progress
) -> None:
    """Fill in what a report says of the file that was written: what it lost, if that is asked for, and its parts."""
    with open_file(report.target, VectorTable, sparing=sparing) as written:
        report.loss = _loss(report.loss, written, job, ids, progress) if measure else None
        info = written.info()
    report.parts, report.bits_per_word = group_parts(info["sections"], report.target_bytes), info["bits_per_word"]
    if report.lossless:
        report.suggestions = [one for one in report.suggestions if one.goal == "smaller"]


def _warn_if_all_kept(steps: Sequence[Step], table: SourceTable, made: Made, warnings: list[str]) -> None:
    """Warn where prune kept the vectors of all words."""
    count = len(table.words)
    if count and len(made.ids) == made.header.rows == count and any(isinstance(step, Prune) for step in steps):
        warnings.append(f"all {count:,} words were kept, so nothing was pruned; set a smaller keep "
                        "(command line: --keep)")


def _loss(known: Loss | None, written: VectorTable, job: Job, ids: IntArray, progress: Progress) -> Loss:
    """Return the loss of the words, or of the rows of n-grams if there are no words; that of words may be known."""
    table, loss = job.table, known or {}
    if len(table.words) and not loss:
        loss = job.loss_of(written, ids)
    elif not loss and table.ngrams is not None and written.subwords is not None:
        before, after = table.ngrams, written.subwords
        loss = measure_loss(
            _by_bucket(after.ids(), after.rows.decode_ids, written.vector_size),
            _by_bucket(before.ids, before.matrix.__getitem__, written.vector_size), progress=progress)
    if table.ngrams is not None and written.subwords is not None:
        loss["unseen_cosine"] = unseen_cosine(table.ngrams, written.subwords, table.words)
    return loss


def _by_bucket(ids: IntArray, decode: Callable[[IntArray], FloatArray], dim: int) -> VectorTable:
    """Return the rows of n-grams as a table whose words are the numbers of their buckets."""
    return VectorTable(Words(map(str, ids.tolist())), decode, dim, None, len(ids))


class _Clock:
    """Measure the time of each stage, in seconds."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 3)
        self._last = now


def _protected_ids(table: SourceTable, keep_words: Iterable[str | bytes], warnings: list[str]) -> IntArray:
    words = list(dict.fromkeys(to_bytes(word) for word in keep_words))
    ids = table.words.find_all(words).tolist()
    missing = [word.decode("utf-8", "replace") for word, index in zip(words, ids) if index < 0]
    if missing:
        warnings.append(f"{len(missing):,} of {len(words):,} words in keep_words (--keep-words) are not in the "
                        f"source and have no effect: {', '.join(missing[:10])}{', ...' if len(missing) > 10 else ''}")
    return np.array([index for index in ids if index >= 0], dtype=np.int64)


def _weights(
    table: SourceTable, counts: Counts, steps: Sequence[Step],
    warnings: list[str],
) -> tuple[DoubleArray | None, dict[str, object] | None]:
    """Return weights of the words, or None, and their source; warn if words are in alphabetical order."""
    if counts is None:
        if any(step.weighs for step in steps) and looks_alphabetical(table.words):
            warnings.append(f"the {len(table.words):,} words are in alphabetical order, so the first ones are "
                            "wrongly taken to be the most frequent: pass word counts with counts (--counts FILE)")
        return None, None
    source: dict[str, object] = {"name": "a mapping"}
    if not isinstance(counts, Mapping):
        read, where = read_counts(counts)
        weights, missing = weights_of(table.words, read)
        source.update(where)
    else:
        weights, missing = weights_of(table.words, counts)
    if missing:
        warnings.append(f"{missing:,} of {len(weights):,} words have no count in counts (--counts); each is "
                        "counted as used once")
    return weights, source


def _verify(path: str, stored: Shrunk, words: Words, progress: Progress) -> None:
    """Reopen what was written, check all of it, and compare some rows with memory, bit for bit."""
    progress("writing", 1, 1)
    progress("verifying", 0, 1)

    def report(stage: str, done: int, total: int | None, /) -> None:
        progress("verifying", done, total)

    with open_file(path, VectorTable, sparing=True) as table:
        table.check(words=words, progress=report)
        count = stored.row_map.count
        rows = np.unique(np.linspace(0, count - 1, min(CHECKED_ROWS, count)).astype(np.int64))
        same = all(  # a few at a time: their codes lie far apart
            np.array_equal(table.decode_rows(some), stored.decode(some)) for some in np.array_split(rows, CHECKS))
        if not same:
            raise ShapeError("the file does not read back as it was written", path=path,
                             hint="This is a fault of embshrink or of the machine's memory; please report it.")
    progress("verifying", 1, 1)
