"""``alt train POLICY``: from a store of demonstrations to a trained policy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from alt_ros.progress import progress_bar
from alt_ros.report import write_json
from alt_ros.terminal import Positional, console, say

train = tyro.extras.SubcommandApp()


@dataclass(frozen=True)
class TrainOptions:
    """What every trained policy has.

    Attributes:
        size: small trains on two cores, paper is as published, large the larger published.
        steps: Optimiser steps; by size unless given: 4,000 for small, else 40,000.
        batch_size: Windows of a batch.
        learning_rate: AdamW's largest; by size unless given.
        image_size: Height and width of the network's input; by size unless given.
        observation_horizon: To, observations looked at; by policy unless given.
        prediction_horizon: Tp, actions predicted; by policy unless given.
        state_columns: Columns of the state looked at; none for a policy of images and poses.
        validation: Demonstrations, by number, held out of training.
        precision: fp32, or bf16 where the processor is quicker with it.
        device: auto, cpu or cuda.
        seed: Of weights, batches and noise.
    """

    size: Literal["small", "paper", "large"] = "small"
    steps: int | None = None
    batch_size: int = 64
    learning_rate: float | None = None
    image_size: tuple[int, int] | None = None
    observation_horizon: int | None = None
    prediction_horizon: int | None = None
    state_columns: tuple[int, ...] = ()
    validation: tuple[int, ...] = ()
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "auto"
    seed: int = 0


Options = Annotated[TrainOptions, tyro.conf.arg(name="")]


def _train(policy: str, store: Path, output: Path, options: TrainOptions, **settings: Any) -> None:
    from alt_ros.demonstrations.store import DemonstrationStore
    from alt_ros.training.policy import PolicyTrainingConfig, train_policy
    from alt_ros.training.policy_defaults import LEARNING_RATES, STEPS, policy_spec

    opened = DemonstrationStore.open(store)
    spec = policy_spec(
        policy,
        opened,
        size=options.size,
        image_size=options.image_size,
        observation_horizon=options.observation_horizon,
        prediction_horizon=options.prediction_horizon,
        state_columns=options.state_columns,
        settings=settings,
    )
    steps = STEPS[options.size] if options.steps is None else options.steps
    rate = options.learning_rate
    config = PolicyTrainingConfig(
        steps=steps,
        batch_size=options.batch_size,
        learning_rate=LEARNING_RATES[options.size] if rate is None else rate,
        warm_up=min(500, steps // 10),
        validation=options.validation,
        precision=options.precision,
        seed=options.seed,
    )
    with progress_bar(console, f"training {policy}") as progress:
        result = train_policy(
            opened, spec, config, output, progress=progress, device=options.device
        )
    assert result is not None
    values = result.to_json()
    held_out = values["validation"]
    loss = values["loss_last"]
    say(
        f"written: {result.folder}; {result.checkpoint.parameters:,} values"
        + ("" if loss is None else f"; loss {values['loss_first']:.4f} to {loss:.4f}")
        + f" in {result.seconds:.0f} s"
        + ("" if held_out is None else f"; on held-out {held_out:.4f}")
        + "; 'alt deploy' puts it into a bundle"
    )


@train.command(name="alt")
def train_alt(
    store: Positional[Path],
    output: Positional[Path],
    steps: int = 7200,
    batch_size: int = 32,
    learning_rate: float = 1e-4,
    schedule: Literal["constant", "one_cycle"] = "constant",
    temperature: float = 0.4,
    image_size: tuple[int, int] = (240, 320),
    embedding_size: int = 128,
    shared_trunk: bool = True,
    backbone: Literal[
        "resnet18", "vit_b_16", "vit_tiny", "clip_vit_b_32", "clip_tiny"
    ] = "resnet18",
    use_pose: bool = False,
    augmentation: Literal["paper", "strong"] = "paper",
    phases: int = 2,
    contrastive_weight: float = 1.0,
    task_weight: float = 0.0,
    positive_reach: int = 0,
    validation: tuple[int, ...] = (),
    weights: Path | None = None,
    device: str = "auto",
    seed: int = 0,
) -> None:
    """Train the contrastive encoder; a run that was broken off is taken up.

    Args:
        store: Training store, from ``alt data import``.
        output: Folder for checkpoint, TensorBoard scalars and encoder.pt.
        steps: Optimiser steps.
        batch_size: Frames of a batch.
        learning_rate: Adam's.
        schedule: constant as in the paper, or one_cycle for short runs.
        temperature: Of NT-Xent.
        image_size: Height and width of the network's input.
        embedding_size: 64, 128, 256 ...
        shared_trunk: One trunk for all views, as in the paper, or one each.
        backbone: Architecture of the trunk; the paper's is resnet18. Those of 86 million
            parameters are to be started from published weights.
        use_pose: Add the pose branch.
        augmentation: paper, or strong: light, focus and things beside the task matter less.
        phases: Common phases of the demonstrations in a batch; 0 draws frames uniformly.
        contrastive_weight: Of NT-Xent in the loss.
        task_weight: Of the task head's error in the loss; needed for --retrieval correct.
        positive_reach: Frames in time that the second copy may be away from the first.
        validation: Demonstrations, by number, held out of training.
        weights: Weights to start from, a local file that fits the backbone.
        device: auto, cpu or cuda.
        seed: Of weights, batches and augmentation.
    """
    from alt_ros.demonstrations.store import DemonstrationStore
    from alt_ros.encoders.augmentation import AUGMENTATIONS
    from alt_ros.encoders.spec import EncoderSpec
    from alt_ros.training.configuration import TrainingConfig
    from alt_ros.training.contrastive import train_encoder

    opened = DemonstrationStore.open(store)
    spec = EncoderSpec(
        views=tuple(opened.views),
        height=image_size[0],
        width=image_size[1],
        embedding_size=embedding_size,
        shared_trunk=shared_trunk,
        backbone=backbone,
        use_pose=use_pose,
        arms=opened.layout.arms,
    )
    config = TrainingConfig(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule=schedule,
        temperature=temperature,
        augmentation=AUGMENTATIONS[augmentation],
        phases=phases,
        contrastive_weight=contrastive_weight,
        task_weight=task_weight,
        positive_reach=positive_reach,
        validation=validation,
        seed=seed,
    )
    with progress_bar(console, "training the encoder") as progress:
        result = train_encoder(
            opened, spec, config, output, progress=progress, weights=weights, device=device
        )
    assert result is not None
    values = result.to_json()
    write_json(output / "training.json", values)
    held_out = values["validation"]
    say(
        f"written: {output}/encoder.pt; loss {result.loss_first:.3f} to {result.loss_last:.3f} "
        f"in {result.seconds:.0f} s"
        + ("" if held_out is None else f"; retrieval on held-out {held_out:.3f}")
    )


@train.command(name="diffusion")
def train_diffusion(
    store: Positional[Path],
    output: Positional[Path],
    options: Options = TrainOptions(),
    architecture: Literal["cnn", "transformer"] = "cnn",
    crop: float = 0.92,
    draws: int | None = None,
) -> None:
    """Train a Diffusion Policy.

    Args:
        store: Training store, from ``alt data import``.
        output: Folder for checkpoint, TensorBoard scalars and the policy.
        options: Of every policy.
        architecture: cnn, a temporal U-Net; or transformer.
        crop: Share of the images' height and width looked at; drawn at random in training.
        draws: Of the noise for each window; 4 for small, where encoding images is most of the
            work, else 1 as published.
    """
    own = {} if draws is None else {"draws": draws}
    _train("diffusion", store, output, options, architecture=architecture, crop=crop, **own)


@train.command(name="act")
def train_act(
    store: Positional[Path],
    output: Positional[Path],
    options: Options = TrainOptions(),
    crop: float = 0.92,
) -> None:
    """Train ACT, action chunking with transformers.

    Args:
        store: Training store, from ``alt data import``.
        output: Folder for checkpoint, TensorBoard scalars and the policy.
        options: Of every policy.
        crop: Share of the images' height and width looked at; drawn at random in training.
    """
    _train("act", store, output, options, crop=crop)


@train.command(name="bc")
def train_bc(
    store: Positional[Path],
    output: Positional[Path],
    options: Options = TrainOptions(),
    crop: float = 0.92,
) -> None:
    """Train behaviour cloning: a network that regresses the actions.

    Args:
        store: Training store, from ``alt data import``.
        output: Folder for checkpoint, TensorBoard scalars and the policy.
        options: Of every policy.
        crop: Share of the images' height and width looked at; drawn at random in training.
    """
    _train("bc", store, output, options, crop=crop)


@train.command(name="vinn")
def train_vinn(
    store: Positional[Path],
    output: Positional[Path],
    options: Options = TrainOptions(),
    neighbours: int = 16,
) -> None:
    """Train VINN: a self-supervised representation, then the mean of the nearest frames' actions.

    Args:
        store: Training store, from ``alt data import``.
        output: Folder for checkpoint, TensorBoard scalars and the policy.
        options: Of every policy.
        neighbours: k, frames that are averaged.
    """
    _train("vinn", store, output, options, neighbours=neighbours)


@train.command(name="kdtree")
def train_kdtree(
    store: Positional[Path],
    output: Positional[Path],
    components: int = 32,
    prediction_horizon: int | None = None,
    state_columns: tuple[int, ...] = (),
) -> None:
    """Fit a k-d tree on principal components of the images, and the pose; nothing is trained.

    Args:
        store: Training store, from ``alt data import``.
        output: Folder for the policy.
        components: Principal components.
        prediction_horizon: Tp, actions of a chunk; 30 unless given.
        state_columns: Columns of the state looked at; none for a policy of images and poses.
    """
    options = TrainOptions(prediction_horizon=prediction_horizon, state_columns=state_columns)
    _train("kdtree", store, output, options, components=components)
