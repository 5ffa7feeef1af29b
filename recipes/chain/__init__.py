"""What the studies and tools of `recipes/` share; `celeba_augment.py` shows how the parts join.

    command     a recipe's command line, and what it asks of the machine
    settings    what a study can be asked for: sets, arms, targets
    labels      the labelers, and how far they are trusted
    images      how the images of a set are made, judged and kept
    results     comparisons, audit, cards, curves, the report
    measures    where sets stand among the real images, and what an image costs
    costs       what benchmarks and the rehearsal share

A study is a `Run` (`run.py`) on `Inputs` (`inputs.py`), both checked before any work; `study.py`
takes it from there. A folder may use those above it.
"""
