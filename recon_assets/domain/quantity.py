"""What the formulas of the domain calculate with."""

from typing import Any, TypeAlias

Quantity: TypeAlias = Any
"""A number, a pandas Series of numbers or an SQL column: a formula that is written once works on each."""
