"""Fuzz embshrink: run every target for some minutes and print what was executed and found.

    pip install -e '.[test,fuzz]'               # in an environment of its own; Linux, Python 3.11 to 3.13
    python fuzz/run.py --minutes 20             # all targets, 20 minutes each
    python fuzz/run.py --minutes 60 --target ems
    python fuzz/run.py --keep                   # write what was learned to fuzz/corpus

Half of the time of each target runs with NUMBA_DISABLE_JIT=1: kernels are then Python, and atheris sees their
branches. The other half runs compiled kernels, with NUMBA_BOUNDSCHECK=1: an index out of range raises IndexError.
atheris does not see into compiled kernels, so this half finds new inputs only by the branches around them.

The exit status is 1 if anything was found. Each finding is a file in WORK/findings, with a traceback beside it. Copy
the file to fuzz/regressions/TARGET, watch tests/test_fuzz_corpus.py fail, and correct the code.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fuzz import inputs  # noqa: E402  (needs the path)
from fuzz.seeds import SEEDS  # noqa: E402
from fuzz.targets import TARGETS  # noqa: E402

MODES = {"interpreted": {"NUMBA_DISABLE_JIT": "1"}, "compiled": {"NUMBA_BOUNDSCHECK": "1"}}
SECONDS_PER_INPUT = 120
MOST_MEGABYTES = 2048


@dataclass
class Counts:
    """What the runs of one target did."""

    executions: int = 0
    features: int = 0
    seconds: float = 0.0
    findings: set = field(default_factory=set)


def environment(mode: str, work: Path) -> dict[str, str]:
    """Return the environment of a run; compiled code with and without checks must not share a cache."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "NUMBA_CACHE_DIR": str(work / "numba"), "PYTHONDONTWRITEBYTECODE": "1", **MODES[mode]}


def prepare(target: str, work: Path) -> Path:
    """Write the seeds and the kept corpus of a target to a folder, and return it."""
    folder = work / "seeds" / target
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for data in (*SEEDS[target](), *inputs.corpus(target).values(), *inputs.regressions(target).values()):
        (folder / hashlib.sha256(data).hexdigest()[:20]).write_bytes(data)
    return folder


def fuzz(target: str, mode: str, seconds: float, seed: int, work: Path, counts: Counts) -> None:
    """Run one target in one mode; after a crash, start again for the time that is left."""
    corpus, findings = work / "corpus" / target, work / "findings"
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 1:
        log = work / f"{target}-{mode}-{seed}.log"
        before = time.monotonic()
        with log.open("w") as out:
            run = subprocess.run(
                [sys.executable, str(ROOT / "fuzz" / "child.py"), target, str(findings), f"-seed={seed}",
                 f"-max_total_time={int(left)}", f"-max_len={TARGETS[target].max_bytes}", "-print_final_stats=1",
                 f"-timeout={SECONDS_PER_INPUT}", f"-rss_limit_mb={MOST_MEGABYTES}", "-reload=0",
                 f"-artifact_prefix={findings}/{target}-", str(corpus), str(work / "seeds" / target)],
                stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment(mode, work))
        text = log.read_text(errors="replace")
        counts.seconds += time.monotonic() - before
        counts.executions += int((re.findall(r"^#(\d+)", text, re.M) or ["0"])[-1])
        counts.features = max([counts.features, *map(int, re.findall(r"\bft: (\d+)", text))])
        counts.findings |= set(re.findall(r"^FINDING (.*)", text, re.M))
        if run.returncode:
            saved = re.findall(r"Test unit written to (\S+)", text)
            counts.findings.add(f"{target} ended with status {run.returncode}: {saved[-1] if saved else log}")
            if not saved:
                return  # it did not come to an input: starting again would end the same way
        seed += 1


def keep(target: str, work: Path) -> None:
    """Write the smallest inputs that reached something new, of the repository and of this folder, to the former."""
    known, old = set(SEEDS[target]()), list(inputs.corpus(target).values())
    new = {path.read_bytes() for path in (work / "corpus" / target).glob("*")} - known - set(old)
    found = sorted([*old, *new], key=lambda data: (len(data), data))
    print(f"{target}: {inputs.write_corpus(target, found)} of {len(found)} inputs kept")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=1, help="minutes for each target (default: 1)")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="only this target; can be repeated")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first run (default: 1)")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "embshrink-fuzz"),
                        help="folder for inputs, logs and findings (default: embshrink-fuzz in the temporary folder)")
    parser.add_argument("--keep", action="store_true", help="do not fuzz: write the corpus to fuzz/corpus")
    options = parser.parse_args()
    found = {}
    for target in options.target or TARGETS:
        if options.keep:
            keep(target, options.work)
            continue
        prepare(target, options.work)
        found[target] = counts = Counts()
        for mode in MODES:
            fuzz(target, mode, 30 * options.minutes, options.seed, options.work, counts)
        print(f"{target:<12} {counts.executions:>10,} executions {counts.features:>7,} features "
              f"{counts.seconds / 60:>6.1f} minutes {len(counts.findings):>3} findings", flush=True)
        for line in sorted(counts.findings):
            print(f"    {line}", flush=True)
    return int(any(counts.findings for counts in found.values()))


if __name__ == "__main__":
    sys.exit(main())
