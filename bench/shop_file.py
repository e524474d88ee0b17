"""Writes a file of invented shop events, distributed like those of a public data set.

The data set is "eCommerce behavior data from multi category store"
(https://www.kaggle.com/datasets/mkechinov/ecommerce-behavior-data-from-multi-category-store). Its monthly files are too
large to keep. To write such a file: `make shop-file FILE=2019-Nov.csv.gz ROWS=10000000`.

The file is sorted by time, and the same for the same seed and options. Writing it needs constant memory, because it is
written minute by minute.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import logging
import math
import random
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import accumulate, chain
from pathlib import Path
from typing import BinaryIO

from include.progress_log import Bar

HEADER = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
PRODUCTS = 190_000
CARTS, PURCHASES = 0.045, 0.014  # shares of all rows; the others are views
NO_CODE, NO_BRAND = 0.32, 0.14  # shares of all rows
HIGHEST_PRICE = 2574.07
_EVENTS_PER_SESSION, _EVENTS_PER_USER, _SESSION_MINUTES = 4.9, 18, 10
# Events by hour of the day, UTC: the shop's visitors live some hours further east.
_HOURS = (
    0.20, 0.35, 0.75, 1.05, 1.25, 1.35, 1.40, 1.42, 1.43, 1.42, 1.40, 1.38,
    1.40, 1.50, 1.65, 1.78, 1.82, 1.65, 1.30, 0.85, 0.50, 0.30, 0.20, 0.18,
)  # fmt: skip
_PARTS = {
    "electronics": "smartphone audio.headphone clocks video.tv tablet telephone camera.photo audio.subwoofer audio.acoustic",
    "appliances": "kitchen.refrigerators kitchen.washer environment.vacuum kitchen.kettle iron kitchen.blender kitchen.oven",
    "computers": "notebook desktop peripherals.printer components.videocards peripherals.mouse peripherals.monitor",
    "apparel": "shoes shoes.keds shirt trousers dress costume scarf jacket shoes.sandals",
    "furniture": "living_room.sofa living_room.cabinet bedroom.bed bedroom.blanket kitchen.table kitchen.chair bathroom.bath",
    "auto": "accessories.player accessories.alarm accessories.compressor accessories.videoregister",
    "kids": "carriage toys dolls swing skates",
    "construction": "tools.light tools.drill tools.saw tools.pump components.faucet",
    "sport": "bicycle trainer ski tennis snowboard",
    "accessories": "bag wallet umbrella",
    "stationery": "cartrige paper",  # as the data set spells it
}
_SECONDS = [f"{second:02}" for second in range(60)]
_SYLLABLES = (
    "nor",
    "lys",
    "bek",
    "ta",
    "mi",
    "ro",
    "san",
    "del",
    "vik",
    "ara",
    "fos",
    "ulm",
    "hel",
    "go",
    "pra",
    "xen",
    "tor",
)


@dataclass(frozen=True)
class Request:
    """The file to write."""

    rows: int
    start: date = date(2019, 11, 1)
    days: int = 30
    seed: int = 1


def lines(request: Request, products: int = PRODUCTS) -> Iterator[tuple[int, str]]:
    """(rows, their text) minute by minute, without the header; minutes without rows are left out."""
    rng = random.Random(f"shop {request.seed}")
    catalogue, weights = product_catalogue(rng, products)
    sessions = _Sessions(rng, request)
    carts, purchases = _Quota(CARTS), _Quota(PURCHASES)
    last_view, last_cart = (catalogue[0], sessions.tails[0]), None
    for minute, count in _minutes(rng, request):
        sessions.renew(count)
        stamp = f"{minute:%Y-%m-%d %H:%M}"
        times = [f"{stamp}:{second} UTC,view," for second in sorted(rng.choices(_SECONDS, k=count))]
        products_of_rows = rng.choices(catalogue, cum_weights=weights, k=count)
        tails = rng.choices(sessions.tails, k=count)
        cart_rows, purchase_rows = carts.count(count), purchases.count(count)
        others = sorted(rng.sample(range(count), min(count, cart_rows + purchase_rows)))
        are_purchases = set(rng.sample(others, min(len(others), purchase_rows)))
        for row in others:  # a product is viewed before it is put into a cart, and is in a cart before it is bought
            if last_cart and row in are_purchases:
                kind, (products_of_rows[row], tails[row]) = "purchase,", last_cart
            else:
                if row:
                    earlier_row = int(rng.random() * row)
                    last_view = products_of_rows[earlier_row], tails[earlier_row]
                kind, (products_of_rows[row], tails[row]) = "cart,", last_view
                last_cart = last_view
            times[row] = times[row].replace("view,", kind)
        last_view = products_of_rows[-1], tails[-1]
        yield count, "".join(chain.from_iterable(zip(times, products_of_rows, tails, strict=True)))


def _minutes(rng: random.Random, request: Request) -> Iterator[tuple[datetime, int]]:
    """Every minute that has rows, and how many; this number depends on the hour and on the day."""
    by_minute = [_busyness(minute / 60) for minute in range(1440)]
    days = [rng.uniform(0.85, 1.15) for _ in range(request.days)]
    total, begin = (
        math.fsum(by_minute) * math.fsum(days),
        datetime(request.start.year, request.start.month, request.start.day),
    )
    share, done = 0.0, 0
    for number in range(request.days * 1440):
        share += by_minute[number % 1440] * days[number // 1440] / total
        target = request.rows if number == request.days * 1440 - 1 else min(request.rows, round(request.rows * share))
        if target > done:
            yield begin + timedelta(minutes=number), target - done
            done = target


def _busyness(hour: float) -> float:
    """Linear interpolation between the middles of the hours."""
    previous = math.floor(hour - 0.5)
    part = hour - 0.5 - previous
    return _HOURS[previous % 24] * (1 - part) + _HOURS[(previous + 1) % 24] * part


class _Quota:
    """How many of the next rows are of a kind, so that its share of all rows is exact."""

    def __init__(self, share: float) -> None:
        self._share, self._due = share, 0.0

    def count(self, rows: int) -> int:
        self._due += rows * self._share
        count = int(self._due)
        self._due -= count
        return count


class _Sessions:
    """The sessions in the shop; `tails` are the ends of their rows, user and session."""

    def __init__(self, rng: random.Random, request: Request) -> None:
        # Sessions without an event are not in the file. Those in it have, on average, one event more than the mean of all.
        renewals_per_row = 1 / (_EVENTS_PER_SESSION - 1)
        self._rng, self._renewals = rng, _Quota(renewals_per_row)
        self._users = max(1, request.rows // _EVENTS_PER_USER)
        new_per_minute = request.rows / (request.days * 1440) * renewals_per_row
        self.tails = [self._new() for _ in range(max(1, round(new_per_minute * _SESSION_MINUTES)))]

    def renew(self, rows: int) -> None:
        """Replace some sessions with new ones, before the next `rows` rows."""
        for place in self._rng.choices(range(len(self.tails)), k=self._renewals.count(rows)):
            self.tails[place] = self._new()

    def _new(self) -> str:
        user = 512_000_000 + int(self._rng.random() * self._users)
        name = f"{self._rng.getrandbits(128):032x}"
        return f"{user},{name[:8]}-{name[8:12]}-4{name[13:16]}-a{name[17:20]}-{name[20:]}\n"


def product_catalogue(rng: random.Random, products: int) -> tuple[list[str], list[float]]:
    """The middles of rows (product to price), most popular first, and their cumulative weights: a few get most rows."""
    codes = [f"{part}.{rest}" for part, others in _PARTS.items() for rest in others.split()]
    category_ids = rng.sample(range(2053013550000000000, 2053013569999999999), len(codes) + 300)
    with_code = [f"{category_id},{code}" for category_id, code in zip(category_ids, codes, strict=False)]
    without_code = [f"{category_id}," for category_id in category_ids[len(codes) :]]
    popularity = list(accumulate(1 / (rank + 2) for rank in range(len(codes))))
    brands = sorted({"".join(rng.choices(_SYLLABLES, k=rng.choice((2, 2, 3)))) for _ in range(3_000)})
    rng.shuffle(brands)
    fame = list(accumulate(1 / (rank + 3) for rank in range(len(brands))))
    no_code, no_brand = _Portion(NO_CODE), _Portion(NO_BRAND)
    middles, weights = [], []
    for rank, number in enumerate(rng.sample(range(1_000_000, 60_000_000), products)):
        weight = 1 / (rank + 4)
        category = (
            rng.choice(without_code) if no_code.choose(weight) else rng.choices(with_code, cum_weights=popularity)[0]
        )
        brand = "" if no_brand.choose(weight) else rng.choices(brands, cum_weights=fame)[0]
        price = 0.0 if rng.random() < 0.003 else min(HIGHEST_PRICE, rng.lognormvariate(5.1, 1.1))
        middles.append(f"{number},{category},{brand},{price:.2f},")
        weights.append(weight)
    return middles, list(accumulate(weights))


class _Portion:
    """Chooses products that together get this portion of the rows, although a few products get most of all rows."""

    def __init__(self, portion: float) -> None:
        self._portion, self._all, self._chosen = portion, 0.0, 0.0

    def choose(self, weight: float) -> bool:
        """Whether the next product, which has that weight, is chosen."""
        self._all += weight
        if self._chosen + weight > self._portion * self._all:
            return False
        self._chosen += weight
        return True


@contextlib.contextmanager
def open_for_writing(path: Path) -> Iterator[BinaryIO]:
    """The file to write, compressed as its name says. If writing is interrupted, the file is removed."""
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("wb") as raw, contextlib.ExitStack() as stack:
            if path.suffix == ".gz":
                yield stack.enter_context(gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0))
            elif path.suffix == ".zip":
                archive = stack.enter_context(zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED, compresslevel=1))
                member = zipfile.ZipInfo(f"{path.stem.removesuffix('.csv')}.csv")
                member.compress_type = zipfile.ZIP_DEFLATED
                yield stack.enter_context(archive.open(member, "w", force_zip64=True))
            else:
                yield raw
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)


def write(path: Path, request: Request, products: int = PRODUCTS) -> None:
    """Write the whole file, and show progress."""
    with open_for_writing(path) as file, Bar(path.name, request.rows, unit="row") as bar:
        file.write(HEADER.encode())
        written = 0
        for rows, text in lines(request, products):
            file.write(text.encode())
            written += rows
            bar.at(written)


class RequestRefused(ValueError):
    """A request that cannot be fulfilled."""


def _request(rows: str, start: str, days: str, seed: str) -> Request:
    for name, text, example in (("ROWS", rows, 10_000_000), ("DAYS", days, 30), ("SEED", seed, 1)):
        if not (text.isascii() and text.isdigit()) or (name != "SEED" and int(text) < 1):
            minimum = "" if name == "SEED" else " of at least 1"
            raise RequestRefused(f"{name}={text} is not a whole number{minimum}. Use, for example, {name}={example}.")
    try:
        return Request(int(rows), date.fromisoformat(start), int(days), int(seed))
    except ValueError:
        raise RequestRefused(f"START={start} is not a date. Use, for example, START=2019-11-01.") from None


def main(arguments: list[str] | None = None, products: int = PRODUCTS) -> int:
    """`make shop-file`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make shop-file", description=__doc__.splitlines()[0])
    parser.add_argument("--file", required=True, help="file to write: .csv, .csv.gz or .zip (make: FILE=)")
    parser.add_argument("--rows", required=True, help="number of rows (make: ROWS=)")
    parser.add_argument("--start", default="2019-11-01", help="first day (make: START=, default 2019-11-01)")
    parser.add_argument("--days", default="30", help="number of days to spread the rows over (make: DAYS=, default 30)")
    parser.add_argument(
        "--seed", default="1", help="seed of the file: a different seed gives a different file (make: SEED=, default 1)"
    )
    args = parser.parse_args(arguments)
    path = Path(args.file)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        request = _request(args.rows, args.start, args.days, args.seed)
        if not args.file:
            raise RequestRefused("FILE is not set. Name a new file: .csv, .csv.gz or .zip.")
        if path.exists():
            raise RequestRefused(f"FILE={args.file} already exists. Name a new file: .csv, .csv.gz or .zip.")
        write(path, request, products)
    except RequestRefused as error:
        print(f"No file written. {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"No file written. {path}: {error.strerror}. Name an existing folder on a disk with free space.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The unfinished file was removed.", file=sys.stderr)
        return 130
    print(
        f"{path}: rows: {request.rows:,}, days: {request.days}, first day: {request.start}, bytes: {path.stat().st_size:,}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
