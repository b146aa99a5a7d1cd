"""Faults while files are written: every call that fails, every step at which a process dies, every power cut.

``python tests/faults.py --full`` runs all of it and prints how often each kind of fault was tried; it takes minutes.
tests/test_faults.py runs a part of it in every run of the tests. All writers are tried: ``.ems`` files, with and
without a list of shared words, and every format that is exported.

After each fault, each target is as it was before, or complete and new; nothing is beside it (after a kill: at most
one temporary); the error names the target and what the system said; no file stays open; and the same call without a
fault writes the same bytes as ever.
"""

import argparse
import contextlib
import dataclasses
import errno
import functools
import io
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

import embshrink
from embshrink import ReadOptions, WordVectors, compress, load, write_vectors
from embshrink.errors import EmbshrinkError, TargetError
from embshrink.formats import FORMATS
from embshrink.storage import disk_rows, renames
from embshrink.storage.container import write_container

CODES = [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES]
CALLS = ["open", "fsync", "close", "replace", "rename", "link", "unlink", "mkdir", "rmdir"]  # of os
KINDS = [*CALLS, "write", "renameat2"]
SECTOR = 512
DAY_OLD = 25 * 3600
WORDS = [f"w{number}" for number in range(60)]


# ---------------------------------------------------------------- what is written


@dataclasses.dataclass(frozen=True)
class Writer:
    """One way to write files.

    Parameters
    ----------
    name : str
    targets : tuple of str
        Names of the files, or of the folder.
    write : callable
        ``write(folder, force)`` writes them.
    """

    name: str
    targets: tuple
    write: object

    def state(self, folder):
        """Return the content of each target: bytes, a dict for a folder, None if there is none."""
        return {name: content(folder / name) for name in self.targets}


def content(path):
    if path.is_dir():
        return {one.name: one.read_bytes() for one in path.iterdir()}
    return path.read_bytes() if path.exists() else None


def vectors(seed):
    return WordVectors(WORDS, np.random.default_rng(seed).standard_normal((len(WORDS), 8)).astype(np.float32))


def writers(scratch):
    """Return all writers; each writes the same bytes at every call. `scratch` keeps what they read."""
    (scratch / "table.floret").write_bytes(
        b"40 6 3 4 2 2166136261 < >\n" + b"".join(
            b"%d %s\n" % (row, b" ".join(b"%d.5" % (row + column) for column in range(6))) for row in range(40)))
    compress(scratch / "table.floret", scratch / "floret.ems", "cast", measure=False, force=True)
    compress(vectors(0), scratch / "words.ems", "prune:keep=20", measure=False, force=True)
    words, ngrams = load(scratch / "words.ems"), load(scratch / "floret.ems")
    arrays = {"a": np.arange(10_000, dtype=np.uint32), "b": np.ones(5, np.float32)}  # more than a buffer

    def container(folder, force):
        write_container(folder / "a.ems", {"x": 1}, arrays, force=force)

    def shared(name, folder, force):
        compress(vectors(0), folder / "a.ems", "prune:keep=20", remap=folder / name, measure=False, force=force)

    def exported(name, folder, force):
        embshrink.export(ngrams if name == "floret" else words, folder / "out", name, force=force)

    listed = [Writer("ems", ("a.ems",), container)]
    listed += [Writer(f"ems and {name}", ("a.ems", name), functools.partial(shared, name))
               for name in ("remap.tsv", "remap.json")]
    formats = [name for name, one in FORMATS.items() if one.write]
    return listed + [Writer(name, ("out",), functools.partial(exported, name)) for name in formats]


def prepared(folder, writer, overwrite):
    """Empty a folder; put something in the place of the targets if asked for; return what is there."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if overwrite:
        for name in writer.targets:
            if writer.name == "spacy":
                write_vectors(["before"], [np.ones((1, 3), np.float32)], folder / name, "spacy")
            else:
                (folder / name).write_bytes(b"what was there before")
    return writer.state(folder)


def descriptors():
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


# ---------------------------------------------------------------- the calls of a writer


class Calls:
    """Every call by which a writer changes files, in order; `before` and `after` see each, and may raise or kill.

    Parameters
    ----------
    before, after : callable, optional
        ``before(kind, arguments)``, ``after(kind, arguments)``.
    most : callable, optional
        ``most(length)``: how many bytes a write takes at most.
    kinds : collection of str
        The calls that are watched.
    """

    def __init__(self, before=None, after=None, most=None, kinds=KINDS):
        self.before, self.after, self.most = before or self._nothing, after or self._nothing, most
        self.kinds = kinds
        self.paths = {}  # of open files, by descriptor
        self._undo = []

    @staticmethod
    def _nothing(kind, arguments):
        pass

    def __enter__(self):
        for name in CALLS:
            self._replace(os, name, self._watched(name, getattr(os, name)))
        self._replace(renames, "renameat2", self._watched("renameat2", renames.renameat2))
        self._replace(os, "fdopen", self._opened)
        return self

    def __exit__(self, *error):
        for owner, name, value in self._undo:
            setattr(owner, name, value)

    def _replace(self, owner, name, value):
        self._undo.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def met(self, see, kind, arguments):
        if kind in self.kinds:
            see(kind, arguments)

    def _watched(self, kind, function):
        def call(*arguments, **options):
            named = [self.paths.get(one, one) if isinstance(one, int) and kind in ("fsync", "close") else one
                     for one in arguments]
            if kind == "close":  # what fails to close is closed all the same
                self.paths.pop(arguments[0], None)
                function(*arguments)
                self.met(self.before, kind, named)
                return None
            self.met(self.before, kind, named)
            result = function(*arguments, **options)
            if kind == "open":
                self.paths[result] = arguments[0]
            self.met(self.after, kind, named)
            return result

        return call

    def _opened(self, descriptor, mode):
        calls = self

        class Raw(io.FileIO):
            def write(self, data):
                data = bytes(data)
                calls.met(calls.before, "write", [calls.paths.get(descriptor)])
                count = super().write(data if calls.most is None else data[:calls.most(len(data))])
                calls.met(calls.after, "write", [calls.paths.get(descriptor), data[:count]])
                return count

            def close(self):
                if not self.closed:
                    super().close()
                    calls.met(calls.before, "close", [calls.paths.pop(descriptor, None)])

        return io.BufferedWriter(Raw(descriptor, mode))


def failing(*numbers, code, kinds=KINDS, seen=None):
    """Return the calls of a writer, of which some fail, counted from 1 over `kinds`; `seen` gets all kinds met."""
    seen = [] if seen is None else seen

    def before(kind, arguments):
        seen.append(kind)
        if len(seen) in numbers:
            raise OSError(code, os.strerror(code))

    return Calls(before, kinds=kinds)


def check(writer, folder, before, new, error=None, left=0):
    """Check what must hold after a fault, and that the same call then writes the same as ever."""
    found = writer.state(folder)
    for name in writer.targets:
        assert found[name] in (before[name], new[name]), f"{writer.name}: {name} is broken"
    if error is None:
        assert found == new, f"{writer.name}: no error, but the targets are not as they should be"
    others = [name for name in os.listdir(folder) if name not in writer.targets]
    assert len(others) <= left and all(name.endswith((".tmp", ".old")) for name in others), f"{writer.name}: {others}"
    for name in others:
        for path in [folder / name, *((folder / name).iterdir() if (folder / name).is_dir() else ())]:
            os.utime(path, (time.time() - DAY_OLD,) * 2)
    writer.write(folder, True)
    assert writer.state(folder) == new, f"{writer.name}: a second run writes something else"
    assert sorted(os.listdir(folder)) == sorted(writer.targets), f"{writer.name}: {os.listdir(folder)}"


def attempt(writer, folder, force, context):
    """Write under a fault; return the error."""
    open_before = descriptors()
    error = None
    try:
        with context:
            writer.write(folder, force)
    except TargetError as caught:
        error = one = caught
        while one is not None:  # its frames would keep files of rows open
            one.__traceback__, one = None, one.__cause__ or one.__context__
    assert descriptors() <= open_before, f"{writer.name}: a file stays open"
    return error


def names_the_fault(writer, folder, error, code):
    assert os.strerror(code) in str(error), str(error)
    assert any(str(error).startswith(f"{folder / name}: ") for name in writer.targets), str(error)


# ---------------------------------------------------------------- runs; each returns how many faults were tried


def nth_call(writer, folder, new, codes):
    """Let the N-th call fail, for N = 1, 2, ... until nothing fails any more."""
    runs = 0
    for code, overwrite in itertools.product(codes, (False, True)):
        failures = 0
        for number in itertools.count(1):
            before = prepared(folder, writer, overwrite)
            seen = []
            error = attempt(writer, folder, overwrite, failing(number, code=code, seen=seen))
            if error is not None:
                failures += 1
                names_the_fault(writer, folder, error, code)
            left = number <= len(seen) and seen[number - 1] in ("unlink", "rmdir")  # cleaning up fails
            check(writer, folder, before, new, error, left)
            if number > len(seen):
                assert error is None
                break
            runs += 1
        assert failures > 3, f"{writer.name}: hardly any call matters"
    return runs


def other_ways(writer, folder, new, codes):
    """Let the N-th call fail where the file system can neither exchange nor rename without replacing nor link."""
    runs = 0

    def missing(*arguments):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    for calls in ((renames,), (renames, os)):
        with contextlib.ExitStack() as stack:
            for owner in calls:
                name = "link" if owner is os else "renameat2"
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, missing)
            runs += nth_call(writer, folder, new, codes)
    return runs


def short_writes(writer, folder, new, rng):
    """Let the system take a byte, or half, of what is written; and let signals interrupt writes."""
    runs = 0
    interrupted = []

    def interrupt(kind, arguments):
        interrupted.append(kind)
        if len(interrupted) % 2:
            raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))

    for most in (lambda length: min(length, 1 + rng.randrange(100)), lambda length: (length + 1) // 2):
        for hook, overwrite in itertools.product((None, interrupt), (False, True)):
            before = prepared(folder, writer, overwrite)
            assert attempt(writer, folder, overwrite, Calls(hook, most=most, kinds=("write",))) is None
            check(writer, folder, before, new)
            runs += 1
    return runs


def two_failures(writer, folder, new, rng, count):
    """Let two calls fail in one run: the second one is mostly in cleaning up."""
    seen = []
    prepared(folder, writer, True)
    attempt(writer, folder, True, failing(code=errno.EIO, seen=seen))
    for _ in range(count):
        before = prepared(folder, writer, True)
        first = rng.randint(1, len(seen))
        error = attempt(writer, folder, True, failing(first, first + rng.randint(1, 3), code=errno.ENOSPC))
        if error is not None:
            names_the_fault(writer, folder, error, errno.ENOSPC)
        check(writer, folder, before, new, error, left=2)
    return count


def limited_sizes(writer, folder, new, count):
    """Let the kernel itself cut a write short: RLIMIT_FSIZE."""
    import resource

    largest = max(len(part) for one in new.values() for part in (one.values() if isinstance(one, dict) else [one]))
    before_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in np.linspace(0, largest - 1, count).astype(int).tolist():
        before = prepared(folder, writer, True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before_limit[1]))
        try:
            error = attempt(writer, folder, True, contextlib.nullcontext())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before_limit)
        assert error is not None, f"{writer.name}: no error with a limit of {size} bytes"
        names_the_fault(writer, folder, error, errno.EFBIG)
        check(writer, folder, before, new, error)
    return count


def out_of_memory(folder, count):
    """Let the N-th block of memory be refused while a table is compressed or exported."""
    runs = 0

    def write(steps, folder, force):
        compress(vectors(0), folder / "a.ems", steps, measure=False, force=force)

    for steps in ("cast", "scalar:bits=4", "prune:keep=20"):
        writer = Writer(steps, ("a.ems",), functools.partial(write, steps))
        prepared(folder, writer, False)
        writer.write(folder, True)
        new = writer.state(folder)
        for number in itertools.count(1):
            before, seen, error = prepared(folder, writer, True), [], None

            def refuse(function, *arguments, seen=seen, number=number, **options):
                seen.append(function)
                if len(seen) == number:
                    raise MemoryError
                return function(*arguments, **options)

            with contextlib.ExitStack() as stack:
                for name in ("empty", "zeros", "full", "concatenate", "ascontiguousarray"):
                    stack.callback(setattr, np, name, getattr(np, name))
                    setattr(np, name, functools.partial(refuse, getattr(np, name)))
                try:
                    writer.write(folder, True)
                except (MemoryError, EmbshrinkError) as caught:
                    error = caught
            check(writer, folder, before, new, error)
            if len(seen) < number or number > count:
                break
            runs += 1
    return runs


def spooled(folder, codes):
    """Let the N-th write of rows that are kept on disk (--max-memory) fail, and take a part only."""
    runs = 0
    source = folder / "source.bin"

    def write(folder, force):
        compress(source, folder / "a.ems", "scalar", measure=False, force=force, max_memory=disk_rows.LEAST_LIMIT,
                 options=ReadOptions(format="word2vec"))

    inside = folder / "inside"
    inside.mkdir()
    write_vectors(WORDS, [vectors(0).matrix], source, "word2vec")
    writer = Writer("rows on disk", ("a.ems",), write)
    share, pwritev = disk_rows.SHARE, os.pwritev
    disk_rows.SHARE = disk_rows.LEAST_LIMIT  # every table is too large
    try:
        write(inside, False)
        new = writer.state(inside)
        for code in (*codes, None):
            for number in itertools.count(1):
                before, seen = prepared(inside, writer, True), []

                def some(descriptor, views, position, code=code, number=number, seen=seen):
                    seen.append(position)
                    if code is None:
                        return pwritev(descriptor, [views[0][:max(1, len(views[0]) // 2)]], position)
                    if len(seen) == number:
                        raise OSError(code, os.strerror(code))
                    return pwritev(descriptor, views, position)

                os.pwritev = some
                try:
                    error = attempt(writer, inside, True, contextlib.nullcontext())
                finally:
                    os.pwritev = pwritev
                assert seen, "no rows on disk"
                assert error is None or (os.strerror(code) in str(error) and str(inside) in str(error))
                check(writer, inside, before, new, error)
                runs += 1
                if error is None:
                    break
    finally:
        disk_rows.SHARE, os.pwritev = share, pwritev
        source.unlink()
        shutil.rmtree(inside)
    return runs


def full_disk(folder):
    """Fill a real file system of 1 MiB, with a file and with rows kept on disk; return 0 if none can be mounted."""
    place = folder / "small"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True).returncode == 0
    if not mounted:
        place.rmdir()
        return 0
    matrix = np.random.default_rng(0).standard_normal((12_000, 50)).astype(np.float32)
    share = disk_rows.SHARE
    try:
        write_vectors(map(str, range(len(matrix))), [matrix], folder / "source.bin", "word2vec")
        (place / "a.ems").write_bytes(b"before")
        for limit in (None, disk_rows.LEAST_LIMIT):
            disk_rows.SHARE = share if limit is None else disk_rows.LEAST_LIMIT
            try:
                compress(folder / "source.bin", place / "a.ems", "cast", force=True, max_memory=limit)
                raise AssertionError("there is no room for this file")
            except TargetError as error:
                assert "No space left on device" in str(error) and str(place) in str(error)
            assert os.listdir(place) == ["a.ems"] and (place / "a.ems").read_bytes() == b"before"
            assert shutil.disk_usage(place).used < 8192
    finally:
        disk_rows.SHARE = share
        (folder / "source.bin").unlink()
        subprocess.run(["umount", place], check=True)
        place.rmdir()
    return 2


# ---------------------------------------------------------------- processes that end


def forked(action):
    """Start a child process that ends with the code that `action` returns, and return its id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # BLAS has threads, which the child does not use
        child = os.fork()
    if child:
        return child
    code = 99
    try:
        code = action()
    except SystemExit as end:
        code = end.code or 0
    finally:
        os._exit(code)


def ended(child):
    """Return the exit code of a child process, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at_each_step(writer, folder, new, step=1):
    """Kill a writer before and after each of its calls."""
    runs = 0
    for overwrite in (False, True):
        for number in itertools.count(1, step):
            before = prepared(folder, writer, overwrite)
            seen = []

            def die(kind, arguments, seen=seen, number=number):
                seen.append(kind)
                if len(seen) == number:
                    os.kill(os.getpid(), signal.SIGKILL)

            def act(die=die, overwrite=overwrite):
                with Calls(die, die):
                    writer.write(folder, overwrite)
                return 0

            code = ended(forked(act))
            assert code in (0, -signal.SIGKILL), code
            check(writer, folder, before, new, None if code == 0 else code, left=0 if code == 0 else 2)
            if code == 0:
                break
            runs += 1
    return runs


def kill_at_random_times(folder, rng, count):
    """Kill a process that writes again and again."""
    def arrays(value):
        return {"a": np.full(100_000, value, np.uint8)}

    path = folder / "a.ems"
    prepared(folder, Writer("", (), None), False)
    for _ in range(count):
        def act():
            for value in itertools.cycle((1, 2)):
                write_container(path, {}, arrays(value), force=True)

        child = forked(act)
        time.sleep(rng.random() * 0.05)
        os.kill(child, signal.SIGKILL)
        assert ended(child) == -signal.SIGKILL
        if path.exists():
            with load_container(path) as opened:
                assert set(np.asarray(opened.sections["a"]).tolist()) in ({1}, {2})
        left = [name for name in os.listdir(folder) if name != "a.ems"]
        assert len(left) <= 1
        for name in left:
            os.utime(folder / name, (time.time() - DAY_OLD,) * 2)
    write_container(path, {}, arrays(1), force=True)
    assert os.listdir(folder) == ["a.ems"]
    return count


def load_container(path):
    from embshrink.storage.container import Container

    return Container(path, verify="full")


def signals_at_random_times(folder, rng, number, count):
    """Stop commands: they clean up, and exit with 128 and the number of the signal."""
    from embshrink.cli.commands import cli

    write_vectors(WORDS, [vectors(0).matrix], folder / "v.bin", "word2vec", force=True)
    compress(vectors(0), folder / "v.ems", "cast", measure=False, force=True)
    commands = [
        Writer("compress", ("a.ems", "r.tsv"), ["compress", "v.bin", "a.ems", "prune:keep=9", "cast", "--remap",
                                                "r.tsv", "-f", "-q", "--no-measure"]),
        Writer("export", ("out",), ["export", "v.ems", "out", "--to", "spacy", "-f", "-q"])]
    kept = {"v.bin", "v.ems"}
    for run in range(count):
        writer = commands[run % len(commands)]

        def act(writer=writer):
            os.chdir(folder)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.stderr = io.StringIO()
            try:
                cli(writer.write, prog_name="embshrink")
            except KeyboardInterrupt:  # before the command has begun
                return 128 + signal.SIGINT
            return 0

        started = time.perf_counter()
        assert ended(forked(act)) == 0
        takes = time.perf_counter() - started
        new = writer.state(folder)
        if run // len(commands) % 2:
            for name in writer.targets:
                shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
        before = writer.state(folder)
        child = forked(act)
        time.sleep(rng.random() * takes)
        os.kill(child, number)
        code = ended(child)
        # Before the command has begun, and after it has ended, the system's own handler ends the process.
        assert code in (0, 128 + number, -number), (writer.name, code)
        found = writer.state(folder)
        assert all(found[name] in (before[name], new[name]) for name in writer.targets), writer.name
        assert set(os.listdir(folder)) - kept <= {"a.ems", "r.tsv", "out"}, os.listdir(folder)
    return count


def races(folder, processes, rounds):
    """Let processes write one new target at the same time, without force: one succeeds."""
    prepared(folder, Writer("", (), None), False)
    path = folder / "a.ems"
    for _ in range(rounds):
        path.unlink(missing_ok=True)
        go, went = os.pipe()

        def act(value, go=go):
            try:
                write_container(path, {"by": value}, {"a": np.full(100_000, value, np.uint8)},
                                check=lambda _: os.read(go, 1))
            except TargetError as error:
                return 1 if "the target exists" in str(error) else 2
            return 0

        children = [forked(functools.partial(act, value)) for value in range(processes)]
        os.write(went, b"x" * processes)
        codes = [ended(child) for child in children]
        os.close(go)
        os.close(went)
        assert Counter(codes) == {0: 1, 1: processes - 1}, codes
        with load_container(path) as opened:
            assert codes[opened.header["by"]] == 0
            assert set(np.asarray(opened.sections["a"]).tolist()) == {opened.header["by"]}
        assert os.listdir(folder) == ["a.ems"]
    return rounds


# ---------------------------------------------------------------- power cuts


class Disk:
    """A file system after a power cut: names and contents, of which the last changes may be lost.

    Changes of a folder land in order; those before its last fsync have landed. Of a file, what was written after its
    last fsync may be missing, cut or zero, in units of a sector.
    """

    def __init__(self, files):
        self.names = {path: [bytearray(data), len(data)] for path, data in files.items()}  # data, and what is synced

    def copy(self):
        other = Disk({})
        other.names = dict(self.names)
        return other

    def rename(self, source, target):
        moved = {path: one for path, one in self.names.items() if path == source or path.startswith(source + "/")}
        for path in moved:
            del self.names[path]
        self.remove(target)
        self.names.update({target + path[len(source):]: one for path, one in moved.items()})

    def remove(self, target):
        for path in [path for path in self.names if path == target or path.startswith(target + "/")]:
            del self.names[path]

    def apply(self, kind, arguments):
        first, *rest = arguments
        if kind == "create":
            self.names[first] = rest[0]
        elif kind in ("replace", "rename"):
            self.rename(first, rest[0])
        elif kind == "exchange":
            self.rename(first, first + "?")
            self.rename(rest[0], first)
            self.rename(first + "?", rest[0])
        elif kind in ("unlink", "rmdir"):
            self.remove(first)


def recorded(writer, folder, overwrite):
    """Return the changes that a writer makes, in order: (kind, arguments), with files as [data, synced]."""
    changes, files = [], {}

    def after(kind, arguments):
        path = os.fspath(arguments[0])
        if kind == "open" and len(arguments) > 1 and arguments[1] & os.O_CREAT:
            files[path] = [bytearray(), 0]
            changes.append(("create", (path, files[path])))
        elif kind == "write":
            changes.append(("write", (files[path], arguments[1])))
        elif kind == "fsync":
            changes.append(("fsync", (files.get(path), path)))
        elif kind == "renameat2":
            changes.append(("exchange" if arguments[2] == 2 else "rename", arguments[:2]))
        elif kind in ("replace", "rename", "unlink", "rmdir"):
            changes.append((kind, arguments))

    prepared(folder, writer, overwrite)
    with Calls(after=after):
        writer.write(folder, overwrite)
    return changes


def power_cuts(writer, folder, new, rng):
    """Cut the power after each change, with all that may have reached the disk; return how many states were seen."""
    states = 0
    for overwrite in (False, True):
        before = prepared(folder, writer, overwrite)
        files = {os.fspath(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        changes = recorded(writer, folder, overwrite)
        for stop in range(len(changes) + 1):
            disk, pending, written = Disk(files), [], {}
            for kind, arguments in changes[:stop]:
                if kind == "write":
                    data, extra = arguments
                    written.setdefault(id(data), [data, bytearray(), 0])[1].extend(extra)
                elif kind == "fsync" and arguments[0] is not None:
                    one = written.setdefault(id(arguments[0]), [arguments[0], bytearray(), 0])
                    one[2] = len(one[1])
                elif kind == "fsync":
                    for change in [one for one in pending if os.path.dirname(one[1][0]) == arguments[1]]:
                        disk.apply(*change)
                        pending.remove(change)
                else:
                    pending.append((kind, arguments))
            for landed in range(len(pending) + 1):
                now = disk.copy()
                for change in pending[:landed]:
                    now.apply(*change)
                for loss in ("none", "all", "cut", "zeros"):
                    seen_on(writer, folder, now, written, loss, rng, before, new)
                    states += 1
        prepared(folder, writer, False)
    return states


def seen_on(writer, folder, disk, written, loss, rng, before, new):
    """Check the targets on a disk whose files have lost what was not synced."""
    def data_of(one):
        if id(one) not in written:
            return bytes(one[0])
        _, data, synced = written[id(one)]
        rest = bytearray(data[synced:])
        if loss == "all":
            rest = bytearray()
        elif loss == "cut":
            rest = rest[:rng.randrange(len(rest) // SECTOR + 1) * SECTOR]
        elif loss == "zeros":
            for start in range(0, len(rest), SECTOR):
                if rng.random() < 0.5:
                    rest[start:start + SECTOR] = bytes(len(rest[start:start + SECTOR]))
        return bytes(data[:synced] + rest)

    for name in writer.targets:
        path = os.fspath(folder / name)
        inside = {one[len(path) + 1:]: data_of(file) for one, file in disk.names.items()
                  if one.startswith(path + "/")}
        found = inside or (data_of(disk.names[path]) if path in disk.names else None)
        assert found in (before[name], new[name]), f"{writer.name}: {name} after a power cut ({loss})"


# ---------------------------------------------------------------- all of it


def run(folder, seed=0, full=False, only=None):
    """Run the faults, and return how many of each kind were tried.

    Parameters
    ----------
    folder : pathlib.Path
        An empty folder.
    seed : int
    full : bool
        All of it; else what a run of all tests has time for.
    only : str, optional
        One kind of fault.
    """
    rng, counts = random.Random(seed), Counter()
    scratch, place = folder / "scratch", folder / "place"
    scratch.mkdir()
    place.mkdir()
    codes = CODES if full else CODES[:1]
    for writer in writers(scratch):
        prepared(place, writer, False)
        writer.write(place, False)
        new = writer.state(place)
        each = {
            "N-th call fails": lambda: nth_call(writer, place, new, codes),  # noqa: B023
            "N-th call fails, without renameat2 and link": lambda: other_ways(writer, place, new, codes),  # noqa: B023
            "short and interrupted writes": lambda: short_writes(writer, place, new, rng),  # noqa: B023
            "two failures": lambda: two_failures(writer, place, new, rng, 50 if full else 5),  # noqa: B023
            "RLIMIT_FSIZE": lambda: limited_sizes(writer, place, new, 20 if full else 4),  # noqa: B023
            "kill -9 at each step": lambda: kill_at_each_step(writer, place, new, 1 if full else 3),  # noqa: B023
            "power cut": lambda: power_cuts(writer, place, new, rng),  # noqa: B023
        }
        for name, action in each.items():
            if only in (None, name):
                counts[name] += action()
        prepared(place, writer, False)
    once = {
        "kill -9 at a random time": lambda: kill_at_random_times(place, rng, 200 if full else 10),
        "SIGINT": lambda: signals_at_random_times(place, rng, signal.SIGINT, 50 if full else 6),
        "SIGTERM": lambda: signals_at_random_times(place, rng, signal.SIGTERM, 50 if full else 6),
        "SIGHUP": lambda: signals_at_random_times(place, rng, signal.SIGHUP, 50 if full else 2),
        "8 processes, one new target": lambda: races(place, 8 if full else 4, 20 if full else 5),
        "N-th block of memory is refused": lambda: out_of_memory(place, 60 if full else 15),
        "rows on disk (--max-memory): N-th write fails": lambda: spooled(place, codes),
        "a full disk (tmpfs of 1 MiB)": lambda: full_disk(place),
    }
    for name, action in once.items():
        if only in (None, name):
            prepared(place, Writer("", (), None), False)
            counts[name] += action()
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="all faults; takes minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="NAME", help="one kind of fault, as it is printed")
    parser.add_argument("--folder", help="where to write; a new folder for temporary files by default")
    options = parser.parse_args()
    started = time.perf_counter()
    warnings.simplefilter("ignore", ResourceWarning)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        counts = run(Path(folder).resolve(), options.seed, options.full, options.only)
    for name, count in counts.items():
        print(f"{name:50} {count:6,}" if count else f"{name:50} NOT RUN: it cannot be done here")
    print(f"{'in all':50} {sum(counts.values()):6,}   ({time.perf_counter() - started:.0f} s, seed {options.seed})")


if __name__ == "__main__":
    main()
