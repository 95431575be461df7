"""Training on images: losses are the written-out ones, targets move as they say, and an interrupted run ends like another one."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from jepa_utils.data.batches import ImageDataModule
from jepa_utils.data.images import augmented_view, normalize
from jepa_utils.data.masking import PatchMasks, multiblock_masks, random_masks
from jepa_utils.evaluation.collapse import collapse_report
from jepa_utils.evaluation.encode import encode_images
from jepa_utils.experiments.cifar10 import METHODS, RECIPES, VisionRecipe
from jepa_utils.models.predictors import PatchPredictor
from jepa_utils.models.vit import ViT
from jepa_utils.objectives.sigreg import sigreg
from jepa_utils.training.baselines import ClassTraining
from jepa_utils.training.fit import fit
from jepa_utils.training.jepa import MaskedJEPA, ViewJEPA


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """On a busy machine each small operation waits for the second one: minutes instead of seconds."""
    monkeypatch.setattr("jepa_utils.training.fit.THREADS", 1)


@pytest.fixture(scope="module")
def pictures():
    draw = torch.Generator().manual_seed(0)
    colour = torch.randint(256, (96, 3, 1, 1), generator=draw)
    noise = torch.randint(-40, 40, (96, 3, 32, 32), generator=draw)
    return (colour + noise).clamp(0, 255).to(torch.uint8), torch.randint(10, (96,), generator=draw)


def small(seed=0, outputs=None, **options):
    torch.manual_seed(seed)
    encoder = ViT(patch=8, dimensions=16, layers=1, heads=2)
    predictor = PatchPredictor(16, encoder.grid, width=8, layers=1, heads=2, outputs=outputs)
    return MaskedJEPA(encoder, predictor, masks=multiblock_masks, **options)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


MASKS = PatchMasks(
    torch.tensor([[0, 3, 5], [1, 2, 15]]), torch.tensor([[[1, 2], [2, 6]], [[8, 9], [12, 13]]])
)


# ---- losses
# --------------------------------------------------------------------------------------------------------------


def parts(module, x):
    """Predicted and wanted tokens of the hidden places, image by image."""
    predicted, wanted = [], []
    for row in range(2):
        seen, hidden = MASKS.context[row : row + 1], MASKS.targets[row : row + 1].flatten(1)
        predicted.append(module.predictor(module.encoder(x[row : row + 1], seen), seen, hidden)[0])
        wanted.append(module.target_encoder(x[row : row + 1])[0, hidden[0]])
    return torch.stack(predicted), torch.stack(wanted)


def test_ijepa_predicts_standardised_tokens_of_the_whole_image():
    module, x = small(), torch.randn(2, 3, 32, 32)
    predicted, wanted = parts(module, x)
    wanted = (wanted - wanted.mean(-1, keepdim=True)) / (
        wanted.var(-1, unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    gap = (predicted - wanted).abs()
    by_hand = torch.where(gap < 1, gap**2 / 2, gap - 0.5).mean()
    loss = module.losses(x, MASKS)
    torch.testing.assert_close(loss["loss"], by_hand)
    loss["loss"].backward()
    assert all(p.grad is None for p in module.target_encoder.parameters())
    assert all(p.grad is not None for p in module.predictor.parameters())


def test_the_rival_predicts_standardised_pixels_of_the_hidden_patches():
    module, x = small(target="pixels", outputs=3 * 8 * 8), torch.randn(2, 3, 32, 32)
    predicted, wanted = [], []
    for row in range(2):
        seen, hidden = MASKS.context[row : row + 1], MASKS.targets[row].flatten()
        predicted.append(
            module.predictor(module.encoder(x[row : row + 1], seen), seen, hidden[None])[0]
        )
        corners = [(8 * (place // 4), 8 * (place % 4)) for place in hidden.tolist()]
        wanted.append(
            torch.stack(
                [x[row, :, top : top + 8, left : left + 8].flatten() for top, left in corners]
            )
        )
    predicted, wanted = torch.stack(predicted), torch.stack(wanted)
    wanted = (wanted - wanted.mean(-1, keepdim=True)) / (
        wanted.var(-1, unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    gap = (predicted - wanted).abs()
    loss = module.losses(x, MASKS)["loss"]
    torch.testing.assert_close(loss, torch.where(gap < 1, gap**2 / 2, gap - 0.5).mean())
    assert module.trained is module.encoder


@pytest.mark.parametrize(
    "target, outputs, wanted", [("pixels", None, 192), ("ema", 192, 16), ("encoder", 15, 16)]
)
def test_a_predictor_that_is_not_as_wide_as_its_target_is_refused(target, outputs, wanted):
    with pytest.raises(
        ValueError,
        match=f"predictor must give {wanted} outputs for target='{target}', got {outputs or 16}",
    ):
        small(target=target, outputs=outputs)


def test_sigreg_looks_at_each_place_of_the_grid_by_itself():
    module, x = small(target="encoder", sigreg_weight=0.3, num_slices=8), torch.randn(2, 3, 32, 32)
    predicted, wanted = parts(module, x)
    torch.manual_seed(5)
    losses = module.losses(x, MASKS)
    torch.manual_seed(5)
    regularizer = sigreg(module.encoder(x).transpose(0, 1), num_slices=8)
    torch.testing.assert_close(losses["regularizer"], regularizer)
    torch.testing.assert_close(
        losses["loss"], (predicted - wanted).square().mean() + 0.3 * regularizer
    )


def test_tokens_that_are_equal_at_every_image_are_no_round_cloud():
    x = normalize(torch.full((32, 3, 32, 32), 0.5))  # the same image: tokens differ by place alone
    module = small(target="encoder", sigreg_weight=1.0)
    masks = multiblock_masks(32, (4, 4))
    assert module.losses(x, masks)["regularizer"] > 0.2 * 32  # that of points: 0.409 N or more


def test_views_loss_by_hand(pictures):
    torch.manual_seed(0)
    module = ViewJEPA(
        ViT(patch=8, dimensions=16, layers=1, heads=2), views=3, sigreg_weight=0.1, num_slices=8
    )
    torch.manual_seed(1)
    losses = module.training_step(pictures, 0)
    torch.manual_seed(1)
    shown = torch.cat([augmented_view(pictures[0]) for _ in range(3)])
    torch.rand(len(shown), 16)  # the order of the patches, all of which are seen
    clouds = module.projector(module.encoder(shown).mean(dim=1)).chunk(3)
    centre = sum(clouds) / 3
    prediction = sum((z - centre).square().mean() for z in clouds) / 3
    regularizer = sigreg(torch.stack(clouds), num_slices=8)
    torch.testing.assert_close(losses["prediction"], prediction.detach())
    torch.testing.assert_close(losses["regularizer"], regularizer.detach())
    torch.testing.assert_close(losses["loss"], 0.9 * prediction + 0.1 * regularizer)
    losses["loss"].backward()
    assert module.encoder.embed.weight.grad.abs().sum() > 0


def test_labels_are_learned(pictures):
    images, _labels = pictures
    torch.manual_seed(0)
    module = ClassTraining(
        ViT(patch=8, dimensions=16, layers=1, heads=2), classes=10, learning_rate=3e-3
    )
    bright = (images.float().mean(dim=(1, 2, 3)) > 128).long()
    history = fit(
        module, ImageDataModule(images, bright, batch_size=16), epochs=8, seed=0, progress=False
    )
    assert history.losses["loss"][-1] < 0.5 * history.losses["loss"][0]


# ---- targets
# -------------------------------------------------------------------------------------------------------------


def test_moving_average_follows_as_the_schedule_says(pictures):
    module = small(ema_decay=0.5, learning_rate=0.01)
    average, decays = copy.deepcopy(module.encoder), []
    update = module.target_encoder.update

    def follow(network, decay):
        decays.append(decay)
        for a, b in zip(average.parameters(), network.parameters(), strict=True):
            a.data = decay * a.data + (1 - decay) * b.data
        update(network, decay)

    module.target_encoder.update = follow
    fit(module, ImageDataModule(*pictures, batch_size=24), epochs=1, seed=0, progress=False)
    assert decays == pytest.approx([0.625, 0.75, 0.875, 1.0])
    torch.testing.assert_close(weights(module.target_encoder), weights(average))
    assert not torch.equal(weights(module.target_encoder), weights(module.encoder))


def test_frozen_target_never_moves(pictures):
    module = small(target="frozen")
    before = weights(module.target_encoder)
    fit(module, ImageDataModule(*pictures, batch_size=48), epochs=2, seed=0, progress=False)
    assert torch.equal(weights(module.target_encoder), before) and not torch.equal(
        weights(module.encoder), before
    )


def spread_after(pictures, **options):
    module = small(learning_rate=3e-3, **options)
    fit(module, ImageDataModule(*pictures, batch_size=48), epochs=60, seed=0, progress=False)
    with torch.no_grad():  # over images, at each place: places alone are no spread
        return module.encoder(normalize(pictures[0])).std(dim=0).mean().item()


def test_without_anything_it_collapses_and_with_sigreg_it_does_not(pictures):
    nothing, with_sigreg = (
        spread_after(pictures, target="encoder"),
        spread_after(pictures, target="encoder", sigreg_weight=0.05),
    )
    assert nothing < 0.1 < 0.5 < with_sigreg


# ---- batches, schedule, resumption
# ---------------------------------------------------------------------------------------


def test_batches_hold_each_image_once_with_its_label(pictures):
    images, _ = pictures
    data = ImageDataModule(images, torch.arange(len(images)), batch_size=36)
    first, again, second = (list(data.batches(epoch)) for epoch in (0, 0, 1))
    assert [len(rows) for _, rows in first] == [36, 36] and data.steps == 2
    rows = torch.cat([rows for _, rows in first])
    assert len(rows.unique()) == 72 and torch.equal(
        torch.cat([part for part, _ in first]), images[rows]
    )
    assert torch.equal(rows, torch.cat([rows for _, rows in again]))
    assert not torch.equal(rows, torch.cat([rows for _, rows in second]))


def test_learning_rate_rises_and_falls(pictures):
    rates = []
    module = small(learning_rate=0.02, warmup=0.25)
    module.on_train_batch_start = lambda batch, index: rates.append(
        module.optimizers().param_groups[0]["lr"]
    )
    fit(module, ImageDataModule(*pictures, batch_size=12), epochs=2, seed=0, progress=False)
    assert (
        len(rates) == 16
        and rates[0] == pytest.approx(0.02 / 5)
        and max(rates) == pytest.approx(0.02)
    )
    assert rates[4:] == sorted(rates[4:], reverse=True) and rates[-1] < 0.001


@pytest.mark.parametrize("options", [{}, dict(target="encoder", sigreg_weight=0.1)])
def test_interrupted_training_ends_with_the_same_weights(pictures, tmp_path, options):
    class Stop(Exception):
        pass

    def run(stop_after=None):
        module, seen = small(**options), []

        def monitor():
            seen.append(0)
            if len(seen) == stop_after:
                raise Stop
            return {}

        file = tmp_path / f"{stop_after is not None}.ckpt"
        batches = ImageDataModule(*pictures, batch_size=24)
        fit(module, batches, epochs=4, seed=0, monitor=monitor, checkpoint=file, progress=False)
        return weights(module)

    whole = run()
    (tmp_path / "False.ckpt").rename(tmp_path / "unused")
    with pytest.raises(Stop):
        run(stop_after=4)  # before training and after each epoch: in the third
    resumed = small(**options)
    file = tmp_path / "True.ckpt"
    fit(
        resumed,
        ImageDataModule(*pictures, batch_size=24),
        epochs=4,
        seed=0,
        checkpoint=file,
        progress=False,
    )
    assert torch.equal(weights(resumed), whole)


def test_embeddings_of_many_images(pictures):
    images, _ = pictures
    encoder = ViT(patch=8, dimensions=16, layers=1, heads=2)
    with torch.no_grad():
        whole = encoder(normalize(images)).mean(dim=1)
    torch.testing.assert_close(encode_images(encoder, images, batch_size=7), whole)
    torch.testing.assert_close(
        encode_images(lambda x: x.flatten(1), images[:5]), normalize(images[:5]).flatten(1)
    )
    assert encoder.training


# ---- recipes and errors
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(pictures, method):
    module = VisionRecipe.tiny().training(method)
    history = fit(
        module, ImageDataModule(*pictures, batch_size=32), epochs=1, seed=0, progress=False
    )
    assert math.isfinite(history.losses["loss"][0])
    assert collapse_report(encode_images(module.encoder, pictures[0])).std > 0


def test_recipes_are_what_they_say():
    ema, nothing, with_sigreg = (
        VisionRecipe.tiny().training(m) for m in ("I-JEPA", "nothing", "SIGReg")
    )
    assert (ema.target, nothing.target, with_sigreg.target) == ("ema", "encoder", "encoder")
    assert nothing.sigreg_weight == 0 < with_sigreg.sigreg_weight
    quarter = VisionRecipe.tiny().training("random masks").masks(3, (8, 8))
    assert quarter.targets.shape == (3, 1, 16) and quarter.context.shape == (3, 48)
    size = 4 * sum(p.numel() for p in VisionRecipe.full().encoder().parameters())
    assert size < 12e6
    with pytest.raises(ValueError, match=r"method must be one of I-JEPA, .* got 'magic'"):
        VisionRecipe().training("magic")


def test_the_sources_printed_settings_and_those_of_its_exercise_for_students():
    printed, student = (VisionRecipe().training(method) for method in ("printed", "student"))
    assert printed.encoder.grid == (2, 2) and student.encoder.grid == (4, 4)
    assert [
        tuple(module.masks(3, module.encoder.grid).targets.shape) for module in (printed, student)
    ] == [(3, 1, 1), (3, 1, 4)]
    assert {(m.learning_rate, m.weight_decay, m.ema_decay) for m in (printed, student)} == {
        (2e-4, 0.01, 0.999)
    }
    sizes = [
        VisionRecipe().changed_for(method).batch_size for method in ("printed", "student", "I-JEPA")
    ]
    assert sizes == [128, 64, 32]


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(target="both"), "target must be"),
        (dict(sigreg_weight=0.1), "sigreg_weight must be 0, or positive with target='encoder'"),
        (dict(sigreg_weight=-0.1, target="encoder"), "sigreg_weight"),
        (dict(learning_rate=0), "learning_rate must be positive"),
        (dict(weight_decay=-1), "weight_decay"),
        (dict(warmup=1), "warmup must be a share"),
        (dict(ema_decay=2), "decay must be between"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_other_arguments_out_of_range(pictures):
    encoder, (images, labels) = ViT(patch=8, dimensions=16, layers=1, heads=2), pictures
    for make, message in (
        (lambda: ViewJEPA(encoder, views=1), "views must be at least 2"),
        (lambda: ViewJEPA(encoder, sigreg_weight=2), "sigreg_weight must lie"),
        (lambda: ViewJEPA(encoder, keep=0.01), "keep must be a share of the 16 patches"),
        (lambda: ViewJEPA(encoder, keep=1.1), "keep must be a share of the 16 patches"),
        (lambda: ClassTraining(encoder, classes=1), "classes must be at least 2"),
        (lambda: ImageDataModule(images, labels[1:], batch_size=2), "labels must be as many"),
        (lambda: ImageDataModule(images, labels, batch_size=97), "batch_size must be between"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_masks_of_the_other_kind_fit_as_well():
    module, x = small(target="encoder"), torch.randn(6, 3, 32, 32)
    masks = random_masks(6, (4, 4))
    seen, hidden = masks.context, masks.targets[:, 0]
    wanted = torch.stack([module.encoder(x)[row, hidden[row]] for row in range(6)])
    predicted = module.predictor(module.encoder(x, seen), seen, hidden)
    loss = module.losses(x, masks)["loss"]
    torch.testing.assert_close(loss, (predicted - wanted).square().mean())


def test_every_named_recipe_is_one_and_the_longer_ones_differ_by_their_length_alone():
    assert all(isinstance(getattr(VisionRecipe, name)(), VisionRecipe) for name in RECIPES)
    one, *longer = (getattr(VisionRecipe, name)() for name in RECIPES[1:4])
    for recipe in longer:
        assert replace(recipe, epochs=one.epochs, num_seeds=one.num_seeds) == one
    # The last as many as the source's.
    assert one.epochs < longer[0].epochs < longer[1].epochs == 20
