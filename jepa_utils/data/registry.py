"""What the book knows about its data before it is there: names, revisions, files, samples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jepa_utils.data import samples

# Commits: their files never change. The hub tells the checksums, by which its cache names files.
REVISIONS = {
    "Salesforce/wikitext": "b08601e04326c79dfdd32d625aee71d232d685c3",
    "cornell-movie-review-data/rotten_tomatoes": "aa13bc287fa6fcab6daf52f0dfb9994269ffea28",
    "uoft-cs/cifar10": "0b2714987fa478483af9968de7c934580d0bb9a2",
    "jxie/flickr8k": "56f58c967835f7c508d684f36bd7897cca9d7634",
    "HuggingFaceFW/fineweb-edu": "87f09149ef4734204d70ed1d046ddc9ca3f2b8f9",
    "openai-community/gpt2": "607a30d783dfa663caf39e06633721c8d4cfcd7e",
    "facebook/vjepa2-vitl-fpc64-256": "b3c1679b7c34d3255ef3547f27c7b226aefab26f",
}


@dataclass(frozen=True)
class Place:
    """Files at one public address: a repository of the hub, or a page of the web."""

    name: str  # organisation and name of the repository; the folder in a mirror
    files: dict[str, tuple[str, ...]]  # paths by split, in the order of the rows
    kind: str = "dataset"  # or "model"
    page: str = ""  # address of a page, which its publisher revises now and then

    @property
    def url(self) -> str:
        """Address for readers."""
        hub = f"https://huggingface.co/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"
        return self.page or hub


@dataclass(frozen=True)
class DataSet:
    """A data set of the book: a text, or a table where columns are given."""

    what: str  # a line for readers
    place: Place
    sample: Callable[[], tuple[Any, dict[str, Any]]]  # text or columns by split, and their truth
    columns: dict[str, dict[str, Any]] | None = None  # as `datasets.Features.from_dict` takes them


def _files(pattern: str, *splits: str) -> dict[str, tuple[str, ...]]:
    return {split: (pattern.format(split),) for split in splits or ("train", "validation", "test")}


TEXT_END = "*** END OF THE PROJECT GUTENBERG EBOOK"  # stands at the end of a complete page
_GUTENBERG = "https://www.gutenberg.org/cache/epub/100/pg100.txt"
_STRING = {"dtype": "string", "_type": "Value"}
_THINGS = {"names": list(samples.IMAGE_LABELS), "_type": "ClassLabel"}
_PHOTOS = {
    "train": (
        "data/train-00000-of-00002-2f8f6bfa852eac4b.parquet",
        "data/train-00001-of-00002-2173151d8cd6c7fb.parquet",
    ),
    "validation": ("data/validation-00000-of-00001-7025a2b596f14b7b.parquet",),
    "test": ("data/test-00000-of-00001-42a2661d12c73e48.parquet",),
}

DATASETS: dict[str, DataSet] = {
    "shakespeare": DataSet(
        "The complete works of William Shakespeare, one text",
        Place("shakespeare", {"text": ("complete_works.txt",)}, page=_GUTENBERG),
        samples.sample_shakespeare,
    ),
    "wikitext-2": DataSet(
        "WikiText-2: verified good and featured articles of Wikipedia, one line a row",
        Place("Salesforce/wikitext", _files("wikitext-2-v1/{}-00000-of-00001.parquet")),
        samples.sample_articles,
        {"text": _STRING},
    ),
    "rotten-tomatoes": DataSet(
        "Sentences of film reviews from Rotten Tomatoes, labelled 0 (negative) or 1 (positive)",
        Place("cornell-movie-review-data/rotten_tomatoes", _files("{}.parquet")),
        samples.sample_reviews,
        {"text": _STRING, "label": {"names": ["neg", "pos"], "_type": "ClassLabel"}},
    ),
    "cifar10": DataSet(
        "CIFAR-10: colour photographs of 32 x 32 pixels, labelled with one of ten kinds of things",
        Place("uoft-cs/cifar10", _files("plain_text/{}-00000-of-00001.parquet", "train", "test")),
        samples.sample_images,
        {"img": {"_type": "Image"}, "label": _THINGS},
    ),
    "flickr8k": DataSet(
        "Flickr8k: photographs of people and animals, five captions each, for research use only",
        Place("jxie/flickr8k", _PHOTOS),
        samples.sample_photos,
        {"image": {"_type": "Image"}, **{f"caption_{k}": _STRING for k in range(5)}},
    ),
}
