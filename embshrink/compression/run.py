"""The main job: read, shrink, write, verify, and say what was lost."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import json
import math
import os
import time
from dataclasses import dataclass, field

import numpy as np

import embshrink
from embshrink.compression.ngrams import NgramTable, of_file, of_model, unseen_cosine
from embshrink.embeddings.word_vectors import WordVectors
from embshrink.errors import ShapeError, SourceError, StepError
from embshrink.methods import pipeline, registry
from embshrink.methods.row_map import RowMap
from embshrink.numerics.arrays import unit_rows
from embshrink.numerics.progress import no_progress
from embshrink.reader import Embeddings, as_embeddings, load
from embshrink.storage.atomic import atomic_write, check_target
from embshrink.storage.container import plan_container, write_container
from embshrink.storage.disk_rows import SHARE, Spool, peak_memory
from embshrink.vocabulary.ngram_hashing import hashing_header
from embshrink.vocabulary.ngram_rows import encode_ids, plan_ids
from embshrink.vocabulary.words import Words, encode_plain, plan_plain, to_bytes

CHECKED_ROWS, CHECKS = 1000, 16
VOCABULARIES = ("auto", "packed", "plain")
MANY_WORDS = 10_000  # from which on "auto" packs them: fewer are no great part of a file, and faster plain
BOUNDED = ("text", "word2vec-text", "word2vec", "fasttext", "ems")  # formats that need not be read into memory
MODELS = ("fasttext", "finalfusion", "navec")  # formats that may hold n-grams beside words, or words as codes


@dataclass
class Table:
    """Word vectors ready to be shrunk: words, rows, and the map between them where rows are shared.

    Parameters
    ----------
    words : Words or PlainWords
    matrix : numpy.ndarray or embshrink.storage.disk_rows.Rows, shape (rows, d), float32
    row_map : RowMap
    source : dict
        Provenance for the header.
    warnings : list of str
        What reading noticed.
    embeddings : Embeddings
        The same vectors, to compare with.
    ngrams : embshrink.vocabulary.ngram_rows.NgramTable, optional
        What vectors of unseen words are made of, if the source has it.
    stored : embshrink.methods.pipeline.Stored, optional
        The same vectors as the source has them, where that is as codes that a file of ours holds as they are.
    """

    words: object
    matrix: np.ndarray
    row_map: RowMap
    source: dict
    warnings: list
    embeddings: Embeddings
    ngrams: object = None
    stored: pipeline.Stored | None = None


def open_table(source, options=None, *, ngrams=True, progress=no_progress):
    """Read what is to be shrunk.

    Parameters
    ----------
    source : str, os.PathLike or WordVectors
        Any file `embshrink.read_vectors` reads. An ``.ems`` file keeps its row map: words that share a row
        go on sharing it, and only the stored rows are decoded.
    options : embshrink.ReadOptions, optional
    ngrams : bool
        Keep the n-grams of a fastText model, also of one in a finalfusion file; its words' vectors are finished ones
        either way. With ``limit`` they are not kept. A floret table has nothing else.
    progress : callable

    Returns
    -------
    Table

    Raises
    ------
    SourceError
        If it cannot be read, or nothing of it would be left.
    """
    table = _read_table(source, options, ngrams, progress)
    if not len(table.words) and table.ngrams is None:
        raise SourceError("there are no vectors in it", path=table.source.get("name"),
                          hint="If it holds n-grams alone, as a floret table, keep those.")
    return table


def _read_table(source, options, ngrams, progress):
    kept = stored = None
    if not isinstance(source, WordVectors):
        from embshrink.formats import ReadOptions, open_identified, read_stream

        options = options or ReadOptions()
        with open_identified(source, options) as (stream, name):
            if name == "ems" and stream.file_path is not None and not stream.packed:
                return _open_ems(stream, ngrams, options.spool)
            if name not in BOUNDED and options.spool is not None:
                _refuse_large(stream, name, options.spool)
            if name in ("floret", "spacy"):
                return _open_floret_or_spacy(stream, name, options, ngrams, progress)
            if name in MODELS:
                source, kept, stored = _read_model(stream, name, options, ngrams, progress)
            else:
                source = read_stream(stream, name, options, progress)
    return Table(source.words, source.matrix, RowMap.identity(len(source)), source.source, source.warnings,
                 as_embeddings(source), kept, stored)


def _refuse_large(stream, name, spool):
    """Refuse a file that is read whole, whatever may be in memory, if that is too little."""
    size = getattr(stream, "content_size", None)
    if size is None or not spool.fits(size):
        raise SourceError(f"a file of the format {name} is read into memory whole", path=stream.path,
                          expected=f"at most {spool.limit // SHARE} bytes", found=size,
                          hint="Allow more memory, or turn it into a word2vec file first, elsewhere.")


def _read_model(stream, name, options, ngrams, progress):
    """Return a model's words as `WordVectors`; its n-grams and its words as codes, or None where it has none."""
    from embshrink.formats import FORMATS, as_vectors

    module = importlib.import_module(FORMATS[name][0])
    model = module.load_model(stream, options, progress)
    kept = None  # first: finishing the words uses the model up
    if ngrams and model.has_ngrams and options.limit is None:
        kept = of_model(model, options.spool)
    found = module.finished_words(model, stream, options, progress, ngrams_kept=kept is not None)
    vectors, stored = as_vectors(stream, name, *found), None
    if model.codes is not None:
        ids = {word: row for row, word in reversed(list(enumerate(model.words.raw)))}
        stored = _as_stored(model.codes.take(np.array([ids[word] for word in vectors.words.raw], np.int64)))
        if stored is None:
            vectors.warnings.append("its codes cannot be kept as they are, for a norm is out of float16's range")
        if kept is not None:
            kept.stored = _as_stored(model.codes.take(kept.ids + len(model.words)))
    return vectors, kept, stored


def _as_stored(codes):
    """Return codes of another program as a file of ours holds them; None if that cannot say their norms."""
    step, state, parts = codes.as_pq()
    row_map = RowMap.identity(len(codes))
    if codes.norms is not None:
        with np.errstate(over="ignore"):
            scale = codes.norms.astype(np.float16).astype(np.float32)
        if not (np.abs(scale - codes.norms) <= np.abs(codes.norms) / 1024).all():
            return None
        if (scale != 1).any():
            row_map.scale = scale
    return pipeline.Stored([step], codes.dim, row_map, [], step, state, parts)


def _as_it_is(emb):
    """Return what an open file keeps of its vectors, to be written anew."""
    rows = np.arange(len(emb)) if emb.row_map is None else emb.row_map.astype(np.int64)
    codes = {name: np.asarray(part) for name, part in emb.stored.codes.items()}
    return dataclasses.replace(emb.stored, row_map=RowMap(rows, emb.n_rows, emb.owners(), emb.scale), codes=codes)


def _open_floret_or_spacy(stream, name, options, ngrams, progress):
    """Return a table whose words share rows, or one without words, whose rows are all n-grams'."""
    from embshrink.formats import floret, spacy

    found = (floret if name == "floret" else spacy).load_table(stream, options, progress)
    source = stream.provenance(name)
    if isinstance(found, floret.FloretTable):
        kept = NgramTable(found.hashing, found.ids, found.matrix, np.ones(len(found.ids)), "zero") if ngrams else None
        matrix = np.empty((0, found.matrix.shape[1]), np.float32)
        words, row_map = Words([]), RowMap.identity(0)
    else:
        kept, words, matrix = None, Words(found.words), found.matrix
        _, owners = np.unique(found.rows, return_index=True)
        row_map = RowMap(found.rows, len(matrix), owners)
    emb = Embeddings(words, matrix.__getitem__, matrix.shape[1], row_map, len(matrix))
    return Table(words, matrix, row_map, source, [*stream.warnings, *found.warnings], emb, kept)


def _open_ems(stream, ngrams, spool=None):
    emb = load(stream.file_path, verify="full")
    emb.sparing = spool is not None
    stored = _as_it_is(emb)
    shape = emb.n_rows, emb.vector_size
    matrix = np.empty(shape, np.float32) if spool is None else spool.empty(shape)
    for start, block in emb.row_blocks():
        matrix[start : start + len(block)] = block
    info = emb.info()
    source = {**stream.provenance("ems"), **{key: info[key] for key in ("steps", "seed", "source", "writer")}}
    kept = of_file(emb.subwords) if ngrams and emb.subwords is not None else None
    if kept is not None:
        kept.stored = _as_it_is(emb.subwords.rows)
    return Table(emb.words, matrix, stored.row_map, source, [], emb, kept, stored)


@dataclass
class Report:
    """What `compress` did, and what was lost.

    Attributes
    ----------
    target : str
    steps : list of str
        As they ran, every choice filled in.
    words, rows, dim : int
    dropped : int
        Words of the source that are no longer there.
    source_bytes, target_bytes : int
        Whole files; the source as it was given.
    parts : dict of str to int
        Where the target's bytes go.
    bits_per_word : float
        For the vectors, every table counted; words not counted.
    loss : dict or None
        ``relative_error``, ``mean_cosine``, ``cosine_p1``, ``overlap_at_10`` against the source; with n-grams
        ``unseen_cosine``, of vectors made from spelling alone.
    seconds : dict of str to float
    warnings : list of str
    notes : dict
        What the steps found on the way, such as the isotropy before and after `iiq`.
    peak_memory : int or None
        The most bytes of memory the process had held by then, libraries included; None if not on Linux.
    """

    target: str
    steps: list
    words: int
    rows: int
    dim: int
    dropped: int
    source_bytes: int | None
    target_bytes: int
    parts: dict
    bits_per_word: float
    loss: dict | None = None
    seconds: dict = field(default_factory=dict)
    warnings: list = field(default_factory=list)
    notes: dict = field(default_factory=dict)
    peak_memory: int | None = None

    @property
    def ratio(self):
        """Source bytes / whole output file, words included."""
        return self.source_bytes / self.target_bytes if self.source_bytes else None

    def as_dict(self):
        """Return everything as a JSON-able dict."""
        return {**dataclasses.asdict(self), "ratio": self.ratio}


def compress(source, target, steps, *, seed=0, bits=None, size=None, max_error=None, min_cosine=None,
             min_overlap=None, counts=None, keep_words=(), remap=None, ngrams="same", vocabulary="auto",
             keep_order=False, choose=False, max_memory=None, force=False, options=None, measure=True,
             progress=no_progress):
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
    from embshrink.compression.rate_control import Aim, meet
    from embshrink.formats import ReadOptions

    steps = registry.as_steps(steps)
    aim = Aim.one_of(bits=bits, size=size, max_error=max_error, min_cosine=min_cosine, min_overlap=min_overlap)
    if vocabulary not in VOCABULARIES:
        raise StepError(f"words cannot be stored as {vocabulary!r}", expected=" or ".join(VOCABULARIES))
    check_target(target, force)
    if remap is not None:
        check_target(remap, force)
    if max_memory is not None:
        folder = os.path.dirname(os.path.realpath(target))
        options = dataclasses.replace(options or ReadOptions(), spool=Spool(max_memory, folder))
    clock = _Clock()
    table = open_table(source, options, ngrams=ngrams != "drop", progress=progress)
    clock.lap("read")
    warnings = list(table.warnings)
    if not len(table.words) and any(step.axis == "rows" for step in steps):
        warnings.append("row steps are left out: there are no words, only n-grams, and those keep their rows")
    job = Job(table, seed, ngrams, vocabulary, keep_order, progress)
    job.protected = _protected_ids(table, keep_words, warnings)
    job.weights, job.counts_source = _weights(table, counts, steps, warnings)
    made = job.run(steps) if aim is None else meet(aim, steps, job, choose)
    clock.lap("shrink")
    if remap is not None and made.full_map.owners is None:
        raise StepError("there is no remap to report: centroids belong to no word",
                        hint="A remap comes from prune or dedupe without kmeans.")
    total = write_container(target, made.header, made.sections, force=force,
                            check=functools.partial(_verify, stored=made.stored, words=made.words))
    clock.lap("write and verify")
    if remap is not None:
        write_remap(remap, table, made.full_map, force=force)
    header, notes, ids = made.header, made.notes, made.ids
    del made  # its codes are in the file now
    emb = load(target)
    emb.sparing = max_memory is not None
    common = (np.argsort(ids), np.sort(ids)) if len(ids) else None
    loss = measure_loss(*_compared(emb, table), common=common, progress=progress) if measure else None
    if measure and table.ngrams is not None:
        loss["unseen_cosine"] = unseen_cosine(table.ngrams, emb.subwords, table.words)
    clock.lap("measure")
    info = emb.info()
    emb.close()
    peak = peak_memory()
    if max_memory is not None and peak is not None and peak > max_memory:
        warnings.append(f"the process took up to {peak:,} bytes of memory, more than the {max_memory:,} allowed")
    return Report(
        target=os.fspath(target), steps=(header if len(ids) else header["subwords"])["steps"], words=len(ids),
        rows=header["rows"], dim=header["dim"], dropped=len(table.words) - len(ids),
        source_bytes=table.source.get("size"), target_bytes=total,
        parts=group_parts(info["sections"], total), bits_per_word=info["bits_per_word"], loss=loss,
        seconds=clock.laps, warnings=warnings, notes=notes, peak_memory=peak,
    )


@dataclass
class Made:
    """What a run of steps made, ready to be written.

    Parameters
    ----------
    stored : pipeline.Stored
    full_map : RowMap
        Over all words of the source.
    words : Words
        As they are stored.
    ids : numpy.ndarray, shape (len(words),), int64
        The id that each of them has in the source.
    header, sections : dict
        Of the container.
    notes : dict
    """

    stored: pipeline.Stored
    full_map: RowMap
    words: Words
    ids: np.ndarray
    header: dict
    sections: dict
    notes: dict

    @property
    def nbytes(self):
        """Bytes of the whole file."""
        return plan_container(self.header, {name: (part.dtype, part.shape)
                                            for name, part in self.sections.items()})[0]

    @property
    def bits_per_word(self):
        """Bits a word of the vectors, every table counted; where there are no words, an n-gram."""
        kinds = ("map.", "columns.", "state.", "codes.")
        if not len(self.words):
            kinds = tuple(f"ngrams.{kind}" for kind in kinds)
        taken = sum(part.nbytes for name, part in self.sections.items() if name.startswith(kinds))
        return 8 * taken / max(len(self.words) or self.header["subwords"]["present"], 1)

    @property
    def embeddings(self):
        """The words and their vectors as a reader of the file would see them."""
        stored = self.stored
        row_map = None if stored.row_map.is_identity else stored.row_map
        return Embeddings(self.words, stored.decode, stored.dim, row_map, stored.row_map.count,
                          owned=stored.row_map.owners is not None)


class Job:
    """A table, and all that steps are run with.

    Parameters
    ----------
    table : Table
    seed : int
    ngrams, vocabulary, keep_order, progress
        As for `compress`.
    """

    def __init__(self, table, seed=0, ngrams="same", vocabulary="auto", keep_order=False, progress=no_progress):
        self.table, self.seed, self.ngrams, self.progress = table, seed, ngrams, progress
        self.vocabulary, self.keep_order = vocabulary, keep_order
        self.protected, self.weights, self.counts_source = (), None, None
        self._laid_out = None

    def lay_out(self, kept, movable=True):
        """Return (the order in which words are stored, how, and their sections), for the ids of those that are left.

        Where rows cannot be moved with their words, their order is kept.
        """
        if self._laid_out is None or not np.array_equal(self._laid_out[0], kept):
            table = self.table
            words = table.words if len(kept) == len(table.words) else table.words.take(kept)
            order, name, sections = np.arange(len(words)), "plain", None
            if self.vocabulary == "packed" or (self.vocabulary == "auto" and len(words) >= MANY_WORDS):
                from embshrink.vocabulary.packed import encode_packed

                name, (order, sections) = "packed", encode_packed(words, self.keep_order)
                if not movable and not np.array_equal(order, np.arange(len(order))):
                    order, sections = encode_packed(words, keep_order=True)
            raw = words.raw
            plain = plan_plain(len(words), sum(map(len, raw)), max(map(len, raw), default=0))
            if sections is None or sum(part.nbytes for part in sections.values()) > planned_bytes(plain):
                order, name, sections = np.arange(len(words)), "plain", encode_plain(words)
            self._laid_out = kept, (kept[order], name, sections)
        return self._laid_out[1]

    def run(self, steps):
        """Return what steps make of the table, as `Made`."""
        table, notes = self.table, {}
        own = _word_steps(table, steps)
        as_it_is = not own and table.stored is not None
        stored, full_map = _shrink(
            table, own, row_map=table.row_map, weights=self.weights, protected=self.protected, seed=self.seed,
            progress=self.progress, notes=notes, order_words=lambda kept: self.lay_out(kept)[0])
        ids, name, sections = self.lay_out(np.flatnonzero(full_map.rows >= 0), movable=not as_it_is)
        words = table.words.take(ids)
        header = _header(table, stored.steps, self.seed, len(words), stored.row_map.count,
                         stored.row_map.owners is not None, self.protected, name)
        if self.counts_source:
            header["counts"] = self.counts_source
        sections = {**{f"words.{name}": part for name, part in sections.items()}, **stored.sections()}
        if table.ngrams is not None:
            header["subwords"], parts = _shrink_ngrams(*_ngram_steps(table, steps, self.ngrams), self.seed,
                                                       self.progress)
            sections.update(parts)
        return Made(stored, full_map, words, ids, header, sections, notes)

    def sample(self, count):
        """Return a job of so many words at even distances, without n-grams."""
        table = self.table
        ids = np.unique(np.linspace(0, len(table.words) - 1, count).astype(np.int64))
        part = WordVectors.checked(table.words.take(ids), table.embeddings.decode_ids(ids), {}, [])
        job = Job(open_table(part), self.seed, "drop", "plain")
        job.weights = None if self.weights is None else self.weights[ids]
        return job

    def loss(self, made):
        """Return what was lost, as `measure_loss`."""
        common = np.argsort(made.ids), np.sort(made.ids)
        return measure_loss(made.embeddings, self.table.embeddings, common=common, progress=self.progress)


def planned_bytes(plan):
    """Return the bytes of planned sections, without padding."""
    return sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in plan.values())


def _shrink(table, steps, **how):
    """Run steps over a table of words or n-grams as `pipeline.shrink`; without any, keep what the source has."""
    if not steps and table.stored is not None:
        return table.stored, table.stored.row_map
    return pipeline.shrink(table.matrix, steps, **how)


def _plan(table, n, steps, row_map=None):
    """Return what `_shrink` would make of a table for n words or n-grams, without any work."""
    if steps or table.stored is None:
        return pipeline.plan(n, table.matrix.shape[1], steps, row_map=row_map)
    stored = table.stored
    sections = {name: (part.dtype, part.shape) for name, part in stored.sections().items()}
    row_map = stored.row_map
    return pipeline.Planned(stored.steps, row_map.count, stored.dim, row_map.owners is not None, sections)


class _Clock:
    def __init__(self):
        self.laps = {}
        self._last = time.perf_counter()

    def lap(self, name):
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 3)
        self._last = now


def _protected_ids(table, keep_words, warnings):
    keep_words = list(dict.fromkeys(to_bytes(word) for word in keep_words))
    ids = [table.words.find(word) for word in keep_words]
    missing = [word.decode("utf-8", "replace") for word, index in zip(keep_words, ids) if index < 0]
    if missing:
        warnings.append(f"{len(missing):,} of {len(keep_words):,} words to keep are not in the source: "
                        f"{', '.join(missing[:10])}{', ...' if len(missing) > 10 else ''}")
    return np.array([index for index in ids if index >= 0], dtype=np.int64)


def _word_steps(table, steps):
    """Return the steps for words: none where there are only n-grams, which have steps of their own."""
    return steps if len(table.words) else []


def _ngram_steps(table, steps, ngrams):
    """Return (the n-grams that are kept, the steps for their rows)."""
    if ngrams == "same":
        return table.ngrams, [step for step in steps if step.axis != "rows"]
    steps, kept = registry.as_steps(ngrams), table.ngrams
    if steps and registry.name_of(steps[0]) == "prune":
        kept = kept.most_useful(steps[0].resolve(*kept.matrix.shape).keep)
        steps = steps[1:]
    return kept, steps


def _shrink_ngrams(table, steps, seed, progress):
    """Return the header's account of the n-grams, and their sections."""
    weights = np.maximum(table.uses, 1)
    stored, _ = _shrink(table, steps, weights=weights, seed=seed,
                        progress=lambda stage, done, total: progress(f"n-grams: {stage}", done, total))
    parts = {**encode_ids(table.ids, table.hashing.bucket), **stored.sections()}
    header = _subwords_header(table, stored.steps, stored.row_map.count, stored.row_map.owners is not None)
    return header, {f"ngrams.{name}": part for name, part in parts.items()}


def _subwords_header(table, steps, rows, owned):
    return {**hashing_header(table.hashing), "present": len(table.ids), "missing": table.missing, "rows": rows,
            "owned": owned, "steps": [registry.format(step) for step in steps]}


def _weights(table, counts, steps, warnings):
    """Return (weights of the words or None, where they are from), and warn where the order says nothing."""
    from embshrink.compression.counts import looks_alphabetical, read_counts, weights_of

    if counts is None:
        if any(step.weighs for step in steps) and looks_alphabetical(table.words):
            warnings.append("the words come in alphabetical order, which does not say how frequent they are: "
                            "give a file of counts (--counts FILE)")
        return None, None
    source = {"name": "a mapping"}
    if not hasattr(counts, "items"):
        counts, source = read_counts(counts)
    weights, missing = weights_of(table.words, counts)
    if missing:
        warnings.append(f"{missing:,} of {len(weights):,} words have no count, and count as 1")
    return weights, source


def _header(table, steps, seed, n, rows, owned, protected, vocabulary):
    header = {
        "dim": table.matrix.shape[1], "words": n, "rows": rows, "owned": owned,
        "vocabulary": vocabulary, "steps": [registry.format(step) for step in steps], "seed": seed,
        "source": table.source, "writer": f"embshrink {embshrink.__version__}",
    }
    if len(protected):
        header["protected"] = {"words": len(protected),
                               "sha256": hashlib.sha256(np.sort(protected).astype("<u8").tobytes()).hexdigest()}
    return header


def _verify(path, stored, words):
    """Reopen what was written, check all of it, and compare some rows with memory, bit for bit."""
    with load(path, verify="full") as emb:
        emb.sparing = True
        count = stored.row_map.count
        rows = np.unique(np.linspace(0, count - 1, min(CHECKED_ROWS, count)).astype(np.int64))
        same = emb.words.equals(words.raw) and all(  # a few at a time: their codes lie far apart
            np.array_equal(emb.decode_rows(some), stored.decode(some)) for some in np.array_split(rows, CHECKS))
        if not same:
            raise ShapeError("the file does not read back as it was written", path=path,
                             hint="This is a fault of embshrink or of the machine's memory; please report it.")


def plan_file(job, steps):
    """Return what the file would take, without any work but laying out the words.

    Parameters
    ----------
    job : Job
    steps : list of str or step

    Returns
    -------
    steps : list of str
        Every choice filled in.
    total : int
        Bytes of the whole file. Steps that may drop or merge words or rows (`dedupe`, and `prune` with
        `min_similarity`) can come out smaller.
    parts : dict of str to int
        Bytes of each section, padding included.
    bits_per_word : float
    """
    table, n = job.table, len(job.table.words)
    planned = _plan(table, n, _word_steps(table, registry.as_steps(steps)), table.row_map)
    shown = planned.steps
    _, name, words = job.lay_out(np.arange(n))
    words = {f"words.{name}": (part.dtype, part.shape) for name, part in words.items()}
    sections = {**words, **planned.sections}
    header = _header(table, planned.steps, job.seed, n, planned.rows, planned.owned, (), name)
    if table.ngrams is not None:
        kept, own = _ngram_steps(table, registry.as_steps(steps), job.ngrams)
        own = _plan(kept, len(kept.ids), own)
        shown = shown if n else own.steps
        header["subwords"] = _subwords_header(kept, own.steps, own.rows, own.owned)
        parts = {**plan_ids(kept.hashing.bucket), **own.sections}
        sections.update({f"ngrams.{name}": part for name, part in parts.items()})
    total, parts = plan_container(header, sections)
    return [registry.format(step) for step in shown], total, parts, 8 * planned.nbytes / n if n else 0.0


def group_parts(sections, total):
    """Return where a file's bytes go, in the kinds a person asks for."""
    kinds = {"words": 0, "row map": 0, "codebooks": 0, "codes": 0}
    prefix = {"words": "words", "map": "row map", "columns": "codebooks", "state": "codebooks", "codes": "codes",
              "ngrams": "n-grams"}
    for name, size in sections.items():
        kind = prefix.get(name.split(".")[0], "other")
        kinds[kind] = kinds.get(kind, 0) + size
    return {**kinds, "header, checksums, padding": total - sum(kinds.values())}


def _compared(emb, table):
    """Return what to compare, after and before: words, or where there are none the rows of n-grams by bucket."""
    if len(table.words):
        return emb, table.embeddings
    return [Embeddings(Words(map(str, ids.tolist())), decode, emb.vector_size, None, len(ids)) for ids, decode in (
        (emb.subwords.ids(), emb.subwords.rows.decode_ids), (table.ngrams.ids, table.ngrams.matrix.__getitem__))]


def measure_loss(emb, baseline, *, queries=500, common=None, progress=no_progress):
    """Return what was lost between two tables over their common words, as a dict.

    Parameters
    ----------
    emb, baseline : Embeddings
    queries : int
        How many words the neighbour overlap is averaged over.
    common : tuple of numpy.ndarray, optional
        As for `embshrink.evaluation.run.reconstruction`.
    """
    from embshrink.evaluation import run as evaluation

    progress("measuring", 0, 2)
    reconstruction = evaluation.reconstruction(emb, baseline, common=common)
    progress("measuring", 1, 2)
    overlap = None  # a single word has no neighbours
    if reconstruction.words > 1:
        overlap = evaluation.neighbour_overlap(emb, baseline, queries=queries, common=common).overlap
    progress("measuring", 2, 2)
    return {
        "relative_error": reconstruction.relative_error, "mean_cosine": reconstruction.mean_cosine,
        "cosine_p1": reconstruction.cosine_p1, "overlap_at_10": overlap,
    }


def write_remap(path, table, full_map, *, force=False):
    """Write which words lost their own vector, whose they answer with, and how near that is.

    Parameters
    ----------
    path : str or os.PathLike
        JSON (a list of objects) if it ends in ``.json``; else tab-separated with a header line. Tabs, line ends and
        backslashes inside words are escaped there as in JSON.
    table : Table
    full_map : RowMap
        Over all words of the table, with owners.
    force : bool
    """
    moved = np.flatnonzero(full_map.rows != np.arange(len(full_map.rows)))
    moved = moved[(full_map.rows[moved] < 0) | (full_map.owners[np.maximum(full_map.rows[moved], 0)] != moved)]
    entries = []
    for start in range(0, len(moved), 65_536):
        ids = moved[start : start + 65_536]
        rows = full_map.rows[ids]
        gone = rows < 0
        owners = full_map.owners[np.maximum(rows, 0)]
        own = unit_rows(table.embeddings.decode_ids(ids))
        cosines = np.einsum("ij,ij->i", own, unit_rows(table.embeddings.decode_ids(owners)))
        names = zip(ids.tolist(), owners.tolist(), cosines.tolist(), gone.tolist())
        for index, owner, cosine, dropped in names:
            entries.append((table.words[index], None if dropped else table.words[owner],
                            None if dropped else round(min(1.0, max(-1.0, cosine)), 6)))
    with atomic_write(path, force=force) as file:
        if os.fspath(path).endswith(".json"):
            listed = [dict(zip(("word", "kept", "similarity"), entry)) for entry in entries]
            file.write(json.dumps(listed, indent=0).encode("ascii"))
        else:
            file.write(b"word\tkept\tsimilarity\n")
            for word, kept, cosine in entries:
                line = f"{_tsv(word)}\t{_tsv(kept or '')}\t{'' if cosine is None else format(cosine, '.6f')}\n"
                file.write(line.encode("utf-8", "surrogateescape"))


def _tsv(text):
    for plain, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(plain, escaped)
    return text
