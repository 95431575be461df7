"""A frozen backbone on a tiny network of random weights. No outside access."""

import json
import time

import pytest
import torch
from fakehub import FakeHub, cut_off, fill_mirror, on_its_own
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import ViTConfig, ViTModel, VJEPA2Config, VJEPA2Model

from jepa_utils import VJEPA2, cached_tokens, load_vjepa2
from jepa_utils.data.load import DataUnavailableError, DataWarning
from jepa_utils.data.registry import REVISIONS
from jepa_utils.evaluation.vjepa2 import WEIGHTS

NAME = WEIGHTS.name
SIZE, PATCH, D = 32, 4, 48  # a grid of 8 x 8
TINY = dict(
    crop_size=SIZE, patch_size=PATCH, frames_per_clip=4, hidden_size=D, num_attention_heads=2, num_hidden_layers=2, mlp_ratio=2.0,
    pred_hidden_size=12, pred_num_attention_heads=2, pred_num_hidden_layers=1,
)  # fmt: skip


def network(seed=0, **change):
    torch.manual_seed(seed)
    return VJEPA2Model(VJEPA2Config(**TINY | change)).eval()


def pictures(number=3, height=SIZE, width=SIZE, seed=0):
    return torch.randint(
        256,
        (number, 3, height, width),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(seed),
    )


@pytest.fixture
def model():
    return network()


@pytest.fixture
def backbone(model):
    return VJEPA2(model)


# ---- the network
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [2, 3])
def test_tokens_are_those_of_the_network_itself(frames):
    model, images = network(tubelet_size=frames, frames_per_clip=2 * frames), pictures()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    clip = (images.permute(0, 2, 3, 1) / 255 - mean) / std
    clip = torch.stack([clip.permute(0, 3, 1, 2)] * frames, dim=1)
    with torch.no_grad():
        wanted = model(pixel_values_videos=clip, skip_predictor=True).last_hidden_state
    backbone = VJEPA2(model, pool=1)
    tokens = backbone(images)
    assert tokens.shape == (3, 64, D) and tokens.dtype == torch.float32
    assert backbone.grid == (8, 8) and backbone.dimensions == D
    torch.testing.assert_close(tokens, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", [2, 4, 8])
def test_neighbouring_tokens_are_averaged(model, pool):
    images, side = pictures(), 8 // pool
    single = VJEPA2(model, pool=1)(images).view(3, 8, 8, D)
    pooled = VJEPA2(model, pool=pool)
    assert pooled.grid == (side, side)
    tokens = pooled(images).view(3, side, side, D)
    for row in range(side):
        for column in range(side):
            block = single[:, pool * row : pool * (row + 1), pool * column : pool * (column + 1)]
            torch.testing.assert_close(tokens[:, row, column], block.mean(dim=(1, 2)))


@pytest.mark.parametrize("row, column", [(0, 0), (0, 3), (3, 0), (3, 3), (1, 2)])
def test_what_changes_at_a_place_changes_its_token_most(backbone, row, column):
    images = torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8)
    bright = images.clone()
    bright[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 255
    change = (backbone(bright) - backbone(images)).norm(dim=2)[0]
    assert change.argmax() == 4 * row + column
    assert change.sort().values[-1] > 1.5 * change.sort().values[-2]


def test_colours_are_standardised(backbone):
    white, black = (torch.full((1, 3, 20, 20), value, dtype=torch.uint8) for value in (255, 0))
    for image, of_mean in (
        (white, (2.2489, 2.4286, 2.6400)),
        (black, (-2.1179, -2.0357, -1.8044)),
    ):  # (1 - m) / s and -m / s
        clip = backbone.clip(image)
        assert clip.shape == (1, 2, 3, SIZE, SIZE)
        torch.testing.assert_close(
            clip, torch.tensor(of_mean).view(3, 1, 1).expand_as(clip), rtol=0, atol=1e-3
        )
    assert (backbone(white) - backbone(black)).abs().max() > 0.1


@pytest.mark.parametrize("size", [8, 20, 75, 256])
def test_images_are_resized_as_pillow_does(backbone, size):
    """Bilinear, with neighbours averaged where the image shrinks: the same rule in another library."""
    image = (
        F.interpolate(pictures(1, 5, 5).float(), (size, size), mode="bicubic")
        .clamp(0, 255)
        .to(torch.uint8)
    )
    wanted = Image.fromarray(image[0].permute(1, 2, 0).numpy()).resize(
        (SIZE, SIZE), Image.Resampling.BILINEAR
    )
    wanted = (
        torch.frombuffer(bytearray(wanted.tobytes()), dtype=torch.uint8)
        .view(SIZE, SIZE, 3)
        .permute(2, 0, 1)
        .float()
    )
    clip = backbone.clip(image)[0]
    assert torch.equal(clip[0], clip[1])
    assert (
        clip[0] * backbone.std + backbone.mean - wanted
    ).abs().max() <= 1  # Pillow rounds, twice


@pytest.mark.parametrize(
    "height, width, middle",
    [(40, 60, (..., slice(None), slice(10, 50))), (61, 40, (..., slice(10, 50), slice(None)))],
)
def test_of_an_oblong_image_the_middle_is_seen(backbone, height, width, middle):
    images = pictures(2, height, width)
    torch.testing.assert_close(backbone(images), backbone(images[middle]))
    outside = torch.zeros_like(images)
    outside[middle] = images[middle]
    torch.testing.assert_close(backbone(outside), backbone(images))


def test_nothing_learns_and_nothing_drops_out():
    backbone = VJEPA2(network(attention_probs_dropout_prob=0.5).train())
    images = pictures()
    assert list(backbone.parameters()) and not any(
        parameter.requires_grad for parameter in backbone.parameters()
    )
    before = backbone(images)
    around = nn.Sequential(backbone).train()  # as a training loop does
    assert around.training and not any(module.training for module in backbone.modules())
    assert torch.equal(backbone(images), before)
    backbone.requires_grad_(True)
    assert not backbone(images).requires_grad


def test_the_predictor_is_not_kept(model, backbone):
    assert set(backbone.state_dict()) == {
        key for key in model.state_dict() if key.startswith("encoder.")
    }


@pytest.mark.parametrize(
    "images",
    [pictures().float(), pictures()[0], pictures()[:, :1], pictures(1, 7, 30), pictures(1, 30, 7)],
)
def test_images_of_another_kind_are_refused(backbone, images):
    with pytest.raises(
        ValueError,
        match=rf"images must be uint8 .* got {images.dtype} of shape \({images.shape[0]}, ",
    ):
        backbone(images)


@pytest.mark.parametrize("pool", [0, 3, 16, -2, True, 2.0])
def test_pool_must_divide_the_grid(model, pool):
    with pytest.raises(ValueError, match=f"pool must .*got {pool}"):
        VJEPA2(model, pool=pool)


def test_another_network_is_refused():
    with pytest.raises(ValueError, match="model must be a transformers.VJEPA2Model, got a Linear"):
        VJEPA2(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="3 colour channels, got one that takes 1"):
        VJEPA2(network(in_chans=1))


# ---- loading
# -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """What the repository holds, of the tiny network."""
    folder = tmp_path_factory.mktemp("saved")
    network().save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    on_its_own(monkeypatch, tmp_path)


@pytest.fixture
def mirror(files, tmp_path, monkeypatch):
    """A folder of a mirror with the network's files."""
    monkeypatch.setenv("JEPA_DATA_MIRROR", str(tmp_path / "mirror"))
    fill_mirror(tmp_path / "mirror", {f"{NAME}/{name}": content for name, content in files.items()})
    return tmp_path / "mirror" / NAME


@pytest.fixture
def hub(files, monkeypatch):
    fake = FakeHub(revision=REVISIONS[NAME], small={f"{NAME}/config.json"})
    fake.files = {f"{NAME}/{name}": content for name, content in files.items()}
    fake.files[f"{NAME}/original/model.pth"] = b"not wanted"
    with fake.running(monkeypatch):
        yield fake


def test_the_mirror_gives_the_same_network(model, mirror, hub, capfd):
    backbone = load_vjepa2(pool=1)
    assert capfd.readouterr() == ("", "")  # it would stay on the page
    saved = model.state_dict()
    assert all(torch.equal(tensor, saved[key]) for key, tensor in backbone.state_dict().items())
    assert torch.equal(backbone(pictures()), VJEPA2(model, pool=1)(pictures()))
    assert backbone.grid == (8, 8) and not hub.downloads
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_half_precision_on_disk_is_float32_here(model, mirror):
    model.half().save_pretrained(mirror)
    (mirror.parents[1] / "SHA256SUMS").unlink()
    backbone = load_vjepa2()
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}
    assert backbone(pictures()).dtype == torch.float32


def test_the_hub_is_asked_once_for_what_is_needed(hub, model, monkeypatch, capfd):
    first = load_vjepa2()
    assert capfd.readouterr() == ("", "")
    assert sorted(hub.downloads) == [f"{NAME}/config.json", f"{NAME}/model.safetensors"]
    cut_off(monkeypatch)
    again = load_vjepa2(pool=4)
    assert len(hub.downloads) == 2 and again.grid == (2, 2)
    assert torch.equal(first(pictures()), VJEPA2(model)(pictures()))


def test_a_download_that_broke_off_is_completed(hub, tmp_path):
    load_vjepa2()
    (weights,) = (tmp_path / "cache").rglob("model.safetensors")
    weights.resolve().unlink()
    weights.unlink()
    assert load_vjepa2().grid == (4, 4)
    assert hub.downloads.count(f"{NAME}/model.safetensors") == 2
    assert hub.downloads.count(f"{NAME}/config.json") == 1


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_cached_file_is_downloaded_again(hub, tmp_path, name):
    before = load_vjepa2()(pictures())
    (file,) = (tmp_path / "cache").rglob(name)
    content = file.read_bytes()
    file.resolve().write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.warns(DataWarning, match=f"the cached {name} .*; downloading it again"):
        assert torch.equal(load_vjepa2()(pictures()), before)


def test_a_repository_without_the_weights(hub):
    del hub.files[f"{NAME}/model.safetensors"]
    with pytest.raises(DataUnavailableError, match=f"'V-JEPA 2' cannot be had.*404.*{NAME}"):
        load_vjepa2()


def test_a_hub_that_refuses(hub):
    hub.status = 401
    with pytest.raises(DataUnavailableError, match=r"the download failed \(answer: 401\)"):
        load_vjepa2()


@pytest.mark.parametrize("way", ["refused", "silent"])
def test_without_network_the_error_is_quick_and_clear(hub, monkeypatch, way):
    hub.hang = True
    if way == "refused":
        cut_off(monkeypatch)
    start = time.monotonic()
    with pytest.raises(DataUnavailableError) as caught:
        load_vjepa2()
    assert time.monotonic() - start < 2
    message = str(caught.value)
    assert "the public address cannot be reached" in message
    assert "Check the network" in message and f"a folder that holds {NAME}" in message


def lose_a_layer(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {key: tensor for key, tensor in tensors.items() if ".layer.1." not in key},
        folder / "model.safetensors",
        {"format": "pt"},
    )


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def of_another_size(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 96}))


def of_another_kind(folder):
    ViTModel(
        ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    ).save_pretrained(folder)


@pytest.mark.parametrize("harm", [lose_a_layer, cut, of_another_size, of_another_kind])
def test_weights_that_do_not_fit_are_refused(mirror, harm):
    harm(mirror)
    with (
        pytest.warns(DataWarning, match="is not what its checksum says"),
        pytest.raises(DataUnavailableError, match="is not what its checksum says"),
    ):
        load_vjepa2()
    (mirror.parents[1] / "SHA256SUMS").unlink()
    with (
        pytest.warns(DataWarning, match="damaged|another network") as caught,
        pytest.raises(DataUnavailableError, match="damaged|another network"),
    ):
        load_vjepa2()
    assert str(mirror) not in str(caught[0].message)


# ---- the cache
# -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tokens" / "pictures.safetensors"


def test_it_takes_the_backbone(backbone, file):
    images = pictures(5, 20, 20)
    tokens = cached_tokens(backbone, images, file, name=NAME, batch_size=2)
    torch.testing.assert_close(tokens.float(), backbone(images), rtol=1e-2, atol=1e-2)
    assert torch.equal(cached_tokens(backbone, images, file, name=NAME), tokens)


def test_what_differs_in_settings_alone_is_another_encoder(model, file):
    images = pictures(2)
    first = cached_tokens(VJEPA2(model), images, file, name=NAME)
    with pytest.warns(UserWarning, match="other encoder"):
        pooled = cached_tokens(VJEPA2(model, pool=4), images, file, name=NAME)
    assert first.shape == (2, 16, D) and pooled.shape == (2, 4, D)
    heads = network(num_attention_heads=4)  # of the same seed, so of equal weights
    with pytest.warns(UserWarning, match="other encoder"):
        again = cached_tokens(VJEPA2(heads, pool=4), images, file, name=NAME)
    assert (again - pooled).abs().max() > 0
