"""Samplers: from noise to an image, one step at a time.

Each is a generator of ``Step``s, so that a notebook can look at any of them; ``sample`` runs one to its end.
They take any ``Denoiser``, and any sub-sequence of its schedule (``Schedule.respace``). A sampler that is given one
random generator an image draws that image's noise from it alone, so no image depends on its neighbours.
"""

from ddpm_lib.samplers.chains import ancestral, ddim, ddim_inversion, slerp
from ddpm_lib.samplers.drawing import sample, seeded
from ddpm_lib.samplers.langevin import annealed_langevin, langevin, predictor_corrector
from ddpm_lib.samplers.likelihood import FlowLikelihood, flow, flow_likelihood
from ddpm_lib.samplers.ode import dpm_solver, euler, heun
from ddpm_lib.samplers.walk import Step, Walk

__all__ = [
    "FlowLikelihood",
    "Step",
    "Walk",
    "ancestral",
    "annealed_langevin",
    "ddim",
    "ddim_inversion",
    "dpm_solver",
    "euler",
    "flow",
    "flow_likelihood",
    "heun",
    "langevin",
    "predictor_corrector",
    "sample",
    "seeded",
    "slerp",
]
