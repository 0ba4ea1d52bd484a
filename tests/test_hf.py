"""Networks, tokenizers and texts in files of Hugging Face, and weights of torchvision with one head more."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from sacrebleu import corpus_bleu
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as tokenizer_models
from transformers import T5Config, T5ForConditionalGeneration

from benchmark import cli
from benchmark.errors import UserError
from benchmark.planning.grid import load_problem
from benchmark.problems import models
from benchmark.problems.examples import open_examples
from benchmark.problems.hugging_face import hash_of
from benchmark.problems.numbers import english, german
from benchmark.problems.sizes import prunable_weights
from benchmark.pruning.prunable import prunable
from benchmark.results.store import Store
from benchmark.sweep import app
from benchmark.training import given

PREFIX = "translate English to German: "
PREFIXES = (PREFIX, "translate German to English: ")
SENTENCES = [
    {"de": f"{' '.join(german(n)).capitalize()}.", "en": f"{' '.join(english(n)).capitalize()}."}
    for n in (7, 12, 38, 64, 250)
]
SIZES = {"width": 16, "depth": 1, "classes": 120}
RECIPE = {"sequence_length": 32, "training_share": 1, "batch_size": 20, "learning_rate": 0.01}
SCRATCH, _ = load_problem("wmt16", {**RECIPE, **SIZES})
SETTINGS = [text for key, value in RECIPE.items() for text in ("--set", f"{key}={value}")]
ONE_CELL = ("table1", "--problem", "wmt16", "--seeds", "1", "--only", "schedule=LLR,sparsity=0.7,budget=11.11%")


def write(folder: Path, part: str, pairs: list[dict]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(2):  # in two files, as Hugging Face's are
        table = pa.table({"translation": pairs[k::2]})
        parquet.write_table(table, folder / f"{part}-0000{k}-of-00002.parquet")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as wmt/wmt16, without a tokenizer."""
    folder = tmp_path_factory.mktemp("wmt16")
    write(folder / "de-en", "train", SENTENCES * 40)
    write(folder / "de-en", "validation", SENTENCES * 2)
    write(folder / "de-en", "test", SENTENCES[1:])
    return folder


def write_tokenizer(path: Path, size: int = 110, special: tuple[str, ...] = ("<pad>", "</s>", "<unk>")) -> None:
    tokenizer = Tokenizer(tokenizer_models.Unigram())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=list(special), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([*PREFIXES * 20, *(text for pair in SENTENCES for text in pair.values())], trainer)
    tokenizer.save(str(path))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 of transformers that was taught the sentences by transformers, as `save_pretrained` leaves it."""
    folder = tmp_path_factory.mktemp("t5")
    write_tokenizer(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    source, target = (
        torch.tensor([row.ids for row in tokenizer.encode_batch([f"{text}</s>" for text in side])])
        for side in ([PREFIX + pair["en"] for pair in SENTENCES], [pair["de"] for pair in SENTENCES])
    )
    torch.manual_seed(0)
    network = T5ForConditionalGeneration(
        T5Config(
            vocab_size=120, d_model=16, d_kv=4, d_ff=64, num_layers=1, num_heads=4, decoder_start_token_id=0,
            dropout_rate=0.0,
        )
    )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        labels = target.masked_fill(target == 0, -100)
        network(input_ids=source, attention_mask=(source != 0).long(), labels=labels).loss.backward()
        optimizer.step()
    network.save_pretrained(folder)
    return folder


def sweep(results: Path, *more: object) -> int:
    options = ("--tracking", "off", "--workers", "1", "--results", str(results))
    return cli.main(app, [*ONE_CELL, *SETTINGS, *options, *map(str, more)])


def refused(capsys: pytest.CaptureFixture[str], results: Path, *more: object) -> str:
    """The one line of a sweep that writes nothing."""
    assert sweep(results, *more) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not results.exists() or not (results / "records").exists()
    return error


@pytest.mark.long
def test_the_dense_network_is_the_one_in_the_folder_and_its_bleu_that_of_transformers(
    texts: Path, model: Path, tmp_path: Path
):
    assert sweep(tmp_path / "runs", "--data", texts, "--weights", model) == 0
    store = Store(tmp_path / "runs")
    dense, cell = sorted((store.read(name) for name in store.ids()), key=lambda record: len(record["id"]))
    network = T5ForConditionalGeneration.from_pretrained(model).eval()
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    sources = [tokenizer.encode(f"{PREFIX}{pair['en']}</s>").ids for pair in SENTENCES[1:]]
    outputs = [network.generate(torch.tensor([row]), max_new_tokens=32, do_sample=False)[0].tolist() for row in sources]
    score = corpus_bleu([tokenizer.decode(row) for row in outputs], [[pair["de"] for pair in SENTENCES[1:]]]).score
    assert score > 20
    assert dense["bleu"]["final"]["test"] == pytest.approx(score)
    assert dense["iterations"]["total"] == 0
    recipe = dense["cell"]["problem"]
    assert {key: recipe[key] for key in SIZES} == SIZES  # from config.json
    assert recipe["tokenizer"] == hash_of(model / "tokenizer.json")
    assert cell["sparsity"]["prunable"] == pytest.approx(0.7, abs=1e-3)
    assert cell["iterations"]["total"] > 0


def test_the_network_computes_what_transformers_computes(model: Path):
    problem = SCRATCH.model_copy(update={"weights": "0"})
    network = models.build(problem, 0).eval()
    path = given.find(str(model))
    given.fit(network, given._decode(path.read_bytes(), str(path)), "")
    reference = T5ForConditionalGeneration.from_pretrained(model).eval()
    source, target = torch.tensor([[5, 9, 7, 1], [8, 1, 0, 0]]), torch.tensor([[0, 4, 6], [0, 9, 0]])
    logits = reference(input_ids=source, attention_mask=(source != 0).long(), decoder_input_ids=target).logits
    torch.testing.assert_close(network(source, target), logits)


def test_attention_and_linear_layers_are_pruned_and_nothing_that_is_shared_or_a_bias_of_positions():
    weights = prunable(models.build(SCRATCH, 0))
    assert {name.split(".")[-2] for name in weights} == {"q", "k", "v", "o", "wi", "wo"}
    assert sum(weight.numel() for weight in weights.values()) == prunable_weights(SCRATCH)
    small, _ = load_problem("wmt16")
    assert prunable_weights(small) == 44_040_192  # of T5-small's 60.5 million, of which 16.4 are embeddings


def test_without_weights_the_tokenizer_is_the_one_beside_the_texts(texts: Path, model: Path, tmp_path: Path, capsys):
    assert "no tokenizer.json or spiece.model" in refused(
        capsys, tmp_path / "runs", "--data", texts, *(f"--set={key}={value}" for key, value in SIZES.items())
    )
    folder = shutil.copytree(texts, tmp_path / "texts")
    shutil.copy(model / "tokenizer.json", folder)
    examples = open_examples(SCRATCH, folder)
    (source, target), expected = examples.training.inputs, examples.training.targets
    assert (target[:, 0] == 0).all()
    assert (target[:, 1:] == expected[:, :-1]).all()
    assert ((source == 1).sum(1) == 1).all()
    assert len(examples.validation) == 10
    row = expected[0][: list(expected[0]).index(1)]
    assert examples.vocabulary.text(row) in [pair["de"] for pair in SENTENCES]


def test_the_other_direction_and_lines_of_json(texts: Path, model: Path, tmp_path: Path):
    for part, pairs in (("train", SENTENCES * 40), ("test", SENTENCES[1:])):
        (tmp_path / f"{part}.json").write_text("".join(json.dumps({"translation": pair}) + "\n" for pair in pairs))
    shutil.copy(model / "tokenizer.json", tmp_path)
    forth = open_examples(SCRATCH, tmp_path)
    back = open_examples(SCRATCH.model_copy(update={"dataset": "wmt16_de_en"}), tmp_path)
    assert forth.validation is None
    text = back.vocabulary.text
    assert text(back.test.inputs[0][0]).startswith("translate German to English: Zwölf.")
    assert text(back.test.targets[0]).startswith("Twelve.")
    assert text(forth.test.targets[0]).startswith("Zwölf.")


def test_pairs_without_text_and_long_ones_are_left_out_and_counted(model: Path, tmp_path: Path):
    pairs = [*SENTENCES, {"de": "", "en": "Nothing."}, {"de": None, "en": "Nothing."}, {"de": "Ein " * 40, "en": "A."}]
    write(tmp_path, "train", pairs)
    write(tmp_path, "test", [*SENTENCES, {"de": "Ein " * 40, "en": "A."}])
    shutil.copy(model / "tokenizer.json", tmp_path)
    examples = open_examples(SCRATCH, tmp_path)
    assert len(examples.training) == 5
    assert examples.remarks == (
        "2 training pairs without text are left out",
        "1 training pairs of more than 32 symbols are left out",
    )
    assert len(examples.test) == 6
    assert (examples.test.targets == 1).sum(1).tolist() == [1] * 6  # what is cut ends, too


def test_another_tokenizer_is_other_data_and_another_cell(texts: Path, model: Path, tmp_path: Path):
    other = shutil.copytree(model, tmp_path / "other")
    write_tokenizer(other / "tokenizer.json", 90)
    fields = [given.beside(folder) for folder in (model, other)]
    assert fields[0]["tokenizer"] != fields[1]["tokenizer"]
    identities = {SCRATCH.model_copy(update=each).identity for each in fields}
    assert len(identities) == 2
    one = open_examples(SCRATCH, shutil.copytree(texts, other, dirs_exist_ok=True))
    renamed = replace(one, vocabulary=replace(one.vocabulary, identity="0"))
    assert one.fingerprint != renamed.fingerprint


def test_a_sentencepiece_model_is_a_tokenizer_too(texts: Path, tmp_path: Path):
    from sentencepiece import SentencePieceTrainer

    lines = [*PREFIXES * 20, *(text for pair in SENTENCES for text in pair.values())]
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(tmp_path / "spiece"), vocab_size=60, pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1, minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    examples = open_examples(SCRATCH, shutil.copytree(texts, tmp_path, dirs_exist_ok=True))
    row = [*examples.test.targets[0], 119]
    assert examples.vocabulary.text([symbol for symbol in row if symbol != 1]).startswith("Zwölf.")


def test_reading_texts_imports_no_torch(texts: Path, model: Path, tmp_path: Path):
    folder = shutil.copytree(texts, tmp_path / "texts")
    shutil.copy(model / "tokenizer.json", folder)
    program = (
        "import sys; from pathlib import Path; from benchmark.cells import Problem; "
        "from benchmark.problems.examples import open_examples; "
        f"open_examples(Problem.model_validate_json({SCRATCH.model_dump_json()!r}), Path({str(folder)!r})); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


# What does not fit


def _config(**changes):
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def _tensor(name: str, tensor: torch.Tensor | None):
    def change(folder: Path) -> None:
        state = {**load_file(folder / "model.safetensors"), name: tensor}
        save_file({key: value for key, value in state.items() if value is not None}, folder / "model.safetensors")

    return change


FIRST = "encoder.block.0.layer.0.SelfAttention.q.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors or pytorch_model.bin in this"),
        (lambda folder: (folder / "config.json").unlink(), "config.json: No such file or directory"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: it is no JSON"),
        (_config(model_type="bert"), "config.json: model_type 'bert'; accepted: t5"),
        (_config(feed_forward_proj="gated-gelu"), "feed_forward_proj 'gated-gelu'; accepted: relu"),
        (_config(d_ff=8), "config.json: d_ff 8; accepted: 64"),
        (_config(d_model="16"), "config.json: d_model '16'; accepted: a number"),
        (_tensor(FIRST, torch.zeros(3, 3)), f"tensor {FIRST} has shape (3, 3), in the network (16, 16)"),
        (_tensor(FIRST, None), f"tensor {FIRST} of shape (16, 16) is missing"),
        (_tensor("lm_head.weight", torch.zeros(120, 16)), "tensors shared.weight and lm_head.weight differ"),
        (_config(vocab_size=100), "tensor shared.weight has shape (120, 16), in the network (100, 16)"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizers cannot read it"),
        (lambda folder: write_tokenizer(folder / "tokenizer.json", 110, ("<unk>", "</s>", "<pad>")), "are 2 and 1"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json or spiece.model"),
    ],
)
def test_a_model_folder_that_does_not_fit_is_one_line(texts, model: Path, change, words: str, tmp_path: Path, capsys):
    folder = shutil.copytree(model, tmp_path / "t5")
    change(folder)
    assert words in refused(capsys, tmp_path / "runs", "--data", texts, "--weights", folder)


def test_a_tokenizer_with_more_symbols_than_embeddings_is_one_line(texts: Path, tmp_path: Path):
    folder = shutil.copytree(texts, tmp_path / "texts")
    write_tokenizer(folder / "tokenizer.json")
    with pytest.raises(UserError, match=r"symbols are more than the 50 \(classes\) that problem wmt16 has embeddings"):
        open_examples(SCRATCH.model_copy(update={"classes": 50}), folder)


@pytest.mark.parametrize(
    ("part", "table", "words"),
    [
        (None, None, "no train-*.parquet or train.json is there, nor in its folder de-en/"),
        ("train", {"text": ["a"]}, "its columns are text (string); accepted: translation with texts de, en"),
        ("train", {"translation": [{"en": "a", "fr": "b"}]}, "accepted: translation with texts de, en"),
        ("train", {"translation": [{"en": "a", "de": 3}]}, "accepted: translation with texts de, en"),
        ("train", {"translation": [{"en": "", "de": "a"}]}, "no training pair has text of up to 32 symbols"),
        ("test", {"translation": [{"en": "a", "de": "b"}, {"en": "a", "de": " "}]}, "pair 2 has no text in 'de'"),
        ("test", b"PAR1", "it cannot be read"),
    ],
)
def test_texts_that_do_not_fit_are_one_line(texts: Path, model: Path, part, table, words: str, tmp_path: Path, capsys):
    folder = tmp_path / "texts"
    if part is None:
        folder.mkdir()
    else:
        shutil.copytree(texts / "de-en", folder)
        for file in folder.glob(f"{part}-*"):
            file.unlink()
        file = folder / f"{part}-00000-of-00001.parquet"
        file.write_bytes(table) if isinstance(table, bytes) else parquet.write_table(pa.table(table), file)
    assert words in refused(capsys, tmp_path / "runs", "--data", folder, "--weights", model)


def test_without_the_library_one_line_names_the_extra(texts: Path, monkeypatch, tmp_path: Path, capsys):
    find = importlib_find_spec()
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "transformers" else find(name))
    line = refused(capsys, tmp_path / "runs", "--data", texts)
    assert "model t5 needs transformers, which is not installed: pip install -e '.[hf]'" in line


def importlib_find_spec():
    import importlib.util

    return importlib.util.find_spec


# torchvision's weights


@pytest.fixture
def coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """DeepLabv3 weights with an auxiliary head, where torchvision would have put those that it fetches."""
    from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights, deeplabv3_resnet50

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    network = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    file = tmp_path / "hub" / "checkpoints" / DeepLabV3_ResNet50_Weights.DEFAULT.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save(network.state_dict(), file)
    return file


def test_an_auxiliary_head_is_left_out_and_said(coco: Path):
    problem, _ = load_problem("voc")
    path = given.find("torchvision:DeepLabV3_ResNet50_Weights.DEFAULT")
    assert path == coco
    state = torch.load(coco)
    remark = given.check(coco.read_bytes(), path, problem)
    surplus = [name for name in state if name.startswith("aux_classifier.")]
    assert remark.endswith(
        f"{len(surplus)} tensors that this network does not have are left out, the first: {surplus[0]}"
    )
    network = models.build(problem, 0)
    given.fit(network, state, "")
    assert torch.equal(network.state_dict()["classifier.4.bias"], state["classifier.4.bias"])
    with pytest.raises(UserError, match=r"tensor classifier\.9\.bias is not in the network \(1 such tensors\)"):
        given.fit(network, {**state, "classifier.9.bias": torch.zeros(1)}, "")


def test_narrow_integers_take_less_memory_and_give_the_same_batches(texts: Path, model: Path, tmp_path: Path):
    from benchmark.problems.arrays import ArrayData

    folder = shutil.copytree(texts, tmp_path / "texts")
    shutil.copy(model / "tokenizer.json", folder)
    examples = open_examples(SCRATCH, folder)
    assert examples.training.targets.dtype == np.int16
    (source, target), targets = next(ArrayData(SCRATCH, torch.device("cpu"), examples=examples).training_batches(0, 0))
    assert {source.dtype, target.dtype, targets.dtype} == {torch.int64}
