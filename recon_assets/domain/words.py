"""Words for counts and durations."""


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "day"), plural(1200, "day")
    ('1 day', '1,200 days')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds in words that a person plans with, rounded up to minutes.

    >>> duration(40), duration(200), duration(7300)
    ('1 minute', '4 minutes', '2 h 2 min')
    """
    minutes = max(1, -(-round(seconds) // 60))
    return plural(minutes, "minute") if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
