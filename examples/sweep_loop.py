"""A sweep over learning rates and widths in a plain loop, and its best run.

    python examples/sweep_loop.py

Each combination is a run with a name. If the program ends at any moment, the same command goes on with the run that
hasn't ended. ``torchbase runs runs/sweep`` lists the runs, and ``torchbase compare`` shows them side by side.
"""

from itertools import product

from digits import CONFIG, DigitsSession

FOLDER = "runs/sweep"
LEARNING_RATES = (0.0003, 0.003, 0.03)
CHANNELS = (4, 8)


def train(learning_rate, channels):
    config = {
        **CONFIG,
        "session": {**CONFIG["session"], "group": "sweep", "num_epochs": 3, "learning_rate": learning_rate},
        "network": {**CONFIG["network"], "channels": channels},
    }
    tag = f"learning_rate-{learning_rate}_channels-{channels}"
    return DigitsSession.begin_or_resume(config, FOLDER, tag=tag)()


def main():
    summaries = [train(*combination) for combination in product(LEARNING_RATES, CHANNELS)]
    best = min(summaries, key=lambda summary: summary.best_losses["validation-valid"].loss)
    print(f"lowest loss: {best.best_losses['validation-valid'].loss:.4f}")
    print(f"the best run is in {best.run_dir}")


if __name__ == "__main__":
    main()
