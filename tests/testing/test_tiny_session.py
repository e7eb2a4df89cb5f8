from torchbase.files.bitwise import different_values
from torchbase.testing import TINY_CONFIG, NoisySession, TinySession, tiny_config, tiny_dataset


def test_changing_a_config_leaves_the_shared_config_alone():
    config = tiny_config(num_epochs=9)
    config["network"]["dropout"] = 0.0
    assert config["session"] == {**TINY_CONFIG["session"], "num_epochs": 9}
    assert TINY_CONFIG["network"]["dropout"] == 0.3


def test_the_data_depends_only_on_the_arguments():
    assert tiny_dataset(4)[:] == tiny_dataset(4)[:]
    assert tiny_dataset(4)["name"][:] == ["0", "1", "2", "3"]
    assert tiny_dataset(4)["x"][:] != tiny_dataset(4, offset=1.0)["x"][:]


def test_the_training_set_can_be_larger(tmp_path):
    session = TinySession({**tiny_config(num_epochs=1), "data": {"training_samples": 40}}, tmp_path)
    assert len(session.dataset_train) == 40


def test_noise_changes_the_network_in_the_same_way_each_time(tmp_path):
    networks = []
    for kind in (TinySession, NoisySession, NoisySession):
        session = kind(tiny_config(num_epochs=1), tmp_path)
        session()
        networks.append(session.network.state_dict())
    assert different_values(networks[1], networks[2]) == []
    assert different_values(networks[0], networks[1]) != []
