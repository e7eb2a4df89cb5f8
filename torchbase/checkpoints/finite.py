"""Whether parameters are finite, whatever their dtype and layout."""

import math
from collections.abc import Mapping

import torch
from torch.nn.utils import get_total_norm

from torchbase.errors import NonFiniteError


def check_is_finite(parameters: Mapping[str, torch.Tensor]) -> None:
    """Raises an error if a parameter is not finite.

    Args:
        parameters: The parameters of the network by name.

    Raises:
        NonFiniteError: If a parameter contains NaN or infinity.
    """
    values = {name: _values_of(parameter) for name, parameter in parameters.items() if _can_be_infinite(parameter)}
    wide = [one for one in values.values() if one.itemsize > 1]
    if get_total_norm(wide, norm_type=math.inf).isfinite():  # one call for all parameters
        values = {name: one for name, one in values.items() if one.itemsize == 1}
    for name, one in values.items():
        # Most functions don't know float8. A bfloat16 holds each number of its kinds.
        if not torch.isfinite(one.bfloat16() if one.itemsize == 1 else one).all():
            raise NonFiniteError(
                f"The parameter '{name}' of the network contains NaN or infinity, so this checkpoint is not written. "
                "The previous checkpoint is unchanged. To fix, lower the learning rate or clip the gradients."
            )


def _can_be_infinite(parameter: torch.Tensor) -> bool:
    has_no_nan = parameter.dtype == torch.float4_e2m1fn_x2
    return (parameter.is_floating_point() or parameter.is_complex()) and parameter.numel() > 0 and not has_no_nan


def _values_of(parameter: torch.Tensor) -> torch.Tensor:
    values = parameter
    if parameter.layout is not torch.strided:
        values = parameter.coalesce().values() if parameter.is_sparse else parameter.values()
    # Most functions don't know the complex numbers of 32 bits, but their two parts.
    return torch.view_as_real(values.resolve_conj()) if values.is_complex() else values
