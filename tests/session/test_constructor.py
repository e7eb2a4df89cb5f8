import copy
import pickle

import pytest
from tiny import CONFIG, TinySession


class Forgetful(TinySession):
    def __init__(self, config):
        self.mine = config


class TooEarly(TinySession):
    def __init__(self, config, parent):
        self.rate = self.config_session.learning_rate
        super().__init__(config, parent)


USES = [
    lambda session: session(),
    lambda session: session.network,
    lambda session: session.optimizer,
    lambda session: session.dataset_train,
    lambda session: session.dataloader_train,
    lambda session: session.register(object()),
    lambda session: session.hooks,
    lambda session: session.log("mine", 1.0),
    lambda session: session.evaluate(None),
    lambda session: list(session.predict(None)),
    lambda session: session.load_best_network(),
    lambda session: session.verify(),
    lambda session: session.device,
    lambda session: session.config_data,
    lambda session: session.config_metrics,
    lambda session: session.run_dir,
]


@pytest.mark.parametrize("use", USES)
def test_a_session_whose_constructor_was_not_called_says_so(use):
    session = Forgetful(CONFIG)
    with pytest.raises(AttributeError, match=r"Forgetful has no '\w+' yet, .* begin Forgetful\.__init__ with super"):
        use(session)
    assert session.mine == CONFIG
    assert not hasattr(session, "device")


def test_an_attribute_that_is_read_before_the_constructor_is_called_says_so(tmp_path):
    with pytest.raises(AttributeError, match=r"TooEarly has no 'config_session' yet"):
        TooEarly(CONFIG, tmp_path)


def test_another_missing_attribute_is_an_error_as_always(tmp_path):
    class Wrong(TinySession):
        def init_network(self):
            return self.misspelled

    with pytest.raises(AttributeError, match="'Wrong' object has no attribute 'misspelled'"):
        Wrong(CONFIG, tmp_path)()


def test_a_session_can_be_copied_and_pickled(tmp_path):
    session = TinySession(CONFIG, tmp_path)
    for copied in (copy.copy(session), pickle.loads(pickle.dumps(session))):
        assert copied.config_session == session.config_session
        assert not hasattr(copied, "engine")
