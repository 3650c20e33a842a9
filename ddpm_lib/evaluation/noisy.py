"""How well a classifier of noisy images tells their classes, by the step that they are noised to."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from ddpm_lib import data, metrics
from ddpm_lib._checks import check_steps
from ddpm_lib.config import TrainConfig
from ddpm_lib.data import Images
from ddpm_lib.gaussian import GaussianDiffusion
from ddpm_lib.guidance import NoisyClassifier, log_prob_of
from ddpm_lib.kernel import standard_normal
from ddpm_lib.metrics import Report, Row


@torch.no_grad()
def told_classes(
    net: NoisyClassifier,
    diffusion: GaussianDiffusion,
    images: Images,
    t: int,
    seed: int = 0,
    batch: int = 250,
) -> tuple[Tensor, Tensor]:
    """Of images noised to step t: whether the likeliest class is the right one, (N,) bool, and -log p of that, nats.

    The noise comes from (seed, t) alone. Both are on the CPU. net is in evaluation mode meanwhile, without dropout.
    """
    was_training = net.training
    net.eval()
    device = next(net.parameters()).device
    generator, hits, nats = torch.Generator().manual_seed(seed * 1_000_003 + t), [], []
    for start in range(0, len(images), batch):
        pixels, y = images.batch(torch.arange(start, min(start + batch, len(images))), device)
        x0, steps = data.to_unit(pixels), torch.full((len(y),), t)
        x_t = diffusion.marginal(x0, steps).sample(standard_normal(x0, generator))
        logits = net(x_t, steps)
        hits.append(logits.argmax(1) == y)
        nats.append(-log_prob_of(lambda *_, told=logits: told, y)(x_t, steps))
    net.train(was_training)
    return torch.cat(hits).cpu(), torch.cat(nats).cpu()


def evaluate_classifier(
    net: NoisyClassifier,
    config: TrainConfig,
    steps: Sequence[int],
    seed: int = 0,
    device: torch.device | str = "cpu",
    images: Images | None = None,
) -> Report:
    """The share of held-out images, noised to each of these steps, whose class the classifier finds.

    net, config: as ``training.load_noisy_classifier`` returns them. images: the held-out ones of config.data by
    default. Raises ValueError for steps that are not in 1..T.
    """
    begun, device = time.perf_counter(), torch.device(device)
    diffusion = GaussianDiffusion(config.make_schedule())
    check_steps("steps", torch.as_tensor(list(steps), dtype=torch.int64), 1, config.T)
    held_out, rows = images or data.load(config.data, "test"), []
    n = len(held_out)
    for t in steps:
        hits, nats = told_classes(net, diffusion, held_out, t, seed)
        right = int(hits.sum())
        told = right / n, *metrics.share_interval(right, n)
        rows.append(Row.of(f"accuracy_{t}", f"held-out images right at step {t}", n, told, "Wilson"))
        title = f"  -log p of the right class at step {t}, in nats"
        rows.append(Row.of(f"nats_{t}", title, n, metrics.mean_interval(nats), "over images, ± 1.96 errors"))
    about = {
        "real images": f"{config.data}, {n:,} held out, noised once for each step",
        "seed": seed,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "torch": torch.__version__,
        "seconds": round(time.perf_counter() - begun, 1),
    }
    return Report(tuple(rows), about)
