"""A toy domain for the command line, whose apps train in a blink, and what its tests say of answers."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import toy

from isoform.core.domain import CheckReport, ImportedModel, Predictor, Prepared, Verb
from isoform.core.errors import UserError

BUILT_IN = """
[toys.mlp]
summary = "points"
status = "measured"
minutes = 0.1
expected.top1 = 0.9
train.epochs = 2
train.batch = 5
eval.batch = 4
train.lr = 0.01

[toys.mlp-auto]
extends = "mlp"
train.epochs = "auto"
"""


class ToyPredictor(Predictor):
    """Inputs are numbers in text; "bad" can't be read."""

    def __init__(self, trained):
        self.classes, self.model = trained.state.classes, trained.model

    def predict(self, inputs):
        rows = []
        for one in inputs:
            if one.startswith("bad"):
                rows.append({"input": one, "error": "isn't a number"})
                continue
            with torch.no_grad():
                logits = self.model(torch.full((1, toy.FEATURES), float(one)))
            best = int(logits.argmax())
            rows.append(
                {
                    "input": one,
                    "prediction": self.classes[best],
                    "logits": logits[0].tolist(),
                    "error": None,
                }
            )
        return rows

    def embed(self, inputs):
        x = torch.tensor([[float(one)] * toy.FEATURES for one in inputs])
        with torch.no_grad():
            return self.model.backbone(self.model.tokeniser(x)).numpy()


def write_text(trained, path):
    path.write_text(f"{trained.folder.name} {trained.step}")


def write_half(trained, path):
    path.write_text("half")
    raise UserError("the model can't be said in this format")


def count(args, console):
    console.say(f"{args.n}")
    if args.n == 3:
        raise ValueError("three")
    console.result = {"n": args.n}
    return 0


class Task(toy.ToyTask):
    def __init__(self, config):
        made.append(config)
        super().__init__(config)

    def fit_majority(self, fitting):
        fitted.append(self.config.train.seed)
        return super().fit_majority(fitting)


class Toys(toy.Toy):
    name = "toys"
    summary = "points in space"

    def prepare(self, config):
        prepared.append(config)
        if config.train.epochs != "auto":
            return Prepared(config, [], None)
        chosen = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 2})})
        return Prepared(chosen, ["2 epochs, for 47 samples"], None)

    def task(self, prepared):
        return Task(prepared.config)

    def predictor(self, trained):
        return ToyPredictor(trained)

    def app_of_path(self, path):
        return toy.app().model_copy(update={"domain": "toys", "app": path.name})

    def check(self, config):
        refusal = "there is nothing to learn; name other data" if "empty" in config.app else None
        leakage = "leaky" in config.app or config.summary == "leaky"
        return CheckReport(["47 points"], {"train": 47}, leakage, "<html>page</html>", refusal)

    def expand_inputs(self, inputs):
        return [one for one in inputs if one != "empty"]

    def import_weights(self, source, layout=None, config=None):
        if not Path(source).exists():
            raise UserError(f"{source}: doesn't exist; name a file")
        torch.manual_seed(5)
        app = config or toy.app().model_copy(update={"domain": "toys", "app": "imported"})
        state = toy.ToyState(classes=("a", "b", "c"))
        return ImportedModel(
            app, toy.ToyModel().state_dict(), state, layout or "guessed", ["a note"], "MIT"
        )

    def export_formats(self):
        return {"text": write_text, "broken": write_half}

    def verbs(self):
        return {
            "count": Verb(
                help="counts",
                arguments=lambda parser: parser.add_argument("-n", type=int),
                run=count,
            )
        }

    def describe(self, config, *, detail=True):
        if config.train.epochs == "auto":
            raise UserError("data.root: names no folder")
        rows = {
            "data": "47 points",
            "model": "mlp",
            "parameters": 1234,
            "source": "drawn at random",
        }
        return rows | ({"attention": "none"} if detail else {})


made: list = []
prepared: list = []
fitted: list = []
TOYS = Toys()


def absent():
    raise UserError("ghosts: not part of this release yet")


DOMAINS = {"toys": lambda: TOYS, "ghosts": absent}


def last(out):
    return json.loads(out.splitlines()[-1])


def mistake(result, *parts):
    """Exit 2, one sentence on stderr, no traceback."""
    code, _, err = result
    assert code == 2 and "Traceback" not in err
    for part in parts:
        assert part in err
    return err.splitlines()
