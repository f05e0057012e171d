"""Copy what a recipe starts from, so that an agent depends on its own start only.

Reads models/ENV/TASK/bc/ where the recipe's `start` is bc, the folder in data/starts/
that it names where it is a model, and data/demos/ENV/TASK.jsonl where it needs
demonstrations. Writes models/ENV/TASK/starts/RECIPE/.
"""

from pathlib import Path

from warpzone.core.files import read_bytes, write_bytes, write_text
from warpzone.core.names import DEMOS, cell
from warpzone.core.params import ModelStart
from warpzone.core.stage import read_arguments, run_stage


def main() -> None:
    params, arguments = read_arguments(__doc__, "task", "recipe")
    env, task, recipe = params.env, arguments.task, params.recipes[arguments.recipe]
    folder, start = cell("models", env, task, "starts", arguments.recipe), recipe.start
    is_model = isinstance(start, ModelStart)
    model = Path(start.model) if is_model else cell("models", env, task, "bc")
    if is_model or start == "bc":
        for path in sorted(model.iterdir()):
            write_bytes(folder / path.name, read_bytes(path))
    if recipe.needs_demonstrations:
        demos = cell("data/demos", env, f"{task}.jsonl")
        write_bytes(folder / DEMOS, read_bytes(demos))
    write_text(folder / "start.txt", f"{start.model if is_model else start}\n")


if __name__ == "__main__":
    run_stage(main)
