import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { OperationPlan } from "../src/doc-plan.ts";
import { messageOf } from "../src/errors.ts";
import { go } from "../src/go.ts";
import { escapeGo, unescapeGo } from "../src/go-sumdb.ts";
import { makePlan } from "../src/plan.ts";
import { registryAccess } from "../src/plan-registry.ts";
import { openPlanning } from "../src/plan-world.ts";

/*
 * For each command: the modules whose zip files a plan lists, against those that `go install` downloads into an empty module cache; and
 * `go install` again from a directory that has the planned files and nothing else, which shows whether the plan is complete. Without
 * --build the packages are loaded (`-n`: everything is downloaded) and not compiled.
 */

const args = process.argv.slice(2);
const flags = args.includes("--build") ? [] : ["-n"];
const named = args.filter((arg) => !arg.startsWith("--"));
const LIST = join(import.meta.dir, "go-agreement.txt");
const targets =
  named.length > 0
    ? named
    : readFileSync(LIST, "utf8")
        .split("\n")
        .filter((line) => line !== "");

const scratch = mkdtempSync(join(tmpdir(), "go-agreement-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));
const version = spawnSync("/usr/local/sbin/go", ["version"], {
  encoding: "utf8",
  env: { HOME: scratch },
}).stdout.trim();
say(`# ${version}; go install${flags.map((flag) => ` ${flag}`).join("")}, GOFLAGS=-mod=mod, CGO_ENABLED=0`);

const counts = { same: 0, more: 0, less: 0, refusedByBoth: 0, wrong: 0 };
for (const [i, target] of targets.entries()) {
  const started = performance.now();
  const own = join(scratch, String(i));
  const files = new Map<string, Uint8Array>();
  const { plan, problem } = await planned(target, files);
  const ms = Math.round(performance.now() - started);
  const pinned = plan?.exact_targets[0] ?? target;
  const real = install(pinned, "https://proxy.golang.org", join(own, "real"));
  if (plan === null || !plan.metadata_available) {
    counts[real.ok ? "wrong" : "refusedByBoth"]++;
    say(`${real.ok ? "WRONG" : "both refuse"} ${pinned}\n    plan: ${problem}\n    go: ${real.said}`);
    continue;
  }
  const proxy = closedProxy(plan, files, join(own, "proxy"));
  const closed = install(pinned, `file://${proxy}`, join(own, "closed"));
  const built = new Set(plan.transaction.map(({ name, to_version }) => `${name}@${to_version}`));
  const looked = (plan.support_files ?? []).filter(({ name }) => name.endsWith("/zip"));
  const ours = new Set([...built, ...looked.map(({ name }) => name.slice(0, -4).replace(" ", "@"))]);
  const parts = packagesOf(pinned, plan, `file://${proxy}`, join(own, "parts"));
  const lacking = [...real.zips].filter((one) => !ours.has(one));
  const extra = [...ours].filter((one) => !real.zips.has(one));
  // A zip that the plan lacks is no harm if go installs without it: it asks for every module that could have the package.
  const verdict = !real.ok
    ? "go refuses"
    : !closed.ok
      ? "WRONG"
      : lacking.length > 0
        ? "less"
        : extra.length > 0
          ? "more"
          : "same";
  const unlike =
    parts === null
      ? null
      : [...new Set([...built, ...parts])].filter((one) => built.has(one) !== parts.has(one));
  if (verdict === "same" || verdict === "more" || verdict === "less") counts[verdict]++;
  else counts.wrong++;
  say(
    `${verdict} ${pinned}: ${ours.size} zips planned, ${real.zips.size} downloaded; ${plan.support_files?.length ?? 0} go.mod, ${ms} ms`,
  );
  if (extra.length > 0) say(`    planned only: ${extra.join(" ")}`);
  if (lacking.length > 0) say(`    downloaded only: ${lacking.join(" ")}`);
  for (const { ok, said } of [real, closed]) if (!ok) say(`    ${said}`);
  if (unlike === null) say("    go list -deps fails");
  else if (unlike.length > 0)
    say(
      `    built by one side only: ${unlike.map((one) => `${one} (${built.has(one) ? "plan" : "go list -deps"})`).join(" ")}`,
    );
  const worries = plan.warnings.filter((text) => /may fail|retracted|deprecated/.test(text));
  for (const text of [...worries, ...(plan.deprecated === null ? [] : [plan.deprecated])])
    say(`    plan: ${text}`);
  rmSync(own, { recursive: true, force: true });
}
say(`# ${JSON.stringify(counts)}`);
process.exitCode = counts.wrong > 0 ? 1 : 0;

async function planned(
  target: string,
  files: Map<string, Uint8Array>,
): Promise<{ plan: OperationPlan | null; problem: string }> {
  const access = registryAccess(join(scratch, "packages"));
  const get: typeof access.get = async (url, request) => {
    const answer = await access.get(url, request);
    if (answer.status === 200 && /\.(?:zip|mod)$/.test(url.pathname)) files.set(url.href, answer.bytes);
    return answer;
  };
  const planning = openPlanning({
    env: { HOME: scratch, XDG_CACHE_HOME: join(scratch, "cache"), GOPROXY: "https://proxy.golang.org" },
    registry: { ...access, get },
  });
  try {
    const plan = await makePlan(go, "install", [target], planning);
    return { plan, problem: plan.warnings.join("; ") };
  } catch (error) {
    return { plan: null, problem: messageOf(error) };
  } finally {
    planning.close();
  }
}

/** A GOPROXY directory of exactly the planned files. https://go.dev/ref/mod#serving-from-proxy */
function closedProxy(plan: OperationPlan, files: ReadonlyMap<string, Uint8Array>, root: string): string {
  const put = (path: string, data: string | Uint8Array) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), data);
  };
  const bytesOf = (url: string) => files.get(url) ?? new Uint8Array();
  for (const { name, to_version, url = "" } of plan.transaction) {
    const base = `${escapeGo(name)}/@v/${escapeGo(to_version ?? "")}`;
    put(`${base}.zip`, bytesOf(url));
  }
  for (const { name, url } of plan.support_files ?? []) {
    const zip = /^(\S+) (\S+)\/zip$/.exec(name);
    if (zip !== null) put(`${escapeGo(zip[1] ?? "")}/@v/${escapeGo(zip[2] ?? "")}.zip`, bytesOf(url));
    if (zip !== null) continue;
    const [module = "", version = ""] = name.replace(/\/go\.mod$/, "").split(" ");
    const base = `${escapeGo(module)}/@v/${escapeGo(version)}`;
    put(`${base}.mod`, bytesOf(url));
    put(`${base}.info`, JSON.stringify({ Version: version }));
    // Newer go commands want it, for deprecations.
    appendFileSync(join(root, escapeGo(module), "@v/list"), `${version}\n`);
  }
  return root;
}

function install(
  target: string,
  proxy: string,
  home: string,
): { ok: boolean; said: string; zips: Set<string> } {
  mkdirSync(home, { recursive: true });
  const cache = join(home, "mod");
  const { status, stderr } = spawnSync("/usr/local/sbin/go", ["install", ...flags, target], {
    cwd: home,
    encoding: "utf8",
    maxBuffer: 1 << 28,
    stdio: ["ignore", "ignore", "pipe"],
    env: environment(proxy, home, cache),
  });
  const said = stderr
    .split("\n")
    .filter((line) => /^\S/.test(line) && !/^(?:go: downloading|mkdir|cat|mv|cd|[A-Z_]+=|#)/.test(line));
  return {
    ok: status === 0,
    said: said.slice(-3).join(" ").slice(0, 400),
    zips: zipsIn(join(cache, "cache/download")),
  };
}

/** The modules that the program has packages of, by `go list -deps`. */
function packagesOf(target: string, plan: OperationPlan, proxy: string, home: string): Set<string> | null {
  const [path = "", version = ""] = target.split("@");
  const root = plan.transaction
    .map(({ name }) => name)
    .filter((name) => path === name || path.startsWith(`${name}/`))
    .sort((a, b) => b.length - a.length)[0];
  mkdirSync(home, { recursive: true });
  writeFileSync(join(home, "go.mod"), `module aegis.invalid/plan\n\ngo 1.17\n\nrequire ${root} ${version}\n`);
  const format = "{{with .Module}}{{.Path}}@{{.Version}}{{end}}";
  const { status, stdout } = spawnSync("/usr/local/sbin/go", ["list", "-deps", "-f", format, path], {
    ...{ cwd: home, encoding: "utf8", maxBuffer: 1 << 28, env: environment(proxy, home, join(home, "mod")) },
  });
  return status === 0 ? new Set(stdout.split("\n").filter((line) => line !== "")) : null;
}

function environment(proxy: string, home: string, cache: string): Record<string, string> {
  return {
    ...{ PATH: "/usr/bin:/bin", HOME: home, GOPATH: join(home, "go"), GOBIN: join(home, "bin") },
    ...{
      GOCACHE: join(scratch, "gocache"),
      GOMODCACHE: cache,
      GOPROXY: proxy,
      GOENV: "off",
      GOTOOLCHAIN: "local",
    },
    ...{
      GOFLAGS: "-mod=mod -trimpath -modcacherw",
      GOVCS: "*:off",
      CGO_ENABLED: "0",
      GOSUMDB: "off",
      GOWORK: "off",
    },
  };
}

function zipsIn(directory: string): Set<string> {
  const found = new Set<string>();
  for (const path of list(directory)) {
    const [, module, version] = /^(.+)\/@v\/([^/]+)\.zip$/.exec(path) ?? [];
    if (module !== undefined && version !== undefined)
      found.add(`${unescapeGo(module)}@${unescapeGo(version)}`);
  }
  return found;
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory, { recursive: true, encoding: "utf8" });
  } catch {
    return [];
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
