import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/*
 * The house: src/ is flat, the prefix of a file's name is its room, and imports point downwards.
 */

const SRC = join(import.meta.dir, "../src");
const FILES = readdirSync(SRC).filter((name) => name.endsWith(".ts") && !name.endsWith(".d.ts"));

/** Words that everybody uses. */
const CORE = ["canonical", "command", "errors", "finding", "log", "paths", "self", "terminal"];

/** One room each; they never import one another. */
const ECOSYSTEMS: readonly string[] = [
  ...["apt", "npm", "pip", "go", "cargo", "image", "nuget", "vscode", "services"],
];

/** Rooms from the ground up; those of one floor don't import each other unless {@link NEXT_DOOR} says so. */
const FLOORS: readonly (readonly string[])[] = [
  ["core"],
  ["sys"],
  ["doc"],
  ["key", "audit", "wire"],
  ["eco"],
  ECOSYSTEMS,
  ["policy"],
  ["plan", "osv"],
  ["feeds"],
  ["review"],
  ["exec"],
  ["front"],
  ["monitor", "notify"],
  ["host", "doctor"],
  ["cmd", "mcp", "skill", "report", "wrap", "cli"],
];
const NEXT_DOOR = new Set(["plan osv", "osv plan", "host doctor", "doctor host"]);
const TOP = FLOORS.length - 1;

/** Upward, and meant so: the registry of ecosystems names each of them. */
const REGISTRY = ["eco-table"];

/**
 * How rooms are entered. The lower rooms, up to `eco`, are shelves: each file is there for everybody. From the ecosystems up a
 * room does one job, and others import it only by the modules listed here; the rest can be rearranged without a look outside.
 * A room has several doors, one for each thing that others ask of it, and no file that only passes others on: importing that
 * would load the whole room, which costs start-up time and puts into the front, the runner and `evaluator_hash` what they don't use.
 */
const DOORS: Readonly<Record<string, readonly string[]>> = {
  // Planning and running, the grammar, and dpkg's hook. The monitor reads dpkg's and apt's own records and indexes, policy names packages.
  apt: [
    ...[
      "apt",
      "apt-grammar",
      "apt-hook",
      "apt-argv",
      "apt-changelog",
      "apt-changelogs",
      "apt-repository-argv",
      "apt-repository-file",
      "apt-repository-write",
    ],
    ...[
      "apt-dpkg",
      "apt-first-seen",
      "apt-hook-receipt",
      "apt-indexes",
      "apt-keyring",
      "apt-logs",
      "apt-processes",
      "apt-ready",
      "apt-repositories",
      "apt-sources",
    ],
  ],
  npm: ["npm", "npm-managed", "npm-target"],
  pip: ["pip", "pip-managed", "pip-target"],
  go: ["go", "go-managed", "go-target"],
  cargo: ["cargo", "cargo-managed", "cargo-target"],
  image: ["image", "image-podman", "image-target"],
  nuget: ["nuget", "nuget-managed", "nuget-target"],
  vscode: ["vscode", "vscode-managed", "vscode-target"],
  services: ["services", "services-grammar"],
  // Looking up, and the index that feeds fill and their state is read from.
  osv: [
    "osv",
    "osv-context",
    "osv-index",
    "osv-index-write",
    "osv-indexed",
    "osv-range",
    "osv-record",
    "osv-source",
  ],
  feeds: ["feeds", "feeds-state"],
  // Deciding, the configuration, the table of rules for those who explain it, and the facts that screens and prompts show too.
  policy: [
    "policy",
    "policy-config",
    "policy-facts",
    "policy-packages",
    "policy-rule",
    "policy-rules",
    "policy-scripts",
    "policy-vulnerabilities",
  ],
  plan: [
    "plan",
    "plan-attention",
    "plan-env",
    "plan-groups",
    "plan-risk",
    "plan-sbom",
    "plan-signals",
    "plan-summary",
    "plan-world",
  ],
  // Asking the model, alone or as a service. The executor compares prompts, doctor and reports use the model and its settings.
  review: ["review", "review-daemon", "review-model", "review-prompt", "review-settings"],
  // The runner, and before it all that is decided without root: signing, approving and preflight, which the front does too.
  exec: [
    ...["exec-runner", "exec-plan", "exec-approval", "exec-embedded", "exec-preflight", "exec-lock"],
    ...["exec-snapshot", "exec-snapshot-host", "exec-snapshot-id", "exec-substance", "exec-rejection"],
  ],
  front: ["front", "front-absent", "front-client", "front-requests", "front-supervisor"],
  monitor: [
    ...["monitor", "monitor-events", "monitor-state", "monitor-unmanaged-events"],
    ...["monitor-managed", "monitor-managed-events"],
  ],
  notify: ["notify"],
  host: [
    "host-accounts",
    "host-drop-ins",
    "host-install",
    "host-services",
    "host-steps",
    "host-units",
    "host-units-occasional",
    "host-version",
  ],
  doctor: ["doctor", "doctor-status"],
  // The command line starts with the table; commands are loaded from there. A wrapper ends in a plan.
  cmd: ["cmd", "cmd-aliases", "cmd-args", "cmd-io", "cmd-plan", "cmd-table", "cmd-help"],
  // The rules for agents, and what each exit status means, which the help tells people.
  skill: ["skill", "skill-text"],
  // The server, and the agents' settings that start it.
  mcp: ["mcp", "mcp-clients"],
  report: ["report", "report-advice", "report-plans", "report-view"],
  // What a wrapper does, and the table that the help shows.
  wrap: ["wrap", "wrap-table"],
  cli: [],
};
const SHELVES = ["core", "sys", "doc", "key", "audit", "wire", "eco"];

const baseOf = (file: string) => file.replace(/\.ts$/, "");
const roomOf = (name: string) => (CORE.includes(name) ? "core" : (name.split("-")[0] ?? name));
const floorOf = (room: string) => FLOORS.findIndex((rooms) => rooms.includes(room));

/** Modules that a file imports, for their values, their types or lazily. */
function importsOf(name: string): string[] {
  const text = readFileSync(join(SRC, `${name}.ts`), "utf8");
  const found = [...text.matchAll(/(?:from|import\(|^import)\s*"\.\/([\w-]+)\.ts"/gm)];
  return [...new Set(found.flatMap(([, module]) => module ?? []))];
}

const IMPORTS = new Map(FILES.map((file) => [baseOf(file), importsOf(baseOf(file))]));
const pairs = [...IMPORTS].flatMap(([from, modules]) => modules.map((to): [string, string] => [from, to]));

function isUpward([from, to]: [string, string]): boolean {
  const [own, other] = [roomOf(from), roomOf(to)];
  if (own === other || REGISTRY.includes(from) || NEXT_DOOR.has(`${own} ${other}`)) return false;
  const [floor, otherFloor] = [floorOf(own), floorOf(other)];
  return otherFloor > floor || (otherFloor === floor && floor !== TOP);
}

test("every file is in a room", () => {
  expect([...IMPORTS.keys()].filter((name) => floorOf(roomOf(name)) < 0)).toEqual([]);
});

test("imports point downwards", () => {
  const upward = pairs.filter(isUpward).map((pair) => pair.join(" → "));
  expect(upward).toEqual([]);
});

test("every room is a shelf or has doors", () => {
  expect([...SHELVES, ...Object.keys(DOORS)].sort()).toEqual(FLOORS.flat().sort());
});

for (const [room, doors] of Object.entries(DOORS)) {
  test(`${room} is entered by its doors, and by each of them`, () => {
    const entered = pairs.filter(([from, to]) => roomOf(to) === room && roomOf(from) !== room);
    expect([...new Set(entered.map(([, to]) => to))].sort()).toEqual([...doors].sort());
  });
}

test("the executor names no ecosystem", () => {
  const named = pairs.filter(([from, to]) => roomOf(from) === "exec" && ECOSYSTEMS.includes(roomOf(to)));
  expect(named).toEqual([]);
});

/** Values and types that a file exports, each once: a schema and its type share a name on purpose. */
function exportsOf(name: string): Set<string> {
  const text = readFileSync(join(SRC, `${name}.ts`), "utf8");
  const declared = text.matchAll(
    /^export (?:abstract |async |declare )*(?:class|const|enum|function\*?|interface|let|type) (\w+)/gm,
  );
  const listed = [...text.matchAll(/^export (?:type )?\{([^}]*)\}/gm)].flatMap(([, list = ""]) =>
    list.split(",").map((one) => one.trim().replace(/^(?:type )?(?:\w+ as )?/, "")),
  );
  const names = [...[...declared].map(([, one = ""]) => one), ...listed];
  return new Set(names.filter((one) => one !== ""));
}

test("an exported name stands for one thing", () => {
  const places = new Map<string, string[]>();
  for (const file of IMPORTS.keys()) {
    for (const name of exportsOf(file)) places.set(name, [...(places.get(name) ?? []), file]);
  }
  const shared = [...places].filter(([, files]) => files.length > 1);
  expect(Object.fromEntries(shared)).toEqual({});
  expect(places.get("namesIn")).toEqual(["sys-files"]);
});

test("no circle of imports, not even for types", () => {
  const done = new Set<string>();
  const circle = (name: string, way: readonly string[]): string[] | null => {
    if (way.includes(name)) return [...way.slice(way.indexOf(name)), name];
    if (done.has(name)) return null;
    for (const next of IMPORTS.get(name) ?? []) {
      const found = circle(next, [...way, name]);
      if (found !== null) return found;
    }
    done.add(name);
    return null;
  };
  for (const name of IMPORTS.keys()) expect(circle(name, [])).toBeNull();
});

test("no file is longer than 300 lines", () => {
  const lines = (file: string) => readFileSync(join(SRC, file), "utf8").split("\n").length - 1;
  expect(FILES.filter((file) => lines(file) > 300)).toEqual([]);
});
