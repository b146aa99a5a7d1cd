"""The header of an ``.ems`` file: its keys, their types and limits, in one place.

A `Header` is written with `Header.as_dict`, read and checked with `Header.of`, and documented by `describe`: the
tables in ``docs/format.md`` are what `describe` returns. A key that this version does not know is ignored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from embshrink.errors import FormatError

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_DIM = 65_536
MAX_STEPS = 100
MAX_SIZE = 2**63 - 1
VOCABULARIES = ("plain", "packed")

Parts = Mapping[str, object]


def _key(shown: str, meaning: str, *, optional: bool = False) -> Any:
    """Declare a key: how docs/format.md shows its type and limits, and what it means; whether it may be missing."""
    metadata = {"shown": shown, "meaning": meaning}
    if optional:
        return dataclasses.field(default=None, metadata={**metadata, "optional": True})
    return dataclasses.field(metadata=metadata)


_KINDS: dict[str, type] = {"int": int, "bool": bool, "str": str, "list[str]": list, "Parts": dict}


def _kind(field: dataclasses.Field[Any]) -> type:
    """Return the type that JSON gives for a field."""
    return _KINDS[str(field.type).removesuffix(" | None")]


def _all_strings(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


@dataclasses.dataclass(eq=False, repr=False)
class SourceInfo:
    """Where the vectors came from. Any key may be missing or null."""

    name: str | None = _key("string", "the file's name", optional=True)
    format: str | None = _key("string", "its format, as `embshrink formats` lists them", optional=True)
    sha256: str | None = _key("string", "of the file as it was given", optional=True)
    size: int | None = _key("int, 0 to 2^63 - 1", "bytes of the file as it was given", optional=True)
    steps: list[str] | None = _key("strings", "what had been done, if it was an `.ems` file", optional=True)

    @classmethod
    def check(cls, parts: Parts) -> None:
        """Raise FormatError if a key that is there has another type, or a size is impossible."""
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
                raise FormatError(f"the header's source has no proper {field.name!r}", expected=kind.__name__,
                                  found=value)


@dataclasses.dataclass(eq=False, repr=False)
class SubwordsHeader:
    """How vectors of unseen words are made: which n-grams there are, and what was done to their rows."""

    minn: int = _key("int, 0 to 100", "characters of the shortest n-gram")
    maxn: int = _key("int, 0 to 100", "characters of the longest n-gram")
    bucket: int = _key("int, 1 to 2^31 - 1", "how many buckets n-grams are hashed to")
    present: int = _key("int, 0 to `bucket`", "how many of them have a vector")
    missing: str = _key("`zero` or `skip`", "what an n-gram without a vector counts as")
    rows: int = _key("int, 0 to `present`", "stored rows of the second table, of `present` n-grams")
    owned: bool = _key("bool", "as in section 2, of the second table")
    steps: list[str] = _key("list of strings", "as in section 2, of the second table")
    hash: str | None = _key("`fnv1a` (if missing) or `floret`", "how n-grams are hashed", optional=True)
    hashes: int | None = _key("int, 1 to 4", "there if `hash` is `floret`", optional=True)
    seed: int | None = _key("int, 0 to 2^32 - 1", "there if `hash` is `floret`", optional=True)
    bow: str | None = _key("string of at most 100 characters", "there if `hash` is `floret`", optional=True)
    eow: str | None = _key("string of at most 100 characters", "there if `hash` is `floret`", optional=True)

    @classmethod
    def of(cls, parts: object) -> Self:
        """Return the header that `parts`, from a file, stand for.

        How n-grams are hashed is checked by `embshrink.vocabulary.ngram_hashing`, which knows what is possible.

        Raises
        ------
        FormatError
            If a key is missing or has another type, or there are more rows than n-grams.
        """
        fields = dataclasses.fields(cls)
        required = [field for field in fields if "optional" not in field.metadata]
        optional = [field for field in fields if "optional" in field.metadata]
        if type(parts) is not dict or any(type(parts.get(field.name)) is not _kind(field) for field in required) or (
            not _all_strings(parts["steps"]) or not 0 <= parts["rows"] <= parts["present"]
        ) or any(field.name in parts and parts[field.name] is None for field in optional):
            raise FormatError("the header has no proper 'subwords'",
                              expected=sorted(field.name for field in required), found=parts)
        known: dict[str, Any] = {field.name: parts.get(field.name) for field in fields}
        return cls(**known)

    def as_dict(self) -> dict[str, object]:
        """Return what the file holds of it."""
        return _present(self)


@dataclasses.dataclass(eq=False, repr=False)
class Header:
    """What a file says of itself, without the section table.

    Parameters
    ----------
    dim : int
        Length of a vector as the user sees it.
    words, rows : int
        How many words there are, and how many stored rows.
    owned : bool
        Whether each row is some word's own vector; false for centroids.
    vocabulary : {"plain", "packed"}
        How words are stored.
    steps : list of str
    seed : int
    source : mapping
        The keys of `SourceInfo`, and for an ``.ems`` source those of its own header that say where it came from.
    writer : str
        Program and version.
    counts, protected : mapping, optional
        Which file said how frequent words are; which words row steps had to keep.
    subwords : SubwordsHeader, optional
    """

    dim: int = _key("int, 1 to 65,536", "length of a vector as the user sees it")
    words: int = _key("int >= 0", "number of words n; ids are 0 to n - 1")
    rows: int = _key("int >= 0", "number of stored rows")
    owned: bool = _key("bool", "whether each row is some word's own vector; false for centroids")
    vocabulary: str = _key("string", "how words are stored: `plain` (section 4) or `packed` (section 4b)")
    steps: list[str] = _key("list of at most 100 strings",
                            "what was done to the vectors, in order (sections 5 and 6)")
    seed: int = _key("int >= 0", "for whoever repeats the run")
    source: Parts = _key("object", "where the vectors came from, below")
    writer: str = _key("string", "program and version")
    counts: Parts | None = _key("object, optional", "which file said how frequent words are: `name`, and `sha256` of "
                                "its bytes if it was a file", optional=True)
    subwords: SubwordsHeader | None = _key("object, optional", "vectors for words that are not here (section 6a)",
                                           optional=True)
    protected: Parts | None = _key("object, optional", "which words row steps had to keep: `words`, how many; "
                                   "`sha256` of their ids in the source, ascending, as u64", optional=True)

    @classmethod
    def of(cls, parts: Parts) -> Self:
        """Return the header that `parts`, from a file, stand for.

        Raises
        ------
        FormatError
            If a key is missing or has another type, or a value is impossible.
        """
        fields = dataclasses.fields(cls)
        for field in fields:
            if "optional" not in field.metadata and type(parts.get(field.name)) is not _kind(field):
                raise FormatError(f"the header has no proper {field.name!r}", expected=_kind(field).__name__,
                                  found=parts.get(field.name))
        known: dict[str, Any] = {field.name: parts.get(field.name) for field in fields}
        header = cls(**{**known, "subwords": None})
        header._check()
        if "subwords" not in parts:
            return header
        return dataclasses.replace(header, subwords=SubwordsHeader.of(parts["subwords"]))

    def _check(self) -> None:
        numbers = {name: getattr(self, name) for name in ("dim", "words", "rows", "seed")}
        if not 1 <= self.dim <= MAX_DIM or min(numbers.values()) < 0:
            raise FormatError("the header has an impossible number", found=numbers)
        if not _all_strings(self.steps):
            raise FormatError("the header's steps are not strings", found=self.steps)
        if len(self.steps) > MAX_STEPS:
            raise FormatError("the header has too many steps", expected=f"<= {MAX_STEPS}", found=len(self.steps))
        SourceInfo.check(self.source)
        if self.vocabulary not in VOCABULARIES:
            raise FormatError("the words are stored in an unknown way", expected=sorted(VOCABULARIES),
                              found=self.vocabulary, hint="Update embshrink: pip install -U embshrink")

    def as_dict(self) -> dict[str, object]:
        """Return what the file holds of it."""
        parts = _present(self)
        if self.subwords is not None:
            parts["subwords"] = self.subwords.as_dict()
        return parts


def _present(header: Header | SubwordsHeader) -> dict[str, object]:
    """Return the keys that are there; an optional one that is None is left out."""
    parts = {field.name: getattr(header, field.name) for field in dataclasses.fields(header)}
    optional = {field.name for field in dataclasses.fields(header) if "optional" in field.metadata}
    return {name: value for name, value in parts.items() if name not in optional or value is not None}


def describe(kind: type[Header] | type[SubwordsHeader] | type[SourceInfo]) -> list[str]:
    """Return the rows of the table in ``docs/format.md`` that documents these keys."""
    return [f"| `{field.name}` | {field.metadata['shown']} | {field.metadata['meaning']} |"
            for field in dataclasses.fields(kind)]
