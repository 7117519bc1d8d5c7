"""Time series, from embedded data to a picture: a day of Auckland's pedestrians, forecast with intervals and judged.

python demos/timeseries.py [FOLDER]      about two minutes on 2 cores; FOLDER (default runs/demo-timeseries) is replaced
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pandas as pd

import isoform
from isoform.timeseries.backtest import backtest
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.read import read_panel
from isoform.timeseries.demo import draw
from isoform.timeseries.forecast import columns_of, write


def main(folder: Path) -> None:
    """Trains, forecasts, judges and draws."""
    shutil.rmtree(folder, ignore_errors=True)
    run = isoform.train("timeseries/itransformer-demo", run_dir=folder)
    for name, found in {"the model": run.metrics, **run.results["baselines"]}.items():
        print(
            f"{name:15} {found['test']['unit_mae']:6.1f} pedestrians off on average, of all test hours"
        )

    # The series as a program of your own would have it: a pandas DataFrame, or a path to csv, parquet, NetCDF or Zarr.
    panel = read_panel(DataConfig(source="pedestrians"))
    frame = panel.first.target.to_pandas()
    frame.index = frame.index.tz_localize("UTC").tz_convert(panel.tz)

    model = isoform.load(folder)
    tomorrow = model.forecast(
        frame.iloc[-1000:]
    )  # an xarray Dataset: mean and quantiles by time and variate
    write(tomorrow, folder / "tomorrow.csv")
    rows = pd.DataFrame(columns_of(tomorrow))
    top = rows.loc[rows["mean"].idxmax()]
    print(
        f"busiest: {top.variate}, {top.stamp}: {top['mean']:.0f} people ({top['q0.1']:.0f} to {top['q0.9']:.0f})"
    )

    judged = backtest(model, panel, step=24 * 7, start=frame.index[-24 * 364])
    print(f"the last year: {judged.headline()}")
    skill = judged.to_json()["metrics"]["skill_seasonal_naive"]
    print(f"its absolute error is {skill:.0%} below that of the week before")
    print(f"the forecast: {folder / 'tomorrow.csv'}")
    print(f"the picture:  {draw(folder)}")
    print(f"the report:   {folder / 'report.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/demo-timeseries"))
