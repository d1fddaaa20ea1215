"""How a stored measurement reads: each column of numbers with the column that names its entries.

None where there is one number a snapshot. Imports nothing, so that what reads the store need not load the probes.
"""

COLUMNS: dict[str, dict[str, str | None]] = {
    "gradients": {"weight": "layers", "activation": "points"},
    "noise": {"noise_scale": None, "gradient_squared": None, "trace": None, "small": None, "big": None},
    "representation": {"rms": "points", "dead": "points", "correlation": "points", "spread": "points"},
    "updates": {"ratio": "layers", "weight": "layers", "update": "layers"},
}
