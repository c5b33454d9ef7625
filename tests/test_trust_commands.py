"""What a user sees of signatures, with real tools: building, vendoring and locking."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import requests

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import SignatureError
from linuxkit_rules.oci.manifest import INDEX, MANIFEST
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.oci.signature import SIGNATURE_ARTIFACT
from linuxkit_rules.oci.verify import Requirement
from linuxkit_rules.plan.locking import Locking
from linuxkit_rules.plan.memo import Evidence
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.plan.trust import policies_of
from linuxkit_rules.spec.linuxkit import loads
from linuxkit_rules.stages.image import PullImage
from tests.images import Blobs
from tests.project import Project
from tests.servers.fixed import Answer, Fixed, fixed_server
from tests.signing import (
    THEM,
    US,
    Layer,
    Signer,
    manifest,
    signed,
)
from tests.test_trust import events, indexed
from tests.tools import tool

Count = Callable[..., None]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project.make(tmp_path_factory.mktemp("trust") / "project")
    (made.root / "us.pub").write_bytes(US.pem)
    (made.root / "them.pub").write_bytes(THEM.pem)
    return made


@contextlib.contextmanager
def before(registry: str) -> Iterator[Fixed]:
    """A server that passes on what is asked, and keeps it."""
    with fixed_server() as proxy:

        def hook(path: str, headers: Mapping[str, str]) -> Answer:
            kept = {name: headers[name] for name in ("Accept",) if name in headers}
            answer = requests.get(f"http://{registry}{path}", headers=kept, timeout=60)
            return (
                answer.status_code,
                {"Content-Type": answer.headers.get("Content-Type", "")},
                answer.content,
            )

        proxy.hook = hook
        yield proxy


def copied(project: Project, registry: str, name: str) -> Descriptor:
    """Push the project's image ``app`` with skopeo; give its manifest."""
    line = [
        *tool("skopeo", "usr/bin/skopeo"),
        *("--insecure-policy", "copy", "-q", "--dest-tls-verify=false"),
        f"oci:{project.root / 'layout'}:docker.io/test/app:1",
        f"docker://{registry}/{name}:1",
    ]
    result = subprocess.run(line, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    address = f"http://{registry}/v2/{name}/manifests/1"
    answer = requests.get(address, headers={"Accept": MANIFEST}, timeout=60)
    return Descriptor(MANIFEST, Digest.of(answer.content), len(answer.content))


def attached(registry: str, name: str, *layers: Layer, subject: Descriptor | None = None) -> Descriptor:
    """Push a manifest with signatures, under its digest; give it."""
    blobs = Blobs()
    found = manifest(blobs, list(layers), subject, SIGNATURE_ARTIFACT if subject else "")
    for digest, data in blobs.data.items():
        if digest != found.digest:
            upload(registry, name, data)
    put(registry, name, str(found.digest), blobs.data[found.digest], MANIFEST)
    return found


def tagged(registry: str, name: str, image: Descriptor, layer: Layer) -> None:
    """Push a signature as cosign does."""
    found = attached(registry, name, layer)
    answer = requests.get(
        f"http://{registry}/v2/{name}/manifests/{found.digest}", headers={"Accept": MANIFEST}, timeout=60
    )
    put(registry, name, f"sha256-{image.digest.hex}.sig", answer.content, MANIFEST)


def moby(project: Project, *arguments: str, status: int = 0, **environment: str) -> str:
    return run(project, "build", "--format=tar", *arguments, status=status, **environment)


def run(project: Project, *arguments: str, status: int = 0, **environment: str) -> str:
    command = [sys.executable, "-m", "linuxkit_rules", *arguments]
    result = subprocess.run(
        command,
        cwd=project.root,
        env={**project.environment(), "LINUXKIT_IMAGE_LAYOUTS": "", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == status, result.stdout
    assert "Traceback" not in result.stdout
    return result.stdout


def yml(project: Project, name: str, trust: str) -> None:
    text = f"trust: {trust}\nservices:\n  - name: app\n    image: {name}\n    command: [/app]\n"
    (project.root / "app.yml").write_text(text)


def test_what_is_signed_builds_and_what_is_not_stops(project: Project, registry: str, count: Count) -> None:
    policy = "{policy: [{images: ['127.0.0.1:*/trust/**'], keys: [us.pub]}]}"
    by: dict[str, Signer | None] = {"us": US, "them": THEM, "nobody": None}
    with before(registry) as proxy:
        for name, pair in by.items():
            pushed = copied(project, registry, f"trust/{name}")
            if pair:
                layer = signed(pushed.digest, f"{proxy.host}/trust/{name}", pair)
                tagged(registry, f"trust/{name}", pushed, layer)
        yml(project, f"{proxy.host}/trust/us:1", policy)
        assert f"verify-signature {proxy.host}/trust/us:1 us.pub" in moby(project, "app.yml")
        built = (project.root / "app.tar").read_bytes()
        again = moby(project, "app.yml", LINUXKIT_OFFLINE="1", PYTHONPROFILEIMPORTTIME="1")
        assert "is up to date" in again
        assert "linuxkit_rules.scons" in again
        assert "cryptography" not in again, "nothing is to be verified"

        for name, reason, payloads in (
            ("them", "1 signature is by another key", 1),
            ("nobody", "it has no signatures", 0),
        ):
            proxy.asked.clear()
            yml(project, f"{proxy.host}/trust/{name}:1", policy)
            printed = moby(project, "app.yml", status=1)
            assert f"app.yml:4:12: {proxy.host}/trust/{name}:1: sha256:" in printed
            assert f"is not signed by us.pub: {reason}" in printed
            assert (project.root / "app.tar").read_bytes() == built
            blobs = [path for path, _ in proxy.asked if "/blobs/" in path]
            assert len(blobs) == payloads, "no blob is asked for but a signature's payload"
            count("bad signatures refused")


def test_the_site_s_policy_of_option_and_variable(project: Project, registry: str) -> None:
    pushed = copied(project, registry, "site/app")
    tagged(registry, "site/app", pushed, signed(pushed.digest, f"{registry}/site/app", US))
    yml(project, f"{registry}/site/app:1", "{policy: [{images: ['**'], type: accept}]}")
    for name in ("us", "them"):
        (project.root / f"{name}.yml").write_text(f"policy: [{{images: ['**'], keys: [{name}.pub]}}]\n")
    moby(project, "--trust-policy=us.yml", "app.yml")
    assert "is not signed by them.pub" in moby(project, "--trust-policy=them.yml", "app.yml", status=1)
    printed = moby(project, "app.yml", status=1, LINUXKIT_TRUST_POLICY="them.yml")
    assert "is not signed by them.pub" in printed
    assert "--trust-policy: there is no such file" in moby(project, "--trust-policy=no", "app.yml", status=1)
    moby(project, "app.yml")


def test_a_key_that_changes_is_seen(project: Project, registry: str) -> None:
    """The plan is not taken from memory, and the image is verified anew."""
    pushed = copied(project, registry, "rotate/app")
    tagged(registry, "rotate/app", pushed, signed(pushed.digest, f"{registry}/rotate/app", US))
    yml(
        project,
        f"{registry}/rotate/app:1",
        "{image: [XX], keys: [k.pub]}".replace("XX", f"{registry}/rotate/app"),
    )
    (project.root / "k.pub").write_bytes(US.pem)
    moby(project, "app.yml")
    assert "is up to date" in moby(project, "app.yml")
    (project.root / "k.pub").write_bytes(THEM.pem)
    assert "is not signed by k.pub: 1 signature is by another key" in moby(project, "app.yml", status=1)


def test_the_tag_of_referrers_where_the_registry_knows_no_more(
    project: Project, registry: str, tmp_path: Path
) -> None:
    """Docker's registry 2.8 has no referrers API: clients keep the list under a tag."""
    pushed, name = copied(project, registry, "trust/old"), f"{registry}/trust/old"
    found = attached(registry, "trust/old", signed(pushed.digest, name, US), subject=pushed)
    listed = {**found.to_json(), "artifactType": SIGNATURE_ARTIFACT}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed]}
    put(registry, "trust/old", f"sha256-{pushed.digest.hex}", json.dumps(index).encode(), INDEX)
    stage = PullImage(f"{name}:1", "amd64", trust=(Requirement((US.key,), 1, name),))
    events(tmp_path)[0].run(stage, {})


def upload(registry: str, repository: str, data: bytes) -> None:
    begun = requests.post(f"http://{registry}/v2/{repository}/blobs/uploads/", timeout=60)
    done = requests.put(
        begun.headers["Location"], params={"digest": str(Digest.of(data))}, data=data, timeout=60
    )
    done.raise_for_status()


def put(registry: str, repository: str, name: str, data: bytes, media_type: str) -> None:
    requests.put(
        f"http://{registry}/v2/{repository}/manifests/{name}",
        data=data,
        headers={"Content-Type": media_type},
        timeout=60,
    ).raise_for_status()


def test_what_is_printed_names_the_keys_from_here(project: Project) -> None:
    (project.root / "sub").mkdir(exist_ok=True)
    (project.root / "sub" / "k.pub").write_bytes(US.pem)
    (project.root / "sub" / "s.yml").write_text(
        "trust: {org: [test], keys: [k.pub], policy: [{images: ['docker.io/test/*'], keys: [../us.pub]}]}\n"
        "init: ['test/init:1']\n"
    )
    printed = moby(project, "--dry-run", "sub/s.yml")
    keys = loads(printed, "printed").trust
    assert (keys.keys, keys.policy[0].keys) == (("sub/k.pub",), ("us.pub",))


def test_what_is_vendored_has_its_signatures(project: Project, registry: str) -> None:
    """Signed images build from the folder alone; the same folder without the signatures does not do."""
    name = f"{registry}/trust/vendored"
    pushed = copied(project, registry, "trust/vendored")
    tagged(registry, "trust/vendored", pushed, signed(pushed.digest, name, US))
    yml(project, f"{name}:1", f"{{policy: [{{images: ['{name}'], keys: [us.pub]}}]}}")
    command = [sys.executable, "-m", "linuxkit_rules", "vendor", "--format=tar", "vendored", "app.yml"]
    environment = {**project.environment(), "LINUXKIT_IMAGE_LAYOUTS": ""}
    subprocess.run(command, cwd=project.root, env=environment, check=True)
    empty = {"LINUXKIT_STORE": str(project.root / "empty")}
    moby(project, "--offline", "--vendor=vendored", "app.yml", **empty)
    index = project.root / "vendored" / "index.json"
    value = json.loads(index.read_text())
    assert len(value["manifests"]) == 2
    value["manifests"] = [item for item in value["manifests"] if "sha256-" not in json.dumps(item)]
    index.write_text(json.dumps(value))
    others = {"LINUXKIT_STORE": str(project.root / "another")}
    printed = moby(project, "--offline", "--vendor=vendored", "app.yml", status=1, **others)
    assert "is not signed by us.pub: it has no signatures" in printed


def test_nothing_unsigned_is_vendored(project: Project, registry: str) -> None:
    copied(project, registry, "trust/unsigned")
    name = f"{registry}/trust/unsigned"
    yml(project, f"{name}:1", f"{{policy: [{{images: ['{name}'], keys: [us.pub]}}]}}")
    command = [sys.executable, "-m", "linuxkit_rules", "vendor", "--format=tar", "refused", "app.yml"]
    environment = {**project.environment(), "LINUXKIT_IMAGE_LAYOUTS": ""}
    result = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert "app.yml:4:12: " in result.stderr
    assert not (project.root / "refused" / "index.json").exists()


def test_nothing_unsigned_is_locked(project: Project, registry: str, count: Count) -> None:
    """Neither is its configuration asked for; options are those of a build."""
    with before(registry) as proxy:
        name = f"{proxy.host}/trust/locked"
        pushed = copied(project, registry, "trust/locked")
        lock = project.root / "app.lock"
        yml(project, f"{name}:1", f"{{policy: [{{images: ['{name}'], keys: [us.pub]}}]}}")
        printed = run(project, "lock", "--arch=amd64", "app.yml", status=1)
        assert f"app.yml:4:12: {name}:1: sha256:" in printed
        assert "is not signed by us.pub: it has no signatures" in printed
        assert not proxy.paths("/blobs/")
        assert not lock.exists()
        count("bad signatures refused")

        tagged(registry, "trust/locked", pushed, signed(pushed.digest, name, US))
        (project.root / "site.yml").write_text("policy: [{images: ['**'], keys: [them.pub]}]\n")
        for command in (["lock", "--arch=amd64"], ["vendor", "--format=tar", "site"]):
            refused = run(project, *command, "--trust-policy=site.yml", "app.yml", status=1)
            assert "is not signed by them.pub: 1 signature is by another key" in refused
        assert not lock.exists()
        run(project, "lock", "--arch=amd64", "app.yml")
        assert str(pushed.digest) in lock.read_text()

        yml(project, f"{name}:1", f"{{image: ['{name}']}}")
        for command in (["lock", "--arch=amd64"], ["vendor", "--format=tar", "ignored"]):
            assert "no keys are named" in run(project, *command, "app.yml", status=1)
            printed = run(project, *command, "--ignore-trust", "app.yml")
            assert f"warning: app.yml:1:8: trust: the signatures of {name} are not checked" in printed
    lock.unlink()


def test_each_platform_that_is_locked_is_signed(tmp_path: Path) -> None:
    made, below = indexed("reg.example/a/b:1")
    made.tagged(signed(below.digest, made.repository, US), image=below.digest)
    (tmp_path / "us.pub").write_bytes(US.pem)
    section = loads("trust: {image: [reg.example/a/b], keys: [us.pub]}", "f.yml", str(tmp_path)).trust
    settings = Settings(layouts=(made.write(tmp_path / "layout"),))
    trust, _ = policies_of(section, settings, Evidence())
    locking = Locking(events(tmp_path, offline=True)[0], settings, trust, ("amd64",))
    reference = Reference.parse(made.name)
    (pinned,) = locking.lock({reference: "f.yml:1:1"}).images.values()
    assert pinned.platforms["linux/amd64"].manifest.digest == below.digest
    with pytest.raises(SignatureError, match=str(made.image.digest)):
        dataclasses.replace(locking, arches=("amd64", "arm64")).lock({reference: "f.yml:1:1"})
