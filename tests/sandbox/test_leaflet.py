"""The text of PDF files."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfWriter

from leaflets import pdf
from mycoswarm.base.errors import InputError, SwarmError, UnsupportedError
from mycoswarm.sandbox.leaflet import MAX_PAGE_CHARACTERS, pdf_pages

TWO = pdf("The first page\nhas two lines", "The second")


def test_each_page_is_a_text() -> None:
    assert pdf_pages(TWO) == ("The first page\nhas two lines", "The second")


def test_pages_are_read_up_to_a_limit() -> None:
    assert pdf_pages(TWO, 1) == ("The first page\nhas two lines",)


def test_a_page_is_cut_where_it_is_too_long() -> None:
    (page,) = pdf_pages(pdf("word " * (MAX_PAGE_CHARACTERS // 4)))
    assert len(page) == MAX_PAGE_CHARACTERS


def test_a_page_without_text_is_an_empty_text() -> None:
    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    out = io.BytesIO()
    writer.write(out)
    assert pdf_pages(out.getvalue()) == ("",)


def test_a_locked_file_says_so() -> None:
    writer = PdfWriter(clone_from=io.BytesIO(TWO))
    writer.encrypt("a password", algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    with pytest.raises(UnsupportedError) as caught:
        pdf_pages(out.getvalue())
    assert caught.value.code == "pdf_locked"


def test_what_is_no_pdf_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(InputError, match="does not begin as one"):
        pdf_pages(b"<html>")


def test_a_file_whose_pages_lead_in_a_circle_ends() -> None:
    circle = TWO.replace(b"/Kids [4 0 R 6 0 R]", b"/Kids [2 0 R 2 0 R]")
    assert circle != TWO
    try:
        assert set(pdf_pages(circle)) <= {""}
    except InputError as error:
        assert error.code == "bad_pdf"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(TWO) - 1), st.binary(max_size=20), st.integers(0, 60))
def test_whatever_is_broken_in_a_file_is_a_typed_error(place: int, instead: bytes, less: int) -> None:
    broken = TWO[:place] + instead + TWO[place + less :]
    try:
        assert all(isinstance(page, str) for page in pdf_pages(broken))
    except SwarmError as error:
        assert error.code in {"bad_pdf", "pdf_locked"}
