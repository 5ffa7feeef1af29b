"""What the studies and tools of `recipes/` share; `celeba_augment.py` shows how the parts join.

    command     a recipe's command line, and what it asks of the machine
    settings    what a study can be asked for: sets, arms, targets
    labels      the labelers, and how far they are trusted
    images      how the images of a set are made, judged and kept
    results     comparisons, audit, cards, curves, the report
    measures    where sets stand among the real images, and what an image costs
    benchmarks  what the benchmarks and the rehearsal run, and what it takes

A folder uses those above it. A study is a `Run` (`run.py`) on `Inputs` (`inputs.py`), checked as
far as can be before any work; `study.py` takes it from there, or `preview.py` shows what it would
make. The other modules here serve several folders: rows (`draw.py`, `drawing.py`, `checks.py`),
networks (`encoders.py`, `training.py`), and runs (`room.py`, `finished.py`, `search.py`).
"""
