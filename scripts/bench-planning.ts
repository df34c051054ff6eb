import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { OperationPlan } from "../src/doc-plan.ts";
import { resolveProgram, SYSTEM_PATH } from "../src/sys-spawn.ts";
import { alternate, BINARY, type Line, line, median, output } from "./bench-measure.ts";
import { withTool } from "./bench-tools.ts";

/*
 * `aegis plan <tool> install …` against the tool's own resolver, both with empty caches and through the same registry. The tools only
 * resolve; Aegis also fetches every package file, holds it against what vouches for it, and looks into it.
 */

type Tool = "npm" | "pip" | "go" | "cargo";

/** One run of a tool in an empty directory of its own, which is also its HOME. */
interface Reference {
  /** Completes "against". */
  name: string;
  argv: readonly string[];
  env?: (own: string) => Record<string, string>;
  files?: Readonly<Record<string, string>>;
  /** Done before the time begins. */
  prepare?: (own: string) => void;
  goal: number | null;
}

interface Case {
  target: string;
  references: readonly Reference[];
}

/** Settings of this machine's, such as which index or certificates, that both sides get. */
const PASSED = ["PIP_INDEX_URL", "PIP_CERT", "GOPROXY", "GOSUMDB", "npm_config_registry"];

export function planning(tool: Tool, quick: boolean): Line[] {
  return withTool(tool, import.meta.path, [tool, ...(quick ? ["--quick"] : [])], () =>
    CASES[tool]().flatMap((one) => measure(tool, one, quick)),
  );
}

function measure(tool: Tool, { target, references }: Case, quick: boolean): Line[] {
  const name = `plan ${tool} install ${target}`;
  const dir = mkdtempSync(join(tmpdir(), "aegis-bench-"));
  try {
    const [home, policy] = [join(dir, "home"), join(dir, "policy.toml")];
    mkdirSync(home);
    // A plan that the policy denies ends with another exit status.
    const scripts = tool === "cargo" ? "allow_build_scripts = true\n" : "";
    writeFileSync(policy, `[${tool}]\napply = "require_human"\n${scripts}`);
    const settings = PASSED.flatMap((key) =>
      process.env[key] === undefined ? [] : [[key, process.env[key]]],
    );
    const env = { LC_ALL: "C.UTF-8", PATH: SYSTEM_PATH.join(":"), ...Object.fromEntries(settings) };
    let serial = 0;
    const ours = () => {
      const own = join(dir, `aegis-${++serial}`);
      const places = { HOME: home, XDG_DATA_HOME: own, XDG_CACHE_HOME: own, AEGIS_POLICY_CONFIG: policy };
      return output([BINARY, "plan", tool, "install", target, "--json"], {
        cwd: home,
        env: { ...env, ...places },
      });
    };
    const prepared = (reference: Reference) => {
      const own = join(dir, `bare-${++serial}`);
      mkdirSync(own);
      for (const [file, text] of Object.entries(reference.files ?? {})) writeFileSync(join(own, file), text);
      reference.prepare?.(own);
      return own;
    };
    const { plan }: { plan: OperationPlan } = JSON.parse(ours());
    if (!plan.metadata_available) return [{ name, not_measured: plan.warnings.join("; ") }];
    const rounds = quick ? 3 : 7;
    const directories = references.map((one) => Array.from({ length: rounds + 1 }, () => prepared(one)));
    const bare = references.map(({ argv, env: more }, i) => () => {
      const own = directories[i]?.pop() ?? "";
      return output(inSystem(argv), { cwd: own, env: { ...env, HOME: own, ...more?.(own) } });
    });
    const [mine = [], ...theirs] = alternate(rounds, 1, [ours, ...bare]);
    return references.map((reference, i) =>
      line({
        name,
        unit: "ms",
        ours: median(mine),
        reference: median(theirs[i] ?? []),
        against: `${reference.name}; no caches`,
        note: `${plan.transaction.length} packages and ${plan.support_files?.length ?? 0} other files, fetched, verified and looked into`,
        goal: reference.goal === null ? null : { of: "ratio", at_most: reference.goal },
        samples: rounds,
      }),
    );
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return [{ name, not_measured: why.slice(0, 300) }];
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** The program that Aegis takes too, whatever PATH has before it. */
function inSystem([program = "", ...args]: readonly string[]): string[] {
  return [program.startsWith("/") ? program : (resolveProgram(program) ?? program), ...args];
}

const GOAL = 1.3;

const CASES: Readonly<Record<Tool, () => Case[]>> = {
  npm: () => [
    {
      target: "express@4.21.2",
      references: [
        {
          name: `npm ${output(inSystem(["npm", "--version"])).trim()} install --package-lock-only`,
          argv: "npm install --package-lock-only --ignore-scripts --no-audit --no-fund express@4.21.2".split(
            " ",
          ),
          files: { "package.json": "{}" },
          env: (own) => ({ npm_config_cache: join(own, "cache") }),
          goal: GOAL,
        },
      ],
    },
  ],
  pip: () => [
    {
      target: "flask==3.0.0",
      references: [
        {
          name: `${output(["/usr/bin/python3", "-m", "pip", "--version"]).split(" from")[0]} install --dry-run`,
          argv: [
            ...[
              "/usr/bin/python3",
              "-m",
              "pip",
              "install",
              "--dry-run",
              "--ignore-installed",
              "--only-binary",
            ],
            ...[
              ":all:",
              "--no-cache-dir",
              "--quiet",
              "--disable-pip-version-check",
              "--target",
              "x",
              "flask==3.0.0",
            ],
          ],
          env: () => ({ PIP_CONFIG_FILE: "/dev/null" }),
          goal: GOAL,
        },
      ],
    },
  ],
  go: () => [
    // The command is the module itself; below a module, where longer paths have to be ruled out; with many modules.
    goCase("mvdan.cc/gofumpt", "v0.8.0", ""),
    goCase("golang.org/x/vuln", "v1.9.0", "/cmd/govulncheck"),
    goCase("github.com/mikefarah/yq/v4", "v4.45.1", ""),
  ],
  cargo: () => [
    {
      target: "ripgrep@14.1.1",
      references: [
        {
          name: `${
            output(inSystem(["cargo", "--version"]))
              .trim()
              .split(" (")[0]
          }: cargo fetch --locked --target x86_64-unknown-linux-gnu in the unpacked crate`,
          argv: ["cargo", "fetch", "--locked", "--target", "x86_64-unknown-linux-gnu"],
          prepare: (own) => {
            const url = "https://static.crates.io/crates/ripgrep/ripgrep-14.1.1.crate";
            output(["curl", "--fail", "--silent", "--output", join(own, "crate"), url]);
            output(["tar", "-xzf", "crate", "--strip-components=1"], { cwd: own });
          },
          env: (own) => ({ CARGO_HOME: join(own, "cargo-home") }),
          goal: GOAL,
        },
      ],
    },
  ],
};

function goCase(module: string, version: string, directory: string): Case {
  const target = `${module}${directory}@${version}`;
  const go = output(inSystem(["go", "version"])).split(" ")[2];
  const env = (own: string) => ({
    ...{ GOFLAGS: "-mod=mod -modcacherw", GOTOOLCHAIN: "local", GOENV: "off" },
    ...{ GOPATH: join(own, "go"), GOCACHE: join(own, "cache") },
  });
  const head = "module bench\n\ngo 1.17\n";
  return {
    target,
    references: [
      {
        name: `${go} list -m all where go.mod has the module already`,
        argv: ["go", "list", "-m", "all"],
        files: { "go.mod": `${head}\nrequire ${module} ${version}\n` },
        env,
        goal: GOAL,
      },
      // Finds the package's module too, and fetches and verifies the same files as a plan.
      { name: `${go} install -n`, argv: ["go", "install", "-n", target], env, goal: null },
    ],
  };
}

if (import.meta.main) {
  const tool = process.argv[2] as Tool;
  process.stdout.write(`${JSON.stringify(planning(tool, process.argv.includes("--quick")))}\n`);
}
