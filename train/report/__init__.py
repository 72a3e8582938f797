"""A run, a cross-validation or an ablation as one page to send: everything is in the file."""

from train.report.write import write_report

__all__ = ["write_report"]
