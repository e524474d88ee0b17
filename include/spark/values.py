"""Typed values from strings: null if the string is empty or cannot be read as one. Needs a session in UTC.

The patterns of numbers and times are defined once, in include/readings.py. Every helper extracts what it can read before it
casts: a cast of hostile text (a bid of 1e-2000000000) can stop the whole job. Each helper uses its argument once if possible:
an expression that doubles at every level of nesting takes longer to compile than the rows take to read.
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import Column
from pyspark.sql import functions as F

from include.readings import DATE_AND_TIME, FIRST_EPOCH, LAST_EPOCH, NUMBER, OFFSET, UTC, WHITE_SPACE, YEARS

_SPACE = "[" + "".join(f"\\x{{{ord(character):x}}}" for character in WHITE_SPACE) + "]*"
_DIGITS = rf"^{_SPACE}(-?[0-9]{{1,19}})(?:\.0{{0,18}})?{_SPACE}\z"
_NUMBER = rf"^{_SPACE}({NUMBER}){_SPACE}\z"
_IN_UTC = rf"^{_SPACE}({DATE_AND_TIME}){UTC}{_SPACE}\z"
_WITH_OFFSET = rf"^{_SPACE}({DATE_AND_TIME}){OFFSET}{_SPACE}\z"
# Possessive (*+): white space that two quantifiers can share would take quadratic time.
FIRST_NUMBER = rf'^\s*+\[?\s*+"?{_SPACE}(?:{NUMBER}){_SPACE}(?:[,\]"]|\z)'
# Numbers that may be seconds or milliseconds since 1970; microseconds are not read.
_EPOCH = rf"(?!-|[+]?(?:[0-9]{{1,8}}|[0-9]{{15,}})(?:\.[0-9]*)?{_SPACE}\z){NUMBER}"
TIME = rf"^{_SPACE}(?:{DATE_AND_TIME}(?:{OFFSET}|{UTC})|{_EPOCH}){_SPACE}\z"
_FIRST_OF_LIST = r'^\s*\[?\s*"?([^,\]"]*)'
_TIME_UUID = r"^(?i)[0-9a-f]{8}-[0-9a-f]{4}-1[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$"
_UUID_EPOCH = 0x01B21DD213814000  # 100 ns steps from 1582-10-15, where time-UUIDs begin, to 1970-01-01
_FIRST, _LAST = f"{YEARS.start}-01-01 00:00:00Z", f"{YEARS[-1]}-12-31 23:59:59.999999Z"


def trimmed(text: str) -> str:
    """SQL for the text without the white space around it. For columns and fields only: the SQL contains the text four times."""
    # btrim and substring read every character of the text. Nearly every text needs neither, since its first and last bytes
    # are visible ASCII characters.
    is_plain = f"{text} BETWEEN '!' AND '~' AND substring(binary({text}), -1, 1) BETWEEN X'21' AND X'7E'"
    return f"IF({is_plain}, {text}, btrim({text}, {literal(WHITE_SPACE)}))"


def text(trimmed: str, null_words: Collection[str] = ()) -> str:
    """SQL for a trimmed text, null if it is empty or a word for null. For columns only: the SQL contains the text twice."""
    return f"IF({trimmed} IN ({', '.join(map(literal, ('', *null_words)))}), NULL, {trimmed})"


def literal(text: str) -> str:
    """The text as an SQL literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def amount(text: Column) -> Column:
    """DECIMAL(38, 18) of a number as people and programs write it; null for NaN, Infinity and overflow."""
    return F.regexp_extract(text, _NUMBER, 1).cast("decimal(38,18)")


def unreadable_sql(name: str, pattern: str) -> str:
    """SQL that is true if the text of that column is not a number or a time; `pattern` is FIRST_NUMBER or TIME.

    A quick test replaces the pattern for nearly every text, so an unusual end of a date is not noticed here.
    """
    is_date = f"substring({name}, 5, 1) = '-' AND substring({name}, 8, 1) = '-'"
    quick = is_date if pattern == TIME else f"bigint({name}) IS NOT NULL"
    escaped = pattern.replace("\\", "\\\\").replace("'", "\\'")
    return f"{name} IS NOT NULL AND NOT ({quick}) AND NOT {name} RLIKE '{escaped}'"


def whole_number(text: Column) -> Column:
    """BIGINT of "258", "258.0" and "2.58e2"; null for a fraction, or a number beyond BIGINT."""
    # Nearly every text consists of digits only: the other form reads the text five times.
    return F.coalesce(F.regexp_extract(text, _DIGITS, 1).cast("bigint"), _integer(amount(text)))


def _integer(number: Column) -> Column:
    lowest, highest = (F.lit(bound).cast("decimal(38,0)") for bound in (-(2**63), 2**63 - 1))
    return F.when((number == F.floor(number)) & number.between(lowest, highest), F.floor(number).cast("bigint"))


def key(text: Column) -> Column:
    """BIGINT of a key of a fact; 0, for unknown, if the text is not a positive whole number."""
    return F.greatest(F.coalesce(whole_number(text), F.lit(0)), F.lit(0))


def instant(text: Column) -> Column:
    """The time of an ISO 8601 date and time, or of seconds or milliseconds since 1970. See in_range, and readings.instant."""
    # Nearly every time is in UTC: the other two forms are tried only if it is not.
    in_utc = F.regexp_extract(text, _IN_UTC, 1)
    return F.when(in_utc != "", _local_time(in_utc)).otherwise(
        F.coalesce(_time_with_offset(text), _since_epoch(amount(text)))
    )


def _time_with_offset(text: Column) -> Column:
    local, sign, hours, minutes = (F.regexp_extract(text, _WITH_OFFSET, group) for group in (1, 4, 5, 6))
    ahead = hours.cast("bigint") * 60 + F.coalesce(minutes.cast("bigint"), F.lit(0))
    offset = ahead * F.when(sign == "-", -60_000_000).otherwise(60_000_000)
    return F.timestamp_micros(F.unix_micros(_local_time(local)) - offset)


def _local_time(text: Column) -> Column:
    return F.translate(text, "tT,", "  .").cast("timestamp")


def _since_epoch(number: Column) -> Column:
    # Truncated first, because the product of decimals is rounded.
    seconds, milliseconds = (F.call_function("floor", number, F.lit(places)) for places in (6, 3))
    micros = F.when(number < LAST_EPOCH, seconds * 1_000_000).otherwise(milliseconds * 1_000)
    return F.when((number >= FIRST_EPOCH) & (number < LAST_EPOCH * 1000), F.timestamp_micros(micros.cast("bigint")))


def last_of_equal_keys(parsed: Column) -> Column:
    """The map without repeated keys.

    map_concat keeps the last value of a key (spark.sql.mapKeyDedupPolicy in reading_settings); element_at would find the first.
    """
    keys_differ = F.size(F.array_distinct(F.map_keys(parsed))) == F.size(parsed)
    return F.when(keys_differ, parsed).otherwise(F.map_concat(parsed, F.create_map()))


def first_of_list(text: Column) -> Column:
    """ "4" of "4,1,2,3,5" and of the JSON list [4, 1, 2]; a text without a list stays as it is. Spaces may remain."""
    return F.regexp_extract(text, _FIRST_OF_LIST, 1)


def time_of_uuid(uuid: Column) -> Column:
    """The time inside a time-UUID, truncated to microseconds; null if the text is not one. See in_range."""
    high, mid, low = F.substring(uuid, 16, 3), F.substring(uuid, 10, 4), F.substring(uuid, 1, 8)
    steps = F.conv(F.concat(high, mid, low), 16, 10).cast("bigint") - F.lit(_UUID_EPOCH)
    return F.when(uuid.rlike(_TIME_UUID), F.timestamp_micros(F.call_function("div", steps, F.lit(10))))


def in_range(time: Column) -> Column:
    """The time; null outside 1970 to 2100, the years that every column can hold. For a plain column only: the
    expression evaluates its argument three times.
    """
    return F.when(time.between(F.lit(_FIRST).cast("timestamp"), F.lit(_LAST).cast("timestamp")), time)
