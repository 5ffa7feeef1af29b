"""Labelers of other libraries, by tiny random models: the same probabilities as those give."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from labeling import Labeler, LabelerCard, export_onnx, load_labeler
from labeling.adapters.foreign import require
from labeling.adapters.hf import _LogOdds

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
open_clip = pytest.importorskip("open_clip")
transformers = pytest.importorskip("transformers")
helper, TensorProto = onnx.helper, onnx.TensorProto

NAMES = ["bald", "hat", "smile"]
PREPROCESSING = {"image_size": 16, "mean": [0.5] * 3, "std": [0.25] * 3}


def _images(n: int = 5, size: int = 16) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (n, 3, size, size), dtype=np.uint8))


def _transformer(folder: Path, problem: str | None = None, **preprocessing: Any) -> Any:
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=16,
        patch_size=8,
        id2label=dict(enumerate(NAMES)),
        problem_type=problem,
        initializer_range=1.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.ViTForImageClassification(config).eval()
        nn.init.normal_(model.classifier.weight)
    model.save_pretrained(folder)
    settings = {"size": {"height": 16, "width": 16}} | preprocessing
    transformers.ViTImageProcessor(**settings).save_pretrained(folder)
    return model


@pytest.mark.parametrize("problem", [None, "single_label_classification"])
def test_exclusive_classes_are_those_of_transformers(tmp_path: Path, problem: str | None) -> None:
    model = _transformer(tmp_path, problem)
    labeler = load_labeler(tmp_path)
    with torch.no_grad():
        expected = model((_images().float() / 255 - 0.5) / 0.5).logits.softmax(1)
    assert labeler.attributes == tuple(NAMES)
    torch.testing.assert_close(labeler(_images()), expected)


def test_code_that_comes_with_a_model_is_neither_run_nor_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked about, it would be run by whoever answers yes."""
    monkeypatch.setattr("builtins.input", lambda question: "yes")
    _transformer(tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    config = json.loads((tmp_path / "config.json").read_text())
    config["model_type"] = "evil"
    config["auto_map"] = {"AutoConfig": "evil.E", "AutoModelForImageClassification": "evil.M"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="is not an image classifier that transformers can load"):
        load_labeler(tmp_path)
    assert not (tmp_path / "executed").exists()


class _Logits(nn.Module):
    """A model whose logits are the images given."""

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=pixel_values)


class _Largest(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_many_exclusive_classes_need_no_more_room_than_their_logits() -> None:
    logits = torch.randn(4, 1000)
    with _Largest() as largest:
        _LogOdds(_Logits(), exclusive=True)(logits)
    assert largest.elements <= logits.numel()


@pytest.mark.parametrize("spread", [1.0, 30.0, 1000.0])
def test_log_odds_of_exclusive_classes_and_their_gradient_by_definition(spread: float) -> None:
    """Of classes as good as certain too, where 1 - p is nothing in float32."""
    logits = (spread * torch.randn(6, 5, generator=torch.Generator().manual_seed(0))).double()
    logits[0] = 2.0  # no likeliest class
    got, asked = logits.float().requires_grad_(), logits.requires_grad_()
    own = torch.eye(5, dtype=torch.bool)
    others = asked[:, None].expand(-1, 5, -1).masked_fill(own, -torch.inf).logsumexp(2)
    weights = torch.linspace(-1, 2, 5)
    ((asked - others) * weights).sum().backward()
    log_odds = _LogOdds(_Logits(), exclusive=True)(got)
    (log_odds * weights).sum().backward()
    torch.testing.assert_close(log_odds.double(), asked - others, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.grad.double(), asked.grad, rtol=1e-4, atol=1e-4)


def test_multi_label_probabilities_are_apart(tmp_path: Path) -> None:
    model = _transformer(tmp_path, "multi_label_classification", image_mean=[0.1, 0.2, 0.3])
    with torch.no_grad():
        x = (_images().float() / 255 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / 0.5
        expected = model(x).logits.sigmoid()
    torch.testing.assert_close(load_labeler(tmp_path)(_images()), expected)


def test_a_processor_that_neither_rescales_nor_normalises_is_followed(tmp_path: Path) -> None:
    model = _transformer(tmp_path, do_rescale=False, do_normalize=False)
    with torch.no_grad():
        expected = model(_images().float()).logits.softmax(1)
    torch.testing.assert_close(load_labeler(tmp_path)(_images()), expected, rtol=1e-3, atol=1e-4)


def test_resizing_is_the_processors(tmp_path: Path) -> None:
    _transformer(tmp_path, resample=2)
    large = _images(size=48)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    expected = processor(list(large), return_tensors="pt")["pixel_values"]
    labeler = load_labeler(tmp_path)
    assert isinstance(labeler, Labeler)
    got = labeler.preprocess(large / 255)
    torch.testing.assert_close(got, expected, rtol=0, atol=1.1 / 127)  # theirs rounds to uint8


def test_a_folder_transformers_cannot_load_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nothing of the kind"}')
    with pytest.raises(ValueError, match="not an image classifier that transformers") as caught:
        load_labeler(tmp_path)
    assert "\n" not in str(caught.value)


def _clip(folder: Path) -> tuple[str, Any]:
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 64, "patch_size": 8},
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 49408,
            "width": 8,
            "heads": 1,
            "layers": 1,
        },
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(**config).eval()
        nn.init.constant_(model.logit_scale, 1.0)  # so that probabilities differ
    folder.mkdir()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    content = {"model_cfg": config, "preprocess_cfg": {"mean": [0.4] * 3, "std": [0.3] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return f"local-dir:{folder}", model


def test_zero_shot_is_the_softmax_over_two_prompts(tmp_path: Path) -> None:
    name, model = _clip(tmp_path / "model")
    prompts = {"bald": {"positive": ["a bald man"], "negative": ["a man with hair"]}}
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps({"model": name, "prompts": prompts, "thresholds": {"bald": 0.4}}))
    labeler = load_labeler(file)
    tokens = open_clip.get_tokenizer(name)(["a bald man", "a man with hair"])
    with torch.no_grad():
        x = (_images().float() / 255 - 0.4) / 0.3
        texts, scale = model.encode_text(tokens, normalize=True), model.logit_scale.exp()
        expected = (scale * model.encode_image(x, normalize=True) @ texts.T).softmax(1)[:, :1]
    torch.testing.assert_close(labeler(_images()), expected)
    assert labeler.thresholds == {"bald": 0.4}
    assert expected.std() > 1e-3


def test_prompts_of_a_side_are_averaged(tmp_path: Path) -> None:
    name, _ = _clip(tmp_path / "model")
    sides = {"positive": ["a cap", "a hat", "a hood"], "negative": ["hair"]}
    probabilities = []
    for i, positive in enumerate([sides["positive"], sides["positive"][::-1], ["a cap"]]):
        file = tmp_path / f"{i}.yaml"
        prompts = {"hat": sides | {"positive": positive}}
        file.write_text(json.dumps({"model": name, "prompts": prompts}))
        probabilities.append(load_labeler(file)(_images()))
    torch.testing.assert_close(probabilities[0], probabilities[1])
    assert not torch.allclose(probabilities[0], probabilities[2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "is not YAML or JSON"),
        ("- a", "zero-shot prompts have model, prompts"),
        ("{model: a, prompts: {}, prompt: 1}", "zero-shot prompts have model, prompts"),
        (
            "{model: a, prompts: {hat: {positive: [x]}}}",
            "they have to be positive and negative, each a list",
        ),
        ("{model: a, prompts: {hat: {positive: x, negative: [y]}}}", "prompts of 'hat'"),
        ("{model: a, prompts: [hat]}", "prompts of 'prompts'"),
        (
            "{model: nobodys, prompts: {hat: {positive: [x], negative: [y]}}}",
            "open_clip cannot load 'nobodys'",
        ),
    ],
)
def test_wrong_prompts_are_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "p.yaml").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_labeler(tmp_path / "p.yaml")
    assert "\n" not in str(caught.value)


def _graph(path: Path, *, layout: str = "NCHW", batch: int | str = "n", **card: Any) -> None:
    """Writes a graph that gives the mean of each colour channel."""
    shape = [batch, 3, 16, 16] if layout == "NCHW" else [batch, 16, 16, 3]
    axes = [2, 3] if layout == "NCHW" else [1, 2]
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)
    graph = helper.make_graph(
        [node],
        "means",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        [helper.make_tensor("axes", TensorProto.INT64, [2], axes)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    content = {"attributes": NAMES, "activation": "sigmoid", "layout": layout, **PREPROCESSING}
    path.with_suffix(".json").write_text(json.dumps(content | card))


def _means() -> torch.Tensor:
    return ((_images().float() / 255 - 0.5) / 0.25).mean((2, 3))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", ["n", 2])
def test_a_graph_of_any_layout_and_batch(tmp_path: Path, layout: str, batch: int | str) -> None:
    _graph(tmp_path / "a.onnx", layout=layout, batch=batch)
    labeler = load_labeler(tmp_path / "a.onnx")
    torch.testing.assert_close(labeler(_images()), _means().sigmoid())
    assert labeler(_images()[:0]).shape == (0, 3)
    assert not isinstance(labeler, Labeler)


def test_a_graphs_activation_is_its_cards(tmp_path: Path) -> None:
    _graph(tmp_path / "a.onnx", activation="softmax")
    torch.testing.assert_close(load_labeler(tmp_path / "a.onnx")(_images()), _means().softmax(1))
    _graph(tmp_path / "b.onnx", activation="none", mean=[0] * 3, std=[1] * 3)
    expected = (_images().float() / 255).mean((2, 3))
    torch.testing.assert_close(load_labeler(tmp_path / "b.onnx")(_images()), expected)


def test_a_graph_that_does_not_fit_its_card_is_refused(tmp_path: Path) -> None:
    _graph(tmp_path / "a.onnx", attributes=["one"])
    with pytest.raises(ValueError, match=r"gives \(3,\) an image; its card has 1 attributes"):
        load_labeler(tmp_path / "a.onnx")(_images())
    _graph(tmp_path / "a.onnx", activation="relu")
    with pytest.raises(
        ValueError, match=r"a.json: activation is 'relu'; it has to be none or sigmoid or softmax"
    ):
        load_labeler(tmp_path / "a.onnx")
    _graph(tmp_path / "a.onnx")
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match="is not an ONNX graph"):
        load_labeler(tmp_path / "a.onnx")
    (tmp_path / "a.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"a.json is missing; an ONNX labeler"):
        load_labeler(tmp_path / "a.onnx")


def test_a_library_that_is_not_there_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"pip install '\.\[onnx\]'"):
        require("onnxruntime", extra="onnx")


def _small_labeler() -> Labeler:
    card = LabelerCard(
        architecture="small",
        attributes=["a", "b"],
        image_size=12,
        mean=[0.4, 0.5, 0.6],
        std=[0.2, 0.25, 0.3],
        thresholds={"a": 0.3},
        source="test",
        licence="MIT",
        command="",
        interpolation="bilinear",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
        return Labeler(card, nn.Sequential(*layers, nn.Linear(400, 2)))


def test_exported_gives_the_same_probabilities(tmp_path: Path) -> None:
    labeler = _small_labeler()
    exported = load_labeler(export_onnx(labeler, tmp_path / "new" / "a.onnx"))
    for count, channels, size in ((1, 3, 12), (5, 3, 30), (2, 1, 9)):
        images = torch.randint(256, (count, channels, size, size), dtype=torch.uint8)
        torch.testing.assert_close(exported(images), labeler(images), rtol=0, atol=1e-5)
    assert exported.thresholds == labeler.thresholds
    assert exported.card.source == "test"
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a.json", "a.onnx"]
    with pytest.raises(ValueError, match="has no torch network"):
        export_onnx(exported, tmp_path / "b.onnx")
    with pytest.raises(ValueError, match="exists and is not overwritten"):
        export_onnx(labeler, tmp_path / "new" / "a.onnx")


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"does not end in \.onnx"):
        export_onnx(_small_labeler(), tmp_path / "a.pt")
