"""Typed values out of text columns: null where the text is empty or does not say one. Needs a session in UTC.

Every helper cuts out what it can read before it casts: a cast of hostile text (a bid of 1e-2000000000) can take the
whole job down. And each names its argument once, where it can: an expression that doubles at every level of nesting
takes longer to compile than the rows to read.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

# Each with the value as its first group, between spaces that do not matter.
_WHOLE_NUMBER = r"^ *([0-9]{1,40})(?:\.0{0,20})? *$"
_DECIMAL = r"^ *([+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,2})?) *$"
_DATE_AND_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.][0-9]{1,9})?)?"
# Without the Z, which says nothing in a session in UTC: Spark compiles two patterns for the zone of every value.
_INSTANT = rf"^ *({_DATE_AND_TIME}(?=Z? *$)|{_DATE_AND_TIME}[+-][0-9]{{2}}:[0-9]{{2}}(?= *$))"
_FIRST_OF_LIST = r'^\s*\[?\s*"?([^,\]"]*)'
_TIME_UUID = r"^(?i)[0-9a-f]{8}-[0-9a-f]{4}-1[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$"
_UUID_EPOCH = 0x01B21DD213814000  # 100 ns steps from 1582-10-15, where time-UUIDs begin, to 1970-01-01
_FIRST, _LAST = "1970-01-01 00:00:00Z", "2100-12-31 23:59:59.999999Z"


def text(column: Column) -> Column:
    """The text without surrounding spaces, null where nothing is left. For columns and fields, not for expressions."""
    return F.when(F.trim(column) != "", F.trim(column))


def whole_number(text: Column) -> Column:
    """BIGINT of "258" and "258.0"; null for a sign, an exponent, a fraction, or a number beyond BIGINT."""
    return F.regexp_extract(text, _WHOLE_NUMBER, 1).cast("bigint")


def amount(text: Column) -> Column:
    """DECIMAL(38, 18) of a number as people and programs write it; null for NaN, Infinity and overflow."""
    return F.regexp_extract(text, _DECIMAL, 1).cast("decimal(38,18)")


def instant(text: Column) -> Column:
    """The time of `yyyy-MM-dd HH:mm[:ss[.fraction]]`, with T, Z or an offset, UTC without one. See in_range."""
    return F.regexp_extract(F.translate(text, ",", "."), _INSTANT, 1).cast("timestamp")


def first_of_list(text: Column) -> Column:
    """ "4" of "4,1,2,3,5" and of the JSON list [4, 1, 2]; a text without a list is itself. Spaces may be left."""
    return F.regexp_extract(text, _FIRST_OF_LIST, 1)


def time_of_uuid(uuid: Column) -> Column:
    """The time inside a time-UUID, truncated to microseconds; null when it is none. See in_range."""
    high, mid, low = F.substring(uuid, 16, 3), F.substring(uuid, 10, 4), F.substring(uuid, 1, 8)
    steps = F.conv(F.concat(high, mid, low), 16, 10).cast("bigint") - F.lit(_UUID_EPOCH)
    return F.when(uuid.rlike(_TIME_UUID), F.timestamp_micros(F.call_function("div", steps, F.lit(10))))


def in_range(time: Column) -> Column:
    """The time, null outside 1970 to 2100: no warehouse column need take it. For columns: it is named three times."""
    return F.when(time.between(F.lit(_FIRST).cast("timestamp"), F.lit(_LAST).cast("timestamp")), time)
