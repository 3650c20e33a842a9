"""How good a trained model is, in numbers that each come with the count of images behind them and an interval.

Samples are compared with real images (Fréchet and kernel distance, beside the same distances of as many *real* images,
about what a perfect model would have), with the classes that were asked for and with the nearest training images;
held-out images are encoded, in bits a dimension, by the bound's terms.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm_lib import data, metrics, samplers
from ddpm_lib.config import TrainConfig
from ddpm_lib.data import Images
from ddpm_lib.denoiser import Clipped, NetworkDenoiser
from ddpm_lib.evaluation.encoding import bound_rows, choice_variance, draw_steps, encode
from ddpm_lib.evaluation.noisy import evaluate_classifier, told_classes
from ddpm_lib.kernel import standard_normal
from ddpm_lib.metrics import Report, Row

SAMPLERS = {"ancestral": samplers.ancestral, "ddim": samplers.ddim, "dpm_solver": samplers.dpm_solver}
DIGITS = ("mnist5k", "mnist")
FLOOR_DRAWS = 20
LEFT_OUT = "leaving out a twentieth in turn"
KERNEL_IMAGES = 5_000  # at most so many real ones, as the kernel distance takes time in their square


def evaluate(
    denoiser: NetworkDenoiser,
    config: TrainConfig,
    n: int = 1000,
    sampler: str = "ancestral",
    steps: int = 50,
    spacing: str = "uniform",
    eta: float | None = None,
    seed: int = 0,
    extractor: metrics.Extractor | None = None,
    bound_images: int = 500,
    bound_steps: int = 100,
    batch: int = 100,
    device: torch.device | str = "cpu",
    images: tuple[Images, Images] | None = None,
    progress: bool = False,
) -> Report:
    """Draw n samples and hold them and the model against real images.

    denoiser, config: as ``training.load_denoiser`` returns them. n: samples, all classes in turn. sampler, steps,
    spacing, eta, seed, batch: see ``draw_samples``. extractor: whose features the distances are taken in; the digit
    classifier's by default, for digits. bound_images: how many held-out images to encode; 0 leaves the bound out.
    bound_steps: at how many of the bound's steps, see ``draw_steps``. images: training and held-out images, those of
    config.data by default. Raises ValueError for options that do not fit.
    """
    begun, device = time.perf_counter(), torch.device(device)
    extractor = extractor or find_extractor("digits", config.data, device)
    train, held_out = images or (data.load(config.data, "train"), data.load(config.data, "test"))
    _check_counts(n, len(train) + len(held_out), extractor.dims, bound_images)
    drawn, *weighting = draw_steps(denoiser.schedule.T, bound_steps, seed)
    conditional = config.model.num_classes is not None
    y = torch.arange(n) % len(train.classes) if conditional else None
    shape = (n, *train.pixels.shape[1:])
    pixels, rates = draw_samples(
        denoiser, y, shape, sampler, steps, spacing, eta, seed, device, batch, progress
    )
    sets = [
        metrics.features(extractor, part, progress=progress)
        for part in (pixels, train.pixels, held_out.pixels)
    ]
    labels = torch.cat([train.labels, held_out.labels]).cpu() if conditional else None
    rows = distance_rows(*sets, labels, seed, progress)
    if conditional and config.data in DIGITS:
        rows += accuracy_rows(Images(pixels, y, train.classes), held_out, device)
    if bound_images:
        chosen = held_out[torch.randperm(len(held_out), generator=_generator(seed))[:bound_images]]
        terms = encode(denoiser, chosen, conditional, drawn, seed, device, batch, progress)
        rows += bound_rows(terms, *weighting)
    rows += nearest_rows(pixels.to(device), train, held_out, seed, progress)
    if len(rates) > 1:
        rows.append(
            Row.of("speed", "images/s of sampling", n, metrics.mean_interval(rates), f"batches of {batch}")
        )
    about = {
        "samples": f"{n:,} by {sampler} in {steps} steps, {spacing}"
        + ("" if eta is None else f", eta {eta}"),
        "seed": seed,
        "real images": f"{config.data}, {len(train):,} of training and {len(held_out):,} held out",
        "features": f"{extractor.name}, {extractor.dims}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "torch": torch.__version__,
        "seconds": round(time.perf_counter() - begun, 1),
    }
    return Report(tuple(rows), about)


def find_extractor(spec: str, name: str, device: torch.device | str = "cpu") -> metrics.Extractor:
    """The extractor that a command line names: "digits", for the sets of digits alone, or "inception:PATH".

    name: the data set. Raises ValueError for another spec, or for digits' features of other data.
    """
    kind, _, path = spec.partition(":")
    if kind == "inception" and path:
        return metrics.inception_features(path, device)
    if spec != "digits":
        raise ValueError(f"extractor: expected digits or inception:PATH, got {spec!r}")
    if name not in DIGITS:
        raise ValueError(f"extractor: digits is for {' and '.join(DIGITS)}; for {name!r} name inception:PATH")
    return metrics.digit_features(device)


def draw_samples(
    denoiser: NetworkDenoiser,
    y: Tensor | None,
    shape: tuple[int, ...],
    sampler: str = "ancestral",
    steps: int = 50,
    spacing: str = "uniform",
    eta: float | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch: int = 100,
    progress: bool = False,
) -> tuple[Tensor, Tensor]:
    """Samples as bytes, (N, C, H, W) uint8 on the CPU, and the images/s of each whole batch, (N // batch,).

    y: (N,) classes, or None for none. shape: (N, C, H, W). sampler: one of ``SAMPLERS``. eta: for those that take it.
    Image i depends on (seed, i) and its class alone, so it is the one that ``samplers.sample`` draws. x̂_0 is clipped.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler: expected one of {', '.join(SAMPLERS)}, got {sampler!r}")
    options = noise_option(sampler, eta)
    if batch < 1:
        raise ValueError(f"batch: expected at least 1, got {batch}")
    schedule = denoiser.schedule.spaced(steps, spacing)
    generators, drawn, rates = samplers.seeded(seed, shape[0]), [], []
    with tqdm(total=shape[0], desc="sampling", unit="img", disable=not progress, leave=False) as bar:
        for start in range(0, shape[0], batch):
            begun, part = time.perf_counter(), generators[start : start + batch]
            asked = denoiser if y is None else denoiser.given(y[start : start + batch].to(device))
            x = standard_normal(torch.empty(len(part), *shape[1:], device=device), part)
            for step in SAMPLERS[sampler](Clipped(asked), x, schedule, generators=part, **options):
                x = step.x
            drawn.append(data.to_bytes(x).cpu())
            if len(part) == batch:
                rates.append(batch / (time.perf_counter() - begun))
            bar.update(len(part))
    return torch.cat(drawn), torch.tensor(rates, dtype=torch.float64)


def noise_option(sampler: str, eta: float | None) -> dict[str, float]:
    """The sampler's option. Raises ValueError where it has none and is given one."""
    if eta is not None and sampler == "ancestral":
        raise ValueError(f"eta: expected only with ddim or dpm_solver, got it with {sampler}")
    return {} if eta is None else {"eta": eta}


def distance_rows(
    samples: Tensor,
    train: Tensor,
    held_out: Tensor,
    labels: Tensor | None,
    seed: int = 0,
    progress: bool = False,
) -> list[Row]:
    """Fréchet and kernel distance of samples to all real images and to the held-out ones, each above its floor.

    samples (N, D), train, held_out: features. labels: of the real images, training images first, so that real ones are
    drawn with all classes in one number, as the samples have them; None where no classes were asked for. The floor to
    all M images is the distance of N of them to the others, since it would be too low with the N among those. There are
    only M - N others: by chapter 9 a perfect model's Fréchet distance is (1/N + 1/M) / (1/N + 1/(M - N)) times the
    floor, 0.96 for 1,000 of 5,000 and 0.36 for 4,000. The floor to the held-out ones has N training images instead
    of samples. What would take more images than there are is left out.
    """
    n, real, generator = len(samples), torch.cat([train, held_out]), _generator(seed)
    of_train = None if labels is None else labels[: len(train)]

    def apart() -> tuple[Tensor, Tensor]:
        order = _draw_order(len(real), labels, generator)
        return real[order[:n]], real[order[n:]]

    def trained() -> tuple[Tensor, Tensor]:
        return train[_draw_order(len(train), of_train, generator)[:n]], held_out

    rows = []
    for key, target, draw, title in (
        ("", real, apart, f"to all {len(real):,} real images"),
        ("_held_out", held_out, trained, f"to the {len(held_out):,} held out"),
    ):
        if len(target) > samples.shape[1]:
            told = metrics.frechet_interval(samples, target)
            rows.append(Row.of(f"frechet{key}", f"Fréchet distance {title}", n, told, LEFT_OUT))
            rows += _floor(f"frechet{key}", metrics.frechet_distance, draw, n, samples.shape[1] + 1, progress)
        some = target[_draw_order(len(target), None, generator)[:KERNEL_IMAGES]]
        told = metrics.kernel_interval(samples, some)
        rows.append(Row.of(f"kernel{key}", f"kernel distance {title}", n, told, LEFT_OUT))
        rows += _floor(f"kernel{key}", metrics.kernel_distance, draw, n, 2, progress)
    return rows


def _floor(
    key: str,
    distance: Callable[[Tensor, Tensor], float],
    draw: Callable[[], tuple[Tensor, Tensor]],
    n: int,
    least: int,
    progress: bool,
) -> list[Row]:
    """The row of what as many real images have for a distance; none where there are not that many."""
    a, b = draw()
    if len(a) < n or len(b) < least:
        return []
    most = KERNEL_IMAGES if key.startswith("kernel") else None
    bar = tqdm(range(FLOOR_DRAWS), desc=f"floor of {key}", unit="draw", disable=not progress, leave=False)
    values = torch.tensor([distance(a, b[:most]) for a, b in (draw() for _ in bar)], dtype=torch.float64)
    middle, reach = values.mean().item(), 1.96 * values.std().item()
    told = middle, middle - reach, middle + reach
    return [
        Row.of(
            f"{key}_floor",
            "  real ones instead: the floor",
            n,
            told,
            f"{FLOOR_DRAWS} draws, ± 1.96 deviations",
        )
    ]


def accuracy_rows(samples: Images, held_out: Images, device: torch.device | str = "cpu") -> list[Row]:
    """How often the digit classifier finds the class that was asked for, beside its accuracy on real digits."""
    net, rows = metrics.load_classifier(device=device), []
    for key, title, images in (
        ("accuracy", "samples seen as the class asked for", samples),
        ("accuracy_held_out", "  real ones instead: held out", held_out),
    ):
        hits, n = int(metrics.correct(net, images).sum()), len(images)
        rows.append(Row.of(key, title, n, (hits / n, *metrics.share_interval(hits, n)), "Wilson"))
    return rows


def nearest_rows(
    pixels: Tensor, train: Images, held_out: Images, seed: int = 0, progress: bool = False
) -> list[Row]:
    """Whether samples (N, C, H, W) uint8 are copies: their distances to the nearest training image, and real ones'.

    Of a model that has learned the law and not the images, samples are as near as real images are that it has not seen:
    half of comparisons come out smaller, and one in a hundred samples is nearer than the nearest hundredth of held-out
    images. Held-out images may be another kind (mnist5k's are the last of each class, not a random part, and a little
    farther), so some training images are also held against the others. Blurred samples are nearer without being copies.
    """

    def least(some: Tensor, others: Tensor) -> Tensor:
        return metrics.nearest(some.to(pixels.device), others, progress=progress)[0].cpu()

    order = torch.randperm(len(train), generator=_generator(seed))
    apart = min(len(held_out), len(train) // 2)
    found, usual = least(pixels, train.pixels), least(held_out.pixels, train.pixels)
    alike = least(train.pixels[order[:apart]], train.pixels[order[apart:]])
    n, limit = len(found), usual.quantile(0.01)
    copies, by_order = int((found < limit).sum()), "median, by order"
    median, share = metrics.median_interval, (copies / n, *metrics.share_interval(copies, n))
    return [
        Row.of("nearest", "distance to the nearest training image", n, median(found), by_order),
        Row.of("nearest_held_out", "  held-out images instead", len(usual), median(usual), by_order),
        Row.of("nearest_train", "  training images to the others", apart, median(alike), by_order),
        Row.of(
            "nearer",
            "  share nearer than a held-out one",
            n,
            metrics.smaller_interval(found, usual),
            "DeLong",
        ),
        Row.of("copies", f"  share nearer than {limit:.2f} (held out: 1 %)", n, share, "Wilson"),
    ]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _draw_order(n: int, labels: Tensor | None, generator: torch.Generator) -> Tensor:
    """A random order of n images; with labels (n,), one in which all classes take turns."""
    order = torch.randperm(n, generator=generator)
    if labels is None:
        return order
    turn = torch.empty(n, dtype=torch.int64)
    for label in labels.unique():
        where = labels[order] == label
        turn[where] = torch.arange(int(where.sum()))
    return order[turn.argsort(stable=True)]


def _check_counts(n: int, real: int, dims: int, bound_images: int) -> None:
    least = max(dims + 1, metrics.GROUPS + 1)
    if n < least:
        raise ValueError(f"n: expected at least {least} samples for {dims} features, got {n}")
    if real < least:
        raise ValueError(f"images: expected at least {least} real ones for {dims} features, got {real}")
    if bound_images < 0 or bound_images == 1:
        raise ValueError(f"bound_images: expected 0 or at least 2 images, got {bound_images}")


__all__ = [
    "accuracy_rows",
    "bound_rows",
    "choice_variance",
    "distance_rows",
    "draw_samples",
    "draw_steps",
    "encode",
    "evaluate",
    "evaluate_classifier",
    "find_extractor",
    "nearest_rows",
    "told_classes",
]
