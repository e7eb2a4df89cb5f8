"""Hooks that keep to the rules, and hooks that each break one; another process can import them."""

import random
import time

import torch

from torchbase import hookimpl


class GradientNorms:
    """Observes well: it logs, and keeps what it remembers."""

    def __init__(self, decay=0.9):
        self.decay, self.mean = decay, torch.zeros(())

    @hookimpl
    def on_gradients_ready(self, run):
        norm = torch.nn.utils.get_total_norm([one.grad for one in run.network.parameters()])
        self.mean = self.mean.to(run.device).lerp(norm, 1 - self.decay)
        run.log("gradient_norm", self.mean)

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = state["mean"]


class HalvesTheRate:
    """Changes the training well, and needs no state for it."""

    @hookimpl
    def on_epoch_start(self, run):
        for group in run.optimizer.param_groups:
            group["lr"] = 0.05 * 0.5**run.epoch


class DrawsBeforeForward:
    """Says that it observes, and moves the random stream that dropout draws from."""

    @hookimpl(wrapper=True)
    def run_forward(self):
        torch.rand(1)
        return (yield)


class DrawsBeforeTheStep:
    """The same where only an optimizer that draws notices it."""

    @hookimpl
    def on_gradients_ready(self):
        random.random()
        torch.rand(1)


class FencesItsDraws:
    """The same, mended."""

    @hookimpl
    def on_gradients_ready(self, run):
        from torchbase.randomness import fence

        with fence(run.device):
            torch.rand(1)


class ShrinksWeights:
    """Says that it observes, and measures the weights in place."""

    @hookimpl
    def on_iteration_end(self, run, phase):
        if phase.is_training:
            with torch.no_grad():
                for one in run.network.parameters():
                    run.log("largest_weight", one.abs_().max())


class LeavesEvaluationMode:
    """Says that it observes, and forgets to put the mode back."""

    @hookimpl
    def on_iteration_start(self, run):
        run.network.eval()


class StopsTheRun:
    """Says that it observes, and ends the run early."""

    @hookimpl
    def on_epoch_end(self, run):
        run.request_stop("enough")


class CountsWithoutState:
    """Changes the training by a count that no checkpoint keeps."""

    def __init__(self):
        self.steps = 0

    @hookimpl
    def on_gradients_ready(self, run):
        self.steps += 1
        for group in run.optimizer.param_groups:
            group["lr"] = 0.05 / self.steps


class CountsForNothing:
    """Looks as if it had a state, and nothing comes of it."""

    def __init__(self):
        self.iterations = 0

    @hookimpl
    def on_iteration_end(self):
        self.iterations += 1


class SumsOverValidation:
    """Keeps a sum that a validation which begins again is counted in twice."""

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
    """Takes back one of two values."""

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


class BeginsAnew(ForgetsHalf):
    """Overwrites what was loaded when the run starts."""

    @hookimpl
    def on_run_start(self):
        self.first = 0

    def load_state_dict(self, state):
        self.first, self.second = state["first"], state["second"]


class KeepsAnObject(ForgetsHalf):
    """Gives something that no checkpoint keeps."""

    def state_dict(self):
        return {"first": self.first, "noise": random.Random(1)}


class GivesAList(ForgetsHalf):
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


class CannotLoad(CountsForNothing):
    def state_dict(self):
        return {"iterations": self.iterations}


class DrawsByChance:
    """Changes the training in another way each time."""

    @hookimpl
    def on_gradients_ready(self, run):
        for one in run.network.parameters():
            one.grad += 0.01 * random.SystemRandom().random()


class LogsTime:
    """Records what is another each time, and changes nothing."""

    def __init__(self):
        self.begun_at = self.seconds = 0.0

    @hookimpl
    def on_iteration_start(self):
        self.begun_at = time.perf_counter()

    @hookimpl
    def on_iteration_end(self, run):
        self.seconds += time.perf_counter() - self.begun_at
        run.log("seconds", self.seconds)

    def state_dict(self):
        return {"seconds": self.seconds}

    def load_state_dict(self, state):
        self.seconds = state["seconds"]


class AppendsToAFile:
    """Records in a file that isn't cut back when iterations are done again."""

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


class RunsNothing:
    """Does a phase itself, and tells nobody."""

    @hookimpl
    def run_phase(self, phase):
        phase.progress.is_done = True
        phase.averages = {"loss": 0.0}


class HearsTheSetUp:
    """Needs to be there when the session is made."""

    def __init__(self):
        self.seed = None

    @hookimpl
    def on_setup_start(self, randomness):
        self.seed = randomness.seed

    @hookimpl
    def on_epoch_end(self, run):
        run.log("seed", self.seed)
