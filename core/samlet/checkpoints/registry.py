"""The models that others have published, and that samlet loads by name.

Facts only, from their publishers where nothing else is said:

- SAM: README of facebookresearch/segment-anything, which states the licence of the weights;
- MobileSAM: README of ChaoningZhang/MobileSAM, and of its demo on Hugging Face for the licence;
- micro-sam: `micro_sam/util.py` of computational-cell-analytics/micro-sam 1.8 for addresses and
  checksums, `doc/finetuned_models.md` for what each is good for, `bioimageio/model_export.py` for
  the licence under which the models of light and electron microscopy are in BioImage.IO,
  `_model_settings.py` for settings of its watershed;
- PathoSAM and MedicoSAM: the same file for addresses and checksums. Neither README states a licence
  of the weights.
- EfficientViT-SAM: `applications/efficientvit_sam/README.md` of mit-han-lab/efficientvit for
  addresses, that repository's licence, and checksums of the files at these addresses from the
  installation script of InterDigitalInc/CompressAI-Vision (that of l0 in other repositories, too);
- EdgeSAM: README of chongzhou96/EdgeSAM for addresses and licence, and checksums from the Git LFS
  pointers of the Hugging Face space that these lead to, as camenduru/EdgeSAM-hf mirrors it.

RepViT-SAM has an address only, from `sam/README.md` of THU-MIG/RepViT: see `UNVERIFIABLE`.

Parameters are counted in our own models, without the instance decoder.
"""

import logging
from functools import cache

from samlet.checkpoints.published_model import PublishedModel
from samlet.checkpoints.remote_file import RemoteFile

log = logging.getLogger(__name__)


@cache
def mention_licence(name: str) -> None:
    """Log, once in a process, that a model is for non-commercial use only.

    Args:
        name: of any model.
    """
    model = MODELS.get(name)
    if model is not None and model.is_non_commercial:
        log.warning("The model %s is for non-commercial use only (%s).", name, model.licence)


_PARAMETERS = {"t": 9_808_452, "b": 93_735_472, "l": 312_342_832, "h": 641_090_608}
"""By the letter of the image encoder: TinyViT-5M, ViT-B, ViT-L and ViT-H."""

INSTANCE_DECODER_PARAMETERS = 9_593_159
"""Of micro-sam's decoder with bilinear interpolation; 15 % more with transposed convolutions."""

_SAM_FILES = {
    "b": (
        "sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        375_042_383,
    ),
    "l": (
        "sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        1_249_524_607,
    ),
    "h": (
        "sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        2_564_550_879,
    ),
}

_BIOIMAGE_IO = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io"
_OWNCLOUD = "https://owncloud.gwdg.de/index.php/s"
_LIGHT = "cells and nuclei in light microscopy"
_ELECTRON = "mitochondria and nuclei in electron microscopy"

# By model: thresholds of the distances to centre and boundary, smoothing, minimal size.
_WATERSHED = {
    "vit_t_lm": (0.5, 0.5, 2.0, 100),
    "vit_b_lm": (0.4, 0.5, 2.0, 100),
    "vit_l_lm": (0.4, 0.4, 1.6, 100),
    "vit_t_em_organelles": (0.4, 0.5, 1.2, 100),
    "vit_b_em_organelles": (0.3, 0.4, 1.2, 100),
    "vit_l_em_organelles": (0.3, 0.4, 1.2, 100),
}
_WATERSHED_NAMES = (
    "center_distance_threshold",
    "boundary_distance_threshold",
    "distance_smoothing",
    "min_size",
)


def _sam(letter: str) -> PublishedModel:
    filename, sha256, size = _SAM_FILES[letter]
    url = f"https://dl.fbaipublicfiles.com/segment_anything/{filename}"
    return PublishedModel(
        summary="photographs; slow without a GPU",
        parameters=_PARAMETERS[letter],
        licence="Apache-2.0",
        publisher="Meta AI",
        weights=RemoteFile(f"sam_vit_{letter}", url, filename, f"sha256:{sha256}", size),
    )


def _efficientvit(variant: str, summary: str, parameters: int, sha256: str) -> PublishedModel:
    filename = f"efficientvit_sam_{variant}.pt"
    url = f"https://huggingface.co/mit-han-lab/efficientvit-sam/resolve/main/{filename}"
    return PublishedModel(
        summary=summary,
        parameters=parameters,
        licence="Apache-2.0",
        publisher="EfficientViT-SAM, MIT Han Lab",
        weights=RemoteFile(f"efficientvit_sam_{variant}", url, filename, f"sha256:{sha256}", None),
    )


def _edge_sam(name: str, summary: str, sha256: str) -> PublishedModel:
    url = f"https://huggingface.co/spaces/chongzhou/EdgeSAM/resolve/main/weights/{name}.pth"
    return PublishedModel(
        summary=summary,
        parameters=9_582_112,
        licence="NTU S-Lab License 1.0",
        publisher="EdgeSAM, S-Lab",
        weights=RemoteFile(name, url, f"{name}.pth", f"sha256:{sha256}", 38_807_540),
        is_non_commercial=True,
    )


def _micro_sam(
    name: str,
    summary: str,
    address: str,
    xxh128: str,
    decoder_address: str,
    decoder_xxh128: str,
    licence: str = "CC-BY-4.0",
    publisher: str = "micro-sam, Göttingen",
) -> PublishedModel:
    decoder = f"{name}_decoder"
    return PublishedModel(
        summary=summary,
        parameters=_PARAMETERS[name.removeprefix("vit_")[0]],
        licence=licence,
        publisher=publisher,
        # Files of several models have the same name there.
        weights=RemoteFile(name, address, f"{name}.pt", f"xxh128:{xxh128}", None),
        instance_decoder=RemoteFile(
            decoder, decoder_address, f"{decoder}.pt", f"xxh128:{decoder_xxh128}", None
        ),
        card=(
            {"watershed": dict(zip(_WATERSHED_NAMES, _WATERSHED[name], strict=True))}
            if name in _WATERSHED
            else {}
        ),
    )


def _bioimage_io(
    name: str, summary: str, version: str, xxh128: str, decoder_xxh128: str
) -> PublishedModel:
    files = f"{_BIOIMAGE_IO}/{version}/files/{name[:5]}"
    return _micro_sam(name, summary, f"{files}.pt", xxh128, f"{files}_decoder.pt", decoder_xxh128)


_PUBLISHED = (
    PublishedModel(
        summary="photographs; fast",
        parameters=_PARAMETERS["t"],
        licence="Apache-2.0",
        publisher="MobileSAM, Zhang et al.",
        weights=RemoteFile(
            "mobile_sam",
            "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
            "mobile_sam.pt",
            "sha256:6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            40_728_226,
        ),
    ),
    *(_sam(letter) for letter in _SAM_FILES),
    _efficientvit(
        "l0",
        "photographs; fast",
        34_792_784,
        "c4f994b01a16d48bcf2fbbb089448cfbf58fae5811edfa8113c953b8b8cc64b8",
    ),
    _efficientvit(
        "l1",
        "photographs; fast",
        47_650_128,
        "fa151df2b9b96896accd505470755cdd293a4c50cdabac95478f3fbd86d9152b",
    ),
    _efficientvit(
        "l2",
        "photographs; fast",
        61_328_592,
        "d4bfd842224cbb99de09acc3325e81ac5b7e8725c8fbdab152305e5d934bfe4a",
    ),
    _efficientvit(
        "xl0",
        "photographs",
        116_957_904,
        "9bc2f87bd23d6e6d1f7b5beff910f98835c7c333fac73e695bac0bec685968f8",
    ),
    _efficientvit(
        "xl1",
        "photographs",
        203_346_128,
        "10f42277679427c1183dcff19758e536aa86bcc4304e4b387ff48865784be05c",
    ),
    _edge_sam(
        "edge_sam",
        "photographs; fast",
        "439b086a20ab6fba90c12cba32e0001ba3aa726da5791ff8738acdd440330991",
    ),
    _edge_sam(
        "edge_sam_3x",
        "photographs; fast, trained on more images than edge_sam",
        "5a3e3261da9e2f4c8154410885689ae57d09cbf4cf5d0c848b9d80b6df336ece",
    ),
    _bioimage_io(
        "vit_t_lm",
        f"{_LIGHT}; fast",
        "faithful-chicken/1.1",
        "72ec5074774761a6e5c05a08942f981e",
        "3e914a5f397b0312cdd36813031f8823",
    ),
    _bioimage_io(
        "vit_b_lm",
        _LIGHT,
        "diplomatic-bug/1.2",
        "fe9252a29f3f4ea53c15a06de471e186",
        "708b15ac620e235f90bb38612c4929ba",
    ),
    _bioimage_io(
        "vit_l_lm",
        f"{_LIGHT}; slow without a GPU",
        "idealistic-rat/1.2",
        "017f20677997d628426dec80a8018f9d",
        "2faeafa03819dfe03e7c46a44aaac64a",
    ),
    _bioimage_io(
        "vit_t_em_organelles",
        f"{_ELECTRON}; fast",
        "greedy-whale/1",
        "253474720c497cce605e57c9b1d18fd9",
        "8f897c7bb93174a4d1638827c4dd6f44",
    ),
    _bioimage_io(
        "vit_b_em_organelles",
        _ELECTRON,
        "noisy-ox/1.2",
        "f3bf2ed83d691456bae2c3f9a05fb438",
        "bb6398956a6b0132c26b631c14f95ce2",
    ),
    _bioimage_io(
        "vit_l_em_organelles",
        f"{_ELECTRON}; slow without a GPU",
        "humorous-crab/1.2",
        "810b084b6e51acdbf760a993d8619f2d",
        "334877640bfdaaabce533e3252a17294",
    ),
    _micro_sam(
        "vit_b_histopathology",
        "nuclei in histopathology",
        f"{_OWNCLOUD}/sBB4H8CTmIoBZsQ/download",
        "ffd1a2cd84570458b257bd95fdd8f974",
        f"{_OWNCLOUD}/KO9AWqynI7SFOBj/download",
        "6a66194dcb6e36199cbee2214ecf7213",
        licence="",
        publisher="PathoSAM, Göttingen",
    ),
    _micro_sam(
        "vit_b_medical_imaging",
        "medical images: X-ray, CT, MRI, ultrasound",
        f"{_OWNCLOUD}/f5Ol4FrjPQWfjUF/download",
        "40169f1e3c03a4b67bff58249c176d92",
        f"{_OWNCLOUD}/ahd3ZhZl2e0RIwz/download",
        "9e498b12f526f119b96c88be76e3b2ed",
        licence="",
        publisher="MedicoSAM, Göttingen",
    ),
)

UNVERIFIABLE = {
    "repvit_sam": "https://github.com/THU-MIG/RepViT/releases/download/v1.0/repvit_sam.pt"
}
"""Addresses of models for whose files no checksum is published, and so are not downloaded."""

MODELS: dict[str, PublishedModel] = {model.weights.name: model for model in _PUBLISHED}
"""By name, in the order in which they are listed."""
