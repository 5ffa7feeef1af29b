"""The study's report: one HTML page made of sections.

A section is a function that takes the tables it shows and returns plain blocks (`page.py`), or
None where there is nothing to show. A further part of the page is one more such function, and its
entry in the list that is given to `write_page`.
"""

from classify.report.arms import arms_section
from classify.report.curves import curves_section, read_curves
from classify.report.differences import differences_section
from classify.report.figures import colours_of
from classify.report.groups import audit_section
from classify.report.labels import labels_section
from classify.report.page import Section, write_page
from classify.report.record import notes_section, record_section
from classify.report.samplers import samplers_section
from classify.report.scores import attributes_section, controls_section, verdict_section
from classify.report.sets import (
    admission_section,
    rarity_section,
    realism_section,
    samples_section,
    targets_section,
)

__all__ = [
    "Section",
    "admission_section",
    "arms_section",
    "attributes_section",
    "audit_section",
    "colours_of",
    "controls_section",
    "curves_section",
    "differences_section",
    "labels_section",
    "notes_section",
    "rarity_section",
    "read_curves",
    "realism_section",
    "record_section",
    "samplers_section",
    "samples_section",
    "targets_section",
    "verdict_section",
    "write_page",
]
