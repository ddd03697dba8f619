"""A grid of trials, run once and remembered: comparisons of methods, searches of settings."""

from scarce.study.contest import benchmark
from scarce.study.grid import BenchmarkConfig
from scarce.study.search import TuneConfig, tune

__all__ = ["BenchmarkConfig", "TuneConfig", "benchmark", "tune"]
