"""Files that are no ordinary files: refused at once with a message, or read, if they are pipes with a writer."""

import os
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from embshrink import ReadOptions, load, read_vectors, verify
from embshrink.compression.counts import read_counts
from embshrink.errors import EmbshrinkError, FormatError
from embshrink.evaluation.benchmarks import read_analogies, read_pairs
from embshrink.storage import inputs

pytestmark = pytest.mark.skipif(os.name != "posix", reason="special files of POSIX")
READERS = {
    "load": load, "verify": verify, "load without mmap": lambda path: load(path, mmap=False),
    "read_vectors": read_vectors, "named format": lambda path: read_vectors(path, ReadOptions(format="word2vec")),
    "counts": read_counts, "pairs": read_pairs, "analogies": read_analogies,
}


@pytest.fixture
def special(tmp_path, monkeypatch):
    """Return the path of a special file of a kind."""
    monkeypatch.setattr(inputs, "PATIENCE", 0.1)
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short

    def make(kind):
        if kind == "pipe":
            os.mkfifo("pipe")
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as one:
                one.bind("socket")
        elif kind == "folder":
            os.mkdir("folder")
        elif not os.path.exists(kind):
            pytest.skip(f"no {kind}")
        return kind

    return make


@pytest.mark.parametrize("kind", ["/dev/zero", "/dev/urandom", "pipe", "socket", "folder", "/proc/self/status"])
@pytest.mark.parametrize("reader", READERS)
def test_a_special_file_is_refused_at_once(special, kind, reader):
    path = special(kind)
    with pytest.raises(EmbshrinkError) as caught:
        READERS[reader](path)
    assert path in str(caught.value)
    words = {"pipe": "pipe", "socket": "socket", "folder": "folder|directory"}.get(kind, "device|size is 0")
    assert any(word in str(caught.value) for word in words.split("|"))


@pytest.mark.parametrize("wait", [0, 0.03])
def test_a_pipe_with_a_writer_is_read(special, monkeypatch, wait):
    special("pipe")
    monkeypatch.setattr(inputs, "PATIENCE", 30)

    def write(data):
        with open("pipe", "wb", buffering=0) as file:
            threading.Event().wait(wait)
            file.write(data)

    for data, reader in ((b"a 1 2\nb 3 4\n", lambda: read_vectors("pipe").words.raw),
                         (b"a 5\nb 4\n", lambda: list(read_counts("pipe")[0])),
                         (b"a\nb", lambda: inputs.read_input("pipe").split(b"\n"))):
        thread = threading.Thread(target=write, args=(data,))
        thread.start()
        assert reader() == [b"a", b"b"]
        thread.join()


def test_a_pipe_has_all_its_bytes(special):
    special("pipe")
    data = np.random.default_rng(0).bytes(300_000)
    thread = threading.Thread(target=lambda: Path("pipe").write_bytes(data))
    thread.start()
    with inputs.open_input("pipe", pipes=True) as file:
        assert file.read(1) + file.readall() == data
    thread.join()
    with pytest.raises(FormatError, match="empty|not an"):
        load(os.devnull)
