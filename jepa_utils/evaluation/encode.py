"""What a network makes of many inputs, some rows at a time: embeddings and tokens."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.arguments import check_count
from jepa_utils.data.images import normalize
from jepa_utils.models.modes import modes_kept
from jepa_utils.models.vit import ViT

__all__ = ["cached_tokens", "embed", "encode_images", "frozen_tokens", "photo_tokens"]


_KIND = "tokens of jepa_utils"  # marks the files of `cached_tokens`


@contextmanager
def evaluating(network: object) -> Iterator[None]:
    """A context in which a network is in evaluation mode; a plain function is left alone."""
    with modes_kept(network):
        if isinstance(network, nn.Module):
            network.eval()
        yield


# Cache
def cached_tokens(
    encoder: nn.Module, images: Tensor, file: str | Path, *, name: str, batch_size: int = 16
) -> Tensor:
    """The tokens of all images, computed once and kept in a file.

    The file knows whose tokens it holds: the encoder's name, its printed form and a checksum of its
    weights, and a checksum of the images. If one of them is another one now, the tokens are
    computed anew and replace the old ones.

    Parameters
    ----------
    encoder : nn.Module
        Images (B, 3, H, W) of uint8 to tokens (B, K, D). It is asked on the device where its
        parameters lie, in evaluation mode.
    images : Tensor of uint8, shape (N, 3, H, W)
        Images.
    file : path
        File ``*.safetensors``; its folder is made if need be.
    name : str
        Name of the encoder. Must be another one for encoders that differ in neither weights nor
        printed form.
    batch_size : int, default 16
        Images at a time.

    Returns
    -------
    Tensor of float16, shape (N, K, D)
        On the CPU.

    Raises
    ------
    ValueError
        If an argument has another shape or type, `file` has another suffix or holds something that
        is not from here, or the encoder does not give tokens of one shape, finite in half
        precision.

    Warns
    -----
    UserWarning
        If the file is damaged, or holds the tokens of another encoder or of other images: it is
        replaced.
    """
    file = Path(file)
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3 or not len(images):
        raise ValueError(
            f"images must be uint8 of shape (N, 3, H, W), got {images.dtype} of shape "
            f"{tuple(images.shape)}"
        )
    batch_size = check_count("batch_size", batch_size)
    if file.suffix != ".safetensors":
        raise ValueError(f"file must be named *.safetensors, got {file.name!r}")
    wanted = {
        "kind": _KIND,
        "name": name,
        "encoder": _encoder_digest(encoder),
        "images": _digest(images),
    }
    if file.exists():
        tokens = _kept(file, wanted)
        if tokens is not None:
            return tokens
    file.parent.mkdir(parents=True, exist_ok=True)  # before the long computation, not after it
    tokens = _compute(encoder, images, batch_size)
    known = {**wanted, "shape": str(tuple(tokens.shape)), "tokens": _digest(tokens)}
    # Beside its place and renamed, so that it is there whole or not at all; not as bytes in memory,
    # which would double it.
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}-") as folder:
        part = Path(folder) / file.name
        save_file({"tokens": tokens}, part, known)
        os.chmod(part, 0o644)  # the library's files are for their owner only
        os.replace(part, file)
    return tokens


def _kept(file: Path, wanted: dict[str, str]) -> Tensor | None:
    """Return the file's tokens if they are whole and those wanted; else warn why not."""
    try:
        with safe_open(file, framework="pt") as content:
            found = content.metadata() or {}
            if found.get("kind") != _KIND:
                raise ValueError(
                    f"file must be new, or of earlier tokens; {file.name} holds something else "
                    f"and is not touched"
                )
            others = [key for key in wanted if found.get(key) != wanted[key]]
            tokens = None if others else content.get_tensor("tokens")
    except SafetensorError as problem:
        warnings.warn(
            f"{file.name} is damaged ({problem}); its tokens are computed anew",
            UserWarning,
            stacklevel=3,
        )
        return None
    if others:
        reason = f"holds other tokens (other {' and '.join(others)})"
    elif found.get("tokens") != _digest(tokens):
        reason = "is damaged (other bytes than its checksum says)"
    else:
        return tokens
    warnings.warn(f"{file.name} {reason}; its tokens are computed anew", UserWarning, stacklevel=3)
    return None


@torch.no_grad()
def _compute(encoder: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    device = next(encoder.parameters(), images).device
    kept = None
    with evaluating(encoder):
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            tokens = encoder(part.to(device)).to("cpu", torch.float16)
            if (
                kept is None and tokens.dim() == 3
            ):  # all of it is reserved at once, for joining the parts would take it twice
                kept = torch.empty(len(images), *tokens.shape[1:], dtype=torch.float16)
            shape = (len(part), *(kept.shape[1:] if kept is not None else ("K", "D")))
            if tokens.shape != shape:
                raise ValueError(
                    f"encoder must give tokens of shape {shape} for {len(part)} images, got "
                    f"{tuple(tokens.shape)}"
                )
            if not tokens.isfinite().all():
                raise ValueError(
                    f"encoder must give tokens that are finite in half precision; those from "
                    f"image {start} are not"
                )
            kept[start : start + len(part)] = tokens
    return kept


def _encoder_digest(encoder: nn.Module) -> str:
    """Checksum of a module's printed form and weights."""
    digest = hashlib.sha256(repr(encoder).encode())
    for key, tensor in encoder.state_dict().items():
        digest.update(f"{key} {_digest(tensor)}\n".encode())
    return digest.hexdigest()


def _digest(tensor: Tensor) -> str:
    """Checksum of a tensor: type, shape and bytes."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def frozen_tokens(encoder: ViT, images: Tensor) -> Tensor:
    """All tokens of many images, in half precision, for what is trained on them.

    Parameters
    ----------
    encoder : ViT
        Standardised images (B, 3, H, W) to tokens (B, K, D).
    images : Tensor of uint8, shape (N, 3, H, W)
        Images.

    Returns
    -------
    Tensor of float16, shape (N, K, D)
    """
    return torch.cat([_tokens(encoder, part).half() for part in images.split(500)])


def photo_tokens(encoder: ViT, photographs: Tensor) -> Tensor:
    """Sixteen tokens of each photograph, for an encoder of 32x32 images.

    A photograph is cut into four quarters, which are made smaller to 32x32 pixels; of each
    quarter's tokens, neighbours are averaged until 2x2 are left.

    Parameters
    ----------
    encoder : ViT
        Standardised images (B, 3, 32, 32) to tokens (B, K, D) on a square grid.
    photographs : Tensor of uint8, shape (N, 3, S, S)
        Square, S even.

    Returns
    -------
    Tensor of float16, shape (N, 16, D)
        Row by row of the 4x4 grid.

    Raises
    ------
    ValueError
        If photographs are not uint8 or not square, or their side is odd.
    """
    side = photographs.shape[-1] if photographs.dim() == 4 else 0
    if photographs.shape[1:] != (3, side, side) or side < 2 or side % 2:
        raise ValueError(
            f"photographs must have shape (N, 3, S, S), S even, got {tuple(photographs.shape)}"
        )
    if photographs.dtype != torch.uint8:
        raise ValueError(f"photographs must be uint8, got {photographs.dtype}")
    results = []
    for part in photographs.split(500):
        quarters = (
            part.unfold(2, side // 2, side // 2)
            .unfold(3, side // 2, side // 2)
            .permute(0, 2, 3, 1, 4, 5)
            .flatten(0, 2)
        )
        tokens = _tokens(
            encoder, F.interpolate(quarters.float(), 32, mode="area").round().byte()
        )  # (4 B, K, D)
        few = F.adaptive_avg_pool2d(tokens.mT.unflatten(2, encoder.grid), 2)  # (4 B, D, 2, 2)
        results.append(few.unflatten(0, (-1, 2, 2)).permute(0, 1, 4, 2, 5, 3).flatten(1, 4).half())
    return torch.cat(results)


def _tokens(encoder: ViT, images: Tensor) -> Tensor:
    flat = encode_images(nn.Sequential(encoder, nn.Flatten()), images)
    return flat.unflatten(1, (-1, encoder.dimensions))


@torch.no_grad()
def embed(network: nn.Module, *inputs: Tensor, batch_size: int = 500) -> Tensor:
    """What a network on the CPU makes of its inputs, some rows at a time.

    Parameters
    ----------
    network : nn.Module or callable
        Of one argument or several, such as visual tokens, or ids and visible of texts. A module is
        asked in evaluation mode.
    *inputs : Tensor, shape (N, ...)
        Equally long; half precision becomes float32.
    batch_size : int, default 500
        Rows at a time.

    Returns
    -------
    Tensor, shape (N, ...)

    Raises
    ------
    ValueError
        If there are no inputs, they differ in length, or `batch_size` is below 1.
    """
    batch_size = check_count("batch_size", batch_size)
    shapes = [tuple(x.shape) for x in inputs]
    if () in shapes or len({shape[0] for shape in shapes}) != 1:
        raise ValueError(f"inputs must be equally long, and one at least, got shapes {shapes}")
    inputs = [x.float() if x.is_floating_point() else x for x in inputs]
    with evaluating(network):
        return torch.cat(
            [network(*rows) for rows in zip(*(x.split(batch_size) for x in inputs), strict=True)]
        )


@torch.no_grad()
def encode_images(
    encoder: Callable[[Tensor], Tensor], images: Tensor, *, batch_size: int = 500
) -> Tensor:
    """Embeddings of many images, batch by batch, on the CPU.

    Parameters
    ----------
    encoder : nn.Module or callable
        Standardised images (B, 3, H, W) to embeddings (B, D), or to tokens (B, L, D), which are
        averaged. A module is asked on the device where its parameters lie, in evaluation mode.
    images : Tensor of uint8, shape (N, 3, H, W)
        Images.
    batch_size : int, default 500
        Images at a time.

    Returns
    -------
    Tensor, shape (N, D)

    Raises
    ------
    ValueError
        If `images` has another shape or type, or `batch_size` is below 1.
    """
    batch_size = check_count("batch_size", batch_size)
    device = images.device
    if isinstance(encoder, nn.Module):
        device = next(encoder.parameters(), images).device
    outputs = []
    with evaluating(encoder):
        for part in images.split(batch_size):
            h = encoder(normalize(part.to(device)))
            outputs.append((h.mean(dim=1) if h.dim() == 3 else h).float().cpu())
    return torch.cat(outputs)
