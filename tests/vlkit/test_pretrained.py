import json
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torchvision import models

from vlkit.encoders.image import grid_shape, image_encoder
from vlkit.encoders.pretrained import LAST_WITH_A_GRID, TorchvisionImageEncoder
from vlkit.encoders.text import text_encoder
from vlkit.errors import UserError
from vlkit.testing import check_image_encoder, check_text_encoder

VISION: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
TEXT: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}
STAGES: dict[str, Any] = {"hidden_sizes": [8, 16], "depths": [1, 1]}
MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.2, 0.3]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def vision_models() -> dict[str, Any]:
    t = transformers
    swin: dict[str, Any] = {
        "image_size": 32,
        "patch_size": 2,
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": 4,
    }
    clip = t.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=16)
    return {
        "vit": lambda: t.ViTModel(t.ViTConfig(**VISION)),
        "deit": lambda: t.DeiTModel(t.DeiTConfig(**VISION)),
        "dinov2": lambda: t.Dinov2Model(t.Dinov2Config(**VISION)),
        "dinov2_with_registers": lambda: t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**VISION)),
        "clip": lambda: t.CLIPModel(clip),
        "clip_vision": lambda: t.CLIPVisionModel(t.CLIPVisionConfig(**VISION)),
        "siglip": lambda: t.SiglipVisionModel(t.SiglipVisionConfig(**VISION)),
        "swin": lambda: t.SwinModel(t.SwinConfig(**swin)),
        "convnext": lambda: t.ConvNextModel(t.ConvNextConfig(num_stages=2, **STAGES)),
        "resnet": lambda: t.ResNetModel(t.ResNetConfig(embedding_size=8, layer_type="basic", **STAGES)),
    }


def text_models() -> dict[str, Any]:
    t = transformers
    clip = t.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=16)
    return {
        "bert": lambda: t.BertModel(t.BertConfig(**TEXT)),
        "roberta": lambda: t.RobertaModel(t.RobertaConfig(pad_token_id=1, **TEXT)),
        "distilbert": lambda: t.DistilBertModel(
            t.DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
        ),
        "gpt2": lambda: t.GPT2Model(t.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=40)),
        "clip": lambda: t.CLIPModel(clip),
        "siglip": lambda: t.SiglipModel(t.SiglipConfig(text_config=TEXT, vision_config=VISION)),
        "t5": lambda: t.T5Model(t.T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)),
    }


def saved(model: Any, folder: Path, processor: dict[str, Any] | None = None) -> str:
    model.save_pretrained(folder)
    if processor is None:
        processor = {"image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return f"hf:{folder}"


# ---- transformers, pictures


@pytest.mark.parametrize("family", sorted(vision_models()))
def test_a_transformers_vision_model_conforms(family: str, tmp_path: Path) -> None:
    name = saved(vision_models()[family](), tmp_path)
    encoder = image_encoder(name)
    check_image_encoder(encoder, size=32)
    check_image_encoder(encoder, size=(40, 24))
    check_image_encoder(image_encoder(name, frozen=True), size=32)
    patch = {"swin": 4, "convnext": 8, "resnet": 8}.get(family, 8)
    assert encoder(torch.rand(1, 3, 32, 48)).shape == (32 // patch, 48 // patch) == grid_shape(encoder, 32, 48)


@pytest.mark.parametrize(("family", "first"), [("vit", 1), ("deit", 2), ("dinov2_with_registers", 5), ("siglip", 0)])
def test_the_grid_is_the_models_patches_after_its_own_normalisation(family: str, first: int, tmp_path: Path) -> None:
    model = vision_models()[family]().eval()
    encoder = image_encoder(saved(model, tmp_path)).eval()
    images = torch.rand(2, 3, 32, 32)
    normalised = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    states = model(pixel_values=normalised).last_hidden_state
    torch.testing.assert_close(encoder(images).grid, states[:, first:])


def test_a_swin_grid_stands_where_the_picture_has_it(tmp_path: Path) -> None:
    encoder = image_encoder(saved(vision_models()["swin"](), tmp_path)).eval()
    images = torch.full((1, 3, 32, 48), 0.5)
    changed = images.clone()
    changed[:, :, 28:, :4] = 1
    difference = (encoder(changed).grid - encoder(images).grid).abs().sum(dim=2).view(8, 12)
    assert divmod(int(difference.argmax()), 12) == (7, 0)


def test_clips_picture_half_is_the_same_alone_and_in_the_whole(tmp_path: Path) -> None:
    whole = vision_models()["clip"]().eval()
    encoder = image_encoder(saved(whole, tmp_path)).eval()
    assert not any("text" in name for name in encoder.state_dict())
    images = torch.rand(1, 3, 32, 32)
    normalised = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(encoder(images).pooled, whole.vision_model(pixel_values=normalised).pooler_output)


@pytest.mark.parametrize(
    ("processor", "mean", "std"),
    [
        ({"image_mean": MEAN, "image_std": STD, "do_normalize": True, "rescale_factor": 1 / 255}, MEAN, STD),
        ({"image_processor": {"image_mean": MEAN, "image_std": STD}}, MEAN, STD),
        ({"image_mean": 0.5, "image_std": 0.25}, [0.5] * 3, [0.25] * 3),
        ({"do_normalize": False}, [0.0] * 3, [1.0] * 3),
        # byte / 127.5 - 1, and then nothing: from -1 to 1
        ({"do_normalize": False, "rescale_factor": 1 / 127.5, "rescale_offset": True}, [0.5] * 3, [0.5] * 3),
    ],
)
def test_the_normalisation_is_the_image_processors(
    processor: dict[str, Any], mean: list[float], std: list[float], tmp_path: Path
) -> None:
    encoder: Any = image_encoder(saved(vision_models()["vit"](), tmp_path, processor))
    torch.testing.assert_close(encoder.mean.flatten(), torch.tensor(mean))
    torch.testing.assert_close(encoder.std.flatten(), torch.tensor(std))


def test_without_an_image_processor_trained_weights_are_refused(tmp_path: Path) -> None:
    vision_models()["vit"]().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has no preprocessor_config.json"):
        image_encoder(f"hf:{tmp_path}")
    assert image_encoder(f"hf:{tmp_path}", pretrained=False)(torch.rand(1, 3, 32, 32)).shape == (4, 4)


def test_a_config_alone_gives_random_weights(tmp_path: Path) -> None:
    name = saved(vision_models()["vit"](), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"cannot load the transformers model .* pass pretrained=false"):
        image_encoder(name)
    check_image_encoder(image_encoder(name, pretrained=False), size=32)


def test_a_model_that_hides_patches_is_refused(tmp_path: Path) -> None:
    name = saved(transformers.ViTMAEModel(transformers.ViTMAEConfig(**VISION)), tmp_path)
    with pytest.raises(UserError, match="hides patches at random"):
        image_encoder(name)


def test_missing_folders_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        image_encoder(f"hf:{tmp_path / 'none'}")
    with pytest.raises(UserError, match="the folder needs config.json"):
        image_encoder(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="cannot load the transformers model"):
        text_encoder(f"hf:{tmp_path}", 50)


# ---- transformers, texts


@pytest.mark.parametrize("family", sorted(text_models()))
def test_a_transformers_text_model_conforms(family: str, tmp_path: Path) -> None:
    name = saved(text_models()[family](), tmp_path)
    encoder = text_encoder(name, 50)
    check_text_encoder(encoder, vocabulary=50)
    check_text_encoder(text_encoder(name, 50, frozen=True), vocabulary=50)
    assert encoder.dim == 16


def test_a_text_model_reads_what_transformers_reads(tmp_path: Path) -> None:
    model = text_models()["bert"]().eval()
    encoder = text_encoder(saved(model, tmp_path), 50).eval()
    ids = torch.randint(4, 50, (1, 6))
    states = model(input_ids=ids).last_hidden_state
    text = encoder(ids, torch.ones(1, 6, dtype=torch.bool))
    torch.testing.assert_close(text.states, states)
    torch.testing.assert_close(text.pooled, states.mean(dim=1))


def test_too_many_words_for_a_text_model_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the tokenizer has 51 words, but .* was made for 50"):
        text_encoder(saved(text_models()["bert"](), tmp_path / "bert"), 51)
    for family, limit in (("bert", 40), ("roberta", 38), ("gpt2", 40)):
        encoder = text_encoder(saved(text_models()[family](), tmp_path / family), 50)
        ids = torch.full((1, limit), 5)
        encoder(ids, torch.ones_like(ids, dtype=torch.bool))
        ids = torch.full((1, limit + 1), 5)
        with pytest.raises(UserError, match=f"a text of {limit + 1} words, but .* reads {limit} at most"):
            encoder(ids, torch.ones_like(ids, dtype=torch.bool))


# ---- torchvision

FAMILIES = [
    "squeezenet1_1",
    "resnet18",
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
    "regnet_y_400mf",
    "efficientnet_b0",
    "mnasnet0_5",
    "densenet121",
    "googlenet",
]


@pytest.mark.parametrize("model", FAMILIES)
def test_a_trunk_computes_what_the_classifier_computes_there(model: str) -> None:
    options = {"init_weights": True, "aux_logits": False} if model == "googlenet" else {}
    torch.manual_seed(1)
    classifier = models.get_model(model, weights=None, **options).eval()
    torch.manual_seed(1)
    encoder = image_encoder(f"torchvision:{model}").eval()
    images = torch.rand(1, 3, 64, 96)
    there: list[torch.Tensor] = []
    last = next(name for name in LAST_WITH_A_GRID if hasattr(classifier, name))
    getattr(classifier, last).register_forward_hook(lambda _, __, output: there.append(output.clone()))
    with torch.no_grad():
        classifier((images - encoder.mean) / encoder.std)  # type: ignore[operator]
        image = encoder(images)
    expected = there[0].relu() if model == "densenet121" else there[0]
    torch.testing.assert_close(image.grid, expected.flatten(2).transpose(1, 2))
    assert image.shape == expected.shape[2:]
    assert image.pooled.shape == (1, encoder.dim)


@pytest.mark.parametrize(
    ("model", "dim"), [("vgg16", 512), ("resnet152", 2048), ("convnext_tiny", 768), ("swin_t", 768)]
)
def test_large_models_have_the_grid_that_is_known_of_them(model: str, dim: int) -> None:
    with torch.device("meta"):  # shapes without numbers
        encoder = TorchvisionImageEncoder(model)
    assert encoder.dim == dim
    assert grid_shape(encoder, 224, 224) == (7, 7)
    assert grid_shape(encoder, 448, 320) == (14, 10)


def test_a_classifier_without_a_grid_and_a_wrong_name_are_named() -> None:
    with pytest.raises(UserError, match="vit_b_16 has no grid of convolutions"), torch.device("meta"):
        image_encoder("torchvision:vit_b_16")
    with pytest.raises(UserError, match="torchvision has no classifier 'resnet19'. Did you mean 'resnet1"):
        image_encoder("torchvision:resnet19")


def test_weights_that_cannot_be_fetched_say_where_to_put_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*arguments: Any, **options: Any) -> Any:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        UserError, match=r"cannot fetch the pretrained weights of squeezenet1_1 .*no network.*download https"
    ):
        image_encoder("torchvision:squeezenet1_1", pretrained=True)


def test_trained_weights_are_read_from_the_folder_and_damaged_ones_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = models.get_model_weights("squeezenet1_1").DEFAULT
    path = tmp_path / "hub" / "checkpoints" / weights.url.rsplit("/", 1)[1]
    path.parent.mkdir(parents=True)
    theirs = models.get_model("squeezenet1_1", weights=None)
    nn.init.constant_(theirs.features[0].weight, 0.125)
    torch.save(theirs.state_dict(), path)
    encoder: Any = image_encoder("torchvision:squeezenet1_1", pretrained=True)
    assert (encoder.trunk.features[0].weight == 0.125).all()
    torch.save({"features.0.bias": torch.zeros(64)}, path)
    with pytest.raises(UserError, match="the pretrained weights of squeezenet1_1 lack .*; delete squeezenet1_1"):
        image_encoder("torchvision:squeezenet1_1", pretrained=True)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot fetch the pretrained weights"):
        image_encoder("torchvision:squeezenet1_1", pretrained=True)
