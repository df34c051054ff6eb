import { dirname } from "node:path";
import { resolveProgram } from "../src/sys-spawn.ts";
import { type Chain, startChain } from "../test/e2e-kit.ts";
import { throwawayUnavailable } from "../test/throwaway.ts";
import { type Line, line, median } from "./bench-measure.ts";
import { type Mirror, startMirror } from "./bench-mirror.ts";
import { unpackedDebian } from "./bench-tools.ts";

/*
 * `aegis apply` of a signed plan against the bare tool that installs the same, on a throw-away host, from one registry on loopback that
 * has everything in memory. Each installation is the first into an empty root, with empty caches. The executor is started by hand; what
 * it does in that time: plans again, fetches and compares, installs without a network, compares every file, and exchanges the roots.
 */

type Tool = "npm" | "pip" | "go" | "cargo";

interface Case {
  target: string;
  /** Below /var/lib/aegis. */
  root: string;
  policy: string;
  /** Files of the host that name the registry. */
  settings: (mirror: Mirror) => Readonly<Record<string, string>>;
  /** The tool as somebody would type it, in an empty directory of its own. */
  bare: (
    own: string,
    mirror: Mirror,
  ) => { argv: string[]; env: Record<string, string>; files?: Record<string, string> };
}

const CASES: Readonly<Record<Tool, Case>> = {
  npm: {
    target: "express@4.21.2",
    root: "npm-global",
    policy: 'apply = "require_human"',
    settings: ({ address }) => ({ "/etc/npmrc": `registry=${address("npm")}/\n` }),
    bare: (own, { address }) => ({
      argv: `npm install --global --prefix ${own}/root --ignore-scripts --no-audit --no-fund express@4.21.2`.split(
        " ",
      ),
      env: { npm_config_registry: `${address("npm")}/`, npm_config_cache: `${own}/cache` },
    }),
  },
  pip: {
    target: "flask==3.0.0",
    root: "pip-packages",
    policy: 'apply = "require_human"',
    settings: ({ address }) => ({
      "/etc/aegis/aegisd.env": `AEGIS_PIP_INDEX_URL=${address("pypi")}/simple/\n`,
    }),
    bare: (own, { address }) => ({
      argv: [
        ..."/usr/bin/python3 -m pip install --disable-pip-version-check --no-input --no-cache-dir --only-binary :all:".split(
          " ",
        ),
        ...["--target", `${own}/root`, "flask==3.0.0"],
      ],
      // As in the run: nothing is compiled to .pyc.
      env: { PIP_INDEX_URL: `${address("pypi")}/simple/`, PIP_COMPILE: "0", PIP_CONFIG_FILE: "/dev/null" },
    }),
  },
  go: {
    target: "mvdan.cc/gofumpt@v0.8.0",
    root: "go",
    policy: "",
    settings: ({ address }) => ({ "/etc/aegis/aegisd.env": `AEGIS_GOPROXY=${address("go")}\n` }),
    bare: (own, { address }) => ({
      argv: ["go", "install", "mvdan.cc/gofumpt@v0.8.0"],
      env: {
        ...{ GOPROXY: address("go"), GOPATH: `${own}/go`, GOCACHE: `${own}/cache`, GOTOOLCHAIN: "local" },
        ...{ GOFLAGS: "-mod=mod -trimpath -modcacherw", CGO_ENABLED: "0" },
      },
    }),
  },
  cargo: {
    target: "hexyl@0.17.0",
    root: "cargo",
    policy: 'apply = "require_human"\nallow_build_scripts = true',
    settings: ({ address }) => ({
      "/etc/aegis/aegisd.env": `AEGIS_CARGO_INDEX=sparse+${address("crates")}/\n`,
    }),
    bare: (own, { address }) => ({
      argv: `cargo install --locked --root ${own}/root hexyl@0.17.0`.split(" "),
      env: { CARGO_HOME: `${own}/home` },
      files: {
        "home/config.toml": `[source.crates-io]\nreplace-with = "mirror"\n\n[source.mirror]\nregistry = "sparse+${address("crates")}/"\n`,
      },
    }),
  },
};

const GOAL = 1.5;

export async function installs(
  quick: boolean,
  tools: readonly Tool[] = ["npm", "pip", "go", "cargo"],
): Promise<Line[]> {
  const unavailable = throwawayUnavailable();
  const lines: Line[] = [];
  for (const tool of tools) {
    const name = `${tool} install ${CASES[tool].target}`;
    try {
      if (unavailable !== null) throw new Error(unavailable);
      process.stderr.write(`measuring ${name}\n`);
      lines.push(await measure(tool, name, quick));
    } catch (error) {
      lines.push({
        name,
        not_measured: error instanceof Error ? error.message.slice(0, 600) : String(error),
      });
    }
  }
  return lines;
}

async function measure(tool: Tool, name: string, quick: boolean): Promise<Line> {
  const one = CASES[tool];
  const mirror = startMirror();
  const chain = await startChain();
  try {
    await prepare(tool, chain, mirror);
    const rounds = quick ? 3 : 5;
    const [ours, theirs]: [number[], number[]] = [[], []];
    let [version, packages] = ["", 0];
    // The first round fills the registry's memory and doesn't count.
    for (let round = 0; round <= rounds; round++) {
      const { path, execution } = await chain.signed(tool, "install", one.target);
      packages = execution.operation_plan.transaction.length;
      const applied = await timed(() => chain.apply(path));
      await must(chain, ["rm", "-rf", `/var/lib/aegis/${one.root}`, "/var/lib/aegis/previous"], "root");
      const own = `/var/tmp/bare-${round}`;
      const { argv, env, files = {} } = one.bare(own, mirror);
      await must(chain, ["mkdir", "-p", `${own}/work`], "bob");
      for (const [file, text] of Object.entries(files)) {
        await must(chain, ["mkdir", "-p", dirname(`${own}/${file}`)], "bob");
        chain.host.write(`${own}/${file}`, text);
      }
      const bare = await timed(() =>
        chain.host.exec(argv, { user: "bob", cwd: `${own}/work`, env, timeoutMs: 600_000 }),
      );
      for (const { status, stderr } of [applied.result, bare.result])
        if (status !== 0) throw new Error(`exit ${status}: ${stderr.slice(-500)}`);
      version =
        (await chain.host.exec(VERSIONS[tool], { user: "bob" })).stdout.trim().split(/ from | \(/)[0] ?? "";
      if (round === 0) continue;
      ours.push(applied.ms);
      theirs.push(bare.ms);
    }
    return line({
      name,
      unit: "ms",
      ours: median(ours),
      reference: median(theirs),
      against: `the same by ${version}, into an empty root, from the same registry on loopback`,
      note: `aegis apply of ${packages} packages: planned again, fetched, installed without a network, every file compared, roots exchanged`,
      goal: { of: "ratio", at_most: GOAL },
      samples: rounds,
    });
  } finally {
    await chain.stop();
    await mirror.stop();
  }
}

const VERSIONS: Readonly<Record<Tool, string[]>> = {
  npm: ["npm", "--version"],
  pip: ["/usr/bin/python3", "-m", "pip", "--version"],
  go: ["go", "version"],
  cargo: ["cargo", "--version"],
};

/** The users, the tool, the settings and the executor. */
async function prepare(tool: Tool, chain: Chain, mirror: Mirror): Promise<void> {
  const { host } = chain;
  for (const user of ["aegis-build", "aegis-fetch"])
    await must(chain, ["useradd", "--system", "--user-group", "--no-create-home", user], "root");
  const program = tool === "pip" ? "python3" : tool;
  if (resolveProgram(program) === null) {
    const found = tool === "go" ? Bun.which("go") : null;
    const debian =
      found !== null || (tool !== "cargo" && tool !== "go")
        ? null
        : unpackedDebian(tool === "go" ? "golang-go" : "cargo-web");
    if (found !== null) await must(chain, ["ln", "-s", found, `/usr/local/bin/${tool}`], "root");
    else if (debian === null)
      throw new Error(`no ${program} command here, and Debian's package of it can't be had`);
    else await must(chain, ["cp", "-a", `${debian}/usr/.`, "/usr/"], "root");
  }
  const { port } = new URL(mirror.address("npm"));
  for (const [path, text] of Object.entries(CASES[tool].settings(mirror))) host.write(path, text);
  host.write(
    "/etc/aegis/policy.toml",
    `[${tool}]\n${CASES[tool].policy}\nallowed_registries = ["127.0.0.1:${port}"]\n`,
  );
  await chain.startDaemon();
}

async function must(chain: Chain, argv: string[], user: "root" | "bob"): Promise<void> {
  const { status, stderr } = await chain.host.exec(argv, { user, timeoutMs: 120_000 });
  if (status !== 0) throw new Error(`${argv.join(" ")}: exit ${status}\n${stderr}`);
}

async function timed<T>(action: () => Promise<T>): Promise<{ result: T; ms: number }> {
  const start = performance.now();
  const result = await action();
  return { result, ms: performance.now() - start };
}
