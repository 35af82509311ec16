import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before torch is imported: tensors here are so small that a second thread costs time, and processes that tests start
# must sum in the same order to come to the same last digit.
os.environ["OMP_NUM_THREADS"] = "1"

import hypothesis
import pytest

from tests.browser import CHROMIUM, QUIET

# The same examples everywhere, and no test asserts a time.
hypothesis.settings.register_profile("vlkit", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("vlkit")


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of published data that no one in this project wrote; a test that asks for it has its marker."""
    named = os.environ.get("VLKIT_REFERENCE")
    if not named:
        pytest.skip("set VLKIT_REFERENCE to the folder of published data")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"VLKIT_REFERENCE is {named}, and there is no such folder; correct it, or unset it to skip")
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a screen."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: it is in the dev extra"
    )
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small BERT of drawn weights, with a tokenizer of its own that puts [CLS] and [SEP] round a text."""
    import tokenizers
    import transformers
    from tokenizers import models, normalizers, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("bert") / "model"
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *["the", "a", "of", "is", "what", "color", "picture", "red", "blue", "green", "yellow", "and", "now"],
    ]
    shape = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    transformers.BertModel(shape).save_pretrained(folder)
    made = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.save(str(folder / "tokenizer.json"))
    return folder
