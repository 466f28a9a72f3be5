"""tlcourse: transfer learning as stages and plans, taught and measured.

The names below are the public surface. Each is imported on first use, so that ``import tlcourse`` is instant and
``python -m tlcourse doctor`` can speak even where PyTorch or the data are missing.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "Masked": "masked",
    "Rule": "plans",
    "Plan": "plans",
    "Backbone": "backbones",
    "Model": "backbones",
    "load_backbone": "backbones",
    "attach_head": "backbones",
    "load_from_zoo": "zoo",
    "Task": "data",
    "load_task": "data",
    "make_task": "data",
    "random_flips": "data",
    "feature_extraction": "strategies",
    "last_stages": "strategies",
    "discriminative": "strategies",
    "full_fine_tune": "strategies",
    "layerwise_decay": "strategies",
    "norm_only": "strategies",
    "bias_only": "strategies",
    "lora": "strategies",
    "lp_ft": "strategies",
    "gradual_unfreezing": "strategies",
    "Norm": "norms",
    "apply_plan": "plans",
    "describe_plan": "plans",
    "format_plan": "plans",
    "parameter_groups": "plans",
    "training_memory": "memory",
    "TrainingMemory": "memory",
    "merge_lora": "adapters",
    "unmerge_lora": "adapters",
    "expand_head": "heads",
    "extract_features": "caching",
    "fit_probe": "probes",
    "nearest_centroid": "centroids",
    "evaluate": "evaluation",
    "metrics": "evaluation",
    "linear_cka": "similarity",
    "cka_matrix": "similarity",
    "MinibatchCKA": "similarity",
    "stage_features": "hierarchy",
    "probe_stages": "hierarchy",
    "drift": "hierarchy",
    "activation_maps": "hierarchy",
    "top_inputs": "hierarchy",
    "visualise": "visualisation",
    "Visualisation": "visualisation",
    "weight_plane": "weight_planes",
    "losses_on_plane": "weight_planes",
    "fisher_diagonal": "fisher",
    "fisher_with_error": "fisher",
    "consolidate": "penalties",
    "convert_ewc": "conventions",
    "distill": "distillation",
    "distillation_loss": "distillation",
    "ewc": "penalties",
    "ewc_penalty": "penalties",
    "l2_sp": "penalties",
    "l2_sp_penalty": "penalties",
    "penalty_scales": "penalties",
    "stability": "penalties",
    "without_decay": "penalties",
    "Reservoir": "replay",
    "BalancedReservoir": "replay",
    "rehearse": "replay",
    "forgetting_scores": "forgetting",
    "run_sequence": "sequences",
    "tasks_in_turn": "sequences",
    "joint_reference": "sequences",
    "single_references": "sequences",
    "Remedy": "remedies",
    "EWC": "remedies",
    "L2SP": "remedies",
    "Distillation": "remedies",
    "Dropout": "remedies",
    "EarlyStopping": "remedies",
    "Replay": "remedies",
    "WeightAveraging": "remedies",
    "train": "training",
    "History": "run",
    "find_rate": "rates",
    "RateCurve": "rates",
    "warmup_cosine": "rates",
    "slanted_triangular": "rates",
    "average_weights": "averaging",
    "interpolate": "averaging",
    "recompute_statistics": "averaging",
    "digit_network": "grafts",
    "dense_network": "dense",
    "graft": "grafts",
    "Graft": "grafts",
    "split_classes": "grafts",
    "make_world": "worlds",
    "over_seeds": "intervals",
    "Scores": "intervals",
    "claim": "claims",
    "load_results": "results",
    "pick_device": "runtime",
    "seed_everything": "runtime",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"tlcourse has no {name!r}; public names: {', '.join(__all__)}")
    value = getattr(import_module(f"tlcourse.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))
