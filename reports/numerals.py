"""Numbers and their marks as people read them: one way for all formats but CSV (`spreadsheet.exact`)."""

MINUS = "\u2212"
MARKS = {"better": "▲", "worse": "▼", "moved": "*"}  # of a resolved difference; the last where it is of no score


def numeral(number: float, digits: int, form: str = "") -> str:
    """A finite number with so many decimals, a real minus sign, and no negative zero.

    `form`: "+" for a sign in any case, "," for thousands, as in `format`.
    """
    sign, comma = ("+" if "+" in form else ""), ("," if "," in form else "")
    return f"{number:{sign}z{comma}.{digits}f}".replace("-", MINUS)
