"""The figures as Markdown tables: medians, and where it matters the least and the most of the rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from tests.bench.load import Sample
from tests.bench.operations import CLIENTS, OPERATIONS, P95, TIMES_EMPTY, TIMES_STORIES

# contender → operation → one sample a round
Samples = dict[str, dict[str, list[Sample]]]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first column is text, the others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def middle(samples: Sequence[Sample], figure: Callable[[Sample], float]) -> float:
    return median(figure(each) for each in samples)


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """The median, and in brackets the least and the most."""
    return f"{median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def ratios(one: Sequence[Sample], other: Sequence[Sample]) -> list[float]:
    """The requests/s of one in those of the other, round by round."""
    return [a.rate / b.rate for a, b in zip(one, other, strict=True)]


def throughput(samples: Samples) -> str:
    """Each operation beside its three references."""
    rows = []
    for operation in OPERATIONS:
        if operation.name not in samples["imi"]:
            continue
        own = samples["imi"][operation.name]
        row = [operation.title]
        for contender in ("imi", "stories", "function"):
            if found := samples[contender].get(operation.name):
                row.append(spread([each.rate for each in found], ",.0f"))
                row.append(f"{middle(found, lambda s: s.p50):.1f} / {middle(found, lambda s: s.p99):.1f}")
            else:
                row += ["–", "–"]
        stories = samples["stories"].get(operation.name)
        row.append(spread(ratios(own, stories)) if stories else "–")
        row.append(spread(ratios(own, samples["imi"]["empty"]), ".2f"))
        rows.append(row)
    empty = samples["imi"]["empty"]
    latency = f"{middle(empty, lambda s: s.p50):.1f} / {middle(empty, lambda s: s.p99):.1f}"
    rows.append(["the empty answer", spread([each.rate for each in empty], ",.0f"), latency, *["–"] * 6])
    head = [
        "operation",
        "iMi, requests/s",
        "p50 / p99 ms",
        "stories' stack",
        "p50 / p99 ms",
        "function alone",
        "p50 / p99 ms",
    ]
    return table([*head, "× stories' stack", "× empty answer"], rows)


def latencies(samples: dict[str, list[Sample]]) -> str:
    """Latencies with all clients at it."""
    rows = []
    for operation, title in (
        *((each.name, each.title) for each in OPERATIONS),
        ("empty", "the empty answer"),
    ):
        if found := samples.get(operation):
            p95 = [each.p95 for each in found]
            goal = (
                f"< {P95[operation]:.0f} {verdict(median(p95) < P95[operation])}" if operation in P95 else "–"
            )
            rows.append(
                [
                    title,
                    spread(p95),
                    f"{middle(found, lambda s: s.p50):.1f}",
                    f"{middle(found, lambda s: s.rate):,.0f}",
                    goal,
                ]
            )
    return table([f"{CLIENTS} clients", "p95 ms", "p50 ms", "requests/s", "goal (p95 ms)"], rows)


def goals(samples: Samples) -> str:
    """The ratios that are promised."""
    rows = []
    own = samples["imi"]
    for operation in OPERATIONS:
        for what, times, reference in (
            ("stories' stack", TIMES_STORIES, samples["stories"].get(operation.name)),
            ("empty answer", TIMES_EMPTY, own["empty"]),
        ):
            if operation.name in times and operation.name in own and reference:
                found = ratios(own[operation.name], reference)
                goal = times[operation.name]
                rows.append(
                    [
                        operation.title,
                        f"{goal:g} × the {what}",
                        spread(found, ".2f"),
                        verdict(median(found) >= goal),
                    ]
                )
    return table(["goal", "at least", "median (least–most)", ""], rows)


def startup(seconds: dict[str, list[float]]) -> str:
    """The times until something answers."""
    said = (
        ("new", "`imi up`, new data directory", 8.0),
        ("existing", "`imi up`, existing data directory", 3.0),
        ("help", "`imi --help`", 0.25),
        ("python", "`python -c pass`", None),
    )
    rows = [
        [
            title,
            spread(seconds[name], ".2f"),
            f"< {goal:g} {verdict(median(seconds[name]) < goal)}" if goal else "–",
        ]
        for name, title, goal in said
    ]
    return table(["start, healthy or done", "seconds", "goal (s)"], rows)


def verdict(met: bool) -> str:
    return "met" if met else "**missed**"
