"""Write the figures of results/speed.json and growth.json between the markers in docs/performance.md and README.md.

    python benchmarks/performance_page.py
    python benchmarks/performance_page.py --check    # exit code 1 if the pages have other figures

The text around the tables is written by hand; its figures are not.
"""

import json
import re
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "performance.md", ROOT / "README.md"
MARKED = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", re.S)


def table(head, rows):
    """Return a table in Markdown; columns whose head begins with > are aligned to the right."""
    marks = ["---:" if cell.startswith(">") else "---" for cell in head]
    lines = [[cell.lstrip(">") for cell in head], marks, *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines).replace("| --- |", "|---|")


def duration(seconds):
    """Return seconds with three digits, in s, ms or us."""
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


def speed_machine(speed, growth):
    machine = speed["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine.items() if name not in ("cpu", "threads"))
    return f"{machine['cpu']}, {speed['threads']} threads; {versions}. {speed['table']}."


def verdict(speed, growth):
    asked = [(name, peer, record) for name, row in speed["rows"].items() for peer, record in row["against"].items()
             if record["asked"]]
    missed = [f"{name} against {peer} (asked: {record['asked']}; found: {ratio(record)})"
              for name, peer, record in asked if not record["met"]]
    wrong = [name for name, row in speed["rows"].items() if not row["right"]]
    lines = [f"Of {len(asked)} demands {len(asked) - len(missed)} are met."]
    lines += ["Not met: " + "; ".join(missed).replace("**", "") + "."] if missed else []
    lines += [f"All {len(speed['rows'])} results are as good as the peers', or exact." if not wrong else
              "Wrong, or worse than a peer's: " + "; ".join(wrong) + "."]
    return " ".join(lines)


def speeds(speed, growth):
    rows = []
    for name, row in speed["rows"].items():
        for peer, record in row["against"].items():
            met = {True: "yes", False: "**no**", None: ""}[record.get("met")]
            rows.append([name, duration(record["ours_s"]), peer, duration(record["theirs_s"]), ratio(record),
                         record["asked"] or "", met, str(record["pairs"])])
    return table(["work", ">ours", "peer", ">theirs", "ours is", "asked", "met", ">pairs"], rows)


def demanded(speed, growth):
    rows = [[name, duration(record["ours_s"]), peer, duration(record["theirs_s"]), ratio(record)]
            for name, row in speed["rows"].items() for peer, record in row["against"].items() if record["asked"]]
    return table(["work", ">ours", "peer", ">theirs", "ours is"], rows)


def checks(speed, growth):
    return table(["work", "checked", "holds"], [
        [name, checked(row), "yes" if row["right"] else "**no**"] for name, row in speed["rows"].items()])


def checked(row):
    """Return what was compared in the run of a row."""
    if "recall_at_10" in row:
        return f"recall@10 of 50 words against brute force on the decoded vectors: {row['recall_at_10']:.3f}"
    if "queries" in row:
        return "the first 50 words' neighbours are those of `most_similar`"
    if "score" in row:
        return "right and wrong answers: " + "; ".join(f"{name} {right:,} and {wrong:,}"
                                                       for name, (_, right, wrong) in row["score"].items())
    if "relative_error" in row:
        return "relative error over all rows: " + ", ".join(f"{name} {error:.5f}"
                                                            for name, error in row["relative_error"].items())
    if "squares" in row:
        ours = row["squares"]["ours"]
        return "sum of squared distances, ours 1: " + ", ".join(
            f"{name} {error / ours:.4f}" for name, error in row["squares"].items() if name != "ours")
    if "rows_that_differ" in row:
        return "words given another row: " + ", ".join(
            f"{name} {count}" + (f", at cosines {gap:.0e} apart" if count else "")
            for name, (count, gap) in row["rows_that_differ"].items())
    if "equal_to_gensim" in row:
        return "words and numbers are gensim's, to the last bit"
    return "rows are those of decoding all, to the last bit"


def indexes(speed, growth):
    rows = [[f"`{' '.join(row['steps'])}`", *map(duration, row["first_searches_s"][:2]),
             duration(next(iter(row["against"].values()))["ours_s"]), size(row["held_bytes"])]
            for row in speed["rows"].values() if "first_searches_s" in row]
    return table(["file", ">first search", ">second, with the index made", ">later ones", ">held in memory"], rows)


def grown(rows):
    if not rows:
        return "Not measured yet."
    words = next(iter(rows.values()))["words"]
    return table(["work", *(f">{count:,}" for count in words), ">exponent", f">memory at {words[0]:,}",
                  f">at {words[-1]:,}"],
                 [[name, *map(duration, row["seconds"]), f"{row['exponent']:.2f}",
                   *(size(row["peak_growth_bytes"][at]) for at in (0, -1))] for name, row in rows.items()])


def bounded(speed, growth):
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
    return table(["source", "command", ">time", ">most memory held", ">file"], rows) + (
        "\n\nFiles of the same source and steps are the same, byte for byte, whatever the limit." if same else
        "\n\n**Files of the same source and steps differ.**")


def elsewhere(speed, growth):
    """Return results of another machine, at an earlier commit, for the demands that are not met here."""
    other, rows = json.loads((RESULTS / "speed-epyc.json").read_text()), []
    for name, row in speed["rows"].items():
        for peer, record in row["against"].items():
            there = other["rows"].get(name, {"against": {}})["against"].get(peer)
            if record["asked"] and not record["met"] and there:
                cells = [[f"{duration(found['ours_s'])}, {duration(found['theirs_s'])}", ratio(found)]
                         for found in (record, there)]
                rows.append([name, peer, record["asked"], *cells[0], *cells[1]])
    head = ["work", "peer", "asked", ">here: ours, theirs", "ours is", f">{other['machine']['cpu']}: ours, theirs",
            "ours is"]
    return table(head, rows) if rows else "All are met here."


PARTS = {"machine": speed_machine, "verdict": verdict, "speeds": speeds, "demanded": demanded, "checks": checks,
         "indexes": indexes, "bounded": bounded, "elsewhere": elsewhere,
         "growth": lambda speed, growth: grown(growth["glove"]), "wide": lambda speed, growth: grown(growth["wide"])}


def filled(text):
    """Return the text of a page with new figures between its markers."""
    speed, growth = (json.loads((RESULTS / f"{name}.json").read_text()) for name in ("speed", "growth"))
    return MARKED.sub(lambda match: match[1] + PARTS[match[2]](speed, growth) + "\n" + match[3]
                      if match[2] in PARTS else match[0], text)


def fill():
    """Write new figures into the pages."""
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


def check():
    """Exit with code 1 if a page has other figures."""
    for page in PAGES:
        if filled(page.read_text(encoding="utf-8")) != page.read_text(encoding="utf-8"):
            sys.exit(f"{page.name} does not say what results/*.json do: python benchmarks/performance_page.py")


if __name__ == "__main__":
    check() if sys.argv[1:] == ["--check"] else fill()
