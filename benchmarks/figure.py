"""The figure of benchmarks/README.md: how fast environments step."""

from collections.abc import Sequence
from io import BytesIO

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.measuring import Line

# Of Okabe and Ito, whom colour-blind people can follow, https://jfly.uni-koeln.de/color/;
# markers and dashes tell them apart, too. In the order in which lines come.
_STYLES = (
    {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    {"color": "#606060", "marker": "s", "linestyle": "--"},
    {"color": "#D55E00", "marker": "^", "linestyle": "-."},
)

# The defaults first, so that a matplotlibrc on this machine changes nothing.
_styled = matplotlib.style.context(
    [
        "default",
        {
            "axes.axisbelow": True,
            "axes.grid": True,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "grid.color": "#E4E4E4",
            "legend.frameon": False,
            "legend.handlelength": 3.5,
            "lines.linewidth": 2,
            "lines.markersize": 7,
            "savefig.dpi": 150,
        },
    ]
)


@_styled
def stepping_figure(lines: Sequence[Line], cores: int) -> bytes:
    """Draw rates over threads and over environments; return a PNG.

    A contestant that has no threads, only processes of an environment each, is drawn
    over these in both.

    Args:
        lines: Those named ``threads`` and ``environments``.
        cores: What more threads have to share.
    """
    names = dict.fromkeys(line.contestant for line in lines)
    styles = dict(zip(names, _STYLES, strict=False))
    over_threads = [line for line in lines if line.name == "threads"]
    over_envs = [line for line in lines if line.name == "environments"]
    threaded = {line.contestant for line in over_threads}
    processes = [line for line in over_envs if line.contestant not in threaded]
    figure = Figure(figsize=(9.0, 4.2))
    threads, envs = figure.subplots(1, 2, sharey=True)
    for axes, drawn in ((threads, over_threads + processes), (envs, over_envs)):
        most = max(drawn[0].sizes)
        for line in drawn:
            count = sum(size <= most for size in line.sizes)
            axes.plot(
                line.sizes[:count],
                line.values[:count],
                label=line.contestant,
                clip_on=False,
                zorder=3,
                **styles[line.contestant],
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(drawn[0].sizes, map(str, drawn[0].sizes))
        axes.minorticks_off()
    threads.axvline(cores, color="#B0B0B0", linewidth=1)
    threads.annotate(
        "one a core",
        (cores, 0.02),
        (4, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        color="#606060",
        fontsize="small",
    )
    threads.set(
        title="Over threads",
        xlabel="threads, or processes of an environment each",
        ylabel="agent steps/s",
        ylim=(0, None),
    )
    threads.yaxis.set_major_formatter("{x:,.0f}")
    envs.set(title="Over environments", xlabel="environments")
    handles, labels = envs.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(names))
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
