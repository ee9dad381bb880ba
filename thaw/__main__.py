"""thaw's own commands; everything else is DVC's. `thaw`, or `python -m thaw`, lists them."""

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

from thaw import __version__
from thaw.errors import ThawError, out_of_memory


def _params(arguments: argparse.Namespace) -> None:
    from thaw import compose

    compose.compose(arguments.overrides)
    print("params.yaml written")


def _check(arguments: argparse.Namespace) -> None:
    from thaw import paths

    _composed(arguments.overrides)
    print("accepted" if arguments.overrides else f"{paths.PARAMS}: accepted")


def _composed(overrides: list[str]):
    """Checked parameters: what conf/ composes to with overrides, or params.yaml where there are none."""
    from thaw import compose, params, paths

    if not overrides:
        return params.load()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / paths.PARAMS
        compose.compose(overrides, output)
        return params.load(output)


def _summary(arguments: argparse.Namespace) -> None:
    chosen = _composed(arguments.overrides)
    from thaw import params, progress, tables

    used = _backend("summary", chosen)
    from thaw import summary

    one = summary.build(chosen)
    print(tables.aligned(summary.blocks(chosen, one)), end="\n\n")
    rows = [summary.phase(chosen, one, name).cells() for name in params.chain_of(chosen.schedule)]
    print(tables.aligned([summary.COLUMNS, *rows]), flush=True)
    if not arguments.estimate:
        return
    print(f"\nEstimated from a second or so of each stage's steps, {used}:", flush=True)
    total = 0.0
    for stage, seconds in summary.seconds(chosen, one):
        total += seconds
        print(f"{stage:20} {progress.duration(seconds):>9}", flush=True)
    words = "and some seconds a stage to start; what stops early or is cached takes less"
    print(f"{'all':20} {progress.duration(total):>9}, {words}")


def _lr_range(arguments: argparse.Namespace) -> None:
    from thaw import files, lr_range, params

    chosen = params.load()
    lr_range.refuse_stale(chosen, arguments.phase)
    output = arguments.output or Path(f"lr-range-{arguments.phase}.png")
    with files.replacing(output) as kept:
        kept.touch()  # what cannot be written is told now
        _backend("lr-range", chosen)
        found = []
        for one in lr_range.trials(chosen, arguments.phase, arguments.rates or lr_range.RATES, arguments.epochs):
            found.append(one)
            reached = f"validation accuracy {one.val_accuracy:.4f}, loss {one.val_loss:.4f}"
            print(f"lr-range: {one.rate:g}: {reached}", flush=True)
        best = lr_range.suggestion(found)
        lr_range.picture(kept, arguments.phase, found)
    key = "head" if arguments.phase == "head" else f"schedule.phases.{arguments.phase}"
    print(f"{output}: best at {best.rate:g}: -S {key}.learning_rate={best.rate:g}")


def _fresh(arguments: argparse.Namespace) -> None:
    from thaw import state

    left = state.drop()
    but = f" but that of what is running: {', '.join(left)}" if left else ""
    print(f"{state.home()}: no saved state is left{but}")


def _compare(arguments: argparse.Namespace) -> None:
    from thaw import compare, paths

    print(compare.write(all_commits=arguments.all_commits))
    print(f"\n{paths.PLOTS / 'compare.md'} and {paths.PLOTS / 'compare.png'} are written")


def _report(arguments: argparse.Namespace) -> None:
    from thaw.app.report.write import write

    print(f"{write(arguments.revision, arguments.output)} is written: one file, which needs no network")


def _predict(arguments: argparse.Namespace) -> None:
    import numpy as np

    from thaw import params, predict, progress

    folder = predict.model(arguments.model)
    given = predict.find(arguments.pictures)
    files, images, refused = [], [], []
    with _aside(), progress.Steps("predict: reading", len(given), "files") as doing:
        for number, file in enumerate(given, start=1):
            try:
                images.append(predict.read(file))
                files.append(file)
            except ThawError as error:
                refused.append(error)
            doing.reach(number)
    for error in refused:
        print(error, file=sys.stderr)
    if not files:
        raise ThawError("predict: no picture to look at")
    _backend("predict", params.load())
    with _aside(), progress.Steps("predict", len(images), "pictures") as doing:
        classes, shares = predict.predict(folder, np.stack(images), doing.reach)
    found = list(predict.rows(files, classes, shares, arguments.top))
    print({"table": predict.as_table, "json": predict.as_json, "csv": predict.as_csv}[arguments.form](found))


def _export(arguments: argparse.Namespace) -> None:
    import shutil

    from thaw import device, files, gpus, params, predict

    folder = predict.model(arguments.model)
    output = arguments.output or Path(f"{folder.name}.{arguments.format}")
    # Half a precision is no part of a file for any machine, and not every format has it; all can compute on a CPU.
    os.environ[gpus.VISIBLE] = "-1"
    settings = params.load().device.model_copy(update={"precision": "float32"})
    device.use("tensorflow", settings)
    from thaw import checkpoint, export, splits

    network, info = checkpoint.load(folder)
    images, _ = splits.read("test", info.classes)
    with tempfile.TemporaryDirectory() as beside, files.replacing(output) as kept:
        made = Path(beside) / f"model.{arguments.format}"
        export.write(network, arguments.format, made)
        _, ours = predict.predict(folder, images)
        difference = float(abs(export.predict(arguments.format, made, images) - ours).max())
        if difference > export.TOLERANCE:
            raise ThawError(f"{output}: probabilities differ from {folder}'s by up to {difference:.2g}; not kept")
        shutil.copyfile(made, kept)
    print(f"{output}: the probabilities of {len(images):,} test pictures are {folder}'s, to {difference:.1e} at most")


def _explain(arguments: argparse.Namespace) -> None:
    import numpy as np

    from thaw import params, predict

    folder = predict.model(arguments.model)
    image = predict.read(arguments.picture)
    _backend("explain", params.load())
    from thaw import checkpoint, evaluation, explain

    network, info = checkpoint.load(folder)
    shares = evaluation.softmax(network.classifier().predict(image[None], verbose=0))[0]
    label = int(shares.argmax()) if arguments.of is None else predict.number(arguments.of, info.classes)
    heat = explain.grad_cam(network, image[None], np.array([label]))[0]
    title = f"{info.classes[label]}, {shares[label]:.1%}"
    explain.overlay(arguments.output, predict.upright(arguments.picture), image, heat, title)
    print(f"{arguments.output}: {title}")


def _aside():
    """Say what is printed in its block on standard error: a command's output may be for another program."""
    return contextlib.redirect_stdout(sys.stderr)


def _backend(command: str, chosen):
    """Set up the backend, on a GPU that no stage has where there are any; what was chosen."""
    from thaw import device, gpus

    with _aside():
        gpus.take(command)
    return device.use(chosen.backend, chosen.device)


def _demo(arguments: argparse.Namespace) -> None:
    from thaw import demo

    demo.run()


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="a checkpoint; the schedule's last by default")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"received {text}; accepted: a whole number from 1 up")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 10:
        raise argparse.ArgumentTypeError(f"received {text}; accepted: a number above 0, 10 at most")
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m thaw" if Path(sys.argv[0]).name == "__main__.py" else "thaw",
        description="Gradual unfreezing as a DVC pipeline. Runs are DVC's: dvc repro, dvc exp run -S backbone=vgg16.",
    )
    parser.add_argument("--version", action="version", version=f"thaw {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    one = commands.add_parser(
        "params",
        help="compose conf/ into params.yaml",
        epilog="example: %(prog)s backbone=mobilenetv2",
    )
    one.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as -S takes them")
    one.set_defaults(command=_params)

    one = commands.add_parser(
        "check",
        help="check params.yaml, or what conf/ composes to with overrides, before anything runs",
        epilog="example: %(prog)s head.units=128",
    )
    one.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as -S takes them")
    one.set_defaults(command=_check)

    one = commands.add_parser(
        "summary",
        help="print blocks, cuts and phases of a run, and how long it may take, before it is started",
        epilog="example: %(prog)s backbone=mobilenetv2 schedule=full",
    )
    one.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as -S takes them; without any, params.yaml")
    one.add_argument("--no-estimate", dest="estimate", action="store_false", help="do not measure speeds")
    one.set_defaults(command=_summary)

    one = commands.add_parser(
        "lr-range",
        help="try learning rates for a phase in short runs, draw what they reach and suggest one",
        epilog="example: %(prog)s depth1 --rates 0.001 0.002 0.004, after `dvc repro train_head`",
    )
    one.add_argument("phase", metavar="PHASE", help="head, or one of schedule.phases; the phase before has been run")
    one.add_argument("--rates", type=_rate, nargs="+", metavar="RATE", help="1e-5 to 0.1 by default, two a decade")
    one.add_argument("--epochs", type=_count, default=2, metavar="N", help="of each run (2)")
    one.add_argument("--output", type=Path, metavar="PNG", help="lr-range-<phase>.png by default")
    one.set_defaults(command=_lr_range)

    one = commands.add_parser("demo", help="run the whole pipeline on embedded data, in demo/", epilog="make demo")
    one.set_defaults(command=_demo)

    one = commands.add_parser(
        "fresh", help="drop the saved state of stages that did not end: they start anew", epilog="make fresh"
    )
    one.set_defaults(command=_fresh)

    one = commands.add_parser(
        "compare",
        help="a table of all experiments, and a picture of accuracy against training time",
        epilog="example: %(prog)s --all-commits",
    )
    one.add_argument("-A", "--all-commits", action="store_true", help="those of all commits, not of the last alone")
    one.set_defaults(command=_compare)

    one = commands.add_parser(
        "report",
        help="write one HTML file about an experiment, a commit or the workspace",
        epilog="example: %(prog)s pedal-jerk --output pedal-jerk.html",
    )
    words = "an experiment, commit, branch or tag; the workspace by default"
    one.add_argument("revision", nargs="?", metavar="REVISION", help=words)
    one.add_argument("--output", type=Path, metavar="FILE", help="report.html, or report-REVISION.html, by default")
    one.set_defaults(command=_report)

    one = commands.add_parser(
        "predict",
        help="say what pictures show",
        epilog="example: %(prog)s cat.jpg holiday/ --top 3 --json",
    )
    one.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE|FOLDER", help="of any size and mode")
    one.add_argument("--top", type=_count, default=3, metavar="N", help="classes to name for each (3)")
    _model(one)
    forms = one.add_mutually_exclusive_group()
    for form, words in (("json", "as JSON"), ("csv", "as CSV, a row for each picture and class")):
        forms.add_argument(f"--{form}", dest="form", action="store_const", const=form, default="table", help=words)
    one.set_defaults(command=_predict)

    one = commands.add_parser(
        "export",
        help="write the model as one file that takes raw pictures",
        epilog="example: %(prog)s --format onnx",
    )
    one.add_argument("--format", choices=("keras", "onnx", "tflite"), required=True)
    one.add_argument("--output", type=Path, metavar="FILE", help="<phase>.<format> by default")
    _model(one)
    one.set_defaults(command=_export)

    one = commands.add_parser(
        "explain",
        help="draw what in a picture speaks for a class (Grad-CAM)",
        epilog="example: %(prog)s cat.jpg --of dog",
    )
    one.add_argument("picture", type=Path, metavar="PICTURE")
    one.add_argument("--of", metavar="CLASS", help="by name; the most probable by default")
    one.add_argument("--output", type=Path, default=Path("explain.png"), metavar="PNG")
    _model(one)
    one.set_defaults(command=_explain)

    arguments = parser.parse_args(sys.argv[1:] or ["--help"])
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        arguments.command(arguments)
        sys.stdout.flush()
    except ThawError as error:
        sys.exit(str(error))
    except BrokenPipeError:  # who reads has read enough; what is left would be written when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Exception as error:
        if not out_of_memory(error):
            raise
        sys.exit("out of memory; a smaller batch_size, head.units or backbone.image_size needs less")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
