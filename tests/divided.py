"""Divides the cases of a test into those of the suite and those that ``nox -s kill`` runs."""

import pytest


def in_suite(cases, *chosen):
    """Returns the cases, a tuple for several parameters, as `pytest.param`: all but the chosen ones are thorough."""
    unknown = [one for one in chosen if one not in cases]
    if unknown:
        raise ValueError(f"the cases {unknown} aren't among {list(cases)}")
    return [
        pytest.param(*(one if isinstance(one, tuple) else (one,)), marks=() if one in chosen else pytest.mark.thorough)
        for one in cases
    ]
