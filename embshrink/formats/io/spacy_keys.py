"""spaCy's keys of strings: MurmurHash64A, except for 457 symbols, which have small numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

UInt64Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]

SEED = 1
ORTH = 65  # the attribute number of a token's text


def _symbols() -> list[str]:
    """Return the strings with small numbers, in numeric order. Source: spaCy 3.8, ``spacy/symbols.pyx``."""
    return [
        "", *"IS_ALPHA IS_ASCII IS_DIGIT IS_LOWER IS_PUNCT IS_SPACE IS_TITLE IS_UPPER LIKE_URL LIKE_NUM LIKE_EMAIL "
        "IS_STOP IS_OOV_DEPRECATED IS_BRACKET IS_QUOTE IS_LEFT_PUNCT IS_RIGHT_PUNCT IS_CURRENCY".split(),
        *(f"FLAG{number}" for number in range(19, 64)),
        *"ID ORTH LOWER NORM SHAPE PREFIX SUFFIX LENGTH CLUSTER LEMMA POS TAG DEP ENT_IOB ENT_TYPE HEAD SENT_START "
        "SPACY PROB LANG ADJ ADP ADV AUX CONJ CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X EOL "
        "SPACE".split(),
        *(f"DEPRECATED{number:03}" for number in range(1, 277)),
        *"PERSON NORP FACILITY ORG GPE LOC PRODUCT EVENT WORK_OF_ART LANGUAGE LAW DATE TIME PERCENT MONEY QUANTITY "
        "ORDINAL CARDINAL acomp advcl advmod agent amod appos attr aux auxpass cc ccomp complm conj cop csubj "
        "csubjpass dep det dobj expl hmod hyph infmod intj iobj mark meta neg nmod nn npadvmod nsubj nsubjpass num "
        "number oprd obj obl parataxis partmod pcomp pobj poss possessive preconj prep prt punct quantmod relcl "
        "rcmod root xcomp acl ENT_KB_ID MORPH ENT_ID IDX _".split(),
    ]


SYMBOLS = [symbol.encode() for symbol in _symbols()]


def keys_of(strings: Sequence[bytes]) -> UInt64Array:
    """Return spaCy's key of each string, (n,) uint64.

    Parameters
    ----------
    strings : list of bytes
        In UTF-8.
    """
    numbers = {symbol: number for number, symbol in enumerate(SYMBOLS)}
    keys = murmurhash64(strings)
    for index, string in enumerate(strings):
        if string in numbers:
            keys[index] = numbers[string]
    return keys


def murmurhash64(strings: Sequence[bytes]) -> UInt64Array:
    """Return MurmurHash64A with the seed 1 of each string, (n,) uint64.

    Strings of one length are hashed together. Source: A. Appleby, MurmurHash2.

    Examples
    --------
    >>> murmurhash64([b"apple", "naïve".encode()])
    array([ 8566208034543834098, 16224804062388677344], dtype=uint64)
    """
    lengths = np.fromiter(map(len, strings), np.int64, count=len(strings))
    order = np.argsort(lengths, kind="stable")
    cuts = np.flatnonzero(np.diff(lengths[order])) + 1
    out = np.empty(len(strings), np.uint64)
    for ids in np.split(order, cuts) if len(order) else ():
        length = int(lengths[ids[0]])
        padded = np.zeros((len(ids), -(-length // 8) * 8), np.uint8)
        padded[:, :length] = np.frombuffer(b"".join(strings[i] for i in ids), np.uint8).reshape(len(ids), length)
        out[ids] = _hash(padded.view("<u8"), length)
    return out


def _hash(words: UInt64Array, length: int) -> UInt64Array:
    """Return the hash of each row of `length` bytes, given as 8-byte integers, the last padded with zeros."""
    factor, shift = np.uint64(0xC6A4A7935BD1E995), np.uint64(47)
    value = np.full(len(words), SEED ^ length * int(factor) % 2**64, np.uint64)
    for column in range(length // 8):
        part = words[:, column] * factor
        value = (value ^ (part ^ part >> shift) * factor) * factor
    if length % 8:
        value = (value ^ words[:, -1]) * factor
    value = (value ^ value >> shift) * factor
    return value ^ value >> shift
