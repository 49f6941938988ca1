"""Scores of tracks: computed by a model, kept in a file, averaged over models."""

import dataclasses
import json
import os
import zipfile

import numpy as np

from tfmusictag import _files, errors, vocabulary
from tfmusictag._lazy import lazy_module
from tfmusictag._version import __version__
from tfmusictag.evaluation import _arrays

pipelines = lazy_module("tfmusictag.pipelines")

ACTIVATIONS = (None, "sigmoid", "softmax")
AGGREGATIONS = ("mean", "max")
_KEPT = ("track_ids", "tags", "scores", "targets", "facts")
_SLACK = 1e-3  # above 1 and below 0, for what half precision rounds


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Scores of tracks and what they should be.

    Args:
        track_ids: a name for each track.
        tags: their names, in the order of the columns, or a list of `tfmusictag.vocabulary` by its name.
        scores: (tracks, tags), kept as float32.
        targets: (tracks, tags) of 0 and 1, kept as uint8.
        facts: where the scores are from, for the report; what JSON takes.

    Raises:
        ValueError: shapes that do not belong together, scores that are not finite, a track twice.
    """

    track_ids: tuple
    tags: tuple
    scores: np.ndarray
    targets: np.ndarray
    facts: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        ids = tuple(map(str, self.track_ids))
        scores, targets, tags = _arrays.checked(self.scores, self.targets, self.tags)
        if len(ids) != len(scores):
            raise ValueError(f"`track_ids` must name each of the {len(scores)} tracks; received {len(ids)}.")
        if twice := _twice(ids):
            raise ValueError(f"`track_ids` must differ from each other; received more than once: {_some(twice)}.")
        kept = {"track_ids": ids, "tags": tags, "scores": scores.astype(np.float32), "targets": targets.astype("uint8")}
        for name, value in kept.items():
            object.__setattr__(self, name, value)

    def save(self, path):
        """Writes them to a file, `.npz` as NumPy reads it, that gets its name when it is whole."""
        arrays = {"track_ids": np.array(self.track_ids), "tags": np.array(self.tags)}
        arrays |= {"scores": self.scores, "targets": self.targets, "facts": np.array(json.dumps(self.facts))}
        with _files.whole(path) as fresh, open(fresh, "xb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path):
        """Reads what `save` has written; nothing in the file is executed.

        Raises:
            ValueError: a file of something else.
        """
        try:
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                found = {name: file[name] for name in _KEPT}
            found["facts"] = json.loads(str(found["facts"]))
            return cls(found.pop("track_ids").tolist(), found.pop("tags").tolist(), **found)
        except (KeyError, ValueError, AttributeError, TypeError, EOFError, zipfile.BadZipFile) as error:
            name = os.fspath(path)
            raise ValueError(f"{name} must be a file of predictions, as `save` writes it: {error}.") from error


def predict(
    model,
    tracks,
    *,
    split="test",
    activation=None,
    aggregation="mean",
    labels=None,
    chunks=None,
    hop_samples=None,
    hop_frames=None,
    num_samples=None,
    num_frames=None,
    sample_rate=None,
    batch_size=32,
    **where,
):
    """Returns the `Predictions` of a model: the scores of a track are those of its chunks, averaged.

    What is kept of a track is its scores, so memory does not grow with the sound.

    Args:
        model: a keras.Model, or what has its `predict_on_batch`; then `num_samples` and `sample_rate` tell its input.
        tracks, split, num_samples, num_frames, sample_rate, batch_size, chunks, hop_samples, hop_frames, **where: as
            for `pipelines.evaluate`.
        activation: of a model that gives logits, `"sigmoid"` or `"softmax"`; None takes its outputs as they are, which
            must be from 0 to 1.
        aggregation: of the chunks of a track, `"mean"` or `"max"`.
        labels: the tags of the model's outputs, where their order is not that of the tracks' tags.

    Raises:
        ValueError: an argument that breaks its rule, tracks without tags or names, a file that cannot be decoded,
            scores that are not finite or not from 0 to 1.
    """
    _arrays.known("activation", activation, ACTIVATIONS)
    _arrays.known("aggregation", aggregation, AGGREGATIONS)
    keras_model = model if hasattr(model, "input_shape") else None
    rate = sample_rate if sample_rate is not None else _sample_rate(keras_model)
    tags = pipelines.source(tracks, split, sample_rate=rate, **where).tags
    if not tags:
        raise ValueError("`tracks` must have tags, whose names are known; of a tf.data.Dataset `tags` names them.")
    order = _order(tags, labels)
    cut = {"chunks": chunks, "hop_samples": hop_samples, "hop_frames": hop_frames}
    cut |= {"num_samples": num_samples, "num_frames": num_frames}
    # Files were looked at above.
    options = {**where, **cut, "sample_rate": rate, "batch_size": batch_size, "validated": True}
    kept = _Tracks(aggregation)
    with errors.decoded("tracks"):
        for batch, targets, ids in pipelines.evaluate(tracks, keras_model, split=split, ids=True, **options):
            names = [os.fsdecode(name) for name in ids.numpy().tolist()]
            scores = np.asarray(model.predict_on_batch(batch.numpy()), np.float32)
            kept.add(names, _activated(scores, activation, names, len(tags))[:, order], targets.numpy())
    if not kept.targets:
        raise ValueError(f"`tracks` must hold at least one track of the split {split!r}; there is none.")
    facts = {
        "model": str(getattr(model, "name", type(model).__name__)),
        "tracks": tracks if isinstance(tracks, str) else os.fspath(tracks) if hasattr(tracks, "__fspath__") else None,
        "split": split,
        "window": None if keras_model is None else keras_model.input_shape[1],
        "sample_rate": rate,
        "aggregation": aggregation,
        "tfmusictag": __version__,
        **{name: value for name, value in cut.items() if value is not None},
    }
    return Predictions(**kept.arrays(), tags=tags, facts=facts)


def align(predictions):
    """Returns several `Predictions` with their tracks in the order of the first, ready for `compare`.

    Raises:
        ValueError: none, or such as have other tags, tracks or targets than the first.
    """
    predictions = list(predictions)
    if not predictions:
        raise ValueError("`predictions` must hold at least one; received none.")
    first, *others = predictions
    aligned = [first]
    for number, other in enumerate(others, start=1):
        if other.tags != first.tags:
            differ = sorted(set(other.tags) ^ set(first.tags))
            what = f"{_some(differ)} are not in both" if differ else "their order differs"
            raise ValueError(f"`predictions` must have the same tags; between number 0 and {number} {what}.")
        places = {track: place for place, track in enumerate(other.track_ids)}
        if differ := sorted(places.keys() ^ set(first.track_ids)):
            raise ValueError(
                f"`predictions` must be of the same tracks; {len(differ)} are not in both number 0 and {number}: "
                f"{_some(differ)}."
            )
        rows = [places[track] for track in first.track_ids]
        scores, targets = other.scores[rows], other.targets[rows]
        if (targets != first.targets).any():
            track = first.track_ids[int((targets != first.targets).any(axis=1).argmax())]
            raise ValueError(
                f"`predictions` must have the same targets; those of track {track!r} differ in number 0 and {number}."
            )
        aligned.append(dataclasses.replace(other, track_ids=first.track_ids, scores=scores, targets=targets))
    return aligned


def average(predictions):
    """Returns the mean of several `Predictions`, of the same tracks in whatever order.

    Facts that all share are its facts; the others stand in `average_of`, as those of each.

    Raises:
        ValueError: none, or such as `align` refuses.
    """
    first, *others = aligned = align(predictions)
    scores = np.mean([each.scores for each in aligned], axis=0, dtype=np.float64)
    facts = {
        name: value
        for name, value in first.facts.items()
        if name != "model" and all(other.facts.get(name) == value for other in others)
    }
    own = [{name: value for name, value in each.facts.items() if name not in facts} for each in aligned]
    return dataclasses.replace(first, scores=scores, facts={**facts, "average_of": own})


class _Tracks:
    """The scores of tracks whose chunks come one after another."""

    def __init__(self, aggregation):
        self._largest = aggregation == "max"
        self._totals, self._counts, self.targets = {}, {}, {}
        self._last = None

    def add(self, ids, scores, targets):
        for track, row, target in zip(ids, scores.astype(np.float64), targets, strict=True):
            if track != self._last:
                if not track:
                    raise ValueError("`tracks` must have a `track_id` each, by which their chunks are put together.")
                if track in self.targets:
                    raise ValueError(f"`tracks` must have different `track_id`s; {track!r} comes twice.")
                self._totals[track], self._counts[track], self.targets[track] = row, 1, target
                self._last = track
            else:
                total = self._totals[track]
                self._totals[track] = np.maximum(total, row) if self._largest else total + row
                self._counts[track] += 1

    def arrays(self):
        """Returns a dictionary for `Predictions`."""
        counts = np.ones(len(self._counts)) if self._largest else np.array(list(self._counts.values()))
        scores = np.stack(list(self._totals.values())) / counts[:, None]
        return {"track_ids": list(self._totals), "scores": scores, "targets": np.stack(list(self.targets.values()))}


def _sample_rate(model):
    layers = () if model is None else model.layers
    return next((layer.sample_rate for layer in layers if hasattr(layer, "framing")), None)


def _order(tags, labels):
    """Returns which output of the model is which tag of the tracks."""
    if labels is None:
        return slice(None)
    labels = vocabulary.resolve(labels)
    if differ := sorted(set(labels) ^ set(tags)):
        raise ValueError(f"`labels` must be the tags of the tracks; {_some(differ)} are not in both.")
    return [labels.index(tag) for tag in tags]


def _activated(scores, activation, ids, tags):
    if scores.shape != (len(ids), tags):
        raise ValueError(f"`model` must give scores of the shape {(len(ids), tags)}; they are of {scores.shape}.")
    wrong = ~np.isfinite(scores).all(axis=1)
    if wrong.any():
        track = int(wrong.argmax())
        raise ValueError(f"`model` must give finite scores; those of track {ids[track]!r} are {_some(scores[track])}.")
    if activation == "sigmoid":
        return np.exp(-np.logaddexp(0, -scores.astype(np.float64)))  # which never overflows, and tells low ones apart
    if activation == "softmax":
        powers = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    low, high = float(scores.min()), float(scores.max())
    if low < -_SLACK or high > 1 + _SLACK:
        raise ValueError(
            f"`model` must give scores from 0 to 1; they are from {low:.3g} to {high:.3g}. Of logits "
            f"`activation` 'sigmoid' or 'softmax' makes them."
        )
    return scores


def _twice(names):
    seen = set()
    return sorted({name for name in names if name in seen or seen.add(name)})


def _some(values):
    shown = ", ".join(repr(value.item() if hasattr(value, "item") else value) for value in values[:3])
    return f"{shown}, ..." if len(values) > 3 else shown
