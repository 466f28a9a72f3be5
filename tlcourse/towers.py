"""Two frozen towers joined: class names, read by a text backbone, become weights of a vision classifier. Lesson 11.

The regression sees some classes: their names' vectors, and the rows of the classifier that was trained on their images.
For the name of a class that it has not seen, it predicts the row: a classifier without a single image of that class.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["TowerMap", "fit_towers", "zero_shot"]


@dataclass(frozen=True)
class TowerMap:
    """A linear map from a text's vector to a row of a classifier.

    Attributes
    ----------
    matrix
        float64 (p, d).
    text_mean, weight_mean
        float64 (p,) and (d,), over the classes of the regression.
    """

    matrix: np.ndarray
    text_mean: np.ndarray
    weight_mean: np.ndarray

    def __call__(self, text_vectors: np.ndarray) -> np.ndarray:
        """Predicted rows (c, d) for vectors (c, p) of names."""
        return (np.asarray(text_vectors, dtype=np.float64) - self.text_mean) @ self.matrix + self.weight_mean


def fit_towers(text_vectors: np.ndarray, class_weights: np.ndarray, *, strength: float) -> TowerMap:
    """Ridge regression of a classifier's rows on the vectors of its class names; the means are not penalised.

    It minimises ``sum |w - w_mean - (t - t_mean) A|^2 + strength |A|^2`` over the classes, and is solved over classes
    where there are fewer of them than text features: ``A = T' (T T' + strength)^-1 W``.

    Parameters
    ----------
    text_vectors, class_weights
        (c, p) and (c, d), one row a class. To predict intercepts too, append them as a column.
    strength
        Above 0.

    Raises
    ------
    ValueError
        If the rows do not pair up, there are fewer than two, a number is not finite, or the strength is not above 0.

    Examples
    --------
    >>> names, rows = np.array([[0.0], [1.0], [3.0]]), np.array([[1.0, 0.0], [3.0, 1.0], [7.0, 3.0]])  # 2 t + 1, t
    >>> fit_towers(names, rows, strength=1e-9)(np.array([[2.0]])).round(3)
    array([[5., 2.]])
    """
    T, W = np.asarray(text_vectors, dtype=np.float64), np.asarray(class_weights, dtype=np.float64)
    if T.ndim != 2 or W.ndim != 2 or len(T) != len(W):
        raise ValueError(f"text vectors {T.shape} and class weights {W.shape}: one row a class is needed in each")
    if len(T) < 2:
        raise ValueError(f"{len(T)} class(es): a regression needs at least two")
    if not (np.isfinite(T).all() and np.isfinite(W).all()):
        raise ValueError("text vectors or class weights hold a number that is not finite")
    if not strength > 0:
        raise ValueError(f"strength={strength}: above 0 is needed, since there are few classes and many text features")
    text_mean, weight_mean = T.mean(axis=0), W.mean(axis=0)
    T, W = T - text_mean, W - weight_mean
    if len(T) < T.shape[1]:
        matrix = T.T @ np.linalg.solve(T @ T.T + strength * np.eye(len(T)), W)
    else:
        matrix = np.linalg.solve(T.T @ T + strength * np.eye(T.shape[1]), T.T @ W)
    return TowerMap(matrix, text_mean, weight_mean)


def zero_shot(features: np.ndarray, vectors: np.ndarray, *, normalise: bool = True) -> np.ndarray:
    """Scores (n, c) of images for classes of which there are vectors alone; the highest names the class.

    Parameters
    ----------
    features
        (n, d) of a frozen vision backbone.
    vectors
        (c, d): rows that a `TowerMap` predicted, or true ones to compare with.
    normalise
        Give all vectors the length 1: a ridge shrinks what it is less sure of, and a class would lose for that alone.
        False gives the logits of a classifier with these rows.

    Raises
    ------
    ValueError
        If they differ in length, or a vector is zero and cannot be normalised.

    Examples
    --------
    >>> zero_shot(np.array([[1.0, 2.0]]), np.array([[5.0, 0.0], [0.0, 2.0]])).argmax(axis=1)
    array([1])
    """
    F, V = np.asarray(features, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
    if F.ndim != 2 or V.ndim != 2 or F.shape[1] != V.shape[1]:
        raise ValueError(f"features {F.shape} and class vectors {V.shape}: their last axes must be the same")
    if normalise:
        lengths = np.linalg.norm(V, axis=1, keepdims=True)
        if not lengths.all():
            raise ValueError(f"the vector of class {int(np.argmin(lengths))} is zero: it points nowhere")
        V = V / lengths
    return F @ V.T
