"""Copy what a recipe starts from, so that an agent depends on its own start only.

Reads models/ENV/TASK/bc/ where the recipe's `start` is bc, and
data/demos/ENV/TASK.jsonl where episodes begin along the demonstrations. Writes
models/ENV/TASK/starts/RECIPE/.
"""

from warpzone.core.files import read_bytes, write_bytes, write_text
from warpzone.core.names import DEMOS, cell
from warpzone.core.stage import read_arguments, run_stage


def main() -> None:
    params, arguments = read_arguments(__doc__, "task", "recipe")
    recipe = params.recipes[arguments.recipe]
    start = recipe.start
    models = cell("models", params.env, arguments.task)
    folder = models / "starts" / arguments.recipe
    if start == "bc":
        for path in sorted((models / "bc").iterdir()):
            write_bytes(folder / path.name, read_bytes(path))
    if recipe.needs_demonstrations:
        demos = cell("data/demos", params.env, f"{arguments.task}.jsonl")
        write_bytes(folder / DEMOS, read_bytes(demos))
    write_text(folder / "start.txt", f"{start}\n")


if __name__ == "__main__":
    run_stage(main)
