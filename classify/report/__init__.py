"""The study's report as one HTML file."""

from classify.report.page import write_report
from classify.report.report import PAPER_REFERENCE, Report
from classify.report.verdict import Verdict, judge, verdicts

__all__ = ["PAPER_REFERENCE", "Report", "Verdict", "judge", "verdicts", "write_report"]
