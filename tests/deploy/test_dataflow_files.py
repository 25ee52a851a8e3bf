"""The flex templates, the call that starts one and the Terraform files, against the command line and Dataflow's API."""

import json
import re
import shutil
import string
import subprocess
from pathlib import Path
from typing import Any

import hcl2
import pytest
from google.cloud.dataflow_v1beta3 import (
    ContainerSpec,
    LaunchFlexTemplateRequest,
    TemplateMetadata,
)
from google.protobuf.json_format import ParseDict

from mien.pipelines import template
from mien.pipelines.beam_options import beam_actions
from mien.pipelines.parser import parser

DATAFLOW = Path(__file__).parents[2] / "deploy" / "dataflow"
TEMPLATES = sorted(path.stem for path in (DATAFLOW / "templates").glob("*.json"))
AGAIN = "python -m mien.pipelines.template deploy/dataflow/templates makes them anew"
VALUES = {
    "templates": "gs://p-mien-work/templates",
    "inputs": "gs://photos/in/**.jpg",
    "output": "gs://p-mien-safe/photos",
    "policy": "redact",
    "image": "europe-west1-docker.pkg.dev/p/mien/mien:0.1.0",
    "worker_ram": "12GB",
    "worker_account": "mien-worker@p.iam.gserviceaccount.com",
    "work": "gs://p-mien-work",
    "machine_type": "n2-standard-4",
    "max_workers": "10",
    "subnetwork": "https://www.googleapis.com/compute/v1/projects/p/regions/europe-west1/subnetworks/mien-workers",
}


def described(command: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATAFLOW / "templates" / f"{command}.json").read_text())
    return found


def nightly() -> dict[str, Any]:
    text = (DATAFLOW / "nightly.json").read_text()
    found: dict[str, Any] = json.loads(string.Template(text).substitute(VALUES))
    return found


def terraform() -> dict[str, list[dict[str, Any]]]:
    """The blocks of all files, by kind; strings without the quotes that the parser leaves."""
    blocks: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((DATAFLOW / "terraform").glob("*.tf")):
        with path.open() as stream:
            for kind, found in hcl2.load(stream).items():
                if isinstance(found, list):
                    blocks.setdefault(kind.strip('"'), []).extend(plain(found))
    return blocks


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value[1:-1] if isinstance(value, str) and value[:1] == value[-1:] == '"' else value


def resources(blocks: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        f"{kind}.{name}": body
        for block in blocks["resource"]
        for kind, named in block.items()
        for name, body in named.items()
    }


def test_every_job_has_its_template() -> None:
    assert set(TEMPLATES) == set(template.commands()), AGAIN


@pytest.mark.parametrize("command", TEMPLATES)
def test_a_template_takes_what_the_command_takes(command: str) -> None:
    assert described(command) == template.metadata(command), AGAIN


@pytest.mark.parametrize("command", TEMPLATES)
def test_dataflow_understands_the_template(command: str) -> None:
    found = described(command)
    spec = {"image": "i", "metadata": found, "sdkInfo": {"language": "PYTHON"}}
    parsed = ParseDict(spec, ContainerSpec.pb(ContainerSpec()))
    assert len(TemplateMetadata(parsed.metadata).parameters) == len(found["parameters"])
    for parameter in found["parameters"]:
        assert re.fullmatch("[a-z][a-z0-9_]*", parameter["name"])
        patterns = [re.compile(regex) for regex in parameter["regexes"]]
        fits = [parameter["defaultValue"]] if "defaultValue" in parameter else []
        fits += [option["value"] for option in parameter.get("enumOptions", [])]
        assert all(pattern.match(text) for text in fits for pattern in patterns), parameter
        # a parameter that the launcher hands on is one of the command's or of Beam's
        assert f"--{parameter['name']}" in beam_actions() or parameter["name"] in {
            "command",
            *map(template.parameter_of, template.commands()[command]._actions),
        }


@pytest.mark.parametrize(
    ("uri", "fits"),
    [
        ("gs://b", True),
        ("gs://b/a b/ü,1.jpg,gs://c/**.jpg", True),
        ("/home/photos", False),
        ("photos", False),
        ("gs://", False),
        ("https://x/y", False),
    ],
)
def test_inputs_are_uris(uri: str, fits: bool) -> None:
    (regex,) = next(p for p in described("redact")["parameters"] if p["name"] == "inputs")["regexes"]
    assert bool(re.match(regex, uri)) == fits


def test_parameters_become_the_command_line() -> None:
    words = template.words(
        [
            "--command=redact",
            "--inputs=gs://a/x,1.jpg,gs://b/c d,s3://e",
            "--output=gs://o",
            "--visible_mark=true",
            "--dry_run=false",
            "--image_format=webp",
            "--no_auth",
            "--project=p",
        ]
    )
    expected = ["redact", "gs://a/x,1.jpg", "gs://b/c d", "s3://e", "--output=gs://o", "--visible-mark"]
    assert words == [*expected, "--image-format=webp", "--no_auth", "--project=p", "--runner=DataflowRunner"]
    args = parser().parse_args(words[:-3])
    assert (args.inputs, args.visible_mark, args.dry_run, args.image_format) == (words[1:4], True, False, "webp")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (["--inputs=gs://a", "--output=gs://o"], "the parameter command is ''"),
        (["--command=face"], "the parameter command is 'face'"),
        (["--command=redact", "--overwrite=maybe"], "must be true or false"),
        (["redact", "gs://a"], "'redact' is no parameter"),
    ],
)
def test_parameters_that_cannot_be_meant(
    parameters: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert template.main(parameters) == 2
    assert message in capsys.readouterr().err


def test_the_nightly_call_is_one_that_dataflow_takes() -> None:
    call = nightly()
    launch = ParseDict(call, LaunchFlexTemplateRequest.pb(LaunchFlexTemplateRequest())).launch_parameter
    assert launch.environment.max_workers == 10
    command = launch.parameters["command"]
    assert launch.container_spec_gcs_path.endswith(f"/{command}.json")
    known = {parameter["name"]: parameter for parameter in described(command)["parameters"]}
    needed = {name for name, parameter in known.items() if not parameter["isOptional"]}
    assert needed <= set(launch.parameters) <= set(known)
    for name, value in launch.parameters.items():
        assert all(re.match(regex, value) for regex in known[name]["regexes"]), name
    words = template.words([f"--{name}={value}" for name, value in sorted(launch.parameters.items())])
    args, beam = parser().parse_known_args(words)
    assert args.policy == "redact"
    assert {word.partition("=")[0] for word in beam} <= set(beam_actions())
    # Dataflow's own rules for labels and job names
    assert re.fullmatch("[a-z]([-a-z0-9]{0,61}[a-z0-9])?", launch.job_name)


def test_terraform_fills_every_gap_of_the_call() -> None:
    (filled,) = re.findall(
        r"nightly\.json\", \{(.*?)\}\)", (DATAFLOW / "terraform/scheduler.tf").read_text(), re.DOTALL
    )
    assert set(re.findall(r"^\s+(\w+)\s+=", filled, re.MULTILINE)) == set(VALUES)


def test_terraform_has_what_is_needed() -> None:
    blocks = terraform()
    found = resources(blocks)
    kinds = [name.partition(".")[0] for name in found]
    for kind in ("google_cloud_scheduler_job", "google_artifact_registry_repository", "google_storage_bucket_object"):
        assert kind in kinds
    (target,) = found["google_cloud_scheduler_job.nightly"]["http_target"]
    assert target["uri"].endswith("/flexTemplates:launch")
    assert "oauth_token" in target
    for bucket in ("work", "output"):
        body = found[f"google_storage_bucket.{bucket}"]
        assert body["public_access_prevention"] == "enforced"
        assert body["uniform_bucket_level_access"] is True
        assert body["lifecycle_rule"]
    for block in blocks["variable"]:
        for name, body in block.items():
            if isinstance(body, dict):
                assert len(body["description"]) > 20, name
    given = {name for block in blocks["variable"] for name in block}
    text = "".join(path.read_text() for path in (DATAFLOW / "terraform").glob("*.tf"))
    assert set(re.findall(r"\bvar\.(\w+)", text)) == {name for name in given if not name.startswith("__")}
    for kind, name in re.findall(r"\b(google_\w+)\.(\w+)", text):
        assert f"{kind}.{name}" in found, "a resource that is not there"


def test_accounts_have_the_least_rights() -> None:
    found = resources(terraform())
    project = {name: body["role"] for name, body in found.items() if name.startswith("google_project_iam_member.")}
    assert project == {
        "google_project_iam_member.worker": "roles/dataflow.worker",
        "google_project_iam_member.scheduler": "${google_project_iam_custom_role.launcher.id}",
    }
    (launcher,) = [body for name, body in found.items() if name.startswith("google_project_iam_custom_role.")]
    assert launcher["permissions"] == ["dataflow.jobs.create", "dataflow.jobs.get", "dataflow.jobs.list"]
    roles = {str(body.get("role")) for body in found.values() if isinstance(body, dict)}
    assert not [role for role in roles if re.search(r"owner|editor|[aA]dmin|viewer$", role.rpartition("/")[2])]


def test_workers_change_no_template_and_no_policy() -> None:
    """Which objects of which bucket the workers may write, and read beside their input."""
    writes, reads = {}, {}
    for name, body in resources(terraform()).items():
        if name.startswith("google_storage_bucket_iam_member.") and "worker" in body["member"]:
            kind = {"roles/storage.objectUser": writes, "roles/storage.objectViewer": reads}.get(body["role"])
            if kind is not None:
                kind[body["bucket"]] = folders(body)
            else:  # lists names, reads and writes no object
                assert body["role"] == "roles/storage.legacyBucketReader"
    assert writes == {
        "${google_storage_bucket.output.name}": None,
        "${google_storage_bucket.work.name}": {"temp/", "staging/"},
    }
    assert reads == {"${each.value}": None, "${google_storage_bucket.work.name}": {"templates/", "policies/"}}


def folders(member: dict[str, Any]) -> set[str] | None:
    """The folders that the condition of a bucket's member lets through, None without a condition."""
    if "condition" not in member:
        return None
    (condition,) = member["condition"]
    parts = condition["expression"].replace("\\", "").split(" || ")
    prefix = f"projects/_/buckets/{member['bucket']}/objects/"
    found = [re.fullmatch(rf'resource\.name\.startsWith\("{re.escape(prefix)}([a-z]+/)"\)', part) for part in parts]
    assert all(found), condition["expression"]
    return {match[1] for match in found if match}


def test_jobs_can_run_an_image_by_its_digest() -> None:
    blocks = terraform()
    known = {name: value for block in blocks["locals"] for name, value in block.items()}
    assert known["image"] == '${var.image_digest == "" ? local.pushed : "${local.repository}@${var.image_digest}"}'
    (pushed,) = [block["image"]["value"] for block in blocks["output"] if "image" in block]
    assert pushed == "${local.pushed}", "a digest is known only after the push"


def test_terraform_reads_its_files() -> None:
    program = shutil.which("terraform")
    if program is None:
        pytest.skip("terraform is not installed")
    words = [program, "fmt", "-check", "-diff", str(DATAFLOW / "terraform")]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
