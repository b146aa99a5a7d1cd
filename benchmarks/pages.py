"""Put the figures of results/*.json into README.md and the pages of docs/, between the markers ``<!-- NAME -->``.

    python benchmarks/pages.py
    python benchmarks/pages.py --check    # exit code 1 if a page has other figures

The text around the tables is written by hand.
"""

import json
import re
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *(path for path in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in path.parts)]
MARKED = re.compile(r"(<!-- ([\w-]+) -->\n).*?(<!-- /\2 -->)", re.S)


class Results(dict):
    """The content of results/NAME.json by name; each file is read when it is first used."""

    def __missing__(self, name):
        self[name] = json.loads((RESULTS / f"{name}.json").read_text())
        return self[name]


def table(head, rows):
    """Return a table in Markdown; a column whose head begins with > is aligned to the right."""
    marks = ["---:" if cell.startswith(">") else "---" for cell in head]
    lines = [[cell.lstrip(">") for cell in head], *rows]
    first, *others = ("| " + " | ".join(cells) + " |" for cells in lines)
    return "\n".join([first, f"|{'|'.join(marks)}|", *others])


def duration(seconds):
    """Return seconds to three digits, in a suitable unit."""
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{_digits(seconds / size)} {unit}"
    return f"{_digits(seconds / 1e-6)} us"


def _digits(number):
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def size(count):
    """Return bytes as MB or GB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{_digits(count / 1e6)} MB"


def ratio(record):
    """Return how many times faster or slower embshrink is, and the range over the pairs."""
    low, high = record["times_faster_range"]
    text = f"**{record['times_faster']:.3g}x faster**"
    if record["times_faster"] < 1:
        text, low, high = f"{1 / record['times_faster']:.3g}x its time", 1 / high, 1 / low
    return text if record["pairs"] == 1 else f"{text} ({low:.3g} to {high:.3g})"


def speed_machine(results):
    speed = results["speed"]
    machine = speed["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine.items() if name not in ("cpu", "threads"))
    return f"{machine['cpu']}, {speed['threads']} threads; {versions}. {speed['table']}."


def verdict(results):
    speed = results["speed"]
    asked = [(name, peer, record) for name, row in speed["rows"].items() for peer, record in row["against"].items()
             if record["asked"]]
    missed = [f"{name} against {peer} (target: {record['asked']}; measured: {ratio(record)})"
              for name, peer, record in asked if not record["met"]]
    wrong = [name for name, row in speed["rows"].items() if not row["right"]]
    lines = [f"{len(asked) - len(missed)} of {len(asked)} targets are met."]
    lines += ["Not met: " + "; ".join(missed).replace("**", "") + "."] if missed else []
    right = (f"The results of all {len(speed['rows'])} kinds of work are exact, or as good as those of the other "
             "programs.")
    lines += [f"Wrong, or worse than those of another program: {'; '.join(wrong)}." if wrong else right]
    return " ".join(lines)


def speeds(results):
    speed = results["speed"]
    rows = []
    for name, row in speed["rows"].items():
        for peer, record in row["against"].items():
            met = {True: "yes", False: "**no**", None: ""}[record.get("met")]
            rows.append([name, duration(record["ours_s"]), peer, duration(record["theirs_s"]), ratio(record),
                         record["asked"] or "", met, str(record["pairs"])])
    head = ["work", ">embshrink", "other program", ">its time", "embshrink is", "target", "met", ">pairs"]
    return table(head, rows)


def checks(results):
    speed = results["speed"]
    return table(["work", "check", "passed"], [
        [name, checked(row), "yes" if row["right"] else "**no**"] for name, row in speed["rows"].items()])


def _program(name):
    return "embshrink" if name == "ours" else name


def checked(row):
    """Return what was compared in the run of a row."""
    if "recall_at_10" in row:
        return f"recall@10 of 50 words against brute force on the decoded vectors: {row['recall_at_10']:.3f}"
    if "queries" in row:
        return "the neighbours of the first 50 words are those of `most_similar`"
    if "score" in row:
        return "right and wrong answers: " + "; ".join(f"{_program(name)} {right:,} and {wrong:,}"
                                                       for name, (_, right, wrong) in row["score"].items())
    if "relative_error" in row:
        return "relative error over all rows: " + ", ".join(f"{_program(name)} {error:.5f}"
                                                            for name, error in row["relative_error"].items())
    if "squares" in row:
        ours = row["squares"]["ours"]
        return "sum of squared distances relative to embshrink: " + ", ".join(
            f"{name} {error / ours:.4f}" for name, error in row["squares"].items() if name != "ours")
    if "rows_that_differ" in row:
        return "words assigned to another row: " + ", ".join(
            f"{name} {count}" + (f", at cosines {gap:.0e} apart" if count else "")
            for name, (count, gap) in row["rows_that_differ"].items())
    if "equal_to_gensim" in row:
        return "words and numbers are equal to gensim's, to the last bit"
    return "rows are equal to those of a full decode, to the last bit"


def indexes(results):
    speed = results["speed"]
    rows = [[f"`{' '.join(row['steps'])}`", *map(duration, row["first_searches_s"][:2]),
             duration(next(iter(row["against"].values()))["ours_s"]), size(row["held_bytes"])]
            for row in speed["rows"].values() if "first_searches_s" in row]
    head = ["file", ">first search", ">second search, which builds the index", ">later searches",
            ">memory of the index"]
    return table(head, rows)


def grown(rows):
    if not rows:
        return "Not measured yet."
    words = next(iter(rows.values()))["words"]
    return table(["work", *(f">{count:,}" for count in words), ">exponent", f">memory at {words[0]:,}",
                  f">at {words[-1]:,}"],
                 [[name, *map(duration, row["seconds"]), f"{row['exponent']:.2f}",
                   *(size(row["peak_growth_bytes"][at]) for at in (0, -1))] for name, row in rows.items()])


def bounded(results):
    growth = results["growth"]
    if not growth["bounded"]:
        return "Not measured yet."
    rows, files, before = [], {}, None
    for row in growth["bounded"].values():
        steps = row["command"].split(" --max-memory")[0]
        files.setdefault((row["source"], steps), set()).add(row["sha256"])
        rows.append([f"{row['source']}, {size(row['source_bytes'])}" if row["source"] != before else "",
                     f"`{row['command']}`", duration(row["seconds"]),
                     f"{size(row['peak_bytes'])}, {row['peak_bytes'] / 2**30:.2f} GiB", size(row["target_bytes"])])
        before = row["source"]
    same = all(len(found) == 1 for found in files.values())
    return table(["source", "command", ">time", ">peak memory", ">file"], rows) + (
        "\n\nWith any limit, the same source and steps gave the same file, byte for byte." if same else
        "\n\n**Files of the same source and steps differ.**")


def elsewhere(results):
    """Return what another machine showed, at an earlier commit, for the targets that are missed here."""
    speed = results["speed"]
    other, rows = results["speed-epyc"], []
    for name, row in speed["rows"].items():
        for peer, record in row["against"].items():
            there = other["rows"].get(name, {"against": {}})["against"].get(peer)
            if record["asked"] and not record["met"] and there:
                cells = [[f"{duration(found['ours_s'])}, {duration(found['theirs_s'])}", ratio(found)]
                         for found in (record, there)]
                rows.append([name, peer, record["asked"], *cells[0], *cells[1]])
    head = ["work", "other program", "target", ">here: embshrink, other", "embshrink is",
            f">{other['machine']['cpu']}: embshrink, other", "embshrink is"]
    return table(head, rows) if rows else "No target is missed here."


# ---------------------------------------------------------------- quality, methods, fastText


def megabytes(count):
    return f"{count / 1e6:.2f} MB"


def whole_files(results):
    """Return the table of whole files of GloVe 6B 50d, the smallest first."""
    shown = {
        "embshrink, default": "`embshrink quantize glove.6B.50d.txt`",
        "embshrink, --method ecq": "`embshrink quantize glove.6B.50d.txt --method ecq`",
        "embshrink, --size 6.1MB": "`embshrink quantize glove.6B.50d.txt --size 6.1MB`",
        "embshrink, --method pq": "`embshrink quantize glove.6B.50d.txt --method pq`",
        "finalfusion .fifu, pq 25x8": "finalfusion `.fifu` with the same `pq` codes",
        "numpy float16, words one a line": "numpy float16 and a list of words",
        "word2vec binary": "word2vec binary", "gensim KeyedVectors.save": "gensim `KeyedVectors.save`",
        "text": "GloVe text",
    }
    files = results["quality"]["whole files"]
    rows = []
    for name in sorted(shown.keys() & files.keys(), key=lambda name: files[name]["bytes"]):
        row, exact = files[name], not files[name].get("relative_error")
        rows.append([shown[name], megabytes(row["bytes"]), *(
            f"{files[base]['bytes'] / row['bytes']:.1f}" for base in ("text", "word2vec binary")),
            f"{row.get('relative_error', 0):.4f}", *("1.000" if exact else f"{row[key]:.3f}"
                                                     for key in ("overlap_at_10", "overlap_of_frequent"))])
    return table(["file", ">size", ">times smaller than text", ">than word2vec binary", ">relative error",
                  ">overlap@10", ">overlap@10, frequent words"], rows)


EQUAL = {  # a name in quality.json for each budget, in bits of codes per word
    "`ecq`": ("ecq:bits=80", "ecq:bits=104", "ecq:bits=200"),
    "`ecq:trellis=0`": ("ecq:bits=80,trellis=0", "ecq:bits=104,trellis=0", "ecq:bits=200,trellis=0"),
    "`pq`": ("pq:subspaces=10", "pq:subspaces=13", "pq:subspaces=25"),
    "`rq`": ("rq:codebooks=10", "rq:codebooks=13", None),
    "faiss RQ": ("faiss RQ 10x8", None, None),
    "faiss OPQ": ("faiss OPQ 10x8", "faiss OPQ 13x8", "faiss OPQ 25x8"),
    "faiss PQ": ("faiss PQ 10x8", "faiss PQ 13x8", "faiss PQ 25x8"),
    "smallfry's method": (None, "smallfry 2 bit", "smallfry 4 bit"),
}


def equal_bits(results):
    """Return the table of quantizers at about equal bits per word."""
    measured = results["quality"]["tables"]["GloVe 6B 50d"]
    rows = [[label, *(cell for name in names for cell in (
        (f"{measured[name]['bits']:.0f}", f"{measured[name]['relative_error']:.4f}",
         f"{measured[name]['overlap_at_10']:.3f}") if name else ("-", "-", "-")))] for label, names in EQUAL.items()]
    return table(["quantizer", *[">bits per word", ">relative error", ">overlap@10"] * 3], rows)


def bits_saved(results):
    """Return how many bits ecq saves at equal error, as a table."""
    saved = results["quality"]["fewer bits at equal error"]

    def span(place, start):
        shares = [100 * found["ecq"] for name, found in saved[place].items() if name.startswith(start)]
        return f"{min(shares):.0f} to {max(shares):.0f} %" if shares else "-"

    return table(["at equal relative error, `ecq` takes fewer bits than", ">GloVe 6B 50d", ">GloVe 6B 100d"], [
        [name, span("GloVe 6B 50d", start), span("glove100.bin", start)]
        for name, start in (("faiss OPQ", "faiss OPQ"), ("faiss PQ", "faiss PQ"), ("`pq`", "pq:"), ("`rq`", "rq:"))])


def methods(results):
    """Return the table of all methods."""
    return table(["steps", ">bits per word", ">file, times smaller", ">relative error", ">cosine, 1st percentile",
                  ">overlap@10", ">WordSim-353", ">SimLex-999", ">seconds", ">ns per row"], [
        [f"`{' '.join(row['steps'])}`", f"{row['bits_per_word']:.0f}", f"{row['ratio']:.1f}",
         f"{row['relative_error']:.4f}", f"{row['cosine_p1']:.3f}", f"{row['overlap_at_10']:.3f}",
         f"{100 * row['wordsim353']:.1f}", f"{100 * row['simlex999']:.1f}", f"{row['seconds']:.1f}",
         f"{row['decode_ns']:.0f}"] for row in results["methods"]["rows"]])


SETTINGS = {"": "word2vec binary (float32)", "cast": "`cast` (float16)", "pq": "`pq`",
            "ecq:bits=150": "`ecq:bits=150`", "ecq": "`ecq` (2 bits per dimension)",
            "default": "`ecq`, 8 of 10 neighbours (default)"}


def settings(results):
    """Return README's table: a few settings, all of one run, against the word2vec binary file."""
    head = ["setting", ">file", ">times smaller", ">overlap@10", ">relative error", ">WordSim-353", ">SimLex-999"]
    return table(head, [
        [SETTINGS[" ".join(row["steps"])], megabytes(row["bytes"]), f"{row['ratio']:.1f}",
         f"{row['overlap_at_10']:.2f}", f"{row['relative_error']:.4f}", f"{100 * row['wordsim353']:.1f}",
         f"{100 * row['simlex999']:.1f}"] for row in results["settings"]["rows"]])


def fasttext(results):
    """Return the table of a fastText model; the best of each score is bold."""
    case = results["fasttext_case"]
    places = {"mean cosine": 4, "mean cosine by frequency": 4, "1st percentile": 3, "mean cosine unseen": 4,
              "overlap@10": 3, "wordsim353": 1, "simlex999": 1}
    peers, ours = case["compress-fasttext"].values(), case["embshrink"].values()
    best = {key: max(row[key] for row in [*peers, *ours]) for key in list(places)[:5]}

    def cells(name, size, row, *times):
        shown = [f"{row[key]:.{digits}f}" for key, digits in places.items()]
        return [name, megabytes(size), *(f"**{cell}**" if row[key] == best.get(key) else cell
                                         for key, cell in zip(places, shown)), *times]

    def timed(name, row):
        return cells(name, row["bytes"], row, f"{row['seconds']:.0f} s", f"{row['open']['seconds']:.2f} s")

    def arguments(row):
        given = ", ".join(f"{key}={value:_}" for key, value in row["arguments"].items() if key != "pq")
        return f"`{given}`" if given else "default"

    def steps(row):
        words, ngrams = (" ".join(f"`{step}`" for step in row[part]) for part in ("words", "ngrams"))
        return f"{words}, n-grams {ngrams}"

    rows = [cells("the fastText model", case["model_bytes"], case["original"], "", ""),
            *(timed(f"compress-fasttext, {arguments(row)}", row) for row in peers),
            *(timed(steps(row), row) for row in ours)]
    return table(["", ">file", ">mean cosine, all words", ">by frequency", ">1st percentile",
                  ">mean cosine, OOV words", ">overlap@10", ">WordSim-353", ">SimLex-999", ">compress",
                  ">open, and one OOV word"], rows)


# ---------------------------------------------------------------- the pages


PARTS = {"machine": speed_machine, "verdict": verdict, "speeds": speeds, "checks": checks,
         "indexes": indexes, "bounded": bounded, "elsewhere": elsewhere,
         "growth": lambda results: grown(results["growth"]["glove"]),
         "wide": lambda results: grown(results["growth"]["wide"]),
         "headline": whole_files, "equal-bits": equal_bits, "bits-saved": bits_saved, "methods": methods,
         "settings": settings, "fasttext": fasttext}


def filled(text):
    """Return a page's text with its parts filled in anew."""
    results = Results()
    return MARKED.sub(lambda match: match[1] + PARTS[match[2]](results) + "\n" + match[3]
                      if match[2] in PARTS else match[0], text)


def fill():
    """Fill the pages in anew."""
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = filled(before)
        if after != before:
            page.write_text(after, encoding="utf-8")


def check():
    """Exit with code 1 if a page has other figures."""
    for page in PAGES:
        if filled(page.read_text(encoding="utf-8")) != page.read_text(encoding="utf-8"):
            sys.exit(f"{page.name} does not have the figures of results/*.json. Run: python benchmarks/pages.py")


if __name__ == "__main__":
    check() if sys.argv[1:] == ["--check"] else fill()
