"""Patterns: fitted from data (`api`), estimated from sums (`statistics`, `estimators`), kept in files (`patterns`)."""

from innvest_lite.patterns.api import PatternFits, fit_patterns, fit_statistics
from innvest_lite.patterns.patterns import Patterns
from innvest_lite.patterns.statistics import PatternStatistics

__all__ = ["PatternFits", "PatternStatistics", "Patterns", "fit_patterns", "fit_statistics"]
