"""The command line: a command parses, makes one library call, and prints.

Only click is imported here at the top, so that ``--help`` is instant; everything else is imported
by the command that needs it. Data and ``--json`` go to standard output, progress and messages
to standard error. Exit codes: 0 done, 1 the operation failed, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import functools
import json
import sys

import click

from embshrink import __version__
from embshrink.errors import EmbshrinkError, StepError


class _Group(click.Group):
    """A group whose commands fail with a message instead of a traceback."""

    def list_commands(self, context):
        return list(self.commands)  # in the order of this file, which is the order of use

    def invoke(self, context):
        try:
            return super().invoke(context)
        except EmbshrinkError as error:
            _fail(str(error), error.as_dict())
        except MemoryError:
            _fail("out of memory", {"error": "MemoryError", "message": "out of memory"})
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output has left: nothing to say, and nobody to say it to
            context.exit(1)
        except OSError as error:
            _fail(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "),
                  {"error": "OSError", "message": str(error)})
        except KeyError as error:
            _fail(f"no such word: {error.args[0]}", {"error": "KeyError", "message": str(error.args[0])})
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            context.exit(130)


def _fail(message, parts):
    context = click.get_current_context()
    if context.find_root().meta.get("embshrink.json"):
        click.echo(json.dumps({"error": parts}))
    click.echo(f"Error: {message}", err=True)
    context.exit(1)


# ---------------------------------------------------------------- shared options


def _options(*options):
    """Return a decorator that applies click options in the order they are listed."""
    return lambda function: functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), function)


def _remember_json(context, parameter, value):
    context.find_root().meta["embshrink.json"] = value
    return value


def _size(context, parameter, value):
    """Parse 6MB, 500k, 1GiB or a plain number of bytes."""
    if value is None:
        return None
    import re

    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", value.lower())
    if not match:
        raise click.BadParameter(f"{value!r} is not a size; write 6MB, 500k, 1GiB or a number of bytes")
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(unit or " "))


def _format(place):
    """Return a callback that checks a format's name: 1 for those that are read, 2 for those that are written."""
    def check(context, parameter, value):
        if value is not None:
            from embshrink.formats import FORMATS

            names = [name for name, functions in FORMATS.items() if functions[place]]
            if value not in names:
                raise click.BadParameter(f"{value!r} is not one of {', '.join(names)}")
        return value

    return check


def _threads(context, parameter, value):
    if value is not None:
        from embshrink.numerics.parallel import set_threads

        set_threads(value)


json_option = click.option("--json", "as_json", is_flag=True, callback=_remember_json, is_eager=True,
                           help="Print one JSON object instead of text.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No report, no progress; warnings and errors only.")
reading_options = _options(
    click.option("--from", "format", callback=_format(1), metavar="FORMAT",
                 help="Format of SOURCE, see: embshrink formats. Found by content by default. gensim unpickles, "
                      "which runs code from the file: only load files you trust."),
    click.option("--member", help="Which file inside a .zip."),
    click.option("--header", type=click.Choice(["auto", "yes", "no"]), default="auto", show_default=True,
                 help="Whether a text file begins with its counts."),
    click.option("--limit", type=click.IntRange(1), help="Read the first so many rows only."),
    click.option("--nonfinite", type=click.Choice(["error", "drop", "zero"]), default="error", show_default=True,
                 help="What to do with rows that hold NaN or infinity."),
    click.option("--duplicates", type=click.Choice(["first", "error"]), default="first", show_default=True,
                 help="What to do with a word that comes again."),
    click.option("--skip-bad-rows", type=click.IntRange(0), default=0, show_default=True,
                 help="Pass over at most so many malformed rows."),
    click.option("--allow-truncated", is_flag=True, help="Take a file that ends before its header says."),
    click.option("--expect-rows", type=click.IntRange(0), help="Refuse a file of any other number of rows."),
    click.option("--row-newline", type=click.Choice(["auto", "yes", "no"]), default="auto", show_default=True,
                 help="Whether rows of a word2vec .bin end in a newline."),
    click.option("--strict", is_flag=True, help="Refuse what is only doubtful: rows that look too long."),
)
READING = ("format", "member", "header", "limit", "nonfinite", "duplicates", "skip_bad_rows", "allow_truncated",
           "expect_rows", "row_newline", "strict")
aims_options = _options(
    click.option("--size", callback=_size, help="The whole file at most so large: 6MB, 500k, 1GiB."),
    click.option("--bits", type=click.FloatRange(min=0, min_open=True),
                 help="At most so many bits a word for vectors, every table counted."),
    click.option("--max-error", type=click.FloatRange(0, 1, min_open=True, max_open=True),
                 help="As small as a relative error of this allows."),
    click.option("--min-cosine", type=click.FloatRange(0, 1, min_open=True, max_open=True),
                 help="As small as a mean cosine of this allows."),
    click.option("--min-overlap", type=click.FloatRange(0, 1, min_open=True, max_open=True),
                 help="As small as an overlap of the ten nearest neighbours of this allows."),
)
threads_option = click.option("--threads", type=click.IntRange(1), callback=_threads, expose_value=False,
                              help="Cores to use; all by default. The result does not depend on it.")
writing_options = _options(
    reading_options,
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
                 help="Same input, steps and seed give the same bytes."),
    click.option("--counts", type=click.Path(exists=True, dir_okay=False),
                 help="File of words and counts; without, SOURCE is taken to be sorted by frequency."),
    click.option("--keep-words", type=click.File("rb"), help="File of words, one a line, to keep as they are."),
    click.option("--ngrams", multiple=True, metavar="STEP",
                 help="A step for the n-grams of a fastText model, from which unseen words get vectors; repeatable. "
                      "prune:keep=N keeps the most useful. The column and bits steps of the words by default."),
    click.option("--no-ngrams", is_flag=True, help="Drop the n-grams: unseen words get no vector."),
    click.option("--vocabulary", type=click.Choice(["auto", "packed", "plain"]), default="auto", show_default=True,
                 help="How words are stored: packed takes a sixth, plain is faster; auto packs 10,000 and more."),
    click.option("--keep-order", is_flag=True,
                 help="Keep every word's exact rank in packed words (2 bytes a word); else its power of two."),
    click.option("--max-memory", callback=_size, metavar="SIZE",
                 help="Memory to take at most, about: 512M, 2GiB. A larger table is kept in a temporary file beside "
                      "TARGET; the result is the same."),
    click.option("--remap", type=click.Path(), help="Write which word answers with whose vector (.tsv or .json)."),
    click.option("--no-measure", is_flag=True, help="Skip measuring what was lost."),
    click.option("-f", "--force", is_flag=True, help="Replace an existing TARGET."),
    threads_option, quiet_option, json_option,
)
SOURCE = click.argument("source", type=click.Path(allow_dash=True))
FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False))


def _reading(values):
    """Take the reading options out of a command's values and return them as `ReadOptions`."""
    from embshrink.formats import ReadOptions

    return ReadOptions(**{name: values.pop(name) for name in READING})


def _target(source, target):
    """Return TARGET, by default SOURCE's name with .ems for its endings."""
    import os

    if target:
        return target
    if source == "-":
        raise click.UsageError("name a TARGET when reading standard input")
    base = source
    for ending in (".gz", ".bz2", ".xz", ".zst", ".zip"):
        base = base.removesuffix(ending)
    target = os.path.splitext(base)[0] + ".ems"
    if os.path.abspath(target) == os.path.abspath(source):
        raise click.UsageError(f"name a TARGET: {source} would be written onto itself")
    return target


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
             epilog="Shell completion: eval \"$(_EMBSHRINK_COMPLETE=bash_source embshrink)\" (or zsh_source, "
                    "fish_source) in your shell's start-up file.")
@click.version_option(__version__, prog_name="embshrink")
def cli():
    """Make word-vector files (word2vec, GloVe, fastText) small after training, and keep them useful."""


def main():
    """Run the command line."""
    cli(prog_name="embshrink")


# ---------------------------------------------------------------- shrinking


@cli.command()
@SOURCE
@click.argument("target", type=click.Path(), required=False)
@click.option("--keep", type=click.IntRange(1), help="Vectors to keep; a tenth, at least 20,000, by default.")
@click.option("--min-similarity", type=click.FloatRange(-1, 1), default=-1.0,
              help="Drop a removed word whose nearest kept word is less similar than this.")
@click.option("--norms", is_flag=True, help="Keep each word's own length (2 bytes a word).")
@click.option("--select", type=click.Choice(["frequency", "facility"]), default="frequency", show_default=True,
              help="Which words: the most frequent, or those that stand best for all (slower).")
@click.option("--weighted", is_flag=True, help="With facility: count each word by its frequency.")
@writing_options
def prune(source, target, keep, min_similarity, norms, select, weighted, **values):
    r"""Keep the vectors of the most frequent words; the others share the nearest kept one.

    SOURCE is taken to be sorted by frequency, as nearly all files are, unless --counts says otherwise. TARGET is
    SOURCE's name with .ems by default.

    \b
    embshrink prune glove.6B.50d.txt
    embshrink prune vectors.bin small.ems --keep 50000 --remap remap.tsv
    """
    from embshrink.methods import registry

    step = registry.make("prune", keep=keep, min_similarity=min_similarity, norms=norms, select=select,
                         weighted=weighted)
    _compress(source, target, [step], values)


@cli.command()
@SOURCE
@click.argument("target", type=click.Path(), required=False)
@click.option("--method", help="A bits method; see: embshrink methods. ecq by default; rq where that loses less.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A parameter of the method; repeatable.")
@aims_options
@writing_options
def quantize(source, target, method, settings, **values):
    r"""Store vectors in fewer bits: about 2 a number, or as few as an aim allows.

    \b
    embshrink quantize glove.6B.50d.txt
    embshrink quantize glove.6B.50d.txt small.ems --size 6MB
    embshrink quantize vectors.bin good.ems --min-overlap 0.8
    embshrink quantize vectors.bin --method pq --set subspaces=25 --set rotate=opq
    """
    from embshrink.methods import registry

    name = method or "ecq"
    if registry.method(name).axis != "bits":
        raise StepError(f"{name} is not a bits method", hint=f"Use: embshrink compress {source} TARGET {name}")
    step = registry.parse(f"{name}:{','.join(settings)}" if settings else name)
    _compress(source, target, [step], values, choose=method is None and not settings)


@cli.command()
@SOURCE
@click.argument("target", type=click.Path())
@click.argument("steps", nargs=-1, metavar="[STEP]...")
@aims_options
@writing_options
def compress(source, target, steps, **values):
    r"""Run any steps in order: rows, then columns, then at most one of bits.

    A STEP is name:key=value,key=value; see: embshrink methods. An aim such as --size sets the bits step. With no STEP
    nothing is lost: codes of another program's file are kept as they are, other numbers in full.

    \b
    embshrink compress glove.txt glove.ems prune:keep=50000 pq:subspaces=25,rotate=opq
    """
    _compress(source, target, list(steps), values)


def _compress(source, target, steps, values, **how):
    from embshrink.cli.console import Progress, print_report
    from embshrink.compression.run import compress

    options = _reading(values)
    target = _target(source, target)
    quiet, as_json, keep_words = values.pop("quiet"), values.pop("as_json"), values.pop("keep_words")
    words = [line.rstrip(b"\r") for line in keep_words.read().split(b"\n")] if keep_words else []
    given, drop = list(values.pop("ngrams")), values.pop("no_ngrams")
    if given and drop:
        raise click.UsageError("--ngrams and --no-ngrams exclude each other")
    with Progress(quiet) as progress:
        report = compress(source, target, steps, options=options, keep_words=[word for word in words if word],
                          measure=not values.pop("no_measure"), progress=progress,
                          ngrams="drop" if drop else given or "same", **how, **values)
    for warning in report.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        click.echo(json.dumps(report.as_dict()))
    elif not quiet:
        print_report(report)


@cli.command()
@SOURCE
@click.argument("steps", nargs=-1, metavar="[STEP]...")
@click.option("--pareto", is_flag=True, help="Try all bits methods on a sample instead, and show which are best.")
@click.option("--seed", type=click.IntRange(0), default=0)
@reading_options
@threads_option
@json_option
def plan(source, steps, pareto, seed, as_json, **values):
    r"""Say what a file would take, section by section, before any work.

    With --pareto, what each bits method would make of it at several sizes: nothing is written.

    \b
    embshrink plan glove.txt prune:keep=50000 pq:subspaces=25
    embshrink plan glove.txt --pareto
    """
    if pareto == bool(steps):
        raise click.UsageError("give either a STEP or --pareto")
    from embshrink.cli.console import Progress, print_frontier, print_plan
    from embshrink.compression.run import Job, open_table, plan_file

    with Progress(as_json) as progress:
        table = open_table(source, _reading(values), progress=progress)
        if pareto:
            from embshrink.compression.pareto import frontier

            found = frontier(Job(table, seed), progress=progress)
    if pareto:
        if as_json:
            click.echo(json.dumps([vars(one) for one in found]))
        else:
            print_frontier(found)
        return
    steps, total, parts, bits = plan_file(Job(table, seed), list(steps))
    if as_json:
        click.echo(json.dumps({"steps": steps, "bytes": total, "sections": parts, "bits_per_word": bits}))
    else:
        print_plan(steps, total, parts, bits, table.source.get("size"))


# ---------------------------------------------------------------- looking


@cli.command()
@FILE
@json_option
def info(file, as_json):
    """Say what is in an .ems file, and where its bytes go."""
    from embshrink.reader import load

    with load(file) as emb:
        info = emb.info()
    if as_json:
        click.echo(json.dumps(info))
    else:
        from embshrink.cli.console import print_info

        print_info(info)


@cli.command()
@FILE
@click.option("--quick", is_flag=True, help="Header, lengths and section table only.")
@json_option
def verify(file, quick, as_json):
    """Check an .ems file: checksums, word index, row map, and every row decoded."""
    from embshrink.cli.console import Progress
    from embshrink.reader import load

    with load(file) as emb, Progress(as_json) as progress:
        if not quick:
            emb.check(progress=progress)
        info = emb.info()
    level = "header" if quick else "full"
    if as_json:
        click.echo(json.dumps({"path": file, "ok": True, "level": level, "bytes": info["bytes"]}))
    else:
        checked = "header and section table" if quick else f"{info['words']:,} words and {info['rows']:,} rows"
        click.echo(f"{file}: good ({checked}, {info['bytes']:,} bytes)")


@cli.command()
@FILE
@click.argument("words", nargs=-1, required=True, metavar="WORD...")
@click.option("--precision", type=click.IntRange(1, 9), default=6, show_default=True, help="Significant digits.")
@json_option
def get(file, words, precision, as_json):
    """Print words' vectors, as rows of GloVe text.

    A missing word is named on standard error, and the exit code is 1.
    """
    from embshrink.cli.console import printable
    from embshrink.reader import load

    with load(file) as emb:
        found = [word for word in words if emb.get(word) is not None]
        vectors = emb.vectors_for(found)
        aliases = {word: emb.alias_of(word) if word in emb else None for word in found} if as_json else {}
    if as_json:
        rows = [{"word": word, "alias_of": aliases[word], "vector": [float(number) for number in vector]}
                for word, vector in zip(found, vectors)]
        click.echo(json.dumps({"vectors": rows, "missing": [word for word in words if word not in found]}))
    else:
        for word, vector in zip(found, vectors):
            click.echo(f"{printable(word)} " + " ".join(f"{number:.{precision}g}" for number in vector.tolist()))
    missing = [word for word in words if word not in found]
    for word in missing:
        click.echo(f"Error: no such word: {printable(word)}", err=True)
    if missing:
        click.get_current_context().exit(1)


search_options = _options(
    click.option("-n", "--topn", type=click.IntRange(1), default=10, show_default=True, help="How many."),
    click.option("--restrict-vocab", type=click.IntRange(1), help="Look only among the first so many words."),
    json_option,
)


@cli.command()
@FILE
@click.argument("word")
@search_options
def similar(file, word, topn, restrict_vocab, as_json):
    """Print the words nearest to WORD, by cosine."""
    _print_neighbours(file, [word], [], topn, restrict_vocab, as_json)


@cli.command()
@FILE
@click.argument("a")
@click.argument("b")
@click.argument("c")
@search_options
def analogy(file, a, b, c, topn, restrict_vocab, as_json):
    r"""Print what is to C as B is to A.

    \b
    embshrink analogy glove.ems man king woman
    """
    _print_neighbours(file, [b, c], [a], topn, restrict_vocab, as_json)


def _print_neighbours(file, positive, negative, topn, restrict_vocab, as_json):
    from embshrink.cli.console import printable
    from embshrink.reader import as_embeddings

    emb = as_embeddings(file)
    found = emb.most_similar(positive, negative, topn=topn, restrict_vocab=restrict_vocab)
    if as_json:
        rows = [{"word": word, "cosine": cosine, "alias_of": emb.alias_of(word)} for word, cosine in found]
        click.echo(json.dumps({"positive": positive, "negative": negative, "neighbours": rows}))
        return
    for word, cosine in found:
        alias = emb.alias_of(word)
        note = "" if alias in (None, word) else f"\t(answers with the vector of {printable(alias)})"
        click.echo(f"{cosine:.4f}\t{printable(word)}{note}")


@cli.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False), metavar="FILE...")
@click.option("--baseline", type=click.Path(exists=True, dir_okay=False),
              help="The vectors before: adds relative error, cosine and neighbour overlap.")
@click.option("--pairs", multiple=True, type=click.Path(exists=True, dir_okay=False),
              help="A word-similarity file (word, word, score; tabs, commas or spaces); repeatable. "
                   "WordSim-353 and SimLex-999 by default.")
@click.option("--analogies", type=click.Path(exists=True, dir_okay=False), help="An analogy file (questions-words).")
@click.option("--default-analogies", is_flag=True, help="Use the analogies that come with gensim.")
@click.option("--restrict-vocab", type=click.IntRange(1), default=300_000, show_default=True,
              help="Look only among the first so many words, as gensim does.")
@click.option("--case-sensitive", is_flag=True, help="Do not fold case.")
@click.option("--queries", type=click.IntRange(1), default=1000, show_default=True,
              help="Words the neighbour overlap is averaged over.")
@threads_option
@json_option
def evaluate(files, baseline, pairs, analogies, default_analogies, restrict_vocab, case_sensitive, queries, as_json):
    r"""Score files on word similarity and analogies, and against the vectors they came from.

    FILE may be .ems or any source. Pairs with an unknown word are skipped and counted.

    \b
    embshrink evaluate glove.ems --baseline glove.6B.50d.txt
    """
    from embshrink.cli.console import Progress, print_evaluation
    from embshrink.evaluation import run as evaluation
    from embshrink.evaluation.benchmarks import find_analogies
    from embshrink.reader import as_embeddings

    if default_analogies and analogies is None:
        analogies = find_analogies()
    with Progress(as_json) as progress:
        before = None if baseline is None else as_embeddings(baseline)
        results = {
            file: evaluation.evaluate(
                as_embeddings(file), before, pairs=list(pairs) or None, analogies=analogies,
                restrict_vocab=restrict_vocab, case_insensitive=not case_sensitive, queries=queries,
                progress=progress)
            for file in files
        }
    if before is not None:
        first = next(iter(results.values()))
        scores = evaluation.Evaluation(first.baseline_similarity, analogies=first.baseline_analogies)
        results = {baseline: scores, **results}
    if as_json:
        click.echo(json.dumps({file: result.as_dict() for file, result in results.items()}))
    else:
        print_evaluation(results)


@cli.command("export")
@FILE
@click.argument("target", type=click.Path())
@click.option("--to", "format", callback=_format(2), metavar="FORMAT",
              help="See: embshrink formats. By TARGET's ending by default: .bin word2vec binary, .vec word2vec text, "
                   ".kv gensim, .fifu finalfusion, .floret floret, else GloVe text.")
@click.option("-f", "--force", is_flag=True, help="Replace an existing TARGET.")
@quiet_option
def export_(file, target, format, force, quiet):
    """Write an .ems file for other programs: word2vec, GloVe, fastText, gensim, spaCy, finalfusion and more."""
    from embshrink.cli.console import Progress
    from embshrink.formats import export
    from embshrink.reader import load

    with load(file) as emb, Progress(quiet) as progress:
        format = export(emb, target, format, force=force, progress=progress)
        count = len(emb)
    if not quiet:
        click.echo(f"{target}: {count:,} words as {format}", err=True)


@cli.command()
@json_option
def formats(as_json):
    """List the file formats that are read and written."""
    from embshrink.cli import console
    from embshrink.formats import ENDINGS, FORMATS

    listed = [{"format": name, "read": bool(read), "written": bool(write),
               "endings": sorted(ending for ending, of in ENDINGS.items() if of == name)}
              for name, (_, read, write) in FORMATS.items()]
    if as_json:
        click.echo(json.dumps(listed))
    else:
        console.print_formats(listed)


@cli.command()
@click.argument("name", required=False)
@json_option
def methods(name, as_json):
    """List the methods, or one with its parameters and defaults."""
    from embshrink.cli import console
    from embshrink.methods import registry

    names = [name] if name else list(registry.METHODS)
    described = [console.describe_method(one) for one in names]
    if as_json:
        click.echo(json.dumps(described))
    else:
        console.print_methods(described, details=bool(name))


@cli.command()
@json_option
def warmup(as_json):
    """Compile now what other commands would compile when they first need it.

    What is compiled is kept in NUMBA_CACHE_DIR where that is set, else beside the installed package, else in the
    user's cache folder. It serves one user and one kind of processor: run this as the user, and on a machine like
    the one, that the other commands run on. In a Dockerfile that is behind USER, with NUMBA_CACHE_DIR set by ENV.

    Where there is no folder that can be written, nothing is compiled, and the exit code is 1.
    """
    from embshrink.cli.console import Progress
    from embshrink.cli.warmup import warm_up

    with Progress(as_json) as progress:
        warmed = warm_up(progress=progress)
    if as_json:
        click.echo(json.dumps(warmed.as_dict()))
    else:
        click.echo(f"{warmed.compiled} kernels compiled, {warmed.found} were there ({warmed.seconds:.0f} s): "
                   f"{warmed.folder}")


@cli.command()
@click.option("--folder", type=click.Path(file_okay=False), help="Keep the files there.")
@threads_option
@json_option
def demo(folder, as_json):
    """Run the whole job on real vectors, and print one table.

    Uses GloVe 6B 50d (400,000 words) if the [demo] extra is installed, else a small fastText table that
    comes with gensim. Installs and downloads nothing.
    """
    from embshrink.cli import demo as job
    from embshrink.cli.console import Progress, print_demo

    with Progress(as_json) as progress:
        result = job.run(folder, progress=progress)
    if as_json:
        click.echo(json.dumps(result))
    else:
        print_demo(result)


if __name__ == "__main__":
    main()
