"""Settings of the reverse process, as the command lines know them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from augment.solvers import DDIM, Ancestral, DPMSolver2M, Solver

__all__ = ["SamplerConfig"]


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """The reverse process."""

    steps: int = 250
    """Reverse steps an image; at most the length of the model's schedule."""
    batch_size: int = 64
    """Images at a time on each device; fewer need less memory and change only the rounding."""
    solver: Literal["ancestral", "ddim", "dpm"] = "ancestral"
    """The update rule: ancestral (the paper's), ddim, or dpm (DPM-Solver++ of second order)."""
    eta: float = 0.0
    """Share of the noise that ddim adds, 0 to 1."""
    label: int | None = None
    """The class of every image, for a model with classes; left out, each image's own, uniform."""
    compile: bool = False
    """Compile the network first: takes minutes, pays on long runs, changes only the rounding."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"sampler.{name} is {getattr(self, name)}; give at least 1")
        if self.solver not in ("ancestral", "ddim", "dpm"):
            raise ValueError(
                f"sampler.solver is {self.solver!r}; allowed are ancestral, ddim and dpm; "
                "ancestral is the paper's"
            )
        if not 0 <= self.eta <= 1 or (self.eta and self.solver != "ddim"):
            raise ValueError(
                f"sampler.eta is {self.eta} with the solver {self.solver}; "
                "allowed is 0 to 1 with ddim, and 0 with the others"
            )

    def chosen(self) -> dict[str, Any]:
        """Solver and class for a folder's record, where they are not the default."""
        chosen: dict[str, Any] = {}
        if self.solver != "ancestral":
            chosen["solver"] = repr(self.rule)
        if self.label is not None:
            chosen["label"] = self.label
        return chosen

    @property
    def rule(self) -> Solver:
        """The solver that the settings name."""
        if self.solver == "ddim":
            return DDIM(eta=self.eta)
        return DPMSolver2M() if self.solver == "dpm" else Ancestral()
