"""``python -m training.shapes``: train the models again, all of them or those named by ``--only``."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from training.shapes.learning import LOG, Log

MODELS = {
    "painter": "shapes",
    "decoder": "shapes",
    "clip": "shapes-clip",
    "classifier": "shapes-classifier",
    "detector": "shapes-detector",
    "segmenter": "shapes-segmenter",
}
BUNDLED = Path(__file__).parents[2] / "openai_compat" / "bundled"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.shapes", description=__doc__)
    parser.add_argument("--only", choices=MODELS, nargs="+", default=list(MODELS), help="which to train")
    parser.add_argument("--out", type=Path, default=BUNDLED, help="where the models' folders are written")
    parser.add_argument("--resume", action="store_true", help="go on from the weights that are there")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=LOG)
    chosen = parser.parse_args()
    for name in chosen.only:
        train = importlib.import_module(f"training.shapes.{name}").train
        train(chosen.out / MODELS[name], chosen.seed, Log(chosen.log), resume=chosen.resume)


if __name__ == "__main__":
    main()
