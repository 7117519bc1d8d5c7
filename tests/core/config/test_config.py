"""apps.toml to a configuration: layers, types, and every mistake at once."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, Field

from isoform.core import api, config
from isoform.core.config import keys, layers, toml
from isoform.core.config import resolve as resolve_module
from isoform.core.config.schema import AppConfig, Table, TrainConfig
from isoform.core.domain import Prepared
from isoform.core.errors import UserError


def known(value: str) -> str:
    if value.startswith("un"):
        raise ValueError("is no source")
    return value


class Augment(Table):
    crop: int = Field(3, ge=1, description="pixels")


class Data(Table):
    root: str | None = Field(None, description="folder of the data")
    path: Path | None = None
    source: Annotated[str, AfterValidator(known)] = "own"
    mean: tuple[float, ...] | None = None
    names: list[str] | str | None = None
    column: int | str = 0
    limit: int | None = 5
    augment: Augment | None = Augment()
    workers: int = Field(0, ge=0)


class ToyApp(AppConfig):
    data: Data = Data()


def prepare(app):
    if app.train.epochs != "auto":
        return Prepared(app, [], None)
    return Prepared(
        app.model_copy(update={"train": app.train.model_copy(update={"epochs": 7})}),
        ["epochs = 7"],
        None,
    )


DOMAIN = SimpleNamespace(
    name="toys", schema=lambda: ToyApp, schema_of=lambda tree: ToyApp, prepare=prepare
)

BUILT_IN = """
[toys.small]
status = "measured"
minutes = 3.5
expected.top1 = 0.97
train.epochs = 11
train.lr = 0.002
data.mean = [0.5, 1]

[toys.own]
extends = "small"
train.epochs = "auto"
"""


@pytest.fixture(autouse=True)
def built_in(monkeypatch):
    monkeypatch.setattr(layers, "built_in", lambda: BUILT_IN)


def resolve(app="small", **options):
    return config.resolve_layers(app, domain=DOMAIN, **options)


def errors(app="small", **options):
    with pytest.raises(config.ConfigError) as caught:
        resolve(app, **options)
    assert str(caught.value).splitlines() == list(caught.value.errors)
    return list(caught.value.errors)


@pytest.fixture
def mine(tmp_path):
    def write(text):
        path = tmp_path / "my.toml"
        path.write_text(text)
        return path

    return write


# Layers ---------------------------------------------------------------------------------------------------------------


def test_each_key_names_the_layer_that_set_it(mine):
    path = mine('[toys.mine]\nextends = "own"\ntrain.batch = 13\ndata.root = "here"\n')
    resolved = resolve(
        "mine",
        apps_file=path,
        sets=["data.root=there", "train.clip=2"],
        flags={"train.seed": 3},
        settings={"train.ema": 0.5},
    )
    settled, prepared = api.prepare(resolved, DOMAIN)
    notes = prepared.notes
    assert settled.layers == {
        "train.lr": "apps.toml [toys.small]",
        "data.mean": "apps.toml [toys.small]",
        "train.epochs": api.FROM_DATA,
        "train.batch": f"{path} [toys.mine]",
        "data.root": "--set",
        "train.clip": "--set",
        "train.seed": "--seed",
        "train.ema": "settings",
    }
    train = settled.config.train
    assert (train.lr, train.epochs, train.batch, train.clip, train.seed, train.ema) == (
        0.002,
        7,
        13,
        2.0,
        3,
        0.5,
    )
    assert settled.config.data.root == "there"
    assert settled.config.data.mean == (0.5, 1.0)
    assert notes == ["epochs = 7"]
    assert (settled.config.domain, settled.config.app) == ("toys", "mine")


def test_the_users_file_lies_over_the_built_in_app_key_by_key(mine):
    found = resolve(apps_file=mine("[toys.small]\ntrain.lr = 0.1\n")).config
    assert (found.train.lr, found.train.epochs) == (0.1, 11)


def test_an_app_of_the_users_file_may_change_what_another_extends(mine):
    found = resolve("own", apps_file=mine("[toys.small]\ntrain.lr = 0.1\n"))
    assert found.config.train.lr == 0.1
    assert found.layers["train.lr"].endswith("my.toml [toys.small]")


def test_what_was_measured_is_claimed_by_no_other_setting(mine):
    def claim(found):
        return found.config.status, found.config.minutes, found.config.expected

    kept, dropped = ("measured", 3.5, {"top1": 0.97}), ("unverified", None, {})
    assert claim(resolve()) == kept
    assert claim(resolve("own")) == dropped
    assert claim(resolve(sets=["train.seed=5", "data.root=x", "train.lr=2e-3"])) == kept
    changed = resolve(sets=["train.lr=1"])
    assert claim(changed) == dropped and "status" not in changed.layers
    assert claim(resolve(apps_file=mine("[toys.small]\ntrain.lr = 0.1"))) == dropped
    assert claim(resolve(apps_file=mine('[toys.small]\ndata.root = "x"'))) == kept
    assert claim(resolve(apps_file=mine('[toys.small]\ntrain.lr = 1\nstatus = "smoke"'))) == (
        "smoke",
        None,
        {},
    )


def test_app_names_come_in_the_order_of_the_files(mine):
    assert config.app_names("toys", mine("[toys.a]\n[toys.small]\n")) == ["small", "own", "a"]
    with pytest.raises(
        config.ConfigError, match=r"my.toml \[toys.b\]: should be a table \(got 1\)"
    ):
        config.app_names("toys", mine("[toys]\nb = 1\n"))


# --set ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("data.root=12", "12"),  # a path stays text, whatever it looks like
        ("data.root=true", "true"),
        ("data.root=1979-05-27", "1979-05-27"),
        ("data.root=[a", "[a"),
        ("data.root=[1, 2]", "[1, 2]"),
        ("data.root=5#3", "5#3"),
        ("data.root=a=b", "a=b"),
        ("data.root=", ""),
        ("data.root=none", "none"),
        ('data.root="12"', "12"),
        ("data.path=7", Path("7")),
        ("data.mean=[1, 2.5]", (1.0, 2.5)),
        ("data.names=[\"a\", 'b']", ["a", "b"]),
        ("data.names=a, b", ["a", "b"]),
        ("data.mean=1,2.5", (1.0, 2.5)),
        ("data.column=a,b", "a,b"),
        ("data.root=a,b", "a,b"),
        ("data.names=a", "a"),
        ("data.names=3", "3"),
        ("data.column=3", 3),
        ("data.column=label", "label"),
        ('data.column="3"', "3"),
        ("data.limit=none", None),
        ("data.limit=3", 3),
        ("data.augment=none", None),
        ("data.augment={crop = 2}", Augment(crop=2)),
        ("data.augment.crop=2", Augment(crop=2)),
        ("train.lr=1e-3", 0.001),
        ("train.lr=1", 1.0),
        ("train.epochs=auto", "auto"),
        ("train.compile=true", True),
        ("expected.mae=3", {"top1": 0.97, "mae": 3.0}),
    ],
)
def test_the_schema_decides_what_a_text_of_the_command_line_means(text, value):
    found = (
        resolve(sets=[text, "status=smoke"]).config
        if text.startswith("expected")
        else resolve(sets=[text]).config
    )
    for part in (
        text.partition("=")[0].split(".")[:2] if not text.startswith("expected") else ["expected"]
    ):
        found = getattr(found, part)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("train.lr=fast", '--set train.lr: should be a valid number (got "fast")'),
        ("train.lr=0", "--set train.lr: should be greater than 0 (got 0)"),
        ("train.batch=1.5", "--set train.batch: should be a valid integer (got 1.5)"),
        ("train.batch=true", "--set train.batch: should be a valid integer (got true)"),
        ("train.compile=1", "--set train.compile: should be a valid boolean (got 1)"),
        ("train.batch=none", '--set train.batch: should be a valid integer (got "none")'),
        (
            "train.epochs=often",
            "--set train.epochs: should be a valid integer or should be 'auto' (got \"often\")",
        ),
        ("data.mean=[1, x]", '--set data.mean: should be a valid array (got "[1, x]")'),
        ('data.mean=[1, "x"]', '--set data.mean: should be a valid number (got [1, "x"])'),
        ("data.source=unknown", '--set data.source: is no source (got "unknown")'),
        ("train=3", "--set train: should be an object (got 3)"),
        (
            "train.optimiser=adam",
            "--set train.optimiser: unknown key; did you mean train.optimizer?",
        ),
        ("optimiser=adam", "--set optimiser: unknown key; did you mean train.optimizer?"),
        ("trian.lr=1", "--set trian: unknown key; did you mean train?"),
        ("lr=1", "--set lr: unknown key; did you mean train.lr?"),
        ("data.zzz=1", "--set data.zzz: unknown key"),
        ("app=other", "--set app: unknown key"),
        ("train.lr", "--set train.lr: should be KEY=VALUE, such as train.lr=1e-3"),
        ("train..lr=1", "--set train..lr=1: should be KEY=VALUE, such as train.lr=1e-3"),
    ],
)
def test_a_wrong_setting_is_one_line(text, error):
    assert errors(sets=[text]) == [error]


def test_a_flag_and_a_setting_must_agree():
    assert resolve(sets=["train.seed=3"], flags={"train.seed": 3}).config.train.seed == 3
    assert errors(sets=["train.seed=3"], flags={"train.seed": 4}) == [
        "--set train.seed=3: disagrees with --seed 4; give one of them"
    ]


def test_settings_from_python_are_checked_too():
    assert resolve(settings={"data.root": Path("a"), "data.mean": (1, 2)}).config.data.root == "a"
    assert errors(settings={"train.lr": "1"}) == [
        'settings train.lr: should be a valid number (got "1")'
    ]


# Mistakes -------------------------------------------------------------------------------------------------------------


def test_five_mistakes_are_five_lines(mine):
    path = mine(
        """
[toys.mine]
extends = "smal"
train.lr = 0
train.epoch = 3
train.batch = ten
data.workers = "2"
"""
    )
    assert errors("mine", apps_file=path) == [
        f"{path} line 6: invalid value",
        f'{path} [toys.mine] extends: should name an app of the same domain (got "smal"); did you mean small?',
        f"{path} [toys.mine] train.lr: should be greater than 0 (got 0)",
        f"{path} [toys.mine] train.epoch: unknown key; did you mean train.epochs?",
        f'{path} [toys.mine] data.workers: should be a valid integer (got "2")',
    ]


def test_mistakes_of_every_layer_come_together(mine):
    path = mine(
        "[toy.x]\n[toys.y]\ntrain.lr = -1\nnote = 1979-05-27\n[toys.z]\nextends = 'z'\n[toys]\nw = 3\n"
    )
    assert errors("smal", apps_file=path, sets=["train"]) == [
        f"{path} [toy]: unknown domain; did you mean toys?",
        f"{path} [toys.w]: should be a table (got 3)",
        "smal: unknown toys app; did you mean small?",
        f"{path} [toys.y] train.lr: should be greater than 0 (got -1)",
        f"{path} [toys.y] note: unknown key",
        f"{path} [toys.z] extends: goes in a circle (z -> z)",
        "--set train: should be KEY=VALUE, such as train.lr=1e-3",
    ]


def test_other_apps_of_the_file_need_not_be_complete(mine):
    path = mine('[toys.template]\ndata.source = "unset"\n[toys.mine]\nextends = "template"\n')
    assert resolve("mine", apps_file=path, sets=["data.source=x"]).config.data.source == "x"
    assert errors("mine", apps_file=path) == [
        f'{path} [toys.template] data.source: is no source (got "unset")'
    ]


def test_circles_of_extends_end(mine):
    path = mine("[toys.a]\nextends = 'b'\n[toys.b]\nextends = 'a'\n")
    assert f"{path} [toys.b] extends: goes in a circle (a -> b -> a)" in errors("a", apps_file=path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"none\.toml: can't be read"):
        resolve(apps_file=tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(UserError, match="byte 5 isn't UTF-8"):
        resolve(apps_file=tmp_path / "latin.toml")


def test_an_unclosed_bracket_is_reported_once():
    tree, mistakes = toml.parse("a = 1\nb = [1, 2\nc = 3\nd = 4\n")
    assert tree == {} and len(mistakes) == 1
    tree, mistakes = toml.parse('a = 1\na = 2\ns = """x\ny = \n"""\n')
    assert tree == {"a": 1, "s": "x\ny = \n"} and [line for line, _ in mistakes] == [2]


# Writing and reading back ---------------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=7)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
scalars = st.booleans() | numbers | text
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=11,
)


def typed(value):
    """Equal only where types are equal too: 1, 1.0 and True are not."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    return (
        [typed(item) for item in value] if isinstance(value, list) else (type(value), repr(value))
    )


@given(st.dictionaries(text, values, max_size=5))
def test_toml_reads_back_exactly(tree):
    back = tomllib.loads(toml.dumps(tree))
    assert typed(back) == typed(tree)
    assert toml.parse(toml.dumps(tree)) == (back, [])


def test_not_a_number_reads_back():
    assert math.isnan(tomllib.loads(toml.dumps({"a": math.nan}))["a"])


optional = st.none() | text
configurations = st.builds(
    ToyApp,
    domain=st.just("toys"), app=text, summary=text, minutes=st.none() | st.floats(allow_nan=False),
    expected=st.dictionaries(text, st.floats(allow_nan=False), max_size=2),
    train=st.builds(
        TrainConfig, seed=st.integers(0, 2**31), epochs=st.just("auto") | st.integers(1, 99),
        lr=st.floats(0, exclude_min=True, allow_nan=False), clip=st.none() | st.floats(0.5, 7), init=optional,
    ),
    data=st.builds(
        Data, root=optional, path=st.none() | text.map(Path), mean=st.none() | st.tuples(st.floats(-1, 1)),
        names=optional | st.lists(text, max_size=2), column=text | st.integers(-9, 9),
        limit=st.none() | st.integers(-9, 9),
        augment=st.none() | st.builds(Augment, crop=st.integers(1, 9)),
        source=text.filter(lambda source: not source.startswith("un")),
    ),
)  # fmt: skip


@given(configurations)
def test_a_configuration_reads_back_equal(app):
    tree = tomllib.loads(config.dump_toml(app, threads=3))
    found, wrong = resolve_module._build(ToyApp, tree)
    assert wrong == [] and found == app
    assert config.changes(app, found) == []


def test_the_header_names_version_seed_and_threads():
    import isoform

    app = ToyApp(domain="toys", app="a", train=TrainConfig(seed=5))
    assert config.dump_toml(app, threads=3).startswith(
        f"# isoform {isoform.__version__}, seed 5, threads 3\n"
    )


def test_a_runs_configuration(tmp_path):
    app = resolve(sets=["train.lr=3"]).config
    (tmp_path / "config.toml").write_text(config.dump_toml(app))
    assert config.load_run_config(tmp_path, DOMAIN) == app
    assert config.run_domain(tmp_path) == "toys"
    other = SimpleNamespace(name="vision", schema_of=lambda tree: ToyApp)
    with pytest.raises(UserError, match="is a run of toys, not of vision"):
        config.load_run_config(tmp_path, other)
    (tmp_path / "config.toml").write_text('domain = "toys"\napp = "a"\ntrain.lr = 0\ntrain.x = 1\n')
    with pytest.raises(config.ConfigError) as caught:
        config.load_run_config(tmp_path, DOMAIN)
    assert [line.partition("config.toml ")[2] for line in caught.value.errors] == [
        "train.lr: should be greater than 0 (got 0)",
        "train.x: unknown key",
    ]
    with pytest.raises(UserError, match="nowhere: doesn't exist"):
        config.run_domain(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="isn't a run folder"):
        config.run_domain(tmp_path / "empty")


def test_override_and_its_diff():
    app = resolve().config
    same = config.override(
        app,
        domain=DOMAIN,
        sets=["train.lr=0.002", "data.mean=[0.5, 1]"],
        flags={"train.epochs": 11},
    )
    assert same == app
    other = config.override(
        app, domain=DOMAIN, sets=["train.lr=1", "train.clip=3", "data.augment=none"]
    )
    assert config.diff(app, other) == [
        "train.lr: 0.002 -> 1.0",
        "data.augment.crop: 3 -> unset",
        "train.clip: unset -> 3.0",
        'data.augment: unset -> "none"',
    ]
    assert other.status == "unverified" and app.status == "measured"


# The flat view of a schema --------------------------------------------------------------------------------------------


def test_leaves_and_names():
    leaves = keys.leaves(ToyApp)
    assert (
        ("data", "augment", "crop") in leaves
        and ("data",) not in leaves
        and ("data", "augment") not in leaves
    )
    assert leaves[("data", "augment", "crop")].description == "pixels"
    assert keys.names_of(leaves[("train", "epochs")].annotation) == 'int or "auto"'
    assert keys.names_of(leaves[("train", "clip")].annotation) == "float or unset"
    assert keys.names_of(Literal["a", "b", "c"]) == '"a", "b" or "c"'


def test_an_old_key_names_the_new_one():
    class Renamed(ToyApp):
        moved: ClassVar[dict[str, str]] = {
            "data.name": "data.source",
            "train.mixing": "data.augment.mixup",
        }

    domain = SimpleNamespace(name="toys", schema_of=lambda tree: Renamed)
    with pytest.raises(config.ConfigError) as raised:
        config.resolve_layers("small", domain=domain, sets=["data.name=x", "train.mixing=1"])
    assert any(
        "data.name: unknown key; it is called data.source now" in line
        for line in raised.value.errors
    )
    assert any("it is called data.augment.mixup now" in line for line in raised.value.errors)
