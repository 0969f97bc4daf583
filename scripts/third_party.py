#!/usr/bin/env python3
"""What is compiled into aerie: a CycloneDX bill of materials and the licence texts, out of `cargo metadata` alone.

    scripts/third_party.py --target x86_64-unknown-linux-gnu --notices THIRD-PARTY.txt --sbom sbom.cdx.json
"""
import argparse, hashlib, json, os, pathlib, subprocess, sys, tomllib, uuid

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--target", required=True)
parser.add_argument("--notices", type=pathlib.Path, required=True)
parser.add_argument("--sbom", type=pathlib.Path, required=True)
parser.add_argument("--runtime", type=pathlib.Path, help="folder of ONNX Runtime")
args = parser.parse_args()

metadata = json.loads(subprocess.check_output(
    ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", args.target]))
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
root = metadata["resolve"]["root"]

# What runs: dependencies of the program, not of its tests; what only builds it is marked so.
runs, builds, edges = set(), set(), {}
def walk(id, reached, kinds):
    stack = [id]
    while stack:
        at = stack.pop()
        if at in reached:
            continue
        reached.add(at)
        for dependency in nodes[at]["deps"]:
            if any(kind["kind"] in kinds for kind in dependency["dep_kinds"]):
                stack.append(dependency["pkg"])
walk(root, runs, {None})
for id in set(runs):
    walk(id, builds, {None, "build"})
builds -= runs

with open("Cargo.lock", "rb") as file:
    checksums = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.load(file)["package"]}

def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"

def component(id, scope):
    package = packages[id]
    entry = {"type": "library", "bom-ref": purl(package), "name": package["name"], "version": package["version"],
             "scope": scope, "purl": purl(package)}
    if package["license"]:
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return entry

by_name = lambda id: (packages[id]["name"], packages[id]["version"])
components = [component(id, "required") for id in sorted(runs - {root}, key=by_name)]
components += [component(id, "excluded") for id in sorted(builds, key=by_name)]
if args.runtime:
    version, _ = (args.runtime / "version").read_text().split()
    digest = hashlib.sha256((args.runtime / "libonnxruntime.so").read_bytes()).hexdigest()
    components.append({"type": "library", "bom-ref": "onnxruntime", "name": "onnxruntime", "version": version, "scope": "required",
                       "purl": f"pkg:pypi/onnxruntime@{version}", "licenses": [{"license": {"id": "MIT"}}],
                       "hashes": [{"alg": "SHA-256", "content": digest}]})
# What the page is made of, embedded: the lock file says which, the page's own list has the texts.
page = json.loads(pathlib.Path("src/console/web/package-lock.json").read_text())["packages"]
inside, wanted = set(), list(page[""].get("dependencies", {}))
while wanted:
    name = wanted.pop()
    entry = page.get(f"node_modules/{name}")
    if name in inside or entry is None:
        continue
    inside.add(name)
    wanted += entry.get("dependencies", {})
for name in sorted(inside):
    entry = page[f"node_modules/{name}"]
    npm = f"pkg:npm/{name.replace('@', '%40')}@{entry['version']}"
    components.append({"type": "library", "bom-ref": npm, "name": name, "version": entry["version"], "scope": "required", "purl": npm,
                       "licenses": [{"license": {"name": entry.get("license", "see its text")}}]})
dependencies = [{"ref": purl(packages[id]), "dependsOn": sorted({purl(packages[d["pkg"]]) for d in nodes[id]["deps"]
                 if d["pkg"] in runs | builds})} for id in sorted(runs | builds, key=by_name)]
body = {"components": components, "dependencies": dependencies}
# By its content, so that the same build has the same name.
serial = uuid.uuid5(uuid.NAMESPACE_URL, args.target + json.dumps(body, sort_keys=True))
own = packages[root]
args.sbom.parent.mkdir(parents=True, exist_ok=True)
args.sbom.write_text(json.dumps({
    "bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": f"urn:uuid:{serial}", "version": 1,
    "metadata": {"component": {"type": "application", "bom-ref": purl(own), "name": own["name"], "version": own["version"],
                               "licenses": [{"license": {"id": "Apache-2.0"}}]}},
    **body}, indent=1, ensure_ascii=False) + "\n")

missing, texts, lines = [], {}, []
for id in sorted(runs - {root}, key=by_name):
    package = packages[id]
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(f for f in folder.iterdir() if f.is_file()
                   and f.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")))
    lines.append(f"{package['name']} {package['version']}  {package['license'] or 'see its text'}")
    if not files:
        missing.append(package["name"])
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace").strip()
        texts.setdefault(text, []).append(f"{package['name']} {package['version']} ({file.name})")
out = ["What is compiled into aerie, each crate with its licence. The texts follow, each once, with the crates that carry it.",
       "Of crates that carry no text, the licence named here applies: " + (", ".join(missing) or "none") + ".", "", *lines]
out += ["", "Of the page, embedded in the program:", "", *(f"{n} {page[f'node_modules/{n}']['version']}  {page[f'node_modules/{n}'].get('license', 'see its text')}" for n in sorted(inside))]
page_text = pathlib.Path("src/console/web/dist/licences.txt").read_text(encoding="utf-8").strip()
texts.setdefault(page_text, []).append("maplibre-gl, and what it brings (licences.txt of the page)")
for text, who in texts.items():
    out += ["", "=" * 100, ", ".join(who), "", text]
args.notices.parent.mkdir(parents=True, exist_ok=True)
args.notices.write_text("\n".join(out) + "\n")
unlicensed = [packages[id]["name"] for id in runs if not packages[id]["license"] and not packages[id]["license_file"]]
if unlicensed:
    sys.exit(f"no licence is declared by {', '.join(unlicensed)}")
