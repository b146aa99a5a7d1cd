"""The header of an ``.ems`` file: its keys, with their types and limits.

`Header.as_dict` gives the JSON object, `Header.of` reads and checks one, and `describe` returns the tables of keys in
``docs/format.md``. Unknown keys are ignored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from embshrink.errors import DAMAGED, FormatError
from embshrink.storage.container import NEWER

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_DIM = 65_536
MAX_STEPS = 100
MAX_SIZE = 2**63 - 1
VOCABULARIES = ("plain", "packed")
HEADER = "header"

Parts = Mapping[str, object]


def _key(shown: str, meaning: str, *, optional: bool = False) -> Any:
    """Declare a key: its type and limits as docs/format.md shows them, its meaning, and whether it may be missing."""
    metadata = {"shown": shown, "meaning": meaning}
    if optional:
        return dataclasses.field(default=None, metadata={**metadata, "optional": True})
    return dataclasses.field(metadata=metadata)


_KINDS: dict[str, type] = {"int": int, "bool": bool, "str": str, "list[str]": list, "Parts": dict}


def _kind(field: dataclasses.Field[Any]) -> type:
    """Return the Python type of the JSON value of a field."""
    return _KINDS[str(field.type).removesuffix(" | None")]


def _all_strings(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


@dataclasses.dataclass(eq=False, repr=False)
class SourceInfo:
    """The origin of the vectors. Any key may be missing or null."""

    name: str | None = _key("string", "the file's name", optional=True)
    format: str | None = _key("string", "its format, as `embshrink formats` lists them", optional=True)
    sha256: str | None = _key("string", "SHA-256 of the file as given", optional=True)
    size: int | None = _key("int, 0 to 2^63 - 1", "bytes of the file as given", optional=True)
    steps: list[str] | None = _key("strings", "the steps of its own header, if it was an `.ems` file", optional=True)

    @classmethod
    def check(cls, parts: Parts) -> None:
        """Raise FormatError if a key has the wrong type, or the size is out of range."""
        for field in dataclasses.fields(cls):
            kind, value = _kind(field), parts.get(field.name)
            if value is None:
                continue
            proper = type(value) is kind
            if isinstance(value, int):
                proper = proper and 0 <= value <= MAX_SIZE
            if kind is list:
                proper = proper and _all_strings(value)
            if not proper:
                raise FormatError(f"the key 'source.{field.name}' is invalid", where=HEADER,
                                  expected=kind.__name__, found=value, hint=DAMAGED)


@dataclasses.dataclass(eq=False, repr=False)
class SubwordsHeader:
    """The n-grams, from which OOV words get vectors: which ones have rows, and how the rows are stored."""

    minn: int = _key("int, 0 to 100", "characters of the shortest n-gram")
    maxn: int = _key("int, 0 to 100", "characters of the longest n-gram")
    bucket: int = _key("int, 1 to 2^31 - 1", "number of buckets that n-grams are hashed to")
    present: int = _key("int, 0 to `bucket`", "number of buckets that have a vector")
    missing: str = _key("`zero` or `skip`", "how an n-gram without a vector counts: as a zero vector, or not at all")
    rows: int = _key("int, 0 to `present`", "number of stored rows of the second table, for `present` n-grams")
    owned: bool = _key("bool", "as in section 2, for the second table")
    steps: list[str] = _key("list of strings", "as in section 2, for the second table")
    hash: str | None = _key("`fnv1a` (if missing) or `floret`", "how n-grams are hashed", optional=True)
    hashes: int | None = _key("int, 1 to 4", "only for `floret`: number of buckets for each n-gram", optional=True)
    seed: int | None = _key("int, 0 to 2^32 - 1", "only for `floret`: seed of the hash", optional=True)
    bow: str | None = _key("string of at most 100 characters", "only for `floret`: mark before a word", optional=True)
    eow: str | None = _key("string of at most 100 characters", "only for `floret`: mark after a word", optional=True)

    @classmethod
    def of(cls, parts: object) -> Self:
        """Read and check the object `subwords` of a header.

        `embshrink.vocabulary.ngram_hashing` checks the settings of the hashing.

        Raises
        ------
        FormatError
            If a key is missing or has the wrong type, or there are more rows than n-grams.
        """
        fields = dataclasses.fields(cls)
        required = [field for field in fields if "optional" not in field.metadata]
        optional = [field for field in fields if "optional" in field.metadata]
        if type(parts) is not dict or any(type(parts.get(field.name)) is not _kind(field) for field in required) or (
            not _all_strings(parts["steps"]) or not 0 <= parts["rows"] <= parts["present"]
        ) or any(field.name in parts and parts[field.name] is None for field in optional):
            raise FormatError("the key 'subwords' is invalid", where=HEADER,
                              expected=f"valid keys {', '.join(sorted(field.name for field in required))}",
                              found=parts, hint=DAMAGED)
        known: dict[str, Any] = {field.name: parts.get(field.name) for field in fields}
        return cls(**known)

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object, without optional keys that are None."""
        return _present(self)


@dataclasses.dataclass(eq=False, repr=False)
class Header:
    """The header of a file, without the section table.

    Parameters
    ----------
    dim : int
        Length of a vector as the user sees it.
    words, rows : int
        Number of words, and of stored rows.
    owned : bool
        Whether each row is the vector of a word; false for centroids.
    vocabulary : {"plain", "packed"}
        How words are stored.
    steps : list of str
        What was done to the vectors, in order.
    seed : int
        Seed of the run.
    source : mapping
        The keys of `SourceInfo`; for an ``.ems`` source also the keys of its own header that state its origin.
    writer : str
        Program and version.
    counts, protected : mapping, optional
        The file of word counts; the words that row steps had to keep.
    subwords : SubwordsHeader, optional
        The n-grams.
    """

    dim: int = _key("int, 1 to 65,536", "length of a vector as the user sees it")
    words: int = _key("int >= 0", "number of words n; ids are 0 to n - 1")
    rows: int = _key("int >= 0", "number of stored rows")
    owned: bool = _key("bool", "whether each row is the vector of a word; false for centroids")
    vocabulary: str = _key("string", "how words are stored: `plain` (section 4) or `packed` (section 4b)")
    steps: list[str] = _key("list of at most 100 strings",
                            "what was done to the vectors, in order (sections 5 and 6)")
    seed: int = _key("int >= 0", "seed of the run, to repeat it")
    source: Parts = _key("object", "origin of the vectors, below")
    writer: str = _key("string", "program and version")
    counts: Parts | None = _key("object, optional", "the word counts used: `name`, and `sha256` of the bytes if it "
                                "was a file", optional=True)
    subwords: SubwordsHeader | None = _key("object, optional", "the n-grams for out-of-vocabulary words (section 6a)",
                                           optional=True)
    protected: Parts | None = _key("object, optional", "the words that row steps had to keep: `words`, their "
                                   "number; `sha256` of their ids in the source, ascending, as u64", optional=True)

    @classmethod
    def of(cls, parts: Parts) -> Self:
        """Read and check the header of a file.

        Raises
        ------
        FormatError
            If a key is missing or has the wrong type, or a value is out of range.
        """
        fields = dataclasses.fields(cls)
        for field in fields:
            if "optional" not in field.metadata and type(parts.get(field.name)) is not _kind(field):
                raise FormatError(f"the key {field.name!r} is missing or has the wrong type", where=HEADER,
                                  expected=_kind(field).__name__, found=parts.get(field.name), hint=DAMAGED)
        known: dict[str, Any] = {field.name: parts.get(field.name) for field in fields}
        header = cls(**{**known, "subwords": None})
        header._check()
        if "subwords" not in parts:
            return header
        return dataclasses.replace(header, subwords=SubwordsHeader.of(parts["subwords"]))

    def _check(self) -> None:
        numbers = {name: getattr(self, name) for name in ("dim", "words", "rows", "seed")}
        if not 1 <= self.dim <= MAX_DIM or min(numbers.values()) < 0:
            raise FormatError("a number is out of range", where=HEADER,
                              expected=f"dim 1 to {MAX_DIM}, the others 0 or more", found=numbers, hint=DAMAGED)
        if not _all_strings(self.steps):
            raise FormatError("the key 'steps' is invalid", where=HEADER, expected="a list of strings",
                              found=self.steps, hint=DAMAGED)
        if len(self.steps) > MAX_STEPS:
            raise FormatError("there are too many steps", where=HEADER, expected=f"<= {MAX_STEPS}",
                              found=len(self.steps), hint=DAMAGED)
        SourceInfo.check(self.source)
        if self.vocabulary not in VOCABULARIES:
            raise FormatError("the kind of vocabulary is not supported", where=HEADER,
                              expected=" or ".join(VOCABULARIES), found=self.vocabulary, hint=NEWER)

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object, without optional keys that are None."""
        parts = _present(self)
        if self.subwords is not None:
            parts["subwords"] = self.subwords.as_dict()
        return parts


def _present(header: Header | SubwordsHeader) -> dict[str, object]:
    """Return the keys as a dict, without optional keys that are None."""
    parts = {field.name: getattr(header, field.name) for field in dataclasses.fields(header)}
    optional = {field.name for field in dataclasses.fields(header) if "optional" in field.metadata}
    return {name: value for name, value in parts.items() if name not in optional or value is not None}


def describe(kind: type[Header] | type[SubwordsHeader] | type[SourceInfo]) -> list[str]:
    """Return the rows of the table in ``docs/format.md`` that documents these keys."""
    return [f"| `{field.name}` | {field.metadata['shown']} | {field.metadata['meaning']} |"
            for field in dataclasses.fields(kind)]
