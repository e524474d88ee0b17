"""Demo traffic, only with MINUTEMARK_DEMO=1. A module for each pipeline generates its events; traffic.py sends them.

A module include/demo/<pipeline>.py has `event(rng, now) -> dict`, `broken_event(rng, now) -> dict` (one that the
transform must reject) and `dimension_rows() -> {dimension: rows}`; a pipeline without this module has no demo. With
`PAST` (a timedelta) and `past_event(rng, at, age)` it also has past events, which past.py sends once.
"""

EVENTS_PER_MINUTE = 40  # live and in the busiest hour of the past events, so that their bars are equally high
