"""Encoders that others trained: torchvision's and transformers', behind our two contracts."""

import inspect
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vlkit.encoders.image import ImageGrid, check_images, described, grid_of
from vlkit.encoders.text import TextStates, check_text, masked_mean
from vlkit.errors import UserError
from vlkit.plugins import nearest

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Up to which child each family of torchvision's classifiers still has a grid: the first of these that a model has.
LAST_WITH_A_GRID = (
    "permute", "features", "layer4", "trunk_output", "conv5", "layers", "Mixed_7c", "inception5b", "blocks",
)  # fmt: skip

FIRST_TOKENS_AT_MOST = 16  # class, distillation and register tokens that may stand before a transformer's patches


class Frozen(nn.Module):
    """An encoder that training leaves as it is: no gradients, always in evaluation mode, batch norm's means stay."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.dim = cast(int, encoder.dim)
        self.eval()

    def train(self, mode: bool = True) -> "Frozen":
        """Stays in evaluation mode, whatever is asked."""
        return super().train(False)

    def forward(self, *inputs: Tensor) -> Any:
        """What the encoder gives."""
        return self.encoder(*inputs)


class TorchvisionImageEncoder(nn.Module):
    """A torchvision classifier, cut where it still has a grid; `pooled` is the mean over the patches."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: str, pretrained: bool = False) -> None:
        super().__init__()
        from torchvision import models

        names = models.list_models(module=models)
        if model not in names:
            raise UserError(f"torchvision has no classifier {model!r}.{nearest(model, names)}")
        # These two have classifiers on the way, for their own training alone; and warn unless told how to start.
        options = {"init_weights": True, "aux_logits": False} if model in ("googlenet", "inception_v3") else {}
        classifier = models.get_model(model, weights=None, **options)
        mean, std = IMAGENET_MEAN, IMAGENET_STD
        if pretrained:
            weights = models.get_model_weights(model).DEFAULT
            transforms = weights.transforms()
            mean, std = transforms.mean, transforms.std
            state = _downloaded(model, weights)
            missing = classifier.load_state_dict(state, strict=False).missing_keys
            if missing:
                raise UserError(
                    f"the pretrained weights of {model} lack {missing[0]}; delete {weights.url.rsplit('/', 1)[1]} from "
                    f"{Path(torch.hub.get_dir()) / 'checkpoints'}, so that they are fetched again"
                )
            if hasattr(classifier, "transform_input"):
                mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # what it would do to pictures that are normalised
        self.trunk = _trunk(model, classifier)
        self.rectified = model.startswith("densenet")  # its last rectifier is outside `features`
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self.dim = 0  # until it is described
        self.dim = described(self, 224, 224).grid.shape[2]

    def forward(self, images: Tensor) -> ImageGrid:
        """(batch, 3, height, width) in [0, 1] -> grid (batch, patches, dim), pooled (batch, dim), shape"""
        check_images(images)
        features = self.trunk((images - self.mean) / self.std)
        return grid_of(features.relu() if self.rectified else features)


class HuggingFaceImageEncoder(nn.Module):
    """A transformers vision model: ViT, CLIP's and SigLIP's vision half, DINOv2, DeiT, Swin, ConvNeXt, ResNet, ...

    The grid leaves class and register tokens out. `pooled` is what the model itself pools where its weights for that
    are part of every checkpoint; else its class token, or the mean over the patches where it has none. The pictures
    are normalised as the model's own `preprocessor_config.json` says.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: str, pretrained: bool = True) -> None:
        super().__init__()
        self.model = _transformer(model, pretrained, half="vision_model")
        config: Any = self.model.config
        if getattr(config, "mask_ratio", 0):
            raise UserError(f"{model} hides patches at random ({config.model_type}); take the model it was made for")
        mean, std = _normalisation(model, pretrained)
        _still(self.model, ("mask_token",))
        self.name = model
        self.dim = 0  # until it is described, below
        self.strides = _strides(config)
        # Position vectors are made for one size; with this they are stretched over any other.
        resizes = "interpolate_pos_encoding" in inspect.signature(self.model.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if resizes else {}
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        image_size = getattr(config, "image_size", 224) or 224
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.dim = described(self, height, width).grid.shape[2]

    def forward(self, images: Tensor) -> ImageGrid:
        """(batch, 3, height, width) in [0, 1] -> grid (batch, patches, dim), pooled (batch, dim), shape"""
        check_images(images)
        output = self.model(pixel_values=(images - self.mean) / self.std, return_dict=True, **self.options)
        pooled = getattr(output, "pooler_output", None)
        states = output.last_hidden_state
        if states.dim() == 4:
            whole = grid_of(states)
            return whole if pooled is None else ImageGrid(whole.grid, pooled.flatten(1), whole.shape)
        rows, columns, first = self._shape(images.shape[2], images.shape[3], states.shape[1])
        grid = states[:, first:]
        if pooled is None or pooled.shape != (len(grid), grid.shape[2]):
            pooled = states[:, 0] if first else grid.mean(dim=1)
        return ImageGrid(grid=grid, pooled=pooled, shape=(rows, columns))

    def _shape(self, height: int, width: int, tokens: int) -> tuple[int, int, int]:
        """Rows, columns, and how many tokens stand before the patches."""
        for stride in self.strides:
            for rows, columns in ((height // stride, width // stride), (-(-height // stride), -(-width // stride))):
                if 0 < rows * columns <= tokens <= rows * columns + FIRST_TOKENS_AT_MOST:
                    return rows, columns, tokens - rows * columns
        raise UserError(
            f"{self.name} turns a picture of {height}x{width} into {tokens} tokens, which are no grid of patches "
            f"{' or '.join(map(str, self.strides))} pixels wide; take another size or model"
        )


class HuggingFaceTextEncoder(nn.Module):
    """A transformers text model: BERT, RoBERTa, DistilBERT, GPT-2, CLIP's and SigLIP's text half, T5's encoder, ...

    It is read with its own tokenizer (`Tokenizer.load` of its `tokenizer.json`); `pooled` is the mean over the words,
    which needs no weights that a checkpoint may lack.
    """

    def __init__(self, model: str, vocabulary: int, pretrained: bool = True) -> None:
        super().__init__()
        self.model = _transformer(model, pretrained, half="text_model")
        config: Any = self.model.config
        self.dim = int(config.hidden_size)
        self.vocabulary = int(config.vocab_size)
        self.name = model
        if vocabulary > self.vocabulary:
            raise UserError(
                f"the tokenizer has {vocabulary} words, but {model} was made for {self.vocabulary}; load the tokenizer.json "
                "that lies beside the model"
            )
        # RoBERTa's family counts positions from behind the padding id.
        behind = [
            each.padding_idx + 1
            for name, each in self.model.named_modules()
            if name.endswith("position_embeddings") and isinstance(each, nn.Embedding) and each.padding_idx is not None
        ]
        positions = getattr(config, "max_position_embeddings", None)
        self.words_at_most = None if positions is None else int(positions) - sum(behind)
        _still(self.model, ("mask_token", "head.weight", "head.bias"))

    def forward(self, ids: Tensor, mask: Tensor) -> TextStates:
        """(batch, words) int64, (batch, words) bool -> states (batch, words, dim), pooled (batch, dim)"""
        check_text(ids, mask, self.vocabulary)
        if self.words_at_most is not None and ids.shape[1] > self.words_at_most:
            raise UserError(
                f"a text of {ids.shape[1]} words, but {self.name} reads {self.words_at_most} at most; lower max_words"
            )
        states = self.model(input_ids=ids, attention_mask=mask.long(), return_dict=True).last_hidden_state
        states = states.masked_fill(~mask[:, :, None], 0)
        return TextStates(states=states, pooled=masked_mean(states, mask))


def _trunk(model: str, classifier: nn.Module) -> nn.Sequential:
    """A classifier's children, which lie in the order in which they run, as far as there is a grid."""
    children = dict(classifier.named_children())
    last = next((name for name in LAST_WITH_A_GRID if name in children), None)
    if last is None:
        raise UserError(
            f"torchvision's {model} has no grid of convolutions to cut at; take a CNN such as resnet50, or the same "
            "model from transformers as hf:MODEL"
        )
    kept = OrderedDict[str, nn.Module]()
    for name, child in children.items():
        kept[name] = nn.Sequential(*child) if isinstance(child, nn.ModuleList) else child
        if name == last:
            break
    return nn.Sequential(kept)


def _downloaded(model: str, weights: Any) -> dict[str, Tensor]:
    try:
        # The files are pickles: torch reads tensors from them and runs nothing.
        return cast(dict[str, Tensor], weights.get_state_dict(progress=True, check_hash=True, weights_only=True))
    except (OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise UserError(
            f"cannot fetch the pretrained weights of {model} ({error}); download {weights.url} into {folder}, "
            "or pass pretrained=false"
        ) from error


def _transformer(name: str, pretrained: bool, half: str) -> nn.Module:
    """The transformers model of a name or folder; of a model for pictures and texts, the half that is asked for."""
    from transformers import MODEL_MAPPING, AutoConfig, AutoModel

    families: Any = MODEL_MAPPING
    models: Any = AutoModel
    try:
        config = AutoConfig.from_pretrained(name)
        kind = families.get(type(config), None)
        # A pooler that checkpoints lack would start from random numbers without a word, and without gradients if unused.
        takes = isinstance(kind, type) and "add_pooling_layer" in inspect.signature(kind).parameters
        options = {"add_pooling_layer": False} if takes else {}
        if pretrained:
            model = models.from_pretrained(name, config=config, **options)
        else:
            model = models.from_config(config, **options)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        if Path(name).is_dir():
            where = "the folder needs config.json and, if pretrained, model.safetensors"
        elif name.startswith(("/", ".", "~")) or name.count("/") > 1:
            where = "there is no such folder"
        else:
            where = f"download https://huggingface.co/{name} into a folder and name that as hf:FOLDER"
        more = (
            "" if not pretrained else "; or pass pretrained=false to start from random weights (config.json is enough)"
        )
        raise UserError(f"cannot load the transformers model {name!r} ({first}); {where}{more}") from error
    model = getattr(model, half, model)
    if half == "text_model" and getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    return cast(nn.Module, model)


def _still(model: nn.Module, endings: tuple[str, ...]) -> None:
    """Parameters that no grid or state comes from would wait for gradients for ever, which spread training refuses."""
    for name, parameter in model.named_parameters():
        if name.endswith(endings):
            parameter.requires_grad_(False)


def _strides(config: Any) -> list[int]:
    """How many pixels wide a token may be: a patch, or a patch after the stages that join four into one."""
    patch = getattr(config, "patch_size", None)
    if patch is None:
        return []
    patch = int(patch if isinstance(patch, int) else patch[0])
    stages = len(getattr(config, "depths", ()) or ())
    return [patch * 2 ** (stages - 1), patch] if stages else [patch]


def _normalisation(name: str, pretrained: bool) -> tuple[list[float], list[float]]:
    """Mean and standard deviation, for pictures in [0, 1], as the model's image processor has them."""
    for file in ("preprocessor_config.json", "processor_config.json"):
        text = _beside(name, file)
        if text is None:
            continue
        found = json.loads(text)
        processor = found.get("image_processor", found)
        if "image_mean" in processor or "do_normalize" in processor:
            return _mean_and_std(processor)
    if pretrained:
        raise UserError(
            f"{name} has no preprocessor_config.json, so the normalisation that its weights want is unknown; save its "
            "image processor beside it (AutoImageProcessor ... save_pretrained)"
        )
    return list(IMAGENET_MEAN), list(IMAGENET_STD)


def _mean_and_std(processor: dict[str, Any]) -> tuple[list[float], list[float]]:
    # The processor works on bytes: byte * factor, less 1 where it offsets, then (that - mean) / std.
    scale = 255 * processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 255.0
    offset = 1.0 if processor.get("rescale_offset", False) else 0.0
    mean, std = [0.0] * 3, [1.0] * 3
    if processor.get("do_normalize", True):
        mean, std = (_three(processor[key]) for key in ("image_mean", "image_std"))
    return [(each + offset) / scale for each in mean], [each / scale for each in std]


def _three(numbers: float | list[float]) -> list[float]:
    return [float(each) for each in numbers] if isinstance(numbers, list) else [float(numbers)] * 3


def _beside(name: str, file: str) -> str | None:
    """A text file of a model's folder or, for a name, of its repository; None where it has none."""
    if Path(name).is_dir():
        path = Path(name) / file
        return path.read_text(encoding="utf-8") if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(name, file)).read_text(encoding="utf-8")
    except EntryNotFoundError:
        return None
