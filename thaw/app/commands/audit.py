"""thaw audit: search data/processed for duplicates and label errors."""

import argparse
import sys
from pathlib import Path

from thaw.app.audit.collection import collect, extracted
from thaw.app.audit.findings import read_correct, search
from thaw.app.audit.label_errors import refuse_without_cleanlab
from thaw.app.audit.write import FILES, is_earlier_audit, summary, write_findings
from thaw.app.commands.common import set_up_backend
from thaw.app.versions import other_versions, stage_versions
from thaw.runtime.files import replacing_folder
from thaw.stage import read_params

# By eye, nine of ten pairs of CIFAR-10 above it are duplicates, and half of those from 0.72 to 0.76 (docs/audit.md).
THRESHOLD = 0.75


def similarity(text: str) -> float:
    """Type of an argument that is a cosine."""
    try:
        cosine = float(text)
    except ValueError:
        cosine = 0.0
    if not 0 < cosine <= 1:
        raise argparse.ArgumentTypeError(f"received {text}; accepted: a number above 0, 1 at most")
    return cosine


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "audit",
        help="search all splits for duplicates, and training and validation for label errors",
        epilog="example: %(prog)s --threshold 0.8, after `dvc repro`",
    )
    words = f"least cosine of the whitened features of two near duplicates ({THRESHOLD:g})"
    parser.add_argument("--threshold", type=similarity, default=THRESHOLD, metavar="COSINE", help=words)
    words = "gets two tables and two pictures (audit)"
    parser.add_argument("--output", type=Path, default=Path("audit"), metavar="FOLDER", help=words)
    return parser


def run(arguments: argparse.Namespace) -> None:
    params, output, threshold = read_params(), arguments.output, arguments.threshold
    refuse_without_cleanlab()
    replaces = is_earlier_audit(output)
    info = extracted(params)
    if other := other_versions(stage_versions("extract")):
        print(f"audit: data/features was {other}", file=sys.stderr)
    with replacing_folder(output) as beside:  # an output that cannot be written fails before the search
        correct = read_correct(info["classes"])
        set_up_backend("audit", params)
        collection = collect(info, params.extract.batch_size)
        findings = search(collection, threshold, params.seed)
        write_findings(beside, collection, findings, threshold)
    print(summary(collection, findings, threshold, correct))
    print(f"{output}: {', '.join(FILES)} written" + (", in place of an earlier audit's" if replaces else ""))
