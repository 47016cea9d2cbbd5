"""Bytes of a text as characters, in the character set that they say themselves or that was said of them. Pure.

Sets are taken from a list: Python knows codecs that decode what is no text, and some that take far longer than a page.
"""

import codecs
import re
import unicodedata

META_BYTES = 4096  # where a page must have said its set; the standard asks for 1024

# What browsers know (the WHATWG's Encoding Standard), by Python's names; not its rarest.
_KNOWN = re.compile(
    r"utf-8|utf-16(-[lb]e)?|(cp|ibm)866|koi8-[ru]|mac-(roman|cyrillic)|gbk|gb2312|gb18030|big5|big5hkscs|euc_(jp|kr)"
    r"|iso2022_jp|shift_jis|cp(932|949|874)|iso8859-(?!12)\d{1,2}|cp125[0-8]"
)
# Pages that say the first mean the second, which holds it and more.
_MEANT = {"iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "gb2312": "gbk"}
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META = re.compile(rb"<(?:meta|\?xml)[^>]{0,500}?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:+-]{1,40})", re.IGNORECASE)
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co"})  # general categories: control, format, surrogate, private use
_KEPT = "\n\t\u200c\u200d"  # the last two join letters; several scripts cannot be written without them


def decoded(data: bytes, declared: str = "", *, is_markup: bool = False, is_cut: bool = False) -> str:
    """The text: by its byte order mark, else by the set `declared` of it, else, with `is_markup`, by what it says of
    itself, else as UTF-8, and where it is none, as Windows-1252. What does not fit becomes U+FFFD. With `is_cut`
    the last character may be half."""
    for mark, name in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    name = _name(declared)
    if not name and is_markup and (found := _META.search(data[:META_BYTES])):
        name = _name(found[1].decode("ascii", "replace"))
        if name.startswith("utf-16"):
            name = "utf-8"  # it could not have been read in UTF-16
    if name:
        return data.decode(name, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        if is_cut and exc.reason == "unexpected end of data" and exc.start > len(data) - 4:
            return data[: exc.start].decode("utf-8")  # it was cut within a character
        return data.decode("cp1252", "replace")


def seen(text: str) -> str:
    """A text without what a reader does not see: control characters but tabs and line ends, invisible ones that turn or
    hide others, halves of pairs. Line ends become "\\n"."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    unseen = [each for each in set(text) if unicodedata.category(each) in _UNSEEN and each not in _KEPT]
    return text.translate(dict.fromkeys(map(ord, unseen))) if unseen else text


def _name(declared: str) -> str:
    """Python's name of a set; empty where it is not one that we take."""
    declared = declared.strip().strip("\"'")
    if not declared or len(declared) > 40 or not declared.isascii():
        return ""
    try:
        name = codecs.lookup(declared).name
    except (LookupError, ValueError):
        return ""
    name = _MEANT.get(name, name)
    return name if _KNOWN.fullmatch(name) else ""
