"""What the formulas of the domain calculate with."""

from typing import Any, TypeAlias

Quantity: TypeAlias = Any
"""A number, a pandas Series of numbers or an SQL column: the same arithmetic holds for each, and each stands once."""
