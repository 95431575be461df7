"""The residual network: which tokens it gives, what it keeps apart, and what all its stages see."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from jepa_utils.models.checkpoints import load_weights, save_weights
from jepa_utils.models.resnet import ResNet


@pytest.fixture
def eye():
    torch.manual_seed(0)
    return ResNet(16, (8, 16))


@pytest.fixture
def images():
    return torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))


# ---- tokens


def test_each_stage_halves_the_image_once(eye, images):
    assert eye.grid == (4, 4) and eye.dimensions == 16 and eye.image_size == 16
    assert eye(images).shape == (5, 16, 16)
    assert ResNet().grid == (2, 2) and ResNet()(torch.randn(1, 3, 32, 32)).shape == (1, 4, 256)
    assert eye(torch.randn(2, 3, 24, 32)).shape == (2, 6 * 8, 16)  # of larger ones more


def test_tokens_are_the_last_map_row_by_row(eye, images):
    tokens, last = eye(images), eye.layers(images)
    for row in range(4):
        for column in range(4):
            torch.testing.assert_close(tokens[:, 4 * row + column], last[:, :, row, column])


def test_a_bright_place_moves_its_own_token_most(eye, images):
    touched = images.clone()
    touched[:, :, 13:15, 1:3] += 5  # the fourth row, the first column
    moved = (eye(touched) - eye(images)).norm(dim=2)
    assert moved.argmax(dim=1).tolist() == [12] * 5


@pytest.mark.parametrize("look", ["forward", "pyramid"])
@pytest.mark.parametrize("mode", [True, False])
def test_an_image_does_not_depend_on_the_rest_of_its_batch(eye, images, look, mode):
    look = getattr(eye.train(mode), look)
    others = torch.cat([images[:1], 100 * torch.randn(3, 3, 16, 16)])
    torch.testing.assert_close(look(images)[0], look(others)[0])


def test_every_weight_learns(eye, images):
    eye(images).square().mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in eye.parameters())


def test_it_comes_back_from_disk(eye, images, tmp_path):
    save_weights(eye, tmp_path / "eye.safetensors", {"eye": eye.sizes})
    again, card = load_weights(ResNet(**eye.sizes), tmp_path / "eye.safetensors")
    assert card["eye"] == {"image_size": 16, "channels": [8, 16]}
    torch.testing.assert_close(again(images), eye(images))


# ---- all stages


def test_the_pyramid_has_all_channels_at_the_last_grid_or_another(eye, images):
    assert eye.pyramid(images).shape == (5, 16, 24)
    assert eye.pyramid(images, 2).shape == (5, 4, 24)
    assert eye.pyramid(images, 1).shape == (5, 1, 24)
    assert not eye.pyramid(images).requires_grad


@pytest.mark.parametrize("grid", [None, 2])
def test_all_stages_weigh_alike_in_each_image(eye, images, grid):
    with torch.no_grad():  # a stage that is far louder, and an image that is
        for parameter in eye.layers[3].parameters():
            parameter.mul_(50)
    images[1] *= 20
    stages = eye.pyramid(images, grid).split((8, 16), dim=2)
    for stage in stages:
        torch.testing.assert_close(stage.square().sum(dim=2).mean(dim=1), torch.ones(5))


def test_a_stage_is_its_map_averaged_to_the_places(eye, images):
    first = eye.layers[:4](images)  # convolution, norm, ReLU, the first stage
    assert first.shape == (5, 8, 8, 8)
    wanted = F.avg_pool2d(first, 4).flatten(2).mT
    found = eye.pyramid(images, 2)[:, :, :8]
    factor = (found / wanted.clamp(min=1e-9)).flatten(1)
    for row, mask in zip(factor, (wanted > 1e-4).flatten(1), strict=True):
        torch.testing.assert_close(row[mask], row[mask][:1].expand(int(mask.sum())))


# ---- arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "image_size must be an integer of at least 1, got 0"),
        ((16, (8, 12)), r"channels must be multiples of 8, one at least, got \[8, 12\]"),
        ((16, ()), r"channels must be multiples of 8, one at least, got \[\]"),
        ((16, (8, 0)), "channels must be an integer of at least 1, got 0"),
        ((18, (8, 16)), "image_size must be divisible by 4 for 2 stages, got 18"),
    ],
)
def test_sizes_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResNet(*arguments)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 1, 16, 16), (1, 3, 16, 18), (1, 3, 0, 16)])
@pytest.mark.parametrize("look", ["forward", "pyramid"])
def test_images_that_do_not_fit(eye, shape, look):
    message = r"images must have shape \(B, 3, H, W\), H and W multiples of 4, got \("
    with pytest.raises(ValueError, match=message):
        getattr(eye, look)(torch.zeros(shape))


def test_a_grid_of_nothing(eye, images):
    with pytest.raises(ValueError, match="grid must be an integer of at least 1, got 0"):
        eye.pyramid(images, 0)


def test_the_network_is_in_the_layout_that_is_fast(eye):
    convolutions = [m for m in eye.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] > 1]
    assert all(m.weight.is_contiguous(memory_format=torch.channels_last) for m in convolutions)
