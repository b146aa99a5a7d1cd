"""One run of one target under atheris; `run.py` starts it.

    python fuzz/child.py TARGET FINDINGS [libFuzzer's arguments]

An exception does not end the run: the input is saved in the folder FINDINGS, once for each place in the code, and the
run goes on. A crash, a timeout or too much memory ends it, and libFuzzer saves the input.
"""

import hashlib
import importlib
import json
import pkgutil
import random
import sys
import traceback
import warnings
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[1]
NOT_IMPORTED = ("embshrink.cli", "embshrink.__main__")  # need packages that reading does not


def instrument(kernels: bool) -> None:
    """Import all modules of embshrink so that atheris sees which branches they take; kernels only if not compiled."""
    folder = ROOT / "embshrink" / "kernels"
    names = ["embshrink.kernels", *(f"embshrink.kernels.{path.stem}" for path in folder.glob("*.py"))]
    with atheris.instrument_imports(include=["embshrink", "zipfile", "tarfile"], exclude=[] if kernels else names):
        import embshrink

        for module in pkgutil.walk_packages(embshrink.__path__, "embshrink."):
            if not module.name.startswith(NOT_IMPORTED):
                importlib.import_module(module.name)


def place_of(error: BaseException) -> str:
    """Return what tells one finding from another: the exception, and the lines of embshrink and of the target."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/embshrink/" in frame.filename] or frames
    return f"{type(error).__name__} {Path(ours[-1].filename).name}:{ours[-1].lineno} target:{frames[1].lineno}"


class Checked:
    """The target as libFuzzer calls it."""

    def __init__(self, name: str, findings: Path) -> None:
        from fuzz.targets import TARGETS

        self._check, self._name, self._findings = TARGETS[name].check, name, findings
        self._seen = set()

    def __call__(self, data: bytes) -> None:
        try:
            self._check(data)
        except Exception as error:
            place = place_of(error)
            if place in self._seen:
                return
            self._seen.add(place)
            key = hashlib.sha256(place.encode()).hexdigest()[:12]
            self._findings.mkdir(parents=True, exist_ok=True)
            (self._findings / f"{self._name}-{key}").write_bytes(data)
            report = {"place": place, "traceback": traceback.format_exc()}
            (self._findings / f"{self._name}-{key}.json").write_text(json.dumps(report, indent=1))
            print(f"FINDING {self._name} {place}: {error}", file=sys.stderr, flush=True)


def main(name: str, findings: str, *arguments: str) -> None:
    import numba

    interpreted = bool(numba.config.DISABLE_JIT)
    warnings.simplefilter("ignore" if interpreted else "error", RuntimeWarning)  # Python kernels warn as they wrap
    instrument(kernels=interpreted)
    from fuzz.mutators import MUTATORS

    custom = None
    if name in MUTATORS:
        def custom(data: bytes, most: int, seed: int) -> bytes:
            return MUTATORS[name](bytes(data), atheris.Mutate, most, random.Random(seed))

    more = {} if custom is None else {"custom_mutator": custom}
    check = Checked(name, Path(findings))
    if not interpreted:  # compile now, so that no input is charged with the time
        for path in sorted(Path(arguments[-1]).iterdir()):
            check(path.read_bytes())
    atheris.Setup([sys.argv[0], *arguments], check, **more)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    main(*sys.argv[1:])
