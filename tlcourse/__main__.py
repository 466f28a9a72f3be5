"""The commands of ``python -m tlcourse``.

Lesson 00 shows them.

Each command imports what it needs when it runs, so that `doctor` and `fetch` work where other things are missing.
"""

import argparse
import sys
from pathlib import Path

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments
        The command line without the program's name; None: ``sys.argv``.

    Returns
    -------
    The exit status: 0, or 1 where something is wrong; argparse exits with 2 on a wrong command line.
    """
    options = _parser().parse_args(arguments)
    from tlcourse.sources import SourceError

    try:
        return options.command(options)
    except (SourceError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    from tlcourse.transfer_command import add_predict, add_transfer

    parser = argparse.ArgumentParser(prog="python -m tlcourse", description=sys.modules["tlcourse"].__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    doctor = commands.add_parser("doctor", help="what this machine has, and what to do about what it lacks")
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.add_argument("--quick", action="store_true", help="without PyTorch and the network; within a second")
    doctor.set_defaults(command=_doctor)

    fetch = commands.add_parser("fetch", help="install the embedded data and weights that are not in place")
    fetch.set_defaults(command=_fetch)

    claims = commands.add_parser("claims", help="the table of all claims in the executed notebooks")
    claims.add_argument("folder", nargs="?", help="the notebooks' folder (default: the course's own)")
    claims.add_argument("--json", action="store_true", help="for programs")
    claims.set_defaults(command=_claims)

    experiments = commands.add_parser("experiments", help="make the kept results; an interrupted call is resumed")
    experiments.add_argument("names", nargs="*", metavar="NAME", help="default: all of them")
    experiments.add_argument("--list", action="store_true", help="only print their names")
    experiments.set_defaults(command=_experiments)

    progress = commands.add_parser("progress", help="what you have tried and passed; nothing is sent anywhere")
    progress.add_argument("--json", action="store_true", help="for programs")
    progress.add_argument(
        "--certificate", metavar="NAME", help="print a certificate of what was passed, with the answers"
    )
    progress.add_argument("--verify", metavar="FILE", help="run the answers of a certificate again in a jail")
    progress.add_argument(
        "--trust-submissions",
        action="store_true",
        help="with --verify: where no jail works, run what somebody else wrote without one",
    )
    progress.add_argument("--seed", type=int, help="with --verify: repeat the inputs of an earlier call")
    progress.set_defaults(command=_progress)

    grade = commands.add_parser(
        "grade", help="grade submissions of an assignment in a jail; needs a clone of the course"
    )
    grade.add_argument("submissions", nargs="?", type=Path, help="a notebook, a zip, or a folder: one entry a learner")
    grade.add_argument("--assignment", metavar="NUMBER", help='"03", or "03c" for the clinic after it')
    grade.add_argument("--out", type=Path, help="the results' folder; a batch that was cut off goes on there")
    grade.add_argument("--jobs", type=int, metavar="N", help="how many at a time (default: the cores)")
    grade.add_argument("--roster", type=Path, help="CSV with id, name, email, canvas_id, sis_id, section")
    grade.add_argument("--seed", type=int, help="of the inputs (default: a new one a results' folder)")
    grade.add_argument("--variants", type=int, metavar="SEED", help="of the notebooks that `variants` wrote")
    grade.add_argument("--json", action="store_true", help="for programs")
    grade.add_argument("--doctor", action="store_true", help="attack the jails that this machine has, and report")
    grade.add_argument(
        "--trust-submissions", action="store_true", help="grade without a jail where there is none; each result says so"
    )
    grade.set_defaults(command=_grade)

    export = commands.add_parser(
        "export", help="an assignment for Otter-Grader or nbgrader; needs a clone of the course"
    )
    export.add_argument("assignment", metavar="ASSIGNMENT", help='"03", or "03c" for the clinic after it')
    export.add_argument("--to", required=True, choices=["otter", "nbgrader"], help="the engine that will grade")
    export.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="may hold other assignments")
    export.add_argument("--seed", type=int, help="of the inputs (default: a new one)")
    export.set_defaults(command=_export)

    variants = commands.add_parser("variants", help="write a notebook a learner, with constants of their own")
    variants.add_argument("--assignment", metavar="NUMBER", required=True, help='such as "00"')
    variants.add_argument("--roster", type=Path, required=True, help="CSV with the column id")
    variants.add_argument("--seed", type=int, required=True, help="draws the constants; `grade` needs it again")
    variants.add_argument("--out", type=Path, required=True, help="the folder for ID.ipynb of each learner")
    variants.set_defaults(command=_variants)

    transfer = commands.add_parser(
        "transfer", help="your own images or texts: audit, advice, trial of the strategies, report and model"
    )
    add_transfer(transfer)
    transfer.set_defaults(command=_transfer)

    predict = commands.add_parser("predict", help="use a model that transfer made; prints a CSV")
    add_predict(predict)
    predict.set_defaults(command=_predict)
    return parser


def _doctor(options: argparse.Namespace) -> int:
    from tlcourse.doctor import diagnose, report

    return report(diagnose(quick=options.quick), as_json=options.json)


def _fetch(options: argparse.Namespace) -> int:
    from tlcourse.sources import fetch

    installed = fetch()
    print(f"installed {', '.join(installed)}" if installed else "every embedded source was in place")
    return 0


def _claims(options: argparse.Namespace) -> int:
    from tlcourse.claims import print_table

    print_table(options.folder, as_json=options.json)
    return 0


def _experiments(options: argparse.Namespace) -> int:
    from tlcourse.experiments import EXPERIMENTS
    from tlcourse.results import StaleResults, make_results

    by_name = {experiment.name: experiment for experiment in EXPERIMENTS}
    if options.list:
        print("\n".join(by_name))
        return 0
    unknown = [name for name in options.names if name not in by_name]
    if unknown:
        print(f"error: no experiment {unknown[0]!r}; there are: {', '.join(by_name)}", file=sys.stderr)
        return 1
    try:
        for name in options.names or by_name:
            make_results(by_name[name])
    except StaleResults as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _progress(options: argparse.Namespace) -> int:
    if options.verify is not None:
        from tlcourse.grading.verify import run

        return run(options)
    from tlcourse.checks.certificate import CertificateError, make_certificate
    from tlcourse.checks.records import ProgressError, read_progress

    try:
        if options.certificate is not None:
            print(make_certificate(options.certificate), end="")
        else:
            progress = read_progress()
            print(progress.as_json() if options.json else progress)
    except (CertificateError, ProgressError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _grade(options: argparse.Namespace) -> int:
    from tlcourse.grading.command import run

    return run(options)


def _export(options: argparse.Namespace) -> int:
    from tlcourse.grading.engines import run

    return run(options)


def _variants(options: argparse.Namespace) -> int:
    from tlcourse.grading.variants import run

    return run(options)


def _transfer(options: argparse.Namespace) -> int:
    from tlcourse.transfer_command import run

    return run(options)


def _predict(options: argparse.Namespace) -> int:
    from tlcourse.transfer_command import predict

    return predict(options)


if __name__ == "__main__":
    sys.exit(main())
