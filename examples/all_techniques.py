"""Every training technique at once, on the digits: each is one hook, and their order doesn't matter.

    python examples/all_techniques.py

A real training takes those that it needs; docs/techniques.md says what each is for.
"""

import copy

from digits import CONFIG, DigitsSession
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from torchbase.hooks import (
    Compile,
    EarlyStopping,
    ExponentialMovingAverage,
    Freeze,
    GradientAccumulation,
    GradientClipping,
    HookTimes,
    LearningRateSchedule,
    LogGradients,
    LogSamples,
    LogWeights,
    MixedPrecision,
    Profile,
    RetryOnOutOfMemory,
    TimeLimit,
    Unfreeze,
)

STEPS_OF_AN_EPOCH = 20  # of the optimizer: 1,258 images in mini-batches of 32 make 40 iterations, and two make a step


def warm_up_then_fall(optimizer):
    warm_up = LinearLR(optimizer, 0.1, total_iters=STEPS_OF_AN_EPOCH)
    fall = CosineAnnealingLR(optimizer, T_max=7 * STEPS_OF_AN_EPOCH)
    return SequentialLR(optimizer, [warm_up, fall], milestones=[STEPS_OF_AN_EPOCH])


def techniques():
    return [
        MixedPrecision("bf16"),
        Compile(backend="aot_eager"),  # the default backend makes it fast; it needs a compiler, and time for it
        GradientAccumulation(2),
        GradientClipping(norm=1.0),
        LearningRateSchedule(warm_up_then_fall, every="1it"),
        ExponentialMovingAverage(0.9),
        Freeze("0.*"),  # the first convolution, its weight for one epoch and its bias for good
        Unfreeze("0.weight", at="1ep"),
        RetryOnOutOfMemory(),
        EarlyStopping("accuracy", phase="validation-valid", mode="max", patience=5),
        TimeLimit("600s"),
        LogGradients(every="100it"),
        LogWeights(every="5ep"),
        LogSamples(8, ["image"], phase="validation-noisy", every="5ep"),
        Profile(range(41, 44)),
        HookTimes(),
    ]


if __name__ == "__main__":
    config = copy.deepcopy(CONFIG)
    config["session"].update(num_epochs=8, learning_rate=0.01)
    session = DigitsSession(config)
    for hook in techniques():
        session.register(hook)
    summary = session()
    for phase, averages in summary.averages.items():
        print(f"{phase}: {averages['accuracy']:.1%}")
    print(f"the run is in {summary.run_dir}")
