"""Every family of the zoo through the same calls, each from a tiny checkpoint that its own library wrote."""

import copy
import json
import shutil
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import nn

from tlcourse.backbones import attach_head, load_embedded
from tlcourse.caching import extract_features
from tlcourse.checkpoints import read_checkpoint, write_checkpoint
from tlcourse.data import load_task, make_task
from tlcourse.evaluation import evaluate
from tlcourse.masked import Masked
from tlcourse.plans import describe_plan
from tlcourse.probes import fit_probe
from tlcourse.strategies import full_fine_tune, last_stages
from tlcourse.training import train
from tlcourse.zoo import ZOO, load_backbone

pytestmark = pytest.mark.usefixtures("one_thread")
SPECIAL = ["[PAD]", "[BOS]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = ["rates", "rise", "goal", "bank", "team", "coach", "debt"]
VOCABULARY = [*SPECIAL, *WORDS, "[EOS]"]
END = len(VOCABULARY) - 1
TEXTS = ["rates rise", "goal", "the bank team rise goal rates bank team"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
TEXT = {"vocab_size": END + 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": END, "max_position_embeddings": 24}
RELATIVE = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 4,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
    "type_vocab_size": 0,
}
TOWER = {"text_config": {**TEXT, **SIZES}, "vision_config": {**SIZES, "image_size": 32, "patch_size": 16}}
CONFIGURATIONS = {  # how transformers is asked for a network: class, configuration class, options
    "bert": ("BertForMaskedLM", "BertConfig", {**TEXT, **SIZES}),
    "roberta": ("RobertaForMaskedLM", "RobertaConfig", {**TEXT, **SIZES}),
    "deberta": ("DebertaV2ForMaskedLM", "DebertaV2Config", {**TEXT, **SIZES, **RELATIVE}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {**TEXT, "n_positions": 24, "n_embd": 16, "n_layer": 2, "n_head": 2}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", {**TEXT, **SIZES, "num_key_value_heads": 1}),
    "clip": ("CLIPModel", "CLIPConfig", {**TOWER, "projection_dim": 12}),
    "blip": ("BlipForImageTextRetrieval", "BlipConfig", {**TOWER, "image_text_hidden_size": 12}),
}
TIMM = {"timm-resnet": "test_resnet", "timm-efficientnet": "test_efficientnet", "timm-vit": "vit_tiny_patch16_224"}
TORCHVISION = {"resnet": "resnet18", "efficientnet": "efficientnet_b0", "vit": "vit_b_16"}
LAYERS = ["embeddings", "layer1", "layer2"]
STAGES = {  # what each is to be, stage by stage, and how many features it gives
    "bert": ([*LAYERS, "pool"], 16),
    "roberta": ([*LAYERS, "pool"], 16),
    "deberta": (["shared", *LAYERS, "pool"], 16),
    "gpt2": ([*LAYERS, "norm", "pool"], 16),
    "llama": ([*LAYERS, "norm", "pool"], 16),
    "clip-vision": ([*LAYERS, "pool", "projection"], 12),
    "clip-text": ([*LAYERS, "norm", "pool", "projection"], 12),
    "blip-vision": ([*LAYERS, "pool", "projection"], 12),
    "blip-text": ([*LAYERS, "pool", "projection"], 12),
    "timm-resnet": (["stem", "layer1", "layer2", "layer3", "layer4", "neck"], 96),
    "timm-efficientnet": (["stem", *(f"block{n}" for n in range(1, 6)), "neck"], 256),
    "timm-vit": (["embeddings", "block1", "block2", "neck"], 16),
    "torchvision-resnet": (["stem", "layer1", "layer2", "layer3", "layer4", "neck"], 512),
    "torchvision-efficientnet": (["stem", *(f"block{n}" for n in range(1, 8)), "neck"], 1280),
    "torchvision-vit": (["embeddings", "block1", "block2", "neck"], 16),
}
SLOW = ("torchvision-resnet", "torchvision-efficientnet")
LEFT_OUT = {  # tensors of the original that are in no stage, by how their names start
    "bert": ("cls.",),
    "roberta": ("lm_head.",),
    "deberta": ("cls.",),
    "gpt2": (),  # its head is its embedding
    "llama": ("lm_head.",),
    "clip-vision": ("text_", "logit_scale"),
    "clip-text": ("vision_", "visual_", "logit_scale"),
    "blip-vision": ("text_", "itm_head."),
    "blip-text": ("vision_", "itm_head.", "crossattention"),
}
# Those of full size take the longest.
TRAINED = [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in STAGES]
PADDINGS = [(0, 0), (5, 0), (5, 7)]  # how much more of it, and of which token
COUNTED = {  # the configurations of what is published, where they are not the defaults of their classes
    "bert-base-uncased": ("AutoModel", "BertConfig", {}),
    "roberta-base": (
        "AutoModel",
        "RobertaConfig",
        {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1},
    ),
    "microsoft/deberta-v3-base": (
        "AutoModel",
        "DebertaV2Config",
        {**RELATIVE, "vocab_size": 128100, "position_buckets": 256, "num_hidden_layers": 12, "hidden_size": 768}
        | {"intermediate_size": 3072, "num_attention_heads": 12},
    ),
    "gpt2": ("AutoModel", "GPT2Config", {}),
    "smollm2-135m": (
        "AutoModel",
        "LlamaConfig",
        {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
        | {"num_attention_heads": 9, "num_key_value_heads": 3},
    ),
    "clip-vision": ("CLIPModel", "CLIPConfig", {}),
    "clip-text": ("CLIPModel", "CLIPConfig", {}),
    "blip-vision": (
        "BlipForImageTextRetrieval",
        "BlipConfig",
        {"vision_config": {"image_size": 384}, "text_config": {"vocab_size": 30524}},
    ),
}
COUNTED["blip-text"] = COUNTED["blip-vision"]


def shaken(network, seed=0):
    """Scales, shifts and tokens that differ from those of a fresh network, which do nothing or are zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in {id(value): value for value in network.parameters()}.values():  # a tied tensor once
            if value.dim() == 1 or value.abs().max() < 1e-3:
                value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return network.eval()


def measured(network, seed=0):
    """Shaken, and with the statistics of what goes through it: those of a fresh network let nothing through."""
    norms = [part for part in shaken(network, seed).modules() if isinstance(part, nn.BatchNorm2d)]
    images = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    for part in norms:
        part.train()
        part.momentum = None
    with torch.no_grad():
        network(images)
    for part in norms:
        part.momentum = 0.1
    return network.eval()


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Case -> (what load_backbone takes, the network as its own library reads it back)."""
    root, made = tmp_path_factory.mktemp("zoo"), {}

    def transformer(case):
        import transformers
        from tokenizers import Tokenizer, models, pre_tokenizers, processors

        family, _, tower = case.partition("-")
        kind, configuration, options = CONFIGURATIONS[family]
        folder = root / family
        if not folder.exists():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                network = getattr(transformers, kind)(getattr(transformers, configuration)(**options))
            shaken(network).save_pretrained(folder)
            words = Tokenizer(models.WordLevel({word: row for row, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
            words.pre_tokenizer = pre_tokenizers.Whitespace()
            if family == "clip":
                words.post_processor = processors.TemplateProcessing(single="$A [EOS]", special_tokens=[("[EOS]", END)])
            pad = {} if family in ("gpt2", "llama") else {"pad_token": "[PAD]"}
            side = "left" if family == "llama" else "right"
            transformers.PreTrainedTokenizerFast(
                tokenizer_object=words, unk_token="[UNK]", eos_token="[EOS]", padding_side=side, **pad
            ).save_pretrained(folder)
            if family in ("clip", "blip"):
                processor = transformers.CLIPImageProcessor(image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4])
                processor.save_pretrained(folder)
        return {"name_or_folder": folder, "tower": tower or None}, getattr(transformers, kind).from_pretrained(folder)

    def timm_network(case):
        import timm

        options = {"img_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2} if case == "timm-vit" else {}
        network = measured(timm.create_model(TIMM[case], num_classes=3, **options))
        timm.models.save_for_hf(network, root / case, model_args=options, safe_serialization=True)
        return {"name_or_folder": root / case}, network

    def torchvision_network(case):
        import torchvision

        name = TORCHVISION[case.partition("-")[2]]
        url = torchvision.models.get_model_weights(name)[ZOO[name].revision].url
        network = measured(torchvision.models.get_model(name, weights=None))
        torch.save(network.state_dict(), root / "checkpoints" / url.rpartition("/")[2])
        return {"name_or_folder": name}, network

    patch = pytest.MonkeyPatch()
    (root / "checkpoints").mkdir()
    patch.setattr(torch.hub, "get_dir", lambda: str(root))  # what torchvision has fetched before is here
    tiny_vit(patch)

    def load(case):
        if case not in made:
            make = {"timm": timm_network, "torchvision": torchvision_network}.get(case.partition("-")[0], transformer)
            arguments, original = make(case)
            made[case] = (arguments, load_backbone(**arguments), original.eval())
        return made[case]

    yield load
    patch.undo()


def tiny_vit(patch):
    """The published one has 86 million weights, and every line of its code is the same for these few."""
    import torchvision

    def vit_b_16(*, weights: torchvision.models.ViT_B_16_Weights | None = None):
        network = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 24)
        if weights is not None:
            network.load_state_dict(weights.get_state_dict(check_hash=True))
        return network

    patch.setattr(torchvision.models, "vit_b_16", vit_b_16)
    patch.setitem(torchvision.models._api.BUILTIN_MODELS, "vit_b_16", vit_b_16)


def reads_text(backbone):
    return backbone.preprocessing.modality == "text"


def samples(backbone, count=3, seed=1):
    """Raw inputs of a backbone: texts of mixed length, or noise."""
    if reads_text(backbone):
        rng = np.random.default_rng(seed)
        texts = [" ".join(rng.choice(WORDS, size=1 + 5 * row % 13)) for row in range(count)]
        return backbone.preprocessing.tokenize(texts, max_length=16)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)


def padded(tokens, more, filler):
    mask = nn.functional.pad(tokens.mask, (0, more))
    return Masked(nn.functional.pad(tokens.values, (0, more)).where(mask, filler), mask)


def a_task(backbone, count=24):
    reads = backbone.preprocessing
    return make_task(
        "noise",
        samples(backbone, count),
        torch.arange(count) % 2,
        class_names=("a", "b"),
        labels=12,
        preprocessing_name=reads.name if reads_text(backbone) else None,
    )


def original_features(case, network, state):
    """What the network's own library says."""
    family, _, part = case.partition("-")
    if family in ("timm", "torchvision"):
        network = copy.deepcopy(network)
        for head in ("fc", "head", "heads", "classifier"):
            if hasattr(network, head):
                setattr(network, head, nn.Identity())
        return network(state)
    if part == "vision":
        if family == "clip":
            return network.get_image_features(state).pooler_output
        return network.vision_proj(network.vision_model(state).last_hidden_state[:, 0])
    tokens = {"input_ids": state.values, "attention_mask": state.mask.long()}
    if family == "clip":
        # CLIP looks for the token that ends a text, and may not find another one in the padding.
        tokens["input_ids"] = state.values.where(state.mask, 0)
        return network.get_text_features(**tokens).pooler_output
    if family == "blip":
        return network.text_proj(network.text_encoder(**tokens).last_hidden_state[:, 0])
    hidden = network.base_model(**tokens).last_hidden_state
    rows = [row[mask] for row, mask in zip(hidden, state.mask, strict=True)]
    return torch.stack([row[-1] if family in ("gpt2", "llama") else row.mean(0) for row in rows])


@pytest.mark.parametrize("case", STAGES)
def test_stages_are_named_in_order_and_hold_each_tensor_once(case, zoo):
    _, backbone, original = zoo(case)
    names, features = STAGES[case]
    assert (list(backbone.stages), backbone.feature_dim) == (names, features)
    assert not any(part.training for part in backbone.modules())
    owned = [id(value) for _, value in backbone.named_parameters(remove_duplicate=False)]
    assert len(owned) == len(set(owned))
    assert {value.dtype for value in backbone.parameters()} == {torch.float32}
    left_out = LEFT_OUT.get(case, ("fc.", "head.", "heads.", "classifier."))
    kept = [
        value
        for name, value in original.named_parameters()
        if not name.startswith(left_out) and not ("crossattention" in left_out and ".crossattention." in name)
    ]
    assert sum(value.numel() for value in backbone.parameters()) == sum(value.numel() for value in kept)


@pytest.mark.parametrize("case", STAGES)
def test_stages_compose_to_the_original(case, zoo):
    _, backbone, original = zoo(case)
    inputs = samples(backbone)
    with torch.no_grad():
        alone = backbone(inputs)
        assert alone.shape == (3, STAGES[case][1])
        assert (alone[0] - alone[1]).abs().max() > 1e-4
        if not reads_text(backbone):
            assert (alone - original_features(case, original, backbone.preprocessing(inputs))).abs().max() < 1e-6
            return
        assert len(set(inputs.mask.sum(1).tolist())) == 3  # mixed lengths
        for more, filler in PADDINGS:
            state = padded(inputs, more, filler)
            assert (backbone(state) - original_features(case, original, state)).abs().max() < 1e-6
            assert (backbone(state) - alone).abs().max() < 1e-6


@pytest.mark.parametrize("case", STAGES)
def test_a_sample_gives_the_same_alone_and_among_others(case, zoo):
    _, backbone, _ = zoo(case)
    inputs = samples(backbone)
    with torch.no_grad():
        together = backbone(inputs)
        # Convolutions of another batch size add up in another order.
        tolerance = 1e-5 * max(1, together.abs().max())
        for row in range(3):
            assert (backbone(inputs[torch.tensor([row])]) - together[row]).abs().max() < tolerance


@pytest.mark.parametrize("case", TRAINED)
def test_a_probe_and_two_fine_tunings(case, zoo):
    _, backbone, _ = zoo(case)
    task = a_task(backbone)
    features = extract_features(backbone, task.train.inputs)
    probe = fit_probe(features, task.train.labels, strengths=(1.0,))
    assert probe.probabilities(features).shape == (12, 2)
    for plan in (lambda model: last_stages(model, 2, lr=1e-2), lambda model: full_fine_tune(model, lr=1e-2)):
        model = attach_head(backbone, task)
        before = {name: copy.deepcopy(stage.state_dict()) for name, stage in model.stages.items()}
        chosen = plan(model)
        history = train(model, task, chosen, epochs=1, batch_size=4, device="cpu", progress=False)  # three steps
        assert all(np.isfinite(history.train_loss))
        assert np.isfinite(evaluate(model, task.test)["log_loss"])
        for row in describe_plan(model, chosen):
            after = model.stages[row["stage"]].state_dict()
            same = [torch.equal(after[key], value) for key, value in before[row["stage"]].items()]
            assert not all(same) if row["trainable"] else all(same), row["stage"]
        # What a plan opens is in use: every tensor has a gradient.
        assert not [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]


@pytest.mark.parametrize("case", TRAINED)
def test_training_on_the_kept_prefix_gives_the_same_losses(case, zoo):
    _, backbone, _ = zoo(case)
    task = a_task(backbone)
    histories = {}
    for cache in (True, False):
        model = attach_head(backbone, task)
        plan = last_stages(model, 1, lr=1e-3, head_lr=1e-2)
        histories[cache] = train(model, task, plan, epochs=2, batch_size=4, cache=cache, device="cpu", progress=False)
    opened = [name for name, stage in backbone.stages.items() if any(True for _ in stage.parameters())][-1]
    assert (histories[True].cached_stages, histories[False].cached_stages) == (list(backbone.stages).index(opened), 0)
    assert histories[True].train_loss == pytest.approx(histories[False].train_loss, abs=1e-5, rel=1e-5)
    assert len({round(loss, 4) for loss in histories[True].train_loss}) == 2  # and it did learn


@pytest.mark.parametrize("case", TRAINED)
def test_a_model_comes_back_from_the_disk(case, zoo, tmp_path):
    from safetensors.torch import load_file, save_file

    arguments, backbone, _ = zoo(case)
    task = a_task(backbone)
    model = attach_head(backbone, task)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    write_checkpoint(tmp_path / "model.pt", {"run": {"case": case}, "model": state})
    save_file(state, tmp_path / "model.safetensors")
    fresh = load_backbone(**arguments, pretrained=False, seed=5)
    assert (fresh.pretrained, backbone.pretrained) == (False, True)
    again = load_backbone(**arguments, pretrained=False, seed=5).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in fresh.state_dict().items())
    stored = {
        "checkpoint": read_checkpoint(tmp_path / "model.pt", {"case": case})["model"],
        "safetensors": load_file(tmp_path / "model.safetensors"),
    }
    with torch.no_grad():
        wanted = model(task.val.inputs)
        for how, values in stored.items():
            other = attach_head(fresh, task, seed=3)
            assert not torch.equal(other(task.val.inputs), wanted)
            other.load_state_dict(values)
            assert torch.equal(other(task.val.inputs), wanted), how


@pytest.mark.parametrize(
    ("name", "options"), [("efficientnet_lite0", {}), ("minilm", {"pooling": "max"}), ("minilm", {"pooling": "cls"})]
)
def test_what_comes_with_the_course_is_loaded_by_the_same_call(name, options):
    ours, theirs = load_backbone(name, **options), load_embedded(name, **options)
    assert (ours.name, ours.pretrained, ours.training) == (theirs.name, True, False)
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())
    inputs = samples(ours) if name == "efficientnet_lite0" else ours.preprocessing.tokenize(TEXTS, max_length=16)
    with torch.no_grad():
        assert torch.equal(ours(inputs), theirs(inputs))


@pytest.mark.parametrize("case", ["bert", "gpt2", "clip-text"])
def test_a_task_of_texts_is_tokenised_for_it(case, zoo, monkeypatch):
    """And another time from the cache, which tells tokenizers apart by their files."""
    _, backbone, _ = zoo(case)
    task = load_task("sentiment", labels=30, backbone=backbone, max_length=8)
    monkeypatch.setattr(type(backbone.preprocessing), "tokenize", None)  # what is kept needs no tokenizer
    again = load_task("sentiment", labels=30, backbone=backbone, max_length=8)
    monkeypatch.undo()
    assert task.preprocessing_name == backbone.preprocessing.name
    assert int(task.train.inputs.values.max()) < len(VOCABULARY)
    assert torch.equal(task.train.inputs.values, again.train.inputs.values)
    ours = load_task("sentiment", labels=30, max_length=8)
    assert torch.equal(ours.train.labels, task.train.labels)
    assert not torch.equal(ours.train.inputs.values, task.train.inputs.values)
    assert attach_head(backbone, task)(task.train.inputs[:2]).shape == (2, 3)
    with pytest.raises(ValueError, match="was tokenised for 'minilm'.*make the task with backbone="):
        attach_head(backbone, ours)


def test_a_tokenizer_that_is_a_sentencepiece_model_is_read(zoo, tmp_path):
    """As DeBERTa-v3 is published: spm.model, and no tokenizer.json. Its tokens are those of SentencePiece itself."""
    import sentencepiece

    shutil.copytree(zoo("deberta")[0]["name_or_folder"], tmp_path / "deberta")
    (tmp_path / "deberta" / "tokenizer.json").unlink()
    (tmp_path / "deberta" / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')
    pieces = {"pad": "[PAD]", "bos": "[CLS]", "eos": "[SEP]", "unk": "[UNK]"}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["rates rise", "the goal of the team", "a debt of the bank"] * 20),
        model_prefix=str(tmp_path / "deberta" / "spm"),
        vocab_size=24,
        minloglevel=2,
        **{f"{kind}_id": row for row, kind in enumerate(pieces)},
        **{f"{kind}_piece": piece for kind, piece in pieces.items()},
    )
    backbone = load_backbone(tmp_path / "deberta")
    tokens = backbone.preprocessing.tokenize(["rates rise", "goal"], max_length=20)
    wanted = sentencepiece.SentencePieceProcessor(str(tmp_path / "deberta" / "spm.model")).encode(
        ["rates rise", "goal"]
    )
    assert [row[mask].tolist() for row, mask in zip(tokens.values, tokens.mask, strict=True)] == [
        [1, *ids, 2] for ids in wanted
    ]
    assert len({*wanted[0], *wanted[1]}) > 5


def test_weights_in_half_precision_come_in_full(zoo, tmp_path):
    """SmolLM2 is published in bfloat16, in which no CPU trains well; transformers would keep it."""
    import transformers

    arguments, backbone, original = zoo("llama")
    shutil.copytree(arguments["name_or_folder"], tmp_path / "half")
    copy.deepcopy(original).to(torch.bfloat16).save_pretrained(tmp_path / "half")
    assert transformers.AutoModel.from_pretrained(tmp_path / "half").dtype == torch.bfloat16
    for pretrained in (True, False):
        found = load_backbone(tmp_path / "half", pretrained=pretrained)
        assert {value.dtype for value in found.parameters()} == {torch.float32}
    half = load_backbone(tmp_path / "half").state_dict()
    assert all(torch.equal(half[key], value.bfloat16().float()) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("case", ["clip-vision", "timm-vit", "torchvision-resnet"])
def test_images_are_prepared_as_in_the_pre_training(case, zoo):
    mean, std = {
        "clip-vision": ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4]),
        "timm-vit": ([0.5] * 3, [0.5] * 3),
        "torchvision-resnet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    }[case]
    _, backbone, _ = zoo(case)
    images = samples(backbone)
    wanted = (images / 255 - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    assert (backbone.preprocessing(images) - wanted).abs().max() < 1e-6


@pytest.mark.parametrize("case", ["gpt2", "llama", "clip-text"])
def test_texts_are_padded_on_the_right_whatever_the_tokenizer_does(case, zoo):
    _, backbone, _ = zoo(case)
    tokens = backbone.preprocessing.tokenize([*TEXTS, "rise " * 30], max_length=10)
    lengths = [2, 1, 8, 10] if case != "clip-text" else [3, 2, 9, 10]
    assert tokens.mask.sum(1).tolist() == lengths
    assert torch.equal(tokens.mask, torch.arange(10) < torch.tensor(lengths)[:, None])
    first = VOCABULARY.index("rates"), VOCABULARY.index("goal"), VOCABULARY.index("[UNK]"), VOCABULARY.index("rise")
    assert tuple(tokens.values[:, 0].tolist()) == first


@pytest.mark.parametrize("bars", [True, False])
def test_loading_is_quiet_and_leaves_the_settings_of_transformers(bars, zoo, capfd):
    from transformers.utils import logging

    folder = zoo("bert")[0]["name_or_folder"]
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    capfd.readouterr()
    try:
        logging.set_verbosity_warning()
        (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
        load_backbone(folder)
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.WARNING, bars)
    finally:
        logging.set_verbosity(before[0])
        (logging.enable_progress_bar if before[1] else logging.disable_progress_bar)()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["resnet05", "GPT2", "bert_base_uncased", "clip", "a/folder"])
def test_a_wrong_name_lists_those_that_are_near(name):
    near = {"resnet05": "resnet50", "GPT2": "gpt2", "bert_base_uncased": "bert-base-uncased", "clip": "clip-text"}
    with pytest.raises(KeyError) as error:
        load_backbone(name)
    message = str(error.value)
    assert all(known in message for known in (repr(name), *ZOO))
    if name in near:
        hint = message.partition("near it: ")[2].partition("; all")[0]
        assert near[name] in hint.split(", ")
    else:
        assert "near it" not in message


def refused(zoo, tmp_path, kind):
    """(arguments, words) of what is refused."""
    bert, clip = zoo("bert")[0]["name_or_folder"], zoo("clip-text")[0]["name_or_folder"]
    if kind == "other":
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    return {
        "other": ({"name_or_folder": tmp_path}, "network of type 't5'; as stages there are: bert, .*gpt2.*clip"),
        "revision of a folder": ({"name_or_folder": bert, "revision": "abc"}, "'abc': .* not come from the hub"),
        "revision of torchvision": ({"name_or_folder": "resnet18", "revision": "abc"}, "not come from the hub"),
        "tower of one": ({"name_or_folder": bert, "tower": "text"}, "tower='text': .* holds one network, a bert"),
        "tower of a name": ({"name_or_folder": "gpt2", "tower": "text"}, "tower='text': 'gpt2' is one network"),
        "the other tower": (
            {"name_or_folder": "clip-text", "tower": "vision"},
            "tower='vision': 'clip-text' is the text tower",
        ),
        "no tower": ({"name_or_folder": clip}, "two networks: say tower='vision' or tower='text'"),
        "no such tower": ({"name_or_folder": clip, "tower": "audio"}, "tower='audio': it is one of vision, text"),
        "pooling of a tower": ({"name_or_folder": clip, "tower": "text", "pooling": "mean"}, "pools in its own way"),
        "pooling of images": ({"name_or_folder": "resnet18", "pooling": "mean"}, "pooling='mean': 'resnet18' reads im"),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["other", "revision of a folder", "revision of torchvision", "tower of one", "tower of a name", "the other tower"]
    + ["no tower", "no such tower", "pooling of a tower", "pooling of images"],
)
def test_what_has_no_meaning_is_refused(kind, zoo, tmp_path):
    arguments, words = refused(zoo, tmp_path, kind)
    with pytest.raises(ValueError, match=words):
        load_backbone(**arguments)


@pytest.mark.parametrize(
    ("name", "options", "weights"),
    [
        ("gpt2", {}, "model.safetensors"),
        ("clip-text", {}, "pytorch_model.bin"),
        ("gpt2", {"revision": "abc"}, "model.safetensors"),
        ("gpt2", {"pretrained": False}, None),
    ],
)
def test_a_name_is_fetched_at_its_commit_and_checked(name, options, weights, zoo, monkeypatch):
    calls, case = [], zoo(name)

    def fetch(source, **wanted):
        calls.append((source, wanted))
        return case[0]["name_or_folder"]

    monkeypatch.setattr("tlcourse.zoo.fetch_snapshot", fetch)
    backbone = load_backbone(name, **options)
    assert (backbone.name, backbone.preprocessing.name) == (name, name)
    assert list(backbone.stages) == STAGES[name][0]
    ((source, wanted),) = calls
    entry = ZOO[name]
    pinned = weights is not None and "revision" not in options
    assert source == entry.source
    assert wanted["revision"] == options.get("revision", entry.revision)
    assert wanted["sha256"] == ({weights: entry.sha256} if pinned else {})
    asked = {file for file in wanted["files"] if file.endswith((".bin", ".safetensors"))}
    assert asked == ({weights} if weights else set())
    assert {"config.json", "tokenizer.json", "preprocessor_config.json"} <= set(wanted["files"])


def test_what_comes_over_the_network_is_pinned():
    digits = set("0123456789abcdef")
    for name, entry in ZOO.items():
        if "/" in entry.source:
            assert len(entry.revision) == 40, name
            assert len(entry.sha256) == 64, name
            assert set(entry.revision + entry.sha256) <= digits, name


@pytest.mark.parametrize("name", ["gpt2", "timm/resnet18", "resnet18", "vit_b_16"])
def test_without_a_network_it_is_said_what_to_do(name, monkeypatch, tmp_path):
    from huggingface_hub import constants

    def unreachable(*arguments, **options):
        raise URLError("no route to host")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("tlcourse.downloads.urlopen", unreachable)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(RuntimeError, match=r"could not be fetched .*efficientnet_lite0 and minilm.*HTTPS_PROXY"):
        load_backbone(name)


def test_weights_of_another_network_are_refused(zoo, tmp_path):
    """Transformers would draw what is lacking, and go on."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "captions"
    shutil.copytree(zoo("blip-vision")[0]["name_or_folder"], folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith(("text_encoder", "text_proj"))}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    load_backbone(folder, tower="vision")  # all of it is there
    with pytest.raises(ValueError, match=r"no weights for \d+ tensors of its stages \(text_encoder.*another network"):
        load_backbone(folder, tower="text")


@pytest.mark.parametrize("case", ["gpt2", "timm-resnet"])
@pytest.mark.parametrize("damage", ["absent", "short", "no JSON"])
def test_a_folder_that_cannot_be_read_is_refused(damage, case, zoo, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(zoo(case)[0]["name_or_folder"], folder)
    path = folder / ("config.json" if damage == "no JSON" else "model.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    if damage == "absent":
        path.unlink()
    with pytest.raises(ValueError, match="damaged'.*(could not be read|no JSON)"):
        load_backbone(folder)


def test_a_folder_without_an_image_processor_is_refused(zoo, tmp_path):
    shutil.copytree(zoo("clip-vision")[0]["name_or_folder"], tmp_path / "clip")
    (tmp_path / "clip" / "preprocessor_config.json").unlink()
    load_backbone(tmp_path / "clip", tower="text")
    with pytest.raises(ValueError, match="does not say how its images were prepared"):
        load_backbone(tmp_path / "clip", tower="vision")


@pytest.mark.slow
def test_the_table_counts_what_the_published_configurations_have():
    """On the meta device, where no tensor has values; those that come with the course are counted as they are."""
    import timm
    import torchvision
    import transformers

    from tlcourse.zoo import _stages_of

    for name, entry in ZOO.items():
        if entry.revision is None:
            found = sum(value.numel() for value in load_backbone(name, pretrained=False).parameters())
        else:
            with torch.device("meta"):
                if entry.library == "transformers":
                    kind, configuration, options = COUNTED[name]
                    config = getattr(transformers, configuration)(**options)
                    make = getattr(transformers, kind)
                    network = make.from_config(config) if kind == "AutoModel" else make(config)
                elif entry.library == "timm":
                    network = timm.create_model(entry.source.removeprefix("timm/").partition(".")[0])
                else:
                    kind = "vision_transformer" if entry.family == "ViT" else entry.family.lower()
                    network = getattr(getattr(torchvision.models, kind), entry.source)()  # the untouched one
                stages, _ = _stages_of(network, tower=entry.tower, pooling=None)
                found = sum(value.numel() for value in nn.ModuleDict(stages).parameters())
        assert found == entry.parameters, name
