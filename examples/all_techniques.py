"""Uses every training technique at once, on the digits: each is a hook, and their order doesn't matter.

    python examples/all_techniques.py

A real training uses only the techniques that it needs; docs/techniques.md describes what each is for.
"""

import copy

from digits import CONFIG, DigitsSession
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from torchbase.hooks import (
    ActivationCheckpointing,
    Compile,
    EarlyStopping,
    ExponentialMovingAverage,
    Freeze,
    GradientAccumulation,
    GradientClipping,
    HookTimes,
    KeepBest,
    LearningRateSchedule,
    LogGradients,
    LogSamples,
    LogWeights,
    MemoryMonitor,
    MixedPrecision,
    Profile,
    RetryOnOutOfMemory,
    Throughput,
    TimeLimit,
    Unfreeze,
)

STEPS_PER_EPOCH = 20  # 1,258 images in mini-batches of 32 are 40 iterations, with an optimizer step per two iterations


def warm_up_and_anneal(optimizer):
    warm_up = LinearLR(optimizer, 0.1, total_iters=STEPS_PER_EPOCH)
    anneal = CosineAnnealingLR(optimizer, T_max=7 * STEPS_PER_EPOCH)
    return SequentialLR(optimizer, [warm_up, anneal], milestones=[STEPS_PER_EPOCH])


def techniques():
    return [
        MixedPrecision("bf16"),
        Compile(backend="aot_eager"),  # the default backend is faster, but needs a compiler and time to compile
        ActivationCheckpointing("[3-5]"),
        GradientAccumulation(2),
        GradientClipping(norm=1.0),
        LearningRateSchedule(warm_up_and_anneal, every="1it"),
        ExponentialMovingAverage(0.9),
        Freeze("0.*"),  # the first convolution: its weight for one epoch, its bias for the whole run
        Unfreeze("0.weight", at="1ep"),
        RetryOnOutOfMemory(),
        EarlyStopping("accuracy", phase="validation-valid", mode="max", patience=5),
        KeepBest(3, "accuracy", phase="validation-valid", mode="max"),
        TimeLimit("600s"),
        LogGradients(every="100it"),
        LogWeights(every="5ep"),
        LogSamples(8, ["image"], phase="validation-noisy", every="5ep"),
        Profile(range(41, 44)),
        HookTimes(),
        Throughput(),
        MemoryMonitor(),
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
