"""The inputs that fuzzing found, read without the fuzzer (fuzz/run.py); and its mutators, which repair checksums."""

import gzip
import io
import random
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from test_navec import archive  # noqa: E402

from embshrink import FormatError  # noqa: E402
from embshrink.formats.io.unpack import packing  # noqa: E402
from embshrink.storage.container import Container  # noqa: E402
from fuzz import inputs, mutators, seeds  # noqa: E402  (needs the path)
from fuzz.targets import TARGETS  # noqa: E402

MOST_BYTES = 500_000  # of the whole corpus in the repository


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_that_failed_once(target):
    for name, data in inputs.regressions(target).items():
        try:
            TARGETS[target].check(data)
        except Exception as error:
            raise AssertionError(f"fuzz/regressions/{target}/{name}") from error


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_that_reach_each_branch(target):
    found = inputs.corpus(target)
    assert found
    for name, data in found.items():
        try:
            TARGETS[target].check(data)
        except Exception as error:
            raise AssertionError(f"fuzz/corpus/{target}.zip: {name}") from error


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "ems"])  # compressing them takes long
def test_seeds(target):
    for data in seeds.SEEDS[target]():
        assert len(data) <= TARGETS[target].max_bytes
        TARGETS[target].check(data)


def test_the_corpus_is_small():
    files = [path for folder in (inputs.CORPUS, inputs.REGRESSIONS) for path in folder.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} <= {"corpus", *TARGETS}
    assert sum(path.stat().st_size for path in files) < MOST_BYTES


def flip(data, most):
    """Change one byte, as the simplest of mutators."""
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :] if data else b"x"


def test_forged_files_have_the_right_checksums(tmp_path):
    path, changed, damaged = tmp_path / "a.ems", set(), 0
    data = (ROOT / "tests" / "golden" / "packed.ems").read_bytes()
    for seed in range(200):
        forged = mutators.mutate_ems(data, flip, 30_000, random.Random(seed))
        path.write_bytes(forged)
        try:
            Container(path, verify="full").close()
            changed.add(forged)
        except FormatError as error:
            damaged += "is damaged" in str(error)
    assert len(changed) > 100
    assert damaged < 40  # one in ten is not repaired
    path.write_bytes(mutators.repair_ems(data[:200] + b"\1" + data[201:]))  # a byte of the header
    with pytest.raises(FormatError, match="header is not JSON|canonical|key"):
        Container(path).close()


def test_changed_content_is_packed_again():
    plain = b"2 1\nthe 0.5\nof 0.25\n"
    for pack in (lambda data: gzip.compress(data, mtime=0), lambda data: mutators._zip_of([("v", data)],
                                                                                          random.Random(0))):
        unpacked = set()
        for seed in range(60):
            forged = mutators.mutate_packed(pack(plain), flip, 4096, random.Random(seed))
            try:
                if packing(forged) == "gzip":
                    unpacked.add(gzip.decompress(forged))
                else:
                    with zipfile.ZipFile(io.BytesIO(forged)) as file:
                        unpacked |= {file.read(name) for name in file.namelist()}
            except (OSError, EOFError, zipfile.BadZipFile, gzip.zlib.error, UnicodeDecodeError, NotImplementedError):
                continue
        assert len(unpacked - {plain, b""}) > 5
    whole = sum(tarfile.is_tarfile(io.BytesIO(mutators.mutate_packed(archive(), flip, 16_000, random.Random(seed))))
                for seed in range(60))
    assert whole > 20
