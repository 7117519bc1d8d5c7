"""`apps`, `explain` and `bench`: what there is, and where each setting comes from."""

from __future__ import annotations

import pytest

from .toys import last, mistake


def test_apps_lists_what_is_known_of_each(cli):
    code, out, _ = cli("apps")
    lines = out.splitlines()
    assert code == 0 and lines[0].split() == [
        "app", "data", "model", "parameters", "status", "expected", "minutes", "published", "source",
    ]  # fmt: skip
    assert (
        " ".join(lines[1].split())
        == "toys/mlp 47 points mlp 1,234 measured top1 0.9 0.1 - drawn at random"
    )
    assert " ".join(lines[2].split()) == "toys/mlp-auto - - - unverified - - - -"
    found = last(cli("apps", "toys", "--json")[1])["apps"]
    assert [one["app"] for one in found] == ["toys/mlp", "toys/mlp-auto"] and found[0][
        "expected"
    ] == {"top1": 0.9}


@pytest.mark.parametrize("name", ["mlp-auto", "toys/mlp-auto"])
def test_explain_names_the_layer_of_each_setting(cli, name):
    code, out, _ = cli("explain", name, "--set", "train.lr=1", "--json")
    settings = last(out)["settings"]
    assert code == 0 and last(out)["model"]["attention"] == "none"
    layers = {key: one["layer"] for key, one in settings.items() if one["layer"] != "default"}
    assert layers == {
        "summary": "apps.toml [toys.mlp]",
        "train.batch": "apps.toml [toys.mlp]",
        "eval.batch": "apps.toml [toys.mlp]",
        "train.epochs": "chosen from the data",
        "train.lr": "--set",
    }
    assert settings["train.lr"]["value"] == 1.0 and "AdamW" in settings["train.lr"]["description"]
    assert settings["train.clip"] == {
        "value": None,
        "layer": "default",
        "description": "largest gradient norm; none if unset",
    }


def test_explain_for_a_reader(cli):
    code, out, _ = cli("explain", "mlp")
    line = next(line for line in out.splitlines() if line.startswith("train.lr "))
    assert (
        code == 0
        and "0.01" in line
        and "apps.toml [toys.mlp]" in line
        and "peak learning rate" in line
    )
    assert "parameters  1,234" in out
    assert (
        "\noptimiser   adamw; weight decay 0.05 on 4 tensors of 154 parameters; none on 8 tensors"
        in out
    )


def test_bench_runs_a_file_of_the_source_tree(cli, monkeypatch, place):
    from isoform.core.cli import catalogue

    monkeypatch.setattr(catalogue, "BENCHMARKS", place / "benchmarks")
    mistake(cli("bench", "toy"), "part of the source tree only")
    (place / "benchmarks").mkdir()
    (place / "benchmarks/toy.py").write_text(
        '"""Toys.\n\nMore."""\ndef main(argv):\n    return len(argv)\n'
    )
    (place / "benchmarks/common.py").write_text('"""Shared."""\n')
    assert cli("bench")[:2] == (0, "common: Shared.\ntoy: Toys.\n")
    assert cli("bench", "toy", "a", "--b", "c")[0] == 3
    mistake(cli("bench", "tou"), "tou: unknown benchmark; did you mean toy?")
    mistake(cli("bench", "common"), "can't be run by itself")
