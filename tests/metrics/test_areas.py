import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from torchbase.metrics.areas import areas_one_vs_rest


@st.composite
def classified_samples(draw):
    classes = draw(st.integers(2, 6))
    seed = draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    further = generator.integers(0, classes, draw(st.integers(0, 60)))
    truth = generator.permutation(np.concatenate([np.arange(classes), further]))
    scores = generator.random((len(truth), classes)).round(draw(st.integers(0, 3)))  # with ties
    return truth, scores


@given(classified_samples())
def test_the_areas_equal_those_of_scikit_learn(samples):
    truth, scores = samples
    areas = areas_one_vs_rest(truth, scores, np.bincount(truth))
    assert areas.dtype == np.float64
    for number, area in enumerate(areas):
        assert area == pytest.approx(roc_auc_score(truth == number, scores[:, number]), abs=1e-12)
