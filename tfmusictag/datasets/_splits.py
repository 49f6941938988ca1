"""Splits of one's own: every tag in every part, and no group in two."""

import numpy as np


def stratified(tags, groups, shares, seed=0):
    """Deals rows out to parts so that each has about its share of every tag, and all rows of a group.

    Groups are dealt out from the rarest tag on, each to the part that lacks most of that tag (iterative stratification,
    Sechidis et al. 2011, with groups in place of rows). The order of the rows does not matter.

    Args:
        tags: a list of tags for each row.
        groups: of each row, such as its artist; text.
        shares: of the parts, such as (0.8, 0.1, 0.1).
        seed: of what is drawn where parts lack the same.

    Returns:
        the part of each row, an array (rows,) of int.
    """
    names = sorted({tag for row in tags for tag in row})
    members = sorted(set(groups))
    counts = np.zeros((len(members), len(names) + 1))  # of each group's rows by tag; the last column counts rows
    place = {group: index for index, group in enumerate(members)}
    column = {tag: index for index, tag in enumerate(names)}
    for row, group in zip(tags, groups, strict=True):
        counts[place[group], [column[tag] for tag in set(row)]] += 1
        counts[place[group], -1] += 1
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(len(members))
    lacking = np.outer(np.asarray(shares) / np.sum(shares), counts.sum(axis=0))
    part_of = np.full(len(members), -1)
    while (left := np.flatnonzero(part_of < 0)).size:
        totals = counts[left, :-1].sum(axis=0)
        rarest = int(np.argmin(np.where(totals > 0, totals, np.inf))) if (totals > 0).any() else -1
        holding = left[counts[left, rarest] > 0]
        # Large groups first: small ones can still even out what they leave.
        for group in sorted(holding, key=lambda group: (-counts[group, rarest], -counts[group, -1], drawn[group])):
            order = sorted(range(len(shares)), key=lambda part: (-lacking[part, rarest], -lacking[part, -1], part))
            part_of[group] = order[0]
            lacking[order[0]] -= counts[group]
    return part_of[[place[group] for group in groups]]
