import inspect

from torchbase.command_line.catalogue import ANSWERS, read_catalogue
from torchbase.engine import hookspecs
from torchbase.engine.plugins import EVENT_NAMES


def test_it_is_that_of_hookspecs():
    events = read_catalogue()
    assert [event.name for event in events] == list(EVENT_NAMES)
    for event in events:
        specification = getattr(hookspecs, event.name)
        assert list(event.arguments) == list(inspect.signature(specification).parameters)
        paragraph = inspect.getdoc(specification).partition("\n\n")[0]
        assert event.summary == " ".join(paragraph.split()).replace("``", "`")


def test_each_kind_of_event_has_its_answer_explained():
    kinds = {f"{name.partition('_')[0]}_" for name in EVENT_NAMES}
    assert all(any(kind in answer for answer in ANSWERS) for kind in kinds)
