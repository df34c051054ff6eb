import { spawnSync } from "node:child_process";
import { gunzipSync } from "node:zlib";
import * as v from "valibot";
import { parseDocument } from "../src/doc.ts";
import { resolveProgram } from "../src/sys-spawn.ts";
import { showArgv } from "../src/terminal.ts";
import { debianPackages, unpackPackages } from "../test/debian-packages.ts";
import { type Chain, startChain } from "../test/e2e-kit.ts";
import { BASE, digestOf, fakeImage, imageAnswers, layer } from "../test/image-kit.ts";
import { Registries } from "../test/managed-registries.ts";
import { fakeSource } from "../test/nuget-kit.ts";
import { STORE } from "../test/podman-kit.ts";
import { throwawayUnavailable } from "../test/throwaway.ts";
import { serveGallery } from "../test/vscode-kit.ts";
import { codeServer, installCodeServer } from "../test/vscode-peer.ts";

/*
 * Every ecosystem from intent to use, with the compiled program and the real tools, on one throw-away host. The packages are the
 * demonstration's, in registries on loopback, so that it needs no network once the tools are there; the tools that this machine lacks
 * come from Debian's archive, and only into the throw-away host.
 */

const say = (text: string) => process.stdout.write(`${text}\n`);
const colour = process.stdout.isTTY === true;
const heading = (text: string) => say(colour ? `\n\u001b[1m── ${text}\u001b[0m` : `\n── ${text}`);

interface Part {
  title: string;
  plan: readonly string[];
  /** Shows that it is there, as an ordinary user unless `asRoot`. */
  use: readonly string[];
  asRoot?: true;
  /** Why it can't be shown here; null where it can. */
  lacking: string | null;
}

const Decided = v.looseObject({
  policy_result: v.looseObject({ plan_hash: v.string(), plan_id: v.string() }),
});

const reason = throwawayUnavailable();
if (reason !== null) {
  say(`The demonstration needs a throw-away host, and there can be none here: ${reason}`);
  process.exit(8);
}

const began = performance.now();
const seconds = () => `${((performance.now() - began) / 1000).toFixed(0)} s`;
const registries = new Registries();
registries.offer({
  npm: [
    {
      ...{ name: "greet", version: "1.0.0" },
      manifest: { bin: { "greet-npm": "cli.js" }, dependencies: { words: "^1.0.0" } },
      files: { "cli.js": "#!/usr/bin/env node\nconsole.log(require('words'))\n" },
    },
    {
      ...{ name: "words", version: "1.1.0", manifest: { main: "i.js" } },
      files: { "i.js": "module.exports = 'hello from npm'\n" },
    },
  ],
  pip: [
    {
      ...{ name: "greet", version: "1.0", requires: ["words>=1"] },
      files: {
        "greet/cli.py": "import words\ndef main():\n    print(words.TEXT)\n",
        "greet-1.0.dist-info/entry_points.txt": "[console_scripts]\ngreet-pip = greet.cli:main\n",
      },
    },
    { name: "words", version: "1.0", files: { "words/__init__.py": "TEXT = 'hello from pip'\n" } },
  ],
  go: [
    {
      ...{ path: "demo.example/greet-go", version: "v1.0.0" },
      files: {
        "go.mod": "module demo.example/greet-go\n\ngo 1.17\n\nrequire demo.example/words v1.2.0\n",
        "main.go": 'package main\n\nimport "demo.example/words"\n\nfunc main() { println(words.Text) }\n',
      },
    },
    {
      ...{ path: "demo.example/words", version: "v1.2.0" },
      files: {
        "go.mod": "module demo.example/words\n\ngo 1.17\n",
        "words.go": 'package words\n\nconst Text = "hello from go"\n',
      },
    },
  ],
  cargo: [
    {
      crates: [
        {
          ...{ name: "greet-cargo", version: "1.0.0", dependencies: [{ name: "words", version: "1.0.0" }] },
          files: { "src/main.rs": 'fn main() { println!("{}", words::TEXT); }\n' },
        },
        {
          ...{ name: "words", version: "1.0.0" },
          files: { "src/lib.rs": 'pub const TEXT: &str = "hello from cargo";\n' },
        },
      ],
    },
  ],
});
const layers = [layer("hello from an image\n")];
const diff_ids = layers.map((one) => digestOf(gunzipSync(one)));
const image = fakeImage({
  layers,
  configuration: { rootfs: { type: "layers", diff_ids } },
  config: { Entrypoint: ["/hello"], User: "1000" },
});
const source = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: ({ url }) => answered(nupkgs()[url]) });
/** As the source's service index has its own address. */
function nupkgs(): Readonly<Record<string, unknown>> {
  const words = { id: "Words", version: "1.0.0", files: { "content/words.txt": "hello from NuGet\n" } };
  const greet = { id: "Greet", version: "1.0.0", dependencies: [{ id: "Words", version: "[1.0.0]" }] };
  return fakeSource([words, greet], { base: source.url.origin });
}
const gallery = serveGallery(() => [
  { id: "demo.words", version: "1.0.0", files: { "words.js": "exports.text = 'hello'\n" } },
  { id: "demo.greet", version: "1.0.0", manifest: { extensionDependencies: ["demo.words"] } },
]);
const images = answering(imageAnswers([image]), (path) => `${BASE}${path.replace("/v2/team/app", "")}`);

heading("the tools: this machine's, or Debian's, for the throw-away host alone");
const wanted = {
  npm: { here: resolveProgram("npm") !== null, packages: ["npm"] },
  pip: {
    here: spawnSync("/usr/bin/python3", ["-m", "pip", "--version"]).status === 0,
    packages: ["python3-pip"],
  },
  go: { here: resolveProgram("go") !== null, packages: ["golang-go"] },
  cargo: { here: resolveProgram("cargo") !== null, packages: ["cargo-web"] },
  docker: { here: resolveProgram("dockerd") !== null, packages: ["docker.io"] },
  podman: { here: resolveProgram("podman") !== null, packages: ["podman", "crun"] },
  nuget: { here: resolveProgram("nuget") !== null, packages: ["nuget"] },
};
type ToolName = keyof typeof wanted;
const archives = new Map<ToolName, string | null>();
for (const [name, { here, packages }] of Object.entries(wanted) as [ToolName, (typeof wanted)[ToolName]][]) {
  if (!here) archives.set(name, debianPackages(...packages));
  const got = here ? "this machine's" : archives.get(name) === null ? "can't be had" : "Debian's";
  say(`${name.padEnd(8)}${got}`);
}
const editor = codeServer();
say(`vscode  ${editor === null ? "can't be had" : "code-server from npm"}`);
const toolsReady = performance.now();
const lacking = (name: ToolName): string | null =>
  wanted[name].here || archives.get(name) !== null
    ? null
    : `${wanted[name].packages.join(" ")} can't be had from Debian's archive`;

const chain = await startChain();
const shown: string[] = [];
const skipped: string[] = [];
try {
  await prepare(chain);
  for (const part of parts()) await show(chain, part);
  heading("one log for all of them");
  await type("root", ["aegis", "audit", "verify", "--system"]);
} finally {
  await chain.stop();
  await registries.stop();
  await images.stop(true);
  await source.stop(true);
  await gallery.stop(true);
}
const tools = ((toolsReady - began) / 1000).toFixed(0);
say(
  `\nDone: ${shown.join(", ")}, in ${seconds()}, ${tools} s of them for the tools. This machine was not changed.`,
);
if (skipped.length > 0) say(`Not shown: ${skipped.join("; ")}`);
process.exit(skipped.length === 0 ? 0 : 8);

function parts(): Part[] {
  const bin = "/var/lib/aegis/bin";
  const digest = `127.0.0.1:${images.port}/team/app@${image.digest}`;
  return [
    { title: "apt", plan: ["apt", "install", "hello-aegis"], use: ["hello-aegis"], lacking: null },
    {
      ...{ title: "npm", plan: ["npm", "install", "greet@1.0.0"], use: [`${bin}/greet-npm`] },
      lacking: lacking("npm"),
    },
    {
      ...{ title: "pip", plan: ["pip", "install", "greet==1.0"], use: [`${bin}/greet-pip`] },
      lacking: lacking("pip"),
    },
    {
      ...{ title: "go", plan: ["go", "install", "demo.example/greet-go@v1.0.0"], use: [`${bin}/greet-go`] },
      lacking: lacking("go"),
    },
    {
      ...{ title: "cargo", plan: ["cargo", "install", "greet-cargo@1.0.0"], use: [`${bin}/greet-cargo`] },
      lacking: lacking("cargo"),
    },
    {
      ...{ title: "docker", plan: ["docker", "pull", digest], asRoot: true },
      use: ["docker", "image", "inspect", "--format", "{{.RepoDigests}}", digest],
      lacking: lacking("docker"),
    },
    {
      ...{ title: "podman", plan: ["podman", "pull", digest], asRoot: true, lacking: lacking("podman") },
      use: [...STORE, "images", "--digests"],
    },
    {
      ...{ title: "nuget", plan: ["nuget", "install", "Greet@1.0.0"], lacking: lacking("nuget") },
      use: ["cat", "/var/lib/aegis/nuget/packages/Words.1.0.0/content/words.txt"],
    },
    {
      ...{ title: "vscode", plan: ["vscode", "install", "demo.greet@1.0.0"] },
      use: ["code-server", "--list-extensions", "--extensions-dir", "/var/lib/aegis/vscode/extensions"],
      lacking: editor === null ? "code-server can't be had from npm" : null,
    },
  ];
}

/** The tools, the registries' addresses, a policy that leaves everything to a person, the executor, docker's engine. */
async function prepare({ host, startDaemon, offer }: Chain): Promise<void> {
  // The throw-away host is an overlay itself, on which podman can't make the layers of images.
  const disk = "mkdir -p /var/lib/aegis && mount -t tmpfs -o mode=0755 none /var/lib/aegis";
  await host.exec(["sh", "-c", disk]);
  for (const user of ["aegis-build", "aegis-fetch"])
    await host.exec(["useradd", "--system", "--user-group", "--shell", "/usr/sbin/nologin", user]);
  for (const directory of archives.values()) if (directory !== null) await unpackPackages(host, directory);
  // As the package's own script does.
  await host.exec(["update-alternatives", "--install", "/usr/bin/cli", "cli", "/usr/bin/mono", "200"]);
  host.write(
    "/etc/aegis/aegisd.env",
    `${registries.settings}AEGIS_NUGET_SOURCE=${source.url.origin}/v3/index.json
AEGIS_VSCODE_GALLERY=${gallery.url.origin}/vscode/gallery\n`,
  );
  const allowed = JSON.stringify([
    registries.host,
    ...[images, source, gallery].map(({ port }) => `127.0.0.1:${port}`),
  ]);
  const settings = `apply = "require_human"\nallowed_registries = ${allowed}\n`;
  const tables = ["npm", "pip", "go", "cargo", "container", "nuget", "vscode"].map(
    (tool) => `[${tool}]\n${settings}`,
  );
  host.write("/etc/aegis/policy.toml", tables.join("\n"));
  await offer("hello-aegis=1.0");
  if (editor !== null) await installCodeServer(host, editor);
  if (lacking("docker") === null) {
    // The engine wants to see control groups, although nothing is started in one.
    const groups = "cd /sys/fs/cgroup && mkdir -p devices && mount -t cgroup -o devices none devices";
    const mounted = `mount -t tmpfs none /sys/fs/cgroup && ${groups} || mount -t cgroup2 none /sys/fs/cgroup`;
    await host.exec(["sh", "-c", mounted]);
    const alone = ["--storage-driver", "vfs", "--iptables=false", "--ip6tables=false", "--bridge=none"];
    await host.spawn(["/usr/sbin/dockerd", ...alone]);
    for (let n = 0; n < 100 && (await host.exec(["docker", "info"])).status !== 0; n++) await Bun.sleep(100);
  }
  await startDaemon();
}

/** Prints a command, runs it on this terminal, and throws on any other exit status. */
async function type(user: "root" | "alice" | "bob", argv: readonly string[], status = 0): Promise<void> {
  say(`\n${user}${user === "root" ? "#" : "$"} ${showArgv(argv)}`);
  const found = await chain.host.interact(argv, { user });
  if (found !== status) throw new Error(`exit ${found}, expected ${status}`);
  if (status !== 0) say(`(exit ${status})`);
}

async function show({ host, approve, json }: Chain, part: Part): Promise<void> {
  heading(part.title);
  if (part.lacking !== null) {
    say(`not shown: ${part.lacking}`);
    skipped.push(`${part.title} (${part.lacking})`);
    return;
  }
  const execution = `/tmp/${part.title}.execution`;
  await type("root", ["aegis", "plan", ...part.plan]);
  await type("root", ["aegis", "policy", "latest"], 4);
  const { plan_id: id, plan_hash } = v.parse(
    Decided,
    (await json(["policy", "latest"])).document,
  ).policy_result;
  const file = host.read(`/root/.local/share/aegis/plans/${id}.json`);
  // Her screen is the plan again: the short demonstration shows it.
  const approval = await approve({ plan: parseDocument("plan", JSON.parse(file)), plan_hash });
  say(
    "\nalice$ aegis sign approve …                               # she looks at the same plan, and approves it",
  );
  await type("root", [
    ...["aegis", "sign", id, "--key", "/root/keys/sign", "--signer", "ops@example"],
    ...["--approval", approval, "--out", execution],
  ]);
  await host.exec(["chmod", "644", execution]);
  await type("alice", ["aegis", "apply", execution]);
  await type(part.asRoot === true ? "root" : "bob", part.use);
  shown.push(part.title);
}

/** A server on loopback with these answers, by the address that `of` gives for a path. */
function answering(answers: Readonly<Record<string, unknown>>, of: (path: string) => string) {
  return Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      const { pathname } = new URL(request.url);
      if (pathname === "/v2/") return new Response("{}");
      const answer = answers[of(pathname)];
      if (!pathname.includes("/manifests/")) return answered(answer);
      const { mediaType } = JSON.parse(String(answer ?? "{}"));
      return answered(answer, mediaType);
    },
  });
}

function answered(answer: unknown, type = "application/octet-stream"): Response {
  const isBody = typeof answer === "string" || answer instanceof Uint8Array;
  if (!isBody) return new Response("{}", { status: 404 });
  return new Response(Buffer.from(answer), { headers: { "content-type": type } });
}
