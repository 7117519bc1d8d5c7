"""The contract that each domain fills: `Domain` is what the command line and Python speak to, `Task` what engines run.

Both are handed to core and never looked up by it, so core stays ignorant of what the tokens mean.
"""

from isoform.core.domain.predictor import Predictor, Speaker
from isoform.core.domain.task import (
    Batch,
    CollectAll,
    Figure,
    File,
    InitialWeights,
    LastLayer,
    MetricAccumulator,
    Task,
)
from isoform.core.domain.wiring import (
    BASE_FORMATS,
    AnyDomain,
    CheckReport,
    Domain,
    Export,
    Graph,
    ImportedModel,
    Outputs,
    PredictOption,
    Prepared,
    TrainedModel,
    Verb,
)

__all__ = [
    "BASE_FORMATS",
    "AnyDomain",
    "Batch",
    "CheckReport",
    "CollectAll",
    "Domain",
    "Export",
    "Figure",
    "File",
    "Graph",
    "ImportedModel",
    "InitialWeights",
    "LastLayer",
    "MetricAccumulator",
    "Outputs",
    "PredictOption",
    "Predictor",
    "Prepared",
    "Speaker",
    "Task",
    "TrainedModel",
    "Verb",
]
