"""The inputs that the repository keeps: those that failed once, and those that reach branches that seeds do not."""

import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CORPUS, REGRESSIONS = FOLDER / "corpus", FOLDER / "regressions"
KEPT_BYTES = 60_000  # of the corpus of a target, packed


def regressions(target: str) -> dict[str, bytes]:
    """Return the inputs that failed once, by name."""
    return {path.name: path.read_bytes() for path in sorted((REGRESSIONS / target).glob("*"))}


def corpus(target: str) -> dict[str, bytes]:
    """Return the inputs of ``fuzz/corpus``, by number."""
    path = CORPUS / f"{target}.zip"
    if not path.exists():
        return {}
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_corpus(target: str, inputs: list[bytes]) -> int:
    """Write the first inputs that fit to ``fuzz/corpus``; return their number."""
    size = number = 0
    CORPUS.mkdir(exist_ok=True)
    with zipfile.ZipFile(CORPUS / f"{target}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for data in inputs:
            entry = zipfile.ZipInfo(f"{number:04d}")  # without a time, so that equal inputs give equal bytes
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
            number += 1
            size += entry.compress_size + 100  # its place in the list of files
            if size > KEPT_BYTES:
                break
    return number
