"""Views of photographs: their size, the loss by hand, learning."""

import math

import pytest
import torch

from jepa_utils.data.batches import ImageDataModule
from jepa_utils.data.images import augmented_view
from jepa_utils.models.resnet import ResNet
from jepa_utils.training.fit import fit
from jepa_utils.training.views import PhotoViewJEPA


def small(**options):
    torch.manual_seed(0)
    sizes = dict(projection=8, num_slices=8)
    return PhotoViewJEPA(ResNet(16, (8, 16)), **sizes | options)


@pytest.mark.parametrize("side", [16, 32, 48])
def test_views_have_the_size_of_the_encoder_whatever_that_of_the_images(side):
    module = small(sigreg_weight=0.1)
    images, shown = torch.randint(256, (6, 3, side, side), dtype=torch.uint8), []
    module.encoder.register_forward_pre_hook(lambda _, inputs: shown.append(inputs))
    torch.manual_seed(1)
    losses = module.training_step((images, torch.zeros(6)), 0)
    ((views,),) = shown
    assert views.shape == (12, 3, 16, 16)
    if side == 16:  # then they are the views of all images
        torch.manual_seed(1)
        wanted = torch.cat([augmented_view(images) for _ in range(2)])
        torch.testing.assert_close(views, wanted)
    clouds = module.projector(module.encoder(views).mean(dim=1)).unflatten(0, (2, 6))
    prediction = (clouds - clouds.mean(dim=0)).square().mean()
    torch.testing.assert_close(losses["prediction"], prediction.detach())
    mixed = 0.9 * losses["prediction"] + 0.1 * losses["regularizer"]
    torch.testing.assert_close(losses["loss"].detach(), mixed)
    losses["loss"].backward()
    assert all(p.grad.abs().sum() > 0 for p in module.encoder.parameters())


def test_a_residual_network_learns_from_larger_pictures():
    images = torch.randint(256, (96, 3, 24, 24), dtype=torch.uint8) // 2
    images[:, torch.arange(3)] += (torch.arange(96) * 37 % 128)[:, None, None, None].byte()
    module = small(num_slices=16, learning_rate=1e-2)
    data = ImageDataModule(images, torch.zeros(96, dtype=torch.int64), batch_size=48)
    losses = fit(module, data, epochs=6, seed=0, progress=False).losses["loss"]
    assert losses[-1] < 0.8 * losses[0] and all(map(math.isfinite, losses))


@pytest.mark.parametrize(
    "name, value", [("views", 1), ("sigreg_weight", 2), ("projection", 0), ("num_slices", 0)]
)
def test_numbers_out_of_range(name, value):
    with pytest.raises(ValueError, match=name):
        small(**{name: value})
