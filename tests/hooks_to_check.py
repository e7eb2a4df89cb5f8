"""Hooks that follow the rules, and hooks that each break one rule. Another process can import them."""

import random
import time

import torch

from torchbase import hookimpl


class GradientNorms:
    """Observes correctly: it logs values, and saves its state."""

    def __init__(self, decay=0.9):
        self.decay, self.mean = decay, torch.zeros(())

    @hookimpl
    def on_gradients_ready(self, run):
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in run.network.parameters()])
        self.mean = self.mean.to(run.device).lerp(norm, 1 - self.decay)
        run.log("gradient_norm", self.mean)

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = state["mean"]


class HalvesTheRate:
    """Changes the training correctly, and needs no state."""

    @hookimpl
    def on_epoch_start(self, run):
        for group in run.optimizer.param_groups:
            group["lr"] = 0.05 * 0.5**run.epoch


class DrawsBeforeForward:
    """Should observe, but advances the random stream that dropout draws from."""

    @hookimpl(wrapper=True)
    def run_forward(self):
        torch.rand(1)
        return (yield)


class DrawsBeforeTheStep:
    """Should observe, but draws. Only an optimizer that draws is affected."""

    @hookimpl
    def on_gradients_ready(self):
        random.random()
        torch.rand(1)


class IsolatesItsDraws:
    """Draws without affecting others."""

    @hookimpl
    def on_gradients_ready(self, run):
        from torchbase import isolate_rng

        with isolate_rng(run.device):
            torch.rand(1)


class ShrinksWeights:
    """Should observe, but computes the absolute weights in place."""

    @hookimpl
    def on_iteration_end(self, run, phase):
        if phase.is_training:
            with torch.no_grad():
                for parameter in run.network.parameters():
                    run.log("largest_weight", parameter.abs_().max())


class LeavesEvaluationMode:
    """Should observe, but doesn't restore the training mode."""

    @hookimpl
    def on_iteration_start(self, run):
        run.network.eval()


class StopsTheRun:
    """Should observe, but ends the run early."""

    @hookimpl
    def on_epoch_end(self, run):
        run.request_stop("enough")


class CountsWithoutState:
    """Changes the training depending on a count that isn't saved."""

    def __init__(self):
        self.steps = 0

    @hookimpl
    def on_gradients_ready(self, run):
        self.steps += 1
        for group in run.optimizer.param_groups:
            group["lr"] = 0.05 / self.steps


class UnusedCount:
    """Counts iterations, but nothing depends on the count."""

    def __init__(self):
        self.iterations = 0

    @hookimpl
    def on_iteration_end(self):
        self.iterations += 1


class SumsOverValidation:
    """Has a sum in which the iterations of a restarted validation count twice."""

    def __init__(self):
        self.iterations = 0

    @hookimpl
    def on_iteration_end(self, phase):
        self.iterations += not phase.is_training

    def state_dict(self):
        return {"iterations": self.iterations}

    def load_state_dict(self, state):
        self.iterations = state["iterations"]


class ForgetsHalf:
    """Restores one of two values."""

    def __init__(self):
        self.first = self.second = 0

    @hookimpl
    def on_iteration_end(self, phase):
        if phase.is_training:
            self.first, self.second = self.first + 1, self.second + 1

    def state_dict(self):
        return {"first": self.first, "second": self.second}

    def load_state_dict(self, state):
        self.first = state["first"]


class OverwritesLoadedState(ForgetsHalf):
    """Overwrites what was loaded when the run starts."""

    @hookimpl
    def on_run_start(self):
        self.first = 0

    def load_state_dict(self, state):
        self.first, self.second = state["first"], state["second"]


class SavesAnObject(ForgetsHalf):
    """Returns an object that a checkpoint can't save."""

    def state_dict(self):
        return {"first": self.first, "noise": random.Random(1)}


class ReturnsAList(ForgetsHalf):
    def state_dict(self):
        return [self.first, self.second]


class HasNoStateAtFirst(ForgetsHalf):
    def __init__(self):
        self.first = None

    @hookimpl
    def on_phase_start(self, run):
        self.first = run.epoch

    @hookimpl
    def on_iteration_end(self):
        pass

    def state_dict(self):
        return {"first": self.first + 0}


class CannotLoad(UnusedCount):
    def state_dict(self):
        return {"iterations": self.iterations}


class DrawsWithoutSeed:
    """Changes the training in another way each time."""

    @hookimpl
    def on_gradients_ready(self, run):
        for parameter in run.network.parameters():
            parameter.grad += 0.01 * random.SystemRandom().random()


class LogsTime:
    """Logs a value that differs each time, and changes nothing."""

    def __init__(self):
        self.started_at = self.seconds = 0.0

    @hookimpl
    def on_iteration_start(self):
        self.started_at = time.perf_counter()

    @hookimpl
    def on_iteration_end(self, run):
        self.seconds += time.perf_counter() - self.started_at
        run.log("seconds", self.seconds)

    def state_dict(self):
        return {"seconds": self.seconds}

    def load_state_dict(self, state):
        self.seconds = state["seconds"]


class AppendsToAFile:
    """Appends to a file that isn't truncated when iterations run again."""

    @hookimpl
    def on_iteration_end(self, run, phase):
        if phase.is_training:
            with run.run_directory.file("iterations.txt").open("a") as file:
                file.write(f"{phase.progress.iterations}\n")


class Sleeps:
    @hookimpl
    def on_iteration_end(self, phase):
        if phase.is_training:
            time.sleep(0.003)


class Raises:
    @hookimpl
    def on_phase_end(self):
        raise OSError("no such account")


class SkipsPhases:
    """Implements run_phase without calling any event."""

    @hookimpl
    def run_phase(self, phase):
        phase.progress.is_done = True
        phase.averages = {"loss": 0.0}


class NeedsSetup:
    """Has to be registered when the session is created."""

    def __init__(self):
        self.seed = None

    @hookimpl
    def on_setup_start(self, randomness):
        self.seed = randomness.seed

    @hookimpl
    def on_epoch_end(self, run):
        run.log("seed", self.seed)
