import math

import pytest
from made_up import make_run, status_with

from torchbase.command_line.run_conditions import select_runs
from torchbase.command_line.run_keys import ListedRun, keys_of
from torchbase.command_line.run_records import flatten, read_run
from torchbase.errors import RunDirectoryError
from torchbase.run_directory.status import Best


@pytest.fixture
def runs(tmp_path):
    """Three runs, a, b and c; the last has another learning rate, a loss that is NaN, and keys of its own."""
    best = {"validation-valid": Best(math.nan, 1)}
    status = status_with(state="failed", seconds=7200.0, started_at="2026-12-01T00:00:00+00:00", best_losses=best)
    own = {"architecture": "Line", "sizes": [1, 2], "bias": True, "note": "a<b", "x<y": 3, "wide": 2**53 + 1}
    config = {"session": {"learning_rate": 0.5, "weight_decay": None, "group": "7"}, "network": own}
    folders = [make_run(tmp_path, tag) for tag in "ab"]
    folders.append(make_run(tmp_path, "c", status=status, config=config))
    saved = [read_run(folder) for folder in folders]
    return [ListedRun(run, flatten(run.config)) for run in saved]


def selected(runs, *conditions):
    return "".join(listed.run.tag for listed in select_runs(runs, conditions, keys_of(runs)))


@pytest.mark.parametrize(
    ("condition", "tags"),
    [
        ("session.learning_rate=0.1", "ab"),
        ("learning_rate == 0.10", "ab"),
        ("learning_rate != 0.1", "c"),
        ("learning_rate<0.5", "ab"),
        ("learning_rate<=0.5", "abc"),
        ("  learning_rate  >  0.1  ", "c"),
        ("learning_rate>=0.1", "abc"),
        ("state=failed", "c"),
        ("state!=failed", "ab"),
        ("run>a", "bc"),
        ("group=7", "c"),
        ("group!=7", "ab"),
        ("group=null", "ab"),
        ("group!=null", "c"),
        ("sizes=[1,2]", "c"),
        ("bias=true", "c"),
        ("bias=True", "c"),
        ("bias=1", ""),
        ("note=a<b", "c"),
        ("network['x<y']<4", "c"),
        ("architecture=Line", "abc"),
        ('architecture="Line"', "abc"),
        ("wide=9007199254740993", "c"),
        ("wide=9007199254740992", ""),
        ("wide!=1", "abc"),  # runs without it, too
        ("weight_decay=None", "abc"),
        ("valid/loss/lowest<0.3", "ab"),
        ("valid<0.3", "ab"),
        ("valid=nan", "c"),
        ("valid!=nan", "ab"),
        ("valid>=0", "ab"),
        ("valid/loss/last_epoch=3", "abc"),
        ("training/accuracy>=0.8", "abc"),
        ("duration>3600", "c"),
        ("duration<=3600", ""),  # not known of the others
        ("started>2026-11-30", "c"),
        ("started<2026-11-30T00:00+09:00", "ab"),
        ("epochs=3", "abc"),
    ],
)
def test_a_condition_selects_the_runs_that_meet_it(runs, condition, tags):
    assert selected(runs, condition) == tags


def test_all_conditions_have_to_be_met(runs):
    assert selected(runs) == "abc"
    assert selected(runs, "learning_rate=0.1", "run=b") == "b"


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("session.learning_rat<1", r"no key 'session\.learning_rat'\. Did you mean 'session\.learning_rate'\?"),
        ("valid/los/lowest<1", r"no key 'valid/los/lowest'\. Did you mean 'valid/loss/lowest'\?"),
        ("learning_rate", r"Can't read the condition 'learning_rate'\. A condition has a key, one of"),
        ("learning_rate<", "Can't read the condition"),
        ("<1", "Can't read the condition"),
        ("", "Can't read the condition"),
        ("learning_rate<adam", r"Can't compare 'session\.learning_rate' by <, since 'adam' isn't a number"),
        ("duration>1h", "since '1h' isn't a number.*in seconds"),
        ("sizes<3", r"since \[1, 2\] has no order"),
        ("bias<3", "since True has no order"),
        ("started>noon", "'noon' isn't a time"),
        ("__import__('os').getcwd()=1", "no key"),
    ],
)
def test_what_can_not_be_read_or_compared_is_an_error(runs, condition, message):
    with pytest.raises(RunDirectoryError, match=message):
        selected(runs, condition)
