"""Update rules of the reverse process: values handed to the sampler. One rule a file."""

from augment.solvers.ancestral import Ancestral
from augment.solvers.contract import Estimate, Solver, Transition
from augment.solvers.ddim import DDIM
from augment.solvers.dpm_solver import DPMSolver2M

__all__ = ["DDIM", "Ancestral", "DPMSolver2M", "Estimate", "Solver", "Transition"]
