import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cargo } from "../src/cargo.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { AegisError } from "../src/errors.ts";
import { makePlan } from "../src/plan.ts";
import { openPlanning } from "../src/plan-world.ts";

/*
 * For each crate: the set that we plan, and the files that `cargo install --locked` downloads into a fresh CARGO_HOME. cargo fetches
 * everything before it compiles, so its compiler is replaced by one that only answers questions.
 */

const CRATES =
  "ripgrep hexyl fd-find bat tokei just eza sd hyperfine bottom du-dust procs zoxide git-delta xsv grex choose skim lsd tealdeer cargo-edit cargo-watch cargo-deny mdbook oxipng watchexec-cli difftastic gping miniserve navi pastel rustscan xh topgrade broot ouch dua-cli vivid xcp cargo-nextest fnm starship zellij atuin bandwhich bacon cargo-audit cargo-expand cargo-outdated cargo-generate cargo-make cross wasm-pack typos-cli taplo-cli".split(
    " ",
  );

/** Answers what cargo asks of a compiler, and compiles nothing. */
const COMPILER = `#!/bin/sh
for word; do case $word in -vV|--print=*|--print) exec "$@";; esac; done
exit 1
`;

const named = process.argv.slice(2);
const results = [];
for (const target of named.length > 0 ? named : CRATES) {
  const result = await compare(target);
  results.push(result);
  process.stdout.write(`${result}\n`);
}
const equal = results.filter((text) => text.includes(": equal"));
process.stdout.write(`${equal.length} of ${results.length} equal\n`);

async function compare(target: string): Promise<string> {
  const plan = await planOf(target);
  if (typeof plan === "string") return `${target}: no plan: ${plan}`;
  const [pinned = target] = plan.exact_targets;
  const ours = new Set(plan.transaction.map(({ name, to_version }) => `${name}-${to_version}`));
  const { files, said } = downloadedBy(pinned);
  if (plan.transaction.length === 0)
    return `${target}: no plan: ${plan.warnings.find((text) => text.startsWith(target)) ?? ""}\n  cargo downloads ${files.size}`;
  const missing = [...files.difference(ours)];
  const besides = [...ours.difference(files)];
  const [, refusal] = /^error: (cannot install package .*)$/m.exec(said) ?? [];
  if (refusal !== undefined) return `${pinned}: ours ${ours.size} crates; this cargo refuses: ${refusal}`;
  if (missing.length + besides.length === 0) return `${pinned}: equal, ${ours.size} crates`;
  return `${pinned}: ours ${ours.size}, cargo's ${files.size}; missing: ${missing.join(" ")}; besides: ${besides.join(" ")}${files.size === 0 ? `\n${said}` : ""}`;
}

async function planOf(target: string): Promise<OperationPlan | string> {
  const planning = openPlanning({ env: process.env });
  try {
    return await makePlan(cargo, "install", [target], planning);
  } catch (error) {
    if (error instanceof AegisError) return error.message;
    throw error;
  } finally {
    planning.close();
  }
}

function downloadedBy(target: string): { files: ReadonlySet<string>; said: string } {
  const home = mkdtempSync(join(tmpdir(), "agree-cargo-"));
  try {
    const compiler = join(home, "compiler");
    writeFileSync(compiler, COMPILER);
    chmodSync(compiler, 0o755);
    const { stderr } = spawnSync("cargo", ["install", "--locked", "--root", join(home, "root"), target], {
      cwd: home,
      encoding: "utf8",
      env: {
        ...process.env,
        CARGO_HOME: join(home, "cargo"),
        RUSTC_WRAPPER: compiler,
        CARGO_TARGET_DIR: join(home, "target"),
      },
    });
    return { files: new Set(cratesBelow(join(home, "cargo/registry/cache"))), said: stderr.slice(-2000) };
  } finally {
    rmSync(home, { recursive: true });
  }
}

function cratesBelow(directory: string): string[] {
  try {
    return readdirSync(directory, { recursive: true, encoding: "utf8" }).flatMap(
      (path) => /([^/]+)\.crate$/.exec(path)?.[1] ?? [],
    );
  } catch {
    return [];
  }
}
