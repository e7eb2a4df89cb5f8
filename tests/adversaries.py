"""A generative adversarial network on the data of `TinySession`, and an iteration of its training by hand."""

import torch
from tiny import TinySession
from torch.nn.functional import softplus

from torchbase.randomness.streams import seed_streams


class Adversaries(torch.nn.Module):
    """A generator with buffers, and a discriminator that draws random numbers."""

    def __init__(self):
        super().__init__()
        nn = torch.nn
        self.generator = nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
        self.discriminator = nn.Sequential(nn.Linear(3, 6), nn.LeakyReLU(), nn.Dropout(0.3), nn.Linear(6, 1))


class AdversarialSession(TinySession):
    architecture = "Adversaries"

    def init_network(self):
        return Adversaries()

    def init_optimizer(self):
        rate = self.config_session.learning_rate
        return {
            "discriminator": torch.optim.Adam(self.network.discriminator.parameters(), rate),
            "generator": torch.optim.SGD(self.network.generator.parameters(), rate, momentum=0.9),
        }

    def forward_pass(self, mini_batch):
        generated = self.network.generator(torch.randn(len(mini_batch["x"]), 2))
        outputs = {"generated": self.network.discriminator(generated)}
        return outputs if self.turn == "generator" else {"real": self.network.discriminator(mini_batch["x"]), **outputs}

    def loss_function(self, *, generated, real=None):
        if self.turn == "generator":
            return softplus(-generated).mean()
        on_real = softplus(-real).mean()
        return {"loss": on_real + softplus(generated).mean(), "on_real": on_real}


class CriticSession(AdversarialSession):
    """The generator trains after every third step of the discriminator, and first."""

    def optimizer_turns(self, iteration):
        return ["generator", "discriminator"] if iteration % 3 == 0 else ["discriminator"]


class AdversariesByHand:
    """Iterations by plain PyTorch. `step` is called for each mini-batch."""

    def __init__(self, turns=lambda iteration: ("discriminator", "generator"), use=None):
        self._turns, self._use = turns, use or self._step
        self._iterations = 0

    def __call__(self, session, batch):
        for name in self._turns(self._iterations + 1):
            session.turn = name  # the session doesn't run
            seed_streams(session._randomness.derive("turn", "training", self._iterations, name))
            outputs = session.forward_pass(batch)
            loss = session.loss_function(**outputs)
            loss = loss["loss"] if isinstance(loss, dict) else loss
            parameters = list(getattr(session.network, name).parameters())
            gradients = torch.autograd.grad(loss, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
            self._use(session, name, parameters)
        self._iterations += 1

    @staticmethod
    def _step(session, name, parameters):
        session.optimizer[name].step()
        session.optimizer[name].zero_grad()
