"""Reads strings, numbers and times the same way for every writer. include/spark/values.py uses the same patterns.

A string is empty if it is only white space, or one of the pipeline's words for null.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import lru_cache

from include.durations import EPOCH

# All of Unicode's white space, and two invisible characters: the byte order mark and the zero-width space.
WHITE_SPACE = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff\u200b"
)
# Bounded, so that a hostile number (1e2000000000) costs nothing. Java and Python read the patterns alike.
NUMBER = r"[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,2})?"
DATE_AND_TIME = r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ Tt]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?)"
UTC = r" ?(?:[Zz]|UTC)?"
OFFSET = r" ?([+-])([01][0-9]|2[0-3])(?::?([0-5][0-9]))?"
# The years that the times of facts can have. MySQL, Spark, DuckDB, BigQuery and the tables of time zones all accept these.
YEARS = range(1970, 2101)
# A number in this range is seconds since 1970; above it, up to a thousand times the limit, milliseconds. Both start in 1973.
FIRST_EPOCH, LAST_EPOCH = 10**8, 10**11

_HIDDEN = ("\ufeff", "\u200b")
_NUMBER, _INSTANT = re.compile(NUMBER), re.compile(f"{DATE_AND_TIME}(?:{OFFSET}|{UTC})")
_EXACT, _PLACES = Context(prec=200, rounding=ROUND_HALF_UP), Decimal(1).scaleb(-18)
_MAX_DIGITS = 38
_LONGEST_TIME = 100  # characters: more than the patterns accept, and few enough for the cache
_LIMIT = Decimal(10) ** 20  # the whole part of DECIMAL(38, 18)
_BIGINT = 2**63


def text(value: str | None, null_words: Collection[str] = ()) -> str | None:
    """The text without the white space around it; None if it is blank or a word for null."""
    if value is None:
        return None
    value = value.strip()  # four times as fast as with WHITE_SPACE, and strips all but the two invisible characters
    if not value.isascii() and (value[:1] in _HIDDEN or value[-1:] in _HIDDEN):
        value = value.strip(WHITE_SPACE)
    return value if value and value not in null_words else None


def amount(value: str) -> Decimal | None:
    """The number, rounded to 18 decimals; None for anything else, including NaN and numbers beyond DECIMAL(38, 18)."""
    value = value.strip(WHITE_SPACE)
    if not _NUMBER.fullmatch(value):
        return None
    number = _EXACT.create_decimal(value)
    if len(number.as_tuple().digits) + number.as_tuple().exponent > _MAX_DIGITS:  # 0e99, which Spark does not read  # ty: ignore[unsupported-operator]  # a finite number's exponent is an int
        return None
    number = _EXACT.quantize(number, _PLACES)
    return number if abs(number) < _LIMIT else None


def rounded(number: Decimal, places: int) -> Decimal:
    """The number with so many decimals, rounded as the servers round it; Python's own context has only 28 digits."""
    return _EXACT.quantize(number, Decimal(1).scaleb(-places))


def whole_number(value: str) -> int | None:
    """258 for "258", "258.0" and "2.58e2"; None for a fraction, for what is not a number, and beyond 64 bits."""
    number = amount(value)
    if number is None or number != int(number) or not -_BIGINT <= number < _BIGINT:
        return None
    return int(number)


def instant(value: str) -> datetime | None:
    """The UTC time of an ISO 8601 date and time, or of seconds or milliseconds since 1970; UTC if no offset is given.

    Fractions are cut to microseconds. None for anything else.
    """
    value = value.strip(WHITE_SPACE)
    return _instant(value) if len(value) <= _LONGEST_TIME else None


@lru_cache(maxsize=4096)  # events of one second often follow each other
def _instant(value: str) -> datetime | None:
    match = _INSTANT.fullmatch(value)
    if not match:
        return _since_1970(value)
    date, clock, sign, hours, minutes = match.groups()
    clock, _, fraction = clock.replace(",", ".").partition(".")
    try:
        time = datetime.fromisoformat(f"{date}T{clock}") + timedelta(microseconds=int(fraction[:6].ljust(6, "0")))
        if sign is None:
            return time
        offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
        return time - offset if sign == "+" else time + offset
    except (ValueError, OverflowError):
        return None


def _since_1970(value: str) -> datetime | None:
    number = amount(value)
    if number is None or not FIRST_EPOCH <= number < LAST_EPOCH * 1000:
        return None
    micros = number * (1_000_000 if number < LAST_EPOCH else 1_000)
    return EPOCH + timedelta(microseconds=int(micros))
