"""A join token as a QR code."""

from mycoswarm.api.matrix import qr_rows


def test_a_code_is_a_square_with_its_three_corners() -> None:
    rows = qr_rows("a" * 300)
    assert {len(row) for row in rows} == {len(rows)} and set("".join(rows)) == {"0", "1"}
    size = len(rows)
    assert (size - 17) % 4 == 0  # ISO/IEC 18004: 17 + 4 * version
    for x, y in ((0, 0), (size - 7, 0), (0, size - 7)):
        assert rows[y][x : x + 7] == "1111111" == rows[y + 6][x : x + 7]
        assert rows[y + 3][x : x + 7] == "1011101"
    assert rows != qr_rows("b" * 300)
