"""The former name of `innvest_lite.cli.results`, for one release."""

from innvest_lite.cli.results import can_draw, save_degradation, save_plot, save_rows, save_settings, save_signal

__all__ = ["can_draw", "save_degradation", "save_plot", "save_rows", "save_settings", "save_signal"]
