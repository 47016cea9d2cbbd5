"""A text as the modules of a QR code, for a page to draw."""

import segno


def qr_rows(text: str) -> list[str]:
    """Rows from top to bottom, "1" for a dark module, without the quiet zone. Error correction at least M.

    A text of more than 2,331 bytes fits into no code; join tokens have some hundred.
    """
    return ["".join(map(str, row)) for row in segno.make_qr(text, error="m").matrix]
