"""Odd and bad input files, made from code: what they hold, and what reading them must do.

Every case is one of three: it loads exactly; it loads exactly what is named and says so with a
warning; it is refused. The motive of most is a thread in some project's issue tracker.
"""

import bz2
import gzip
import io
import lzma
import pickle
import struct
import tarfile
import zipfile
from dataclasses import dataclass, field

import numpy as np

DIM = 3
WORDS = [b"the", b"of", b"and", b"to", b"in", b"house"]
ROWS = np.array([[0.418, 0.25, -0.41], [0.7, -1.5, 2.25], [1e-05, 3.5, -0.125], [0.5, 0.75, -3.0], [9.0, -0.5, 1.25],
                 [-0.25, 0.0625, 7.5]], dtype=np.float32)


@dataclass
class Case:
    name: str
    data: bytes
    outcome: str  # "exact", "warning" or "refused"
    says: str = ""  # a part of the warning or message
    words: list = None
    rows: np.ndarray = None
    options: dict = field(default_factory=dict)
    file: str = "vectors.bin"


def line(word, row):
    return word + b" " + b" ".join(str(value).encode() for value in np.asarray(row, dtype=np.float32)) + b"\n"


def text(words=WORDS, rows=ROWS, header=False):
    start = b"%d %d\n" % (len(words), len(rows[0])) if header else b""
    return start + b"".join(map(line, words, rows))


def binary(words=WORDS, rows=ROWS, newline=True, count=None, dim=None, dtype="<f4"):
    rows = np.asarray(rows)
    end = b"\n" if newline else b""
    header = b"%d %d\n" % (len(words) if count is None else count, rows.shape[1] if dim is None else dim)
    return header + b"".join(word + b" " + row.astype(dtype).tobytes() + end for word, row in zip(words, rows))


# ---------------------------------------------------------------- text


def _with_word(name, word, position=2):
    words = list(WORDS)
    words[position] = word
    for header in (False, True):
        data = text(words, header=header)
        yield Case(f"{name}{'-header' if header else ''}", data, "exact", words=words, rows=ROWS)


def text_exact():
    nbsp = "\N{NO-BREAK SPACE}".encode()
    for name, word in {
        "nbsp-dots": nbsp.join([b".", b".", b"."]), "nbsp-mail": b"at" + nbsp + b"name@domain.com",
        "nbsp-only": nbsp * 7,
        "space-inside": b"R$ 0,00", "space-leading": b" x", "space-trailing": b"x ", "space-only": b" ",
        "tab": b"a\tb", "nel": "a\x85b".encode(), "u2028": "a\u2028b".encode(), "vt-ff-fs": b"a\x0b\x0c\x1cb",
        "cr-inside": b"a\rb", "quotes": b'"', "token-nan": b"NaN", "token-null": b"null", "token-inf": b"inf",
        "token-1": b"1", "empty-token": b"", "not-utf8": b"caf\xe9\xff", "cesu": b"\xed\xa0\xbd\xed\xb8\x80",
        "10-kB-token": b"x" * 10_000, "many-spaces": b". . . .",
    }.items():
        yield from _with_word(name, word)
    yield from _with_word("eos-first", b"</s>", 0)
    yield from _with_word("unk-last", b"<unk>", -1)
    for name, pair in (("equal-after-replace", [b"\xff", b"\xfe"]),
                       ("nfc-nfd", ["\u00e9".encode(), "e\u0301".encode()])):
        yield Case(name, text([*WORDS[:4], *pair]), "exact", words=[*WORDS[:4], *pair], rows=ROWS)
    for header in (False, True):
        plain, suffix = text(header=header), "-header" if header else ""
        spaced = plain.replace(b"\n", b" \n")
        if header:
            spaced = spaced.replace(b" \n", b"\n", 1)
        yield Case("trailing-space" + suffix, spaced, "exact", words=WORDS, rows=ROWS)
        yield Case("crlf" + suffix, plain.replace(b"\n", b"\r\n"), "exact", words=WORDS, rows=ROWS)
    forms = b"a 1e-05 -0 .5\nb 1. +1 1E+3\nc 0.10000000149011612 -1.5e0 00012\nd 3.141592653589793 1e-50 -1e-400\n"
    rows = np.array([[1e-05, -0.0, 0.5], [1, 1, 1000], [0.1, -1.5, 12], [np.pi, 0, -0.0]], dtype=np.float32)
    yield Case("number-forms", forms, "exact", words=[b"a", b"b", b"c", b"d"], rows=rows)
    yield Case("subnormals", b"a 1e-45 1.4e-45 7.1e-46\nb 1e-40 -1e-42 1\n", "exact", words=[b"a", b"b"],
               rows=np.array([[1e-45, 1e-45, 1e-45], [1e-40, -1e-42, 1]], dtype=np.float32))


def text_warning():
    def case(name, data, says, words=WORDS, rows=ROWS, **options):
        return Case(name, data, "warning", says, words, rows, options)

    plain, headed = text(), text(header=True)
    yield case("header-says-fewer", headed.replace(b"6 3", b"4 3", 1), "the header states 4 rows, but the file has 6")
    yield case("duplicate-identical", plain + line(b"of", ROWS[1]), "dropped 1 row of repeated words")
    yield case("duplicate-differing", plain + line(b"of", ROWS[2]), "same vector, 1 with a different one): 'of'")
    zero = ROWS.copy()
    zero[[1, 4]] = 0
    yield case("zero-rows", text(rows=zero), "kept 2 zero vectors", rows=zero)
    yield case("bom", b"\xef\xbb\xbf" + plain, "byte order mark")
    yield case("bom-header", b"\xef\xbb\xbf" + headed, "byte order mark")
    yield case("trailing-space-some", plain.replace(b"\n", b" \n", 2), "a space at the end of 2 of 6 rows")
    overflow = ROWS.copy()
    overflow[1, 1] = 0
    yield case("overflow-zeroed", plain.replace(b"-1.5", b"1e39"), "replaced NaN and infinity with 0 in 1 row",
               rows=overflow, nonfinite="zero")
    yield case("nan-dropped", plain.replace(b"-1.5", b"nan"), "dropped 1 row with a NaN or an infinity",
               words=WORDS[:1] + WORDS[2:], rows=np.delete(ROWS, 1, axis=0), nonfinite="drop")
    yield case("header-spaces", headed.replace(b"6 3", b" 6  3 ", 1), "it is read as 6 rows of dimension 3")
    yield case("blank-lines-at-end", plain + b"\n\n\n", "3 empty lines at the end")
    yield case("no-final-newline", plain[:-1], "the last line has no newline")
    short = ROWS.copy()
    short[-1, -1] = 7
    yield case("last-number-cut", plain[:-3], "the last number may be wrong", rows=short)
    yield case("row-too-long", plain.replace(b"of ", b"of 5.5 "), "1 row may have one number too many, because the",
               words=[b"the", b"of 5.5", *WORDS[2:]])
    yield case("token-1-2", plain.replace(b"of ", b"1 2 "), "line 2, byte 21: '1 2'",
               words=[b"the", b"1 2", *WORDS[2:]])
    yield case("bad-row-skipped", plain.replace(b"of 0.7 ", b"of "), "skipped 1 malformed row (line 2, byte 21: the",
               words=WORDS[:1] + WORDS[2:], rows=np.delete(ROWS, 1, axis=0), skip_bad_rows=1)
    yield case("truncated-allowed", headed[:-12], "dropped the last row, which is incomplete (line", words=WORDS[:5],
               rows=ROWS[:5], allow_truncated=True)


def text_refused():
    def case(name, data, says, **options):
        return Case(name, data, "refused", says, options=options)

    plain, headed = text(), text(header=True)
    row = b"of 0.7 -1.5 2.25"
    yield case("header-says-more", headed.replace(b"6 3", b"7 3", 1),
               "fewer rows than its header states (expected 7 rows, found 6)")
    yield case("last-row-cut-at-field", plain[:-5], f"line 6, byte {plain.index(b'house')}: the row is too short")
    yield case("last-row-cut-in-token", plain + b"fo", f"line 7, byte {len(plain)}: the row is too short")
    yield case("ragged-short", plain.replace(row, b"of 0.7 -1.5"),
               "line 2, byte 21: the row is too short (expected a word and 3 numbers, found 3 fields")
    yield case("no-token", plain.replace(row, b"0.7 -1.5 2.25"), "line 2, byte 21: the row is too short")
    for name, number in (("nan", b"NaN"), ("inf", b"-inf"), ("nan-ind", b"-nan(ind)"), ("msvc", b"-1.#IND"),
                         ("overflow", b"1e39"), ("overflow-edge", b"340282356779733661637539395458142568448")):
        yield case(f"nonfinite-{name}", plain.replace(b"-1.5", number),
                   "line 2, byte 21: number 2 of the word 'of' is not finite")
    for name, number in (("comma", b"1,5"), ("underscore", b"1_0"), ("hex", b"0x1p3"), ("two-points", b"1.2.3"),
                         ("no-exponent", b"1e"), ("letters", b"1.5f"), ("sign-only", b"-"), ("double-space", b"")):
        yield case(f"number-{name}", plain.replace(b"-1.5", number),
                   "line 2, byte 21: number 2 of the word 'of' is not a decimal number")
    yield case("header-only", b"400000 50\n", "nothing follows the header")
    yield case("empty", b"", "the file is empty")
    yield case("1-byte", b"a", "no numbers follow the word")
    yield case("only-newlines", b"\n\n\n", "the file has no rows")
    for name, header in (("negative-rows", b"-6 3"), ("negative-dim", b"6 -3"), ("zero-dim", b"6 0"),
                         ("10^9-dim", b"6 1000000000"), ("5000-digits", b"9" * 5000 + b" 3"), ("wrong-dim", b"6 4")):
        yield case(f"header-{name}", headed.replace(b"6 3", header, 1), "the header does not match the rows")
    yield case("header-10^18-rows", headed.replace(b"6 3", b"1000000000000000000 3", 1),
               "expected 1000000000000000000 rows, found 6")
    yield case("header-missing", plain, "line 1 is not a header", header="yes")
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        yield case(encoding, plain.decode().encode(encoding), "this is text in UTF-" + encoding[4:6])
    yield case("nul-tail", plain + b"\0" * 500, "the row contains NUL bytes")
    yield case("mixed-crlf", plain.replace(b"\n", b"\r\n", 1), "Some lines end in a carriage return (CR): convert")
    yield case("cr-only", plain.replace(b"\n", b"\r"), "Some lines end in a carriage return (CR): convert")
    yield case("sparse", b"the 0:0.5 17:0.25\nof 3:0.125 4:1\n", "this is sparse text")
    yield case("line-over-cap", plain + b"x" * (5 << 20) + b"\n", "the row is too short")
    yield case("long-word", plain + line(b"x" * 70_000, ROWS[0]), "the row is too long (expected a word of at most")
    yield case("long-line", plain + b"y" + b" 1." + b"0" * (5 << 20) + b" 2 3\n", "the row is too long")
    yield case("blank-line-inside", plain.replace(b"and", b"\nand"), "line 3, byte 38: the line is empty, but rows")
    yield case("too-wide", b"x" + b" 1" * 70_000 + b"\n", "the dimension is out of range")
    yield case("strict-long", plain.replace(b"of ", b"of 5.5 "),
               "line 2, byte 21: the row may have one number too many", strict=True)
    yield case("duplicates-error", plain + line(b"of", ROWS[1]),
               "line 7: the word 'of' is repeated (expected distinct words, found its first occurrence at line 2)",
               duplicates="error")
    yield case("expect-rows", plain, "differs from --expect-rows (expect_rows) (expected 7, found", expect_rows=7)


# ---------------------------------------------------------------- word2vec, binary

_random = np.random.default_rng(0)
MANY = [b"word%d" % i for i in range(40)]
MANY_ROWS = _random.normal(size=(40, 10)).astype(np.float32)


def word2vec_cases():
    def exact(name, data, words=MANY, rows=MANY_ROWS, **options):
        return Case(name, data, "exact", words=words, rows=rows, options=options)

    def warning(name, data, says, words=MANY, rows=MANY_ROWS, **options):
        return Case(name, data, "warning", says, words, rows, options)

    def refused(name, data, says, **options):
        return Case(name, data, "refused", says, options=options)

    plain = binary(MANY, MANY_ROWS)
    yield exact("newline-yes", plain)
    yield exact("newline-no", binary(MANY, MANY_ROWS, newline=False))
    yield exact("newline-last-lacks", plain[:-1])
    yield exact("newline-only-at-end", binary(MANY, MANY_ROWS, newline=False) + b"\n")
    for name, word in (("mid-utf8-token", "h\u00e9".encode()[:2]), ("not-utf8", b"\xff\xfe"), ("empty-token", b""),
                       ("newline-in-token", b"a\nb"), ("nul-in-token", b"a\0b")):
        yield exact(name, binary([*MANY[:-1], word], MANY_ROWS), words=[*MANY[:-1], word])
    words = [b"\na", b"\nb", *MANY[2:]]
    yield exact("newline-leads-token", binary(words, MANY_ROWS, newline=False), words=words, row_newline="no")
    yield exact("one-row", binary([b"x"], MANY_ROWS[:1]), words=[b"x"], rows=MANY_ROWS[:1])
    yield exact("printable-numbers", b"2 1\nv AAAA\nw zzzz\n", words=[b"v", b"w"],
                rows=np.frombuffer(b"AAAAzzzz", dtype="<f4").reshape(2, 1))
    yield warning("count-too-low", binary(MANY, MANY_ROWS, count=30), "states 30 rows, but the file has 40")
    yield warning("trailing-1", plain + b"\0", "ignored 1 byte after the last row")
    yield warning("duplicate", binary([*MANY[:-1], b"word3"], MANY_ROWS), "dropped 1 row of repeated words",
                  words=MANY[:-1], rows=MANY_ROWS[:-1])
    yield warning("cut-allowed", plain[:-100], "the file has 37; the stated number was ignored; dropped 44 bytes of",
                  words=MANY[:37], rows=MANY_ROWS[:37], allow_truncated=True)
    zero = MANY_ROWS.copy()
    zero[7] = 0
    yield warning("zero-row", binary(MANY, zero), "kept 1 zero vector", rows=zero)
    nan = MANY_ROWS.copy()
    nan[5, 2] = np.nan
    yield warning("nan-dropped", binary(MANY, nan), "dropped 1 row with a NaN or an infinity",
                  words=MANY[:5] + MANY[6:], rows=np.delete(MANY_ROWS, 5, axis=0), nonfinite="drop")
    yield refused("nan", binary(MANY, nan), "byte 241: number 3 of the word 'word5' is not finite")
    yield refused("count-too-high", binary(MANY, MANY_ROWS, count=41), "the file ends in row 41 (expected 41 rows")
    yield refused("count-much-too-high", binary(MANY, MANY_ROWS, count=60), "the file is too small for its header")
    yield refused("dim-1-too-many", binary(MANY, MANY_ROWS, dim=11), "The rows look like 10 numbers of float32")
    yield refused("dim-1-too-few", binary(MANY, MANY_ROWS, dim=9), "The rows look like 10 numbers of float32")
    yield refused("cut-in-header", plain[:4], "there is no header line", format="word2vec")
    yield refused("cut-in-header-as-text", plain[:3], "no numbers follow the word")
    yield refused("cut-in-token", plain[:-43], "the file ends in row 40")
    yield refused("cut-in-vector", plain[:-8], "found 39 rows and 40 bytes). The file is truncated")
    yield refused("cut-between-rows", binary(MANY[:39], MANY_ROWS[:39], count=40), "the file ends in row 40")
    yield refused("trailing-4096", plain + bytes(range(33, 97)) * 64, "bytes follow the last row")
    yield refused("trailing-rows-of-noise", plain + (b"\x01\x02 " + bytes(40) + b"\n") * 3, "the header are not rows")
    yield refused("big-endian", binary(MANY, MANY_ROWS, dtype=">f4"), "the numbers are big-endian")
    yield refused("float16", binary(MANY, MANY_ROWS, dtype="<f2"), "look like 10 numbers of float16")
    yield refused("float64", binary(MANY, MANY_ROWS, dtype="<f8"), "look like 10 numbers of float64")
    yield refused("header-without-newline", plain.replace(b"40 10\n", b"40 10", 1), "the header line has no newline")
    yield refused("10^18-rows", binary(MANY, MANY_ROWS, count=10**18), "the file is too small for its header")
    yield refused("zero-rows", binary(MANY, MANY_ROWS, count=0), "the number of rows is out of range")
    yield refused("10^9-dim", binary(MANY, MANY_ROWS, dim=10**9), "the dimension is out of range")
    yield refused("token-never-ends", b"2 10\n" + b"\x01x" * 100_000, "no space ends the word of row 1")
    yield refused("newline-missing-once", plain[:100].replace(b"\nword1", b"word1") + plain[100:],
                  "a newline follows only one of rows 1 and 2. If words begin with a newline, use --row-newline no")
    at = plain.index(b"\nword20")
    yield refused("newline-missing-later", plain[:at] + plain[at + 1 :], "no newline follows row 20")
    plain = binary(MANY, MANY_ROWS, newline=False)
    at = plain.index(b"word20")
    yield refused("newline-once", plain[:at] + b"\n" + plain[at:] + b"xx", "the word of row 21 begins with a newline")


# ---------------------------------------------------------------- containers


def zipped(files):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)  # without a time
    return target.getvalue()


def container_cases():
    def exact(name, data, file="vectors", **options):
        return Case(name, data, "exact", words=WORDS, rows=ROWS, options=options, file=file)

    def refused(name, data, says, **options):
        return Case(name, data, "refused", says, options=options)

    plain = text()
    half, rest = plain[:50], plain[50:]
    gz = gzip.compress(plain)
    yield exact("gz", gz)
    yield exact("gz-members", gzip.compress(half) + gzip.compress(rest))
    yield exact("gz-zero-padding", gz + b"\0" * 512)
    yield Case("gz-trailing-garbage", gz + b"garbage", "warning",
               "ignored 7 bytes after the end of the gzip data", WORDS, ROWS)
    yield refused("gz-truncated", gz[:-20], "the gzip data is truncated")
    yield refused("gz-truncated-in-trailer", gz[:-3], "the gzip data is truncated")
    yield refused("gz-second-member-cut", gz + gz[:-20], "the gzip data is truncated")
    yield refused("gz-bad-crc", gz[:-6] + bytes([gz[-6] ^ 1]) + gz[-5:], "the gzip data is damaged")
    yield refused("gz-bad-body", gz[:30] + bytes([gz[30] ^ 0xFF]) + gz[31:], "the gzip data is damaged")
    yield exact("gz-plain-renamed", plain, file="vectors.txt.gz")
    yield exact("bz2-streams", bz2.compress(half) + bz2.compress(rest))
    yield refused("bz2-cut", bz2.compress(plain)[:-10], "the bzip2 data is truncated")
    yield exact("xz-streams", lzma.compress(half) + lzma.compress(rest))
    yield refused("xz-cut", lzma.compress(plain)[:-10], "the xz data is truncated")
    yield refused("gz-in-bz2", bz2.compress(gz), "this is gzip inside bzip2")
    yield refused("zip-in-gz", gzip.compress(zipped({"a": plain})), "this is zip inside gzip")
    yield exact("zip-one", zipped({"glove.txt": plain}))
    yield exact("zip-mac", zipped({"glove.txt": plain, "__MACOSX/._glove.txt": b"junk", "folder/": b""}))
    yield exact("zip-empty-name", zipped({"": plain}))
    yield exact("zip-outside-name", zipped({"../../x.txt": plain}))
    four = zipped({f"glove.{dim}d.txt": plain for dim in (50, 100, 200, 300)})
    yield refused("zip-four", four, "the zip archive has 4 files (expected one, found 'glove.50d.txt' (")
    yield exact("zip-four-member", four, member="glove.200d.txt")
    yield refused("zip-no-member", four, "no member 'glove.txt' (found 'glove.50d", member="glove.txt")
    yield refused("member-without-zip", plain, "a member was named, but this is not a zip", member="glove.txt")
    locked = bytearray(zipped({"glove.txt": plain}))
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    yield refused("zip-encrypted", bytes(locked), "the zip archive is encrypted")
    yield refused("zip-cut", zipped({"a": plain})[:-30], "the zip archive is damaged")
    broken = bytearray(zipped({"a": plain}))
    broken[60] ^= 0xFF
    yield refused("zip-bad-member", bytes(broken), "the zip archive is damaged")
    yield refused("zip-empty", zipped({}), "the zip archive has 0 files")
    yield refused("npz", zipped({"a.npy": b"", "b.npy": b""}), "a numpy .npz archive")
    yield refused("expanded-too-much", gz, "the content is larger than allowed", max_expanded=50)


def zstd_cases():
    import zstandard

    plain = text()
    pack = zstandard.ZstdCompressor(write_checksum=True).compress
    frames = pack(plain[:50]) + pack(plain[50:])
    yield Case("zstd-frames", frames, "exact", words=WORDS, rows=ROWS)
    yield Case("zstd-skippable", b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + frames, "exact", words=WORDS, rows=ROWS)
    yield Case("zstd-cut", pack(plain)[:-10], "refused", "the zstd data is truncated")
    yield Case("zstd-bad-checksum", pack(plain)[:-1] + b"\0", "refused", "the zstd data is damaged")
    # Window of 2**31 bytes, then one raw block.
    window = b"\x28\xb5\x2f\xfd\0\xa8" + (len(plain) << 3 | 1).to_bytes(3, "little") + plain
    yield Case("zstd-huge-window", window, "refused", "the zstd data is damaged")


# ---------------------------------------------------------------- files that are not vectors


def foreign_cases():
    def refused(name, data, says):
        return Case(name, data, "refused", says)

    yield refused("html", b"\n<!DOCTYPE html>\n<html><title>Sign in</title></html>\n", "an HTML or XML page")
    yield refused("lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull")
    plain = text()
    conflict = b"<<<<<<< HEAD\n" + plain[:21] + b"=======\n" + plain[21:40] + b">>>>>>> master\n"
    yield refused("conflict", conflict, "git conflict markers")
    far = text([b"w%d" % i for i in range(5000)], np.ones((5000, 3)))
    yield refused("conflict-far-in", far + b"<<<<<<< HEAD\n" + far, "this line is a git conflict marker")
    for protocol in range(6):
        yield refused(f"pickle-{protocol}", pickle.dumps({"the": [0.5, 1.5]}, protocol=protocol), "--from gensim")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        info = tarfile.TarInfo("glove.txt")
        info.size = len(plain)
        tar.addfile(info, io.BytesIO(plain))
    yield refused("tar-gz", archive.getvalue(), "this is a tar archive")
    yield refused("parquet", b"PAR1" + bytes(100) + b"PAR1", "a Parquet file")
    yield refused("sqlite", b"SQLite format 3\0" + bytes(100), "an SQLite database")
    yield refused("hdf5", b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file")
    yield refused("pdf", b"%PDF-1.7\n%\xe2\xe3", "a PDF document")
    array = io.BytesIO()
    np.save(array, ROWS)
    yield refused("npy", array.getvalue(), "a numpy .npy array")
    header = b'{"x":{"dtype":"F32","shape":[6,3],"data_offsets":[0,72]}}'
    yield refused("safetensors", struct.pack("<Q", len(header)) + header + ROWS.tobytes(), "a safetensors file")
    yield refused("glove-bin", MANY_ROWS.astype("<f8").tobytes(), "raw float64 numbers without words")
    yield refused("raw-float32", MANY_ROWS.tobytes(), "raw float32 numbers without words")
    yield refused("zeros", bytes(5000), "a file of NUL bytes only")
    yield refused("json", b'{"the": [0.5, 1.5], "of": [1, 2]}', "this is JSON")
    yield refused("json-lines", b'{"word": "the", "vector": [0.5, 1.5]}\n' * 3, "this is JSON")
    yield refused("json-array", b"[\n [0.5,\n 1.5]\n]", "this is JSON")
    yield refused("csv-quoted", b'"the","0.5","1.5"\n"of","1","2"\n', "CSV with quotes")
    yield refused("csv", b"the,0.5,1.5\nof,1,2\n", "separated by commas")
    yield refused("tsv", b"the\t0.5\t1.5\nof\t1\t2\n", "separated by tabs")
    yield refused("tab-after-word", b"the\t0.5 1.5\nof\t1 2\n", "separated by tabs")
    yield refused("tab-after-word-header", b"2 2\nthe\t0.5 1.5\nof\t1 2\n", "separated by tabs")
    yield refused("no-words", b"0.5 1.5 2.5\n1.5 2.5 3.5\n0.25 0.5 1e-3\n", "a table of numbers, without words")
    yield refused("fasttext", struct.pack("<2i", 793712314, 12) + bytes(100), "the dimension is out of range")
    old = struct.pack("<12id3iq", 100, 5, 5, 1, 5, 1, 2, 2, 2_000_000, 3, 6, 100, 1e-4, 10, 10, 0, 12345)
    yield refused("fasttext-old", old + b"</s>\0" + bytes(9 + 9 * 10 + 16), "the number of rows of the input matrix")
    yield refused("noise", np.random.default_rng(5).bytes(5000), "binary data of an unknown format")
