import { describe, expect, test } from "bun:test";
import { cargo } from "../src/cargo.ts";
import { decideWith } from "../src/cmd-decide.ts";
import { renderPolicyResult } from "../src/cmd-policy-view.ts";
import type { Ecosystem } from "../src/eco.ts";
import type { Planning } from "../src/eco-planning.ts";
import { go } from "../src/go.ts";
import { image } from "../src/image.ts";
import { npm } from "../src/npm.ts";
import { nuget } from "../src/nuget.ts";
import { pip } from "../src/pip.ts";
import { makePlan } from "../src/plan.ts";
import { parsePolicyConfig } from "../src/policy-config.ts";
import { vscode } from "../src/vscode.ts";
import { cargoPlanning, fakeCrates } from "./cargo-kit.ts";
import { fakeProxy, goPlanning, newDatabase } from "./go-kit.ts";
import { AMD64, fakeImage, fakeIndex, imageAnswers, imagePlanning, NAME } from "./image-kit.ts";
import { fakeNpm, npmPlanning } from "./npm-kit.ts";
import { fakeSource, nugetPlanning } from "./nuget-kit.ts";
import { fakeIndex as fakePypi, pipPlanning } from "./pip-kit.ts";
import { fakeGallery, vscodePlanning } from "./vscode-kit.ts";

/*
 * One plan of each ecosystem that the defaults deny: the screen says which evidence is missing and how to get it, and what to write or
 * type. What it says to write must have the effect that it says.
 */

const MODULES = [
  {
    ...{ path: "tool.example/t", version: "v1.0.0" },
    files: { "go.mod": "module tool.example/t\n", "t.go": "package main\nfunc main() {}\n" },
  },
];
const PROXY = fakeProxy(MODULES, newDatabase("sum.example"));
const IMAGE = fakeImage();
const INDEX = fakeIndex([[IMAGE, AMD64]]);
const IMAGES = imageAnswers([INDEX, IMAGE], { latest: INDEX });
const CRATE = {
  ...{ name: "tool", version: "1.0.0", dependencies: [] },
  files: { "src/main.rs": "fn main() {}", "build.rs": "fn main() {}" },
};

interface Row {
  ecosystem: Ecosystem;
  operation?: string;
  target: string;
  planning: () => Planning;
  /** Why, and what is missing, each by its beginning. */
  reasons: string[];
  missing: string[];
  settings: string[];
  next: RegExp;
}

const LOOK_UP = "vulnerabilities were not all looked up: type as root: aegis daemon install --feeds";
const LOOK_ELSEWHERE = "vulnerabilities of what is in it are not looked up by Aegis";
const POLICY = /^Next, you: aegis policy 1.json$/m;
const image_ = (runtime: "docker" | "podman") => image.named?.(runtime) ?? image;

const ROWS: Record<string, Row> = {
  npm: {
    ...{ ecosystem: npm, target: "lib@1.2.3" },
    planning: () => npmPlanning(fakeNpm([{ name: "lib", version: "1.2.3" }])),
    reasons: ["the policy denies npm packages"],
    missing: [
      "no verified signature of lib@1.2.3: npm's own registry signs every version",
      "no verified build attestation of lib@1.2.3: name versions that were published with provenance",
      LOOK_UP,
    ],
    settings: ["[npm]", 'apply = "require_human"'],
    next: POLICY,
  },
  pip: {
    ...{ ecosystem: pip, target: "app==1.0" },
    planning: () => pipPlanning(fakePypi([{ name: "app", version: "1.0" }])),
    reasons: ["a registry is not in allowed_registries", "the policy denies pip packages"],
    missing: [
      "no verified build attestation of app==1.0: name releases whose files have attestations",
      LOOK_UP,
    ],
    settings: [
      "[pip]",
      'allowed_registries = ["pypi.org", "files.pythonhosted.org", "index.example", "files.example"]',
      'apply = "require_human"',
    ],
    next: POLICY,
  },
  go: {
    ...{ ecosystem: go, operation: "get", target: "tool.example/t@v1.0.0" },
    planning: () => goPlanning(MODULES, PROXY, {}, "missing"),
    reasons: [
      "no version was found for a target",
      "no signature or checksum of a package was verified",
      "a registry is not in allowed_registries",
    ],
    missing: [
      "tool.example/t@v1.0.0: go is not installed, and plans its modules: install golang-go",
      "go is not installed, and runs such a plan: Install golang-go",
    ],
    settings: [],
    next: /^Next, you: plan something else/m,
  },
  "go, a version left open": {
    ...{ ecosystem: go, operation: "get", target: "tool.example/t@latest" },
    planning: () =>
      goPlanning(MODULES, {
        ...PROXY,
        answers: {
          ...PROXY.answers,
          "https://proxy.example/tool.example/t/@latest": JSON.stringify({
            Version: "v1.0.0",
            Time: "2024-01-01T00:00:00Z",
          }),
        },
      }),
    reasons: ["a target is not pinned", "a registry is not in allowed_registries"],
    missing: [LOOK_UP],
    settings: ["[go]", 'allowed_registries = ["proxy.golang.org", "proxy.example"]'],
    next: /^Next, you: aegis plan go get tool.example\/t@v1.0.0$/m,
  },
  cargo: {
    ...{ ecosystem: cargo, target: "tool@1.0.0" },
    planning: () => cargoPlanning(fakeCrates([CRATE]), { hasCargo: false }),
    reasons: [
      "a registry is not in",
      "code of crates would run while they are built",
      "the policy denies cargo",
    ],
    missing: [LOOK_UP, "cargo is not installed, and runs such a plan: Install cargo"],
    settings: [
      "[cargo]",
      'allowed_registries = ["index.crates.io", "static.crates.io", "index.example", "files.example"]',
      "allow_build_scripts = true",
      'apply = "require_human"',
    ],
    next: POLICY,
  },
  docker: {
    ...{ ecosystem: image_("docker"), operation: "pull", target: `${NAME}@${INDEX.digest}` },
    planning: () => imagePlanning(IMAGES),
    reasons: ["a registry is not in allowed_registries"],
    missing: [
      `no verified signature of ${NAME}@${INDEX.digest}: ask its publisher to sign it (cosign sign)`,
      `no verified build attestation of ${NAME}@${INDEX.digest}: plan an image that its builder has attested`,
      LOOK_ELSEWHERE,
    ],
    settings: ["[container]", 'allowed_registries = ["docker.io", "registry.example"]'],
    next: POLICY,
  },
  podman: {
    ...{ ecosystem: image_("podman"), operation: "pull", target: "registry.example/team/app:latest" },
    planning: () => imagePlanning(IMAGES),
    reasons: ["a target is not pinned to one exact version", "a registry is not in allowed_registries"],
    missing: ["no verified signature of", "no verified build attestation of", LOOK_ELSEWHERE],
    settings: ["[container]", 'allowed_registries = ["docker.io", "registry.example"]'],
    next: /^Next, you: aegis plan podman pull registry.example\/team\/app@sha256:[0-9a-f]{64}$/m,
  },
  nuget: {
    ...{ ecosystem: nuget, target: "Lib@1.0.0" },
    planning: () => nugetPlanning(fakeSource([{ id: "Lib", version: "1.0.0" }]), { programs: {} }),
    reasons: ["a registry is not in allowed_registries", "the policy denies nuget packages"],
    missing: [
      "no verified signature of Lib@1.0.0: nuget.org signs every package",
      LOOK_UP,
      "nuget is not installed, and runs such a plan: Install nuget",
    ],
    settings: [
      "[nuget]",
      'allowed_registries = ["api.nuget.org", "nuget.example"]',
      'apply = "require_human"',
    ],
    next: POLICY,
  },
  vscode: {
    ...{ ecosystem: vscode, target: "acme.one@1.0.0" },
    planning: () =>
      vscodePlanning(fakeGallery([{ id: "acme.one", version: "1.0.0", links: { signature: null } }])),
    reasons: ["the policy denies vscode packages"],
    missing: [
      "no verified signature of acme.one@1.0.0: plan it from a gallery that signs (Open VSX)",
      LOOK_UP,
    ],
    settings: ["[vscode]", 'apply = "require_human"'],
    next: POLICY,
  },
};

const terminal = { interactive: false, colour: false, width: 80 };
const decided = (plan: Awaited<ReturnType<typeof makePlan>>, toml = "") =>
  decideWith(plan, "0".repeat(64), {
    ...{ config: parsePolicyConfig(toml, "test"), source: "built-in", hash: "1".repeat(64) },
  });

describe("a plan that the defaults deny", () => {
  test.each(Object.entries(ROWS))("of %s", async (_, row) => {
    const { ecosystem, operation = "install", target, planning } = row;
    const plan = await makePlan(ecosystem, operation, [target], planning());
    const { result, denial } = decided(plan);
    expect(denial?.reasons.map((text, i) => text.slice(0, row.reasons[i]?.length))).toEqual(row.reasons);
    expect(denial?.missing.map((text, i) => text.slice(0, row.missing[i]?.length))).toEqual(row.missing);
    expect(denial?.settings).toEqual(row.settings);
    const files = { plan: "1.json", review: undefined, isOwnReview: false, result: "r", config: "c" };
    const shown = renderPolicyResult(
      plan,
      result,
      { ...files, isOut: false, hasExecutor: false, denial },
      terminal,
    );
    for (const line of row.settings) expect(shown).toContain(`\n    ${line}\n`);
    expect(shown).toMatch(row.next);
    // Prose fits into 80 columns; what is to be copied stays whole.
    const prose = shown.split("\n").filter((line) => !/^(?: {4}\S|Next, )/.test(line));
    expect(prose.filter((line) => line.length > 80)).toEqual([]);

    if (row.settings.length === 0) return;
    const rest = decided(plan, row.settings.join("\n")).denial?.rules ?? [];
    // Only the version is left to be named, where it was open.
    expect(rest).toEqual(plan.mutable_reference ? ["artifact-mutable"] : []);
  });

  test("one that no setting lets through gets none", async () => {
    const plan = await makePlan(npm, "install", ["lib@1.2.3"], npmPlanning(fakeNpm([])));
    expect(decided(plan).denial?.settings).toEqual([]);
  });
});
