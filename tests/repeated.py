"""Evaluations of one mini-batch by hand, with the same random numbers and buffers."""

from every_technique import loss_of

from torchbase.randomness.streams import seed_streams


class EvaluationsByHand:
    """The gradients of one iteration, as often as they are computed. The buffers are those of the first time."""

    def __init__(self, session, batch, iteration):
        self._session, self._batch = session, batch
        self._seed = session._randomness.derive("iteration", "training", iteration)
        self._before = self._buffers()
        self.first_loss = self.again()
        self._after = self._buffers()

    def again(self):
        self._set(self._before)
        seed_streams(self._seed)
        self._session.network.zero_grad()
        loss = loss_of(self._session, self._batch)
        loss.backward()
        return loss.detach()

    def end(self):
        self._set(self._after)
        self._session.network.zero_grad()

    def _buffers(self):
        return {name: buffer.clone() for name, buffer in self._session.network.named_buffers()}

    def _set(self, values):
        for name, buffer in self._session.network.named_buffers():
            buffer.copy_(values[name])
