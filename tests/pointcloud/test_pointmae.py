"""Point-MAE's models: what doesn't change an answer, and official files."""

from pathlib import Path

import pytest
import torch

import isoform
from checks import assert_same_bits
from isoform.core.config.schema import BackboneConfig
from isoform.core.errors import UserError
from isoform.pointcloud.config import TRUNK, PartConfig, PatchConfig, PointcloudApp, PointHeadConfig
from isoform.pointcloud.pointmae.model import PartSegmenter, PointClassifier, PointMae, build_model
from isoform.pointcloud.pointmae.patches import cut_into_patches
from isoform.pointcloud.pointmae.pretrained import (
    export_official,
    import_checkpoint,
    initial_weights,
)
from isoform.pointcloud.pointmae.tokeniser import PatchEncoder

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"


def app(**tables):
    small = {**TRUNK, "dim": 22, "depth": 3, "heads": 2, "mlp_dim": 31}
    made = {
        "tokeniser": PatchConfig(groups=13, group_size=7, widths=(5, 11, 17), position_hidden=19),
        "backbone": BackboneConfig.model_validate(small),
        "decoder": BackboneConfig.model_validate({**small, "depth": 1}),
        "head": PointHeadConfig(outputs=3, widths=(23, 29)),
        "parts": PartConfig(blocks=(0, 2), propagation=(37, 41), shapes=5, shape_dim=43),
    }
    return PointcloudApp(domain="pointcloud", app="small", **{**made, **tables})


def cloud(count, seed=0, batch=2):
    return torch.randn(batch, count, 3, generator=torch.Generator().manual_seed(seed))


def built(kind, config):
    torch.manual_seed(0)
    return kind(config).eval()


def test_the_halved_layer_is_the_whole_one():
    torch.manual_seed(0)
    encoder = PatchEncoder(3, (5, 11, 17), 22).eval().double()
    for norm in (encoder.norm1, encoder.norm2):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 1.5)
    patches = torch.randn(2, 13, 7, 3, dtype=torch.float64)
    x = encoder.point2(
        encoder.norm1(encoder.point(patches).flatten(0, 2)).relu().unflatten(0, (2, 13, 7))
    )
    x = torch.cat([x.amax(2, keepdim=True).expand_as(x), x], 3)
    x = encoder.norm2(encoder.mixed(x).flatten(0, 2)).relu()
    want = encoder.out(x).unflatten(0, (2, 13, 7)).amax(2)
    torch.testing.assert_close(encoder(patches), want)


def test_a_cloud_does_not_depend_on_its_batch_or_padding():
    model = built(PointClassifier, app())
    one, two = cloud(53, 1, 1), cloud(29, 2, 1)
    padded = torch.cat([one, torch.nn.functional.pad(two, (0, 0, 0, 24), value=7.0)])
    both = model(padded, torch.tensor([53, 29]))
    torch.testing.assert_close(both, torch.cat([model(one), model(two)]), atol=1e-6, rtol=1e-5)


def test_small_clouds_have_fewer_patches():
    model = built(PointClassifier, app())
    few = cloud(5, 3, 1)
    patches = cut_into_patches(few, model.tokeniser.config)
    assert patches.valid.sum() == 5 and torch.isfinite(model(few)).all()
    longer = torch.cat([few, few[:, :1].expand(-1, 40, -1)], 1)
    torch.testing.assert_close(model(few), model(longer, torch.tensor([5])), atol=1e-6, rtol=1e-5)


def test_points_have_no_order_beyond_the_first():
    model = built(PointClassifier, app())
    points = cloud(53)
    order = torch.cat([torch.tensor([0]), 1 + torch.randperm(52)])
    torch.testing.assert_close(model(points[:, order]), model(points), atol=1e-5, rtol=1e-4)


def test_features_behind_coordinates_are_not_centred():
    config = PatchConfig(groups=5, group_size=3, channels=5)
    points = torch.cat([cloud(31), torch.full((2, 31, 2), 3.0)], 2)
    patches = cut_into_patches(points, config)
    assert (patches.points[..., 3:] == 3).all() and (patches.points[:, :, 0, :3] == 0).all()


def test_masked_patches_do_not_reach_the_encoder():
    model = built(PointMae, app())
    points = cloud(97)
    patches = cut_into_patches(points, model.tokeniser.config)
    mask = torch.zeros(2, 13, dtype=torch.bool)
    mask[0, [1, 4, 5, 9, 11]] = True
    mask[1, [0, 2, 3, 7, 12]] = True
    made = model.draw_masked(patches, mask)
    assert made.points.shape == made.target.shape == (2, 5, 7, 3) and made.visible.shape[1] == 8
    torch.testing.assert_close(made.target[0, 1], patches.points[0, 4])
    patches.points[mask] += 5  # what is hidden may be anything
    again = model.draw_masked(patches, mask)
    assert torch.equal(again.visible, made.visible) and torch.equal(again.points, made.points)
    with pytest.raises(ValueError, match="as many patches"):
        mask[0, 0] = True
        model.draw_masked(patches, mask)


def test_parts_read_the_class_of_the_cloud():
    model = built(PartSegmenter, app())
    points, shape = cloud(61), torch.eye(5)[[1, 3]]
    found = model(points, shape)
    assert found.shape == (2, 61, 3)
    assert not torch.allclose(found, model(points, shape.flip(0)))
    with pytest.raises(ValueError, match="class beside"):
        model(points)


@pytest.mark.parametrize("kind", ["pretrain", "classify", "segment"])
def test_official_files_come_back(kind, tmp_path):
    config = app(model={"kind": kind}, parts=PartConfig(blocks=(0, 1, 2), shapes=16))
    config = PointcloudApp.model_validate(config.model_dump())
    model = build_model(config)
    official = export_official(config, model.state_dict())
    file = tmp_path / "official.pth"
    torch.save({"base_model": {f"module.{n}": t for n, t in official.items()}, "epoch": 3}, file)
    found = import_checkpoint(file, None, config)
    assert_same_bits(found.weights, model.state_dict())
    assert_same_bits(export_official(found.config, found.weights, found.state), official)
    assert found.config.backbone.heads == 2 and found.config.model.kind == kind


def test_what_contradicts_the_tensors_is_refused(tmp_path):
    config = app()
    file = tmp_path / "official.pth"
    torch.save({"base_model": export_official(config, build_model(config).state_dict())}, file)
    with pytest.raises(UserError, match=r"backbone\.depth"):
        import_checkpoint(file, None, app(backbone=BackboneConfig(depth=4, heads=2)))
    with pytest.raises(UserError, match=r"tokeniser\.channels is 4"):
        export_official(app(tokeniser=PatchConfig(channels=4)), {})
    torch.save({"base_model": {"a.b": torch.zeros(3)}}, file)
    with pytest.raises(UserError, match="no layout of Point-MAE"):
        import_checkpoint(file)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the stored official files are not here")
@pytest.mark.parametrize(
    "name", ["pointmae/classifier", "pointmae/pretrain", "pointmae/partseg", "pointbert/classifier"]
)
def test_files_of_official_trainers_are_read(name):
    found = import_checkpoint(GOLDEN / f"{name}_official.pth")
    build_model(found.config).load_state_dict(dict(found.weights))


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the stored official files are not here")
def test_pointberts_pretraining_starts_its_classifier():
    file = GOLDEN / "pointbert" / "pretrain_official.pth"
    with pytest.raises(UserError, match="--init"):
        import_checkpoint(file)
    start = initial_weights(file, app())
    fine = import_checkpoint(GOLDEN / "pointbert" / "classifier_official.pth")
    trunk = {name: t for name, t in fine.weights.items() if not name.startswith("head.")}
    assert_same_bits(start.weights, trunk)


def test_models_have_names():
    model = isoform.create("pointcloud/pointmae", outputs=5, groups=16)
    assert sum(p.numel() for p in model.parameters()) == 22_099_752 - 35 * 257
    trunk = isoform.create("pointcloud/pointmae-tiny", features_only=True)
    assert trunk(cloud(61)).shape == (2, 32)
    with pytest.raises(UserError, match="no point cloud model"):
        isoform.create("pointcloud/pointnet")
