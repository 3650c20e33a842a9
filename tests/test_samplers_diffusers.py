"""An independent party: each sampler that diffusers has too, from the same noise, over whole runs.

Both visit diffusers' own steps, ask one exact denoiser and clip nothing, so only the formulas can differ. What differs
by convention is either undone, and says where, or listed in ``ELSEWHERE`` with its reason.
"""

from fractions import Fraction

import diffusers
import pytest
import torch

from ddpm_lib.oracle import GaussianOracle
from ddpm_lib.samplers import ddim_inversion
from ddpm_lib.schedule import linear
from tests.oracles import WAYS

SCHEDULE = linear()
ORACLE = GaussianOracle(
    SCHEDULE,
    torch.tensor([0.3, -0.5, 0.1], dtype=torch.float64),
    torch.tensor([0.04, 0.3, 1.0], dtype=torch.float64),
)
X_T = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
COUNTS = {
    "leading": (1, 7, 13, 50, 300, 1000),
    "trailing": (1, 7, 13, 50, 300),
    "linspace": (1, 7, 13, 50, 300),
}
PLANS = [
    (spacing, S) for spacing, counts in COUNTS.items() for S in counts
]  # 1,000 steps are all, however spaced

BETWEEN = "it asks the network between steps, where ours has none"
TOO_FAR = "its first step is the 1,001st, past the end of its own table"
ELSEWHERE = {
    **{(way, "linspace", S): BETWEEN for way in ("euler", "heun") for S in (7, 13, 50, 300)},
    **{(way, "leading", 1000): TOO_FAR for way in ("dpm", "dpm, eta 1")},
}
SCHEDULERS = {
    "ancestral": (diffusers.DDPMScheduler, {"clip_sample": False, "variance_type": "fixed_small"}),
    "ancestral, beta": (diffusers.DDPMScheduler, {"clip_sample": False, "variance_type": "fixed_large"}),
    "ddim": (diffusers.DDIMScheduler, {"clip_sample": False}),
    "ddim, eta 0.5": (diffusers.DDIMScheduler, {"clip_sample": False}),
    "ddim, eta 1": (diffusers.DDIMScheduler, {"clip_sample": False}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "heun": (diffusers.HeunDiscreteScheduler, {}),
    "dpm": (
        diffusers.DPMSolverMultistepScheduler,
        {"algorithm_type": "dpmsolver++", "final_sigmas_type": "zero", "euler_at_final": True},
    ),
    "dpm, eta 1": (
        diffusers.DPMSolverMultistepScheduler,
        {"algorithm_type": "sde-dpmsolver++", "final_sigmas_type": "zero", "euler_at_final": True},
    ),
}
# theirs is Euler's rule in x/√ᾱ and √((1-ᾱ)/ᾱ), which is DDIM's step
OURS = WAYS | {"euler": WAYS["ddim"], "dpm": WAYS["dpm_solver"], "dpm, eta 1": WAYS["dpm_solver, eta 1"]}


def scheduler(way, spacing, S):
    """Theirs, on float64 tables where it lets us have them, and the steps of 1..T that it visits."""
    kind, options = SCHEDULERS[way]
    theirs = kind(1000, 1e-4, 0.02, timestep_spacing=spacing, **options)
    theirs.alphas_cumprod, theirs.alphas, theirs.betas = (
        table[1:] for table in (SCHEDULE.alpha_bar, SCHEDULE.alpha, SCHEDULE.beta)
    )
    theirs.one = theirs.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    theirs.set_timesteps(S)
    visited = sorted({round(float(t), 4) + 1 for t in theirs.timesteps})
    assert all(step == int(step) for step in visited)
    return theirs, [int(step) for step in visited]


def run_ddpm(theirs, x, visited, noise):
    for t in theirs.timesteps.tolist():
        x = theirs.step(asked(x, t + 1), t, x, generator=noise).prev_sample
    if visited[0] > 1 and theirs.config.variance_type == "fixed_large":
        # it leaves the noise out at t = 0 of its table alone, and spaced "trailing" it does not end there
        noise.manual_seed(5)
        for _ in visited:
            drawn = torch.randn(x.shape, generator=noise, dtype=x.dtype)
        x = x - SCHEDULE.respace(visited).beta[1].sqrt() * drawn
    return x


def run_ddim(theirs, x, visited, noise, eta):
    for step, before in zip(visited[::-1], [*visited[-2::-1], 0], strict=True):
        # it takes the step before for t - T // S, which it is only where S divides T: we tell it which S would say so
        theirs.num_inference_steps = Fraction(1000, step - before)
        last = before == 0
        drawn = (
            torch.zeros_like(x) if last or not eta else torch.randn(x.shape, generator=noise, dtype=x.dtype)
        )
        x = theirs.step(asked(x, step), step - 1, x, eta=eta, variance_noise=drawn).prev_sample
    return x


def run_in_sigma(theirs, x):
    """Theirs that keep x/√ᾱ, and so begin with that."""
    x = x / SCHEDULE.alpha_bar[round(float(theirs.timesteps[0])) + 1].sqrt()
    for t in theirs.timesteps:
        x = theirs.step(asked(theirs.scale_model_input(x, t), round(float(t)) + 1), t, x).prev_sample
    return x


def run_dpm(theirs, x, noise):
    for t in theirs.timesteps:
        drawn = torch.randn(x.shape, generator=noise, dtype=x.dtype)  # the last is not used
        x = theirs.step(asked(x, int(t) + 1), t, x, variance_noise=drawn).prev_sample
    return x


def asked(x, step):
    return ORACLE(x, torch.full((len(x),), int(step))).eps


@pytest.mark.parametrize(
    ("way", "spacing", "S"),
    [(way, *plan) for way in SCHEDULERS for plan in PLANS]
    + [(way, "trailing", 1000) for way in ("dpm", "dpm, eta 1")],
)
def test_a_whole_run_ends_where_that_of_diffusers_ends(way, spacing, S):
    if (way, spacing, S) in ELSEWHERE:
        pytest.skip(f"diffusers: {ELSEWHERE[way, spacing, S]}")
    theirs, visited = scheduler(way, spacing, S)
    assert len(visited) == S
    noise = torch.Generator().manual_seed(5)
    if way.startswith("ancestral"):
        end = run_ddpm(theirs, X_T, visited, noise)
    elif way.startswith("ddim"):
        end = run_ddim(theirs, X_T, visited, noise, OURS[way][1].get("eta", 0.0))
    else:
        end = run_dpm(theirs, X_T, noise) if way.startswith("dpm") else run_in_sigma(theirs, X_T)
    sampler, options = OURS[way]
    *_, step = sampler(
        ORACLE, X_T, SCHEDULE.respace(visited), generators=torch.Generator().manual_seed(5), **options
    )
    # some keep their tables in float32, and x/√ᾱ of some 500 to begin with: one step makes 2e-5 of that
    torch.testing.assert_close(step.x, end, rtol=1e-5, atol=1e-5 if S > 1 else 2e-5)


@pytest.mark.parametrize(("spacing", "S"), [plan for plan in PLANS if plan[0] != "linspace"])
def test_each_step_of_the_inversion_is_that_of_diffusers(spacing, S):
    """Given the same ε: diffusers' pipelines ask at the end of the step, from x at its start; ours at its start."""
    theirs = diffusers.DDIMInverseScheduler(1000, 1e-4, 0.02, timestep_spacing=spacing, clip_sample=False)
    theirs.alphas_cumprod = SCHEDULE.alpha_bar[1:]
    theirs.initial_alpha_cumprod = torch.ones((), dtype=torch.float64)
    theirs.set_timesteps(S)
    visited = sorted(int(t) + 1 for t in theirs.timesteps)
    for step in ddim_inversion(ORACLE, X_T, SCHEDULE.respace(visited)):
        theirs.num_inference_steps = Fraction(1000, step.t_prev - step.t)
        up = theirs.step(step.eps, step.t_prev - 1, step.x_t).prev_sample
        torch.testing.assert_close(step.x, up, rtol=1e-9, atol=1e-9)
