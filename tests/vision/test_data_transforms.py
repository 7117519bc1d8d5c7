"""Resizing, augmentation drawn from the given generator alone, and the batch that comes of it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from isoform.core.errors import UserError
from isoform.vision.config import AugmentConfig
from isoform.vision.data.dataset import preprocessing
from isoform.vision.data.randaugment import OPERATIONS, RandAugment
from isoform.vision.data.transforms import (
    Augment,
    Preprocess,
    jitter,
    random_area,
    resize,
    to_float,
)
from isoform.vision.data.warp import Warp

from .pictures import app, picture


def tensor(seed=0, height=23, width=31):
    return torch.from_numpy(np.array(picture(seed, height, width))).permute(2, 0, 1).contiguous()


def rng(*key):
    return np.random.default_rng(key)


FULL = AugmentConfig(
    crop="resized", flip=0.5, flip_vertical=0.3, degrees=20, translate=0.1, scale=(0.8, 1.2), shear=10, elastic=0.7,
    randaugment="rand-m9-n2-mstd0.5-inc1", jitter=0.4, hue=0.1, erase=0.7, erase_fill="noise",
)  # fmt: skip


def test_resize_agrees_with_pillow():
    image = picture(3, 37, 53)
    read = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    for name, method in (
        ("bilinear", Image.Resampling.BILINEAR),
        ("bicubic", Image.Resampling.BICUBIC),
    ):
        theirs = torch.from_numpy(np.array(image.resize((17, 11), method))).permute(2, 0, 1)
        assert (resize(read, (11, 17), name).int() - theirs.int()).abs().max() <= 1


@pytest.mark.parametrize("mode", ["crop", "squash", "pad", "border"])
@pytest.mark.parametrize("shape", [(23, 31), (1, 1), (2, 5000), (5000, 1), (19, 13), (7, 7)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_every_shape_fits(mode, shape, dtype):
    image = torch.randint(0, 255, (2, *shape)).to(dtype)
    out = Preprocess(size=(19, 13), channels=2, resize=mode, crop_pct=0.9, mean=(0.2, 0.3)).fit(
        image
    )
    assert out.shape == (2, 19, 13) and out.dtype == dtype


def test_crop_is_the_centre_and_pad_keeps_all():
    image = torch.zeros(1, 10, 30, dtype=torch.uint8)
    image[:, :, 10:20] = 255
    assert (
        Preprocess(size=(5, 5), channels=1, resize="crop", interpolation="bilinear")
        .fit(image)[0, 2, 1:4]
        .tolist()
        == [255] * 3
    )
    padded = Preprocess(size=(30, 30), channels=1, resize="pad", interpolation="bilinear").fit(
        image
    )
    assert (
        torch.equal(padded[:, 10:20], image) and padded[:, :10].sum() == padded[:, 20:].sum() == 0
    )


@pytest.mark.parametrize("size", [(24, 24), (19, 29)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875, 0.6])
@pytest.mark.parametrize("mode", ["crop", "squash", "border"])
def test_evaluation_as_timm_does_it(mode, crop_pct, size):
    timm = pytest.importorskip("timm.data")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    theirs = timm.create_transform(
        (3, *size), interpolation="bicubic", mean=mean, std=std, crop_pct=crop_pct,
        crop_mode="center" if mode == "crop" else mode,
    )  # fmt: skip
    ours = Preprocess(size=size, resize=mode, crop_pct=crop_pct, mean=mean, std=std)
    for shape in ((41, 67), (67, 41), (24, 24), (19, 29), (11, 13)):
        image = picture(5, *shape)
        read = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        assert (ours([read])[0] - theirs(image)).abs().max() < 1.5 / 255 / 0.224, shape


@pytest.mark.parametrize("mode", ["crop", "squash", "pad", "border"])
@pytest.mark.parametrize("shape", [(37, 29), (19, 23)])
def test_a_fitted_image_is_fitted_once(mode, shape):
    """Also where the image as read has the model's size: of it the centre is wanted, and not the centre's centre."""
    preprocess = Preprocess(size=(19, 23), resize=mode, crop_pct=0.75)
    image = tensor(3, *shape)
    once = preprocess.fit(image)
    assert torch.equal(preprocess.fit(once), once) and not torch.equal(
        preprocess.fit(once + 0), once
    )
    assert torch.equal(preprocess([once]), preprocess([image]))


def test_a_border_is_the_mean_colour_and_black_needs_none():
    image = torch.full((3, 10, 30), 200, dtype=torch.uint8)
    mean = (0.1, 0.5, 0.9)
    for mode, want in (("pad", (0, 0, 0)), ("border", (26, 128, 230))):
        fitted = Preprocess(size=(30, 30), resize=mode, mean=mean).fit(image)
        assert [tuple(fitted[:, row, 7].tolist()) for row in (0, 9, 20)] == [want] * 3
        assert (fitted[:, 10:20] == 200).all()
    with pytest.raises(UserError, match=r"data\.resize = border is a border of data.mean"):
        preprocessing(app(data={"resize": "border"}))


def test_preprocess_survives_json():
    p = Preprocess(
        size=(19, 13),
        channels=2,
        resize="pad",
        crop_pct=0.9,
        interpolation="bilinear",
        mean=(0.1, 0.2),
        std=(0.3, 0.4),
    )
    assert Preprocess.model_validate_json(p.model_dump_json()) == p


def draw_batch(augment, rows, epoch=3):
    samples = [augment.draw(row, tensor(row), rng(1, epoch, row)) for row in rows]
    return augment.finish(torch.stack([to_float(sample.image) for sample in samples]), samples)


def test_augmentation_is_a_function_of_seed_epoch_and_index_alone():
    augment = Augment(FULL, Preprocess(size=(11, 13)))
    torch.manual_seed(1)
    first = draw_batch(augment, [2, 5, 7])
    torch.manual_seed(99)
    np.random.seed(99)
    state = torch.get_rng_state()
    again = draw_batch(augment, [2, 5, 7])
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)  # and torch's own stream is left alone
    assert torch.equal(draw_batch(augment, [7, 2]), first[[2, 0]])  # whatever else is in the batch
    assert not torch.equal(draw_batch(augment, [2], epoch=4), first[:1])


def test_without_settings_nothing_changes():
    plain = Augment(AugmentConfig(), Preprocess(size=(23, 31), mean=(0.0,) * 3, std=(1.0,) * 3))
    assert torch.allclose(draw_batch(plain, [4])[0], tensor(4).float() / 255)


def warped(augment, image, key=0):
    warp = Warp(augment, tuple(image.shape[1:]))
    return warp(image[None].float(), torch.from_numpy(warp.draw(rng(key)))[None])[0]


def test_flips_are_mirror_images():
    image = torch.rand(2, 5, 7)
    assert torch.allclose(warped(AugmentConfig(flip=1.0), image), image.flip(2), atol=1e-5)
    assert torch.allclose(warped(AugmentConfig(flip_vertical=1.0), image), image.flip(1), atol=1e-5)


def test_pad_shifts_by_whole_pixels_and_fills():
    image = torch.rand(1, 11, 13)
    padded = F.pad(image, (2, 2, 2, 2), value=1.0)
    seen = set()
    for key in range(60):
        out = warped(AugmentConfig(crop="pad", pad=2, fill=1.0), image, key)
        shifts = [
            (dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)
            if torch.allclose(out, padded[:, 2 + dy : 13 + dy, 2 + dx : 15 + dx], atol=1e-5)
        ]  # fmt: skip
        assert len(shifts) == 1
        seen |= set(shifts)
    assert len(seen) > 15


def test_affine_agrees_with_torchvision():
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as V

    image = F.interpolate(torch.rand(1, 1, 5, 5), (33, 33), mode="bicubic")[0].clamp(0, 1)
    warp = Warp(AugmentConfig(degrees=25, scale=(0.8, 1.3)), (33, 33))
    params = warp.draw(rng(2))
    angle, zoom = (
        float(np.degrees(np.arctan2(params[1], params[0]))),
        float(1 / np.hypot(params[0], params[1])),
    )
    theirs = V.affine(image, angle, [0, 0], zoom, [0.0], interpolation=InterpolationMode.BILINEAR)
    ours = warp(image[None], torch.from_numpy(params)[None])[0]
    assert (ours - theirs)[:, 6:-6, 6:-6].abs().max() < 1e-3
    assert abs(angle) <= 25 and 0.8 <= zoom <= 1.3 and abs(angle) > 3


def test_elastic_moves_pixels_by_about_its_size():
    ramp = torch.arange(40.0).expand(1, 40, 40)
    moved = (warped(AugmentConfig(elastic=1.5, elastic_grid=5), ramp) - ramp)[:, 8:-8, 8:-8]
    assert 0.4 < moved.std() < 2.5


def test_erased_rectangles_have_the_size_asked_for():
    augment = Augment(
        AugmentConfig(erase=1.0, erase_scale=(0.2, 0.3)),
        Preprocess(size=(40, 50), mean=(-1.0,) * 3),
    )
    samples = [
        augment.draw(i, torch.zeros(3, 40, 50, dtype=torch.uint8), rng(i)) for i in range(20)
    ]
    out = augment.finish(torch.zeros(20, 3, 40, 50), samples)
    shares = (out == 0).float().mean((1, 2, 3))
    assert (shares > 0.18).all() and (shares < 0.32).all()


def test_random_area_stays_inside():
    for i in range(300):
        top, left, height, width = random_area((17, 29), (0.05, 1.0), (0.5, 2.0), rng(i))
        assert (
            0 <= top <= top + height <= 17
            and 0 <= left <= left + width <= 29
            and height > 0 < width
        )
    assert random_area((1, 100), (0.9, 1.0), (0.9, 1.1), rng(0))[2:] == (1, 1)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("increasing", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_operation_of_randaugment(operation, increasing, channels):
    image = (tensor(1).int() * 2 - 180).clamp(5, 250).to(torch.uint8)[:channels]
    made = RandAugment(increasing=increasing)
    out = made._apply(operation, image, 0.9, -1.0)
    assert out.shape == image.shape and out.dtype == torch.uint8
    if not (operation == "saturation" and channels == 1):
        assert not torch.equal(out, image)


def test_randaugment_is_read_as_timm_writes_it():
    assert RandAugment.parse("rand-m7-n3-mstd0.5-inc1") == RandAugment(7, 3, 0.5, True)
    assert RandAugment.parse("rand") == RandAugment()
    for text in ("rand-m11", "auto-m9", "rand-x3", "rand-m", "rand-n0"):
        with pytest.raises(UserError, match="not understood"):
            RandAugment.parse(text)


def test_colours_need_one_or_three_channels():
    with pytest.raises(UserError, match="1 or 3 channels"):
        Augment(
            AugmentConfig(jitter=0.1),
            Preprocess(size=(5, 5), channels=4, mean=(0.0,) * 4, std=(1.0,) * 4),
        )


def test_jitter_changes_colours_within_bounds():
    image = tensor(2)
    assert torch.equal(jitter(image, 0, 0, rng(0)), image)
    changed = jitter(image, 0.3, 0.2, rng(0))
    assert changed.dtype == torch.uint8 and not torch.equal(changed, image)


def test_sixteen_bit_images_pass_through_all_of_it():
    augment = Augment(FULL, Preprocess(size=(11, 13)))
    sample = augment.draw(0, torch.rand(3, 23, 31), rng(0))
    assert augment.finish(to_float(sample.image)[None], [sample]).isfinite().all()
