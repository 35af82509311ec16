import copy
import gzip
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as LibraryTokenizer
from tokenizers import models, pre_tokenizers, processors, trainers

from vlkit.errors import UserError
from vlkit.text import SPECIALS, Tokenizer, read_vectors

TEXTS = ["Walk past the sofa.", "walk past the table, then the sofa!", "stop after 3.5 metres"]
TOKENIZER = Tokenizer.train(TEXTS)


def words(text: str) -> list[str]:
    tokenizer = Tokenizer.train([text])
    return [tokenizer.words[i] for i in tokenizer.encode(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Walk  past\tthe\nSOFA.", ["walk", "past", "the", "sofa", "."]),
        ("3.5 m, the 2nd door", ["3.5", "m", ",", "the", "2nd", "door"]),
        ("it's left/right...", ["it", "'", "s", "left", "/", "right", ".", ".", "."]),
        ("ﬁnd the cafe\u0301", ["find", "the", "café"]),  # a ligature and a combining accent
        ("a\u200bb\x00c", ["a", "b", "c"]),  # invisible characters separate words
        ("向左走", ["向左走"]),
        ("बाएँ मुड़ें", ["बाएँ", "मुड़ें"]),
        ("", []),
    ],
)
def test_a_text_is_split_into_lower_case_words_and_single_signs(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_specials_have_the_ids_0_to_3() -> None:
    assert TOKENIZER.words[:4] == SPECIALS
    assert (TOKENIZER.pad, TOKENIZER.unknown, TOKENIZER.start, TOKENIZER.end) == (0, 1, 2, 3)
    assert TOKENIZER.size == len(TOKENIZER.words) == len(set(TOKENIZER.words))


def test_a_special_typed_in_a_text_is_plain_characters() -> None:
    tokenizer = Tokenizer.train(["< end > pad unk"])
    ids = tokenizer.encode("<end> <pad> <unk>")
    assert min(ids) > 3
    assert [tokenizer.words[i] for i in ids] == ["<", "end", ">", "<", "pad", ">", "<", "unk", ">"]


def test_a_word_that_was_not_trained_is_unknown() -> None:
    assert TOKENIZER.encode("walk piano") == [TOKENIZER.words.index("walk"), TOKENIZER.unknown]


def test_each_id_knows_what_was_typed() -> None:
    tokenizer = Tokenizer.train(["walk to the sofa"])
    text = "Walk to <b> the ottoman"
    found = tokenizer.pieces(text)
    assert len(found) == len(tokenizer.encode(text))
    assert found == [
        *(("Walk", True), ("to", True), ("<", False), ("b", False), (">", False), ("the", True), ("ottoman", False)),
    ]


def test_the_most_frequent_words_are_kept() -> None:
    assert Tokenizer.train(["b b b c c a"], vocabulary=6).words == (*SPECIALS, "b", "c")
    assert Tokenizer.train(["b b b c c a"], minimum=3).words == (*SPECIALS, "b")


def test_training_does_not_depend_on_the_order_of_the_texts() -> None:
    assert Tokenizer.train(TEXTS[::-1]).to_json() == TOKENIZER.to_json()


@pytest.mark.parametrize(("vocabulary", "minimum", "said"), [(4, 1, "vocabulary of 4"), (None, 0, "minimum of 0")])
def test_a_vocabulary_without_words_is_refused(vocabulary: int | None, minimum: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Tokenizer.train(TEXTS, vocabulary=vocabulary, minimum=minimum)


def test_a_batch_is_padded_cut_and_masked() -> None:
    ids, mask = TOKENIZER.batch(["walk past", "walk past the sofa ."], max_words=3)
    walk, past, the = TOKENIZER.encode("walk past the")
    assert ids.tolist() == [[walk, past, TOKENIZER.pad], [walk, past, the]]
    assert mask.tolist() == [[True, True, False], [True, True, True]]
    assert (ids.dtype, mask.dtype) == (torch.int64, torch.bool)


@pytest.mark.parametrize("text", ["", "   ", "\x00"])
def test_a_text_without_words_becomes_one_unknown_word(text: str) -> None:
    ids, mask = TOKENIZER.batch([text, "walk past"], max_words=5)
    assert ids[0].tolist() == [TOKENIZER.unknown, TOKENIZER.pad]
    assert mask[0].tolist() == [True, False]


def test_a_batch_of_no_texts_keeps_one_column() -> None:
    ids, mask = TOKENIZER.batch([], max_words=5)
    assert ids.shape == mask.shape == (0, 1)


def test_max_words_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_words is 0"):
        TOKENIZER.batch(["walk"], max_words=0)


def test_ten_thousand_words_are_cut() -> None:
    ids, _ = TOKENIZER.batch(["walk " * 10_000], max_words=7)
    assert ids.shape == (1, 7)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=4))
def test_any_text_at_all_gives_a_batch_whose_mask_counts_its_words(texts: list[str]) -> None:
    ids, mask = TOKENIZER.batch(texts, max_words=8)
    for i, text in enumerate(texts):
        expected = TOKENIZER.encode(text)[:8] or [TOKENIZER.unknown]
        assert ids[i][mask[i]].tolist() == expected
        assert (ids[i][~mask[i]] == TOKENIZER.pad).all()


def test_half_a_surrogate_pair_is_read_as_a_sign() -> None:
    assert len(TOKENIZER.encode(json.loads('"walk \\ud800 past"'))) == 3


def test_decode_stops_at_end_and_leaves_padding_and_start_out() -> None:
    walk, past = TOKENIZER.encode("walk past")
    assert TOKENIZER.decode([2, walk, past, 3, walk, 0]) == "walk past"
    assert TOKENIZER.decode([walk, 1, past, 0, 0]) == "walk <unk> past"
    assert TOKENIZER.decode(torch.tensor([walk])) == "walk"
    assert TOKENIZER.decode([]) == ""


def test_a_saved_tokenizer_reloads_to_the_same_bytes(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "first.json")
    loaded = Tokenizer.load(tmp_path / "first.json")
    loaded.save(tmp_path / "second.json")
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()
    assert loaded.words == TOKENIZER.words
    assert loaded.encode("walk <end> 3.5 piano") == TOKENIZER.encode("walk <end> 3.5 piano")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["first.json", "second.json"]


def test_a_copied_tokenizer_still_reads_specials_as_characters() -> None:
    assert copy.copy(TOKENIZER).encode("<end>") == TOKENIZER.encode("<end>")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b"\xff\xfe", TOKENIZER.to_json()[:-40].encode()])
def test_a_damaged_tokenizer_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "words.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match="words.json is not a tokenizer, or is damaged"):
        Tokenizer.load(path)


def test_a_missing_tokenizer_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the tokenizer .*none.json"):
        Tokenizer.load(tmp_path / "none.json")


def test_a_tokenizer_without_specials_is_refused(tmp_path: Path) -> None:
    LibraryTokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "bare.json"))
    with pytest.raises(UserError, match="none of the special words"):
        Tokenizer.load(tmp_path / "bare.json")


def test_a_hugging_face_tokenizer_file_is_read_with_its_own_specials(tmp_path: Path) -> None:
    library = LibraryTokenizer(models.WordPiece(unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    library.train_from_iterator(TEXTS, trainers.WordPieceTrainer(special_tokens=special, show_progress=False))
    library.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    library.enable_padding(length=64, pad_id=0, pad_token="[PAD]")
    library.enable_truncation(4)
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    assert (tokenizer.pad, tokenizer.unknown, tokenizer.start, tokenizer.end) == (0, 1, 2, 3)
    ids, mask = tokenizer.batch(["walk", "walk past the sofa"], max_words=64)
    assert ids[0, 0] == 2
    assert ids[0][mask[0]][-1] == 3
    short, _ = tokenizer.batch(["walk past the sofa"], max_words=3)
    assert [short.shape[1], int(short[0, 0]), int(short[0, -1])] == [3, 2, 3]
    assert ids.shape[1] < 64  # the file's own padding is not applied
    assert tokenizer.decode(ids[1][mask[1]]).split()[0] == "walk"


# ---- word vectors


def written(path: Path, text: str) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.txt.gz"])
@pytest.mark.parametrize("header", ["", "3 2\n"])
def test_vectors_are_read_for_the_words_that_the_file_has(tmp_path: Path, name: str, header: str) -> None:
    path = written(tmp_path / name, header + "the 1 2\nsofa 0.5 -1e-1\nthe 9 9\ncafé 3 4\n")
    vectors, found = read_vectors(path, ["<pad>", "the", "sofa", "café"], dim=2)
    assert found == 3
    torch.testing.assert_close(vectors[1:], torch.tensor([[1, 2], [0.5, -0.1], [3, 4]]))
    torch.testing.assert_close(vectors, read_vectors(path, ["<pad>", "the", "sofa", "café"], dim=2)[0])
    assert not torch.equal(vectors[0], read_vectors(path, ["<pad>"], dim=2, seed=1)[0][0])


def test_a_word_with_spaces_in_the_file_is_passed_over(tmp_path: Path) -> None:
    path = written(tmp_path / "vectors.txt", "the 1 2\nsofa 3 4\nat name@domain 5 6\ntable 7 8\n")
    vectors, found = read_vectors(path, ["the", "table"], dim=2)
    assert (found, vectors.tolist()) == (2, [[1, 2], [7, 8]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("the 1 2 3\n", "line 1 has 3 numbers, but the word vectors here have 2"),
        ("the 1 2\nsofa 1\n", "line 2 has 1 numbers"),
        ("the 1 2\na 1 2\nb 1 2\nsofa 1 2 3\n", "line 4 has 3 numbers"),
        ("the 1 2\n\nsofa 1 2\n", "line 2 has 0 numbers"),
        ("the 1 x\n", "line 1 is not a word and numbers"),
        ("the 1 nan\n", "line 1 has a number that is not finite"),
    ],
)
def test_a_wrong_line_of_vectors_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_vectors(written(tmp_path / "vectors.txt", text), ["the"], dim=2)


def test_a_cut_gzip_file_of_vectors_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "vectors.txt.gz", "".join(f"word{i} {i} 2\n" for i in range(5000)))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match="cannot read word vectors .* after line"):
        read_vectors(path, ["the"], dim=2)


def test_a_missing_file_of_vectors_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="word vectors .*none.txt does not exist; name a text file in GloVe's form"):
        read_vectors(tmp_path / "none.txt", ["the"], dim=2)
    with pytest.raises(UserError, match="is a folder; name a text file"):
        read_vectors(tmp_path, ["the"], dim=2)
