"""The text of a PDF file, page by page. Blocks; for processes that are bounded from outside in time and memory.

Covered: files that are broken, locked or made to break a parser, pages and text without end. Not covered: text that
stands in pictures, and what is drawn but cannot be seen.
"""

import io
import logging
from collections.abc import Iterator

from mycoswarm.base.errors import CapacityError, InputError, UnsupportedError
from mycoswarm.sandbox.charset import seen

MAX_PAGES = 1000
MAX_CHARACTERS = 4_000_000  # of all pages together; a thick novel has one million
MAX_PAGE_CHARACTERS = 100_000

log = logging.getLogger(__name__)


def pdf_pages(data: bytes, most: int = MAX_PAGES) -> tuple[str, ...]:
    """The text of the first `most` pages; a page of pictures alone is an empty text. It ends early where the text is
    longer than `MAX_CHARACTERS`.

    Raises:
        UnsupportedError: it can only be read with a password.
        CapacityError: it takes more memory than this process has.
        InputError: it is no PDF, or none that can be read.
    """
    if b"%PDF-" not in data[:1024]:
        raise _broken("it does not begin as one")
    # pypdf words each oddity of a file in a log line; here those are the file's, and could be without number.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        return tuple(_texts(data, most))
    except (InputError, CapacityError):
        raise
    except MemoryError as exc:
        raise CapacityError("the PDF takes more memory than there is", code="pdf_too_much") from exc
    except Exception as exc:  # a file reaches every corner of the parser, and whatever that raises is about the file
        log.debug("a PDF cannot be read", exc_info=True)
        raise _broken(type(exc).__name__) from exc


def _texts(data: bytes, most: int) -> Iterator[str]:
    # 0.1 s, which nobody waits for who reads no PDF.
    from pypdf import PdfReader  # noqa: PLC0415
    from pypdf.errors import FileNotDecryptedError  # noqa: PLC0415

    left = MAX_CHARACTERS
    reader = PdfReader(io.BytesIO(data))
    try:
        for index, page in enumerate(reader.pages):
            if index >= min(most, MAX_PAGES) or left <= 0:
                return
            text = _tidy(page.extract_text())[: min(MAX_PAGE_CHARACTERS, left)]
            left -= len(text)
            yield text
    except FileNotDecryptedError as exc:
        raise UnsupportedError(
            "the PDF can only be read with a password", hint="Take one that is not locked.", code="pdf_locked"
        ) from exc


def _tidy(text: str) -> str:
    lines = (line.rstrip() for line in seen(text).split("\n"))
    return "\n".join(lines).strip("\n")


def _broken(why: str) -> InputError:
    return InputError(f"the PDF cannot be read ({why})", hint="Take another file.", code="bad_pdf")
