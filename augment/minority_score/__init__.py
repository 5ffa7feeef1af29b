"""How badly a generator restores an image from noise: its minority score."""

from augment.minority_score.score import (
    ScoreConfig,
    minority_classes,
    minority_score,
    score_files,
)

__all__ = ["ScoreConfig", "minority_classes", "minority_score", "score_files"]
