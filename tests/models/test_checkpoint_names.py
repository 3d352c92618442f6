import pytest

from fseed.models.checkpoint_names import Layout, Translation, expected_shapes, translate_name


def test_number_of_tensors_per_layer() -> None:
    one, three = expected_shapes(1), expected_shapes(3)
    # the files of the published 12-layer models: 4 global, 32 in layer 0, 33 in every other
    assert len(one) == 4 + 32
    assert len(three) == 4 + 32 + 2 * 33
    assert "blocks.0.ln0.bias" in three
    assert "blocks.1.ln0.bias" not in three
    assert "blocks.0.att.v1" not in three


@pytest.mark.parametrize(
    ("hugging_face", "official", "layout"),
    [
        ("model.embeddings.weight", "emb.weight", Layout.same),
        ("lm_head.weight", "head.weight", Layout.same),
        ("model.norm.bias", "ln_out.bias", Layout.same),
        ("model.layers.0.pre_norm.weight", "blocks.0.ln0.weight", Layout.same),
        ("model.layers.11.attn_norm.bias", "blocks.11.ln1.bias", Layout.same),
        ("model.layers.2.ffn_norm.bias", "blocks.2.ln2.bias", Layout.same),
        ("model.layers.2.attn.g_norm.weight", "blocks.2.att.ln_x.weight", Layout.same),
        ("model.layers.2.attn.r_proj.weight", "blocks.2.att.receptance.weight", Layout.same),
        ("model.layers.2.attn.w_lora.lora.0.weight", "blocks.2.att.w1", Layout.transposed),
        ("model.layers.2.attn.v_lora.lora.2.weight", "blocks.2.att.v2", Layout.transposed),
        ("model.layers.2.attn.a_lora.lora.2.bias", "blocks.2.att.a0", Layout.vector),
        ("model.layers.2.attn.k_a", "blocks.2.att.k_a", Layout.vector),
        ("model.layers.2.attn.r_k", "blocks.2.att.r_k", Layout.same),
        ("model.layers.2.attn.x_g", "blocks.2.att.x_g", Layout.vector),
        ("model.layers.2.ffn.x_k", "blocks.2.ffn.x_k", Layout.vector),
        ("model.layers.2.ffn.value.weight", "blocks.2.ffn.value.weight", Layout.same),
    ],
)
def test_translations(hugging_face: str, official: str, layout: Layout) -> None:
    assert translate_name(hugging_face) == [Translation(official, layout)]


@pytest.mark.parametrize(
    "name", ["emb.weight", "model.layers.x.attn.r_k", "model.layers.0.mlp.up.weight", ""]
)
def test_unknown_names_have_no_translation(name: str) -> None:
    assert translate_name(name) == []


def test_packed_token_shift_becomes_six() -> None:
    parts = translate_name("model.layers.4.attn.x_x")
    assert [part.name[-1] for part in parts] == list("rwkvag")
    assert [part.row for part in parts] == list(range(6))
    for packed in ((6, 48), (6, 1, 1, 48)):
        assert parts[0].shape(packed) == (1, 1, 48)


def test_shapes_that_do_not_fit_stay_visible() -> None:
    assert Translation("a", Layout.transposed).shape((3, 4)) == (4, 3)
    assert Translation("a", Layout.transposed).shape((3,)) == (3,)
    assert Translation("a", Layout.vector).shape((48,)) == (1, 1, 48)
    assert Translation("a", Layout.vector).shape((3, 4)) == (3, 4)
    assert Translation("a", Layout.packed_row).shape((5, 48)) == (5, 48)
