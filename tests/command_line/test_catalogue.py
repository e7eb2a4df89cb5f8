import inspect

from torchbase.command_line.catalogue import RETURN_VALUES, read_catalogue
from torchbase.engine import hookspecs
from torchbase.engine.hook_checks import EVENT_NAMES


def test_the_catalogue_equals_the_specifications():
    events = read_catalogue()
    assert [event.name for event in events] == list(EVENT_NAMES)
    for event in events:
        specification = getattr(hookspecs, event.name)
        assert list(event.arguments) == list(inspect.signature(specification).parameters)
        paragraph = inspect.getdoc(specification).partition("\n\n")[0]
        assert event.summary == " ".join(paragraph.split()).replace("``", "`")


def test_the_return_values_of_each_kind_of_event_are_explained():
    kinds = {f"{name.partition('_')[0]}_" for name in EVENT_NAMES}
    assert all(any(kind in line for line in RETURN_VALUES) for kind in kinds)
