"""The image tower against a reference that computes with the state dictionary alone."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

from alt_ros.encoders.clip import (
    CLIP_MEAN,
    CLIP_STD,
    ClipImageTower,
    ClipTrunk,
    QuickGelu,
    read_clip_weights,
)
from alt_ros.encoders.vision_transformer import BASE, TransformerSize
from alt_ros.preprocessing import IMAGENET_MEAN, IMAGENET_STD

SMALL = TransformerSize(width=16, layers=2, heads=2, projected=8)


@pytest.fixture
def tower():
    torch.manual_seed(0)
    tower = ClipImageTower(8, (2, 3), SMALL).eval()
    for parameter in tower.parameters():  # no norm or bias stays at its first value
        nn.init.normal_(parameter, std=0.3)
    return tower


def reference(state, images, layers, heads):
    """CLIP's image tower, written out for one image at a time."""
    outputs = []
    for image in images:
        kernel = state["conv1.weight"]
        patch = kernel.shape[-1]
        tokens = [state["class_embedding"]]
        for top in range(0, image.shape[1], patch):
            for left in range(0, image.shape[2], patch):
                cut = image[:, top : top + patch, left : left + patch]
                tokens.append((kernel * cut).sum(dim=(1, 2, 3)))
        x = torch.stack(tokens) + state["positional_embedding"]

        def norm(values, name):
            return functional.layer_norm(
                values, values.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5
            )

        def linear(values, name):
            return values @ state[f"{name}.weight"].T + state[f"{name}.bias"]

        x = norm(x, "ln_pre")
        for block in (f"transformer.resblocks.{i}" for i in range(layers)):
            seen = norm(x, f"{block}.ln_1")
            joint = seen @ state[f"{block}.attn.in_proj_weight"].T
            query, key, value = (joint + state[f"{block}.attn.in_proj_bias"]).chunk(3, dim=-1)
            parts = []
            for q, k, v in zip(
                *(t.chunk(heads, dim=-1) for t in (query, key, value)), strict=True
            ):
                parts.append((q @ k.T / q.shape[-1] ** 0.5).softmax(dim=-1) @ v)
            x = x + linear(torch.cat(parts, dim=-1), f"{block}.attn.out_proj")
            hidden = linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
            x = x + linear(hidden * torch.sigmoid(1.702 * hidden), f"{block}.mlp.c_proj")
        outputs.append(norm(x[0], "ln_post") @ state["proj"])
    return torch.stack(outputs)


def test_the_tower_computes_what_the_paper_describes(tower):
    images = torch.randn(3, 3, 16, 24)
    with torch.no_grad():
        expected = reference(tower.state_dict(), images, SMALL.layers, SMALL.heads)
        torch.testing.assert_close(tower(images), expected, rtol=1e-4, atol=1e-5)


def test_the_published_size_has_the_names_and_shapes_of_openais_vit_b_32():
    with torch.device("meta"):
        tower = ClipImageTower(32, (7, 7), BASE)
    own = {name: tuple(value.shape) for name, value in tower.state_dict().items()}
    width, expected = (
        768,
        {
            "conv1.weight": (768, 3, 32, 32),
            "class_embedding": (768,),
            "positional_embedding": (50, 768),
            "proj": (768, 512),
        },
    )
    for norm in ("ln_pre", "ln_post"):
        expected |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for block in (f"transformer.resblocks.{i}" for i in range(12)):
        expected |= {
            f"{block}.attn.in_proj_weight": (3 * width, width),
            f"{block}.attn.in_proj_bias": (3 * width,),
            f"{block}.attn.out_proj.weight": (width, width),
            f"{block}.attn.out_proj.bias": (width,),
            f"{block}.mlp.c_fc.weight": (4 * width, width),
            f"{block}.mlp.c_fc.bias": (4 * width,),
            f"{block}.mlp.c_proj.weight": (width, 4 * width),
            f"{block}.mlp.c_proj.bias": (width,),
        }
        for norm in ("ln_1", "ln_2"):
            expected |= {f"{block}.{norm}.weight": (width,), f"{block}.{norm}.bias": (width,)}
    assert own == expected
    assert sum(p.numel() for p in tower.parameters()) == 87_849_216


def test_quick_gelu_is_near_gelu():
    values = torch.linspace(-4.0, 4.0, 81)
    assert (QuickGelu()(values) - functional.gelu(values)).abs().max() < 0.025


def test_the_trunk_shows_the_tower_images_as_clip_normalises_them():
    trunk = ClipTrunk(8, (2, 2), SMALL, 4).eval()
    shown = []
    trunk.visual.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    rgb = torch.rand(2, 3, 16, 16)

    def normalised(mean, std):
        return (rgb - torch.from_numpy(mean).view(3, 1, 1)) / torch.from_numpy(std).view(3, 1, 1)

    with torch.no_grad():
        assert trunk(normalised(IMAGENET_MEAN, IMAGENET_STD)).shape == (2, 4)
    torch.testing.assert_close(shown[0], normalised(CLIP_MEAN, CLIP_STD), rtol=1e-4, atol=1e-5)


class _Clip(nn.Module):
    """What of CLIP a file holds: the image tower among other things."""

    def __init__(self, visual):
        super().__init__()
        self.visual = visual
        self.logit_scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return self.logit_scale * self.visual(images)


@pytest.mark.parametrize("form", ["tower", "whole", "torchscript"])
def test_weights_are_read_in_every_form_they_are_published_in(tower, tmp_path, form):
    path = tmp_path / "clip.pt"
    whole = _Clip(tower)
    if form == "torchscript":
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.save(torch.jit.trace(whole, torch.zeros(1, 3, 16, 24)), path)
    else:
        torch.save((tower if form == "tower" else whole).state_dict(), path)
    read = read_clip_weights(path)
    expected = tower.state_dict()
    assert set(read) == set(expected)
    assert all(torch.equal(read[name], value) for name, value in expected.items())


def test_weights_in_half_precision_and_of_another_input_size_start_the_trunk(tower):
    square = ClipImageTower(8, (4, 4), SMALL).half()
    trunk = ClipTrunk(8, (2, 3), SMALL, 4)
    trunk.start_from(square.state_dict())
    conv = trunk.visual.conv1.weight
    assert conv.dtype == torch.float32
    assert torch.equal(conv.detach(), square.conv1.weight.detach().float())
    assert trunk.visual.positional_embedding.shape == (7, 16)
    with torch.no_grad():
        assert trunk(torch.zeros(1, 3, 16, 24)).isfinite().all()
